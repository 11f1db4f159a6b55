"""How the batches of a fleet's streams depend on each other, and what that makes of the batches of a reference.

Neighbouring batches are taken to be correlated like an autoregression of order one with a coefficient that the
whole fleet shares (`mlma.core.correlation`); a season may repeat on top of it.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log

import numpy as np

from mlma.core.blocks import Floats, Ints

FORGOTTEN = 1e-15
"""Correlation that is none."""


@dataclass(frozen=True, slots=True)
class Dependence:
    """How the batches of a fleet's streams depend on each other, the same for all streams.

    Attributes
    ----------
    rho
        Correlation of neighbouring batches beyond the season, in [0, 1): corr = rho^|distance|.
    season
        Batches after which a season repeats, 1 for none.
    repeats
        Share of the variance that repeats one season later, in [0, 1); 0 without a season.
    """

    rho: float = 0.0
    season: int = 1
    repeats: float = 0.0

    @property
    def is_none(self) -> bool:
        """Whether batches are independent of each other."""
        return self.rho == 0.0 and self.repeats == 0.0

    def reach(self, longest: int) -> int:
        """Gap between batches beyond which neighbours do not matter, ``longest`` at most."""
        if self.rho <= FORGOTTEN ** (1.0 / longest):
            return ceil(log(FORGOTTEN) / log(self.rho)) if self.rho > 0.0 else 1
        return longest

    def shortened(self, gap: Ints, longest: int) -> Ints:
        """Gaps between batches without what makes no difference: elementwise, >= 1, each in its season.

        Gaps count as no longer than ``longest`` (and part of a season), and than neighbours matter at all.
        """
        longest = self.reach(longest)
        period = self.season if self.repeats > 0.0 else 1
        over = np.maximum(gap - (longest + period - 1), 0)
        return np.asarray(gap + period * (-over // period))

    def correlation(self, distance: Floats) -> Floats:
        """Correlation of batches at a distance, elementwise; positive definite."""
        own = (distance == 0.0).astype(np.float64) if self.rho == 0.0 else self.rho ** np.abs(distance)
        if self.repeats == 0.0:
            return own
        return np.asarray((1.0 - self.repeats) * own + self.repeats * (distance % self.season == 0.0))


INDEPENDENT = Dependence()


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """What a pattern says about the value that comes some batches after its newest one, for several such gaps.

    Attributes
    ----------
    weights
        Shape (gaps, m), of the reference's values in the prediction.
    factor
        Shape (gaps,), variance of the prediction error over that of a single value.
    own
        Shape (gaps,), covariance of the prediction error with the predicted value, over the same.
    """

    weights: Floats
    factor: Floats
    own: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Linear algebra of m reference batches at given distances from the newest of them.

    Attributes
    ----------
    distances
        Shape (m,), from the newest batch, ascending from 0.
    mean
        Shape (m,), generalised least squares weights of the values in their mean; they add up to 1.
    residual
        Shape (m - 1, m - 1): maps the values but the newest, relative to the newest, to independent residuals
        around that mean.
    inverse
        Shape (m, m), of the correlation matrix.
    precision
        Variance of a single value over that of the mean.
    """

    dependence: Dependence
    distances: Floats
    mean: Floats
    residual: Floats
    inverse: Floats
    precision: float

    def ahead(self, gaps: Ints) -> Ahead:
        """Predict the value so many batches after the newest one; ``gaps`` has shape (gaps,)."""
        ahead = self.dependence.correlation(gaps[:, None] + self.distances)
        gain = ahead @ self.inverse
        left = 1.0 - gain.sum(axis=1)
        weights = gain + left[:, None] * self.mean
        return Ahead(
            weights=weights,
            factor=1.0 - np.sum(ahead * gain, axis=1) + np.square(left) / self.precision,
            own=1.0 - np.sum(ahead * weights, axis=1),
        )


@lru_cache(maxsize=4096)
def pattern_of(distances: tuple[int, ...], dependence: Dependence) -> Pattern:
    """Pattern of m >= 1 batches at these distances from the newest, which comes first (0).

    Examples
    --------
    >>> pattern = pattern_of((0, 1, 2), Dependence(rho=0.5))
    >>> pattern.mean.round(3).tolist(), pattern.ahead(np.array([1, 2])).weights.round(3).tolist()
    ([0.4, 0.2, 0.4], [[0.7, 0.1, 0.2], [0.55, 0.15, 0.3]])
    """
    at = np.asarray(distances, dtype=np.float64)
    inverse = np.asarray(np.linalg.inv(dependence.correlation(at[:, None] - at)), dtype=np.float64)
    total = inverse.sum(axis=1)
    precision = float(total.sum())
    around = inverse - np.outer(total, total) / precision
    return Pattern(
        dependence=dependence,
        distances=at,
        mean=total / precision,
        residual=np.asarray(np.linalg.cholesky(around[1:, 1:]).T, dtype=np.float64),
        inverse=inverse,
        precision=precision,
    )
