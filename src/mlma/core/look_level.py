"""How strict each of several looks at growing evidence must be, so that all of them together keep one promise."""

from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from mlma.core.blocks import Floats

POINTS = 241
"""Grid of the score between looks; twice as many change the level by less than 1e-5."""


@cache
def look_level(alpha: float, looks: int, rho: float = 0.0) -> float:
    """One-sided level of each look at which the probability of crossing at any of them is ``alpha``.

    Parameters
    ----------
    alpha
        Promised for all looks together, in (0, 0.5).
    looks
        At least 1; one after each batch.
    rho
        Correlation of neighbouring batches (AR(1)), in [0, 1): the first batch tells more than the later ones.

    Notes
    -----
    A constant boundary (Pocock, 1977) for a normal score with independent increments of the given information,
    by recursive integration of its density over what has not crossed yet (Armitage, McPherson and Rowe, 1969).

    Examples
    --------
    >>> look_level(0.05, 1), round(look_level(0.05, 8), 4)
    (0.05, 0.013)
    """
    if looks == 1:
        return alpha
    information = np.append(1.0 - rho**2, np.full(looks - 1, (1.0 - rho) ** 2))

    def excess(z: float) -> float:
        return _crossing(z, information) - alpha

    return float(ndtr(-brentq(excess, -ndtri(alpha), -ndtri(alpha / looks), xtol=1e-6)))


def _crossing(z: float, information: Floats) -> float:
    """Probability that the score ever exceeds ``z`` of its standard deviations; increments in ``information``."""
    total = np.cumsum(information)
    crossed = float(ndtr(-z))
    grid = np.linspace(-8.0 * np.sqrt(total[0]), z * np.sqrt(total[0]), POINTS)
    density = np.exp(-np.square(grid) / (2.0 * total[0])) / np.sqrt(2.0 * np.pi * total[0])
    for step, so_far in zip(information[1:], total[1:], strict=True):
        bound, sd = z * np.sqrt(so_far), np.sqrt(step)
        weight = np.full(POINTS, grid[1] - grid[0])
        weight[[0, -1]] /= 2.0
        mass = density * weight
        crossed += float(mass @ ndtr(-(bound - grid) / sd))
        after = np.linspace(-8.0 * np.sqrt(so_far), bound, POINTS)
        density = np.exp(-np.square((after[:, None] - grid) / sd) / 2.0) @ mass / (sd * np.sqrt(2.0 * np.pi))
        grid = after
    return crossed
