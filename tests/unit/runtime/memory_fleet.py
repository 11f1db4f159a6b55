"""Small fleets whose whole state lives in memory, driven day by day; shared by the tests of the runtime."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from mlma.adapters.artifacts import MemoryArtifacts
from mlma.adapters.checkpoints import NoCheckpoints
from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.core import policy
from mlma.core.decisions import OverrideKind, Phase, RequestKind
from mlma.core.records import AuditRow, Decision, Finding, Override, Request, SourceFile, Version
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings, LifeSettings, ModelSettings, Serve, TestingSettings
from mlma.runtime.control import EngineSettings
from mlma.runtime.engine import Engine
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.ports import ArtifactStore, Checkpoints, ControlStore, History, Hook
from mlma.runtime.replay import VirtualClock

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOURS = 24
WARM_DAYS = 42  # the longest lag and one train window, so that the first versions are grown up
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=1), horizon=6, batch=24, train_window=14 * HOURS)
TINY = "tests.integration.tiny_model:TinyLeastSquares"
ODD = "tests.unit.runtime.odd_model:OddModel"


def demand(n_streams: int, days: int, *, seed: int = 1, breaks_on: int | None = None) -> np.ndarray:
    """Hourly demand, shape (streams, days * 24); every second stream changes its shape for good on one day."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * HOURS)
    daily = 1 + 0.6 * np.sin(2 * np.pi * hour / 24)
    level = rng.uniform(50, 500, (n_streams, 1))
    y = level * daily * np.exp(0.05 * rng.standard_normal((n_streams, days * HOURS)))
    if breaks_on is not None:
        late = hour >= breaks_on * HOURS
        shifted = level * (1 + 0.6 * np.cos(2 * np.pi * hour / 24)) * 1.5
        y[::2, late] = shifted[::2, late] * np.exp(0.05 * rng.standard_normal(y[::2, late].shape))
    return y


def names_of(y: np.ndarray) -> list[str]:
    return [f"s{i:03d}" for i in range(len(y))]


def rows_of(y: np.ndarray, first_hour: int, last_hour: int, *, names: list[str] | None = None) -> Rows:
    """Rows of the hours first .. last - 1 that have a value, stream by stream."""
    names = names or names_of(y)
    code, hour = np.nonzero(np.isfinite(y[:, first_hour:last_hour]))
    start = (ANCHOR - EPOCH) // timedelta(microseconds=1)
    return Rows(
        stream_code=code,
        stream_names=tuple(names),
        time_us=start + (hour + first_hour) * 3_600_000_000,
        y=y[code, hour + first_hour],
        row=np.arange(1, len(code) + 1),
    )


def poisoned(y: np.ndarray, stream: int, hours: slice) -> tuple[np.ndarray, float]:
    """The same data with hours of one stream that are large but no fault, and a limit that nothing else exceeds."""
    made, top = y.copy(), float(y.max())
    made[stream] *= top / made[stream].max()
    made[stream, hours] = top * (3.0 + 0.01 * np.arange(len(made[stream, hours])))
    return made, 2.0 * top


JUDGED = (policy.PolicyKind.TEST, policy.PolicyKind.MLMA)
"""Policies under which a candidate must prove itself."""


def settings_for(
    model: str = TINY,
    *,
    params: dict[str, object] | None = None,
    wanted: str = "test",
    life: dict[str, object] | None = None,
    admission: dict[str, object] | None = None,
    **testing: object,
) -> EngineSettings:
    """Engine settings of the small fleets."""
    made = LifeSettings(warmup=WARM_DAYS * HOURS, min_rows=7 * HOURS, serve=Serve.CHAMPION, evergreen=())
    parsed = policy.parse(wanted)
    judged = parsed.kind in JUDGED
    discipline = {"proof": judged, "serve": Serve.CHAMPION if judged or (life or {}).get("proof") else Serve.LATEST}
    return EngineSettings(
        schedule=SCHEDULE,
        model=ModelSettings(name=model, params=params or {}),
        testing=TestingSettings(**testing),  # type: ignore[arg-type]
        life=replace(
            made,
            **{
                **discipline,
                **(life or {}),
            },
        ),  # type: ignore[arg-type]
        admission=AdmissionSettings(**(admission or {})),  # type: ignore[arg-type]
        policy=parsed,
    )


