"""How many trainings run at once on Ray, without a Ray."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mlma.runtime import ray_executor
from mlma.runtime.ray_executor import JOBS_PER_TASK, RayExecutor
from mlma.runtime.training import TrainingJob, TrainingOutcome
from tests.unit.runtime.memory_fleet import SCHEDULE, settings_for

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:ray")


@dataclass
class Tasks:
    """Stands for Ray: bundles run until one of them is waited for, the one that started first ends first."""

    running: dict[int, list[TrainingJob]] = field(default_factory=dict)
    most: int = 0
    n: int = 0

    def remote(self, jobs: list[TrainingJob]) -> int:
        self.n += 1
        self.running[self.n] = jobs
        self.most = max(self.most, len(self.running))
        return self.n

    def wait(self, refs: list[int], *, num_returns: int, timeout: float | None = None) -> tuple[list[int], list[int]]:
        del num_returns
        return ([], refs) if timeout == 0 else (refs[:1], refs[1:])

    def get(self, ref: int) -> list[TrainingOutcome]:
        return [TrainingOutcome(key=job.key) for job in self.running.pop(ref)]


def job(stream_id: int) -> TrainingJob:
    return TrainingJob(
        stream_id=stream_id, batch=0, start=0, y=np.zeros(1), first=0, last=1, skipped=np.zeros(1, dtype=np.bool_),
        schedule=SCHEDULE, model=settings_for().model,
    )  # fmt: skip


@pytest.mark.parametrize(("address", "concurrent", "most"), [("auto", 2, 2), ("auto", None, 6), ("local", 2, 6)])
def test_a_shared_ray_gets_no_more_bundles_than_may_run(
    monkeypatch: pytest.MonkeyPatch, address: str, concurrent: int | None, most: int
) -> None:
    tasks = Tasks()
    fake: Any = type("FakeRay", (), {"wait": tasks.wait, "get": tasks.get})
    monkeypatch.setattr(ray_executor, "_train_all", tasks)
    monkeypatch.setattr(ray_executor, "ray", fake)
    executor = RayExecutor(1, address=address, concurrent=concurrent)
    jobs = [job(i) for i in range(6 * JOBS_PER_TASK)]
    for one in jobs:
        executor.submit(one)
    found: list[TrainingOutcome] = []
    while outcomes := executor.collect(wait=True):
        found += outcomes
    assert sorted(outcome.key for outcome in found) == sorted(one.key for one in jobs)
    assert tasks.most == most


def test_a_ray_of_its_own_has_no_more_cpus_than_may_train() -> None:
    assert RayExecutor(1, n_workers=8, concurrent=3)._n_workers == 3
    assert RayExecutor(1, n_workers=2, concurrent=3)._n_workers == 2
