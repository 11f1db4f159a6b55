"""The tick: one pass over what has become complete, the same for the daemon, a replay and a test.

A tick reads the state and asks what should be true now. Everything that becomes true is recorded in one
transaction before it is acted on, so a crash anywhere repeats no decision and loses none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import structlog

from mlma.core import guards, overrides, policy
from mlma.core.admission import AdmissionState, admit
from mlma.core.blocks import Bools, Floats, Ints, ObservationBlock
from mlma.core.decisions import OverrideKind, RejectReason
from mlma.core.errors import StoreError
from mlma.core.records import Effect, Finding, Rejected, Request, SourceFile
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings, LifeSettings, ModelSettings, TestingSettings
from mlma.runtime import closing
from mlma.runtime import fleet as fleets
from mlma.runtime.closing import Closed
from mlma.runtime.executors import Executor
from mlma.runtime.findings import OpenFindings
from mlma.runtime.orders import Orders
from mlma.runtime.ports import ArtifactStore, Checkpoints, Clock, Commit, ControlStore, History
from mlma.runtime.shard import RING_BATCHES, Position, ShardSpec
from mlma.runtime.trainings import Results, Trainings

log = structlog.get_logger(__name__)

CHECKPOINT_BATCHES = 16
"""Closed batches between two checkpoints; a restart reads at most the history of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an engine needs to know besides its ports."""

    schedule: Schedule
    model: ModelSettings
    testing: TestingSettings
    life: LifeSettings
    admission: AdmissionSettings
    policy: policy.Policy


@dataclass
class Costs:
    """CPU seconds and counts since the engine was opened."""

    train_cpu_s: float = 0.0
    predict_cpu_s: float = 0.0
    spared_cpu_s: float = 0.0  # part of predict_cpu_s that a memo of forecasts has spared
    trainings: int = 0
    alarms: int = 0
    batches: int = 0


@dataclass
class Engine:
    """One fleet: its ports, what it knows, and the tick.

    Parameters
    ----------
    observe
        Called with each closed batch after it was recorded.
    """

    settings: EngineSettings
    store: ControlStore
    history: History
    artifacts: ArtifactStore
    executor: Executor
    clock: Clock
    checkpoints: Checkpoints
    observe: Callable[[Closed], None] | None = None
    costs: Costs = field(default_factory=Costs)
    fleet: fleets.Fleet = field(default_factory=fleets.Fleet)
    _seq: int = 0
    _issued_until: int = 0  # slot
    _batch: int = -1  # the last closed batch; before the first, the one before warm-up ends
    _center: Floats = field(default_factory=lambda: np.zeros(0))
    _scale: Floats = field(default_factory=lambda: np.zeros(0))
    trainings: Trainings = field(init=False)
    orders: Orders = field(init=False)

    def open(self) -> None:
        """Take up where the store stands: rebuild the fleet, make the shards and bring them to the cursor."""
        schedule = self.settings.schedule
        self.fleet = fleets.load(self.store)
        self._seq = last_seq(self.store)
        self.history.discard_observations_after(self._seq)
        cursor = self.store.cursor()
        first = -(-self.settings.life.warmup // schedule.batch) - 1
        self._batch = max(0, first) - 1 if cursor is None else cursor
        self.trainings = Trainings(self)
        self.orders = Orders(self)
        n_shards = self.executor.n_shards
        self.executor.open(
            [
                ShardSpec(
                    shard=shard, n_shards=n_shards, schedule=schedule, testing=self.settings.testing,
                    model=self.settings.model, history=self.history, artifacts=self.artifacts,
                    checkpoints=self.checkpoints,
                )
                for shard in range(n_shards)
            ]
        )  # fmt: skip
        self.sync()
        self._measure_scales()

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

    @property
    def batch(self) -> int:
        """The last closed batch; before the first, the batch before it."""
        return self._batch

    def sync(self) -> None:
        """Bring the shards to what is recorded."""
        position = Position(seq=self._seq, n_streams=self.fleet.n_streams, batch=self._batch)
        self._issued_until = max(self.executor.sync(position), default=0)

    # taking in

    def take(self, rows: Rows, *, path: str, fingerprint: str, check_future: bool = True) -> SourceFile:
        """Admit one file: history first, then its record; a crash between the two takes it again.

        Returns
        -------
        SourceFile
            With the counts of what was admitted, rejected and late.
        """
        seq, now = self._seq + 1, self.clock.now()
        admitted = admit(
            rows,
            schedule=self.settings.schedule,
            streams=self.fleet.ids,
            state=AdmissionState(
                known=self.executor.known,
                center=self._center,
                scale=self._scale,
                oldest_slot=max(0, self._open_first() - self.settings.schedule.train_window),
            ),
            settings=self.settings.admission,
            now=now if check_future else None,
            seq=seq,
            path=path,
        )
        self._append(seq, admitted.block)
        is_late = admitted.block.slot < self._open_first()
        file = SourceFile(
            seq=seq, path=path, fingerprint=fingerprint, n_rows=admitted.n_rows, n_admitted=admitted.n_admitted,
            n_rejected=admitted.n_rejected, n_late=int(is_late.sum()) if self.store.cursor() is not None else 0,
            taken_at=now,
        )  # fmt: skip
        mended = OpenFindings(self.store, now).healed("source_failed", path)
        self.store.record(Commit(file=file, rejected=admitted.rejected, streams=admitted.births, findings=mended))
        self._seq = seq
        self.fleet.add_streams(admitted.births)
        self.fleet.saw(admitted.block.stream_id, admitted.block.slot)
        self._pad_scales()
        self.sync()
        return file

    def refuse(self, *, path: str, fingerprint: str, error: str) -> None:
        """Record a file that cannot be read as a whole, so that it is reported once and not read again."""
        self._seq = refuse(self.store, self.clock.now(), path=path, fingerprint=fingerprint, error=error)

    def _append(self, seq: int, block: ObservationBlock) -> None:
        home = block.stream_id % self.executor.n_shards
        for shard in np.unique(home).tolist():
            mine = home == shard
            part = ObservationBlock(stream_id=block.stream_id[mine], slot=block.slot[mine], y=block.y[mine])
            self.history.append_observations(seq, shard, part)

    def _open_first(self) -> int:
        return self.settings.schedule.first_slot(self._batch + 1)

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

    def tick(self, *, complete_until: int | None = None, wait: bool = False) -> bool:
        """Do what can be done now, closing at most one batch, so that a backlog can be interrupted in order.

        Parameters
        ----------
        complete_until
            Slot before which the source promises to be complete; None reads it off the streams.
        wait
            Block while trainings run, instead of returning to let time pass.

        Returns
        -------
        bool
            Whether a batch was closed or a training finished.
        """
        moved = has_closed = False
        self.orders.obey()
        while True:
            moved |= self.trainings.settle(wait=wait)
            if self.fleet.effects:
                return moved
            until = self.complete_until() if complete_until is None else complete_until
            self._issue(until)
            if has_closed or until < self.settings.schedule.origin_after(self._batch + 1):
                return moved
            closing.close(self, self._batch + 1)
            moved = has_closed = True

    def closed(self, closed: Closed, effects: list[Effect]) -> None:
        """Take note of a batch that was recorded as closed."""
        self._batch = closed.batch
        self.fleet.note_batch(closed.decisions, effects)
        self.costs.alarms += int(closed.verdict.alarm.sum())
        self.costs.batches += 1
        self.sync()
        self._measure_scales()
        if self.costs.batches % CHECKPOINT_BATCHES == 0:
            self._checkpoint()
        if self.observe is not None:
            self.observe(closed)

    def commit(self, results: Results, *, requests: Sequence[Request] = ()) -> None:
        """Record decisions with their consequences in one transaction, then take note of them."""
        self.store.record(
            Commit(
                decisions=results.decisions,
                effects=results.effects,
                versions=results.versions,
                servings=results.servings,
                findings=results.findings,
                requests=requests,
            )
        )
        versions = {version.id: version for version in results.versions}
        for serving in results.servings:
            self.fleet.serves(serving, versions[serving.version_id])
        for version in results.versions:
            if version.id in self.fleet.versions:
                self.fleet.versions[version.id] = version
        for effect in results.effects:
            self.fleet.note_effect(effect)
        for decision in results.decisions:
            self.fleet.note_decision(decision)

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

    def next_origin(self) -> int:
        """The first origin of the open batch whose forecasts have not been issued yet."""
        return max(self._issued_until, self._open_first())

    def is_warm(self) -> bool:
        """Whether the first batch after warm-up was closed."""
        return self._batch >= -(-self.settings.life.warmup // self.settings.schedule.batch) - 1 and self._batch >= 0

    def _issue(self, until: int) -> None:
        if not self.is_warm() or until < self._open_first():
            return
        findings, known = [], OpenFindings(self.store, self.clock.now())
        for issued in self.executor.forecast(self.fleet.champions(), until=until):
            self._issued_until = max(self._issued_until, issued.until)
            self.costs.predict_cpu_s += issued.cpu_s + issued.spared_cpu_s
            self.costs.spared_cpu_s += issued.spared_cpu_s
            findings += [
                known.seen("model_failed", self.fleet.streams[stream_id].name, f"{error}; seasonal naive serves")
                for stream_id, error in issued.failed.items()
            ]
        if findings:
            self.store.record(Commit(findings=findings))

    def circumstances(self, n_rows: Ints, last_slot: Ints, batch: int) -> guards.Circumstances:
        """What the guards look at now."""
        fleet, life = self.fleet, self.settings.life
        return guards.Circumstances(
            frozen=self.held_by(OverrideKind.FREEZE),
            in_progress=fleet.in_progress(),
            has_new=last_slot >= self.settings.schedule.first_slot(batch),
            n_rows=n_rows,
            age=batch - fleet.trained,
            min_rows=life.min_rows,
            cooldown=life.cooldown if self.settings.policy.proves else 0,
        )

    def held_by(self, kind: OverrideKind) -> Bools:
        """Streams that an active override of a kind holds, shape (streams,)."""
        return overrides.held(self.store.overrides(), kind, self.fleet.streams, self.clock.now())

    def excluded(self, batch: int) -> Bools | None:
        """Batches up to and with this one that overlap an excluded period, shape (streams, RING_BATCHES)."""
        orders = [order for order in self.store.overrides() if order.kind is OverrideKind.EXCLUDE]
        if not orders:
            return None
        batches = np.arange(batch - RING_BATCHES + 1, batch + 1, dtype=np.int64)
        return overrides.excluded_batches(orders, self.fleet.streams, self.settings.schedule, batches, self.clock.now())


def refuse(store: ControlStore, now: datetime, *, path: str, fingerprint: str, error: str) -> int:
    """Record a file that cannot be read as a whole; returns its number."""
    seq = last_seq(store) + 1
    file = SourceFile(
        seq=seq, path=path, fingerprint=fingerprint, n_rows=0, n_admitted=0, n_rejected=0, n_late=0, error=error,
        taken_at=now,
    )  # fmt: skip
    finding = Finding(kind="source_failed", subject=path, message=error, first_at=now, last_at=now)
    rejected = Rejected(
        seq=seq, path=path, stream="", reason=RejectReason.UNREADABLE, count=1, row=0, field="file", value="",
        expected=error,
    )  # fmt: skip
    store.record(Commit(file=file, rejected=[rejected], findings=[finding]))
    return seq


def last_seq(store: ControlStore) -> int:
    """Number of the last recorded file, 0 before the first."""
    files = store.files(limit=1)
    return files[-1].seq if files else 0
