"""The loss tests: is the recent batch worse than the reference? One function per test, over arrays of streams.

Here: the moderated batch-means test, the default, on one number per batch. The tests on single losses are in
`mlma.core.mean_tests` and `mlma.core.rank_tests` and are importable from here.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, digamma, polygamma

from mlma.core.blocks import Floats
from mlma.core.loss_test_result import EQUAL, LossTestResult
from mlma.core.mean_tests import hac_mean, welch
from mlma.core.prediction import Prediction
from mlma.core.rank_tests import kolmogorov_smirnov, mann_whitney
from mlma.core.student import upper_tail

__all__ = [
    "NO_PRIOR",
    "LossTestResult",
    "Prior",
    "fit_prior",
    "hac_mean",
    "kolmogorov_smirnov",
    "mann_whitney",
    "moderated",
    "shrunk",
    "welch",
]

FEWEST_STREAMS = 4
"""Streams with a usable variance below which the fleet says nothing about its own spread."""

LOWEST_SHARE = 1e-5
"""Variances are raised to this share of their median before logs are taken (as Smyth's limma does)."""

ROUNDING_SHARE = 1e-10
"""Variances below this share of their median are rounding and count as zero; with one degree of freedom, chance
makes fewer than 1 in 100,000 so small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What the fleet says about the variance between the batches of any one stream.

    Attributes
    ----------
    df
        Degrees of freedom that this knowledge is worth: 0 none, inf when all streams vary alike.
    variance
        Between batches, of log losses; 0 when ``df`` is 0.
    """

    df: float
    variance: float


NO_PRIOR = Prior(df=0.0, variance=0.0)
"""No moderation: each stream is tested with its own variance alone."""


def fit_prior(variance: Floats, df: Floats) -> Prior:
    """Fit what the fleet knows about the spread between batches: a scaled inverse chi-square on the variances.

    Model: s2 | sigma2 ~ sigma2 chi2_d / d and 1 / sigma2 ~ chi2_d0 / (d0 s0^2). Log variances then have mean
    log s0^2 + digamma(d/2) - log(d/2) - digamma(d0/2) + log(d0/2) and variance trigamma(d/2) + trigamma(d0/2),
    which are matched by moments.

    Parameters
    ----------
    variance
        Shape (streams,), variance between the reference batches of each stream; NaN where unknown.
    df
        Shape (streams,), its degrees of freedom; streams with fewer than 1 are left out.

    Returns
    -------
    Prior
        `NO_PRIOR` with fewer than `FEWEST_STREAMS` streams of positive variance. Infinite ``df`` when the log
        variances differ by no more than chance.

    Notes
    -----
    Assumes that the streams' variances are draws from one population; streams that move together make the fit
    noisier, not biased. Source: Smyth (2004), Linear models and empirical Bayes methods for assessing
    differential expression, section 6.2. Where streams have different df, each log variance is weighted by its
    precision (the random-effects moments of DerSimonian and Laird, 1986, which are Smyth's when all df are
    equal), so that many young streams do not drown the old ones.

    Zeros have no logarithm and are left out of the moments, as is what lies below `ROUNDING_SHARE` of the
    median variance; variances below `LOWEST_SHARE` of it are raised to it. With infinite df the variance is
    the pooled one (its maximum likelihood estimate), in which zeros count as far as rounding explains them:
    losses that are counts often repeat a mean, but dead streams have no spread at all and must not make the
    fleet look calmer than it is.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> d0, s02, d = 6.0, 0.25, 2.0
    >>> s2 = d0 * s02 / rng.chisquare(d0, 20_000) * rng.chisquare(d, 20_000) / d
    >>> prior = fit_prior(s2, np.full(20_000, d))
    >>> round(prior.df), round(prior.variance, 2)
    (6, 0.25)
    """
    known = np.isfinite(variance) & (df >= 1.0)
    positive = known & (variance > 0.0)
    if np.count_nonzero(positive) < FEWEST_STREAMS:
        return NO_PRIOR
    median = float(np.median(variance[positive]))
    positive &= variance > ROUNDING_SHARE * median
    s2, d = np.maximum(variance[positive], LOWEST_SHARE * median), df[positive]
    sizes = np.unique(d)  # a handful in the whole fleet, so the special functions are looked up
    size = np.searchsorted(sizes, d)
    noise = polygamma(1, sizes / 2.0)[size]
    e = np.log(s2) - digamma(sizes / 2.0)[size] + np.log(sizes / 2.0)[size]
    w = 1.0 / noise
    centre = np.average(e, weights=w)
    excess = (np.sum(w * np.square(e - centre)) - (len(e) - 1)) / (w.sum() - np.square(w).sum() / w.sum())
    if excess <= 0.0:
        n_zero = int(np.count_nonzero(known)) - len(s2)
        return Prior(df=float("inf"), variance=_pooled(s2, d, n_zero))
    d0 = 2.0 * _trigamma_inverse(float(excess))
    centre = np.average(e, weights=1.0 / (noise + excess))
    return Prior(df=d0, variance=float(np.exp(centre + digamma(d0 / 2.0) - np.log(d0 / 2.0))))


def moderated(recent: Floats, prediction: Prediction, prior: Prior, *, min_reference: int = 2) -> LossTestResult:
    """Test whether the recent batch is higher than one more batch like the reference would be (moderated t).

    The recent value is a draw to be predicted from the m reference values:
    t = (recent - expected) / sqrt(s2 factor), where s2 = (d0 s0^2 + (m - 1) own) / (d0 + m - 1) is the stream's
    own variance shrunk to the fleet's, with d0 + m - 1 degrees of freedom; one-sided. Without dependence
    between batches, expected is the mean of the reference and factor is 1 + 1 / m.

    Parameters
    ----------
    recent
        Shape (streams,), one number per stream: the log mean loss of the recent batch
        (`mlma.core.losses.relative_log_loss`); NaN where missing.
    prediction
        Of the same number, from the reference batches (`mlma.core.prediction.predict`).
    prior
        What the fleet says about the variance; `NO_PRIOR` gives the plain prediction t.
    min_reference
        Fewest reference batches. With 1, a prior is needed.

    Returns
    -------
    LossTestResult
        Not ready without a recent value, with fewer reference batches, or without any degree of freedom.
        Where the shrunk variance is zero (constant batches, no prior), p is 0 if the recent value is higher by
        more than rounding, else 1. p-values above .02 are interpolated (`mlma.core.student`).

    Notes
    -----
    Assumes batch values that are roughly normal and as dependent on each other as the prediction took them to
    be; dependence, season, skew and heavy tails WITHIN a batch do no harm, because only the spread BETWEEN
    batches is used. A fleet whose streams differ much in variance keeps the level on average over its streams,
    not for each alone. Sources: Smyth (2004), section 3 (moderated t); Conway (1963), Some tactical problems in
    digital simulation (batch means); Hahn and Meeker (1991), Statistical Intervals (the prediction interval).

    Examples
    --------
    >>> from mlma.core.prediction import predict
    >>> made = predict(np.array([[0.0, 0.0], [0.2, 0.4], [-0.2, -0.4]]), np.array([1, 2, 3]), rho=0.0)
    >>> moderated(np.array([0.4, 0.4]), made, Prior(df=4.0, variance=0.03)).p_value.round(3).tolist()
    [0.053, 0.124]
    """
    variance = shrunk(prediction, prior)
    m, error = prediction.m, np.sqrt(variance * prediction.factor)
    difference = recent - prediction.expected
    ready = (m >= min_reference) & (m + prior.df > 1.0) & ~np.isnan(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / error
    constant = ready & ~(error > 0.0)
    if constant.any():
        scale = np.maximum(1.0, np.abs(prediction.mean[constant])) * EQUAL
        rise = difference[constant]
        t[constant] = np.where(rise > scale, np.inf, -np.inf)
    t[~ready] = np.nan
    p = np.full(t.shape, np.nan)
    for size in np.flatnonzero(np.bincount(m)).tolist():
        if size < min_reference:
            continue
        if m[0] == size and bool((m == size).all()):
            p = upper_tail(t, size - 1 + prior.df)
        else:
            streams = np.flatnonzero(ready & (m == size))
            if size - 1 + prior.df > 0.0:
                p[streams] = upper_tail(t[streams], size - 1 + prior.df)
    p[~ready] = np.nan
    return LossTestResult(statistic=t, p_value=p, ready=ready)


def shrunk(prediction: Prediction, prior: Prior) -> Floats:
    """Variance between batches of each stream, shrunk to the fleet's, shape (streams,); NaN without knowledge."""
    if np.isinf(prior.df):
        return np.full(prediction.m.shape, prior.variance)
    own_df = np.maximum(prediction.m - 1, 0).astype(np.float64)
    own = np.where(own_df > 0.0, prediction.variance, 0.0)
    df = own_df + prior.df
    made = (prior.df * prior.variance + own_df * own) / np.where(df > 0.0, df, 1.0)
    made[df <= 0.0] = np.nan
    return made


def _pooled(s2: Floats, df: Floats, n_zero: int) -> float:
    """Pool positive variances and as many zeros as come from rounding.

    On a lattice, the smallest positive variance that is common belongs to one step, and a zero to less than half
    a step: a quarter of that variance. chi2_d says how many streams fall below it by chance.
    """
    pooled = float(np.average(s2, weights=df))
    one_step = float(np.quantile(s2, 0.1))
    below = chdtr(df, df * one_step / 4.0 / pooled)
    counted = min(float(n_zero), float(np.sum(below / (1.0 - below))))
    return pooled / (1.0 + counted / len(s2))


def _trigamma_inverse(value: float) -> float:
    """Solution y of trigamma(y) = value > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(1.0 / np.sqrt(value))
    if value < 1e-6:
        return 1.0 / value
    y = 0.5 + 1.0 / value
    for _ in range(50):
        tri = float(polygamma(1, y))
        step = tri * (1.0 - tri / value) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-10:
            break
    return y
