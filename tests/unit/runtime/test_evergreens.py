"""The evergreen members of a shard: what they know survives a batch that could not be learned."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.checkpoints import FileCheckpoints
from mlma.adapters.memory_history import MemoryHistory
from mlma.core.errors import StoreError
from mlma.core.schedule import Schedule
from mlma.core.settings import Evergreen
from mlma.models.evergreen.design import Designer
from mlma.models.evergreen.members import Members
from mlma.models.features import Features
from mlma.runtime import evergreens
from mlma.runtime.evergreens import Evergreens
from mlma.runtime.lineup import Lineup
from mlma.runtime.outcomes import Outcomes
from mlma.runtime.soundness import Marked

DAILY = Schedule(
    anchor=datetime(2024, 1, 1, tzinfo=UTC), frequency=timedelta(days=1), horizon=7, batch=7, train_window=140
)
N_STREAMS, FIRST, LAST = 5, 30, 34
NOTHING = Marked(end=0, row=np.zeros(0, dtype=np.int64), slots=np.zeros((0, 0), dtype=np.bool_))
NO_SEATS = np.zeros((N_STREAMS, 0))


class Unreadable(Marked):
    """Faults that cannot be read for the second part of the streams."""

    def blank(self, y: np.ndarray, *, start: int, rows: np.ndarray | None = None) -> None:
        if rows is not None and rows[0] > 0:
            raise StoreError("gone for a moment")


def outcomes() -> Outcomes:
    end = DAILY.origin_after(LAST)
    made = Outcomes(usual=end)
    made.grow(N_STREAMS)
    row, slot = np.repeat(np.arange(N_STREAMS), end), np.tile(np.arange(end), N_STREAMS)
    made.write(row, slot, np.random.default_rng(0).uniform(50.0, 100.0, N_STREAMS * end) + 10.0 * (slot % 7))
    return made


def shard(root: Path) -> Evergreens:
    return Evergreens(
        shard=0,
        members=Members(Designer(Features(DAILY)), (Evergreen.LAD, Evergreen.SLOT_RIDGE)),
        history=MemoryHistory(),
        checkpoints=FileCheckpoints(root),
    )


def learned(made: Evergreens, batch: int, faults: Marked = NOTHING) -> np.ndarray:
    lineup = Lineup(weight=NO_SEATS, inner=NO_SEATS, shift=NO_SEATS, slope=NO_SEATS, versions={})
    made.learn(batch, outcomes(), np.arange(N_STREAMS), lineup, faults)
    recorded = made.history.refit(0, batch)
    assert recorded is not None
    return recorded.parameters


def test_a_batch_that_failed_half_way_is_learned_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, struck = shard(tmp_path / "one"), shard(tmp_path / "other")
    monkeypatch.setattr(evergreens, "VALUES_AT_ONCE", 400)  # the streams learn in parts
    for batch in range(FIRST, LAST):
        expected = learned(undisturbed, batch)
        if batch == FIRST + 2:
            broken = Unreadable(end=NOTHING.end, row=NOTHING.row, slots=NOTHING.slots)
            with pytest.raises(StoreError):
                learned(struck, batch, broken)
        np.testing.assert_array_equal(learned(struck, batch), expected)


def test_streams_that_learn_in_parts_know_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = shard(tmp_path / "one"), shard(tmp_path / "other")
    found = []
    for made, at_once in ((together, 1_000_000), (apart, 400)):
        monkeypatch.setattr(evergreens, "VALUES_AT_ONCE", at_once)
        found.append([learned(made, batch) for batch in range(FIRST, LAST)])
    np.testing.assert_array_equal(found[0], found[1])
