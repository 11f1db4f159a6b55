"""Which past batches a recent batch is compared with, and their mean and spread.

Arrays of shape (streams, batches), time ascending. The recent batch itself is never among them: the caller
passes past batches only. How the comparison is made is decided in `mlma.core.loss_tests`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.settings import ReferencePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the reference batches of each stream say, all arrays of shape (streams,).

    Attributes
    ----------
    mean
        Of the batch values; NaN without a batch.
    variance
        Between the batches (divisor m - 1); NaN with fewer than two.
    m
        Number of batches.
    """

    mean: Floats
    variance: Floats
    m: Ints


def membership(x: Floats, batches: Ints, since: Ints, *, policy: ReferencePolicy, size: int) -> Bools:
    """Past batches that belong to the adaptive reference of each stream.

    Parameters
    ----------
    x
        Shape (streams, batches), value of each past batch; what is not finite never belongs.
    batches
        Shape (batches,), batch numbers, ascending.
    since
        Shape (streams,); only batches after this one belong (the last change of the serving version).
    policy
        POOLED: the newest ``size``. FIXED: the first ``size``. SLIDING: the newest ``size // 2``. BEST: the
        ``size // 2`` consecutive valid batches with the lowest mean (the newest such run), all of them while
        there are fewer. Halves are at least 2.
    size
        In batches, >= 1.

    Returns
    -------
    Bools
        Shape (streams, batches).

    Notes
    -----
    BEST chooses its batches by what is tested afterwards, so a healthy batch looks worse than it is: a test
    against it does not keep its level (the manual has the figures). The other policies choose by time alone.

    Examples
    --------
    >>> x = np.array([[3.0, 1.0, np.nan, 1.0, 5.0]])
    >>> at = np.arange(5)
    >>> membership(x, at, np.array([-1]), policy=ReferencePolicy.BEST, size=4).astype(int).tolist()
    [[0, 1, 0, 1, 0]]
    """
    valid = _valid(x, batches, since)
    rank = _rank(valid)
    total = np.count_nonzero(valid, axis=1)[:, None]
    half = max(2, size // 2)
    match policy:
        case ReferencePolicy.POOLED:
            return np.asarray(valid & (rank > total - size))
        case ReferencePolicy.FIXED:
            return np.asarray(valid & (rank <= size))
        case ReferencePolicy.SLIDING:
            return np.asarray(valid & (rank > total - half))
        case ReferencePolicy.BEST:
            start = _best_start(x, valid, half)[:, None]
            return np.asarray(valid & (rank > start) & (rank <= start + half))


def anchored_membership(x: Floats, batches: Ints, since: Ints, *, size: int) -> Bools:
    """Past batches that belong to the anchored reference: the first ``size`` valid ones after ``since``.

    Parameters
    ----------
    x, batches, since
        As in `membership`; ``since`` is the last promotion.
    size
        In batches; 0 for no anchored reference.

    Returns
    -------
    Bools
        Shape (streams, batches).
    """
    valid = _valid(x, batches, since)
    return np.asarray(valid & (_rank(valid) <= size))


def summarise(x: Floats, members: Bools) -> Reference:
    """Mean, variance and number of the members of each stream.

    Two passes on values shifted by the first member, so an offset far larger than the spread loses no digits
    and equal values have a variance of exactly zero.

    Parameters
    ----------
    x
        Shape (streams, batches), finite where a member.
    members
        Shape (streams, batches).

    Returns
    -------
    Reference
        Arrays of shape (streams,).

    Examples
    --------
    >>> summarise(np.array([[1.0, 3.0, 9.0]]), np.array([[True, True, False]]))
    Reference(mean=array([2.]), variance=array([2.]), m=array([2]))
    """
    m = np.count_nonzero(members, axis=1).astype(np.int64)
    mean, variance = np.full(len(x), np.nan), np.full(len(x), np.nan)
    some = m > 0
    values, k = x[members], m[some]  # row by row, the members alone: most batches are none
    if len(k):
        start = np.cumsum(k) - k
        first = values[start]
        shifted = values - np.repeat(first, k)
        centre = np.add.reduceat(shifted, start) / k
        residual = shifted - np.repeat(centre, k)
        spread = np.add.reduceat(np.square(residual), start) / np.maximum(k - 1, 1)
        mean[some], variance[some] = first + centre, np.where(k > 1, spread, np.nan)
    return Reference(mean=mean, variance=variance, m=m)


def means(x: Floats, members: Bools) -> Floats:
    """Mean of the members of each stream, NaN without any, shape (streams,).

    Parameters
    ----------
    x
        Shape (streams, batches), finite where a member.
    members
        Shape (streams, batches).

    Examples
    --------
    >>> means(np.array([[1.0, 3.0, 9.0], [1.0, 2.0, 3.0]]), np.array([[True, True, False], [False] * 3])).tolist()
    [2.0, nan]
    """
    m = np.count_nonzero(members, axis=1)
    mean = np.full(len(x), np.nan)
    some = m > 0
    k = m[some]
    if len(k):
        mean[some] = np.add.reduceat(x[members], np.cumsum(k) - k) / k
    return mean


def joined(parts: Sequence[Reference]) -> Reference:
    """References of several groups of streams as one."""
    return Reference(
        mean=np.concatenate([part.mean for part in parts]),
        variance=np.concatenate([part.variance for part in parts]),
        m=np.concatenate([part.m for part in parts]),
    )


def _valid(x: Floats, batches: Ints, since: Ints) -> Bools:
    return np.asarray(np.isfinite(x) & (batches[None, :] > since[:, None]))


def _rank(valid: Bools) -> NDArray[np.int32]:
    """How many valid batches a stream has up to and with each; 32 bits are nine times as fast as 64."""
    return np.cumsum(valid, axis=1, dtype=np.int32)


def _best_start(x: Floats, valid: Bools, width: int) -> Ints:
    """Count the valid batches before the newest run of ``width`` with the lowest mean; 0 while there are fewer."""
    if x.shape[1] < width:
        return np.zeros(len(x), dtype=np.int64)
    order = np.argsort(~valid, axis=1, kind="stable")  # valid batches first, in order of time
    compact = np.take_along_axis(np.where(valid, x, np.inf), order, axis=1)
    sums = sliding_window_view(compact, width, axis=1).sum(axis=2)
    newest_lowest = sums.shape[1] - 1 - np.argmin(sums[:, ::-1], axis=1)
    return np.where(np.count_nonzero(valid, axis=1) >= width, newest_lowest, 0).astype(np.int64)
