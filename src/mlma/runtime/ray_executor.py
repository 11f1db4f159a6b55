"""Shards as Ray actors and trainings as Ray tasks. The only file that imports ray."""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

from mlma.core.errors import MlmaError, RetryLaterError
from mlma.runtime.elsewhere import carried_out
from mlma.runtime.executors import Calls, Executor
from mlma.runtime.shard import Shard
from mlma.runtime.shard_parts import Position, ShardSpec
from mlma.runtime.training import GroupJob, TrainingJob, TrainingOutcome

JOBS_PER_TASK = 4
"""Trainings that travel together, so that cheap models do not drown in call overhead."""

RESTART_PATIENCE_S = 120.0
"""How long a lost shard is waited for before the tick is given up and tried again."""

RESTART_POLL_S = 0.2

NAMESPACE = "mlma"

FOLDER = "mlma-ray-"
"""Start of the name of a local Ray's temporary folder; the process id follows."""


def _start(address: str, n_workers: int) -> Path | None:
    """Start or join Ray in a lean way: no dashboard, no usage statistics; returns its own temporary folder."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address != "local":
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        return None
    for abandoned in abandoned_folders():
        shutil.rmtree(abandoned, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
    ray.init(
        address="local",
        num_cpus=n_workers,
        include_dashboard=False,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 1024 * 1024,
        _temp_dir=str(folder),
        _node_ip_address="127.0.0.1",  # nobody else on the network is to reach a Ray that asks for no password
    )
    return folder


class ShardLostError(RetryLaterError):
    """A shard was restarted by Ray and has not been synced since."""


class ShardActor:
    """One shard in its own process. A restarted one is empty until it is synced again."""

    def __init__(self, spec: ShardSpec) -> None:
        self._shard = Shard(spec)
        self._is_synced = False

    def call(self, method: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        """Process id, and what a method of the shard returned.

        Raises
        ------
        ShardLostError
            The shard's memory was lost since the last sync.
        """
        if method != "sync" and not self._is_synced:
            raise ShardLostError(f"{method} was called on a shard that was restarted")
        made = getattr(self._shard, method)(*arguments)
        self._is_synced = True
        return os.getpid(), made


_RemoteShard = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(ShardActor)


@ray.remote(num_cpus=1, max_retries=0)
def _train_all(jobs: list[TrainingJob | GroupJob]) -> list[TrainingOutcome]:
    return [carried_out(job) for job in jobs]


class RayExecutor(Executor):
    """Shard actors (about one per core) and training tasks on Ray.

    Parameters
    ----------
    n_shards
        Actors to make.
    address
        ``local`` starts a Ray of its own; ``auto`` or an address joins a cluster.
    n_workers
        CPUs for trainings on a local Ray.
    concurrent
        Trainings at the same time at the most; None for as many as there are CPUs.
    """

    def __init__(
        self, n_shards: int, *, address: str = "local", n_workers: int | None = None, concurrent: int | None = None
    ) -> None:
        self.n_shards = n_shards
        self._address = address
        self._n_workers = min(n_workers or os.cpu_count() or 1, concurrent or sys.maxsize)
        self._concurrent = None if address == "local" else concurrent  # a Ray of its own has no more CPUs than that
        self._specs: list[ShardSpec] = []
        self._actors: list[Any] = []
        self._pids: dict[int, int] = {}
        self._folder: Path | None = None
        self._position: Position | None = None
        self._waiting: list[TrainingJob | GroupJob] = []
        self._running: dict[Any, list[TrainingJob | GroupJob]] = {}

    def open(self, specs: Sequence[ShardSpec]) -> None:
        """Start Ray and the actors."""
        self._folder = _start(self._address, self._n_workers)
        self._specs = list(specs)
        self._actors = [_RemoteShard.remote(spec) for spec in specs]

    def known_pids(self) -> list[int]:
        """Process ids of the shard actors that answered last, for whoever watches or kills them."""
        return sorted(self._pids.values())

    def sync(self, position: Position) -> list[int]:
        """Bring every shard to a position, and remember it for shards that are lost later."""
        self._position = position
        return super().sync(position)

    def _call(self, method: str, calls: Calls) -> dict[int, Any]:
        """Call the shards in parallel; a lost one is waited for, synced again and asked again."""
        refs = {shard: self._actors[shard].call.remote(method, arguments) for shard, arguments in calls.items()}
        made: dict[int, Any] = {}
        for shard in sorted(refs):
            try:
                self._pids[shard], made[shard] = ray.get(refs[shard])
            except RayActorError:
                made[shard] = self._call_again(shard, method, calls[shard])
            except RayTaskError as error:
                if not isinstance(_cause(error), ShardLostError):
                    raise _cause(error) from error
                made[shard] = self._call_again(shard, method, calls[shard])
        return made

    def _call_again(self, shard: int, method: str, arguments: tuple[Any, ...]) -> Any:
        deadline = time.monotonic() + RESTART_PATIENCE_S
        while time.monotonic() < deadline:
            try:
                actor = self._actors[shard]
                if self._position is not None and method != "sync":
                    ray.get(actor.call.remote("sync", (self._position,)))
                self._pids[shard], made = ray.get(actor.call.remote(method, arguments))
                return made
            except RayTaskError as error:
                raise _cause(error) from error
            except RayActorError:
                time.sleep(RESTART_POLL_S)
        raise RetryLaterError(f"shard {shard} did not come back within {RESTART_PATIENCE_S:.0f} s")

    def submit(self, job: TrainingJob | GroupJob) -> None:
        """Queue a training; full bundles start at once, the rest at the next collect."""
        self._waiting.append(job)
        if len(self._waiting) >= JOBS_PER_TASK or job.call is not None:
            self._launch()

    def _launch(self) -> None:
        """Start what waits in bundles, each of which trains one after the other, as many as may run at once."""
        while self._waiting and (self._concurrent is None or len(self._running) < self._concurrent):
            size = JOBS_PER_TASK if self._waiting[0].call is None else 1  # a hook may take long, nobody waits behind it
            jobs, self._waiting = self._waiting[:size], self._waiting[size:]
            self._running[_train_all.remote(jobs)] = jobs

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of finished bundles; jobs of a lost worker are started again."""
        self._launch()
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not ready and wait:
            ready, _ = ray.wait(list(self._running), num_returns=1)
        outcomes: list[TrainingOutcome] = []
        for ref in ready:
            jobs = self._running.pop(ref)
            try:
                outcomes.extend(ray.get(ref))
            except (WorkerCrashedError, RayActorError):
                self._running[_train_all.remote(jobs)] = jobs
            except RayTaskError as error:
                outcomes.extend(TrainingOutcome(key=job.key, error=str(_cause(error))) for job in jobs)
        self._launch()
        return outcomes

    def close(self) -> None:
        """End actors, tasks and a local Ray."""
        self._actors, self._running = [], {}
        ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _cause(error: RayTaskError) -> Exception:
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, MlmaError) else error


def abandoned_folders() -> list[Path]:
    """Temporary folders of local Rays whose process was killed."""
    found = sorted(Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"))
    return [folder for folder in found if not _is_alive(folder.name.removeprefix(FOLDER).split("-")[0])]


def _is_alive(pid: str) -> bool:
    return not pid.isdigit() or Path(f"/proc/{pid}").exists()
