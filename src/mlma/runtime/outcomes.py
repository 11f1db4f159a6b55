"""The ring of outcomes of one shard: a stretch of slots for every stream, and what is counted on it.

Slot ``s`` lies in column ``s % columns``, so taking in new slots and forgetting old ones moves nothing. Rows are
streams: trainings and features read one stream's past at a time. Counts are kept as outcomes arrive, so that
asking for them costs what is new and not what is there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints

BLOCK_CELLS = 1 << 16
"""Values that are worked on at once (512 KiB of floats): temporary arrays of this size stay in the cache."""


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Rows in blocks of about `BLOCK_CELLS` values.

    Examples
    --------
    >>> [(rows.start, rows.stop) for rows in row_blocks(5, BLOCK_CELLS // 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    size = max(1, BLOCK_CELLS // max(1, n_columns))
    return (slice(at, min(at + size, n_rows)) for at in range(0, n_rows, size))


def empty(rows: int, columns: int) -> Floats:
    """Array of NaN."""
    return np.full((rows, columns), np.nan)


def n_finite(values: Floats) -> Ints:
    """Finite values by row, shape (rows,)."""
    made = np.empty(len(values), dtype=np.int64)
    for rows in row_blocks(*values.shape):
        made[rows] = np.isfinite(values[rows]).sum(axis=1, dtype=np.int32)  # 8 times as fast as in 64 bits
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Outcomes by stream in the ``n_slots`` slots before an origin; true while none of these changes."""

    origin: int
    n_slots: int
    n: Ints


@dataclass
class Outcomes:
    """Outcomes of the slots ``start .. end - 1``; the other columns of the ring hold what is forgotten."""

    usual: int  # slots that are in the ring most of the time
    start: int = 0
    end: int = 0
    settled: int = 0  # slots before it belong to closed batches
    revision: int = 0  # raised when something before `settled` changes, or streams are born
    _ring: Floats = field(default_factory=lambda: empty(0, 0))
    _last_slot: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _counted: _Counted | None = None

    @property
    def n_streams(self) -> int:
        """Rows."""
        return len(self._ring)

    def grow(self, more: int) -> None:
        """Add rows for born streams."""
        self._ring = np.vstack([self._ring, empty(more, self._ring.shape[1])])
        self._last_slot = np.concatenate([self._last_slot, np.full(more, -1, dtype=np.int64)])
        self._counted = None
        self.revision += 1

    def write(self, row: Ints, slot: Ints, y: Floats) -> None:
        """Put outcomes (finite) in place; slots before the ring are dropped, the ring grows to hold the newest."""
        if len(slot) and int(slot.min()) < self.start:
            keep = slot >= self.start
            row, slot, y = row[keep], slot[keep], y[keep]
        if not len(slot):
            return
        first, last = int(slot.min()), int(slot.max())
        self._reach(last + 1)
        self.revision += first < self.settled
        if self._counted is not None and first < self._counted.origin:
            self._counted = None
        lap = first // self._ring.shape[1]
        is_one_lap = last // self._ring.shape[1] == lap
        column = slot - lap * self._ring.shape[1] if is_one_lap else slot % self._ring.shape[1]
        self._ring[row, column] = y
        np.maximum.at(self._last_slot, row, slot)

    def forget(self, oldest: int) -> None:
        """Let go of the slots before ``oldest``, and of room that has become far too large."""
        if oldest <= self.start:
            return
        self.start, self.end = oldest, max(self.end, oldest)
        self._last_slot[self._last_slot < oldest] = -1
        if self._ring.shape[1] > 2 * max(self.usual, self.end - oldest):
            self._lay_out(max(self.usual, self.end - oldest))

    def known(self, row: Ints, slot: Ints) -> Bools:
        """Whether an outcome is in place, shape (n,)."""
        inside = (slot >= self.start) & (slot < self.end) & (row < self.n_streams)
        found = np.zeros(len(slot), dtype=np.bool_)
        found[inside] = np.isfinite(self._ring[row[inside], slot[inside] % max(1, self._ring.shape[1])])
        return found

    def window(self, first: int, last: int, rows: Ints | None = None) -> Floats:
        """Outcomes of the slots first .. last - 1, NaN where unknown, shape (streams or rows, last - first)."""
        n_rows = self.n_streams if rows is None else len(rows)
        is_inside = self.start <= first <= last <= self.end
        made = np.empty((n_rows, last - first)) if is_inside else empty(n_rows, last - first)
        for slot, values in self._pieces(first, last):
            made[:, slot - first : slot - first + values.shape[1]] = values if rows is None else values[rows]
        return made

    def recent(self, n_slots: int) -> Floats:
        """Outcomes of the ``n_slots`` slots up to the newest one of the shard, shape (streams, n_slots)."""
        end = int(self._last_slot.max(initial=-1)) + 1
        return self.window(max(0, end - n_slots), end)

    def last_slots(self) -> Ints:
        """Newest slot with an outcome by stream, -1 where there is none, shape (streams,)."""
        return self._last_slot.copy()

    def count(self, origin: int, n_slots: int) -> Ints:
        """Outcomes known in the ``n_slots`` slots before an origin, shape (streams,)."""
        first, old = origin - n_slots, self._counted
        moved_on = old is not None and old.n_slots == n_slots and first < old.origin <= origin
        if old is not None and moved_on and old.origin - n_slots >= self.start:
            n = old.n + self._n_known(old.origin, origin) - self._n_known(old.origin - n_slots, first)
        else:
            n = self._n_known(first, origin)
        self._counted = _Counted(origin=origin, n_slots=n_slots, n=n)
        return n.copy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `restore` needs, by name."""
        numbers = {"start": self.start, "end": self.end}
        arrays = {"y": self._ring, "last_slot": self._last_slot}
        return arrays | {name: np.asarray(value) for name, value in numbers.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        self._ring, self._last_slot, self._counted = arrays["y"], arrays["last_slot"], None
        self.start, self.end = int(arrays["start"]), int(arrays["end"])

    def _n_known(self, first: int, last: int) -> Ints:
        n = np.zeros(self.n_streams, dtype=np.int64)
        for _, values in self._pieces(first, last):
            n += n_finite(values)
        return n

    def _pieces(self, first: int, last: int) -> Iterator[tuple[int, Floats]]:
        """Views of the ring that together hold the slots first .. last - 1 that are in it, each with its first slot."""
        first, last, columns = max(first, self.start), min(last, self.end), self._ring.shape[1]
        while first < last:
            column = first % columns
            n = min(last - first, columns - column)
            yield first, self._ring[:, column : column + n]
            first += n

    def _reach(self, end: int) -> None:
        """Make the slots up to ``end`` part of the ring, NaN until they are written."""
        if end <= self.end:
            return
        if end - self.start > self._ring.shape[1]:
            self._lay_out(max(self.usual, end - self.start))
        first, self.end = self.end, end
        for _, values in self._pieces(first, end):
            values[:] = np.nan

    def _lay_out(self, columns: int) -> None:
        """Move everything to a ring with so many columns."""
        ring = empty(self.n_streams, columns)
        for first, values in self._pieces(self.start, self.end):
            at = 0
            while at < values.shape[1]:
                column = (first + at) % columns
                n = min(values.shape[1] - at, columns - column)
                ring[:, column : column + n] = values[:, at : at + n]
                at += n
        self._ring = ring
