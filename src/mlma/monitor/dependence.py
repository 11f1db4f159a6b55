"""How strongly batches depend on each other, learned over the fleet and over time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats
from mlma.core.correlation import fit_correlation, fit_repetition
from mlma.core.loss_tests import NO_PRIOR, Prior, fit_prior, shrunk
from mlma.core.prediction import Dependence, predict

MEMORY = 0.9
"""Weight of what is known when a batch is added to it."""

STAND_FOR = (1.0 - 0.9**4) / (1.0 - 0.9)
"""Batches, weighted as if each had been looked at, that one look at every fourth batch stands for."""

PRIOR_OBSERVATIONS = 50.0
"""Observations that independence is worth: a single stream cannot claim dependence, a fleet can."""

MOST_BATCHES = 9

EVERY = 4
"""Batches after which the newest `MOST_BATCHES` are looked at again, once they were looked at often; in between most
are the same. Other things that are done at every fourth batch are done at others."""

STEPS = 200.0
"""Estimates are rounded to so many steps, so that matrices that depend on them are made once."""

LEAST = 0.01
"""Correlation of neighbours below which there is none: the level at nominal 5 % is 5.05 % then."""

STATE = ("lagged", "lagged_weight", "same", "other", "repeat_weight", "looks")


@dataclass
class DependenceMemory:
    """Weighted means of the estimates at past batches, shrunk towards independence."""

    season: int = 1
    lagged: float = 0.0
    lagged_weight: float = 0.0
    same: float = 0.0
    other: float = 0.0
    repeat_weight: float = 0.0
    looks: float = 0.0

    @property
    def n_batches(self) -> int:
        """Past batches that are looked at."""
        return max(MOST_BATCHES - 1, self.season if self.season > 1 else 0)

    @property
    def now(self) -> Dependence:
        """What is known."""
        neighbours = self.lagged / (self.lagged_weight + PRIOR_OBSERVATIONS)
        repeats = 0.0
        if self.other > 0.0:
            shrink = self.repeat_weight / (self.repeat_weight + PRIOR_OBSERVATIONS)
            # of the logarithm of what does not repeat: predictions are as wide as its square root
            repeats = 1.0 - float(np.clip(self.same / self.other, 0.05, 1.0)) ** shrink
        rho = min(neighbours / (1.0 - repeats), 0.95)
        rho = rho if rho >= LEAST else 0.0
        return Dependence(
            rho=round(rho * STEPS) / STEPS, season=self.season, repeats=round(repeats * STEPS) / STEPS
        )  # fmt: skip

    @property
    def is_young(self) -> bool:
        """Whether every batch is worth a look: much is new, and a season has only just come round."""
        return self.looks < self.n_batches + EVERY

    def is_due(self, at: int) -> bool:
        """Whether to `learn` at batch ``at``: not always when hardly anything would be new."""
        return self.is_young or at % EVERY == 1

    def learn(self, values: Floats, prior: Prior = NO_PRIOR) -> None:
        """Take in the newest batches.

        Parameters
        ----------
        values
            Shape (batches, streams), consecutive, in order of time; streams may have missing ones at the start.
        prior
            What the batch before knew about the variance between batches, if anything.
        """
        memory, stands_for = (MEMORY, 1.0) if self.is_young else (MEMORY**EVERY, STAND_FOR)
        self.looks += 1.0
        run = _runs(np.isfinite(values))
        longest = min(MOST_BATCHES, len(values), self.season if self.season > 2 else MOST_BATCHES)
        lengths = np.arange(3, longest + 1)
        if not len(lengths):
            return
        counts = np.cumsum(np.bincount(run, minlength=len(values) + 1)[::-1])[::-1][lengths] * (lengths - 2)
        n = int(lengths[np.argmax(counts)])
        if counts.max() == 0:
            return
        series, variance = self._usable(values, run, n, prior)
        rho, weight = fit_correlation(series, variance)
        self.lagged = memory * self.lagged + stands_for * weight * rho
        self.lagged_weight = memory * self.lagged_weight + stands_for * weight
        if self.season > 1 and np.any(run > self.season):
            series, variance = self._usable(values, run, self.season + 1, prior)
            same, other = fit_repetition(series, variance, self.season)
            streams = series.shape[1] * stands_for
            self.same = memory * self.same + streams * same
            self.other = memory * self.other + streams * other
            self.repeat_weight = memory * self.repeat_weight + streams

    def _usable(self, values: Floats, run: NDArray[np.int64], n: int, prior: Prior) -> tuple[Floats, Floats]:
        """The newest n batches of the streams that have them, and their moderated variance."""
        series = values[-n:] if run.min() >= n else values[-n:][:, run >= n]
        own = predict(series[::-1], np.arange(1, n + 1), self.now)
        if n < MOST_BATCHES or prior == NO_PRIOR:  # else the one that is known is as good, and much cheaper
            prior = fit_prior(own.variance, np.full(series.shape[1], n - 1.0))
        variance = shrunk(own, prior)
        return series, np.where(variance > 0.0, variance, np.inf)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {"dependence": np.asarray([getattr(self, name) for name in STATE])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name, value in zip(STATE, arrays["dependence"].tolist(), strict=True):
            setattr(self, name, value)


def _runs(known: Bools) -> NDArray[np.int64]:
    """Newest batches without a gap of each stream, shape (streams,); ``known`` is (batches, streams), oldest first."""
    if known.all():
        return np.full(known.shape[1], len(known))
    return np.where(known[::-1].all(axis=0), len(known), np.argmin(known[::-1], axis=0))
