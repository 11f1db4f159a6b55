"""Ring buffers of one shard: outcomes by slot, forecasts of the open batch and of the last closed one.

Rows are streams. The arrays of a closed batch belong to its block: they are replaced, never written to again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, ForecastBlock, Ints, LossBlock, MemberBlock
from mlma.core.records import NAIVE
from mlma.core.schedule import Schedule
from mlma.runtime.outcomes import Outcomes, empty

RING_ARRAYS = (
    "last_forecast", "last_fallback", "_forecast", "_naive", "_fallback", "_members", "_seated", "_inner",
    "_shift", "_slope",
)  # fmt: skip
"""Attributes of `Rings` that a checkpoint holds, besides the outcomes."""

SEAT_NUMBERS = {"_inner": 0.0, "_shift": 0.0, "_slope": 1.0}
"""Attributes of `Rings` with one number a seat, and their values for an empty one."""

NAMES = "U40"
"""Type of the ids of pool members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMembers:
    """What the members of the pools forecast for one batch."""

    forecast: Floats  # (streams, seats, batch)
    inner: Floats  # (streams, seats), weights within the versions and within the other members
    shift: Floats  # (streams, seats), recalibration
    slope: Floats  # (streams, seats)


@dataclass
class Rings:
    """Arrays of a shard. ``batch`` is the last closed batch, None before `advance` was first called."""

    schedule: Schedule
    lookback: int  # slots before an origin that must stay readable
    n_seats: int = 2  # of a stream's pool
    batch: int | None = None
    outcomes: Outcomes = field(init=False)
    last_forecast: Floats = field(default_factory=lambda: empty(0, 0))  # of the last closed batch
    last_fallback: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    _forecast: Floats = field(default_factory=lambda: empty(0, 0))
    _naive: Floats = field(default_factory=lambda: empty(0, 0))
    _fallback: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    _members: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))  # (streams, seats, batch)
    _seated: NDArray[np.str_] = field(default_factory=lambda: np.zeros((0, 0), dtype=NAMES))  # who issued them
    _inner: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (streams, seats), weights within the groups
    _shift: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (streams, seats), recalibration
    _slope: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    issued_until: int = 0

    def __post_init__(self) -> None:
        # what must stay readable, the open batch, and as much again for outcomes that come before it is closed
        self.outcomes = Outcomes(usual=self.lookback + 3 * self.schedule.batch)

    @property
    def n_streams(self) -> int:
        """Rows in use."""
        return len(self.last_forecast)

    @property
    def open_batch(self) -> int:
        """The batch that is being filled."""
        return 0 if self.batch is None else self.batch + 1

    def grow(self, n_streams: int) -> None:
        """Add rows for born streams."""
        more = n_streams - self.n_streams
        if more <= 0 and self.last_forecast.shape[1]:
            return
        size = self.schedule.batch
        for name in ("last_forecast", "_forecast", "_naive"):
            old = getattr(self, name)
            setattr(self, name, np.vstack([old, empty(more, size)]) if len(old) else empty(more, size))
        for name in ("last_fallback", "_fallback"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(more, dtype=old.dtype)]))
        seats = np.full((more, self.n_seats, size), np.nan)
        self._members = np.concatenate([self._members, seats]) if len(self._members) else seats
        for name, value in SEAT_NUMBERS.items():
            old, new = getattr(self, name), np.full((more, self.n_seats), value)
            setattr(self, name, np.concatenate([old, new]) if len(old) else new)
        nobody = np.zeros((more, self.n_seats), dtype=NAMES)
        self._seated = np.concatenate([self._seated, nobody]) if len(self._seated) else nobody
        self.outcomes.grow(more)

    def advance(self, batch: int) -> None:
        """Make ``batch`` the last closed one: open the next batch, forget what is too old."""
        self.batch = batch
        self.issued_until = self.schedule.first_slot(batch + 1)
        self._forecast, self._naive = (empty(self.n_streams, self.schedule.batch) for _ in range(2))
        self.last_fallback, self._fallback = self._fallback, np.zeros(self.n_streams, dtype=np.bool_)
        self._members = np.full((self.n_streams, self.n_seats, self.schedule.batch), np.nan)
        self._seated = np.zeros((self.n_streams, self.n_seats), dtype=NAMES)
        for name, value in SEAT_NUMBERS.items():
            setattr(self, name, np.full((self.n_streams, self.n_seats), value))
        self.outcomes.settled = self.issued_until
        self.outcomes.forget(self.issued_until - self.lookback - self.schedule.batch)

    # batches

    def issue(self, block: ForecastBlock, n_shards: int) -> None:
        """Put forecasts of the open batch in place."""
        first = self.schedule.first_slot(self.open_batch)
        row, column = block.stream_id // n_shards, block.slot - first
        self._forecast[row, column] = block.forecast
        self._naive[row, column] = block.naive
        is_naive = np.asarray([version == NAIVE for version in block.versions])
        self._fallback[row[is_naive[block.version]]] = True
        self.issued_until = max(self.issued_until, block.origin_last + self.schedule.horizon)

    def issue_members(self, block: MemberBlock, n_shards: int) -> None:
        """Put the members' forecasts of the open batch in place; a new member starts on an empty seat."""
        first = block.origin_first - self.schedule.first_slot(self.open_batch)
        row, name = block.stream_id // n_shards, np.asarray(block.members, dtype=NAMES)[block.member]
        is_new = self._seated[row, block.seat] != name
        self._members[row[is_new], block.seat[is_new]] = np.nan
        self._seated[row, block.seat] = name
        self._inner[row, block.seat] = block.inner
        self._shift[row, block.seat], self._slope[row, block.seat] = block.shift, block.slope
        self._members[row, block.seat, first : first + block.forecast.shape[1]] = block.forecast

    @property
    def open_members(self) -> OpenMembers:
        """Forecasts of the members for the open batch; an empty seat gives none."""
        return OpenMembers(forecast=self._members, inner=self._inner, shift=self._shift, slope=self._slope)

    def open_block(self, batch: int, stream_ids: Ints) -> LossBlock:
        """Outcomes and forecasts of the open batch, which is ``batch``."""
        if batch != self.open_batch:
            raise ValueError(f"batch {batch} cannot be closed: the open batch is {self.open_batch}")
        first = self.schedule.first_slot(batch)
        return LossBlock(
            batch=batch,
            stream_ids=stream_ids,
            y=self.outcomes.window(first, first + self.schedule.batch),
            forecast=self._forecast,
            naive=self._naive,
        )

    def close(self, block: LossBlock) -> None:
        """Make a block the last closed batch; it may hold fewer streams than are known now."""
        if self.batch is None or block.batch > self.batch:
            self.advance(block.batch)
        rows = len(block.stream_ids)
        self.last_forecast = block.forecast
        if rows < len(self._fallback):
            self.last_forecast = np.vstack([block.forecast, empty(len(self._fallback) - rows, self.schedule.batch)])

    # checkpoints

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the rings hold, by name."""
        numbers = {"batch": -1 if self.batch is None else self.batch, "issued": self.issued_until}
        arrays = {name: getattr(self, name) for name in RING_ARRAYS}
        return arrays | {name: np.asarray(value) for name, value in numbers.items()} | self.outcomes.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in RING_ARRAYS:
            setattr(self, name, arrays[name])
        self.batch, self.issued_until = int(arrays["batch"]), int(arrays["issued"])
        self.outcomes.restore(arrays)
