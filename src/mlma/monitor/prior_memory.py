"""What the fleet says about the variance between batches, fitted anew when there is something new to see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.loss_tests import NO_PRIOR, Guess, Prior, fit_prior
from mlma.core.prediction import Prediction

SAMPLE = 8192
"""Streams that the prior is fitted to; evenly spread over the fleet."""

EVERY = 4
"""Batches after which it is fitted again while references have the same size; in between most batches are the same."""


@dataclass
class PriorMemory:
    """The prior of the newest fit, and the most frequent size of a reference in it."""

    prior: Prior = NO_PRIOR
    size: int = 0

    def update(self, prediction: Prediction, at: int) -> Prior:
        """Prior for batch ``at``, from its predictions."""
        fewest, size = prediction.sizes
        if fewest < size:
            size = int(np.argmax(np.bincount(prediction.m[:: _step(prediction)])))
        if size != self.size or self.prior == NO_PRIOR or at % EVERY == EVERY // 2:
            self.prior, self.size = fleet_prior(prediction), size
        return self.prior

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name: weight, degrees of freedom, variance and how well it is known, the best guess first."""
        best = Guess(weight=0.0, df=self.prior.df, variance=self.prior.variance)
        rows = [[guess.weight, guess.df, guess.variance, guess.known_df] for guess in (best, *self.prior.guesses)]
        return {"prior": np.array(rows), "prior_size": np.asarray(self.size)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        best, *rows = arrays["prior"].tolist()
        guesses = tuple(Guess(weight=w, df=df, variance=variance, known_df=known) for w, df, variance, known in rows)
        self.prior, self.size = Prior(df=best[1], variance=best[2], guesses=guesses), int(arrays["prior_size"])


def fleet_prior(prediction: Prediction) -> Prior:
    """What the fleet says about the variance between batches, from an even sample of its streams."""
    step = _step(prediction)
    return fit_prior(prediction.variance[::step], (prediction.m[::step] - 1).astype(np.float64))


def _step(prediction: Prediction) -> int:
    return max(1, -(-len(prediction.m) // SAMPLE))
