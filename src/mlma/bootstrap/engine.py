"""Joining an engine: executor, schedule of a state, adapters."""

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING

from mlma.bootstrap.state import State, schedule_of
from mlma.core.errors import ConfigError, StopDaemonError
from mlma.core.schedule import Schedule
from mlma.core.settings import EXTERNAL
from mlma.runtime.ports import Clock, ControlStore

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.core.settings import ModelSettings
    from mlma.runtime.control import EngineSettings
    from mlma.runtime.engine import Engine
    from mlma.runtime.executors import Executor

FIXED = ("frequency_s", "horizon", "batch", "train_window", "n_shards")
"""Meta entries that a state keeps for its whole life."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_replayable(settings: "Settings") -> None:
    """Raise ConfigError unless the forecasts of the settings' model can be made again."""
    if settings.model.name == EXTERNAL:
        raise ConfigError(
            f"model.name = {EXTERNAL!r}: cannot be replayed, because its versions forecast elsewhere; expected a model "
            "that is trained here, such as lightgbm (--model)"
        )


def executor_of(settings: "Settings", n_shards: int) -> "Executor":
    """Executor that the settings name, not opened yet; with no shards it only trains."""
    wanted, concurrent = settings.executor.workers, settings.life.budget_concurrent
    workers = cores() if wanted == "auto" else int(wanted)
    if settings.executor.kind == "inline":
        from mlma.runtime.executors import InlineExecutor

        return InlineExecutor(n_shards, n_hooks=min(workers, concurrent or workers))
    from mlma.runtime.ray_executor import RayExecutor

    return RayExecutor(n_shards, address=settings.executor.address, n_workers=workers, concurrent=concurrent)


def models_of(settings: "Settings") -> "list[ModelSettings]":
    """Models that the settings name: that of the streams, and those of groups."""
    return [settings.model.to_core(), *(group.to_core().model for group in settings.life.groups or ())]


def engine_settings(settings: "Settings", schedule: Schedule) -> "EngineSettings":
    """What an engine needs to know, in slots of a schedule."""
    from mlma.core import policy
    from mlma.runtime.control import EngineSettings

    return EngineSettings(
        schedule=schedule,
        model=settings.model.to_core(),
        testing=settings.testing.to_core(),
        life=settings.life.to_core(settings.schedule),
        admission=settings.admission.to_core(settings.schedule, awaits_forecasts=settings.model.name == EXTERNAL),
        policy=policy.parse(settings.policy),
    )


def _n_shards(settings: "Settings") -> int:
    shards = settings.executor.shards
    if shards != "auto":
        return int(shards)
    return cores() if settings.executor.kind == "ray" else 1


def _recorded(settings: "Settings", schedule: Schedule, n_shards: str) -> dict[str, str]:
    """What a state says of itself, for those who read it while no daemon runs."""
    from mlma.runtime.groups import groups_of

    life = settings.life.to_core(settings.schedule)
    return {
        "anchor": schedule.anchor.isoformat(),
        "frequency_s": str(schedule.frequency.total_seconds()),
        "horizon": str(schedule.horizon),
        "batch": str(schedule.batch),
        "train_window": str(schedule.train_window),
        "n_shards": n_shards,
        "alpha": str(settings.testing.alpha),
        "fallback_every": str(life.fallback_every),
        "cooldown": str(life.cooldown),
        "min_rows": str(life.min_rows),
        "budget_patience": str(life.budget_patience),
        "policy": settings.policy,
        "serve": str(life.serve),
        "price": str(life.price),
        "weights": json.dumps([[rule.select, rule.weight] for rule in life.weights]),
        "groups": json.dumps([group.name for group in groups_of(life)]),
        "model": settings.model.name,
        "loss": str(settings.testing.loss),
    }


def _fix_schedule(store: ControlStore, settings: "Settings", first: datetime | None) -> Schedule | None:
    """Schedule of a state: the one it has, checked against the settings, or a new one from the first observation."""
    known = store.meta()
    schedule = schedule_of(known)
    if schedule is None:
        if first is None:
            return None
        schedule = settings.schedule.to_core(settings.schedule.anchor_before(first))
    if settings.schedule.anchor is not None and settings.schedule.anchor != schedule.anchor:
        raise StopDaemonError(
            f"the state was made with anchor = {schedule.anchor.isoformat()}, the settings say "
            f"{settings.schedule.anchor.isoformat()}: go back to that value, or start a new state directory"
        )
    wanted = settings.schedule.to_core(schedule.anchor)
    meta = _recorded(settings, wanted, known.get("n_shards", str(_n_shards(settings))))
    if settings.executor.shards != "auto":
        meta["n_shards"] = str(settings.executor.shards)
    for key in FIXED:
        if key in known and known[key] != meta[key]:
            raise StopDaemonError(
                f"the state was made with {key} = {known[key]}, the settings say {meta[key]}: "
                "go back to that value, or start a new state directory"
            )
    store.set_meta(meta)
    return wanted


def make_engine(state: State, settings: "Settings", first: datetime | None, used_clock: Clock) -> "Engine | None":
    """Engine over a state directory, opened; None while nothing is known about event time."""
    from mlma.adapters.artifacts import FileArtifacts
    from mlma.adapters.checkpoints import FileCheckpoints
    from mlma.adapters.hooks.making import hook_of
    from mlma.models import registry
    from mlma.runtime.engine import Engine

    schedule = _fix_schedule(state.store, settings, first)
    if schedule is None:
        return None
    for model in models_of(settings):
        registry.check(model)
    engine = Engine(
        settings=engine_settings(settings, schedule),
        store=state.store,
        history=state.history,
        artifacts=FileArtifacts(state.path / "artifacts"),
        executor=executor_of(settings, int(state.store.meta()["n_shards"])),
        clock=used_clock,
        checkpoints=FileCheckpoints(state.path / "checkpoints"),
        hook=hook_of(settings.model.hook.to_core()),
    )
    engine.open()
    return engine
