"""The loss tests: is the recent batch worse than the reference? One function per test, over arrays of streams.

Here: the moderated batch-means test, the default, on one number per batch. The tests on single losses are in
`mlma.core.mean_tests` and `mlma.core.rank_tests` and are importable from here.
"""

from functools import lru_cache

import numpy as np

from mlma.core.blocks import Floats, Ints
from mlma.core.loss_test_result import EQUAL, LossTestResult
from mlma.core.mean_tests import hac_mean, welch, welch_of_moments
from mlma.core.prediction import Prediction
from mlma.core.rank_tests import kolmogorov_smirnov, mann_whitney
from mlma.core.student import upper_tail
from mlma.core.variance_prior import NO_PRIOR, Guess, Prior, fit_prior, predicted_sd, shrunk

__all__ = [
    "NO_PRIOR",
    "Guess",
    "LossTestResult",
    "Prior",
    "fit_prior",
    "hac_mean",
    "kolmogorov_smirnov",
    "mann_whitney",
    "moderated",
    "moderated_p",
    "predicted_sd",
    "shrunk",
    "welch",
    "welch_of_moments",
]

LARGE_FLEET = 4000
"""Streams from which on the prior's guesses are so much alike that their average is taken for small p-values alone."""

WHOLE_BELOW, NOTHING_ABOVE = 0.005, 0.01
"""p-values between which a large fleet passes from the average over the prior's guesses to its best guess alone: a
large fleet knows its prior well, the guesses differ far out only, and looking there alone costs next to nothing."""

NOBODY: Ints = np.empty(0, dtype=np.int64)


def moderated(
    recent: Floats, prediction: Prediction, prior: Prior, *, min_reference: int = 2, sd: Floats | None = None
) -> LossTestResult:
    """Test whether the recent batch is higher than one more batch like the reference would be (moderated t).

    The recent value is a draw to be predicted from the m reference values:
    t = (recent - expected) / sqrt(s2 factor), where s2 = (d0 s0^2 + (m - 1) own) / (d0 + m - 1) is the stream's
    own variance shrunk to the fleet's, with d0 + m - 1 degrees of freedom; one-sided. Without dependence
    between batches, expected is the mean of the reference and factor is 1 + 1 / m. Where the prior is a guess among
    others, p is averaged over all of them: the tail far out is as heavy as the doubt about d0 makes it.

    Parameters
    ----------
    recent
        Shape (streams,), one number per stream: the log mean loss of the recent batch, less what
        its yardsticks explain; NaN where missing.
    prediction
        Of the same number, from the reference batches (`mlma.core.prediction.predict`).
    prior
        What the fleet says about the variance; `NO_PRIOR` gives the plain prediction t.
    min_reference
        Fewest reference batches. With 1, a prior is needed.
    sd
        Shape (streams,), what `predicted_sd` gave for the prediction and the prior, where it is known already.

    Returns
    -------
    LossTestResult
        Not ready without a recent value, with fewer reference batches, or without any degree of freedom.
        The statistic is t for the best guess. Where the shrunk variance is zero (constant batches, no prior), p is 0
        if the recent value is higher by more than rounding, else 1. In large fleets, p-values are interpolated,
        within 1e-5 of the right ones (`mlma.core.student`).

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
    >>> made = predict(np.array([[0.0, 0.0], [0.2, 0.4], [-0.2, -0.4]]), np.array([1, 2, 3]))
    >>> moderated(np.array([0.4, 0.4]), made, Prior(df=4.0, variance=0.03)).p_value.round(3).tolist()
    [0.053, 0.124]
    """
    t, p = _moderated(recent, prediction, prior, min_reference, sd)
    return LossTestResult(statistic=t, p_value=p, ready=~np.isnan(t))


def moderated_p(
    recent: Floats, prediction: Prediction, prior: Prior, *, min_reference: int = 2, sd: Floats | None = None
) -> Floats:
    """p-values of `moderated` alone, shape (streams,); NaN where it is not ready."""
    return _moderated(recent, prediction, prior, min_reference, sd)[1]


