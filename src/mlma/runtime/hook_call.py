"""What a hook is told about one training: the call beside its window, and both together as a request."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.decisions import Reason
from mlma.core.hooks import CONTRACT
from mlma.core.records import Stream
from mlma.core.robust import wild
from mlma.core.schedule import Schedule
from mlma.core.suspicion import faults
from mlma.runtime.ports import Hook

if TYPE_CHECKING:
    from mlma.runtime.training import TrainingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """A training that is ordered elsewhere; picklable.

    Attributes
    ----------
    hook
        None where versions are only adopted as their forecasts arrive.
    id
        The same however often the training is tried: it lets a receiver do the work once.
    attempt
        From 1.
    version
        Id of the version to make.
    serving
        Name of the version that serves, as far as it forecasts elsewhere; empty without one.
    known
        Names of all versions of the stream that forecast elsewhere.
    arrived
        Versions whose forecasts arrive, the newest first.
    """

    hook: Hook | None
    id: str
    attempt: int
    version: str
    reason: Reason
    stream: Stream
    serving: str
    known: tuple[str, ...]
    arrived: tuple[str, ...]
    deadline_at: datetime


def sound(y: Floats, schedule: Schedule) -> Floats:
    """Window of one stream, shape (n,), without what is no example, neither as a target nor in a feature."""
    window = y[None]
    strange = wild(window) | faults(window, batch=schedule.batch, season=schedule.season)
    made: Floats = np.where(strange, np.nan, window)[0]
    return made


def request_of(job: "TrainingJob", call: HookCall) -> dict[str, object]:
    """Request for a training, in JSON's types.

    The window ends before ``last``: what a proof holds out is not in it. Values of excluded periods, wild ones and
    faults are missing.
    """
    schedule, end = job.schedule, job.last - job.start
    y = np.where(job.skipped, np.nan, sound(job.y, schedule))[:end]
    is_proof = job.last < job.start + len(job.y)
    horizon = schedule.horizon
    return {
        "contract": CONTRACT,
        "id": f"{call.id}-proof" if is_proof else call.id,
        "attempt": call.attempt,
        "version": call.version,
        "reason": str(call.reason),
        "serving": call.serving or None,
        "deadline": call.deadline_at.isoformat(),
        "stream": {"name": call.stream.name, "labels": dict(call.stream.labels)},
        "model": {"name": job.model.name, "params": dict(job.model.params), "seed": job.model.seed},
        "schedule": {
            "anchor": schedule.anchor.isoformat(),
            "frequency_s": schedule.frequency.total_seconds(),
            "horizon": horizon,
            "batch": schedule.batch,
            "train_window": schedule.train_window,
        },
        "window": {
            "start": schedule.time_of(job.start).isoformat(),
            "end": schedule.time_of(job.last).isoformat(),
            "first_target": schedule.time_of(job.first).isoformat(),
            "first_origin": schedule.time_of(job.first // horizon * horizon).isoformat(),
            "last_origin": schedule.time_of(job.last // horizon * horizon).isoformat(),
            "values": _values(y),
        },
    }


def _values(y: Floats) -> list[float | None]:
    return [value if known else None for value, known in zip(y.tolist(), np.isfinite(y).tolist(), strict=True)]
