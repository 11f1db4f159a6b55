"""Every loss test against scipy, and the moderated test against its formula and known answers."""

import numpy as np
import pytest
from scipy import stats

from mlma.core.loss_tests import (
    NO_PRIOR,
    Prior,
    fit_prior,
    hac_mean,
    kolmogorov_smirnov,
    mann_whitney,
    moderated,
    welch,
)
from mlma.core.reference import Reference

INF = float("inf")
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


def _sides(kind: str):
    """60 streams of every kind that losses come in, with different lengths left after the missing ones."""
    rng = np.random.default_rng([5, len(kind)])
    recent, reference = rng.gamma(2.0, 1.0, (60, 24)) + 0.2, rng.gamma(2.0, 1.0, (60, 90))
    if kind == "ties":
        recent, reference = np.round(recent), np.round(reference)
    if kind == "offset":
        recent, reference = recent + 1e6, reference + 1e6
    if kind in ("missing", "ties"):
        recent[rng.random(recent.shape) < 0.4] = np.nan
        reference[rng.random(reference.shape) < 0.3] = np.nan
    if kind == "short reference":
        reference = reference[:, :10]
    return recent, reference


KINDS = ["full", "missing", "ties", "offset", "short reference"]


def _present(row):
    return row[~np.isnan(row)]


