"""How skewed the scores of healthy streams are, as the whole fleet shows it.

The logarithm of a mean of few events leans to the left, that of heavy tails to the right. One stream has too few
batches to show it; a fleet shows it within some batches, and its p-values are corrected by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats
from mlma.monitor.excess import SAMPLE

CALM = 1.6
"""Standard deviations up to which the mean of a stream's scores so far may lie above zero: worse ones are left out."""

CUT = 3.5
"""Scores farther out count as this one."""

FEWEST = 20
"""Streams of a batch, at least."""

PRIOR = 96.0
"""Scores without skewness that are taken to have been seen before: what a skewness of a quarter is worth."""

MEMORY = 0.97
"""Weight of what is known when a batch is added to it."""

LARGEST = 0.6


@dataclass
class Asymmetry:
    """Weighted mean over batches of the skewness of scores over the fleet."""

    total: float = 0.0
    weight: float = 0.0

    @property
    def skewness(self) -> float:
        """What scores are corrected by, drawn towards zero; in [-0.6, 0.6]."""
        return float(np.clip(self.total / (self.weight + PRIOR), -LARGEST, LARGEST))

    def learn(self, score: Floats, past: Sequence[Floats]) -> None:
        """Take in the scores of a batch, not corrected yet, shape (streams,), and those of the batches before it.

        Whether a stream is calm is asked of the past alone, so that it says nothing about the newest score.
        """
        step = max(1, -(-len(score) // SAMPLE))
        some = np.asarray(score[::step], dtype=np.float64)
        known = np.isfinite(some)
        if past:
            before = np.stack([np.asarray(each[::step], dtype=np.float64) for each in past])
            n = np.isfinite(before).sum(axis=0)
            known &= np.where(np.isfinite(before), before, 0.0).sum(axis=0) < CALM * np.sqrt(np.maximum(n, 1))
        if known.sum() < FEWEST:
            return
        each = np.clip(some[known], -CUT, CUT)
        each -= each.mean()
        spread = each.std()
        if spread <= 0.0:
            return
        self.total = MEMORY * self.total + len(each) * float(np.mean((each / spread) ** 3))
        self.weight = MEMORY * self.weight + len(each)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {"sum_skewness": np.asarray([self.total, self.weight])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave; nothing is known where a state is older than this."""
        self.total, self.weight = arrays.get("sum_skewness", np.zeros(2)).tolist()
