"""Every loss test against scipy, and the moderated test against its formula and the rates that it promises."""

import numpy as np
import pytest
from scipy import stats

from mlma.core.loss_tests import (
    LARGE_FLEET,
    NO_PRIOR,
    Guess,
    Prior,
    fit_prior,
    hac_mean,
    kolmogorov_smirnov,
    mann_whitney,
    moderated,
    welch,
)
from mlma.core.prediction import Prediction, predict

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


@pytest.mark.parametrize("scale", [1e-90, 1e90])
def test_welch_does_not_depend_on_the_unit_of_the_losses(scale):
    recent, reference = _sides("full")
    made = welch(recent * scale, reference * scale)
    np.testing.assert_allclose(made.p_value, welch(recent, reference).p_value, rtol=1e-9)


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
    """Prediction of independent batches from the mean and variance of m of them."""
    count = np.array(m)
    with np.errstate(divide="ignore"):
        return Prediction(
            mean=np.array(mean), expected=np.array(mean), variance=np.array(variance), factor=1.0 + 1.0 / count,
            own=np.ones(len(count)), m=count,
        )  # fmt: skip


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


def test_moderated_uses_what_the_newest_batches_say_beyond_the_mean():
    made = Prediction(
        mean=np.array([0.0]), expected=np.array([0.6]), variance=np.array([0.3]), factor=np.array([0.8]),
        own=np.array([0.5]), m=np.array([4]),
    )  # fmt: skip
    result = moderated(np.array([1.0]), made, NO_PRIOR)
    assert result.statistic[0] == pytest.approx(0.4 / np.sqrt(0.3 * 0.8), rel=1e-12)


def test_moderated_averages_over_the_guesses_of_the_prior():
    guesses = (
        Guess(weight=0.3, df=2.0, variance=0.05, known_df=30.0), Guess(weight=0.7, df=INF, variance=0.2, known_df=40.0),
    )  # fmt: skip
    prior = Prior(df=6.0, variance=0.1, guesses=guesses)
    result = moderated(np.array([1.0]), _reference([0.0], [0.3], [4]), prior)
    first = stats.t.sf(1.0 / np.sqrt((2 * 0.05 + 3 * 0.3) / 5 * 1.25), 1 / (1 / 5 + 1 / 30))
    second = stats.t.sf(1.0 / np.sqrt(0.2 * 1.25), 40.0)
    assert result.p_value[0] == pytest.approx(0.3 * first + 0.7 * second, rel=1e-12)
    assert result.statistic[0] == pytest.approx(1.0 / np.sqrt((6 * 0.1 + 3 * 0.3) / 9 * 1.25), rel=1e-12)


def test_moderated_tests_streams_of_any_reference_size_together():
    m = np.array([5, 2, 0, 3, 2, 1])
    prior = Prior(df=4.0, variance=0.1, guesses=(Guess(weight=1.0, df=3.0, variance=0.2),))
    variance = np.array([0.1, 0.2, np.nan, 0.3, 0.4, np.nan])
    together = moderated(np.ones(6), _reference(np.zeros(6), variance, m), prior)
    assert together.ready.tolist() == [True, True, False, True, True, False]
    for i in np.flatnonzero(together.ready):
        alone = moderated(np.ones(1), _reference([0.0], [variance[i]], [m[i]]), prior)
        assert together.p_value[i] == alone.p_value[0]


def _fleet(seed, *, streams, m, d0):
    rng = np.random.default_rng(seed)
    variance = np.ones(streams) if np.isinf(d0) else d0 / rng.chisquare(d0, streams)
    return rng.standard_normal((m + 1, streams)) * np.sqrt(variance)


def _tested(x):
    made = predict(x[:-1][::-1], np.arange(1, len(x)))
    return moderated(x[-1], made, fit_prior(made.variance, made.m - 1.0))


def test_a_large_fleet_averages_over_the_guesses_far_out_only():
    x = _fleet(11, streams=2 * LARGE_FLEET, m=3, d0=4.0)
    made = predict(x[:-1][::-1], np.arange(1, len(x)))
    prior = fit_prior(made.variance, made.m - 1.0)
    large = moderated(x[-1], made, prior).p_value
    best = moderated(x[-1], made, Prior(df=prior.df, variance=prior.variance)).p_value
    far = np.flatnonzero(best < 0.005)
    part = _reference(made.mean[far], made.variance[far], made.m[far])
    assert len(far) > 20
    np.testing.assert_allclose(large[far], moderated(x[-1, far], part, prior).p_value, rtol=1e-9)
    np.testing.assert_array_equal(large[best > 0.01], best[best > 0.01])


@pytest.mark.parametrize("d0", [INF, 4.0])
@pytest.mark.parametrize("m", [2, 3])
def test_bh_raises_any_false_alarm_as_rarely_as_promised(m, d0):
    # 160 healthy fleets of 200 streams: standard error 1.7 % at 5 %; by moments of log variances, it was 24 %
    some = 0
    for seed in range(160):
        p = np.sort(_tested(_fleet([12, seed], streams=200, m=m, d0=d0)).p_value)
        some += bool(np.any(p <= 0.05 * np.arange(1, 201) / 200))
    assert some / 160 <= 0.1
