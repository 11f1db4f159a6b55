"""Rows that a group's model learns from: the same ones however the streams are spread."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.schedule import Schedule
from mlma.models.features import Features
from mlma.runtime.group_rows import GroupRequest, GroupRows, drawn, joined
from mlma.runtime.outcomes import Outcomes

DAY = 24
WINDOW = 14 * DAY
FEATURES = Features(
    Schedule(
        anchor=datetime(2024, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=24, batch=24, train_window=WINDOW
    )
)
END = FEATURES.lookback + WINDOW
ALL = 10**9


def demand(n: int = 6) -> np.ndarray:
    rng = np.random.default_rng(2)
    daily = 3.0 + np.sin(2 * np.pi * np.arange(END) / DAY)
    return 10.0 ** np.arange(n)[:, None] * daily * np.exp(0.05 * rng.standard_normal((n, END)))


def rows(y: np.ndarray, *, n_shards: int = 1, cells: int = ALL, **wanted: object) -> GroupRows:
    asked = GroupRequest(
        **({"group": "all", "batch": 41, "stream_ids": np.arange(len(y)), "per_stream": 20, "seed": 0} | wanted)  # type: ignore[arg-type]
    )
    parts = []
    for shard in range(n_shards):
        outcomes = Outcomes(usual=END)
        mine = y[shard::n_shards]
        outcomes.grow(len(mine))
        row, slot = np.nonzero(np.isfinite(mine))
        outcomes.write(row, slot, mine[row, slot])
        part = asked.part(shard, n_shards)
        parts.append(drawn(part, outcomes, FEATURES, part.stream_ids // n_shards, origin=END, cells=cells))
    return joined(parts)


def same(one: GroupRows, other: GroupRows) -> None:
    for name in ("stream_id", "slot", "X", "y"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("n_shards", [2, 3, 6])
def test_shards_draw_the_same_rows(n_shards: int) -> None:
    y = demand()
    same(rows(y, n_shards=n_shards), rows(y))


def test_little_memory_draws_the_same_rows() -> None:
    y = demand()
    same(rows(y, cells=1), rows(y))


def test_every_stream_gives_as_many_rows_of_its_train_window() -> None:
    made = rows(demand())
    assert np.bincount(made.stream_id).tolist() == [20] * 6
    assert made.slot.min() >= END - WINDOW
    assert made.slot.max() < END
    assert len(set(zip(made.stream_id.tolist(), made.slot.tolist(), strict=True))) == 120


def test_rows_are_spread_over_the_window_and_differ_between_streams_and_seeds() -> None:
    made = rows(demand(), per_stream=80)
    for stream in range(6):
        slots = made.slot[made.stream_id == stream] - (END - WINDOW)
        assert 0.3 * WINDOW < slots.mean() < 0.7 * WINDOW
    slots_of = [set(made.slot[made.stream_id == stream].tolist()) for stream in range(6)]
    assert len({tuple(sorted(slots)) for slots in slots_of}) == 6
    assert set(rows(demand(), per_stream=80, seed=1).slot.tolist()) != set(made.slot.tolist())


def test_streams_of_every_level_teach_alike() -> None:
    made = rows(demand(), per_stream=200)
    for stream in range(6):
        assert np.median(made.y[made.stream_id == stream]) == pytest.approx(1.0, abs=0.1)


def test_what_is_missing_wild_or_unfit_is_not_drawn() -> None:
    y = demand(3)
    y[0, -40:] = np.nan
    y[1, END - 30] = 1e9
    made = rows(y, per_stream=WINDOW, unfit={2: ((END - WINDOW, END - 24),)})
    of_two = made.slot[made.stream_id == 2]
    assert of_two.tolist() == list(range(END - 24, END))
    assert made.slot[made.stream_id == 0].max() == END - 41
    assert END - 30 not in made.slot[made.stream_id == 1]
    assert made.y.max() < 10.0
    assert np.nanmax(made.X[:, FEATURES.names.index("lag_24")]) < 10.0


def test_a_stream_of_zeros_teaches_nothing() -> None:
    y = demand(2)
    y[1] = 0.0
    assert set(rows(y).stream_id.tolist()) == {0}


def test_nobody_gives_no_rows() -> None:
    made = rows(demand(2), stream_ids=np.empty(0, dtype=np.int64))
    assert made.X.shape == (0, len(FEATURES.names) + 1)
    assert not len(made.y)
