"""What a stream's values usually look like: a centre and a scale that wild values cannot bend.

Made for one question, whether a value is absurd. It is no estimate of a standard deviation for tests.
"""

from typing import Protocol

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

LEVEL_SHARE = 0.2
"""Of |median|; floor of the scale, so that a smooth series may change its level."""

MIN_DEVIATIONS = 20
"""Values unlike the median that are needed before the tail of a stream is known at all."""

BLOCK_CELLS = 1 << 16
"""Values that are sorted at once."""

WILD = 100.0
"""Times the first scale; deviations beyond it do not shape the tail."""

WILD_TARGET = 20.0
"""Scales from the centre of its window beyond which a value is no example to learn from. In hourly
demand, departures, rides and trips only labelled faults were seen there; in daily retail, a few large orders."""

FEW_WILD = 0.05
"""Share of a window's values that may be wild: more of them are no fault but how the stream is now."""

MIN_WINDOW = 48
"""Values of a window before any of them is called wild."""

# Quantiles of |z| for a standard normal z: .5, .9 and .99. They make every part of the scale one sd there.
Z50, Z90, Z99 = 0.6745, 1.6449, 2.5758
IQR_SD = 1.3490


def robust_scale(y: Floats, *, min_rows: int = 2) -> tuple[Floats, Floats]:
    """Centre and scale of each stream.

    Parameters
    ----------
    y
        Shape (streams, n); NaN for missing, infinite values are ignored.
    min_rows
        Values that a stream needs; with fewer, its centre and scale are NaN.

    Returns
    -------
    tuple
        Centre and scale, each of shape (streams,); NaN where unknown.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.random.default_rng(1).normal(500, 20, (1, 400))
    >>> y[0, :8] = 1e9
    >>> center, scale = robust_scale(y)
    >>> abs(center[0] - 500) < 5, scale[0] < 150
    (np.True_, np.True_)
    """
    n_streams, n = y.shape
    center, scale = np.full(n_streams, np.nan), np.full(n_streams, np.nan)
    size = max(1, BLOCK_CELLS // max(1, n))
    for rows in (slice(at, at + size) for at in range(0, n_streams, size)):
        part = y[rows]
        values = np.where(np.isfinite(part), part, np.nan)
        center[rows], scale[rows] = _center_and_scale(_Dense(values), min_rows)
    return center, scale


def grouped_scale(y: Floats, stream: Ints, n_streams: int, *, min_rows: int = 2) -> tuple[Floats, Floats]:
    """Centre and scale of each stream from values in long form.

    The scale is the largest of: the interquartile range and the median deviation (values equal to the median
    left out, or a series that is mostly zero would have none), both as standard deviations; a share of the
    median; and two tail terms, q90 and q99 of the deviations times how much longer than a normal tail they
    are. The last one, which sees bursts that are rare, looks only at deviations below `WILD` times the others,
    so that a few per cent of wild values do not hide each other. A stream with fewer than `MIN_DEVIATIONS`
    values unlike its median is judged by its level alone, and not at all when its level is zero.

    Parameters
    ----------
    y
        Shape (n,), finite.
    stream
        Shape (n,), in [0, n_streams).
    n_streams
        Number of streams.
    min_rows
        Values that a stream needs; with fewer, its centre and scale are NaN.
    """
    return _center_and_scale(_Long(y, stream, n_streams), min_rows)


def wild(y: Floats) -> Bools:
    """Which values of a window are no examples to learn from, shape (streams, n).

    Admission judges a value by what was known when it came, and a stream's first values by nothing. A training sees
    them among all others of its window.

    Parameters
    ----------
    y
        Shape (streams, n); NaN for missing, which is never wild.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.random.default_rng(1).normal(500, 20, 400)
    >>> y[:2] = 74215
    >>> np.flatnonzero(wild(y[None]))
    array([0, 1])
    """
    center, scale = robust_scale(y, min_rows=MIN_WINDOW)
    found: Bools = np.abs(y - center[:, None]) > WILD_TARGET * scale[:, None]
    many = found.sum(axis=1) > FEW_WILD * np.isfinite(y).sum(axis=1)
    found[many] = False
    return found


class _Values(Protocol):
    """Values of each stream, sorted: those of stream ``i`` start at ``start[i]`` of ``ordered``."""

    count: Ints
    start: Ints
    ordered: Floats

    def deviations(self, middle: Floats) -> "_Values":
        """Absolute differences from each stream's ``middle``."""

    def n_up_to(self, limit: Floats) -> Ints:
        """How many values of each stream are not above its limit."""


class _Long:
    """Values in long form with their streams; lengths may differ much."""

    def __init__(self, y: Floats, stream: Ints, n_streams: int) -> None:
        self._y, self._stream = y, stream
        self.count: Ints = np.bincount(stream, minlength=n_streams)
        self.start: Ints = np.cumsum(self.count) - self.count
        self.ordered = y[np.lexsort((y, stream))]

    def deviations(self, middle: Floats) -> "_Long":
        return _Long(np.abs(self._y - middle[self._stream]), self._stream, len(self.count))

    def n_up_to(self, limit: Floats) -> Ints:
        n: Ints = np.bincount(self._stream[self._y <= limit[self._stream]], minlength=len(self.count))
        return n


class _Dense:
    """Values as one row a stream with NaN for missing: sorting rows is twenty times as fast as the long form."""

    def __init__(self, y: Floats) -> None:
        self._y = np.sort(y, axis=1)  # missing ones come last
        self.count: Ints = np.count_nonzero(~np.isnan(y), axis=1)
        self.start: Ints = np.arange(len(y), dtype=np.int64) * y.shape[1]
        self.ordered = self._y.ravel()

    def deviations(self, middle: Floats) -> "_Dense":
        return _Dense(np.abs(self._y - middle[:, None]))

    def n_up_to(self, limit: Floats) -> Ints:
        n: Ints = np.count_nonzero(self._y <= limit[:, None], axis=1)
        return n


def _center_and_scale(values: _Values, min_rows: int) -> tuple[Floats, Floats]:
    start, count = values.start, values.count
    known = count >= max(1, min_rows)
    center = np.full(len(count), np.nan)
    scale = np.full(len(count), np.nan)
    if not known.any():
        return center, scale
    middle, low, high = (_order_statistic(values.ordered, start, count, share) for share in (0.5, 0.25, 0.75))
    deviations = values.deviations(middle)
    same = deviations.n_up_to(np.zeros(len(count)))
    other = count - same
    d50 = _order_statistic(deviations.ordered, start + same, other, 0.5)
    d90 = _order_statistic(deviations.ordered, start + same, other, 0.9)
    level = LEVEL_SHARE * np.abs(middle)
    body = np.maximum.reduce([(high - low) / IQR_SD, d50 / Z50, _tail(d90, d50, Z90)])
    first = np.maximum(level, np.where(other >= MIN_DEVIATIONS, body, 0.0))
    tame = deviations.n_up_to(WILD * first)
    d99 = _order_statistic(deviations.ordered, start, tame, 0.99)
    found = np.where(other >= MIN_DEVIATIONS, np.maximum(first, _tail(d99, d50, Z99)), level)
    center[known] = middle[known]
    scale[known] = np.where(found > 0, found, np.nan)[known]
    return center, scale


def _order_statistic(ordered: Floats, start: Ints, count: Ints, share: float) -> Floats:
    """Lower quantile of each group of an array sorted by group, then value; 0 for an empty group."""
    at = start + np.floor(share * np.maximum(count - 1, 0)).astype(np.int64)
    return np.where(count > 0, ordered[np.minimum(at, len(ordered) - 1)], 0.0)


def _tail(quantile: Floats, median: Floats, z: float) -> Floats:
    """Scale that a quantile of the deviations implies, longer when the tail is longer than a normal one."""
    ratio = np.divide(quantile, median, out=np.zeros_like(quantile), where=median > 0)
    return quantile / z * np.maximum(1.0, ratio * Z50 / z)