@dataclass
class Life:
    """One fleet in memory: what its engine stands on, and what an engineer may do to it."""

    y: np.ndarray
    settings: EngineSettings = field(default_factory=settings_for)
    n_shards: int = 1
    executor: Executor | None = None
    store: ControlStore = field(default_factory=lambda: SqlStore("sqlite://", create=True))
    history: History = field(default_factory=MemoryHistory)
    artifacts: ArtifactStore = field(default_factory=MemoryArtifacts)
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(ANCHOR))
    hook: Hook | None = None
    day: int = 0  # the next one
    tick_options: dict[str, bool] = field(default_factory=dict)
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Make an engine where the store stands, as after a restart."""
        self.engine = Engine(
            settings=self.settings,
            store=self.store,
            history=self.history,
            artifacts=self.artifacts,
            executor=self.executor or InlineExecutor(self.n_shards),
            clock=self.clock,
            checkpoints=self.checkpoints,
            hook=self.hook,
        )
        self.engine.open()

    def until(self, day: int) -> "Life":
        """Live to the end of the day before ``day``: the first weeks in one file, then one file and tick a day."""
        while self.day < day:
            first, self.day = self.day, min(day, max(self.day + 1, WARM_DAYS - 1))
            self.clock.set(max(self.clock.now(), ANCHOR + self.day * DAY))
            self.take(rows_of(self.y, first * HOURS, self.day * HOURS), path=f"day-{first:03d}")
            self.tick()
        return self

    def take(self, rows: Rows, *, path: str) -> SourceFile:
        return self.engine.take(rows, path=path, fingerprint="1")

    def tick(self) -> bool:
        """Tick until nothing more can be done now; one tick closes one batch at the most."""
        options = {"wait": True, **self.tick_options}
        moved = self.engine.tick(**options)
        while moved and self.engine.tick(**options):
            pass
        return moved

    def later(self, seconds: float = 1.0) -> "Life":
        """Let a moment pass."""
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))
        return self

    # what an engineer does

    def override(self, kind: OverrideKind, selection: str, *, first_day: int = 0, last_day: int = 0) -> int:
        """A standing order from now on; an exclusion covers the days first .. last - 1."""
        now = self.clock.now()
        excludes = kind is OverrideKind.EXCLUDE
        order = Override(
            kind=kind,
            selection=selection,
            author="ada",
            comment="a test",
            created_at=now,
            starts_at=ANCHOR + first_day * DAY if excludes else now,
            ends_at=ANCHOR + last_day * DAY if excludes else None,
        )
        return self.store.add_override(order, self._audit(kind, selection))

    def lift(self, override_id: int) -> None:
        self.later()
        self.store.lift_override(
            override_id, by="ada", at=self.clock.now(), audit=self._audit("lift", str(override_id))
        )

    def request(self, kind: RequestKind, selection: str) -> int:
        self.later()
        asked = Request(kind=kind, selection=selection, author="ada", comment="a test", created_at=self.clock.now())
        return self.store.add_request(asked, self._audit(kind, selection))

    def _audit(self, operation: str, subject: str) -> AuditRow:
        return AuditRow(
            at=self.clock.now(), author="ada", operation=operation, subject=subject, before="null", after="{}"
        )

    # what it did

    def id(self, name: str) -> int:
        return self.engine.fleet.ids[name]

    def decisions(self, name: str | None = None, **wanted: object) -> list[Decision]:
        """Decisions in order of time that have these values."""
        found = self.store.decisions(stream_id=None if name is None else self.id(name))
        return [d for d in reversed(found) if all(getattr(d, key) == value for key, value in wanted.items())]

    def batch(self, name: str, batch: int) -> Decision:
        (found,) = self.decisions(name, phase=Phase.BATCH, batch=batch)
        return found

    def versions(self, name: str) -> list[Version]:
        return self.store.versions(stream_id=self.id(name))

    def champion(self, name: str) -> str:
        version = self.engine.fleet.champion(self.id(name))
        return "" if version is None else version.id

    def open_findings(self, kind: str) -> dict[str, Finding]:
        return {finding.subject: finding for finding in self.store.findings(open_only=True) if finding.kind == kind}


def outcome(store: ControlStore) -> dict[str, object]:
    """Everything that two runs over the same data must agree on, without the times of day and CPU times."""
    at = EPOCH
    return {
        "cursor": store.cursor(),
        "streams": store.streams(),
        "decisions": sorted(repr(replace(d, decided_at=at)) for d in store.decisions()),
        "versions": [replace(v, trained_at=at, fit_cpu_s=0.0) for v in store.versions()],
        "servings": [replace(s, at=at) for s in sorted(store.servings(), key=lambda s: s.stream_id)],
        "effects": [
            replace(e, ordered_at=at, deadline_at=at, finished_at=None, attempts=0, cpu_s=None)
            for e in sorted(store.effects(), key=lambda e: e.id)
        ],
        "groups": sorted(
            repr(replace(one, ordered_at=at, deadline_at=at, finished_at=None, attempts=0, cpu_s=None))
            for one in store.group_trainings()
        ),
        "files": [(f.seq, f.path, f.n_admitted, f.n_rejected, f.n_late) for f in store.files()],
        "rejected": store.rejected(),
        "certificate": repr(store.certificate()),
        "incidents": [repr(incident) for incident in store.incidents()],
        "requests": [replace(r, consumed_at=at) for r in store.requests()],
    }
