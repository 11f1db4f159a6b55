"""Pools: who weighs how much, what is served of them, and what one stream's troubles leave alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlma.core import pool

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
NAN = float("nan")

losses = st.floats(0.01, 1e6) | st.just(NAN) | st.just(0.0)
shapes = st.tuples(st.integers(1, 6), st.integers(2, 6))
recents = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=losses))


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values)


def weights_of(recent: np.ndarray, *, n_fixed: int, shrinkage: float = 0.0, eta: float = 20.0) -> np.ndarray:
    """From recent losses to weights, as the pools string it together; the fixed seats are always taken."""
    seated = np.isfinite(recent)
    seated[:, :n_fixed] = True
    relative = pool.relative_losses(recent, seated, n_fixed=n_fixed, shrinkage=shrinkage)
    return pool.shared_weights(relative, n_fixed=n_fixed, eta=eta)


# losses of a batch


@pytest.mark.parametrize(
    ("given_losses", "n_scored", "expected"),
    [
        ([1.0, 3.0, NAN, NAN], 4, 2.0),  # half of the targets is enough
        ([1.0, NAN, NAN, NAN], 4, NAN),  # less is not
        ([1.0, 3.0, NAN, NAN], 2, 2.0),  # of those that could be scored
        ([NAN, NAN, NAN, NAN], 0, NAN),  # nothing to score says nothing
        ([5.0, NAN, NAN, NAN], 0, 5.0),  # nor does a batch that was served by nobody take a loss away
    ],
)
def test_a_member_is_scored_on_at_least_half_of_the_batch(
    given_losses: list[float], n_scored: int, expected: float
) -> None:
    made = pool.member_losses(np.array([[given_losses]]), n_scored=np.array([n_scored]))
    np.testing.assert_array_equal(made, [[expected]])


@EXAMPLES
@given(st.lists(losses, min_size=1, max_size=12), st.floats(0.0, 0.95))
def test_a_record_is_the_exponential_mean_of_the_known_losses(series: list[float], decay: float) -> None:
    record = pool.Record.empty(1, 1)
    for value in series:
        record = record.after(np.array([[value]]), decay=decay)
    known = [value for value in series if np.isfinite(value)]
    share = decay ** np.arange(len(known))[::-1]
    expected = np.average(known, weights=share) if known else NAN
    assert record.mean[0, 0] == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert record.mass[0, 0] == pytest.approx(1 - decay ** len(known), abs=1e-12)


def test_a_batch_without_a_loss_leaves_the_record_as_it_is() -> None:
    record = pool.Record.empty(1, 2).after(rows([1.0, 2.0]), decay=0.8)
    after = record.after(rows([NAN, NAN]), decay=0.8)
    np.testing.assert_array_equal(after.mean, record.mean)
    np.testing.assert_array_equal(after.mass, record.mass)


# relative losses


@pytest.mark.parametrize(
    ("recent", "n_fixed", "expected"),
    [
        ([NAN, NAN, NAN], 2, [1.25, 1.0, NAN]),  # nothing is known: seasonal naive is taken to be worse
        ([3.0, 1.0, NAN], 2, [1.5, 0.5, NAN]),  # relative to the mean over the pool
        ([NAN, 4.0, 2.0], 2, [1.25, 4 / 3, 2 / 3]),
    ],
)
def test_what_is_expected_of_members_without_losses(recent: list[float], n_fixed: int, expected: list[float]) -> None:
    made = pool.relative_losses(
        rows(recent), rows(recent) == rows(recent) if n_fixed == 0 else _seated(recent, n_fixed),
        n_fixed=n_fixed, shrinkage=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(made, [expected])


def _seated(recent: list[float], n_fixed: int) -> np.ndarray:
    made = np.isfinite(rows(recent))
    made[:, :n_fixed] = True
    return made


def test_a_new_version_is_expected_to_do_as_well_as_the_best_other_version() -> None:
    recent = rows([4.0, 3.0, 2.0, 1.0, NAN])
    made = pool.relative_losses(recent, np.ones((1, 5), dtype=bool), n_fixed=2, shrinkage=0.0)
    assert made[0, 4] == made[0, 3]


def test_a_member_without_losses_is_expected_to_do_as_its_kind_does_in_the_fleet() -> None:
    recent = rows([4.0, 1.0, 1.0], [8.0, 2.0, 2.0], [3.0, NAN, 3.0])
    made = pool.relative_losses(recent, np.ones((3, 3), dtype=bool), n_fixed=2, shrinkage=0.0)
    assert made[2, 1] == pytest.approx(0.5)  # what the evergreen member is worth in the two others


def test_what_the_past_says_of_a_member_counts_until_anybody_has_a_loss_on_its_seat() -> None:
    expected = pool.expected_loss(rows([NAN, 3.0], [NAN, 0.4], [NAN, NAN]))
    seated = np.ones((3, 2), dtype=bool)
    before = pool.relative_losses(np.full((3, 2), NAN), seated, n_fixed=2, shrinkage=0.0, expected=expected)
    np.testing.assert_allclose(before[:, 1], [3.0, 1.0, 1.0])
    recent = rows([NAN, NAN], [2.0, 1.0], [2.0, 1.0])
    np.testing.assert_array_equal(
        pool.relative_losses(recent, seated, n_fixed=2, shrinkage=0.0, expected=expected),
        pool.relative_losses(recent, seated, n_fixed=2, shrinkage=0.0),
    )


def test_shrinkage_draws_every_stream_to_the_median_of_the_fleet() -> None:
    recent = rows([1.0, 3.0], [3.0, 1.0], [2.0, 2.0])
    spread = [
        np.ptp(pool.relative_losses(recent, np.ones((3, 2), dtype=bool), n_fixed=2, shrinkage=share)[:, 0])
        for share in (0.0, 0.3, 1.0)
    ]
    assert spread[0] > spread[1] > spread[2] == 0.0


# weights


@EXAMPLES
@given(recents, st.integers(1, 3), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 5.0, 20.0, 1e4]))
def test_weights_are_a_distribution_over_the_seated_members(
    recent: np.ndarray, n_fixed: int, shrinkage: float, eta: float
) -> None:
    n_fixed = min(n_fixed, recent.shape[1])
    made = weights_of(recent, n_fixed=n_fixed, shrinkage=shrinkage, eta=eta)
    np.testing.assert_allclose(made.sum(axis=1), 1.0, rtol=1e-12)
    assert (made >= 0.0).all()
    assert not made[:, n_fixed:][np.isnan(recent[:, n_fixed:])].any()
    assert not made[np.isfinite(recent[:, 1:]).any(axis=1), 0].any()  # seasonal naive only where there is nobody else


@EXAMPLES
@given(recents, st.integers(-200, 200))
def test_the_unit_of_a_stream_changes_no_weight(recent: np.ndarray, power: int) -> None:
    np.testing.assert_allclose(
        weights_of(recent * 2.0**power, n_fixed=1, shrinkage=0.3), weights_of(recent, n_fixed=1, shrinkage=0.3),
        rtol=1e-9, atol=1e-300,
    )  # fmt: skip


@EXAMPLES
@given(recents, st.integers(1, 3))
def test_a_stream_without_losses_changes_no_weight_of_the_others(recent: np.ndarray, n_fixed: int) -> None:
    n_fixed = min(n_fixed, recent.shape[1])
    joined = np.vstack([recent, np.full((1, recent.shape[1]), NAN)])
    np.testing.assert_array_equal(
        weights_of(joined, n_fixed=n_fixed, shrinkage=0.3)[:-1], weights_of(recent, n_fixed=n_fixed, shrinkage=0.3)
    )


@EXAMPLES
@given(st.permutations(range(6)), st.integers(0, 100))
def test_the_order_of_streams_changes_no_weight(order: list[int], seed: int) -> None:
    recent = np.random.default_rng(seed).uniform(1.0, 2.0, (6, 5))
    straight, mixed = (weights_of(values, n_fixed=2, shrinkage=0.3) for values in (recent, recent[order]))
    np.testing.assert_allclose(mixed, straight[order], rtol=1e-12)


@pytest.mark.parametrize("n_clones", [1, 2, 7])
def test_clones_of_a_version_share_its_weight(n_clones: int) -> None:
    recent = rows([3.0, 1.2, 1.1, *[1.0] * n_clones])
    relative = recent / recent[:, :4].mean()  # relative to the same mean however many there are
    made = pool.shared_weights(relative, n_fixed=3, eta=20.0)
    alone = pool.shared_weights(relative[:, :4], n_fixed=3, eta=20.0)
    np.testing.assert_allclose(made[:, :3], alone[:, :3])
    assert made[0, 3:].sum() == pytest.approx(alone[0, 3])


def test_the_better_member_weighs_more_and_the_more_so_the_larger_eta() -> None:
    recent = rows([5.0, 1.0, 1.1, 1.3])
    shares = [weights_of(recent, n_fixed=2, eta=eta)[0] for eta in (1.0, 5.0, 20.0)]
    assert all(later[1] > sooner[1] for sooner, later in pairwise(shares))
    assert all(share[1] > share[2] > share[3] > 0 for share in shares)


@pytest.mark.parametrize("best", [0.0, 1e-300])
def test_a_perfect_member_takes_everything_without_a_warning(best: float) -> None:
    made = weights_of(rows([1.0, best, 1.0]), n_fixed=2)
    assert made[0, 1] == pytest.approx(1.0)


def test_members_that_are_all_perfect_share() -> None:
    np.testing.assert_allclose(weights_of(rows([0.0, 0.0, 0.0]), n_fixed=2), [[0.0, 0.5, 0.5]])


def test_weights_within_the_groups_are_two_distributions() -> None:
    relative = rows([3.0, 1.0, 1.1, 1.0, 1.2], [3.0, 1.0, 1.1, NAN, NAN], [1.0, NAN, NAN, NAN, 1.0])
    made = pool.inner_weights(relative, n_fixed=3, eta=20.0)
    np.testing.assert_allclose(made[:, :3].sum(axis=1), 1.0)
    np.testing.assert_allclose(made[:, 3:].sum(axis=1), [1.0, 0.0, 1.0])
    assert (made[:2, 0] == 0.0).all()  # seasonal naive stands back
    assert made[2, 0] == 1.0


# what is served


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts (streams, seats, targets) with gaps anywhere but on seat 0, and weights."""
    n, seats, targets = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)))
    values = st.floats(-1e6, 1e6) | st.just(NAN)
    forecast = draw(arrays(np.float64, (n, seats, targets), elements=values))
    forecast[:, 0] = np.nan_to_num(forecast[:, 0])
    weight = draw(arrays(np.float64, (n, seats), elements=st.just(0.0) | st.floats(1e-3, 1.0)))
    weight[weight.sum(axis=1) == 0, 0] = 1.0
    return forecast, weight / weight.sum(axis=1, keepdims=True)


