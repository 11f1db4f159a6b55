"""The past of a shard as one dense array, and means over windows of it.

Sums are taken window by window in a fixed order, never as differences of running totals: a large level does
not cancel digits, and a value does not depend on which slots happen to be in memory around its window.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mlma.core.blocks import Floats


def padded(y: Floats, *, start: int, lo: int, hi: int) -> Floats:
    """Copy the slots ``lo .. hi - 1`` out of an array whose column ``j`` is slot ``start + j``.

    Parameters
    ----------
    y
        Shape (S, T); NaN means missing.
    start
        Slot of the first column.
    lo, hi
        First slot and end of what is wanted; ``lo <= hi``.

    Returns
    -------
    Floats
        Shape (S, hi - lo), C-contiguous; NaN where ``y`` has no such slot.

    Examples
    --------
    >>> padded(np.array([[1.0, 2.0, 3.0]]), start=10, lo=9, hi=12)
    array([[nan,  1.,  2.]])
    """
    out = np.full((len(y), hi - lo), np.nan)
    left, right = max(lo, start), min(hi, start + y.shape[1])
    if left < right:
        out[:, left - lo : right - lo] = y[:, left - start : right - start]
    return out


def divided(total: Floats, count: Floats) -> Floats:
    """Quotient of two arrays of equal shape; NaN where nothing was counted."""
    quotient = np.full(total.shape, np.nan)
    np.divide(total, count, out=quotient, where=count > 0)
    return quotient


def window_means(past: Floats, *, step: int, unit: int, factors: Sequence[int]) -> list[Floats]:
    """Mean of what is known in nested windows: ``unit`` slots, then ``factors[0]`` times that, and so on.

    Parameters
    ----------
    past
        Shape (S, T), C-contiguous; NaN means missing.
    step
        Slots between the starts of neighbouring windows; divides ``unit``.
    unit
        Slots of the smallest window.
    factors
        How many windows of one size make the next one.

    Returns
    -------
    list of Floats
        One array a window size, shape (S, windows that fit); column ``j`` is the window that starts at slot
        ``j * step``; NaN where a window holds no value.

    Examples
    --------
    >>> window_means(np.array([[1.0, np.nan, 3.0, 4.0]]), step=1, unit=1, factors=(2,))[1]
    array([[1. , 3. , 3.5]])
    """
    known = np.isfinite(past)
    with np.errstate(over="ignore"):  # a poison stream may sum to infinity; it takes out only itself
        total = _windows(np.where(known, past, 0.0), step, unit)
        count = _windows(known.astype(np.float64), step, unit)
        means = [divided(total, count)]
        width = unit
        for factor in factors:
            total = _joined(total, factor, width // step)
            count = _joined(count, factor, width // step)
            width *= factor
            means.append(divided(total, count))
    return means


def _windows(values: Floats, step: int, unit: int) -> Floats:
    """Return sums of ``unit`` neighbouring columns, starting at every ``step``-th column."""
    windows: Floats = sliding_window_view(values, unit, axis=1)[:, ::step]
    total: Floats = windows.sum(axis=2)
    return total


def _joined(sums: Floats, factor: int, shift: int) -> Floats:
    """Return sums of ``factor`` columns that lie ``shift`` apart."""
    n = sums.shape[1] - (factor - 1) * shift
    joined = sums[:, :n].copy()
    for i in range(1, factor):
        joined += sums[:, i * shift : i * shift + n]
    return joined
