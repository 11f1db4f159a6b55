"""How much of a stream's loss its yardsticks explain: coefficients learned over the fleet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats

PRIOR_OBSERVATIONS = 100.0
"""Stream-batches that the starting coefficients are worth."""

MEMORY = 0.98
"""Weight of what is known when a batch is added to it."""

CLIP = 4.0
"""Deviations beyond so many standard deviations count as that many."""


@dataclass
class Coefficients:
    """Control-variate coefficients of k yardsticks, one number each for the whole fleet.

    The deviations of the log loss from its reference are regressed on those of the log yardsticks; the starting
    point is 1 for the first yardstick (the loss relative to it) and 0 for the others. Source of the method:
    control variates, e.g. Lavenberg and Welch (1981); the ridge towards the start is a normal prior.
    """

    k: int
    start: Floats = field(init=False)
    squares: Floats = field(init=False)  # (k, k)
    products: Floats = field(init=False)  # (k,)
    weight: float = 0.0

    def __post_init__(self) -> None:
        self.start = np.zeros(self.k)
        self.start[:1] = 1.0
        self.squares, self.products = np.zeros((self.k, self.k)), np.zeros(self.k)

    @property
    def beta(self) -> Floats:
        """Coefficients now, shape (k,)."""
        if self.k == 0 or self.weight == 0.0:
            return self.start
        prior = np.diag(np.maximum(np.diag(self.squares), 1e-12)) * (PRIOR_OBSERVATIONS / self.weight)
        return np.asarray(np.linalg.solve(self.squares + prior, self.products + prior @ self.start), dtype=np.float64)

    def learn(self, loss: Floats, yards: Floats, scale: Floats, use: Bools) -> None:
        """Take in a batch.

        Parameters
        ----------
        loss
            Shape (streams,), deviation of the log loss from the mean of its reference.
        yards
            Shape (k, streams), the same of the log yardsticks.
        scale
            Shape (streams,), standard deviation of the tested number: what streams are weighted by.
        use
            Shape (streams,): streams whose deviations count.
        """
        if self.k == 0 or not use.any():
            return
        weight = 1.0 / scale[use]
        dl, dy = loss[use] * weight, yards[:, use] * weight
        within = np.abs(dl - self.beta @ dy) <= CLIP  # a broken stream says nothing about hard days
        within &= (np.abs(dy) <= 4.0 * CLIP).all(axis=0)
        dl, dy = dl[within], dy[:, within]
        self.squares = MEMORY * self.squares + dy @ dy.T
        self.products = MEMORY * self.products + dy @ dl
        self.weight = MEMORY * self.weight + len(dl)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {
            "yard_squares": self.squares, "yard_products": self.products, "yard_weight": np.asarray(self.weight)
        }  # fmt: skip

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        self.squares, self.products = arrays["yard_squares"].copy(), arrays["yard_products"].copy()
        self.weight = float(arrays["yard_weight"])
        self.k = len(self.products)
