"""Upper tail of Student's t for a whole fleet: exact where it decides, a table where nobody looks."""

from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtr

from mlma.core.blocks import Floats

EXACT_BELOW = 0.02
"""Probabilities below this are computed exactly."""

STEP = 1.0 / 128.0
REACH = 8.0

FEW = 4000
"""Values below which a table costs more than it saves."""


def upper_tail(t: Floats, df: float) -> Floats:
    """P(T > t) with ``df`` degrees of freedom, elementwise.

    Parameters
    ----------
    t
        Any shape; NaN propagates, infinities are fine.
    df
        Degrees of freedom, > 0; infinite for the normal distribution.

    Returns
    -------
    Floats
        The shape of ``t``. Probabilities below `EXACT_BELOW` are those of SciPy; larger ones are interpolated
        linearly in a table of steps of 1 / 128 (error below 2e-6), which is ten times as fast; a few values are not.

    Examples
    --------
    >>> upper_tail(np.array([0.0, 2.0, 30.0]), 5.0).round(6).tolist()
    [0.5, 0.05097, 0.0]
    """
    if t.size < FEW:
        return np.asarray(ndtr(-t) if np.isinf(df) else stdtr(df, -t))
    table, cut = _table(df)
    position = np.clip((t + REACH) * (1.0 / STEP), 0.0, len(table) - 2.0)
    low = np.nan_to_num(position, nan=0.0).astype(np.int64)
    p = table[low]
    p += (position - low) * (table[low + 1] - p)
    tail = np.flatnonzero((t > cut) | (t < -REACH))
    p[tail] = ndtr(-t[tail]) if np.isinf(df) else stdtr(df, -t[tail])
    return p


@lru_cache(maxsize=64)
def _table(df: float) -> tuple[Floats, float]:
    grid = np.arange(-REACH, REACH + STEP, STEP)
    p = np.asarray(ndtr(-grid) if np.isinf(df) else stdtr(df, -grid), dtype=np.float64)
    above = np.flatnonzero(p < EXACT_BELOW)
    return p, float(grid[above[0]]) if len(above) else REACH - STEP
