"""Which outcomes of one shard look like faults: shares by batch that are kept, and what follows from them.

A cache over the ring of outcomes: made again when late outcomes or born streams change what it was made from, so that a
restart finds the same.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mlma.core import suspicion
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.robust import wild
from mlma.core.schedule import Schedule
from mlma.runtime.outcomes import Outcomes, row_blocks

WILD_DAYS = 28
"""Days before the open batch in which wild values are looked for: the features reach as far back."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Outcomes that nobody looks at or learns from: of some streams, in the slots before ``end``."""

    end: int
    row: Ints  # (k,), ascending
    slots: Bools  # (k, n), of the n slots before ``end``

    def blank(self, y: Floats, *, start: int, rows: Ints | None = None) -> None:
        """Make them missing in place.

        Parameters
        ----------
        y
            Shape (streams, n) or (rows, n), outcomes by slot.
        start
            Slot of the first column.
        rows
            Streams of ``y``, ascending; None for all.

        Examples
        --------
        >>> y = np.arange(10.0).reshape(2, 5)
        >>> Marked(end=4, row=np.array([1]), slots=np.array([[True, False, True]])).blank(y, start=0)
        >>> y.tolist()
        [[0.0, 1.0, 2.0, 3.0, 4.0], [5.0, nan, 7.0, nan, 9.0]]
        """
        first = max(start, self.end - self.slots.shape[1])
        last = min(self.end, start + y.shape[1])
        if not len(self.row) or first >= last:
            return
        at = self.row if rows is None else np.searchsorted(rows, self.row)
        here = at < len(y)
        if rows is not None:
            here[here] = rows[at[here]] == self.row[here]
        columns = slice(first - start, last - start)
        offset = self.end - self.slots.shape[1]
        for row, slots in zip(at[here], self.slots[here, first - offset : last - offset], strict=True):
            y[row, columns][slots] = np.nan


@dataclass
class Soundness:
    """Shares of odd values of a shard's streams in the batches up to the last closed one."""

    schedule: Schedule
    lookback: int  # slots before an origin that are readable
    _shares: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (streams, batches)
    _end: int = -1  # slot after the last batch
    _revision: int = -1  # of the outcomes that they were made from
    _marked: Marked | None = None
    _marked_for: tuple[int, int] = (-1, -1)  # slot and revision

    def shares(self, outcomes: Outcomes, end: int) -> Floats:
        """Shares of odd values in the batches before ``end``, the end of a batch; shape (streams, batches)."""
        batch = self.schedule.batch
        if self._revision == outcomes.revision and self._end == end:
            return self._shares
        if self._revision == outcomes.revision and self._end == end - batch:
            newest = self._counted(outcomes, end - batch, end)
            self._shares = np.hstack([self._shares[:, newest.shape[1] :], newest])
        else:
            self._shares = self._counted(outcomes, end - self.lookback // batch * batch, end)
        self._end, self._revision = end, outcomes.revision
        return self._shares

    def marked(self, outcomes: Outcomes, end: int) -> Marked:
        """What nobody looks at or learns from among the outcomes before ``end``, the end of a batch."""
        if self._marked is not None and self._marked_for == (end, outcomes.revision):
            return self._marked
        schedule = self.schedule
        shares = self.shares(outcomes, end)
        odd = suspicion.strange(shares, batch=schedule.batch, season=schedule.season)
        start, wild_start = end - self.lookback, end - min(self.lookback, WILD_DAYS * schedule.slots_per_day)
        has_odd = np.asarray(odd.any(axis=1))
        rows, found = [], []
        for block in row_blocks(len(shares), self.lookback):
            at = np.arange(block.start, block.stop)
            is_wild = wild(outcomes.window(wild_start, end, at))
            chosen = has_odd[block] | is_wild.any(axis=1)
            if chosen.any():
                made = suspicion.marked(outcomes.window(start, end, at[chosen]), odd[at[chosen]], batch=schedule.batch)
                made[:, wild_start - start :] |= is_wild[chosen]
                rows.append(at[chosen])
                found.append(made)
        self._marked_for = (end, outcomes.revision)
        self._marked = Marked(
            end,
            np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64),
            np.concatenate(found) if found else np.zeros((0, self.lookback), dtype=np.bool_),
        )
        return self._marked

    def _counted(self, outcomes: Outcomes, first: int, end: int) -> Floats:
        count = partial(suspicion.odd_shares, batch=self.schedule.batch)
        parts = [
            count(outcomes.window(first, end, np.arange(rows.start, rows.stop)))
            for rows in row_blocks(outcomes.n_streams, end - first)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, (end - first) // self.schedule.batch))
