"""Floors: what is added to sparse losses, when it is fixed, and that dense losses hardly notice."""

import numpy as np
import pytest

from mlma.core.batch_summary import summarise_batch
from mlma.monitor.floors import EVENTS, FEWEST_EVENTS, SHARE, SMALLEST, Floors


def after(*batches, yards=None):
    made = Floors(len(batches[0]))
    for i, batch in enumerate(batches):
        made.update(summarise_batch(batch, None if yards is None else yards[i][None]))
    return made


def test_dense_losses_get_a_thousandth_of_their_mean():
    losses = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    made = after(losses)
    assert made.floor == pytest.approx([SHARE * 2.0, SHARE * 20.0])
    assert made.ready().all()


def test_with_a_yardstick_the_thousandth_is_of_the_yardstick():
    made = after(np.ones((1, 4)), yards=[np.full((1, 4), 50.0)])
    assert made.floor[0] == pytest.approx(SHARE * 50.0)


def test_sparse_losses_get_eight_typical_events_by_their_share_of_zeros():
    losses = np.zeros((1, 96))
    losses[0, :12] = 5.0
    made = after(losses)
    assert made.floor[0] == pytest.approx(EVENTS * (84 / 96) * 5.0 / 96)
    assert made.ready()[0]


@pytest.mark.parametrize(("n_events", "is_ready"), [(0, False), (4, False), (5, True), (30, True)])
def test_a_sparse_stream_waits_for_enough_events(n_events, is_ready):
    losses = (np.arange(96) < n_events).astype(float)[None]
    assert after(losses).ready()[0] == is_ready
    assert FEWEST_EVENTS == 5.0


def test_events_of_different_sizes_count_as_fewer():
    losses = np.zeros((1, 96))
    losses[0, :6] = [100.0, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert not after(losses).ready()[0]


def test_events_are_collected_over_batches_and_the_floor_is_then_fixed():
    sparse = np.zeros((1, 96))
    sparse[0, :3] = 1.0
    made = after(sparse)
    assert not made.ready()[0]
    made.update(summarise_batch(sparse))
    assert made.ready()[0]
    fixed = made.floor.copy()
    assert made.update(summarise_batch(50.0 * sparse)) is None
    np.testing.assert_array_equal(made.floor, fixed)


def test_a_floor_that_moves_is_told_with_what_it_was():
    sparse = np.zeros((2, 96))
    sparse[:, :3] = [[1.0], [2.0]]
    made = after(sparse)
    before = made.floor.copy()
    changed = made.update(summarise_batch(2.0 * sparse))
    assert changed is not None
    streams, old, new = changed
    np.testing.assert_array_equal(old, before[streams])
    np.testing.assert_array_equal(new, made.floor[streams])
    assert set(streams.tolist()) == {0, 1}


def test_batches_without_losses_leave_everything_open():
    made = after(np.full((2, 5), np.nan))
    assert not made.ready().any()
    assert made.floor.tolist() == [SMALLEST] * 2


def test_a_reset_stream_starts_over():
    made = after(np.ones((3, 10)))
    made.reset(np.array([1]))
    assert made.ready().tolist() == [True, False, True]
    assert made.floor[1] == SMALLEST
    made.update(summarise_batch(np.full((3, 10), 7.0)))
    assert made.floor == pytest.approx([SHARE, 7.0 * SHARE, SHARE])


def test_born_streams_have_a_floor_of_their_own():
    made = after(np.ones((2, 10)))
    made.grow(2)
    assert made.ready().tolist() == [True, True, False, False]
    made.update(summarise_batch(np.full((4, 10), 3.0)))
    assert made.floor == pytest.approx([SHARE, SHARE, 3.0 * SHARE, 3.0 * SHARE])


def test_state_survives():
    sparse = np.zeros((3, 96))
    sparse[:, :2] = 1.0
    one, other = after(sparse, np.vstack([sparse[:2], np.ones((1, 96))])), Floors(3)
    other.restore(one.arrays())
    for made in (one, other):
        made.update(summarise_batch(sparse))
    np.testing.assert_array_equal(other.floor, one.floor)
    np.testing.assert_array_equal(other.ready(), one.ready())