@EXAMPLES
@given(pools())
def test_a_blend_exists_and_lies_within_the_members_that_gave_a_forecast(case: tuple[np.ndarray, np.ndarray]) -> None:
    forecast, weight = case
    made = pool.blended(forecast, weight)
    assert np.isfinite(made).all()
    takes_part = np.isfinite(forecast) & (weight > 0)[:, :, None]
    nobody = ~takes_part.any(axis=1)
    np.testing.assert_array_equal(made[nobody], forecast[:, 0][nobody])
    low = np.where(takes_part, forecast, np.inf).min(axis=1)
    high = np.where(takes_part, forecast, -np.inf).max(axis=1)
    slack = 1e-9 * (1.0 + np.abs(made))
    assert ((made >= low - slack) & (made <= high + slack) | nobody).all()


@EXAMPLES
@given(pools(), st.floats(-1e9, 1e9))
def test_a_member_without_weight_or_forecast_is_not_blended(
    case: tuple[np.ndarray, np.ndarray], strange: float
) -> None:
    forecast, weight = case
    made = pool.blended(forecast, weight)
    odd = np.where((weight == 0)[:, :, None] & np.isfinite(forecast), strange, forecast)
    odd[:, 0] = forecast[:, 0]  # it stands by where nobody else is there
    np.testing.assert_array_equal(pool.blended(odd, weight), made)
    np.testing.assert_array_equal(pool.blended(forecast[:, :1], np.ones((len(forecast), 1))), forecast[:, 0])