@pytest.mark.parametrize("kind", KINDS)
def test_welch_agrees_with_scipy(kind):
    recent, reference = _sides(kind)
    ours = welch(recent, reference)
    theirs = stats.ttest_ind(recent, reference, axis=1, equal_var=False, alternative="greater", nan_policy="omit")
    assert ours.ready.all()
    # an offset of 1e6 costs scipy's own sums seven digits
    tolerance = {"rtol": 1e-6} if kind == "offset" else TOLERANCE
    np.testing.assert_allclose(ours.statistic, theirs.statistic, **tolerance)
    np.testing.assert_allclose(ours.p_value, theirs.pvalue, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_mann_whitney_agrees_with_scipy(kind):
    recent, reference = _sides(kind)
    ours = mann_whitney(recent, reference, min_n=2)
    for i in range(len(recent)):
        theirs = stats.mannwhitneyu(
            _present(recent[i]), _present(reference[i]), alternative="greater", method="asymptotic"
        )
        np.testing.assert_allclose(ours.statistic[i], theirs.statistic, **TOLERANCE)
        np.testing.assert_allclose(ours.p_value[i], theirs.pvalue, **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_kolmogorov_smirnov_agrees_with_scipy(kind):
    recent, reference = _sides(kind)
    ours = kolmogorov_smirnov(recent, reference, min_n=2)
    for i in range(len(recent)):
        theirs = stats.ks_2samp(_present(recent[i]), _present(reference[i]), alternative="less", method="asymp")
        np.testing.assert_allclose(ours.statistic[i], theirs.statistic, **TOLERANCE)
        np.testing.assert_allclose(ours.p_value[i], theirs.pvalue, **TOLERANCE)


def _newey_west(x, lags):
    """Variance of the mean, written as the definition reads."""
    e = x - np.nanmean(x)
    n = np.isfinite(x).sum()
    total = np.nansum(e * e)
    for k in range(1, min(lags, len(x) - 1) + 1):
        total += 2 * (1 - k / (lags + 1)) * np.nansum(e[k:] * e[:-k])
    return total / n**2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bandwidth", [None, 0, 5, 200])
def test_hac_mean_is_the_newey_west_z(kind, bandwidth):
    recent, reference = _sides(kind)
    ours = hac_mean(recent, reference, bandwidth=bandwidth, min_n=2)
    for i in range(len(recent)):
        lags = [int(np.sqrt(np.isfinite(x[i]).sum())) if bandwidth is None else bandwidth for x in (recent, reference)]
        variance = _newey_west(recent[i], lags[0]) + _newey_west(reference[i], lags[1])
        z = (np.nanmean(recent[i]) - np.nanmean(reference[i])) / np.sqrt(variance)
        assert ours.statistic[i] == pytest.approx(z, rel=1e-6)
        assert ours.p_value[i] == pytest.approx(stats.norm.sf(z), rel=1e-5)


@pytest.mark.parametrize("test", [welch, mann_whitney, kolmogorov_smirnov, hac_mean])
def test_too_few_losses_are_not_ready(test):
    recent = np.full((3, 20), np.nan)
    recent[1, :4] = [1.0, 2.0, 3.0, 4.0]
    recent[2] = np.arange(20.0)
    result = test(recent, np.tile(np.arange(30.0), (3, 1)), min_n=5)
    assert result.ready.tolist() == [False, False, True]
    np.testing.assert_equal(np.isnan(result.p_value), [True, True, False])
    np.testing.assert_equal(np.isnan(result.statistic), [True, True, False])


@pytest.mark.parametrize("test", [welch, mann_whitney, kolmogorov_smirnov, hac_mean])
def test_an_empty_side_is_not_ready(test):
    assert not test(np.empty((2, 0)), np.ones((2, 9))).ready.any()
    assert test(np.empty((0, 5)), np.empty((0, 9))).p_value.shape == (0,)


@pytest.mark.parametrize("test", [welch, hac_mean])
@pytest.mark.parametrize(("level", "p"), [(0.3, 1.0), (0.31, 0.0), (0.29, 1.0)])
def test_constant_losses_alarm_only_when_they_rise(test, level, p):
    result = test(np.full((1, 20), level), np.full((1, 50), 0.3))
    assert result.p_value[0] == p


def test_equal_losses_never_alarm_in_rank_tests():
    same = np.ones((1, 20))
    assert mann_whitney(same, same).p_value[0] == 1.0
    assert kolmogorov_smirnov(same, same).p_value[0] == 1.0


def test_rank_tests_do_not_depend_on_how_streams_are_cut_into_chunks(monkeypatch):
    recent, reference = _sides("ties")
    whole = [test(recent, reference).p_value for test in (mann_whitney, kolmogorov_smirnov)]
    monkeypatch.setattr("mlma.core.rank_tests.CHUNK", 500)
    cut = [test(recent, reference).p_value for test in (mann_whitney, kolmogorov_smirnov)]
    np.testing.assert_array_equal(whole, cut)


def _reference(mean, variance, m):
    return Reference(mean=np.array(mean), variance=np.array(variance), m=np.array(m))


def test_moderated_without_prior_is_the_prediction_t():
    past, recent = np.array([0.1, 0.4, 0.2]), 0.9
    result = moderated(np.array([recent]), _reference([past.mean()], [past.var(ddof=1)], [3]), NO_PRIOR)
    t = (recent - past.mean()) / (past.std(ddof=1) * np.sqrt(1 + 1 / 3))
    assert result.statistic[0] == pytest.approx(t, rel=1e-12)
    assert result.p_value[0] == pytest.approx(stats.t.sf(t, 2), rel=1e-12)


def test_moderated_shrinks_the_variance_to_the_fleet():
    result = moderated(np.array([1.0]), _reference([0.0], [0.3], [4]), Prior(df=6.0, variance=0.1))
    t = 1.0 / np.sqrt((6 * 0.1 + 3 * 0.3) / 9 * 1.25)
    assert result.p_value[0] == pytest.approx(stats.t.sf(t, 9), rel=1e-12)


def test_moderated_is_normal_when_the_fleet_varies_alike():
    result = moderated(np.array([1.0]), _reference([0.0], [9.0], [4]), Prior(df=INF, variance=0.2))
    assert result.p_value[0] == pytest.approx(stats.norm.sf(1 / np.sqrt(0.25)), rel=1e-12)


@pytest.mark.parametrize(
    ("recent", "mean", "variance", "m", "prior", "is_ready"),
    [
        (np.nan, 0.0, 1.0, 3, NO_PRIOR, False),
        (1.0, np.nan, np.nan, 0, Prior(df=4.0, variance=1.0), False),
        (1.0, 0.0, np.nan, 1, Prior(df=4.0, variance=1.0), False),
        (1.0, 0.0, 1.0, 2, NO_PRIOR, True),
        (np.inf, 0.0, 1.0, 2, NO_PRIOR, True),
    ],
)
def test_moderated_needs_a_recent_value_and_enough_reference(recent, mean, variance, m, prior, is_ready):
    result = moderated(np.array([recent]), _reference([mean], [variance], [m]), prior)
    assert result.ready[0] == is_ready
    assert np.isfinite(result.p_value[0]) == is_ready


def test_moderated_may_test_against_one_batch_when_the_fleet_knows_the_spread():
    one = _reference([0.0], [np.nan], [1])
    assert moderated(np.array([1.0]), one, Prior(df=4.0, variance=1.0), min_reference=1).ready[0]
    assert not moderated(np.array([1.0]), one, NO_PRIOR, min_reference=1).ready[0]


@pytest.mark.parametrize(("recent", "p"), [(0.3, 1.0), (0.3 + 1e-15, 1.0), (0.4, 0.0), (0.2, 1.0)])
def test_constant_batches_without_prior_alarm_only_when_they_rise(recent, p):
    result = moderated(np.array([recent]), _reference([0.3], [0.0], [5]), NO_PRIOR)
    assert result.p_value[0] == p


def _variances(rng, d0, s02, df):
    true = np.full(df.shape, s02) if np.isinf(d0) else d0 * s02 / rng.chisquare(d0, df.shape)
    return true * rng.chisquare(df) / df


@pytest.mark.parametrize("d0", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("reference_df", ["equal", "mixed"])
def test_prior_is_recovered_from_simulated_variances(d0, reference_df):
    rng = np.random.default_rng(6)
    df = np.full(40_000, 3.0) if reference_df == "equal" else rng.integers(1, 8, 40_000).astype(float)
    prior = fit_prior(_variances(rng, d0, 0.04, df), df)
    # 40,000 streams: some 10 % on the degrees of freedom, 3 % on the variance
    assert prior.df == pytest.approx(d0, rel=0.15)
    assert prior.variance == pytest.approx(0.04, rel=0.04)


def test_prior_with_equal_df_is_smyths():
    rng = np.random.default_rng(7)
    s2 = _variances(rng, 4.0, 1.0, np.full(200, 2.0))
    from scipy.special import digamma, polygamma

    e = np.log(s2) - digamma(1.0) + np.log(1.0)
    prior = fit_prior(s2, np.full(200, 2.0))
    assert polygamma(1, prior.df / 2) == pytest.approx(e.var(ddof=1) - polygamma(1, 1.0), rel=1e-6)
    expected = np.exp(e.mean() + digamma(prior.df / 2) - np.log(prior.df / 2))
    assert prior.variance == pytest.approx(expected, rel=1e-9)


def test_streams_that_vary_alike_give_an_infinite_prior():
    # equal log variances vary less than chance would have it
    prior = fit_prior(np.full(50, 0.3), np.full(50, 2.0))
    assert prior == Prior(df=INF, variance=pytest.approx(0.3))


@pytest.mark.parametrize(
    ("variance", "df"),
    [
        ([], []),
        ([1.0, 2.0, 3.0], [2, 2, 2]),
        ([1.0, 2.0, 3.0, np.nan, 0.0], [2, 2, 2, 2, 2]),
        ([1.0, 2.0, 3.0, 4.0], [2, 2, 2, 0]),
        ([0.0] * 10, [2] * 10),
    ],
)
def test_too_few_usable_streams_give_no_prior(variance, df):
    assert fit_prior(np.array(variance, dtype=float), np.array(df, dtype=float)) == NO_PRIOR


@pytest.mark.parametrize("d0", [4.0, INF])
def test_dead_streams_do_not_make_the_fleet_look_calmer(d0):
    rng = np.random.default_rng(8)
    s2 = _variances(rng, d0, 1.0, np.full(4000, 2.0))
    alone = fit_prior(s2, np.full(4000, 2.0))
    with_dead = fit_prior(np.concatenate([s2, np.zeros(4000)]), np.full(8000, 2.0))
    assert with_dead.variance == pytest.approx(alone.variance, rel=0.06)
    assert with_dead.df == alone.df


def test_zeros_from_rounding_count_in_the_pooled_variance():
    x = np.random.default_rng(9).poisson(4.0, (8000, 2)).astype(float)
    prior = fit_prior(x.var(axis=1, ddof=1), np.ones(8000))
    assert np.isinf(prior.df)
    assert prior.variance == pytest.approx(4.0, rel=0.1)


def test_variances_that_are_rounding_count_as_zero():
    rng = np.random.default_rng(10)
    s2 = _variances(rng, 5.0, 1.0, np.full(400, 3.0))
    zeros, tiny = (fit_prior(np.append(s2, [x] * 40), np.full(440, 3.0)) for x in (0.0, 1e-30))
    assert tiny == zeros
