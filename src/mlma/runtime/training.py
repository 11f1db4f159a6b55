"""One training: a window of outcomes in, a fitted version (and its forecasts of held-out targets) out.

Runs on a worker; a pure function of its job, so a training that was lost is simply done again.
"""

import time
from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.core.schedule import Schedule
from mlma.core.settings import ModelSettings
from mlma.models import registry
from mlma.models.features import Features
from mlma.models.forecaster import checked_forecasts
from mlma.runtime.hook_call import HookCall, sound


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What one training needs; picklable.

    ``y[j]`` is the outcome of slot ``start + j``, known up to the origin ``start + len(y)``. The model is fitted
    on the targets ``first .. last - 1`` that have an outcome and are not skipped, and then forecasts the targets
    ``last .. start + len(y) - 1``, which it has not seen: the held-out ones of a proof, none otherwise.
    """

    stream_id: int
    batch: int
    start: int
    y: Floats
    first: int
    last: int
    skipped: Bools  # shape (len(y),): slots of excluded periods
    schedule: Schedule
    model: ModelSettings
    call: HookCall | None = None  # of a training elsewhere

    @property
    def key(self) -> tuple[int, int, int]:
        """Stream, batch and first held-out target: jobs with the same key give the same outcome in one run."""
        return self.stream_id, self.batch, self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutcome:
    """What came of a training. ``error`` is empty when it succeeded.

    ``may_succeed_later``: it is worth another try, as far as the settings allow one.
    """

    key: tuple[int, int, int]
    family: str = ""
    blob: bytes = b""
    held_out: Floats | None = None  # forecasts of the held-out targets
    n_rows: int = 0
    cpu_s: float = 0.0
    error: str = ""
    may_succeed_later: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupJob:
    """What the training of a group's model needs: rows of many streams, each on the scale of its stream."""

    group: int  # position in the settings
    batch: int
    X: Floats  # (n, p)
    y: Floats  # (n,)
    model: ModelSettings
    rows_cpu_s: float = 0.0  # spent on the rows
    call: None = None  # nobody else is asked for it

    @property
    def key(self) -> tuple[int, int, int]:
        """As of a stream's training; the streams of groups are negative."""
        return group_key(self.group), self.batch, 0


def group_key(group: int) -> int:
    """What stands for the stream in the key of a group's training."""
    return -1 - group


def train(job: TrainingJob | GroupJob) -> TrainingOutcome:
    """Fit a version; whatever the model raises becomes the outcome's error, with the stream named by the key."""
    began = time.thread_time()
    try:
        return _fit_group(job, began) if isinstance(job, GroupJob) else _fit(job, began)
    except Exception as error:  # noqa: BLE001  a user's model may raise anything; one stream's failure is one outcome
        return TrainingOutcome(key=job.key, cpu_s=time.thread_time() - began, error=f"{type(error).__name__}: {error}")


def _fit(job: TrainingJob, began: float) -> TrainingOutcome:
    features = Features(job.schedule)
    origin = job.start + len(job.y)
    y = sound(job.y, job.schedule)
    X = features.build(y[None, :], start=job.start, first=job.first, last=origin)[0]
    n_fit = job.last - job.first
    target = y[job.first - job.start : job.last - job.start]
    usable = np.isfinite(target) & ~job.skipped[job.first - job.start : job.last - job.start]
    model = registry.make(job.model)
    model.fit(X[:n_fit][usable], target[usable])
    held_out = checked_forecasts(model.predict(X[n_fit:]), origin - job.last) if job.last < origin else None
    return TrainingOutcome(
        key=job.key,
        family=model.family,
        blob=b"" if held_out is not None else model.to_bytes(),
        held_out=held_out,
        n_rows=int(usable.sum()),
        cpu_s=time.thread_time() - began,
    )


def _fit_group(job: GroupJob, began: float) -> TrainingOutcome:
    model = registry.make(job.model)
    model.fit(job.X, job.y)
    return TrainingOutcome(
        key=job.key,
        family=model.family,
        blob=model.to_bytes(),
        n_rows=len(job.y),
        cpu_s=job.rows_cpu_s + time.thread_time() - began,
    )
