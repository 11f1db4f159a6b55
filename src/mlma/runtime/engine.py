"""The tick: one pass over what has become complete, the same for the daemon, a replay and a test.

A tick reads the state and asks what should be true now. Everything that becomes true is recorded in one
transaction before it is acted on, so a crash anywhere repeats no decision and loses none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import structlog

from mlma.core.admission import AdmissionState, Admitted, admit
from mlma.core.blocks import Floats, ObservationBlock
from mlma.core.errors import StoreError
from mlma.core.records import Effect, SourceFile
from mlma.core.rows import Rows
from mlma.core.settings import Serve
from mlma.runtime import arriving, closing, monitoring, opening_pools, refusals
from mlma.runtime import fleet as fleets
from mlma.runtime.closing import Closed
from mlma.runtime.control import Control
from mlma.runtime.findings import OpenFindings
from mlma.runtime.groups import groups_of
from mlma.runtime.orders import Orders
from mlma.runtime.pool_members import evergreens, n_seats, recalibrates
from mlma.runtime.ports import Commit
from mlma.runtime.shard_parts import Position, ShardSpec
from mlma.runtime.trainings import Trainings

log = structlog.get_logger(__name__)

CHECKPOINT_BATCHES = 16
"""Closed batches between two checkpoints; a restart reads at most the history of so many."""


@dataclass
class Engine(Control):
    """One fleet: its ports, what it knows, and the tick.

    Parameters
    ----------
    observe
        Called with each closed batch after it was recorded.
    admitting
        Called with the number of a file and what judges its rows; engines of one replay share the judgment.
    """

    observe: Callable[[Closed], None] | None = None
    admitting: Callable[[int, Callable[[], Admitted]], Admitted] | None = None
    _seq: int = 0
    _center: Floats = field(default_factory=lambda: np.zeros(0))
    _scale: Floats = field(default_factory=lambda: np.zeros(0))
    trainings: Trainings = field(init=False)
    orders: Orders = field(init=False)

    def open(self) -> None:
        """Take up where the store stands: rebuild the fleet, make the shards and bring them to the cursor."""
        schedule = self.settings.schedule
        self.fleet = fleets.load(self.store)
        self.pools = opening_pools.opened(self)
        self._seq = refusals.last_seq(self.store)
        self.history.discard_observations_after(self._seq)
        cursor = self.store.cursor()
        first = -(-self.settings.life.warmup // schedule.batch) - 1
        self.batch = max(0, first) - 1 if cursor is None else cursor
        self.trainings = Trainings(self)
        self.orders = Orders(self, self.trainings)
        n_shards = self.executor.n_shards
        self.executor.open(
            [
                ShardSpec(
                    shard=shard, n_shards=n_shards, schedule=schedule, testing=self.settings.testing,
                    model=self.settings.model, evergreen=evergreens(self.settings.life),
                    groups=groups_of(self.settings.life),
                    n_seats=n_seats(self.settings.life), recalibrates=recalibrates(self.settings.life),
                    history=self.history, artifacts=self.artifacts,
                    checkpoints=self.checkpoints,
                )
                for shard in range(n_shards)
            ]
        )  # fmt: skip
        self.sync()
        self._measure_scales()
        self.monitor = monitoring.opened(self)

    def _others(self) -> str:
        """Who serves when a version fails."""
        return "the rest of the pool" if self.settings.life.serve is Serve.BLEND else "seasonal naive"

    def close(self) -> None:
        """Write checkpoints and end the shards. The state stays as it was recorded."""
        try:
            self._checkpoint()
        finally:
            self.executor.close()

    def _checkpoint(self) -> None:
        """Let the shards write checkpoints; one that cannot be written costs a restart time, and nothing else."""
        try:
            self.executor.checkpoint()
        except StoreError as error:
            log.warning("checkpoint_failed", error=str(error))

    def sync(self) -> None:
        """Bring the shards to what is recorded."""
        position = Position(seq=self._seq, n_streams=self.fleet.n_streams, batch=self.batch)
        self.issued_until = max(self.executor.sync(position), default=0)

    # taking in

    def take(self, rows: Rows, *, path: str, fingerprint: str, check_future: bool = True) -> SourceFile:
        """Admit one file: history first, then its record; a crash between the two takes it again.

        Returns
        -------
        SourceFile
            With the counts of what was admitted, rejected and late.
        """
        if rows.are_forecasts:
            return self._take_forecasts(rows, path=path, fingerprint=fingerprint)
        seq, now = self._seq + 1, self.clock.now()
        judge = partial(
            admit,
            rows,
            schedule=self.settings.schedule,
            streams=self.fleet.ids,
            state=AdmissionState(
                known=self.executor.known,
                center=self._center,
                scale=self._scale,
                oldest_slot=max(0, self.open_first() - self.settings.schedule.train_window),
            ),
            settings=self.settings.admission,
            now=now if check_future else None,
            seq=seq,
            path=path,
        )
        admitted = judge() if self.admitting is None else self.admitting(seq, judge)
        self._append(seq, admitted.block)
        is_late = admitted.block.slot < self.open_first()
        file = SourceFile(
            seq=seq, path=path, fingerprint=fingerprint, n_rows=admitted.n_rows, n_admitted=admitted.n_admitted,
            n_rejected=admitted.n_rejected, n_late=int(is_late.sum()) if self.store.cursor() is not None else 0,
            taken_at=now,
        )  # fmt: skip
        mended = OpenFindings(self.store, now).healed("source_failed", path)
        self.store.record(Commit(file=file, rejected=admitted.rejected, streams=admitted.births, findings=mended))
        self._seq = seq
        self.fleet.add_streams(admitted.births)
        self.pools.grow(self.fleet.n_streams)
        self.pools.groups.grow(self.fleet.streams)
        self.pools.weigh(self.fleet.streams)
        self.fleet.saw(admitted.block.stream_id, admitted.block.slot)
        self._pad_scales()
        self.sync()
        if admitted.births:
            self._measure_scales()  # the next file of a backlog is judged by what this one taught
        return file

    def _take_forecasts(self, rows: Rows, *, path: str, fingerprint: str) -> SourceFile:
        """Admit a file with forecasts that were made elsewhere, as `take` does with observations."""
        seq, now = self._seq + 1, self.clock.now()
        admitted = arriving.admitted(
            self, rows, seq=seq, path=path, settled=arriving.settled_until(self, self.complete_until()),
            center=self._center, scale=self._scale,
        )  # fmt: skip
        file = SourceFile(
            seq=seq, path=path, fingerprint=fingerprint, n_rows=admitted.n_rows, n_admitted=len(admitted.block),
            n_rejected=admitted.n_rejected, n_late=0, taken_at=now,
        )  # fmt: skip
        mended = OpenFindings(self.store, now).healed("source_failed", path)
        self.store.record(Commit(file=file, rejected=admitted.rejected, findings=mended))
        self._seq = seq
        self.sync()
        return file

    def refuse(self, *, path: str, fingerprint: str, error: str) -> None:
        """Record a file that cannot be read as a whole, so that it is reported once and not read again."""
        self._seq = refusals.refuse(self.store, self.clock.now(), path=path, fingerprint=fingerprint, error=error)

    def _append(self, seq: int, block: ObservationBlock) -> None:
        if self.executor.n_shards == 1 and len(block):  # engines of one replay keep the same arrays
            self.history.append_observations(seq, 0, block)
            return
        home = block.stream_id % self.executor.n_shards
        for shard in np.unique(home).tolist():
            mine = home == shard
            part = ObservationBlock(stream_id=block.stream_id[mine], slot=block.slot[mine], y=block.y[mine])
            self.history.append_observations(seq, shard, part)

    def _pad_scales(self) -> None:
        more = np.full(self.fleet.n_streams - len(self._center), np.nan)
        self._center, self._scale = np.concatenate([self._center, more]), np.concatenate([self._scale, more])

    def _measure_scales(self) -> None:
        self._center = np.full(self.fleet.n_streams, np.nan)
        self._scale = self._center.copy()
        for ids, center, scale, last_slot in self.executor.scales():
            self._center[ids], self._scale[ids] = center, scale
            self.fleet.last_slot[ids] = np.maximum(self.fleet.last_slot[ids], last_slot)

    # the tick

    def tick(self, *, complete_until: int | None = None, wait: bool = False, ahead: bool = True) -> bool:
        """Do what can be done now, closing at most one batch, so that a backlog can be interrupted in order.

        Parameters
        ----------
        complete_until
            Slot before which the source promises to be complete; None reads it off the streams.
        wait
            Block while trainings run, instead of returning to let time pass.
        ahead
            Issue the first forecasts of the next batch with the close of this one. Without, the next tick issues them
            together with the others, which are the same and cost less: good enough where nobody waits for them.

        Returns
        -------
        bool
            Whether a batch was closed or a training finished.
        """
        moved = has_closed = False
        self.orders.obey()
        while True:
            moved |= self.trainings.settle(wait=wait)
            if self.trainings.is_pending:
                return moved
            until = self.complete_until() if complete_until is None else complete_until
            if ahead or not has_closed:
                self._issue(until - self.settings.admission.forecast_wait)
            if has_closed or until < self.settings.schedule.origin_after(self.batch + 1):
                return moved
            self._closed(*closing.close(self, self.batch + 1))
            moved = has_closed = True

    def _closed(self, closed: Closed, effects: list[Effect]) -> None:
        """Take note of a batch that was recorded as closed."""
        self.batch = closed.batch
        self.fleet.begins.pop(closed.batch, None)
        self.fleet.note_batch(closed.decisions, effects)
        self.costs.alarms += int(closed.verdicts.alarm.sum())
        self.costs.batches += 1
        self.sync()
        self._measure_scales()
        if self.costs.batches % CHECKPOINT_BATCHES == 0:
            self._checkpoint()
        if self.observe is not None:
            self.observe(closed)

    def complete_until(self) -> int:
        """First slot that is not complete: the share of the active streams that must have passed it has not.

        A stream is active while it is not a whole batch behind the third-newest one, so that neither a dead
        stream holds the fleet back nor a single wrong clock drives it on.
        """
        newest = np.sort(self.fleet.last_slot[self.fleet.last_slot >= 0])
        if not len(newest):
            return 0
        front = int(newest[-min(3, len(newest))]) if len(newest) > 2 else int(newest[-1])
        active = newest[newest > front - self.settings.schedule.batch]
        needed = max(1, int(np.ceil(self.settings.admission.watermark_share * len(active))))
        return int(active[-needed]) + 1 - self.settings.admission.lateness

    def _issue(self, until: int) -> None:
        if not self.is_warm() or until < self.open_first():
            return
        findings, known = [], OpenFindings(self.store, self.clock.now())
        failed_groups: dict[str, str] = {}
        for issued in self.executor.forecast(self.lineup(), until=until):
            self.issued_until = max(self.issued_until, issued.until)
            self.costs.predict_cpu_s += issued.cpu_s + issued.spared_cpu_s
            self.costs.evergreen_cpu_s += issued.evergreen_cpu_s + issued.spared_evergreen_cpu_s
            self.costs.spared_cpu_s += issued.spared_cpu_s + issued.spared_evergreen_cpu_s
            findings += [
                known.seen("model_failed", self.fleet.streams[stream_id].name, f"{error}; {self._others()} serves")
                for stream_id, error in issued.failed.items()
            ]
            failed_groups |= issued.failed_groups
        findings += [
            known.seen("model_failed", member, f"{error}; {self._others()} serves")
            for member, error in sorted(failed_groups.items())
        ]
        if findings:
            self.store.record(Commit(findings=findings))
