from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.blocks import Floats, Ints
from mlma.core.staleness import AgeingPrior, Curves, Staleness, shape_of

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
TEN_LATER = np.array([11])
SEATS, EVERY = 6, 3


def pool(rng: np.random.Generator, slope: Floats, *, batches: int, early: float = 0.0) -> Iterator[tuple[Floats, Ints]]:
    """Losses and ages, shape (streams, seats): a version every third batch, each with luck of its own."""
    n, luck = len(slope), {}
    for batch in range(batches):
        trained = list(range(-EVERY * SEATS, batch, EVERY))[-SEATS:]
        for b in trained:
            luck.setdefault(b, 0.03 * rng.normal(size=n))
        age = batch - np.array(trained)
        rise = slope[:, None] * age + early * (1.0 - np.exp(-age / 2.0)) + np.stack([luck[b] for b in trained], axis=1)
        level = rng.normal(size=(n, 1))  # of the batch, the same for all versions
        yield np.exp(level + rise + 0.04 * rng.normal(size=(n, SEATS))), np.tile(age, (n, 1))


class Recovered(NamedTuple):
    """Errors of the rise over ten batches, root mean squares."""

    shrunk: float
    alone: float
    fleet: float
    coverage: float  # of 90 % intervals
    curves: Curves


def recover(mean: float, spread: float, *, batches: int, early: float = 0.0, seed: int = 0) -> Recovered:
    rng = np.random.default_rng(seed)
    slope = mean + spread * rng.normal(size=300)
    state = Staleness.fresh(300)
    for loss, age in pool(rng, slope, batches=batches, early=early):
        state.update(loss, age)
    curves = state.curves()
    step = (shape_of(TEN_LATER) - shape_of(np.array([1])))[0]
    truth = 10.0 * slope + early * (np.exp(-0.5) - np.exp(-5.5))
    found = np.log(curves.relative_loss(TEN_LATER)[:, 0])
    sd = np.sqrt(np.einsum("i,sij,j->s", step, curves.covariance, step))
    alone = np.linalg.solve(state.gram, state.cross[:, :, None])[:, :, 0] @ step

    def error(estimate: Floats | float) -> float:
        return float(np.sqrt(np.mean(np.square(estimate - truth))))

    return Recovered(
        shrunk=error(found),
        alone=error(alone),
        fleet=error(float(step @ curves.fleet)),
        coverage=float(np.mean(np.abs(found - truth) < 1.645 * sd)),
        curves=curves,
    )


@pytest.mark.parametrize(
    ("spread", "batches", "of_alone", "of_fleet"),
    [
        (0.006, 4, 0.55, 0.55),
        (0.006, 12, 0.70, 0.40),
        (0.002, 4, 0.35, 0.95),
        (0.002, 12, 0.60, 0.85),
    ],
)
def test_shrinking_beats_each_stream_alone_and_the_fleet_mean(
    spread: float, batches: int, of_alone: float, of_fleet: float
) -> None:
    found = recover(0.01, spread, batches=batches)
    assert found.shrunk < of_alone * found.alone
    assert found.shrunk < of_fleet * found.fleet


def test_slopes_of_linear_ageing_are_recovered() -> None:
    found = recover(0.01, 0.006, batches=40)
    assert found.shrunk < 0.012  # of rises that vary by .06
    step = (shape_of(TEN_LATER) - shape_of(np.array([1])))[0]
    assert step @ found.curves.fleet == pytest.approx(0.10, abs=0.01)
    assert np.sqrt(step @ found.curves.spread @ step) == pytest.approx(0.06, rel=0.2)


def test_an_early_rise_is_told_from_a_steady_one() -> None:
    found = recover(0.0, 0.001, batches=40, early=0.08)
    curve = found.curves.relative_loss(np.array([1, 3, 6, 16])).mean(axis=0)
    truth = np.exp(0.08 * (np.exp(-0.5) - np.exp(-np.array([1, 3, 6, 16]) / 2.0)))
    np.testing.assert_allclose(curve, truth, atol=0.015)


def test_the_intervals_hold_about_what_they_promise() -> None:
    assert 0.86 < recover(0.01, 0.006, batches=12).coverage < 0.97


def test_without_evidence_a_stream_ages_as_believed() -> None:
    curves = Staleness.fresh(2).curves(AgeingPrior(rise=0.05))
    np.testing.assert_allclose(curves.relative_loss(TEN_LATER), np.exp(0.05))


