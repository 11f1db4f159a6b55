"""Replay of recorded data under several policies: the daemon's own tick with a virtual clock and shared work.

All policies advance batch by batch in lockstep, so that a training or a forecast that two of them need is made
once; each is charged for what it used as if it had run alone.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mlma.core.aggregate import aggregated
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.durations import format_duration, parse_duration
from mlma.core.errors import ArtifactError, SourceError
from mlma.core.policy import Policy
from mlma.core.records import Rejected
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import LifeSettings
from mlma.runtime.closing import Closed
from mlma.runtime.engine import Engine
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.serving import Memo
from mlma.runtime.training import TrainingJob, TrainingOutcome, train

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class VirtualClock:
    """A clock that stands where it was set."""

    def __init__(self, now: datetime = EPOCH) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time that was set last."""
        return self._now

    def set(self, now: datetime) -> None:
        """Move the clock."""
        self._now = now


class ReplayArtifacts:
    """Artifacts in memory, of which only those that some policy still serves are kept."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def save(self, blob: bytes) -> str:
        """Keep a blob."""
        sha256 = hashlib.sha256(blob).hexdigest()
        self._blobs[sha256] = blob
        return sha256

    def load(self, sha256: str) -> bytes:
        """Give a blob back. Raises ArtifactError when it was forgotten."""
        try:
            return self._blobs[sha256]
        except KeyError:
            raise ArtifactError(f"artifact {sha256}: no policy of this replay serves it any more") from None

    def keep(self, served: set[str]) -> None:
        """Forget all others."""
        self._blobs = {sha256: blob for sha256, blob in self._blobs.items() if sha256 in served}


class TrainingPool:
    """Trainings shared by the policies of a replay, done inline or on the workers of another executor."""

    def __init__(self, workers: Executor | None = None) -> None:
        self._workers = workers
        self._started: set[tuple[int, int, int]] = set()
        self._done: dict[tuple[int, int, int], TrainingOutcome] = {}

    def start(self, job: TrainingJob) -> None:
        """Start a training unless it was started already."""
        if job.key in self._started:
            return
        self._started.add(job.key)
        if self._workers is None:
            self._done[job.key] = train(job)
        else:
            self._workers.submit(job)

    def take(self, keys: set[tuple[int, int, int]], *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of these trainings that are there; with ``wait`` at least one, if any is under way."""
        while True:
            found = [self._done[key] for key in keys if key in self._done]
            if self._workers is None or not keys or (found and not wait) or len(found) == len(keys):
                return found
            for outcome in self._workers.collect(wait=wait):
                self._done[outcome.key] = outcome
            if not wait:
                return [self._done[key] for key in keys if key in self._done]

    def forget(self) -> None:
        """Drop what no policy will ask for again."""
        self._started.clear()
        self._done.clear()


