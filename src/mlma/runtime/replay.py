"""Replay of recorded data under several policies: the daemon's own tick with a virtual clock and shared work.

All policies advance batch by batch in lockstep, so that a training or a forecast that two of them need is made
once; each is charged for what it used as if it had run alone.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from mlma.core.admission import Admitted
from mlma.core.errors import ArtifactError
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import ModelSettings
from mlma.models.features import Features
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.replay_data import EPOCH, by_batch, warm_batch
from mlma.runtime.replay_policies import Watch
from mlma.runtime.replay_tally import Tally
from mlma.runtime.scoring import BatchScores
from mlma.runtime.serving import Memo
from mlma.runtime.training import GroupJob, TrainingJob, TrainingOutcome, train

WARM_UP_ROWS = 64
"""Rows of a training that is done for nothing."""


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
        self._known: dict[int, str] = {}  # hashes of the kept blobs by identity: all policies bring the same ones

    def save(self, blob: bytes) -> str:
        """Keep a blob."""
        known = self._known.get(id(blob))
        if known is not None:
            return known
        sha256 = hashlib.sha256(blob).hexdigest()
        if self._blobs.setdefault(sha256, blob) is blob:
            self._known[id(blob)] = sha256
        return sha256

    def save_all(self, blobs: Sequence[bytes]) -> list[str]:
        """Keep several blobs."""
        return [self.save(blob) for blob in blobs]

    def load(self, sha256: str) -> bytes:
        """Give a blob back. Raises ArtifactError when it was forgotten."""
        try:
            return self._blobs[sha256]
        except KeyError:
            raise ArtifactError(f"artifact {sha256}: no policy of this replay serves it any more") from None

    def keep(self, served: set[str]) -> None:
        """Forget all others."""
        self._blobs = {sha256: blob for sha256, blob in self._blobs.items() if sha256 in served}
        self._known = {id(blob): sha256 for sha256, blob in self._blobs.items()}


class TrainingPool:
    """Trainings shared by the policies of a replay, done inline or on the workers of another executor."""

    def __init__(self, workers: Executor | None = None) -> None:
        self._workers = workers
        self.cpu_s = 0.0  # of all trainings, each counted once
        self._started: set[tuple[int, int, int]] = set()
        self._done: dict[tuple[int, int, int], TrainingOutcome] = {}

    def warm_up(self, schedule: Schedule, model: ModelSettings, *, n: int) -> None:
        """Do ``n`` small trainings for nothing, so that no policy is charged for reading in a library.

        Models of a class of one's own are left alone: who knows what a fit of theirs does.
        """
        if ":" in model.name and not model.name.startswith("sklearn."):
            return
        last = Features(schedule).lookback + WARM_UP_ROWS
        y = np.random.default_rng(0).uniform(1.0, 2.0, last)
        for i in range(n):
            job = TrainingJob(
                stream_id=-1 - i, batch=-1, start=0, y=y, first=last - WARM_UP_ROWS, last=last,
                skipped=np.zeros(last, dtype=np.bool_), schedule=schedule, model=model,
            )  # fmt: skip
            self.start(job)
        while self._workers is not None and len(self._done) < n:
            for outcome in self._workers.collect(wait=True):
                self._add(outcome)
        self.forget()
        self.cpu_s = 0.0

    def start(self, job: TrainingJob | GroupJob) -> None:
        """Start a training unless it was started already."""
        if job.key in self._started:
            return
        self._started.add(job.key)
        if self._workers is None:
            self._add(train(job))
        else:
            self._workers.submit(job)

    def take(self, keys: set[tuple[int, int, int]], *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of these trainings that are there; with ``wait`` at least one, if any is under way."""
        while True:
            found = [self._done[key] for key in keys if key in self._done]
            if self._workers is None or not keys or (found and not wait) or len(found) == len(keys):
                return found
            for outcome in self._workers.collect(wait=wait):
                self._add(outcome)
            if not wait:
                return [self._done[key] for key in keys if key in self._done]

    @property
    def trained_here_s(self) -> float:
        """CPU seconds of trainings that were spent in this process."""
        return self.cpu_s if self._workers is None else 0.0

    def _add(self, outcome: TrainingOutcome) -> None:
        self._done[outcome.key] = outcome
        self.cpu_s += outcome.cpu_s

    def forget(self) -> None:
        """Drop what no policy will ask for again."""
        self._started.clear()
        self._done.clear()


