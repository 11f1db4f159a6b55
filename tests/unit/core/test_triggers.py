"""Triggers with memory: what they remember, when they speak, and that a retrained stream starts over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.triggers import Debt, PageHinkley, drawn


def page_hinkley(losses: list[float], *, tolerance: float, threshold: float, least: int) -> list[bool]:
    """The test of Page and Hinkley for one stream, as its authors write it."""
    said, drifts, mean = [], [], 0.0
    for n, loss in enumerate(losses, start=1):
        mean += (loss - mean) / n
        drifts.append((drifts[-1] if drifts else 0.0) + loss / mean - 1 - tolerance)
        said.append(n >= least and drifts[-1] - min(0.0, *drifts) > threshold)
    return said


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=30), st.floats(0, 0.2), st.floats(0.05, 1.0))
def test_page_hinkley_over_arrays_is_page_hinkley_of_each_stream(
    losses: list[float], tolerance: float, threshold: float
) -> None:
    state, said = PageHinkley.empty(2), []
    for loss in losses:
        state, due = state.step(np.array([loss, 1.0]), tolerance=tolerance, threshold=threshold, least=3)
        said.append(due.tolist())
    wanted = page_hinkley(losses, tolerance=tolerance, threshold=threshold, least=3)
    assert said == [[due, False] for due in wanted]


def test_a_missing_loss_changes_nothing_that_is_remembered() -> None:
    for empty, options in ((PageHinkley, {}), (Debt, {"price": 0.3})):
        state, _ = empty.empty(1).step(np.array([2.0]), **options)
        same, due = state.step(np.array([np.nan]), **options)
        assert same == state or all(
            np.array_equal(getattr(same, name), getattr(state, name)) for name in state.__dataclass_fields__
        )
        assert not due.any()


def test_debt_is_what_the_batches_cost_above_the_best_level_since_the_training() -> None:
    state = Debt.empty(3)
    for loss in ([4.0, 2.0, 0.0], [2.0, 2.0, 0.0], [2.0, 3.0, 0.0]):
        state, due = state.step(np.array(loss), price=0.3)
    best = 0.25 * 4 + 0.25 * 2 + 0.5 * 2  # exponential mean after three batches
    np.testing.assert_allclose(state.excess(), [8 / best - 3, 7 / 2 - 3, 0.0])
    assert due.tolist() == [False, True, False]


def test_a_retrained_stream_starts_over_and_a_born_one_starts() -> None:
    for empty, options in ((PageHinkley, {}), (Debt, {"price": 0.3})):
        state, _ = empty.empty(2).step(np.array([2.0, 3.0]), **options)
        state = state.forgotten(np.array([True, False])).grown(3)
        assert state.n.tolist() == [0.0, 1.0, 0.0]
        state, _ = state.step(np.array([5.0, 3.0, 7.0]), **options)
        fresh, _ = empty.empty(3).step(np.array([5.0, 9.0, 7.0]), **options)
        for name in state.__dataclass_fields__:
            assert getattr(state, name)[[0, 2]].tolist() == getattr(fresh, name)[[0, 2]].tolist()


def test_chance_keeps_its_rate_and_depends_on_seed_stream_and_batch_alone() -> None:
    made = np.array([drawn(3, batch, 400, rate=0.1) for batch in range(100)])
    assert made.mean() == pytest.approx(0.1, abs=4 * (0.09 / made.size) ** 0.5)
    by_stream = made.sum(axis=0)
    assert by_stream.var() == pytest.approx(100 * 0.09, rel=0.3)  # as independent draws have it
    assert np.array_equal(drawn(3, 7, 10, rate=0.1), made[7, :10])
    assert not np.array_equal(drawn(4, 7, 400, rate=0.1), made[7])


def test_chance_is_not_correlated_between_neighbours() -> None:
    made = np.array([drawn(0, batch, 300, rate=0.5) for batch in range(300)]).astype(float) - 0.5
    for shifted in (made[1:, :] * made[:-1, :], made[:, 1:] * made[:, :-1], made[1:, 1:] * made[:-1, :-1]):
        assert abs(shifted.mean()) < 4 * 0.25 / shifted.size**0.5
