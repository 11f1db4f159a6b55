"""Trainings on a worker, here or elsewhere: a job in, an outcome out, and whatever goes wrong becomes its error."""

import time

import numpy as np

from mlma.core.errors import HookError
from mlma.core.hooks import HookReply
from mlma.core.settings import EXTERNAL
from mlma.models.elsewhere import received
from mlma.models.external import ExternalForecaster
from mlma.models.features import Features
from mlma.models.forecaster import checked_forecasts
from mlma.runtime.hook_call import HookCall, request_of, sound
from mlma.runtime.training import GroupJob, TrainingJob, TrainingOutcome, train


def carried_out(job: TrainingJob | GroupJob) -> TrainingOutcome:
    """Outcome of a training, wherever it takes place; groups are trained here."""
    if isinstance(job, GroupJob):
        return train(job)
    call = job.call
    if call is None:
        return train(job)
    began = time.monotonic()
    try:
        if _is_adopted(job, call):
            return _version(job, _adopted(call), 0.0)
        assert call.hook is not None
        time.sleep(call.hook.wait_before(call.attempt))
        began = time.monotonic()
        reply = call.hook.call(request_of(job, call))
        cost_s = time.monotonic() - began if reply.cpu_s is None else reply.cpu_s
        if job.model.name == EXTERNAL:
            return _version(job, _named(reply, call), cost_s)
        return _received(job, reply, cost_s)
    except Exception as error:  # noqa: BLE001  a hook may raise anything; one stream's failure is one outcome
        is_ours = isinstance(error, HookError)
        return TrainingOutcome(
            key=job.key,
            cpu_s=time.monotonic() - began,
            error=str(error) if is_ours else f"{type(error).__name__}: {error}",
            may_succeed_later=call.hook is not None,
        )


def _is_adopted(job: TrainingJob, call: HookCall) -> bool:
    """Whether a version is taken as it is: forecasts of a first one arrive already, or nobody can be asked."""
    is_first = not call.known and bool(call.arrived)
    return job.model.name == EXTERNAL and (is_first or call.hook is None)


def _adopted(call: HookCall) -> str:
    """Newest version whose forecasts arrive and that is not known. Raises HookError."""
    new = [name for name in call.arrived if name not in call.known]
    if new:
        return new[0]
    there = f"of {', '.join(call.arrived)}, known already" if call.arrived else "of no version"
    raise HookError(
        f"no hook is set (model.hook.kind) and forecasts have arrived {there}: deliver forecasts of a new version, "
        "then mlma retrain STREAM"
    )


def _named(reply: HookReply, call: HookCall) -> str:
    """Name under which the forecasts of the new version will arrive. Raises HookError."""
    if reply.artifact or reply.family:
        raise HookError(f"reply: holds a model, but model.name = {EXTERNAL!r} expects forecasts in files")
    name = reply.version or call.version
    if name in call.known:
        raise HookError(f"reply: version = {name!r} is known already; a retraining makes a new one")
    return name


def _version(job: TrainingJob, name: str, cost_s: float) -> TrainingOutcome:
    """Outcome that is known by the name of a version."""
    made = ExternalForecaster(name)
    return TrainingOutcome(key=job.key, family=made.family, blob=made.to_bytes(), n_rows=_n_rows(job), cpu_s=cost_s)


def _n_rows(job: TrainingJob) -> int:
    """Outcomes that can be learned from."""
    targets = slice(job.first - job.start, job.last - job.start)
    return int((np.isfinite(sound(job.y, job.schedule)) & ~job.skipped)[targets].sum())


def _received(job: TrainingJob, reply: HookReply, cost_s: float) -> TrainingOutcome:
    """Outcome with a model that forecasts here. It must forecast the newest targets before it is believed."""
    if not reply.artifact:
        raise HookError("reply: holds no artifact; expected artifact (base64) or path")
    model, blob = received(reply.family, reply.artifact, job.model)
    origin = job.start + len(job.y)
    is_proof = job.last < origin
    first = job.last if is_proof else origin - job.schedule.horizon
    y = sound(job.y, job.schedule)
    X = Features(job.schedule).build(y[None], start=job.start, first=first, last=origin)[0]
    made = checked_forecasts(model.predict(X), origin - first)
    if not np.isfinite(made).any():
        raise HookError(f"reply: artifact: none of its {len(made)} newest forecasts is finite")
    return TrainingOutcome(
        key=job.key,
        family=model.family,
        blob=b"" if is_proof else blob,
        held_out=made if is_proof else None,
        n_rows=_n_rows(job),
        cpu_s=cost_s,
    )
