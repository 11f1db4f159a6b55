"""What paired differences say: e-values and p-values in both directions from four sums, with a moderated variance."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from mlma.core.blocks import Floats, Ints
from mlma.core.variance_prior import LARGEST_DF, Prior

TAU = 2.0
"""Standard deviation of the gains that are bet on, in standard deviations of a difference. Chosen by measurement among
.5, 1 and 2: the largest decides most within four batches and loses little at eight."""

SMALLEST = 1e-300
"""Stands for zero probabilities and variances, so that logs and quotients exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over whitened differences e = x mean + noise; arrays of shape (comparisons,).

    Attributes
    ----------
    n
        How many.
    information, weighted, squares
        Of x^2, of x e and of e^2.
    """

    n: Ints
    information: Floats
    weighted: Floats
    squares: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the sums say; arrays of shape (comparisons,).

    Attributes
    ----------
    mean, error
        Estimated log of the loss ratio and its standard error; NaN where unknown.
    variance
        Of one whitened difference, shrunk to the fleet's; NaN where unknown.
    p_better, p_worse
        One-sided p-values of a log ratio below, and above, that of the floor; NaN where unknown.
    log_e_better, log_e_worse
        Logs of the e-values of the same.
    """

    mean: Floats
    error: Floats
    variance: Floats
    p_better: Floats
    p_worse: Floats
    log_e_better: Floats
    log_e_worse: Floats


def evidence(sums: Sums, prior: Prior, floor: float) -> Evidence:
    """Weigh the sums against "the gain is the floor".

    Parameters
    ----------
    prior
        Of the variance of one whitened difference; without degrees of freedom each comparison stands for itself.
    floor
        Relative gain, in [0, 1).

    Notes
    -----
    With mean m0 = log(1 - floor) under the null, a normal N(m0, tau^2 s^2) for it under the alternative and a
    scaled inverse chi-square for s^2 under both (for 0 degrees of freedom the right Haar prior, which keeps the e-value
    valid for every s), the Bayes factor is (1 + tau^2 A)^(-1/2) ((q + R0) / (q + R1))^((d0 + n) / 2), with
    information A and residual sums R0, R1 around m0 and around the shrunk mean. Times twice the posterior
    probability of one side it is the Bayes factor of that half of the alternative.
    """
    d0 = min(prior.df, LARGEST_DF)
    q, m0 = d0 * prior.variance, np.log1p(-floor)
    n, a = sums.n, sums.information
    is_seen = n > 0
    safe = np.where(is_seen, a, 1.0)
    r = sums.weighted - m0 * a
    around_null = np.maximum(sums.squares - m0 * (sums.weighted + r), 0.0)
    shrink = TAU**2 / (1.0 + TAU**2 * a)
    left = np.maximum(q + around_null - shrink * np.square(r), SMALLEST)
    df = np.maximum(d0 + n, 1.0)
    log_both = -np.log1p(TAU**2 * a) / 2.0 + df / 2.0 * np.log1p(shrink * np.square(r) / left)
    t = shrink * r / np.sqrt(left / df * shrink)
    mean = np.where(is_seen, sums.weighted / safe, np.nan)
    rest = np.where(d0 + n > 1.0, d0 + n - 1.0, np.nan)
    around_mean = np.maximum(sums.squares - np.square(sums.weighted) / safe, 0.0)
    variance = np.maximum((q + around_mean) / rest, SMALLEST)
    error = np.where(is_seen, np.sqrt(variance / safe), np.nan)
    score = (mean - m0) / error
    return Evidence(
        mean=mean,
        error=error,
        variance=variance,
        p_better=stdtr(rest, score),
        p_worse=stdtr(rest, -score),
        log_e_better=np.where(is_seen, log_both + np.log(np.maximum(2.0 * stdtr(df, -t), SMALLEST)), 0.0),
        log_e_worse=np.where(is_seen, log_both + np.log(np.maximum(2.0 * stdtr(df, t), SMALLEST)), 0.0),
    )


def projected(sums: Sums, found: Evidence, remaining: Ints, *, rho: float, z: float) -> Sums:
    """What the sums would be after ``remaining`` more batches that are as good as one may hope.

    Parameters
    ----------
    remaining
        Shape (comparisons,), batches.
    z
        Standard errors that the true log ratio may lie below its estimate.

    Returns
    -------
    Sums
        The noise of the added batches is what the shrunk variance says. Where nothing is known of the variance (one
        batch, no prior), the added batches have none, and nothing is given up.
    """
    known = ~np.isnan(found.error)
    hoped = np.where(known, found.mean - z * np.where(known, found.error, 0.0), -1.0)
    noise = np.where(known, found.variance, 0.0)
    added = remaining * (1.0 - rho) ** 2
    return Sums(
        n=sums.n + remaining,
        information=sums.information + added,
        weighted=sums.weighted + added * hoped,
        squares=sums.squares + added * np.square(hoped) + remaining * noise,
    )
