"""Recalibration: the cheapest response to a version that aged, a shift and a slope of its forecasts.

Learned from the version's own forecasts after it was trained, served or in shadow, and drawn towards no change.
"""

import numpy as np

from mlma.core.blocks import Floats

N_SUMS = 6
"""Numbers that a version's past is summed up in; see `sums`."""

PSEUDO_BATCHES = 2.0
"""Batches that speak for no change."""

MEMORY = 0.5 ** (1 / 8)
"""Of the past, a batch: eight batches ago counts half."""

SMALLEST_RESIDUAL = 0.1
"""Of the median residual; floor of the residuals whose inverse weighs a row."""


def recalibrated(forecast: Floats, shift: Floats, slope: Floats) -> Floats:
    """Forecasts of shape (streams, seats, targets) with the shift and slope of their seats (streams, seats)."""
    made: Floats = shift[..., None] + slope[..., None] * forecast
    return made


def sums(y: Floats, forecast: Floats, shift: Floats, slope: Floats) -> Floats:
    """What a batch says about the shift and slope of every member's forecasts.

    Rows are weighed by the inverse of their residual under the present recalibration, one step of least absolute
    deviations a batch (Schlossmacher, 1973), so that what is learned serves the absolute loss.

    Parameters
    ----------
    y
        Outcomes, shape (streams, targets).
    forecast
        Before recalibration, shape (streams, seats, targets); NaN where missing.
    shift, slope
        Shape (streams, seats).

    Returns
    -------
    Floats
        Shape (streams, seats, 6): sums of w, w f, w f f, w g and w f g with forecasts f, errors g = y - f and
        weights w whose mean is 1, and the number of rows of a batch.
    """
    known = np.isfinite(forecast) & np.isfinite(y)[:, None, :]
    f = np.where(known, forecast, 0.0)
    g = np.where(known, y[:, None, :] - forecast, 0.0)
    size = np.where(known, np.abs(g - shift[..., None] - (slope[..., None] - 1.0) * f), np.inf)
    n = known.sum(axis=2)
    middle_at = np.maximum(n - 1, 0)[..., None] // 2
    middle = np.take_along_axis(np.sort(size, axis=2), middle_at, axis=2)
    middle = np.where(np.isfinite(middle) & (middle > 0), middle, 1.0)
    weight = np.where(known, middle / np.maximum(size, SMALLEST_RESIDUAL * middle), 0.0)
    total = weight.sum(axis=2)
    weight *= (n / np.where(total > 0, total, 1.0))[..., None]
    columns = [weight, weight * f, weight * f * f, weight * g, weight * f * g]
    return np.stack([*(column.sum(axis=2) for column in columns), n.astype(np.float64)], axis=2)


def solved(total: Floats) -> tuple[Floats, Floats]:
    """Shift and slope, each of shape (streams, seats), from sums over batches; 0 and 1 where there are none.

    Ridge regression of the errors on 1 and the forecast, in units of the forecasts' root mean square, towards zero.

    Examples
    --------
    >>> y = np.arange(1.0, 100.0)[None]
    >>> made = sums(y, (y / 2)[:, None], np.zeros((1, 1)), np.ones((1, 1)))
    >>> shift, slope = solved(10 * made * np.array([1, 1, 1, 1, 1, 0.1]))
    >>> bool(1.7 < slope[0, 0] < 2.0)
    True
    """
    w, wf, wff, wg, wfg, n_batch = np.moveaxis(total, 2, 0)
    has = (w > 0) & (wff > 0)
    unit = np.sqrt(np.where(has, wff, 1.0) / np.where(has, w, 1.0))
    penalty = PSEUDO_BATCHES * np.where(has, n_batch, 1.0)
    a11, a12, a22 = w + penalty, wf / unit, wff / unit**2 + penalty
    b1, b2 = wg, wfg / unit
    determinant = a11 * a22 - a12**2
    determinant = np.where(determinant > 0, determinant, 1.0)
    shift = (a22 * b1 - a12 * b2) / determinant
    more = (a11 * b2 - a12 * b1) / determinant / unit
    return np.where(has, shift, 0.0), np.where(has, 1.0 + more, 1.0)


def after(total: Floats, batch: Floats) -> Floats:
    """Sums after one more batch, shape (streams, seats, 6); a batch without forecasts changes nothing."""
    has = batch[..., 5:] > 0
    made = MEMORY * total + batch
    made[..., 5] = batch[..., 5]
    return np.where(has, made, total)