def test_a_stream_without_evidence_ages_like_the_fleet() -> None:
    rng = np.random.default_rng(1)
    state = Staleness.fresh(201)
    for loss, age in pool(rng, np.full(200, 0.02), batches=12):
        state.update(np.vstack([loss, np.full((1, SEATS), np.nan)]), np.vstack([age, age[:1]]))
    curves = state.curves()
    assert curves.relative_loss(TEN_LATER)[-1, 0] == pytest.approx(np.exp(0.2), rel=0.03)
    assert curves.saving_sd(np.full(201, 8), 8)[-1] > curves.saving_sd(np.full(201, 8), 8)[0]


def test_one_lucky_batch_of_one_stream_moves_little() -> None:
    state = Staleness.fresh(1)
    state.update(np.array([[1.0, 2.0]]), np.array([[1, 11]]))  # the old one is twice as bad
    assert 1.0 < state.curves().relative_loss(TEN_LATER)[0, 0] < 1.25


def test_savings_are_the_area_between_the_curves() -> None:
    curves = recover(0.01, 0.006, batches=12).curves
    age = np.full(300, 7)
    by_hand = sum(
        curves.relative_loss(np.array([7 + k]))[:, 0] - curves.relative_loss(np.array([k]))[:, 0] for k in (1, 2, 3)
    )
    np.testing.assert_allclose(curves.saving(age, 3), by_hand)
    assert (curves.saving(np.zeros(300, dtype=np.int64), 5) == 0.0).all()  # just trained: nothing to save


def test_older_evidence_fades() -> None:
    rng = np.random.default_rng(2)
    state = Staleness.fresh(100)
    for slope in (0.0, 0.02):
        for loss, age in pool(rng, np.full(100, slope), batches=40):
            state.update(loss, age, decay=0.9)
    assert state.curves().relative_loss(TEN_LATER).mean() == pytest.approx(np.exp(0.2), rel=0.02)


def test_a_version_that_blew_up_does_not_bend_the_curve() -> None:
    rng = np.random.default_rng(3)
    state, calm = Staleness.fresh(50), Staleness.fresh(50)
    for loss, age in pool(rng, np.full(50, 0.01), batches=12):
        calm.update(loss, age)
        broken = loss.copy()
        broken[0, 0] *= 1e9
        state.update(broken, age)
    change = state.curves().relative_loss(TEN_LATER) / calm.curves().relative_loss(TEN_LATER)
    np.testing.assert_allclose(change[1:], 1.0, atol=0.02)


def test_a_single_version_and_zero_losses_say_nothing() -> None:
    state = Staleness.fresh(2)
    state.update(np.array([[2.0, np.nan], [0.0, 3.0]]), np.array([[4, 0], [1, 5]]))
    assert state.df.tolist() == [0.0, 0.0]


def test_state_that_was_written_read_and_grown_goes_on_alike() -> None:
    rng = np.random.default_rng(4)
    one, other = Staleness.fresh(5), Staleness.fresh(5)
    for batch, (loss, age) in enumerate(pool(rng, np.full(5, 0.01), batches=6)):
        one.update(loss, age)
        if batch == 3:
            other = Staleness.from_arrays(other.arrays())
        other.update(loss, age)
    np.testing.assert_array_equal(one.curves().mean, other.curves().mean)
    other.grow(2)
    np.testing.assert_allclose(other.curves().mean[5:], other.curves().fleet[None, :].repeat(2, axis=0))


losses = st.lists(st.lists(st.floats(0.0, 1e6) | st.just(float("nan")), min_size=3, max_size=3), min_size=1, max_size=5)


@given(rows=losses, ages=st.lists(st.integers(1, 200), min_size=3, max_size=3), batches=st.integers(1, 4))
@EXAMPLES
def test_whatever_comes_the_curves_are_finite_and_levels_do_not_matter(
    rows: list[list[float]], ages: list[int], batches: int
) -> None:
    loss, age = np.array(rows), np.tile(ages, (len(rows), 1))
    state, scaled = Staleness.fresh(len(rows)), Staleness.fresh(len(rows))
    for _ in range(batches):
        state.update(loss, age)
        scaled.update(loss * 8.0, age)
    curves = state.curves()
    saving = curves.saving(age[:, 0], 8)
    assert np.isfinite(saving).all()
    assert np.isfinite(curves.saving_sd(age[:, 0], 8)).all()
    np.testing.assert_allclose(scaled.curves().mean, curves.mean, atol=1e-6)


def test_columns_give_the_state_back() -> None:
    state = Staleness.fresh(3)
    loss = np.array([[1.0, 1.1, np.nan], [2.0, 2.3, 2.4], [np.nan, 1.0, 1.0]])
    state.update(loss, np.array([[1, 4, 1], [2, 5, 9], [1, 1, 2]]))
    columns = {"debt": np.zeros(3), **state.columns()}
    again = Staleness.from_columns(columns)
    for name, value in state.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], value)
