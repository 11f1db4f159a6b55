"""Replay of recorded data under several policies: the daemon's own tick with a virtual clock and shared work.

All policies advance batch by batch in lockstep, so that a training or a forecast that two of them need is made
once; each is charged for what it used as if it had run alone.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlma.core.errors import ArtifactError
from mlma.core.rows import Rows
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.replay_data import EPOCH, by_batch
from mlma.runtime.replay_report import Tally
from mlma.runtime.serving import Memo
from mlma.runtime.training import TrainingJob, TrainingOutcome, train


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
class ReplayProgress:
    """How far a replay is."""

    batch: int  # batches closed since warm-up
    n_batches: int
    policy: str
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
    warm = max(0, -(-settings.life.warmup // schedule.batch) - 1)
    parts, last = by_batch(rows, schedule, warm)
    began = time.monotonic()
    for batch in range(warm, last + 1):
        clock.set(schedule.time_of(schedule.origin_after(batch)))
        for tally in tallies:
            started = time.process_time()
            if batch in parts:
                tally.engine.take(parts[batch], path="replay", fingerprint=str(batch))
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
    return last - warm
