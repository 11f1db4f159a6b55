"""What every part of the tick shares: the ports, the settings, the fleet, and how far it has come.

The parts (closing, trainings, orders) take a control and never the engine that drives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlma.core import guards, overrides, policy
from mlma.core.blocks import Bools, Ints
from mlma.core.decisions import EffectKind, EffectStatus, OverrideKind, Reason, Role
from mlma.core.records import Decision, Effect, Finding, GroupTraining, Request, Serving, Version
from mlma.core.schedule import Schedule
from mlma.core.settings import EXTERNAL, AdmissionSettings, LifeSettings, ModelSettings, TestingSettings
from mlma.core.training_queue import Bucket
from mlma.monitor.monitor import LossMonitor
from mlma.runtime.executors import Executor
from mlma.runtime.findings import OpenFindings
from mlma.runtime.fleet import Fleet, demoted
from mlma.runtime.lineup import Lineup
from mlma.runtime.pools import Pools
from mlma.runtime.ports import ArtifactStore, Checkpoints, Clock, Commit, ControlStore, History, Hook


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
    evergreen_cpu_s: float = 0.0  # refits of the evergreen members
    predict_cpu_s: float = 0.0
    spared_cpu_s: float = 0.0  # part of the two above that a memo has spared
    trainings: int = 0
    alarms: int = 0
    batches: int = 0


@dataclass
class Results:
    """What a round of finished trainings makes true, recorded in one transaction."""

    decisions: list[Decision] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    servings: list[Serving] = field(default_factory=list)
    joined: list[Version] = field(default_factory=list)  # versions that forecast in shadow from now on
    findings: list[Finding] = field(default_factory=list)
    groups: list[GroupTraining] = field(default_factory=list)
    frozen: Bools | None = None  # read once for the round, shape (streams,)
    pinned: Bools | None = None
    known: OpenFindings | None = None
    bucket: Bucket | None = None  # of the training budget


@dataclass
class Control:
    """One fleet: its ports and what is known about it. Whatever changes it is recorded first."""

    settings: EngineSettings
    store: ControlStore
    history: History
    artifacts: ArtifactStore
    executor: Executor
    clock: Clock
    checkpoints: Checkpoints
    hook: Hook | None = None  # where trainings are ordered; None: they run here
    costs: Costs = field(default_factory=Costs)
    fleet: Fleet = field(default_factory=Fleet)
    monitor: LossMonitor = field(init=False)
    pools: Pools = field(init=False)
    batch: int = -1  # the last closed batch; before the first, the one before warm-up ends
    issued_until: int = 0  # first slot without a forecast

    def order(self, stream_id: int, batch: int, reason: Reason, *, n: int) -> Effect:
        """A training to be recorded and then done; ``n`` counts the trainings of a stream after one batch."""
        now = self.clock.now()
        return Effect(
            id=f"{EffectKind.TRAIN}-{stream_id}-{batch}-{n}",
            kind=EffectKind.TRAIN,
            stream_id=stream_id,
            batch=batch,
            reason=reason,
            status=EffectStatus.WAITING if self.settings.life.has_budget else EffectStatus.PENDING,
            ordered_at=now,
            deadline_at=now + self.settings.life.training_deadline,
        )

    @property
    def trains_elsewhere(self) -> bool:
        """Whether versions come from elsewhere."""
        return self.hook is not None or self.settings.model.name == EXTERNAL

    def next_origin(self) -> int:
        """The first origin of the open batch whose forecasts have not been issued yet."""
        return max(self.issued_until, self.open_first())

    def is_warm(self) -> bool:
        """Whether the first batch after warm-up was closed."""
        return self.batch >= -(-self.settings.life.warmup // self.settings.schedule.batch) - 1 and self.batch >= 0

    def open_first(self) -> int:
        """First slot of the open batch."""
        return self.settings.schedule.first_slot(self.batch + 1)

    def circumstances(
        self, n_rows: Ints, last_slot: Ints, batch: int, *, suspicious: Bools, backing_off: Bools
    ) -> guards.Circumstances:
        """What the guards look at now; cool-down, back-off and suspicion do not hold a replay's baselines."""
        fleet, life, is_agent = self.fleet, self.settings.life, self.settings.policy.is_agent
        return guards.Circumstances(
            frozen=self.held_by(OverrideKind.FREEZE),
            in_progress=fleet.in_progress(),
            has_new=last_slot >= self.settings.schedule.first_slot(batch),
            suspicious=suspicious & is_agent,
            n_rows=n_rows,
            age=batch - fleet.trained,
            backing_off=backing_off & is_agent,
            min_rows=life.min_rows,
            cooldown=life.cooldown if is_agent else 0,
        )

    def promote(self, version: Version, reason: Reason, results: Results) -> None:
        """Make a version serve from the next origin on."""
        champion = self.fleet.champion(version.stream_id)
        if champion is not None and champion.id != version.id:
            results.versions.append(demoted(champion))
        results.versions.append(replace(version, role=Role.CHAMPION))
        origin = self.next_origin()
        is_fresh = origin <= self.settings.schedule.origin_after(self.batch)
        results.servings.append(
            Serving(
                stream_id=version.stream_id,
                origin=origin,
                batch=self.batch if is_fresh else self.batch + 1,
                version_id=version.id,
                reason=reason,
                at=self.clock.now(),
            )
        )

    def serves(self, serving: Serving, version: Version) -> None:
        """Take note of a line of the ledger: the version leads its pool, those that it takes back leave it."""
        before = self.fleet.lines.get(serving.stream_id, [])[:]
        self.fleet.serves(serving, version)
        after = self.fleet.lines[serving.stream_id]
        self.pools.leave(serving.stream_id, [gone for gone in before if gone not in after])
        self.pools.lead(version)

    def lineup(self) -> Lineup:
        """Who forecasts from the next origin on."""
        unfit = overrides.excluded_spans(self.store.overrides(), self.fleet.streams, self.settings.schedule)
        return replace(self.pools.lineup(), unfit=unfit)

    def held_by(self, kind: OverrideKind) -> Bools:
        """Streams that an active override of a kind holds, shape (streams,)."""
        return overrides.held(self.store.overrides(), kind, self.fleet.streams, self.clock.now())

    def commit(self, results: Results, *, requests: Sequence[Request] = ()) -> None:
        """Record decisions with their consequences in one transaction, then take note of them."""
        self.store.record(
            Commit(
                decisions=results.decisions,
                effects=results.effects,
                versions=results.versions,
                servings=results.servings,
                findings=results.findings,
                groups=results.groups,
                requests=requests,
                bucket=results.bucket,
            )
        )
        self.take_note(results)

    def take_note(self, results: Results) -> None:
        """Know what was recorded."""
        versions = {version.id: version for version in results.versions}
        for version in versions.values():
            if version.role is Role.TAKEN_BACK:  # leaves before another is seated, which then needs no one's place
                self.fleet.take_back(version)
                self.pools.leave(version.stream_id, [version.id])
        for serving in results.servings:
            self.serves(serving, versions[serving.version_id])
        for version in results.joined:
            self.pools.join(version)
            self.fleet.versions[version.id] = version
        for version in results.versions:
            if version.id in self.fleet.versions:
                self.fleet.versions[version.id] = version
        for effect in results.effects:
            self.fleet.note_effect(effect)
        self.pools.groups.note(results.groups)
        self.pools.paid([effect.stream_id for effect in results.effects if effect.status is EffectStatus.PENDING])
        for decision in results.decisions:
            self.fleet.note_decision(decision)