class ReplayExecutor(InlineExecutor):
    """Inline shards whose trainings come from a shared pool.

    Parameters
    ----------
    watch
        Is shown the scores of each batch before anything is proposed; None for policies without a memory.

    Attributes
    ----------
    told
        Are called with each outcome that the policy makes use of.
    """

    def __init__(
        self,
        pool: TrainingPool,
        memo: Memo,
        n_shards: int = 1,
        *,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(n_shards, memo)
        self._pool = pool
        self._watch = watch
        self.told: list[Callable[[TrainingOutcome], None]] = []
        self._mine: set[tuple[int, int, int]] = set()

    def score(self, batch: int) -> list[BatchScores]:
        """Close a batch, and show its scores to the policy's memory."""
        parts = super().score(batch)
        if self._watch is not None:
            self._watch.see(parts, batch)
        return parts

    def submit(self, job: TrainingJob | GroupJob) -> None:
        """Ask the pool for a training."""
        self._pool.start(job)
        self._mine.add(job.key)

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of what this policy asked for."""
        found = self._pool.take(self._mine, wait=wait)
        self._mine -= {outcome.key for outcome in found}
        for tell in self.told:
            for outcome in sorted(found, key=lambda outcome: outcome.key):
                tell(outcome)
        return found


class Shared:
    """What the policies of one replay share: the clock, trainings, forecasts and artifacts."""

    def __init__(self, workers: Executor | None = None) -> None:
        self.clock = VirtualClock()
        self.pool = TrainingPool(workers)
        self.memo = Memo()
        self.artifacts = ReplayArtifacts()

    def admitting(self, seq: int, judge: Callable[[], Admitted]) -> Admitted:
        """Rows of a file as the first policy judged them: all know the same streams and outcomes."""
        made, spared = self.memo.once(("admitted", seq), judge)
        self.memo.spared_cpu_s += spared
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a replay is."""

    batch: int  # batches closed since warm-up
    n_batches: int
    policy: str
    streams: int
    trainings: int  # of all policies together
    eta_s: float | None


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

    Raises
    ------
    SourceError
        There is no batch to score.
    """
    settings = tallies[0].engine.settings
    schedule = settings.schedule
    warm = warm_batch(schedule, settings.life.warmup)
    parts, last = by_batch(rows, schedule, warm)
    began = time.monotonic()
    for batch in range(warm, last + 1):
        clock.set(schedule.time_of(schedule.origin_after(batch)))
        for tally in tallies:
            started, trained = time.process_time(), 0.0 if pool is None else pool.trained_here_s
            spared = 0.0 if memo is None else memo.spared_cpu_s
            if batch in parts:
                tally.engine.take(parts[batch], path="replay", fingerprint=str(batch))
            tally.engine.tick(complete_until=schedule.origin_after(batch), wait=True, ahead=memo is None)
            tally.cpu_s += time.process_time() - started
            tally.spared_cpu_s += 0.0 if memo is None else memo.spared_cpu_s - spared
            if pool is not None:
                tally.trained_here_s += pool.trained_here_s - trained
            if progress is not None:
                done = batch - warm
                spent = time.monotonic() - began
                progress(
                    ReplayProgress(
                        batch=done,
                        n_batches=last - warm,
                        policy=tally.name,
                        streams=tally.engine.fleet.n_streams,
                        trainings=sum(other.engine.costs.trainings for other in tallies),
                        eta_s=spent / done * (last - warm - done) if done else None,
                    )
                )
        if pool is None or memo is None or artifacts is None:
            continue  # a single policy over real adapters shares nothing
        pool.forget()
        served = set[str]().union(*(tally.engine.pools.artifacts() for tally in tallies))
        memo.clear(served)
        artifacts.keep(served)
    return last - warm
