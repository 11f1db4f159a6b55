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

SMALLEST = 1e-100
"""Of a stream that never had a loss: far below any loss, whatever its unit."""

ZEROS, SCORED, TOTAL, SQUARES, USUAL, BATCHES, SILENT = range(7)
"""Rows of `Floors.sums`: losses that were exactly zero, losses, their sum, that of their squares, the sum over
batches of the mean yardstick, their number, and the batches before the first one with an event, whose losses are not
in the first two rows: a stream that was silent for long and is not any more has changed, it is not sparse."""

N_SUMS = 7

STATE = ("floor", "settled", "open", "sums")


@dataclass
class Floors:
    """Floors of a fleet's streams; fixed as soon as enough events were seen.

    Attributes
    ----------
    floor
        Shape (streams,), units of the loss.
    settled
        Shape (streams,), whether the floor is fixed and the stream may be tested.
    open
        The streams that are not settled, in no order.
    sums
        Shape (`N_SUMS`, open streams): what was seen of them.
    """

    n_streams: int
    floor: Floats = field(init=False)
    settled: Bools = field(init=False)
    open: Ints = field(init=False)
    sums: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.floor = np.full(self.n_streams, SMALLEST)
        self.settled = np.zeros(self.n_streams, dtype=np.bool_)
        self.open = np.arange(self.n_streams)
        self.sums = np.zeros((N_SUMS, self.n_streams))

    def ready(self) -> Bools:
        """Streams of which enough was seen, shape (streams,)."""
        return self.settled

    def update(self, summary: BatchSummary) -> tuple[Ints, Floats, Floats] | None:
        """Take in a batch; (streams, old floors, new floors) of streams that have a past and change, else None."""
        scored = np.flatnonzero(np.isfinite(summary.mean_loss[self.open]))
        if not len(scored):
            return None
        streams = self.open[scored]
        has_past = self.sums[:, scored].any(axis=0)
        self.sums[:, scored] += _seen(summary, streams, is_silent=self.sums[TOTAL, scored] == 0.0)
        old, (new, is_enough) = self.floor[streams], _floors(self.sums[:, scored], summary.n_targets)
        self.floor[streams] = new
        self.settled[streams] = is_enough
        stay = ~self.settled[self.open]
        self.open, self.sums = self.open[stay], self.sums[:, stay]
        changed = has_past & (new != old)
        return (streams[changed], old[changed], new[changed]) if changed.any() else None

    def reset(self, streams: Ints) -> None:
        """Start over with streams."""
        self.floor[streams] = SMALLEST
        self.settled[streams] = True  # for a moment: so they leave the table
        stay = ~self.settled[self.open]
        self.settled[streams] = False
        self.open = np.concatenate([self.open[stay], streams])
        self.sums = np.concatenate([self.sums[:, stay], np.zeros((N_SUMS, len(streams)))], axis=1)

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        born = np.arange(self.n_streams, self.n_streams + more)
        self.n_streams += more
        self.floor = np.concatenate([self.floor, np.empty(more)])
        self.settled = np.concatenate([self.settled, np.zeros(more, dtype=np.bool_)])
        self.reset(born)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {f"floor_{name}": getattr(self, name) for name in STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in STATE:
            setattr(self, name, arrays[f"floor_{name}"].copy())
        self.n_streams = len(self.floor)


def _seen(summary: BatchSummary, streams: Ints, *, is_silent: Bools) -> Floats:
    """What a batch adds to the sums of streams, shape (`N_SUMS`, streams); ``is_silent`` are those without an event."""
    n, mean = summary.n[streams], summary.mean_loss[streams]
    is_silent = is_silent & (mean == 0.0)
    usual = summary.yardsticks[0][streams] if len(summary.yardsticks) else mean
    return np.stack(
        [
            np.where(is_silent, 0.0, summary.zero_share[streams] * n),
            np.where(is_silent, 0, n),
            mean * n,
            summary.event_size[streams] * mean * n,
            np.nan_to_num(usual, nan=0.0),
            np.isfinite(usual),
            is_silent,
        ]
    )


def _floors(sums: Floats, n_targets: int) -> tuple[Floats, Bools]:
    """Floors that sums of shape (`N_SUMS`, streams) speak for, and whether they speak for enough."""
    tiny = np.finfo(float).tiny
    total, squares = np.maximum(sums[TOTAL], tiny), np.maximum(sums[SQUARES], tiny)
    zero_share = sums[ZEROS] / np.maximum(sums[SCORED], 1.0)
    sparse = EVENTS * zero_share * squares / total / n_targets
    usual = sums[USUAL] / np.maximum(sums[BATCHES], 1.0)
    least = SHARE * np.where(usual > 0.0, usual, sums[TOTAL] / np.maximum(sums[SCORED], 1.0))
    is_dense = (zero_share == 0.0) & (sums[TOTAL] > 0.0) & ((sums[SILENT] == 0.0) | (sums[SCORED] >= FEWEST_EVENTS))
    is_enough = is_dense | (np.square(sums[TOTAL]) / squares >= FEWEST_EVENTS)
    return np.maximum(np.maximum(sparse, least), SMALLEST), is_enough
