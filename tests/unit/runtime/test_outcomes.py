"""The ring of outcomes against a table that never forgets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.runtime import outcomes
from mlma.runtime.outcomes import Outcomes, n_finite, row_blocks

SLOTS = 120  # twice the longest ring


class Table:
    """The same answers from an array of all slots."""

    def __init__(self):
        self.y = np.full((0, SLOTS), np.nan)
        self.start = 0

    def grow(self, more):
        self.y = np.vstack([self.y, np.full((more, SLOTS), np.nan)])

    def write(self, row, slot, y):
        kept = slot >= self.start
        self.y[row[kept], slot[kept]] = y[kept]

    def forget(self, oldest):
        self.start = max(self.start, oldest)
        self.y[:, : self.start] = np.nan

    def last_slots(self):
        return [max(np.flatnonzero(np.isfinite(row)), default=-1) for row in self.y]

    def count(self, origin, n_slots):
        return np.isfinite(self.y[:, max(0, origin - n_slots) : origin]).sum(axis=1)


def assert_same(ring, table, origin):
    np.testing.assert_array_equal(ring.window(0, SLOTS), table.y)
    np.testing.assert_array_equal(ring.window(origin, SLOTS, np.array([0])), table.y[:1, origin:])
    np.testing.assert_array_equal(ring.last_slots(), table.last_slots())
    np.testing.assert_array_equal(ring.count(origin, 17), table.count(origin, 17))
    row, slot = (index.ravel() for index in np.indices((len(table.y) + 1, SLOTS)))
    inside = row < len(table.y)
    expected = np.zeros(len(row), dtype=bool)
    expected[inside] = np.isfinite(table.y[row[inside], slot[inside]])
    np.testing.assert_array_equal(ring.known(row, slot), expected)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), usual=st.integers(1, 60), horizon=st.integers(1, 40))
def test_ring_answers_as_a_table_that_keeps_everything(seed, usual, horizon):
    rng = np.random.default_rng(seed)
    ring, table = Outcomes(usual=usual), Table()
    n_streams, origin = 0, 0
    while origin + horizon < SLOTS:
        born = int(rng.integers(0, 3)) + (n_streams == 0)
        for either in (ring, table):
            either.grow(born)
        n_streams += born
        n = int(rng.integers(0, 30))
        row = rng.integers(0, n_streams, n)
        low = 0 if rng.random() < 0.3 else origin  # now and then there are late outcomes
        slot = np.sort(rng.integers(low, min(SLOTS, origin + 2 * horizon), n))
        y = rng.standard_normal(n)
        _, first = np.unique(row * SLOTS + slot, return_index=True)
        for either in (ring, table):
            either.write(row[first], slot[first], y[first])
        assert_same(ring, table, origin)
        origin += horizon
        if rng.random() < 0.7:
            oldest = origin - int(rng.integers(0, 60))
            for either in (ring, table):
                either.forget(oldest)
        assert_same(ring, table, origin)


def test_a_restored_ring_answers_the_same():
    ring = Outcomes(usual=10)
    ring.grow(2)
    ring.write(np.array([0, 1, 1]), np.array([3, 4, 27]), np.array([1.0, 2.0, 3.0]))
    ring.forget(4)
    other = Outcomes(usual=10)
    other.restore(ring.arrays())
    np.testing.assert_array_equal(other.window(0, 40), ring.window(0, 40))
    assert other.last_slots().tolist() == [-1, 27]
    assert other.count(28, 24).tolist() == [0, 2]


def test_room_for_a_long_past_is_given_back():
    ring = Outcomes(usual=10)
    ring.grow(1)
    ring.write(np.zeros(100, dtype=np.int64), np.arange(100), np.arange(100.0))
    assert ring.arrays()["y"].shape == (1, 100)
    ring.forget(95)
    assert ring.arrays()["y"].shape == (1, 10)
    np.testing.assert_array_equal(ring.window(95, 100), [[95.0, 96.0, 97.0, 98.0, 99.0]])


def test_what_is_given_out_does_not_change_later():
    ring = Outcomes(usual=10)
    ring.grow(1)
    ring.write(np.array([0]), np.array([0]), np.array([1.0]))
    given_out = ring.window(0, 1), ring.last_slots(), ring.count(1, 1)
    before = [values.copy() for values in given_out]
    ring.write(np.array([0, 0]), np.array([0, 1]), np.array([5.0, 6.0]))
    ring.count(2, 1)
    for values, earlier in zip(given_out, before, strict=True):
        np.testing.assert_array_equal(values, earlier)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(0, 5), (3, 0), (7, 40_000), (5, 200_000)])
def test_row_blocks_cover_every_row_once(n_rows, n_columns):
    rows = [row for block in row_blocks(n_rows, n_columns) for row in range(n_rows)[block]]
    assert rows == list(range(n_rows))


def test_finite_values_are_counted_across_blocks():
    rng = np.random.default_rng(1)
    values = np.where(rng.random((50, outcomes.BLOCK_CELLS // 20)) < 0.5, np.nan, 1.0)
    np.testing.assert_array_equal(n_finite(values), np.isfinite(values).sum(axis=1))
