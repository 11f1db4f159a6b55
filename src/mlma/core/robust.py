"""What a stream's values usually look like: a centre and a scale that wild values cannot bend.

Made for one question, whether a value is absurd. It is no estimate of a standard deviation for tests.
"""

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

LEVEL_SHARE = 0.2
"""Of |median|; floor of the scale, so that a smooth series may change its level."""

MIN_DEVIATIONS = 20
"""Values unlike the median that are needed before the tail of a stream is known at all."""

WILD = 100.0
"""Times the first scale; deviations beyond it do not shape the tail."""

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
    finite = np.isfinite(y)
    stream = np.repeat(np.arange(n_streams, dtype=np.int64), n).reshape(y.shape)
    return grouped_scale(y[finite], stream[finite], n_streams, min_rows=min_rows)


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
    count = np.bincount(stream, minlength=n_streams)
    start = np.cumsum(count) - count
    known = count >= max(1, min_rows)
    center = np.full(n_streams, np.nan)
    scale = np.full(n_streams, np.nan)
    if not known.any():
        return center, scale
    ordered = y[np.lexsort((y, stream))]
    middle = _order_statistic(ordered, start, count, 0.5)
    iqr = _order_statistic(ordered, start, count, 0.75) - _order_statistic(ordered, start, count, 0.25)
    deviation = np.abs(y - middle[stream])
    ordered = deviation[np.lexsort((deviation, stream))]
    same = _count_where(deviation == 0, stream, n_streams)
    other = count - same
    d50 = _order_statistic(ordered, start + same, other, 0.5)
    d90 = _order_statistic(ordered, start + same, other, 0.9)
    level = LEVEL_SHARE * np.abs(middle)
    body = np.maximum.reduce([iqr / IQR_SD, d50 / Z50, _tail(d90, d50, Z90)])
    first = np.maximum(level, np.where(other >= MIN_DEVIATIONS, body, 0.0))
    tame = _count_where(deviation <= WILD * first[stream], stream, n_streams)
    d99 = _order_statistic(ordered, start, tame, 0.99)
    found = np.where(other >= MIN_DEVIATIONS, np.maximum(first, _tail(d99, d50, Z99)), level)
    center[known] = middle[known]
    scale[known] = np.where(found > 0, found, np.nan)[known]
    return center, scale


def _order_statistic(ordered: Floats, start: Ints, count: Ints, share: float) -> Floats:
    """Lower quantile of each group of an array sorted by group, then value; 0 for an empty group."""
    at = start + np.floor(share * np.maximum(count - 1, 0)).astype(np.int64)
    return np.where(count > 0, ordered[np.minimum(at, len(ordered) - 1)], 0.0)


def _count_where(mask: Bools, stream: Ints, n_streams: int) -> Ints:
    return np.bincount(stream[mask], minlength=n_streams)


def _tail(quantile: Floats, median: Floats, z: float) -> Floats:
    """Scale that a quantile of the deviations implies, longer when the tail is longer than a normal one."""
    ratio = np.divide(quantile, median, out=np.zeros_like(quantile), where=median > 0)
    return quantile / z * np.maximum(1.0, ratio * Z50 / z)
