"""The only place where real things are joined: settings, adapters, engine. Everything heavy is imported on use."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlma.core.errors import OperationError, StopDaemonError
from mlma.core.schedule import Schedule
from mlma.runtime.ports import Clock, ControlStore, History, Notifier

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.core.rows import Rows
    from mlma.runtime.engine import Engine, EngineSettings
    from mlma.runtime.executors import Executor
    from mlma.runtime.explain import Explanation
    from mlma.runtime.replay import ReplayProgress
    from mlma.runtime.replay_data import ReplayRequest
    from mlma.runtime.replay_report import ReplayReport

DATABASE = "mlma.db"
DEMO_DATA = "us_flights_2001_airport_15min.parquet"
FIXED = ("frequency_s", "horizon", "batch", "train_window", "n_shards")
"""Meta entries that a state keeps for its whole life."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)


def clock() -> Clock:
    """The real clock."""
    return SystemClock()


@dataclass(frozen=True)
class State:
    """One state directory, opened."""

    path: Path
    store: ControlStore

    @cached_property
    def history(self) -> "History":
        """Observations, forecasts and losses."""
        from mlma.adapters.history import ParquetHistory

        return ParquetHistory(self.path / "history")

    @property
    def schedule(self) -> Schedule | None:
        """Event time of the fleet, None before the first observation fixed it."""
        return schedule_of(self.store.meta())

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def open_state(path: Path, *, create: bool = False) -> State:
    """Open a state directory.

    Raises
    ------
    StoreError
        There is none, or it is of another revision.
    """
    from mlma.adapters.store import SqlStore

    if create:
        path.mkdir(parents=True, exist_ok=True)
    return State(path=path, store=SqlStore(f"sqlite:///{path / DATABASE}", create=create))


def schedule_of(meta: Mapping[str, str]) -> Schedule | None:
    """Schedule as the meta table has it, None when it holds none."""
    if "anchor" not in meta:
        return None
    return Schedule(
        anchor=datetime.fromisoformat(meta["anchor"]),
        frequency=timedelta(seconds=float(meta["frequency_s"])),
        horizon=int(meta["horizon"]),
        batch=int(meta["batch"]),
        train_window=int(meta["train_window"]),
    )


def load_settings(config: Path | None, overrides: Mapping[str, object] | None = None) -> "Settings":
    """Settings from a file, the environment and overrides. Raises ConfigError."""
    from mlma.config import load

    return load(config, overrides)


def notifier(settings: "Settings") -> Notifier:
    """The way to the engineer."""
    from mlma.adapters.notifier import AppriseNotifier

    return AppriseNotifier(settings.digest.urls())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _executor(settings: "Settings", n_shards: int) -> "Executor":
    if settings.executor.kind == "inline":
        from mlma.runtime.executors import InlineExecutor

        return InlineExecutor(n_shards)
    from mlma.runtime.ray_executor import RayExecutor

    workers = settings.executor.workers
    return RayExecutor(
        n_shards, address=settings.executor.address, n_workers=_cores() if workers == "auto" else int(workers)
    )


def _engine_settings(settings: "Settings", schedule: Schedule) -> "EngineSettings":
    from mlma.core import policy
    from mlma.runtime.engine import EngineSettings

    return EngineSettings(
        schedule=schedule,
        model=settings.model.to_core(),
        testing=settings.testing.to_core(),
        life=settings.life.to_core(settings.schedule),
        admission=settings.admission.to_core(settings.schedule),
        policy=policy.parse(settings.policy),
    )


def _n_shards(settings: "Settings") -> int:
    shards = settings.executor.shards
    if shards != "auto":
        return int(shards)
    return _cores() if settings.executor.kind == "ray" else 1


def _fix_schedule(store: ControlStore, settings: "Settings", first: datetime | None) -> Schedule | None:
    """Schedule of a state: the one it has, checked against the settings, or a new one from the first observation."""
    known = store.meta()
    schedule = schedule_of(known)
    if schedule is None:
        if first is None:
            return None
        schedule = settings.schedule.to_core(settings.schedule.anchor_before(first))
    if settings.schedule.anchor is not None and settings.schedule.anchor != schedule.anchor:
        raise StopDaemonError(
            f"the state was made with anchor = {schedule.anchor.isoformat()}, the settings say "
            f"{settings.schedule.anchor.isoformat()}: go back to that value, or start a new state directory"
        )
    wanted = settings.schedule.to_core(schedule.anchor)
    meta = {
        "anchor": schedule.anchor.isoformat(),
        "frequency_s": str(wanted.frequency.total_seconds()),
        "horizon": str(wanted.horizon),
        "batch": str(wanted.batch),
        "train_window": str(wanted.train_window),
        "n_shards": known.get("n_shards", str(_n_shards(settings))),
        "alpha": str(settings.testing.alpha),
        "policy": settings.policy,
        "model": settings.model.name,
        "loss": str(settings.testing.loss),
    }
    if settings.executor.shards != "auto":
        meta["n_shards"] = str(settings.executor.shards)
    for key in FIXED:
        if key in known and known[key] != meta[key]:
            raise StopDaemonError(
                f"the state was made with {key} = {known[key]}, the settings say {meta[key]}: "
                "go back to that value, or start a new state directory"
            )
    store.set_meta(meta)
    return wanted


