"""The hindsight frontier against brute force, and what must hold whatever the losses are."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.frontier import best_in_hindsight, cheapest_sequence


def problem(seed: int, *, streams: int = 1, versions: int = 4, batches: int = 6) -> np.ndarray:
    """Losses of versions that age; version v exists from batch v on."""
    rng = np.random.default_rng(seed)
    age = np.arange(batches)[None] - np.arange(versions)[:, None]
    loss = rng.uniform(0.5, 1.5, (streams, versions, batches)) * (1.0 + 0.3 * np.maximum(age, 0))
    loss[:, age < 0] = np.inf
    return loss


def cheapest_of_all_sequences(loss: np.ndarray, price: float) -> float:
    n_versions, n_batches = loss.shape
    costs = []
    for served in product(range(n_versions), repeat=n_batches):
        switches = 1 + sum(a != b for a, b in pairwise(served))
        costs.append(sum(loss[v, b] for b, v in enumerate(served)) + price * switches)
    return min(costs)


def cost_of(loss: np.ndarray, served: np.ndarray, price: float) -> float:
    return loss[served, np.arange(loss.shape[1])].sum() + price * (1 + (np.diff(served) != 0).sum())


@pytest.mark.parametrize("price", [0.0, 0.3, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_dynamic_programme_finds_the_cheapest_of_all_sequences(seed: int, price: float) -> None:
    loss = problem(seed, streams=3, versions=3, batches=5)
    served = cheapest_sequence(loss, price)
    for one, row in zip(loss, served, strict=True):
        assert cost_of(one, row, price) == pytest.approx(cheapest_of_all_sequences(one, price), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), price=st.floats(0.0, 20.0), versions=st.integers(1, 7), batches=st.integers(7, 12))
def test_what_is_told_of_a_sequence_is_its_cost(seed: int, price: float, versions: int, batches: int) -> None:
    loss = problem(seed, streams=4, versions=versions, batches=batches)
    made = best_in_hindsight(loss, price)
    assert np.isfinite(made.loss).all()
    told = made.loss.sum(axis=1) + price * made.switched.sum(axis=1)
    costs = [cost_of(one, row, price) for one, row in zip(loss, made.served, strict=True)]
    np.testing.assert_allclose(told, costs)


def test_dearer_trainings_are_fewer_and_losses_higher() -> None:
    loss = problem(11, streams=40, versions=10, batches=20)
    made = [best_in_hindsight(loss, price) for price in (0.0, 0.1, 0.3, 1.0, 3.0, 100.0)]
    trainings = [one.switched.sum() for one in made]
    losses = [one.loss.sum() for one in made]
    assert trainings == sorted(trainings, reverse=True)
    assert losses == sorted(losses)
    assert trainings[-1] == 40


def test_batches_that_do_not_count_ask_for_no_training() -> None:
    loss = problem(1, streams=2, versions=3, batches=6)
    loss[:, :, 3:] = 0.0
    later = best_in_hindsight(loss, 0.5)
    early = best_in_hindsight(loss[:, :, :3], 0.5)
    np.testing.assert_array_equal(later.switched.sum(axis=1), early.switched.sum(axis=1))
