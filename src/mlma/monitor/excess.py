"""How much more sums of scores vary over the fleet than independent scores would.

Scores allow for dependence that fades like an autoregression of order one. Where it lasts longer, each score is right
and their sum is too wide: all streams together show by how much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats

SAMPLE = 2048
"""Streams that are looked at, at most; evenly spread over the fleet."""

FEWEST_STREAMS, FEWEST_SCORES = 40, 4
"""With fewer streams, or fewer scores to a sum, nothing is learned."""

LOW, HIGH = 0.1, 0.4
"""Quantiles whose distance measures the spread: streams that got worse are in the upper half."""

MEMORY = 0.9
"""Weight of what is known when a batch is added to it."""

NOISE = 9.0
"""Variance of the logarithm of a variance that is measured so, times the number of streams."""

EFFECTIVE = 2.0
"""Independent looks that the memory is worth: sums of neighbouring batches share most of their scores."""


@dataclass
class Excess:
    """Weighted mean, over batches, of the log of the variance of sums over what independence leads one to expect."""

    total: float = 0.0
    weight: float = 0.0
    streams: float = 0.0

    @property
    def shrink(self) -> float:
        """What scores are multiplied with before they are added, in (0, 1]: 1 unless there is more than chance."""
        if self.weight == 0.0:
            return 1.0
        surely = self.total / self.weight - np.sqrt(NOISE / (EFFECTIVE * self.streams))
        return float(np.exp(-0.5 * max(surely, 0.0)))

    def learn(self, scores: list[Floats], shared: float, frozen: int) -> None:
        """Take in the newest scores, arrays of shape (streams,), the oldest first.

        Parameters
        ----------
        scores
            At most as many as are added.
        shared
            Standard deviation of the error that scores with one reference share.
        frozen
            How many of them have one.
        """
        step = max(1, -(-len(scores[0]) // SAMPLE))
        some = np.stack([np.asarray(score[::step], dtype=np.float64) for score in scores])
        some = some[np.isfinite(some).mean(axis=1) > 0.5]
        some = some[:, np.isfinite(some).all(axis=0)]
        n, streams = some.shape
        if n < FEWEST_SCORES or streams < FEWEST_STREAMS:
            return
        single = float(np.mean([_spread(score) for score in some]))
        if single <= 0.0:
            return
        together = min(frozen, n)
        expected = n + shared**2 * together * (together - 1.0)
        ratio = np.square(_spread(some.sum(axis=0)) / single) / expected
        self.total = MEMORY * self.total + float(np.log(max(ratio, 1e-3)))
        self.weight = MEMORY * self.weight + 1.0
        self.streams = float(streams)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {"sum_excess": np.asarray([self.total, self.weight, self.streams])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        self.total, self.weight, self.streams = arrays["sum_excess"].tolist()


def _spread(values: Floats) -> float:
    low, high = np.quantile(values, (LOW, HIGH))
    return float(high - low)
