"""Predictions against ordinary kriging solved directly, on references with gaps and seasons, and in a simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.prediction import LONGEST_LAG, Dependence, lags_of, predict

DEPENDENCES = [
    Dependence(), Dependence(rho=0.5), Dependence(rho=0.9), Dependence(season=7, repeats=0.6),
    Dependence(rho=0.4, season=7, repeats=0.8), Dependence(rho=0.95, season=2, repeats=0.3),
]  # fmt: skip
FEW = settings(max_examples=25, deadline=None)
REFERENCES = st.lists(st.integers(1, 20), min_size=1, max_size=8, unique=True).map(sorted)


def kriging(x, lags, dependence):
    """Ordinary kriging by its system of equations: mean, expected, variance, factor."""
    at = np.array(lags, dtype=float)
    m = len(at)
    covariance = dependence.correlation(at[:, None] - at[None, :])
    ahead = dependence.correlation(at)
    system = np.block([[covariance, np.ones((m, 1))], [np.ones((1, m)), np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.append(ahead, 1.0))
    weights, multiplier = solution[:m], solution[m]
    level = np.linalg.solve(system, np.append(np.zeros(m), 1.0))[:m]
    residual = x - level @ x
    variance = residual @ np.linalg.solve(covariance, residual) / (m - 1) if m > 1 else np.nan
    return level @ x, weights @ x, variance, 1.0 - weights @ ahead - multiplier


@pytest.mark.parametrize("dependence", DEPENDENCES, ids=str)
@FEW
@given(lags=REFERENCES, seed=st.integers(0, 1000))
def test_prediction_is_ordinary_kriging(dependence, lags, seed):
    x = np.random.default_rng(seed).normal(3.0, 2.0, len(lags))
    made = predict(x[:, None], np.array(lags), dependence)
    mean, expected, variance, factor = kriging(x, lags, dependence)
    assert made.mean[0] == pytest.approx(mean, rel=1e-7, abs=1e-7)
    assert made.expected[0] == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert made.variance[0] == pytest.approx(variance, rel=1e-6, nan_ok=True)
    assert made.factor[0] == pytest.approx(factor, rel=1e-7)
    assert made.m[0] == len(lags)


@FEW
@given(seed=st.integers(0, 10_000))
def test_streams_with_different_references_are_predicted_as_if_alone(seed):
    rng = np.random.default_rng(seed)
    rows, streams = 8, 12
    lags = np.cumsum(rng.integers(1, 4, (rows, streams)), axis=0) * (rng.random((rows, streams)) < 0.7)
    values = np.where(lags > 0, rng.normal(size=(rows, streams)), np.nan)
    dependence = DEPENDENCES[seed % len(DEPENDENCES)]
    together = predict(values, lags, dependence)
    for stream in range(streams):
        member = lags[:, stream] > 0
        alone = predict(values[member][:, [stream]], lags[member, stream], dependence)
        for name in ("mean", "expected", "variance", "factor", "own", "m"):
            got, want = getattr(together, name)[stream], getattr(alone, name)[0]
            assert got == pytest.approx(want, rel=1e-9, nan_ok=True), name


def test_without_dependence_it_is_the_mean_and_the_variance_around_it():
    x = np.random.default_rng(1).normal(size=(5, 40))
    made = predict(x, np.arange(1, 6))
    np.testing.assert_allclose(made.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(made.expected, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(made.variance, x.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(made.factor, 1.2)
    np.testing.assert_allclose(made.own, 1.0)


@FEW
@given(
    lags=REFERENCES, seed=st.integers(0, 1000), shift=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e3),
    dependence=st.sampled_from(DEPENDENCES),
)  # fmt: skip
def test_prediction_moves_and_scales_with_the_values(lags, seed, shift, scale, dependence):
    x = np.random.default_rng(seed).normal(size=(len(lags), 3))
    here, there = (predict(values, np.array(lags), dependence) for values in (x, scale * x + shift))
    rounding = 1e-9 * (abs(shift) + scale)
    np.testing.assert_allclose(there.mean, scale * here.mean + shift, rtol=1e-9, atol=rounding)
    np.testing.assert_allclose(there.expected, scale * here.expected + shift, rtol=1e-9, atol=rounding)
    np.testing.assert_allclose(there.factor, here.factor)
    if len(lags) > 1:
        np.testing.assert_allclose(there.variance, scale**2 * here.variance, rtol=1e-4, atol=rounding**2)


@FEW
@given(order=st.permutations(range(6)), dependence=st.sampled_from(DEPENDENCES))
def test_the_order_of_streams_does_not_matter(order, dependence):
    rng = np.random.default_rng(2)
    lags = np.cumsum(rng.integers(1, 3, (4, 6)), axis=0) * (rng.random((4, 6)) < 0.8)
    values = rng.normal(size=(4, 6))
    here, there = predict(values, lags, dependence), predict(values[:, order], lags[:, order], dependence)
    np.testing.assert_allclose(there.expected, here.expected[list(order)], rtol=1e-12)
    np.testing.assert_allclose(there.variance, here.variance[list(order)], rtol=1e-12)


@pytest.mark.parametrize("dependence", DEPENDENCES, ids=str)
def test_the_error_has_the_variance_that_is_said(dependence):
    # 60,000 streams: standard error 0.6 % of a variance
    rng = np.random.default_rng(3)
    lags = np.array([1, 2, 4, 7, 8])
    at = np.append(0, lags).astype(float)
    root = np.linalg.cholesky(dependence.correlation(at[:, None] - at[None, :]))
    x = root @ rng.standard_normal((6, 60_000))
    made = predict(x[1:], lags, dependence)
    error = x[0] - made.expected
    assert np.mean(np.square(error)) == pytest.approx(made.factor[0], rel=0.03)
    assert np.mean(error * x[0]) == pytest.approx(made.own[0], rel=0.03, abs=0.01)
    assert made.variance.mean() == pytest.approx(1.0, rel=0.03)


def test_a_season_is_looked_up_a_season_ago():
    made = predict(np.array([[1.0], [5.0], [1.0]]), np.array([1, 7, 8]), Dependence(season=7, repeats=0.94))
    assert made.expected[0] > 4.0


@pytest.mark.parametrize("dependence", DEPENDENCES, ids=str)
def test_a_reference_of_long_ago_says_the_mean_alone(dependence):
    x = np.array([[1.0], [2.0], [4.0]])
    far = np.array([700, 1400, 2100]) + 1  # no multiple of a season
    made = predict(x, far, dependence)
    assert made.expected[0] == pytest.approx(made.mean[0], abs=0.1)
    assert np.isfinite(made.factor[0])
    assert made.factor[0] > 1.0


@pytest.mark.parametrize("gap", [LONGEST_LAG - 1, LONGEST_LAG, LONGEST_LAG + 1, 100_000])
def test_distances_beyond_the_longest_change_nothing(gap):
    x = np.random.default_rng(4).normal(size=(3, 5))
    near, far = (predict(x, np.array([1, 2, last]), Dependence(rho=0.5)) for last in (40, gap))
    np.testing.assert_allclose(far.expected, near.expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(far.factor, near.factor, rtol=1e-3)


def test_an_offset_far_larger_than_the_spread_loses_no_digits():
    x = np.random.default_rng(5).normal(size=(6, 30))
    near, far = (predict(x + offset, np.arange(1, 7), Dependence(rho=0.3)) for offset in (0.0, 1e8))
    np.testing.assert_allclose(far.variance, near.variance, rtol=1e-6)


def test_equal_values_have_a_variance_of_exactly_zero():
    made = predict(np.full((5, 2), 0.1 + 0.2), np.arange(1, 6), Dependence(rho=0.5))
    assert made.variance.tolist() == [0.0, 0.0]
    assert made.expected.tolist() == [0.1 + 0.2] * 2


@pytest.mark.parametrize("lags", [np.zeros(3, dtype=int), np.zeros((3, 4), dtype=int)])
def test_no_reference_is_no_prediction(lags):
    made = predict(np.ones((3, 4)), lags)
    assert made.m.tolist() == [0] * 4
    assert np.isnan(made.mean).all()
    assert np.isnan(made.factor).all()


def test_one_batch_predicts_but_knows_no_spread():
    made = predict(np.array([[2.0]]), np.array([3]), Dependence(rho=0.5))
    assert (made.mean[0], made.expected[0]) == (2.0, 2.0)
    assert np.isnan(made.variance[0])
    assert made.factor[0] == pytest.approx(2.0 * (1.0 - 0.5**3))


def test_no_streams_are_no_predictions():
    assert predict(np.empty((3, 0)), np.arange(1, 4)).mean.shape == (0,)
    assert predict(np.empty((3, 0)), np.empty((3, 0), dtype=int)).mean.shape == (0,)


def test_lags_are_distances_of_members():
    members = np.array([[True, False], [True, True]])
    assert lags_of(np.array([8, 5]), 10, members).tolist() == [[2, 0], [5, 5]]
    assert lags_of(np.array([[8, 9], [5, 6]]), 10, members).tolist() == [[2, 0], [5, 4]]


@pytest.mark.parametrize("dependence", DEPENDENCES, ids=str)
def test_correlations_are_positive_definite(dependence):
    at = np.arange(40.0)
    assert np.linalg.eigvalsh(dependence.correlation(at[:, None] - at[None, :])).min() > 1e-6
