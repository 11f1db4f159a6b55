"""What a fleet knows about the variance between the batches of any one stream, and how well it knows it.

The moderated test borrows this knowledge; its tail is only as good as what is known about how much streams differ.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, gammaln

from mlma.core.blocks import Floats
from mlma.core.interpolation import smooth
from mlma.core.prediction import Prediction
from mlma.core.robust_location import median

FEWEST_STREAMS = 4
"""Streams with a usable variance below which the fleet says nothing about its own spread."""

LOWEST_SHARE = 1e-5
"""Variances are raised to this share of their median before logs are taken (as Smyth's limma does)."""

ROUNDING_SHARE = 1e-10
"""Variances below this share of their median are rounding and count as zero; with one degree of freedom, chance
makes fewer than 1 in 100,000 so small."""

EVEN_DF = 4.0
"""Prior degrees of freedom that are as likely exceeded as not before anything is seen (measured: a smaller number
costs power where streams vary alike, a larger one false alarms in small fleets whose streams differ)."""

LARGEST_DF = 1e6
"""More prior degrees of freedom than this are infinitely many."""

POINTS = 17
"""Values among which the prior degrees of freedom are searched, at each of `ROUNDS` scales."""

ROUNDS = 4

WORTH_A_LOOK = 9.0
"""Log likelihood below the best at which a value is left out: four standard deviations."""

CLASSES = (0.02, 0.1, 0.3, 0.6, 1.0)
"""Posterior probabilities at which the prior degrees of freedom are cut into classes, finer where tails are heavy."""

MOST_CELLS = 512
"""Variances that are looked at one by one; more of them are sorted into classes."""

CLASS_WIDTH = 0.125
"""Of those classes, in logs; 1/18 of the standard deviation of a log variance with one degree of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One possibility of what streams' variances are drawn from.

    Attributes
    ----------
    weight
        Probability.
    df, variance
        As in `Prior`.
    known_df
        Degrees of freedom of the estimate of ``variance``: a fleet cannot know more than its streams together.
    """

    weight: float
    df: float
    variance: float
    known_df: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What the fleet says about the variance between the batches of any one stream.

    Attributes
    ----------
    df
        Degrees of freedom that this knowledge is worth: 0 none, inf when all streams vary alike.
    variance
        Between batches, of log losses; 0 when ``df`` is 0.
    guesses
        What else the two numbers may be, with weights that add up to 1: probabilities are averaged over them.
        Empty when they are known.
    """

    df: float
    variance: float
    guesses: tuple[Guess, ...] = ()


NO_PRIOR = Prior(df=0.0, variance=0.0)
"""No moderation: each stream is tested with its own variance alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """Variances in classes, arrays of shape (cells,)."""

    df: Floats
    variance: Floats  # mean of the class
    n: Floats  # streams


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """Likelihood by prior degrees of freedom, arrays of shape (points,)."""

    share: Floats  # d0 / (d0 + EVEN_DF), in (0, 1]
    log_variance: Floats  # the most likely one
    log_likelihood: Floats
    known_df: Floats


def fit_prior(variance: Floats, df: Floats) -> Prior:
    """Fit what the fleet knows about the spread between batches: a scaled inverse chi-square on the variances.

    Model: s2 | sigma2 ~ sigma2 chi2_d / d and 1 / sigma2 ~ chi2_d0 / (d0 s0^2), so that s2 / s0^2 ~ F(d, d0).

    Parameters
    ----------
    variance
        Shape (streams,), variance between the reference batches of each stream; NaN where unknown.
    df
        Shape (streams,), its degrees of freedom; streams with fewer than 1 are left out.

    Returns
    -------
    Prior
        `NO_PRIOR` with fewer than `FEWEST_STREAMS` streams of positive variance. Infinite ``df`` when streams that
        vary alike are the most likely explanation.

    Notes
    -----
    Assumes that the streams' variances are draws from one population; streams that move together make the fit
    noisier, not biased. The model is that of Smyth (2004), Linear models and empirical Bayes methods for assessing
    differential expression, section 3. He matches the moments of log variances (section 6.2); we maximise the
    likelihood over s0^2 for every d0 and average over d0, with d0 / (d0 + `EVEN_DF`) uniform beforehand. Both
    matter far out in the tail when the reference is short: with one degree of freedom, a log variance says little,
    and 200 streams that differ (d0 = 4) look alike by its moments one time in four. Measured there, realised over
    nominal rate at 1e-4: moments 13.1, likelihood and average 1.4 (docs/manual/loss-tests.md).

    Zeros are left out, as is what lies below `ROUNDING_SHARE` of the median variance, except as far as rounding
    explains them: losses that are counts often repeat a mean, but dead streams have no spread at all and must not
    make the fleet look calmer than it is.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> d0, s02, d = 6.0, 0.25, 2.0
    >>> s2 = d0 * s02 / rng.chisquare(d0, 20_000) * rng.chisquare(d, 20_000) / d
    >>> prior = fit_prior(s2, np.full(20_000, d))
    >>> round(prior.df), round(prior.variance, 2)
    (6, 0.25)
    """
    cells = _cells(variance, df)
    if cells is None:
        return NO_PRIOR
    low, high = 0.05, 1.0
    total = float(np.sum(cells.df * cells.n))
    log_variance = np.full(POINTS, np.log(np.sum(cells.df * cells.n * cells.variance) / total))
    for _ in range(ROUNDS):
        profile = _profile(cells, np.linspace(low, high, POINTS), log_variance)
        likely = np.flatnonzero(profile.log_likelihood > profile.log_likelihood.max() - WORTH_A_LOOK)
        first, last = max(int(likely[0]) - 1, 0), min(int(likely[-1]) + 1, POINTS - 1)
        if last - first > POINTS // 2:
            break
        low, high = float(profile.share[first]), float(profile.share[last])
        log_variance = np.interp(np.linspace(low, high, POINTS), profile.share, profile.log_variance)
    return _prior(profile)


def shrunk(prediction: Prediction, prior: Prior | Guess) -> Floats:
    """Variance between batches of each stream, shrunk to the fleet's, shape (streams,); NaN without knowledge."""
    m = prediction.m
    if np.isinf(prior.df) or not len(m):
        return np.full(m.shape, prior.variance)
    fewest, most = prediction.sizes
    own_df = np.maximum(np.arange(most + 1) - 1.0, 0.0)  # by the size of the reference
    df = np.where(own_df + prior.df > 0.0, own_df + prior.df, np.nan)
    own, fleet = own_df / df, prior.df * prior.variance / df
    if fewest == most:
        alike: Floats = prediction.variance * own[-1] if most > 1 else np.zeros(m.shape)
        alike += fleet[-1]
        return alike
    made: Floats = own.take(m)
    made *= prediction.variance
    made += fleet.take(m)
    short = np.flatnonzero(m <= 1)
    made[short] = fleet[m[short]]
    return made


def predicted_sd(prediction: Prediction, prior: Prior) -> Floats:
    """Standard deviation of the prediction's error, with the shrunk variance; shape (streams,), NaN if unknown."""
    made = shrunk(prediction, prior)
    made *= prediction.factor[:1] if prediction.factor.strides == (0,) else prediction.factor
    return np.asarray(np.sqrt(made, out=made))


def _cells(variance: Floats, df: Floats) -> _Cells | None:
    """Variances sorted into classes by degrees of freedom and size; None when there are too few."""
    known = np.isfinite(variance) & (df >= 1.0)
    positive = known & (variance > 0.0)
    if np.count_nonzero(positive) < FEWEST_STREAMS:
        return None
    usual = median(variance[positive])
    positive &= variance > ROUNDING_SHARE * usual
    parts = []
    sizes = df[positive]
    for d in np.unique(sizes) if len(sizes) and sizes.min() < sizes.max() else sizes[:1]:
        s2 = np.maximum(variance[positive & (df == d)], LOWEST_SHARE * usual)
        n_zero = int(np.count_nonzero(known & (df == d))) - len(s2)
        mean, n = s2, np.ones(len(s2))
        if len(s2) > MOST_CELLS:
            # The offset keeps round ratios off the borders, where rounding would move them about.
            place = np.floor((np.log(s2 / usual) + 0.0123) / CLASS_WIDTH).astype(np.int64)
            place -= place.min()
            n = np.bincount(place).astype(np.float64)
            mean, n = np.bincount(place, weights=s2)[n > 0.0] / n[n > 0.0], n[n > 0.0]
        if n_zero:
            mean, n = np.append(mean, 0.0), np.append(n, _rounded_away(s2, float(d), n_zero))
        parts.append((np.full(len(n), d), mean, n))
    d, mean, n = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Cells(df=d, variance=mean, n=n)


def _rounded_away(s2: Floats, d: float, n_zero: int) -> float:
    """How many zeros come from rounding.

    On a lattice, the smallest positive variance that is common belongs to one step, and a zero to less than half
    a step: a quarter of that variance. chi2_d says how many streams fall below it by chance.
    """
    one_step = float(np.quantile(s2, 0.1))
    below = float(chdtr(d, d * one_step / 4.0 / s2.mean()))
    return min(float(n_zero), len(s2) * below / (1.0 - below))


def _profile(cells: _Cells, share: Floats, log_variance: Floats) -> _Profile:
    """Maximise the likelihood over the variance, by Newton's method from ``log_variance``, for every share."""
    d0 = _df(share)[:, None]
    d, n = cells.df, cells.n
    if d.min() == d.max():
        d = d[:1]  # one for all: fewer gamma functions
    both = d + d0
    at = log_variance[:, None]
    constant = d * cells.variance / d0
    for _ in range(12):
        ratio = constant * np.exp(-at)
        whole = 1.0 + ratio
        pull = both * ratio / whole
        step = ((pull - d) @ n) / ((pull / whole) @ n)
        at = at + np.minimum(np.maximum(step, -1.0), 1.0)[:, None]
        if np.abs(step).max() < 1e-5:
            break
    ratio = constant * np.exp(-at)
    normal = gammaln(both / 2.0) - gammaln(d0 / 2.0) - d / 2.0 * (np.log(d0) + at)
    return _Profile(
        share=share,
        log_variance=at[:, 0],
        log_likelihood=(normal - both / 2.0 * np.log1p(ratio)) @ n,
        known_df=(both * ratio / np.square(1.0 + ratio)) @ n,
    )


def _df(share: Floats) -> Floats:
    return np.minimum(EVEN_DF * share / np.maximum(1.0 - share, 1e-9), LARGEST_DF)


def _prior(profile: _Profile) -> Prior:
    """Most likely values, and the classes of `CLASSES` with the mean share of each."""
    fine = np.linspace(profile.share[0], profile.share[-1], 16 * (POINTS - 1) + 1)
    log_likelihood = smooth(profile.log_likelihood, 16)
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    group = np.searchsorted(CLASSES, np.cumsum(weight) - weight / 2.0)
    sums = np.bincount(group, weights=weight, minlength=len(CLASSES))
    share = np.bincount(group, weights=weight * fine, minlength=len(CLASSES))[sums > 0.0] / sums[sums > 0.0]
    best = fine[np.argmax(log_likelihood)]
    shares = np.append(share, best)
    df = _df(shares)
    variance = np.exp(np.interp(shares, profile.share, profile.log_variance))
    known = np.interp(shares, profile.share, profile.known_df)
    guesses = tuple(
        Guess(weight=float(w), df=_infinite(d0), variance=float(v), known_df=float(k))
        for w, d0, v, k in zip(sums[sums > 0.0], df, variance, known, strict=False)
    )
    return Prior(df=_infinite(df[-1]), variance=float(variance[-1]), guesses=guesses)


def _infinite(df: float) -> float:
    return float("inf") if df >= LARGEST_DF else float(df)
