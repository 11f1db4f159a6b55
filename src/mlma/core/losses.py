"""From outcomes and forecasts to losses: elementwise arithmetic, in which NaN means missing and propagates.

A batch of them is reduced in `mlma.core.batch_summary`. Which batches it is compared with is decided in
`mlma.core.reference`, and how in `mlma.core.loss_tests`.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from mlma.core.blocks import Floats
from mlma.core.settings import LossName

SMALLEST_RATE = 1e-6
"""Poisson forecasts are clipped to this from below (units of y): a forecast of zero is wrong, not infinitely so."""


def loss(name: LossName, y: ArrayLike, forecast: ArrayLike, *, quantile: float = 0.5) -> Floats:
    """Loss of each forecast against its outcome.

    Parameters
    ----------
    name
        Absolute |y - f|; squared (y - f)^2; pinball, the loss whose minimiser is a quantile (Koenker and
        Bassett, 1978), which at 0.5 is half the absolute loss; Poisson, the unit deviance
        2 (y log(y / f) - (y - f)) (McCullagh and Nelder, 1989, table 2.1), for counts.
    y
        Outcomes; NaN where missing. Negative outcomes have no Poisson deviance: their loss is NaN.
    forecast
        Forecasts, broadcast against ``y``; NaN where missing. For Poisson clipped to `SMALLEST_RATE`.
    quantile
        Of the pinball loss, in (0, 1).

    Returns
    -------
    Floats
        The broadcast shape; >= 0, NaN where outcome or forecast is missing.

    Examples
    --------
    >>> loss(LossName.ABSOLUTE, [3.0, np.nan], [5.0, 1.0]).tolist()
    [2.0, nan]
    >>> loss(LossName.PINBALL, [3.0, 7.0], [5.0, 5.0], quantile=0.9).round(3).tolist()
    [0.2, 1.8]
    >>> loss(LossName.POISSON, [0.0, 2.0, -1.0], 2.0).tolist()
    [4.0, 0.0, nan]
    """
    outcome = np.asarray(y, dtype=np.float64)
    predicted = np.asarray(forecast, dtype=np.float64)
    match name:
        case LossName.ABSOLUTE:
            return np.asarray(np.abs(outcome - predicted))
        case LossName.SQUARED:
            return np.asarray(np.square(outcome - predicted))
        case LossName.PINBALL:
            error = outcome - predicted
            return np.asarray(np.maximum(quantile * error, (quantile - 1.0) * error))
        case LossName.POISSON:
            rate = np.maximum(predicted, SMALLEST_RATE)
            counts = np.where(outcome < 0.0, np.nan, outcome)
            deviance = 2.0 * (xlogy(counts, counts / rate) - (counts - rate))
            return np.asarray(np.maximum(deviance, 0.0))  # rounding may leave -1e-16 where y equals f