def _moderated(
    recent: Floats, prediction: Prediction, prior: Prior, min_reference: int, sd: Floats | None
) -> tuple[Floats, Floats]:
    """Statistic and p-value of `moderated`."""
    sd = predicted_sd(prediction, prior) if sd is None else sd
    t = _statistic(recent, prediction, sd, least=max(min_reference, 1 if prior.df > 0.0 else 2))
    p = _tail(t, prediction.m, prior, prediction.sizes)
    if prior.guesses:
        is_large = t.size >= LARGE_FLEET
        looked = np.flatnonzero(p < NOTHING_ABOVE if is_large else ~np.isnan(t))
        made = _averaged(recent, prediction, prior, looked)
        if is_large:
            whole = np.clip((NOTHING_ABOVE - p[looked]) / (NOTHING_ABOVE - WHOLE_BELOW), 0.0, 1.0)
            made = p[looked] + whole * (made - p[looked])
        p[looked] = made
    return t, p


def _statistic(recent: Floats, prediction: Prediction, sd: Floats, *, least: int) -> Floats:
    """Deviation from the prediction over its standard deviation, NaN with fewer than ``least`` reference batches."""
    t = recent - prediction.expected
    constant = np.flatnonzero(~(sd > 0.0)) if not sd.min(initial=1.0) > 0.0 else NOBODY  # or unknown
    rise = t[constant]
    with np.errstate(divide="ignore", invalid="ignore"):
        t /= sd
    if len(constant):
        is_more = rise > np.maximum(1.0, np.abs(prediction.mean[constant])) * EQUAL
        t[constant] = np.where(np.isnan(rise + sd[constant]), np.nan, np.where(is_more, np.inf, -np.inf))
    if prediction.sizes[0] < least:
        t[prediction.m < least] = np.nan
    return t


def _averaged(recent: Floats, prediction: Prediction, prior: Prior, streams: Ints) -> Floats:
    """p-values of some streams, averaged over the guesses of the prior; shape (len(streams),)."""
    m = prediction.m[streams]
    own_df = m - 1.0
    own = np.where(own_df > 0.0, own_df * prediction.variance[streams], 0.0)
    unscaled = (recent[streams] - prediction.expected[streams]) / np.sqrt(prediction.factor[streams])
    weight, df, variance = _columns(prior)
    with np.errstate(invalid="ignore"):  # infinite degrees of freedom: the fleet's variance is all that counts
        sd = np.sqrt(np.where(np.isinf(df), variance, (df * variance + own) / (df + own_df)))
    return np.asarray(weight @ _tail(unscaled / sd, m, prior, prediction.sizes))


@lru_cache(maxsize=8)
def _columns(prior: Prior) -> tuple[Floats, Floats, Floats]:
    """Weights of the guesses, shape (guesses,), their degrees of freedom and variances, shape (guesses, 1) each."""
    weight, df, variance = np.array([(guess.weight, guess.df, guess.variance) for guess in prior.guesses]).T
    return weight, df[:, None], variance[:, None]


@lru_cache(maxsize=8)
def _degrees(prior: Prior, smallest: int, largest: int) -> Floats:
    """Degrees of freedom by m from the smallest to the largest: of the best guess, then of each guess of the prior.

    Shape (1 + guesses, sizes): prior df + m - 1, of which the fleet knows no more than a guess's ``known_df``. They
    stand together, so that their tables are made together.
    """
    m = np.arange(smallest, largest + 1)
    prior_df, known_df = np.array([(prior.df, np.inf), *((guess.df, guess.known_df) for guess in prior.guesses)]).T
    df = np.maximum(prior_df[:, None] + m - 1.0, 0.01)  # no value is without any
    known_df = known_df[:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isfinite(known_df), known_df / (1.0 + known_df / df), df))


def _tail(t: Floats, m: Ints, prior: Prior, sizes: tuple[int, int]) -> Floats:
    """Upper tail with the degrees of freedom of the best guess, or of all guesses for t of shape (guesses, streams).

    ``m`` has shape (streams,); ``sizes`` are the smallest and the largest of the fleet.
    """
    if not t.size:
        return np.empty(t.shape)
    df = _degrees(prior, *sizes)
    if t.ndim > 1:
        which = m - sizes[0] + df.shape[1] * np.arange(1, len(t) + 1)[:, None]
        return upper_tail(t.ravel(), df.ravel(), which.ravel()).reshape(t.shape)
    return upper_tail(t, df.ravel(), m - sizes[0] if df.shape[1] > 1 else None)
