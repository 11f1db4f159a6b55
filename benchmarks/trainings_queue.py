"""What the training queue and the pool cost: throughput against a bare joblib loop, CPU time against no pool.

A fleet over real adapters is trained batch after batch under the policy `always` with a budget, so that every round is
planned, recorded and paid. Right after each round joblib does the same jobs, with as many processes and nothing around
them. One round is not counted; of the ratios of the others the median stands.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
from joblib import Parallel, delayed
from rich.table import Table

from benchmarks.measuring import Spread, ratio, ratio_text, significant
from benchmarks.overhead import request
from mlma import bootstrap
from mlma.adapters.artifacts import FileArtifacts
from mlma.adapters.checkpoints import NoCheckpoints
from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core import policy
from mlma.core.blocks import Floats
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings, LifeSettings, ModelSettings, TestingSettings
from mlma.runtime.control import Control, EngineSettings
from mlma.runtime.engine import Engine
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.ray_executor import RayExecutor
from mlma.runtime.replay import VirtualClock
from mlma.runtime.training import TrainingJob, train
from mlma.runtime.trainings import Trainings

STREAMS = 48
ROUNDS = 5
WORKERS = 2
WARM_UP = 57 * 24
ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=1), horizon=24, batch=24, train_window=42 * 24)
AFFORDABLE = 1e6
"""CPU seconds an hour: every training is planned, none has to wait."""

POOL_STREAMS = 94
QUICK_STREAMS = 6
PLAIN, POOLED, ALWAYS = "calendar:4", "calendar:4+pool", "always"
"""The first two do the same trainings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Trainings a second through the queue, beside those of a bare loop over the same jobs."""

    executor: str
    workers: int
    trainings: int  # a round
    queue_s: Spread
    loop_s: Spread
    ratio: Spread  # throughput of the queue / throughput of the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCost:
    """CPU seconds of a replay with the pool and of one without, after the same trainings."""

    streams: int
    trainings: int
    beyond_training_s: Spread  # with the pool: everything that is not a training
    without_pool_s: Spread
    always_s: Spread  # everything, retraining at every batch, without a pool
    share: Spread  # (with - without) / always
    share_of_same: Spread  # (with - without) / everything of the same trainings without a pool


@dataclass
class Watched:
    """Where an executor's jobs are noted."""

    jobs: list[TrainingJob] = field(default_factory=list)


class WatchedInline(InlineExecutor):
    """The inline executor, whose jobs are noted."""

    def __init__(self, seen: Watched) -> None:
        super().__init__(1)
        self._seen = seen

    def submit(self, job: TrainingJob) -> None:
        """Note a job and train."""
        self._seen.jobs.append(job)
        super().submit(job)


class WatchedRay(RayExecutor):
    """The Ray executor, whose jobs are noted."""

    def __init__(self, seen: Watched) -> None:
        super().__init__(WORKERS, n_workers=WORKERS)
        self._seen = seen

    def submit(self, job: TrainingJob) -> None:
        """Note a job and start it."""
        self._seen.jobs.append(job)
        super().submit(job)


class TimedTrainings(Trainings):
    """Trainings whose wall time is measured, from the plan to the last commit."""

    def __init__(self, control: Control) -> None:
        super().__init__(control)
        self.wall_s = 0.0

    def settle(self, *, wait: bool) -> bool:
        """Settle, and add the time to what was measured."""
        began = time.perf_counter()
        moved = super().settle(wait=wait)
        self.wall_s += time.perf_counter() - began
        return moved


def demand(n_streams: int, days: int) -> Floats:
    """Hourly demand, shape (streams, days * 24)."""
    rng = np.random.default_rng(4)
    hour = np.arange(days * 24)
    shape = 1 + 0.6 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(2 * np.pi * hour / 168)
    level = rng.uniform(50, 500, (n_streams, 1))
    made: Floats = level * shape * np.exp(0.1 * rng.standard_normal((n_streams, len(hour))))
    return made


def rows_of(y: Floats, first: int, last: int) -> Rows:
    """Rows of the hours first .. last - 1, stream by stream."""
    start = (ANCHOR - EPOCH) // timedelta(microseconds=1)
    code = np.repeat(np.arange(len(y)), last - first)
    return Rows(
        stream_code=code,
        stream_names=tuple(f"s{i:04d}" for i in range(len(y))),
        time_us=np.tile(start + np.arange(first, last) * 3_600_000_000, len(y)),
        y=y[:, first:last].ravel(),
        row=np.arange(1, len(code) + 1),
    )


def engine_at(path: Path, executor: Executor, clock: VirtualClock) -> tuple[Engine, TimedTrainings]:
    """Engine over a directory on disk, with a budget, retraining everything at every batch."""
    engine = Engine(
        settings=EngineSettings(
            schedule=SCHEDULE,
            model=ModelSettings(name="lightgbm"),
            testing=TestingSettings(),
            life=LifeSettings(warmup=WARM_UP, min_rows=24, cooldown=0, budget_cpu_s_per_hour=AFFORDABLE),
            admission=AdmissionSettings(),
            policy=policy.parse("always"),
        ),
        store=SqlStore(f"sqlite:///{path / 'mlma.db'}", create=True),
        history=ParquetHistory(path / "history"),
        artifacts=FileArtifacts(path / "artifacts"),
        executor=executor,
        clock=clock,
        checkpoints=NoCheckpoints(),
    )
    engine.open()
    engine.trainings = timed = TimedTrainings(engine)
    return engine, timed


