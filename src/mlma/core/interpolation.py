"""Cubics between values at equal distances."""

from functools import lru_cache
from itertools import permutations

import numpy as np

from mlma.core.blocks import Floats, Ints


def smooth(values: Floats, times: int) -> Floats:
    """Values at equal distances and ``times - 1`` more in each gap, by cubics through the four nearest (Lagrange).

    Examples
    --------
    >>> smooth(np.array([0.0, 1.0, 4.0, 9.0]), 2).tolist()
    [0.0, 0.25, 1.0, 2.25, 4.0, 6.25, 9.0]
    """
    first, weights = _between(len(values), times)
    made = np.zeros(len(first))
    for i, weight in enumerate(weights):
        made += weight * values[first + i]
    return made


@lru_cache(maxsize=8)
def _between(n: int, times: int) -> tuple[Ints, Floats]:
    """The first of the four values nearest to each place of `smooth`, and what each of them weighs, (4, places)."""
    x = np.arange(times * (n - 1) + 1) / times
    first = np.clip(np.floor(x).astype(np.int64) - 1, 0, n - 4)
    weights = np.ones((4, len(x)))
    for i, j in permutations(range(4), 2):
        weights[i] *= (x - first - j) / (i - j)
    return first, weights
