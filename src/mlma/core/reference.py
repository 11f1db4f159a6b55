"""Which past batches a recent batch is compared with.

Arrays of shape (streams, batches), time ascending. The recent batch itself is never among them: the caller
passes past batches only. What they predict is computed in `mlma.core.prediction`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.settings import ReferencePolicy


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