def make_engine(state: State, settings: "Settings", first: datetime | None, used_clock: Clock) -> "Engine | None":
    """Engine over a state directory, opened; None while nothing is known about event time."""
    from mlma.adapters.artifacts import FileArtifacts
    from mlma.adapters.checkpoints import FileCheckpoints
    from mlma.models import registry
    from mlma.runtime.engine import Engine

    schedule = _fix_schedule(state.store, settings, first)
    if schedule is None:
        return None
    registry.check(settings.model.to_core())
    engine = Engine(
        settings=_engine_settings(settings, schedule),
        store=state.store,
        history=state.history,
        artifacts=FileArtifacts(state.path / "artifacts"),
        executor=_executor(settings, int(state.store.meta()["n_shards"])),
        clock=used_clock,
        checkpoints=FileCheckpoints(state.path / "checkpoints"),
    )
    engine.open()
    return engine


def configure_logging(settings: "Settings") -> None:
    """Structured log lines on standard error, for people on a terminal and as JSON elsewhere."""
    import logging
    import sys

    import structlog

    wanted = settings.daemon.log_format
    is_console = wanted == "console" or (wanted == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.daemon.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def run_daemon(settings: "Settings", *, once: bool = False) -> int:
    """Keep a state until told to stop; with ``once`` until everything that is there was worked through."""
    from mlma.adapters.sources.directory import DirectorySource
    from mlma.adapters.sources.files import ColumnMapping
    from mlma.runtime.daemon import Daemon, DaemonSettings
    from mlma.runtime.replay_data import first_time

    configure_logging(settings)
    source = settings.source
    source.path.mkdir(parents=True, exist_ok=True)
    state = open_state(settings.state.path, create=True)
    used_clock = clock()

    def engine_for(waiting: "Sequence[Rows]") -> "Engine | None":
        times = [found for rows in waiting if (found := first_time(rows)) is not None]
        return make_engine(state, settings, min(times, default=None), used_clock)

    daemon = Daemon(
        store=state.store,
        source=DirectorySource(
            root=source.path,
            patterns=source.patterns,
            mapping=ColumnMapping(
                stream=source.stream_column,
                time=source.time_column,
                value=source.value_column,
                labels=source.label_columns,
                timezone=source.timezone,
            ),
            settle_s=settings.daemon.settle_s,
        ),
        clock=used_clock,
        notifier=notifier(settings),
        settings=DaemonSettings(
            tick=timedelta(seconds=settings.daemon.tick_s),
            heartbeat=timedelta(seconds=settings.daemon.heartbeat_s),
            digest_cron=settings.digest.cron,
            digest_timezone=settings.digest.timezone,
        ),
        make_engine=engine_for,
    )
    try:
        daemon.run(once=once)
    finally:
        state.close()
    return 0


def run_replay(
    request: "ReplayRequest", *, progress: "Callable[[ReplayProgress], None] | None" = None
) -> "ReplayReport":
    """Replay recorded data under several policies. Raises SourceError, ConfigError or ModelError."""
    from mlma.adapters.checkpoints import NoCheckpoints
    from mlma.adapters.history import MemoryHistory
    from mlma.adapters.sources.files import ColumnMapping, read_file
    from mlma.adapters.store import SqlStore
    from mlma.core import policy
    from mlma.models import registry
    from mlma.runtime import replay, replay_data, replay_report
    from mlma.runtime.engine import Engine, EngineSettings
    from mlma.runtime.serving import Memo

    began = time.monotonic()
    settings = load_settings(None, replay_data.settings_of(request))
    policies = [policy.parse(text) for text in request.policies]
    registry.check(settings.model.to_core())
    mapping = ColumnMapping(stream=request.stream_column, time=request.time_column, value=request.value_column)
    rows, aggregated = replay_data.prepared(
        read_file(Path(request.data), mapping), request, settings.schedule.frequency
    )
    schedule = settings.schedule.to_core(settings.schedule.anchor_before(replay_data.require_first_time(rows)))
    workers = _executor(settings, 0) if settings.executor.kind == "ray" else None
    memo: Memo = {}
    artifacts, used_clock = replay.ReplayArtifacts(), replay.VirtualClock()
    pool = replay.TrainingPool(workers)
    common = _engine_settings(settings, schedule)
    tallies = []
    for wanted in policies:
        engine = Engine(
            settings=EngineSettings(
                schedule=schedule,
                model=common.model,
                testing=common.testing,
                life=replay_data.life_of(common.life, schedule, wanted),
                admission=common.admission,
                policy=wanted,
            ),
            store=SqlStore("sqlite://", create=True),
            history=MemoryHistory(),
            artifacts=artifacts,
            executor=replay.ReplayExecutor(pool, memo),
            clock=used_clock,
            checkpoints=NoCheckpoints(),
        )
        tally = replay_report.Tally(name=str(wanted), engine=engine)
        engine.observe = tally.observe
        engine.open()
        tallies.append(tally)
    if workers is not None:
        workers.open([])
    try:
        batches = replay.run(
            rows, tallies, pool=pool, memo=memo, artifacts=artifacts, clock=used_clock, progress=progress
        )
        return replay_report.ReplayReport(
            tallies=tallies,
            streams=tallies[0].engine.fleet.n_streams,
            batches=batches,
            seconds=time.monotonic() - began,
            rejected=tallies[0].engine.store.rejected(),
            settings={"aggregated": aggregated, **replay_data.described(request)},
            inline_training=workers is None,
        )
    finally:
        if workers is not None:
            workers.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demo did, for its closing screen."""

    state: Path
    fleet_png: Path
    streams: int
    batches: int
    trainings: int
    promotions: int
    rejected: int
    alarms: int
    seconds: float
    relative_loss_to_naive: float
    summary: tuple[str, ...] = field(default=())


def demo_data() -> Path:
    """The recorded departures that ship with mlma. Raises OperationError when they are missing."""
    package = Path(__file__).parent
    for folder in (package / "demo_data", package.parents[1] / "simulations"):
        if (folder / DEMO_DATA).is_file():
            return folder / DEMO_DATA
    raise OperationError(f"{DEMO_DATA} is missing: expected beside the package or in simulations/")


def run_demo(
    *,
    state: Path,
    fleet_png: Path,
    minutes15: bool = False,
    executor: str = "ray",
    progress: "Callable[[ReplayProgress], None] | None" = None,
) -> DemoReport:
    """Replay the airport departures of 2001 into a state directory that the other commands then read.

    A state directory of an earlier demo is replaced; any other is refused with OperationError.
    """
    from mlma.adapters.sources.files import ColumnMapping, read_file
    from mlma.core.decisions import Action
    from mlma.runtime import digests, replay, replay_data, replay_report

    began = time.monotonic()
    if state.exists():
        if not (state / ".demo").exists():
            raise OperationError(f"{state} exists and was not made by the demo: choose another --state")
        shutil.rmtree(state)
    state.mkdir(parents=True)
    (state / ".demo").touch()
    request = replay_data.demo_request(demo_data(), minutes15=minutes15, executor=executor)
    settings = load_settings(None, {**replay_data.settings_of(request), "state.path": str(state)})
    rows, _ = replay_data.prepared(read_file(demo_data(), ColumnMapping()), request, settings.schedule.frequency)
    opened = open_state(state, create=True)
    used_clock = replay.VirtualClock()
    engine = make_engine(opened, settings, replay_data.require_first_time(rows), used_clock)
    assert engine is not None
    tally = replay_report.Tally(name=settings.policy, engine=engine)
    engine.observe = tally.observe
    try:
        batches = replay.run(rows, [tally], clock=used_clock, progress=progress)
    finally:
        engine.close()
    now = used_clock.now()
    digests.issue(
        opened.store,
        now=now,
        since=now - timedelta(days=7),
        targets=(),
        alpha=settings.testing.alpha,
        schedule=engine.settings.schedule,
        expects_daemon=False,
    )
    made = opened.store.decisions(exceptions_only=True)
    report = DemoReport(
        state=state,
        fleet_png=fleet_png,
        streams=engine.fleet.n_streams,
        batches=batches,
        trainings=engine.costs.trainings,
        promotions=sum(decision.action is Action.PROMOTE for decision in made),
        rejected=sum(decision.action is Action.REJECT for decision in made),
        alarms=engine.costs.alarms,
        seconds=time.monotonic() - began,
        relative_loss_to_naive=float(tally.relative_to_naive().mean()),
    )
    plot_fleet(opened, fleet_png)
    opened.close()
    return report


def plot_stream(state: State, explanation: "Explanation", path: Path) -> None:  # noqa: ARG001  one signature for plots
    """Draw what explain says about one stream."""
    from mlma.adapters import plots

    plots.stream_png(explanation, path)


def plot_fleet(state: State, path: Path) -> None:
    """Draw the fleet by batch. Raises OperationError when nothing was decided yet."""
    from mlma.adapters import plots
    from mlma.runtime.explain import fleet_view

    schedule = state.schedule
    if schedule is None:
        raise OperationError(f"{state.path} holds no observation yet: nothing to draw")
    plots.fleet_png(fleet_view(state.store, state.history, schedule), path)
