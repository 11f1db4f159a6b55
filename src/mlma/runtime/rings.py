"""Ring buffers of one shard: outcomes by slot, forecasts of the open batch, mean losses of the closed ones.

Rows are streams. Stream-major order: outcomes arrive in blocks, while trainings and features read one stream's
past at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, ForecastBlock, Ints, LossBlock
from mlma.core.records import NAIVE
from mlma.core.schedule import Schedule

RING_ARRAYS = (
    "y", "mean_loss", "naive_loss", "last_forecast", "_last_y", "_forecast", "_naive", "last_fallback", "_fallback",
)  # fmt: skip
"""Attributes of `Rings` that a checkpoint holds."""


def _empty(rows: int, columns: int) -> Floats:
    return np.full((rows, columns), np.nan)


@dataclass
class Rings:
    """Arrays of a shard. ``batch`` is the last closed batch, None before `advance` was first called."""

    schedule: Schedule
    lookback: int  # slots before an origin that must stay readable
    n_batches: int
    batch: int | None = None
    start: int = 0  # slot of the first column of y
    y: Floats = field(default_factory=lambda: _empty(0, 0))
    mean_loss: Floats = field(default_factory=lambda: _empty(0, 0))
    naive_loss: Floats = field(default_factory=lambda: _empty(0, 0))
    last_forecast: Floats = field(default_factory=lambda: _empty(0, 0))
    _last_y: Floats = field(default_factory=lambda: _empty(0, 0))
    _forecast: Floats = field(default_factory=lambda: _empty(0, 0))
    _naive: Floats = field(default_factory=lambda: _empty(0, 0))
    last_fallback: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    _fallback: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    issued_until: int = 0

    @property
    def n_streams(self) -> int:
        """Rows in use."""
        return len(self.mean_loss)

    @property
    def open_batch(self) -> int:
        """The batch that is being filled."""
        return 0 if self.batch is None else self.batch + 1

    def grow(self, n_streams: int) -> None:
        """Add rows for born streams."""
        more = n_streams - self.n_streams
        if more <= 0 and self.mean_loss.shape[1]:
            return
        size, width = self.schedule.batch, self.y.shape[1]
        for name, columns in (
            ("y", width), ("mean_loss", self.n_batches), ("naive_loss", self.n_batches), ("last_forecast", size),
            ("_last_y", size), ("_forecast", size), ("_naive", size),
        ):  # fmt: skip
            old = getattr(self, name)
            setattr(self, name, np.vstack([old, _empty(more, columns)]) if len(old) else _empty(more, columns))
        for name in ("last_fallback", "_fallback"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, dtype=np.bool_)]))

    def advance(self, batch: int) -> None:
        """Make ``batch`` the last closed one: shift the losses, open the next batch, forget what is too old."""
        if self.batch is not None:
            shift = min(batch - self.batch, self.n_batches)
            for name in ("mean_loss", "naive_loss"):
                ring = getattr(self, name)
                ring[:, : self.n_batches - shift] = ring[:, shift:].copy()
                ring[:, self.n_batches - shift :] = np.nan
        self.batch = batch
        self.issued_until = self.schedule.first_slot(batch + 1)
        self._forecast[:] = np.nan
        self._naive[:] = np.nan
        self.last_fallback, self._fallback = self._fallback, np.zeros(self.n_streams, dtype=np.bool_)
        self._forget(max(0, self.issued_until - self.lookback - self.schedule.batch))

    def _forget(self, oldest: int) -> None:
        if oldest - self.start > max(self.lookback // 4, self.schedule.batch):
            self.y = self.y[:, oldest - self.start :].copy()
            self.start = oldest

    # outcomes

    def write(self, row: Ints, slot: Ints, y: Floats) -> None:
        """Put outcomes in place; slots before the ring are dropped, the ring grows to hold the newest."""
        keep = slot >= self.start
        if not keep.any():
            return
        need = int(slot.max()) + 1 - self.start
        if need > self.y.shape[1]:
            width = max(need, self.y.shape[1] + self.schedule.batch)
            self.y = np.hstack([self.y, _empty(self.n_streams, width - self.y.shape[1])])
        self.y[row[keep], slot[keep] - self.start] = y[keep]

    def known(self, row: Ints, slot: Ints) -> Bools:
        """Whether an outcome is in place, shape (n,)."""
        column = slot - self.start
        inside = (column >= 0) & (column < self.y.shape[1]) & (row < self.n_streams)
        found = np.zeros(len(slot), dtype=np.bool_)
        found[inside] = np.isfinite(self.y[row[inside], column[inside]])
        return found

    def window(self, first: int, last: int) -> Floats:
        """Outcomes of the slots first .. last - 1, NaN where unknown, shape (streams, last - first)."""
        made = _empty(self.n_streams, last - first)
        low, high = max(first, self.start), min(last, self.start + self.y.shape[1])
        if low < high:
            made[:, low - first : high - first] = self.y[:, low - self.start : high - self.start]
        return made

    def recent(self, n_slots: int) -> Floats:
        """Outcomes of the ``n_slots`` slots up to the newest one of the shard, shape (streams, n_slots)."""
        end = int(self.last_slots().max(initial=-1)) + 1
        return self.window(max(0, end - n_slots), end)

    def last_slots(self) -> Ints:
        """Newest slot with an outcome by stream, -1 where there is none, shape (streams,)."""
        if not self.y.shape[1]:
            return np.full(self.n_streams, -1, dtype=np.int64)
        known = np.isfinite(self.y)
        newest = self.y.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
        last: Ints = np.where(known.any(axis=1), newest + self.start, -1)
        return last

    def count(self, origin: int, n_slots: int) -> Ints:
        """Outcomes known in the ``n_slots`` slots before an origin, shape (streams,)."""
        found: Ints = np.isfinite(self.window(origin - n_slots, origin)).sum(axis=1)
        return found

    # batches

    def batches(self) -> Ints:
        """Numbers of the batches in the loss rings, shape (n_batches,); the last one is the last closed."""
        last = -1 if self.batch is None else self.batch
        return np.arange(last - self.n_batches + 1, last + 1, dtype=np.int64)

    # checkpoints

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the rings hold, by name."""
        numbers = {"batch": -1 if self.batch is None else self.batch, "start": self.start, "issued": self.issued_until}
        return {name: getattr(self, name) for name in RING_ARRAYS} | {k: np.asarray(v) for k, v in numbers.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in RING_ARRAYS:
            setattr(self, name, arrays[name])
        self.batch, self.start, self.issued_until = (int(arrays[name]) for name in ("batch", "start", "issued"))

    def issue(self, block: ForecastBlock, n_shards: int) -> None:
        """Put forecasts of the open batch in place."""
        first = self.schedule.first_slot(self.open_batch)
        row, column = block.stream_id // n_shards, block.slot - first
        self._forecast[row, column] = block.forecast
        self._naive[row, column] = block.naive
        is_naive = np.asarray([version == NAIVE for version in block.versions])
        self._fallback[row[is_naive[block.version]]] = True
        self.issued_until = max(self.issued_until, block.origin_last + self.schedule.horizon)

    def open_block(self, batch: int, stream_ids: Ints) -> LossBlock:
        """Outcomes and forecasts of the open batch, which is ``batch``."""
        if batch != self.open_batch:
            raise ValueError(f"batch {batch} cannot be closed: the open batch is {self.open_batch}")
        first = self.schedule.first_slot(batch)
        return LossBlock(
            batch=batch,
            stream_ids=stream_ids,
            y=self.window(first, first + self.schedule.batch),
            forecast=self._forecast.copy(),
            naive=self._naive.copy(),
        )

    def close(self, block: LossBlock, means: tuple[Floats, Floats]) -> None:
        """Take a closed batch into the loss rings; a block may hold fewer streams than are known now."""
        if self.batch is None or block.batch > self.batch:
            self.advance(block.batch)
        assert self.batch is not None
        column = self.n_batches - 1 - (self.batch - block.batch)
        rows = len(block.stream_ids)
        self.mean_loss[:rows, column], self.naive_loss[:rows, column] = means
        if block.batch == self.batch:
            for name, made in (("_last_y", block.y), ("last_forecast", block.forecast)):
                ring = getattr(self, name)
                ring[:] = np.nan
                ring[:rows] = made

    def n_scored(self) -> Ints:
        """Targets of the last closed batch with an outcome and a forecast, shape (streams,)."""
        scored: Ints = np.isfinite(self._last_y + self.last_forecast).sum(axis=1)
        return scored
