"""What is added to a loss before its logarithm is taken, so that a batch without any loss stays finite.

Sparse losses (0/1, counts, mostly zero) need more than that: the log of a small count is skewed to the left, and
a few typical events more make it nearly symmetric. Where no loss is zero, hardly anything is added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats, Ints

EVENTS = 8.0
"""Typical events that are added to a batch of losses that are almost all zero (measured: docs/manual/loss-tests.md)."""

FEWEST_EVENTS = 5.0
"""Events that must have been seen before the floor of a sparse stream is fixed and the stream is tested."""

SHARE = 1e-3
"""Share of the usual yardstick (of the usual loss without one) that is added at least."""

SMALLEST = 1e-12

STATE = ("floor", "settled", "zeros", "n", "total", "squares", "usual", "batches")


@dataclass
class Floors:
    """Floors of a fleet's streams, arrays of shape (streams,); fixed as soon as enough events were seen."""

    n_streams: int
    floor: Floats = field(init=False)
    settled: Bools = field(init=False)
    zeros: Floats = field(init=False)  # losses that were exactly zero
    n: Floats = field(init=False)
    total: Floats = field(init=False)
    squares: Floats = field(init=False)
    usual: Floats = field(init=False)  # sum over batches of the mean yardstick
    batches: Floats = field(init=False)

    def __post_init__(self) -> None:
        for name in STATE:
            setattr(self, name, np.zeros(self.n_streams, dtype=np.bool_ if name == "settled" else np.float64))
        self.floor += SMALLEST

    def ready(self) -> Bools:
        """Streams of which enough was seen, shape (streams,)."""
        return self.settled

    def update(self, summary: BatchSummary) -> tuple[Ints, Floats, Floats] | None:
        """Take in a batch; (streams, old floors, new floors) where they change, None when none does."""
        open_ = np.flatnonzero(~self.settled & np.isfinite(summary.mean_loss))
        if not len(open_):
            return None
        n, mean = summary.n[open_], summary.mean_loss[open_]
        usual = summary.yardsticks[0][open_] if len(summary.yardsticks) else mean
        self.zeros[open_] += summary.zero_share[open_] * n
        self.n[open_] += n
        self.total[open_] += mean * n
        self.squares[open_] += summary.event_size[open_] * mean * n
        self.usual[open_] += np.nan_to_num(usual, nan=0.0)
        self.batches[open_] += np.isfinite(usual)
        squares = np.maximum(self.squares[open_], np.finfo(float).tiny)
        total = np.maximum(self.total[open_], np.finfo(float).tiny)
        events = np.square(self.total[open_]) / squares
        zero_share = self.zeros[open_] / np.maximum(self.n[open_], 1.0)
        size = squares / total
        least = SHARE * self.usual[open_] / np.maximum(self.batches[open_], 1.0)
        old = self.floor[open_]
        new = np.maximum(np.maximum(EVENTS * zero_share * size / summary.n_targets, least), SMALLEST)
        self.floor[open_] = new
        self.settled[open_] = (events >= FEWEST_EVENTS) | ((zero_share == 0.0) & (self.total[open_] > 0.0))
        return open_, old, new

    def reset(self, mask: Bools) -> None:
        """Start over with streams."""
        for name in STATE:
            getattr(self, name)[mask] = 0
        self.floor[mask] = SMALLEST

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.n_streams += more
        for name in STATE:
            old = getattr(self, name)
            fill = SMALLEST if name == "floor" else 0
            setattr(self, name, np.concatenate([old, np.full(more, fill, dtype=old.dtype)]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {f"floor_{name}": getattr(self, name) for name in STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in STATE:
            setattr(self, name, arrays[f"floor_{name}"].copy())
        self.n_streams = len(self.floor)
