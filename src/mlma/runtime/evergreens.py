"""The evergreen members of one shard: they learn when a batch was closed, and what they learned is written down.

A restarted shard reads what was learned instead of learning it again: late outcomes may have come in between.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import structlog

from mlma.core.blocks import Bools, Floats, Ints, RefitBlock
from mlma.core.errors import StoreError
from mlma.core.settings import Evergreen
from mlma.models.evergreen.members import Learned, Members
from mlma.runtime.lineup import Lineup
from mlma.runtime.outcomes import Outcomes
from mlma.runtime.ports import Checkpoints, History
from mlma.runtime.serving import Memo
from mlma.runtime.soundness import Marked

log = structlog.get_logger(__name__)

VALUES_AT_ONCE = 1_000_000
"""Observations of the streams that learn a batch together."""

PAST_AT_ONCE = 100_000
"""The same where they learn a whole past: the features of all of it, about sixty times as many numbers, are kept."""


@dataclass(slots=True)
class Evergreens:
    """What the members of one shard's streams know."""

    shard: int
    members: Members
    history: History
    checkpoints: Checkpoints
    memo: Memo | None = None
    cpu_s: float = 0.0  # spent since it was last asked for
    spared_cpu_s: float = 0.0  # more that would have been spent without the memo
    _known: Learned | None = None
    _block: RefitBlock | None = field(default=None)

    @property
    def families(self) -> tuple[Evergreen, ...]:
        """Members in the order of their seats."""
        return self.members.families

    def learn(self, batch: int, outcomes: Outcomes, stream_ids: Ints, lineup: Lineup, faults: Marked) -> None:
        """Make the members those after a closed batch: recorded ones, or taught now and recorded.

        Parameters
        ----------
        faults
            Outcomes up to the batch's end to learn nothing from.
        """
        if not self.families or (self._block is not None and self._block.batch == batch):
            return
        key = (self.shard, batch, self.families)
        recorded = self.history.refit(self.shard, batch)
        if recorded is not None and recorded.families == self.families:
            self._block, self._known = recorded, self._restored(batch)
            return
        if self.memo is not None and key in self.memo.refits:
            self._block, cpu_s = self.memo.refits[key]
            self.spared_cpu_s += cpu_s
            return
        began = time.thread_time()
        self._known = self._taught(batch, outcomes, stream_ids, lineup, faults)
        self._block = RefitBlock(
            batch=batch,
            stream_ids=stream_ids,
            families=self.families,
            parameters=self.members.parameters(self._known),
        )
        spent = time.thread_time() - began
        self.cpu_s += spent
        if self.memo is not None:
            self.memo.refits[key] = (self._block, spent)
        self._save(batch)
        self.history.append_refit(self.shard, self._block)

    def forecasts(self, y: Floats, rows: list[int], *, start: int, first: int, last: int) -> Floats:
        """Forecasts of the streams in these rows, whose values by slot are ``y``; (rows, families, targets)."""
        assert self._block is not None
        known = self._block.parameters
        index = np.asarray(rows, dtype=np.int64)
        inside = index < len(known)
        parameters = self.members.parameters(self.members.nothing(len(rows)))
        parameters[inside] = known[index[inside]]
        return self.members.forecasts(parameters, y, start=start, first=first, last=last)

    def _taught(self, batch: int, outcomes: Outcomes, stream_ids: Ints, lineup: Lineup, faults: Marked) -> Learned:
        schedule, known = self.members.designer.schedule, self._known
        if known is None:
            known = self._restored(batch - 1)
        end = schedule.origin_after(batch)
        reach = schedule.train_window + (self.members.designer.lookback if known is None else 0)
        start = min(end - reach, schedule.first_slot(batch) - self.members.designer.lookback)
        n = len(stream_ids)
        usable = self._fit_to_learn(stream_ids, start, end, lineup)
        old = None if known is None else self.members.grown(known, n)
        self._known = None  # its sums are written over: should anything fail here, the recorded ones are read again
        first_batch = max(0, (end - schedule.train_window) // schedule.batch)
        size = max(1, (VALUES_AT_ONCE if old is not None else PAST_AT_ONCE) // (end - start))
        parts = []
        for at in range(0, n, size):
            rows = np.arange(at, min(at + size, n))
            y = outcomes.window(start, end, rows)
            faults.blank(y, start=start, rows=rows)
            if old is None:
                batches = range(first_batch, batch + 1)
                parts.append(self.members.started(y, start=start, batches=batches, usable=usable[rows]))
            else:
                part = slice(at, at + len(rows))
                mine = Learned(**{k: v if k == "solved" else v[part] for k, v in old.arrays().items()})
                parts.append(
                    self.members.updated(mine, y, start=start, batch=batch, usable=usable[rows], overwrite=True)
                )
        if not parts:
            return self.members.nothing(0)
        if len(parts) == 1:
            return parts[0]
        arrays = [part.arrays() for part in parts]
        kept = {"solved": arrays[0]["solved"]} | ({} if old is None else {"slot_sums": old.slot_sums})
        return Learned(**kept, **{k: np.concatenate([part[k] for part in arrays]) for k in arrays[0] if k not in kept})

    def _fit_to_learn(self, stream_ids: Ints, first: int, end: int, lineup: Lineup) -> Bools:
        """Whether a slot of a stream may be learned from, shape (streams, end - first)."""
        made = np.ones((len(stream_ids), end - first), dtype=np.bool_)
        row_of = {int(stream_id): row for row, stream_id in enumerate(stream_ids)} if lineup.unfit else {}
        for stream_id, spans in lineup.unfit.items():
            for start, stop in spans:
                made[row_of[stream_id], max(0, start - first) : max(0, stop - first)] = False
        return made

    # restarts

    def _save(self, batch: int) -> None:
        assert self._known is not None
        try:
            self.checkpoints.save_evergreens(self.shard, batch, self._known.arrays())
        except StoreError as error:  # it costs a restart what was forgotten slowly, and nothing else
            log.warning("checkpoint_failed", error=str(error))

    def _restored(self, batch: int) -> Learned | None:
        """What was known after a batch; None when it has to be learned from the past as a whole."""
        arrays = self.checkpoints.load_evergreens(self.shard, batch)
        if arrays is None:
            return None
        try:
            known = Learned.of(arrays)
        except KeyError:
            return None
        wanted = self.members.nothing(known.n_streams).arrays()
        fits = all(known.arrays()[name].shape == value.shape for name, value in wanted.items())
        return known if fits else None
