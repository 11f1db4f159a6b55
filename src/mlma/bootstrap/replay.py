"""Joining replays and the demo: virtual clock, recorded data, shared work."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlma.bootstrap.engine import engine_settings, executor_of, make_engine
from mlma.bootstrap.plots import plot_fleet
from mlma.bootstrap.state import load_settings, open_state
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from mlma.runtime.replay import ReplayProgress
    from mlma.runtime.replay_data import ReplayRequest
    from mlma.runtime.replay_report import ReplayReport

DEMO_DATA = "us_flights_2001_airport_15min.parquet"


def run_replay(
    request: "ReplayRequest", *, progress: "Callable[[ReplayProgress], None] | None" = None
) -> "ReplayReport":
    """Replay recorded data under several policies. Raises SourceError, ConfigError or ModelError."""
    from mlma.adapters.checkpoints import NoCheckpoints
    from mlma.adapters.memory_history import MemoryHistory
    from mlma.adapters.sources.files import ColumnMapping, read_file
    from mlma.adapters.store import SqlStore
    from mlma.core import policy
    from mlma.models import registry
    from mlma.runtime import replay, replay_data, replay_report
    from mlma.runtime.control import EngineSettings
    from mlma.runtime.engine import Engine
    from mlma.runtime.serving import Memo

    began = time.monotonic()
    settings = load_settings(None, replay_data.settings_of(request))
    policies = [policy.parse(text) for text in request.policies]
    registry.check(settings.model.to_core())
    mapping = ColumnMapping(stream=request.stream_column, time=request.time_column, value=request.value_column)
    rows, aggregated = replay_data.prepared(
        read_file(Path(request.data), mapping), request, settings.schedule.frequency
    )
    first, _ = replay_data.main_span(rows, settings.schedule.train_window)
    schedule = settings.schedule.to_core(settings.schedule.anchor_before(first))
    workers = executor_of(settings, 0) if settings.executor.kind == "ray" else None
    memo: Memo = {}
    artifacts, used_clock = replay.ReplayArtifacts(), replay.VirtualClock()
    pool = replay.TrainingPool(workers)
    common = engine_settings(settings, schedule)
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
    package = Path(__file__).parents[1]
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
    first, _ = replay_data.main_span(rows, settings.schedule.train_window)
    engine = make_engine(opened, settings, first, used_clock)
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
