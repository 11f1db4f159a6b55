"""Joining replays and the demo: virtual clock, recorded data, shared work."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlma.bootstrap.engine import check_replayable, cores, engine_settings, executor_of, make_engine, models_of
from mlma.bootstrap.plots import plot_fleet
from mlma.bootstrap.state import load_settings, open_state
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlma.config import Settings
    from mlma.core.policy import Policy
    from mlma.core.rows import Rows
    from mlma.runtime.control import EngineSettings
    from mlma.runtime.replay import ReplayProgress, Shared
    from mlma.runtime.replay_data import ReplayRequest
    from mlma.runtime.replay_frontier import Candidates
    from mlma.runtime.replay_recorded import Recorded
    from mlma.runtime.replay_report import ReplayReport
    from mlma.runtime.replay_tally import Tally

DEMO_DATA = "us_flights_2001_airport_15min.parquet"


def run_replay(
    request: "ReplayRequest", *, progress: "Callable[[ReplayProgress], None] | None" = None
) -> "ReplayReport":
    """Replay recorded data under several policies. Raises SourceError, ConfigError or ModelError."""
    from mlma.adapters.sources.files import ColumnMapping, read_file
    from mlma.models import registry
    from mlma.runtime import replay_data

    began = time.monotonic()
    settings = load_settings(None, replay_data.settings_of(request))
    wanted = policies_of(request.policies)
    check_replayable(settings)
    for model in models_of(settings):
        registry.check(model)
    mapping = ColumnMapping(stream=request.stream_column, time=request.time_column, value=request.value_column)
    rows, aggregated = replay_data.prepared(
        read_file(Path(request.data), mapping), request, settings.schedule.frequency
    )
    told = {"aggregated": aggregated, **replay_data.described(request)}
    return replayed(rows, settings, wanted, told=told, seed=request.seed, began=began, progress=progress)


def policies_of(names: "Sequence[str]") -> "list[Policy]":
    """Policies by their names, each once. Raises ConfigError."""
    from mlma.core import policy

    return [policy.parse(name) for name in dict.fromkeys(names)]


def replayed(
    rows: "Rows",
    settings: "Settings",
    wanted: "list[Policy]",
    *,
    told: dict[str, object],
    seed: int,
    began: float,
    progress: "Callable[[ReplayProgress], None] | None",
    recorded: "Recorded | None" = None,
) -> "ReplayReport":
    """Run everything that the wanted policies need, side by side, and report it."""
    from mlma.runtime import replay, replay_data, replay_policies, replay_report

    first, _ = replay_data.main_span(rows, settings.schedule.train_window)
    schedule = settings.schedule.to_core(settings.schedule.anchor_before(first))
    n_batches = replay_data.n_scored(rows, schedule, schedule.train_window)
    policies = replay_policies.runs_of(wanted, n_batches)
    workers = executor_of(settings, 0) if settings.executor.kind == "ray" else None
    shared = replay.Shared(workers)
    common = engine_settings(settings, schedule)
    twins = replay_policies.twins_of(policies, common)
    policies = [policy for policy in policies if str(policy) not in twins]
    tallies = [_tally(policy, common, shared, n_batches=n_batches, seed=seed) for policy in policies]
    candidates = _candidates(wanted, tallies, n_batches)
    if workers is not None:
        workers.open([])
    try:
        shared.pool.warm_up(schedule, common.model, n=_n_warm_ups(settings))
        batches = replay.run(
            rows, tallies, clock=shared.clock, pool=shared.pool, memo=shared.memo, artifacts=shared.artifacts,
            progress=progress,
        )  # fmt: skip
    finally:
        if workers is not None:
            workers.close()
    always = next((tally for tally in tallies if tally.name == "always"), None)
    return replay_report.ReplayReport(
        wanted=wanted,
        policies=policies,
        tallies=tallies,
        twins=twins,
        streams=tallies[0].engine.fleet.n_streams,
        batches=batches,
        frontier=candidates.found(always) if candidates is not None and always is not None else None,
        seconds=time.monotonic() - began,
        rejected=tallies[0].engine.store.rejected(),
        settings=told,
        trained_elsewhere_s=0.0 if workers is None else shared.pool.cpu_s,
        recorded=recorded,
        seed=seed,
    )


def _n_warm_ups(settings: "Settings") -> int:
    """Trainings that make every worker read in the model's library."""
    if settings.executor.kind == "inline":
        return 1
    from mlma.runtime.ray_executor import JOBS_PER_TASK

    workers = settings.executor.workers
    return JOBS_PER_TASK * (cores() if workers == "auto" else int(workers))


def _tally(policy: "Policy", common: "EngineSettings", shared: "Shared", *, n_batches: int, seed: int) -> "Tally":
    """An engine that follows one policy, opened, and what counts for it."""
    from mlma.adapters.checkpoints import NoCheckpoints
    from mlma.adapters.memory_history import MemoryHistory
    from mlma.adapters.private_store import PrivateStore
    from mlma.runtime import replay, replay_policies, replay_unwatched
    from mlma.runtime.engine import Engine
    from mlma.runtime.replay_tally import Tally

    watch = replay_policies.watch_of(policy, n_batches=n_batches, price=common.life.price, seed=seed)
    executor = replay.ReplayExecutor(shared.pool, shared.memo, watch=watch)
    engine = Engine(
        settings=replay_policies.settings_under(common, policy, watch),
        store=PrivateStore(),
        history=MemoryHistory(),
        artifacts=shared.artifacts,
        executor=executor,
        clock=shared.clock,
        checkpoints=NoCheckpoints(),
        admitting=shared.admitting,
    )
    tally = Tally(name=str(policy), engine=engine)
    executor.told.append(tally.took)
    tally.observers = [] if watch is None else [watch.note]
    engine.observe = tally.observe
    engine.open()
    if not replay_unwatched.asks_the_test(policy):
        engine.monitor = replay_unwatched.Unwatched.from_settings(engine.settings.testing, 0, seed=seed)
    return tally


def _candidates(wanted: "list[Policy]", tallies: "list[Tally]", n_batches: int) -> "Candidates | None":
    """Versions of always that the frontier is made of, when it was asked for."""
    from mlma.core.policy import PolicyKind
    from mlma.runtime.replay import ReplayExecutor
    from mlma.runtime.replay_frontier import Candidates

    frontier = next((policy for policy in wanted if policy.kind is PolicyKind.FRONTIER), None)
    if frontier is None:
        return None
    always = next(tally for tally in tallies if tally.name == PolicyKind.ALWAYS)
    candidates = Candidates(settings=always.engine.settings, n_batches=n_batches, every=frontier.every)
    assert isinstance(always.engine.executor, ReplayExecutor)
    always.engine.executor.told.append(candidates.took)
    return candidates


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
        history=opened.history,
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