def throughput(kind: str, *, streams: int, rounds: int) -> Throughput:
    """Rounds of trainings, each followed by a bare loop over its jobs."""
    seen, clock = Watched(), VirtualClock(ANCHOR)
    workers = 1 if kind == "inline" else WORKERS
    first = WARM_UP // 24
    y = demand(streams, first + rounds + 1)
    queue_s: list[float] = []
    loop_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Parallel(n_jobs=workers) as parallel:
        executor = WatchedInline(seen) if kind == "inline" else WatchedRay(seen)
        engine, timed = engine_at(Path(folder), executor, clock)
        try:
            for turn in range(rounds + 1):
                end = (first + turn) * 24
                clock.set(ANCHOR + timedelta(hours=end))
                engine.take(rows_of(y, 0 if turn == 0 else end - 24, end), path=str(turn), fingerprint="1")
                seen.jobs, timed.wall_s = [], 0.0
                engine.tick(wait=True)
                began = time.perf_counter()
                done = parallel(delayed(train)(job) for job in seen.jobs)
                loop_s.append(time.perf_counter() - began)
                queue_s.append(timed.wall_s)
                assert len(done) == streams, f"{len(done)} of {streams} trainings in round {turn}"
        finally:
            engine.close()
            engine.store.close()
    return Throughput(
        executor=kind,
        workers=workers,
        trainings=streams,
        queue_s=Spread.of(queue_s[1:]),
        loop_s=Spread.of(loop_s[1:]),
        ratio=ratio(loop_s[1:], queue_s[1:]),
    )


def _seconds(name: str, streams: int) -> tuple[int, float, float]:
    """Trainings, CPU seconds of trainings and of everything else of one replay."""
    asked = request(streams, policies=(name,), settings={"life.groups": []})  # a group is a training more
    report = bootstrap.run_replay(asked).to_json()
    figures = cast("dict[str, Any]", report["policies"])[name]
    spent = cast("dict[str, float]", figures["cpu_s"])
    return int(figures["trainings"]), spent["train"], sum(spent.values()) - spent["train"]


def pool_cost(*, streams: int, rounds: int) -> PoolCost:
    """Replays with and without the pool, in turn."""
    trainings = 0
    rest: dict[str, list[float]] = {name: [] for name in (PLAIN, POOLED, ALWAYS)}
    train_s: dict[str, list[float]] = {name: [] for name in rest}
    for name in rest:
        _seconds(name, 2)  # everything is imported and warm
    for turn in range(rounds):
        counts = set()
        for name in list(rest)[:: 1 if turn % 2 else -1]:
            n, train_cpu_s, rest_cpu_s = _seconds(name, streams)
            train_s[name].append(train_cpu_s)
            rest[name].append(rest_cpu_s)
            if name != ALWAYS:
                counts.add(n)
        (trainings,) = counts  # the same with and without
    more = [with_pool - without for with_pool, without in zip(rest[POOLED], rest[PLAIN], strict=True)]
    same = [spent + other for spent, other in zip(train_s[PLAIN], rest[PLAIN], strict=True)]
    always = [spent + other for spent, other in zip(train_s[ALWAYS], rest[ALWAYS], strict=True)]
    return PoolCost(
        streams=streams,
        trainings=trainings,
        beyond_training_s=Spread.of(rest[POOLED]),
        without_pool_s=Spread.of(rest[PLAIN]),
        always_s=Spread.of(always),
        share=ratio(more, always),
        share_of_same=ratio(more, same),
    )


def measure(*, quick: bool) -> list[Throughput | PoolCost]:
    """Both executors, then the pool."""
    streams, rounds = (12, 2) if quick else (STREAMS, ROUNDS)
    made: list[Throughput | PoolCost] = [throughput(kind, streams=streams, rounds=rounds) for kind in ("inline", "ray")]
    made.append(pool_cost(streams=QUICK_STREAMS if quick else POOL_STREAMS, rounds=1 if quick else 3))
    return made


def tables(results: Sequence[Throughput | PoolCost]) -> list[Table]:
    """A table of throughputs and one of the pool."""
    first = Table(
        title="Trainings through the queue against a bare joblib loop over the same jobs, LightGBM, wall time",
        caption="ratio: throughput of the queue / throughput of the loop, round by round; aim: at least 0.85.",
    )
    for heading in ("executor", "workers", "trainings a round", "queue s", "loop s", "ratio"):
        first.add_column(heading, justify="right")
    second = Table(
        title=f"What the pool adds to the same trainings ({POOLED} against {PLAIN}), CPU seconds",
        caption=f"added / {ALWAYS}: of everything that retraining at every batch takes; aim: at most 15 %.",
    )
    for heading in ("streams", "trainings", "rest, pool", "rest, no pool", "always", "added / always", "added / same"):
        second.add_column(heading, justify="right")
    for result in results:
        if isinstance(result, Throughput):
            first.add_row(
                result.executor, str(result.workers), str(result.trainings), significant(result.queue_s.median),
                significant(result.loop_s.median), ratio_text(result.ratio),
            )  # fmt: skip
        else:
            second.add_row(
                str(result.streams), str(result.trainings), significant(result.beyond_training_s.median),
                significant(result.without_pool_s.median), significant(result.always_s.median),
                ratio_text(result.share), ratio_text(result.share_of_same),
            )  # fmt: skip
    return [first, second]
