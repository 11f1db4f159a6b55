"""Loss tests that use only the order of single losses: Mann-Whitney and Kolmogorov-Smirnov.

Arrays of shape (streams, n), NaN where missing. Selectable beside the default in `mlma.core.loss_tests`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_test_result import LossTestResult

CHUNK = 1 << 20
"""Losses that are sorted at a time; bounds the memory of the sort and its ranks to some 100 MB."""


def mann_whitney(recent: Floats, reference: Floats, *, min_n: int = 8) -> LossTestResult:
    """Test whether a recent loss is larger than a reference loss more often than not (Mann-Whitney).

    Parameters
    ----------
    recent
        Shape (streams, n), NaN where missing.
    reference
        Shape (streams, N), NaN where missing.
    min_n
        Fewest losses on each side, >= 1; the default is what the normal approximation needs.

    Returns
    -------
    LossTestResult
        The statistic is U of the recent losses (pairs won, ties count half). Not ready where either side has
        fewer losses.

    Notes
    -----
    Normal approximation with correction for ties and continuity, equal to
    ``scipy.stats.mannwhitneyu(recent, reference, alternative="greater", method="asymptotic")``. Assumes
    independent losses. Source: Mann and Whitney (1947), On a test of whether one of two random variables is
    stochastically larger than the other; ties after Hollander and Wolfe (1999), section 4.1.

    Examples
    --------
    >>> result = mann_whitney(np.array([[4.0, 5.0, 6.0]]), np.array([[1.0, 2.0, 3.0]]), min_n=3)
    >>> result.statistic.tolist(), result.p_value.round(4).tolist()
    ([9.0], [0.0404])
    """
    return _in_chunks(_mann_whitney, recent, reference, max(1, min_n))


def kolmogorov_smirnov(recent: Floats, reference: Floats, *, min_n: int = 8) -> LossTestResult:
    """Test whether the recent losses are stochastically larger somewhere (Kolmogorov-Smirnov).

    Parameters
    ----------
    recent
        Shape (streams, n), NaN where missing.
    reference
        Shape (streams, N), NaN where missing.
    min_n
        Fewest losses on each side, >= 1.

    Returns
    -------
    LossTestResult
        The statistic is the largest amount by which the distribution function of the reference lies above that
        of the recent losses. Not ready where either side has fewer losses.

    Notes
    -----
    Asymptotic p-value with Hodges' correction, equal to
    ``scipy.stats.ks_2samp(recent, reference, alternative="less", method="asymp")``. Assumes independent losses
    of a continuous distribution; ties make it conservative. Source: Hodges (1958), The significance
    probability of the Smirnov two-sample test, eq. 5.3.

    Examples
    --------
    >>> result = kolmogorov_smirnov(np.array([[4.0, 5.0, 6.0]]), np.array([[1.0, 2.0, 3.0]]), min_n=3)
    >>> result.statistic.tolist(), result.p_value.round(4).tolist()
    ([1.0], [0.0183])
    """
    return _in_chunks(_kolmogorov_smirnov, recent, reference, max(1, min_n))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """Both sides together in ascending order, missing losses last, arrays of shape (streams, n + N).

    ``starts`` and ``ends`` mark the first and the last loss of each group of equal losses.
    """

    is_recent: Bools
    is_reference: Bools
    starts: Bools
    ends: Bools
    n_recent: Ints  # (streams,)
    n_reference: Ints  # (streams,)


def _sort(recent: Floats, reference: Floats) -> _Sorted:
    both = np.concatenate([recent, reference], axis=1)
    order = np.argsort(both, axis=1)
    value = np.take_along_axis(both, order, axis=1)
    present = ~np.isnan(value)
    is_recent = order < recent.shape[1]
    starts = np.ones(value.shape, dtype=np.bool_)
    starts[:, 1:] = value[:, 1:] != value[:, :-1]
    ends = np.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    return _Sorted(
        is_recent=present & is_recent,
        is_reference=present & ~is_recent,
        starts=starts,
        ends=ends,
        n_recent=np.count_nonzero(present & is_recent, axis=1).astype(np.int64),
        n_reference=np.count_nonzero(present & ~is_recent, axis=1).astype(np.int64),
    )


def _mann_whitney(recent: Floats, reference: Floats, min_n: int) -> LossTestResult:
    both = _sort(recent, reference)
    n1, n2 = both.n_recent.astype(np.float64), both.n_reference.astype(np.float64)
    n = n1 + n2
    at = np.arange(both.starts.shape[1], dtype=np.int64)
    first: Ints = np.maximum.accumulate(np.where(both.starts, at, 0), axis=1)
    last: Ints = np.minimum.accumulate(np.where(both.ends, at, at.size)[:, ::-1], axis=1)[:, ::-1]
    midrank = 0.5 * (first + last) + 1.0
    u = np.sum(midrank, axis=1, where=both.is_recent) - n1 * (n1 + 1.0) / 2.0
    size = (last - first + 1).astype(np.float64)
    # each of the t losses of a group adds t^2 - 1, so the group adds t^3 - t
    ties = np.sum(size**2 - 1.0, axis=1, where=both.is_recent | both.is_reference)
    pairs = np.maximum(n * (n - 1.0), 1.0)
    spread = np.sqrt(n1 * n2 / 12.0 * np.maximum(n + 1.0 - ties / pairs, 0.0))
    z = np.full(u.shape, -np.inf)  # all losses equal: nothing is larger
    np.divide(u - n1 * n2 / 2.0 - 0.5, spread, out=z, where=spread > 0.0)
    ready = np.asarray((both.n_recent >= min_n) & (both.n_reference >= min_n))
    return _result(u, ndtr(-z), ready)


def _kolmogorov_smirnov(recent: Floats, reference: Floats, min_n: int) -> LossTestResult:
    ascending = np.sort(recent, axis=1)  # missing losses last
    present = ~np.isnan(ascending)
    n_recent, n_reference = (np.count_nonzero(~np.isnan(x), axis=1).astype(np.int64) for x in (recent, reference))
    n1, n2 = (np.maximum(n, 1).astype(np.float64) for n in (n_recent, n_reference))
    # the gap rises with reference losses and falls with recent ones: it is largest just before one of these
    before = _n_smaller(np.sort(reference, axis=1), ascending)
    gap = before / n2[:, None] - np.arange(recent.shape[1]) / n1[:, None]
    d = np.max(gap, axis=1, where=present, initial=0.0)
    larger, smaller = np.maximum(n1, n2), np.minimum(n1, n2)
    z = np.sqrt(larger * smaller / (larger + smaller)) * d
    correction = 2.0 * z * (larger + 2.0 * smaller) / np.sqrt(larger * smaller * (larger + smaller)) / 3.0
    p = np.clip(np.exp(-2.0 * z**2 - correction), 0.0, 1.0)
    ready = np.asarray((n_recent >= min_n) & (n_reference >= min_n))
    return _result(d, p, ready)


def _n_smaller(ascending: Floats, x: Floats) -> Ints:
    """How many values of its row are smaller than each x: a bisection of all rows at once.

    Parameters
    ----------
    ascending
        Shape (streams, N), every row in ascending order, NaN last.
    x
        Shape (streams, n).

    Returns
    -------
    Ints
        Shape (streams, n); 0 for NaN.
    """
    n = ascending.shape[1]
    if not ascending.size:
        return np.zeros(x.shape, dtype=np.int64)
    values = ascending.ravel()
    first = n * np.arange(len(x), dtype=np.int64)[:, None]
    at = np.repeat(first, x.shape[1], axis=1)
    while n > 1:  # the place is one of the n from ``at`` on
        half = n // 2
        at += half * (values[at + (half - 1)] < x)
        n -= half
    return np.asarray(at - first + (values[at] < x))


def _result(statistic: Floats, p_value: Floats, ready: Bools) -> LossTestResult:
    return LossTestResult(
        statistic=np.where(ready, statistic, np.nan), p_value=np.where(ready, p_value, np.nan), ready=ready
    )


def _in_chunks(
    test: Callable[[Floats, Floats, int], LossTestResult], recent: Floats, reference: Floats, min_n: int
) -> LossTestResult:
    rows = max(1, CHUNK // max(1, recent.shape[1] + reference.shape[1]))
    parts = [
        test(recent[start : start + rows], reference[start : start + rows], min_n)
        for start in range(0, max(1, len(recent)), rows)
    ]
    return LossTestResult(
        statistic=np.concatenate([part.statistic for part in parts]),
        p_value=np.concatenate([part.p_value for part in parts]),
        ready=np.concatenate([part.ready for part in parts]),
    )