class ReplayExecutor(InlineExecutor):
    """Inline shards whose trainings come from a shared pool."""

    def __init__(self, pool: TrainingPool, memo: Memo, n_shards: int = 1) -> None:
        super().__init__(n_shards, memo)
        self._pool = pool
        self._mine: set[tuple[int, int, int]] = set()

    def submit(self, job: TrainingJob) -> None:
        """Ask the pool for a training."""
        self._pool.start(job)
        self._mine.add(job.key)

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of what this policy asked for."""
        found = self._pool.take(self._mine, wait=wait)
        self._mine -= {outcome.key for outcome in found}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What to replay; durations as text (``1h``, ``7d``)."""

    data: Path  # Parquet or CSV file
    frequency: str
    horizon: str
    batch: str
    train_window: str
    stream_column: str = "stream"
    time_column: str = "ts"
    value_column: str = "y"
    model: str = "lightgbm"
    model_params: dict[str, object] = field(default_factory=dict)
    aggregate: str = "sum"  # of rows finer than the frequency: sum, mean or none (they are refused then)
    limit_streams: int | None = None
    policies: tuple[str, ...] = ("never", "always", "calendar:4", "mlma")
    executor: str = "ray"
    seed: int = 0
    settings: dict[str, object] = field(default_factory=dict)  # of the configuration, by dotted key


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a replay is."""

    batch: int  # batches closed since warm-up
    n_batches: int
    policy: str
    trainings: int  # of all policies together
    eta_s: float | None


@dataclass
class Tally:
    """Losses of one policy by stream, summed over the targets that a trained version was responsible for."""

    name: str
    engine: Engine
    loss: Floats = field(default_factory=lambda: np.zeros(0))
    naive: Floats = field(default_factory=lambda: np.zeros(0))
    n: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    cpu_s: float = 0.0  # of take and tick in this process

    def observe(self, closed: Closed) -> None:
        """Add one batch."""
        more = len(closed.has_version) - len(self.n)
        self.loss, self.naive = (np.concatenate([old, np.zeros(more)]) for old in (self.loss, self.naive))
        self.n = np.concatenate([self.n, np.zeros(more, dtype=np.int64)])
        evidence = closed.evidence
        counts = closed.has_version & np.isfinite(evidence.mean_loss) & np.isfinite(evidence.naive_loss)
        n = np.where(counts, evidence.n, 0)
        self.loss += np.where(counts, np.nan_to_num(evidence.mean_loss), 0.0) * n
        self.naive += np.where(counts, np.nan_to_num(evidence.naive_loss), 0.0) * n
        self.n += n

    def relative_to_naive(self) -> Floats:
        """Loss over the naive loss of each stream that was scored, shape (scored streams,)."""
        return _ratio(self.loss, self.naive, self.n > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """Result of a replay."""

    tallies: Sequence[Tally]
    streams: int
    batches: int
    seconds: float
    rejected: Sequence[Rejected]
    settings: dict[str, object]
    inline_training: bool

    def to_json(self) -> dict[str, object]:
        """Figures by policy, as `mlma replay --json` writes them."""
        always = next((tally for tally in self.tallies if tally.name == "always"), None)
        return {
            "settings": self.settings,
            "streams": self.streams,
            "batches": self.batches,
            "seconds": round(self.seconds, 1),
            "skipped": self._skipped(),
            "policies": {tally.name: self._figures(tally, always) for tally in self.tallies},
        }

    def _figures(self, tally: Tally, always: Tally | None) -> dict[str, object]:
        costs = tally.engine.costs
        used = tally.n > 0
        trained_here = costs.train_cpu_s if self.inline_training else 0.0
        rest = max(0.0, tally.cpu_s - trained_here - (costs.predict_cpu_s - costs.spared_cpu_s))
        return {
            "mean_loss": _number(tally.loss.sum() / max(1, tally.n.sum())),
            "relative_loss_to_always": None if always is None else _spread(_ratio(tally.loss, always.loss, used)),
            "relative_loss_to_naive": _spread(tally.relative_to_naive()),
            "trainings": costs.trainings,
            "training_share_of_always": _share(costs.trainings, always and always.engine.costs.trainings),
            "training_cpu_share_of_always": _share(costs.train_cpu_s, always and always.engine.costs.train_cpu_s),
            "alarms": costs.alarms,
            "cpu_s": {
                "train": round(costs.train_cpu_s, 2),
                "predict": round(costs.predict_cpu_s, 2),
                "rest": round(rest, 2),
            },
        }

    def _skipped(self) -> list[dict[str, object]]:
        skipped: list[dict[str, object]] = []
        engine, n = self.tallies[0].engine, self.tallies[0].n
        for stream in engine.fleet.streams:
            if stream.id >= len(n) or not n[stream.id]:
                reason = "no batch was scored under a trained version: too little data in the train window"
                if engine.fleet.champion(stream.id) is not None:
                    reason = "trained, but no batch after it had outcomes"
                skipped.append({"stream": stream.name, "reason": reason})
        skipped += [
            {
                "stream": entry.stream,
                "reason": str(entry.reason),
                "rows": entry.count,
                "first_row": entry.row,
                "column": entry.field,
                "value": entry.value,
                "expected": entry.expected,
            }
            for entry in self.rejected
        ]
        return skipped


def _ratio(numerator: Floats, denominator: Floats, used: Bools) -> Floats:
    usable = used & (denominator > 0)
    return numerator[usable] / denominator[usable]


def _spread(values: Floats) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "median": None, "p90": None}
    return {
        "mean": _number(values.mean()),
        "median": _number(np.median(values)),
        "p90": _number(np.quantile(values, 0.9)),
    }


def _share(part: float, whole: float | None) -> float | None:
    return None if not whole else _number(part / whole)


def _number(value: float) -> float:
    return round(float(value), 5)


def first_time(rows: Rows) -> datetime | None:
    """The oldest readable time, None when there is none."""
    times = rows.time_us[rows.time_us != NO_TIME]
    return EPOCH + timedelta(microseconds=int(times.min())) if len(times) else None


def require_first_time(rows: Rows) -> datetime:
    """The oldest readable time. Raises SourceError when no row has one."""
    first = first_time(rows)
    if first is None:
        raise SourceError(f"column {rows.time_column!r}: no row holds a time, expected {rows.time_expected}")
    return first


def settings_of(request: ReplayRequest) -> dict[str, object]:
    """Settings that a request overrides, by dotted key.

    The first version of a stream needs a quarter of the train window; nothing is scored before one whole train
    window has passed, so that all policies start from the same first versions.
    """
    quarter = parse_duration(request.train_window) / 4
    frequency = parse_duration(request.frequency)
    return {
        "schedule.frequency": request.frequency,
        "schedule.horizon": request.horizon,
        "schedule.batch": request.batch,
        "schedule.train_window": request.train_window,
        "schedule.warmup": request.train_window,
        "schedule.min_history": format_duration(max(1, quarter // frequency) * frequency),
        "model.name": request.model,
        "model.params": request.model_params,
        "model.seed": request.seed,
        "executor.kind": request.executor,
        **request.settings,
    }


def described(request: ReplayRequest) -> dict[str, object]:
    """The request as plain values."""
    return {**{name: getattr(request, name) for name in request.__dataclass_fields__}, "data": str(request.data)}


def demo_request(data: Path, *, minutes15: bool, executor: str) -> ReplayRequest:
    """What the demo replays: departures an hour (or a quarter of one), a day ahead, tested day by day."""
    return ReplayRequest(
        data=data,
        frequency="15min" if minutes15 else "1h",
        horizon="24h",
        batch="1d",
        train_window="56d",
        policies=("mlma",),
        executor=executor,
    )


def life_of(life: LifeSettings, schedule: Schedule, policy: Policy) -> LifeSettings:
    """Life settings of one policy: the baselines promote the latest version without a proof."""
    return replace(life, warmup=schedule.train_window, proof=life.proof and policy.proves)


def prepared(rows: Rows, request: ReplayRequest, frequency: timedelta) -> tuple[Rows, str]:
    """Rows limited to the drawn streams and brought to the frequency; says in words what was aggregated."""
    rows = limited(rows, request.limit_streams, request.seed)
    if request.aggregate == "none":
        return rows, ""
    return aggregated(rows, frequency, request.aggregate)


def limited(rows: Rows, limit: int | None, seed: int) -> Rows:
    """Rows of ``limit`` streams drawn by seed; all rows when there are no more streams than that."""
    if limit is None or limit >= len(rows.stream_names):
        return rows
    drawn = np.random.default_rng(seed).choice(len(rows.stream_names), limit, replace=False)
    return taken(rows, np.flatnonzero(np.isin(rows.stream_code, drawn)))


def taken(rows: Rows, index: Ints) -> Rows:
    """The rows at these positions, in this order, with their marked cells."""
    position = {int(old): new for new, old in enumerate(index)} if rows.time_text or rows.y_text or rows.broken else {}
    marked = {
        name: {position[i]: text for i, text in getattr(rows, name).items() if i in position}
        for name in ("time_text", "y_text", "broken")
    }
    return replace(
        rows,
        stream_code=rows.stream_code[index],
        time_us=rows.time_us[index],
        y=rows.y[index],
        row=rows.row[index],
        **marked,
    )


def by_batch(rows: Rows, schedule: Schedule, warm: int) -> dict[int, Rows]:
    """Rows by the batch they fall in; everything up to batch ``warm``, and rows without a time, come first."""
    us = schedule.frequency // timedelta(microseconds=1)
    anchor = (schedule.anchor - EPOCH) // timedelta(microseconds=1)
    known = rows.time_us != NO_TIME
    batch = np.where(known, (rows.time_us - anchor) // us // schedule.batch, warm)
    batch = np.maximum(batch, warm)
    order = np.argsort(batch, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(batch[order])) + 1)
    return {int(batch[part[0]]): taken(rows, part) for part in parts if len(part)}


def run(
    rows: Rows,
    tallies: Sequence[Tally],
    *,
    clock: VirtualClock,
    pool: TrainingPool | None = None,
    memo: Memo | None = None,
    artifacts: ReplayArtifacts | None = None,
    progress: Callable[[ReplayProgress], None] | None = None,
) -> int:
    """Drive the engines of all policies through the data, batch by batch.

    Returns
    -------
    int
        Batches closed after warm-up. The last batch is closed only when its last slot has been seen.
    """
    settings = tallies[0].engine.settings
    schedule = settings.schedule
    warm = max(0, -(-settings.life.warmup // schedule.batch) - 1)
    parts = by_batch(rows, schedule, warm)
    last = max(parts)
    newest = int(rows.time_us[rows.time_us != NO_TIME].max())
    end_slot = schedule.slot_at(EPOCH + timedelta(microseconds=newest))
    if end_slot + 1 < schedule.origin_after(last):
        last -= 1
    began = time.monotonic()
    for batch in range(warm, last + 1):
        clock.set(schedule.time_of(schedule.origin_after(batch)))
        for tally in tallies:
            started = time.process_time()
            if batch in parts:
                tally.engine.take(parts[batch], path="replay", fingerprint=str(batch), check_future=False)
            tally.engine.tick(complete_until=schedule.origin_after(batch), wait=True)
            tally.cpu_s += time.process_time() - started
            if progress is not None:
                done = batch - warm
                spent = time.monotonic() - began
                progress(
                    ReplayProgress(
                        batch=done,
                        n_batches=last - warm,
                        policy=tally.name,
                        trainings=sum(other.engine.costs.trainings for other in tallies),
                        eta_s=spent / done * (last - warm - done) if done else None,
                    )
                )
        if pool is None or memo is None or artifacts is None:
            continue  # a single policy over real adapters shares nothing
        pool.forget()
        memo.clear()
        artifacts.keep({c.sha256 for tally in tallies for c in tally.engine.fleet.champions().values()})
    return max(0, last - warm)
