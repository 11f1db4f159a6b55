"""Shares that are kept while batches close are those that a restart would count, whatever came late."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.schedule import Schedule
from mlma.core.suspicion import faults
from mlma.runtime.outcomes import Outcomes
from mlma.runtime.rings import Rings
from mlma.runtime.soundness import Marked, Soundness

SCHEDULE = Schedule(
    anchor=datetime(2024, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=6, batch=24, train_window=14 * 24
)
LOOKBACK = 40 * 24
DAYS = 30


def demand(n_streams: int, seed: int = 1) -> np.ndarray:
    y = np.random.default_rng(seed).normal(500.0, 20.0, (n_streams, DAYS * 24))
    y[0, 20 * 24 : 21 * 24] = 0.0
    y[1, 27 * 24 + 3 : 27 * 24 + 12] = 5.0
    y[2, 25 * 24] = 90_000.0
    return y


def rings_of(y: np.ndarray, batch: int) -> Rings:
    rings = Rings(schedule=SCHEDULE, lookback=LOOKBACK)
    rings.grow(len(y))
    rings.advance(batch)
    write(rings.outcomes, y, 0, (batch + 1) * 24)
    return rings


def write(outcomes: Outcomes, y: np.ndarray, first: int, end: int) -> None:
    row, slot = np.nonzero(np.isfinite(y[:, first:end]))
    outcomes.write(row, slot + first, y[row, slot + first])


def equal(one: Marked, other: Marked) -> bool:
    return one.end == other.end and one.row.tolist() == other.row.tolist() and bool((one.slots == other.slots).all())


def test_shares_that_are_kept_are_those_counted_at_once() -> None:
    y = demand(5)
    rings, kept = rings_of(y, 10), Soundness(SCHEDULE, LOOKBACK)
    kept.shares(rings.outcomes, 11 * 24)
    for batch in range(11, DAYS):
        write(rings.outcomes, y, batch * 24, (batch + 1) * 24)
        end = (batch + 1) * 24
        made = kept.shares(rings.outcomes, end)
        rings.advance(batch)
        np.testing.assert_array_equal(made, Soundness(SCHEDULE, LOOKBACK).shares(rings.outcomes, end))
        assert equal(kept.marked(rings.outcomes, end), Soundness(SCHEDULE, LOOKBACK).marked(rings.outcomes, end))


def test_what_is_marked_are_the_faults_and_the_wild_values() -> None:
    y = demand(5)
    rings = rings_of(y, DAYS - 1)
    made = Soundness(SCHEDULE, LOOKBACK).marked(rings.outcomes, DAYS * 24)
    assert made.row.tolist() == [0, 1, 2]
    seen = y.copy()
    made.blank(seen, start=0)
    assert np.flatnonzero(np.isnan(seen[0])).tolist() == list(range(20 * 24, 21 * 24))
    assert np.flatnonzero(np.isnan(seen[1])).tolist() == list(range(27 * 24 + 3, 27 * 24 + 12))
    assert np.flatnonzero(np.isnan(seen[2])).tolist() == [25 * 24]
    np.testing.assert_array_equal(seen[3:], y[3:])
    np.testing.assert_array_equal(np.isnan(seen[:2]), faults(y, batch=24, season=168)[:2])


@pytest.mark.parametrize("what", ["late outcomes", "a birth"])
def test_late_outcomes_and_births_are_taken_in(what: str) -> None:
    y = demand(4)
    late = y.copy()
    late[3, 22 * 24 : 23 * 24] = np.nan
    rings, kept = rings_of(late, DAYS - 1), Soundness(SCHEDULE, LOOKBACK)
    end = DAYS * 24
    assert kept.marked(rings.outcomes, end).row.tolist() == [0, 1, 2]
    if what == "a birth":
        rings.grow(5)
        assert kept.shares(rings.outcomes, end).shape[0] == 5
    y[3, 22 * 24 : 23 * 24] = 7.0
    write(rings.outcomes, y, 22 * 24, 23 * 24)
    assert kept.marked(rings.outcomes, end).row.tolist() == [0, 1, 2, 3]
    write(
        rings.outcomes, np.hstack([y, y[:, :5]]), end, end + 5
    )  # of the open batch: nothing of the closed ones changes
    assert kept.marked(rings.outcomes, end).row.tolist() == [0, 1, 2, 3]


def test_many_streams_are_looked_at_as_each_by_itself() -> None:
    y = np.random.default_rng(3).normal(500.0, 20.0, (200, DAYS * 24))
    y[::7, 26 * 24 : 26 * 24 + 9] = 1.0
    made = Soundness(SCHEDULE, LOOKBACK).marked(rings_of(y, DAYS - 1).outcomes, DAYS * 24)
    assert made.row.tolist() == list(range(0, 200, 7))
    alone = Soundness(SCHEDULE, LOOKBACK).marked(rings_of(y[7:8], DAYS - 1).outcomes, DAYS * 24)
    np.testing.assert_array_equal(made.slots[1], alone.slots[0])


@pytest.mark.parametrize(("start", "rows"), [(0, None), (2, None), (3, [1, 4]), (20, None), (0, [0, 2, 9])])
def test_blanking_touches_what_is_marked_and_nothing_else(start: int, rows: list[int] | None) -> None:
    slots = np.zeros((2, 6), dtype=np.bool_)
    slots[0, [0, 5]] = slots[1, 3] = True
    marked = Marked(end=8, row=np.array([1, 4]), slots=slots)  # slots 2 and 7 of stream 1, 5 of stream 4
    streams = np.arange(6) if rows is None else np.array(rows)
    y = np.zeros((len(streams), 7))
    marked.blank(y, start=start, rows=None if rows is None else streams)
    found = {(int(streams[row]), start + int(column)) for row, column in np.argwhere(np.isnan(y))}
    assert found == {(s, t) for s, t in {(1, 2), (1, 7), (4, 5)} if s in streams and start <= t < start + 7}
