"""How strongly neighbouring batches of a fleet depend on each other: one number, estimated over all its streams."""

from functools import lru_cache

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.robust_location import medians

GRID = np.linspace(0.0, 0.95, 191)
"""Correlations among which the estimate is looked up."""

CLIP = 4.0
"""Standard deviations: a stream that was farther from its mean is broken, and must not look like dependence."""


def fit_correlation(values: Floats, variance: Floats) -> tuple[float, float]:
    """Estimate the lag-one correlation between the batch values of a fleet.

    Parameters
    ----------
    values
        Shape (batches, streams), consecutive batch values in order of time, finite; batches >= 3.
    variance
        Shape (streams,), moderated variance between batches, > 0: streams count alike, whatever their spread.

    Returns
    -------
    tuple of float
        The correlation, in [0, 0.95], and the number of observations that it rests on
        (streams x (batches - 2)). (0, 0) with fewer than three batches or no usable stream.

    Notes
    -----
    Moments: the mean product of neighbouring residuals over their mean square. Each stream's own mean is taken
    out, which makes the raw ratio of a short series far too small; the ratio that an autoregression of order one
    with coefficient rho would show on so many batches is known, and inverted (the idea of Marriott and Pope,
    1954, and Kendall, 1954, on bias in the estimation of autocorrelations, solved exactly). What all streams have
    in common at a batch is taken out too (medians), as it says nothing about the order of a stream's own batches.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> steps = rng.standard_normal((13, 20_000))
    >>> x = steps.copy()
    >>> for t in range(1, 13):
    ...     x[t] = 0.5 * x[t - 1] + np.sqrt(0.75) * steps[t]
    >>> round(fit_correlation(x[-3:], np.ones(20_000))[0], 1)  # three batches are enough in a fleet
    0.5
    """
    n, streams = values.shape
    if n < 3 or streams == 0:
        return 0.0, 0.0
    residual = values - values.mean(axis=0)
    if streams >= 5:
        residual -= medians(residual)[:, None]
    residual /= np.sqrt(variance)
    residual -= residual.mean(axis=0)
    usual = np.abs(residual).max(axis=0) <= CLIP
    if not usual.all():
        residual, streams = residual[:, usual], int(np.count_nonzero(usual))
    if streams == 0:
        return 0.0, 0.0
    squares = float(np.mean(np.square(residual)))
    if squares <= 0.0:
        return 0.0, 0.0
    ratio = float(np.mean(residual[1:] * residual[:-1])) / squares
    return float(np.interp(ratio, _shown(n), GRID)), float(streams * (n - 2))


def fit_repetition(values: Floats, variance: Floats, season: int) -> tuple[float, float]:
    """Squared differences of the newest batch from the one a season ago, and from those at other phases.

    Parameters
    ----------
    values
        Shape (batches, streams), consecutive batch values in order of time, finite; batches > season.
    variance
        Shape (streams,), moderated variance between batches, > 0.
    season
        Batches after which the season repeats, >= 2.

    Returns
    -------
    tuple of float
        Mean squared difference at distance ``season``, and over the distances between season / 2 and season,
        both in units of the variance. One minus their ratio is the share of the variance that repeats (the
        semivariogram of geostatistics, Cressie 1993, with a periodic component).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> days = rng.standard_normal((7, 5000))
    >>> x = np.vstack([days, days])[:8] + rng.standard_normal((8, 5000))
    >>> same, other = fit_repetition(x, np.ones(5000), season=7)
    >>> round(1.0 - same / other, 1)
    0.5
    """
    newest = values[-1]
    far = range(max(1, season // 2), season)
    limit = 2.0 * CLIP**2

    def squared(distance: int) -> float:
        difference = newest - values[-1 - distance]
        difference = difference - np.median(difference)
        return float(np.mean(np.minimum(np.square(difference) / variance, limit)))

    return squared(season), float(np.mean([squared(distance) for distance in far]))


@lru_cache(maxsize=64)
def _shown(n: int) -> Floats:
    """Ratio that is expected of n batches around their own mean, for every correlation of the grid."""
    at = np.arange(n)
    centre = np.eye(n) - 1.0 / n
    made = np.empty(len(GRID))
    for i, rho in enumerate(GRID):
        covariance = centre @ (np.eye(n) if rho == 0.0 else rho ** np.abs(at[:, None] - at[None, :])) @ centre
        made[i] = np.mean(np.diag(covariance, 1)) / np.mean(np.diag(covariance))
    return made
