"""Upper tail of Student's t for a whole fleet, from a table of its logarithm."""

from functools import lru_cache

import numpy as np
from scipy.special import gammaln, ndtr, stdtr

from mlma.core.blocks import Floats, Ints

REACH = 8.0
"""Values beyond this are not looked up but computed."""

STEP = 1.0 / 128.0
"""Of the table. The second derivative of log P(T > t) lies between -1 and 0.5, so that straight lines between its
values are off by less than 8e-6, whatever t."""

COARSE = 16
"""Steps between two values that are computed; those between are cubics (Hermite), off by less than 1e-6."""

FEW = 1000
"""Values below which a table costs more than it saves."""

EXPANDED = 30.0
"""Degrees of freedom from which on the expansion for single ones is near enough."""

BLOCK = 32_768
"""Values that are looked up at once (measured): what is made of them on the way stays in the cache."""


def upper_tail(t: Floats, df: float | Floats, which: Ints | None = None) -> Floats:
    """P(T > t) of Student's t, elementwise.

    Parameters
    ----------
    t
        Shape (n,); NaN propagates, infinities are fine.
    df
        Degrees of freedom, > 0; infinite for the normal distribution. May have shape (kinds,).
    which
        Shape (n,), the position in ``df`` that holds for each value; None when the first one holds for all.

    Returns
    -------
    Floats
        Shape (n,). Those of SciPy for a few values and beyond `REACH`; else within 1e-5 of them, relative, however
        small they are, which is many times as fast.

    Examples
    --------
    >>> upper_tail(np.array([0.0, 2.0, 30.0]), 5.0).round(6).tolist()
    [0.5, 0.05097, 0.0]
    """
    df = np.array(df, dtype=np.float64, ndmin=1)
    if t.size < FEW:
        return _computed(t, df[0] if which is None else df[which])
    line, slope = _tables(tuple(df.tolist()))
    p = np.empty(t.size)
    room, low = np.empty(min(t.size, BLOCK)), np.empty(min(t.size, BLOCK), dtype=np.int64)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and what is beyond the table are computed below
        for start in range(0, t.size, BLOCK):
            made = np.add(t[start : start + BLOCK], REACH, out=p[start : start + BLOCK])
            made *= 1.0 / STEP
            at, part = low[: len(made)], room[: len(made)]
            np.copyto(at, made, casting="unsafe")
            if which is not None:
                at += which[start : start + BLOCK] * line.shape[1]
            made *= slope.take(at, out=part, mode="clip")
            made += line.take(at, out=part, mode="clip")
            np.exp(made, out=made)
    if t.min() > -REACH and t.max() < REACH:
        return p
    beyond = np.flatnonzero(~(np.abs(t) < REACH))
    p[beyond] = _computed(t[beyond], df[0] if which is None else df[which[beyond]])
    return p


def upper_tails(t: Floats, df: Floats) -> Floats:
    """P(T > t) of Student's t, elementwise, each value with its own degrees of freedom.

    Parameters
    ----------
    t
        Shape (n,); NaN propagates, infinities are fine.
    df
        Shape (n,), > 0; infinite for the normal distribution.

    Returns
    -------
    Floats
        Shape (n,). Those of SciPy for a few values, below `EXPANDED` degrees of freedom and beyond `REACH`; else
        within 2e-12 of them, and within 1e-7 relative, in a quarter of the time.

    Notes
    -----
    Source: Hill (1970), Algorithm 395: Student's t-distribution, Communications of the ACM 13; the expansion that takes
    t to a normal score.

    Examples
    --------
    >>> upper_tails(np.array([0.0, 2.0, 30.0]), np.array([5.0, 5.0, np.inf])).round(6).tolist()
    [0.5, 0.05097, 0.0]
    """
    if t.size < FEW:
        return _computed(t, df)
    p = np.empty(t.size)
    with np.errstate(invalid="ignore", over="ignore"):  # what is beyond the expansion is computed below
        for start in range(0, t.size, BLOCK):
            part = slice(start, start + BLOCK)
            p[part] = ndtr(_normal_score(t[part], df[part]))
        others = np.flatnonzero(~((np.abs(t) < REACH) & (df >= EXPANDED) & (df < np.inf)))
    p[others] = _computed(t[others], df[others])
    return p


def _normal_score(t: Floats, df: Floats) -> Floats:
    """Score below which a normal variable is as often as Student's is above t."""
    a = df - 0.5
    b = 48.0 * a * a
    y = a * np.log1p(t * t / df)
    numerator = ((-0.4 * y - 3.3) * y - 24.0) * y - 85.5
    score = (numerator / (0.8 * y * y + 100.0 + b) + y + 3.0) / b + 1.0
    return np.asarray(np.copysign(score * np.sqrt(y), -t))


def _computed(t: Floats, df: float | Floats) -> Floats:
    is_normal = np.isinf(df)
    if is_normal.all():
        return np.asarray(ndtr(-t), dtype=np.float64)
    made = stdtr(np.where(is_normal, 1.0, df), -t)
    return np.asarray(np.where(is_normal, ndtr(-t), made) if is_normal.any() else made, dtype=np.float64)


@lru_cache(maxsize=64)
def _tables(df: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Lines through the logarithms of the upper tails, shape (kinds, steps): their values at -REACH, and slopes."""
    kinds = np.asarray(df)[:, None]
    width = STEP * COARSE
    at = np.arange(0.0, REACH + width / 2.0, width)
    right, density = _computed(np.broadcast_to(at, (len(df), len(at))), kinds), np.exp(_log_density(at, kinds))
    tail = np.hstack([1.0 - right[:, :0:-1], right])  # the density is even
    log_p, slope = np.log(tail), -width * np.hstack([density[:, :0:-1], density]) / tail
    corners = np.stack([log_p[:, :-1], log_p[:, 1:], slope[:, :-1], slope[:, 1:]], axis=2)
    made = np.hstack([(corners @ _hermite().T).reshape(len(df), -1), log_p[:, -1:]])
    change = np.zeros(made.shape)
    np.subtract(made[:, 1:], made[:, :-1], out=change[:, :-1])
    made -= np.arange(made.shape[1]) * change
    return made, change


def _log_density(t: Floats, df: Floats) -> Floats:
    finite = np.where(np.isinf(df), 1.0, df)
    constant = gammaln((finite + 1.0) / 2.0) - gammaln(finite / 2.0) - 0.5 * np.log(finite * np.pi)
    made = constant - (finite + 1.0) / 2.0 * np.log1p(np.square(t) / finite)
    return np.where(np.isinf(df), -0.5 * (np.square(t) + np.log(2.0 * np.pi)), made)


@lru_cache(maxsize=1)
def _hermite() -> Floats:
    """Cubic Hermite weights of the values and the slopes at both ends, shape (COARSE, 4)."""
    x = np.arange(COARSE) / COARSE
    return np.stack([(1 + 2 * x) * (1 - x) ** 2, x**2 * (3 - 2 * x), x * (1 - x) ** 2, x**2 * (x - 1)], axis=1)
