"""Scores that lean to one side: the expansion of Cornish and Fisher, up to the skewness."""

import numpy as np
from scipy.special import ndtr, ndtri

from mlma.core.blocks import Floats

FARTHEST = 4.0
"""Score beyond which the correction does not grow."""

LOUD = 0.2
"""p-values above this are left as they are: nobody asks for them."""

SMALLEST = 1e-300


def unskewed(score: Floats, skewness: float) -> Floats:
    """Normal scores from scores of unit variance with a skewness, elementwise; NaN stays NaN.

    Parameters
    ----------
    score
        Of any shape.
    skewness
        In [-0.6, 0.6], where the correction keeps the order of scores.

    Notes
    -----
    The inverse of the expansion of Cornish and Fisher (1938), Moments and cumulants in the specification of
    distributions, up to the third cumulant.

    Examples
    --------
    >>> unskewed(np.array([-2.0, 0.0, 2.0]), 0.3).round(2).tolist()
    [-2.15, 0.05, 1.85]
    """
    if skewness == 0.0:
        return score
    near = np.clip(score, -FARTHEST, FARTHEST)
    made: Floats = score - skewness / 6.0 * (np.square(near) - 1.0)
    return made


def unskewed_p(p_value: Floats, skewness: float) -> Floats:
    """One-sided p-values of scores with a skewness, from those that take them for normal.

    Parameters
    ----------
    p_value
        Shape (streams,), NaN for none; those above `LOUD` stay as they are.
    skewness
        As for `unskewed`.

    Examples
    --------
    >>> unskewed_p(np.array([0.01, 0.5, np.nan]), -0.3).round(4).tolist()
    [0.0054, 0.5, nan]
    """
    some = np.flatnonzero(p_value <= LOUD)
    if skewness == 0.0 or not len(some):
        return p_value
    made: Floats = np.array(p_value)
    made[some] = ndtr(-unskewed(-ndtri(np.maximum(p_value[some], SMALLEST)), skewness))
    return made
