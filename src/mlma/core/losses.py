"""From outcomes and forecasts to the numbers that are tested: losses, batch means, log losses.

Elementwise arithmetic on arrays of streams; NaN means missing everywhere and propagates. Which batches a loss
is compared with is decided in `mlma.core.reference`, and how in `mlma.core.loss_tests`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from mlma.core.blocks import Floats, Ints
from mlma.core.settings import LossName

SMALLEST_RATE = 1e-6
"""Poisson forecasts are clipped to this from below (units of y): a forecast of zero is wrong, not infinitely so."""

FLOOR_EVENTS = 2.0
"""Typical losses that are added to a batch before its log is taken. Measured (docs/manual/loss-tests.md): the
level of 0/1 losses and counts stays within 2.5-6.5 % down to one event a batch, and other losses hardly change."""

SMALLEST_FLOOR = 1e-9
"""Floor of a stream that has not lost anything yet, in units of the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMean:
    """Mean loss of one batch per stream.

    Attributes
    ----------
    mean
        Shape (streams,), units of the loss; NaN where too few targets were scored.
    n
        Shape (streams,), scored targets, also where the mean is NaN.
    """

    mean: Floats
    n: Ints


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


def batch_mean(losses: Floats, *, min_share: float, floor_count: int = 1) -> BatchMean:
    """Mean loss of a batch per stream, where enough of its targets were scored.

    Parameters
    ----------
    losses
        Shape (streams, n), NaN where missing.
    min_share
        Share of the n targets that must be scored, in [0, 1].
    floor_count
        Targets that must be scored however small the share is.

    Returns
    -------
    BatchMean
        Its mean is NaN where fewer than max(floor_count, min_share * n) targets were scored, or none.

    Examples
    --------
    >>> batch_mean(np.array([[1.0, 3.0], [1.0, np.nan]]), min_share=0.6)
    BatchMean(mean=array([ 2., nan]), n=array([2, 1]))
    """
    present = ~np.isnan(losses)
    n = np.count_nonzero(present, axis=-1).astype(np.int64)
    # the tolerance keeps 0.07 * 100 = 7.000000000000001 from asking for an eighth target
    required = max(1.0, float(floor_count), min_share * losses.shape[-1] - 1e-9)
    total = np.sum(losses, axis=-1, where=present)
    mean = np.where(n >= required, total / np.maximum(n, 1), np.nan)
    return BatchMean(mean=mean, n=n)


def scaled(losses: Floats, naive_losses: Floats) -> Floats:
    """Mean loss as a multiple of the naive forecast's mean loss on the same targets.

    Comparable across streams of any unit, like the MASE of Hyndman and Koehler (2006) with the naive forecast
    taken on the scored targets instead of the training set.

    Parameters
    ----------
    losses, naive_losses
        Shape (..., n), NaN where missing; only targets that both have are used.

    Returns
    -------
    Floats
        Shape (...). 0/0 is 1 (both perfect), x/0 is inf; NaN where no target has both.

    Examples
    --------
    >>> scaled(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 4.0], [0.0, 0.0], [0.0, 0.0]]))
    array([0.5, 1. , inf])
    """
    both = ~(np.isnan(losses) | np.isnan(naive_losses))
    ours = np.sum(np.where(both, losses, 0.0), axis=-1)
    naive = np.sum(np.where(both, naive_losses, 0.0), axis=-1)
    ratio = np.full(ours.shape, np.inf)
    np.divide(ours, naive, out=ratio, where=naive > 0.0)
    ratio[(naive == 0.0) & (ours == 0.0)] = 1.0
    ratio[~both.any(axis=-1)] = np.nan
    return ratio


def relative_log_loss(mean_loss: Floats, yardstick: Floats | None, floor: Floats) -> Floats:
    """Log mean loss, relative to a yardstick scored on the same targets where there is one.

    The log takes out scale and most of the skew, and makes a rise of the loss by a given percentage the same
    step for every stream; the yardstick takes out hard days. The added floor (a started logarithm, Tukey 1977,
    ch. 3) keeps a batch without any loss finite and damps streams whose loss is a handful of events.

    Parameters
    ----------
    mean_loss
        Shape (streams, ...), >= 0, NaN where missing.
    yardstick
        The same shape, or None for the loss alone.
    floor
        Shape (streams,), units of the loss, > 0 and fixed for the life of a reference: values made with
        different floors are not comparable.

    Returns
    -------
    Floats
        The shape of ``mean_loss``: log(mean_loss + floor) - log(yardstick + floor); NaN where either is missing.

    Examples
    --------
    >>> relative_log_loss(np.array([2.0, 0.0]), np.array([1.0, 0.0]), np.array([1e-9, 0.1])).round(3).tolist()
    [0.693, 0.0]
    """
    added = np.asarray(floor, dtype=np.float64).reshape(-1, *([1] * (mean_loss.ndim - 1)))
    value = np.log(mean_loss + added)
    if yardstick is None:
        return np.asarray(value)
    return np.asarray(value - np.log(yardstick + added))


def log_floor(losses: Floats, *, batch: int) -> Floats:
    """Floor for `relative_log_loss` that fits a stream's own losses: a few typical events in one batch.

    The mean of a batch with few events (0/1 losses, counts, mostly-zero losses) is a small count times the size
    of an event, and the log of a small count is skewed to the left. Adding `FLOOR_EVENTS` events, each of the
    size-weighted mean size sum(l^2) / sum(l), makes it nearly symmetric; where every target has a loss it adds
    about 2 FLOOR_EVENTS / batch of the mean or less, which changes nothing.

    Parameters
    ----------
    losses
        Shape (streams, n), the stream's losses so far (one batch is enough), NaN where missing.
    batch
        Targets in one batch.

    Returns
    -------
    Floats
        Shape (streams,), > 0; `SMALLEST_FLOOR` where there is no positive loss.

    Notes
    -----
    For a Poisson count k of mean m, log(k + c) has skewness proportional to 1 - 3 m / (m + c), so any c > 0
    helps down to small m (the delta method; Anscombe, 1948, uses the same device for the square root).

    Examples
    --------
    >>> log_floor(np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, np.nan]]), batch=4).tolist()
    [0.5, 1e-09]
    """
    present = np.isfinite(losses)
    total = np.sum(losses, axis=-1, where=present)
    squares = np.sum(np.square(losses, where=present, out=np.zeros_like(losses)), axis=-1)
    size = np.zeros_like(total)
    np.divide(squares, total, out=size, where=total > 0.0)
    return np.asarray(np.maximum(FLOOR_EVENTS * size / batch, SMALLEST_FLOOR))