@EXAMPLES
@given(pools(), st.integers(0, 3), st.integers(0, 5))
def test_a_value_has_the_same_last_bit_alone_and_among_others(
    case: tuple[np.ndarray, np.ndarray], stream: int, target: int
) -> None:
    forecast, weight = case
    stream, target = stream % len(forecast), target % forecast.shape[2]
    alone = pool.blended(forecast[stream : stream + 1, :, target : target + 1], weight[stream : stream + 1])
    assert alone[0, 0] == pool.blended(forecast, weight)[stream, target]


@EXAMPLES
@given(pools())
def test_the_leader_gave_a_forecast_and_nobody_who_did_weighs_more(case: tuple[np.ndarray, np.ndarray]) -> None:
    forecast, weight = case
    lead = pool.leading(forecast, weight)
    mass = np.where(np.isfinite(forecast), weight[:, :, None], -1.0)
    led = np.take_along_axis(mass, lead[:, None], axis=1)[:, 0]
    others = mass[:, 1:].max(axis=1, initial=-1.0)
    assert (np.isfinite(np.take_along_axis(forecast, lead[:, None], axis=1))).all()
    np.testing.assert_array_equal(led[others > 0], others[others > 0])
    assert (lead[others <= 0] == 0).all()


def test_group_losses_compare_the_versions_with_the_rest() -> None:
    y = rows([10.0, 10.0])
    forecast = np.array([[[0.0, 0.0], [9.0, 9.0], [12.0, 12.0], [16.0, NAN]]])
    inner = rows([0.0, 1.0, 0.5, 0.5])
    made = pool.group_losses(lambda made: np.abs(y - made), forecast, inner, n_fixed=2)
    np.testing.assert_allclose(made, [[(4.0 + 2.0) / 2, 1.0]])  # where the second gave none, the first stands alone


def test_a_group_without_a_forecast_has_no_loss() -> None:
    forecast = np.array([[[1.0, 1.0], [NAN, NAN]]])
    made = pool.group_losses(np.abs, forecast, rows([1.0, 1.0]), n_fixed=1)
    np.testing.assert_array_equal(made, [[NAN, 1.0]])
    made = pool.group_losses(np.abs, forecast[:, :1], rows([1.0]), n_fixed=1)  # a pool without a seat for versions
    np.testing.assert_array_equal(made, [[NAN, 1.0]])
