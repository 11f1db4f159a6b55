"""What a loss test answers, and the rule that all tests share: one-sided, too little data is not an error."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.core.student import upper_tails

EQUAL = 1e-12
"""Relative difference below which two means count as equal when there is no spread to judge them by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTestResult:
    """Outcome of one test per stream, all arrays of shape (streams,).

    Attributes
    ----------
    statistic
        Grows with the loss; NaN when not ready.
    p_value
        One-sided, small when the recent loss is larger than the reference; in [0, 1], NaN when not ready.
    ready
        Whether there was enough data to test.
    """

    statistic: Floats
    p_value: Floats
    ready: Bools


def studentised(difference: Floats, spread: Floats, df: Floats, *, scale: Floats, ready: Bools) -> LossTestResult:
    """One-sided test of a difference by its standard error, with Student's t or the normal distribution.

    Parameters
    ----------
    difference
        Shape (streams,), recent minus reference.
    spread
        Shape (streams,), standard error of the difference. Where it is zero nothing varies and every rise is
        beyond chance: p is 0 if the difference exceeds `EQUAL` times ``scale``, else 1. Not ready where it is beyond
        the range of floating point.
    df
        Shape (streams,), degrees of freedom; infinite means the normal distribution.
    scale
        Shape (streams,), magnitude of what was compared.
    ready
        Shape (streams,).

    Returns
    -------
    LossTestResult
        Arrays of shape (streams,).
    """
    varies = spread > 0.0
    usable = ready & ~np.isnan(difference) & np.isfinite(spread)
    if varies.all() and usable.all():
        t = difference / spread
        return _result(t, upper_tails(t, df), ready=usable & ~np.isnan(t))
    rises = difference > EQUAL * scale
    t = np.where(rises, np.inf, np.where(difference < -EQUAL * scale, -np.inf, 0.0))
    np.divide(difference, spread, out=t, where=varies)
    p = np.where(rises, 0.0, 1.0)
    tested = np.flatnonzero(varies & usable)
    p[tested] = upper_tails(t[tested], df[tested])
    return _result(t, p, ready=usable & ~np.isnan(t))


def _result(t: Floats, p: Floats, *, ready: Bools) -> LossTestResult:
    if not ready.all():
        t, p = np.where(ready, t, np.nan), np.where(ready, p, np.nan)
    return LossTestResult(statistic=t, p_value=p, ready=ready)
