"""Joining the what-if tool: the observations of a state replayed under other settings."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlma.bootstrap.engine import check_replayable
from mlma.bootstrap.replay import policies_of, replayed
from mlma.bootstrap.state import load_settings, open_state
from mlma.core.durations import format_duration
from mlma.core.errors import ConfigError, OperationError
from mlma.core.schedule import Schedule

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.runtime.replay import ReplayProgress
    from mlma.runtime.replay_report import ReplayReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfRequest:
    """What to replay of a state."""

    state: Path
    since: timedelta  # before the end of the last closed batch
    policy_file: Path | None = None  # settings; None for defaults and environment
    policies: tuple[str, ...] = ()  # empty: the one of the settings
    executor: str = "ray"
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)  # by dotted key


def run_what_if(
    request: WhatIfRequest, *, progress: "Callable[[ReplayProgress], None] | None" = None
) -> "ReplayReport":
    """Replay what a state has recorded under other settings, beside what its daemon did; the state is only read.

    Raises
    ------
    StoreError
        There is no state, or it is of another version.
    OperationError
        It holds too little, or was made with another event time than the settings name.
    ConfigError
        A setting or policy is wrong.
    """
    from mlma.models import registry
    from mlma.runtime import replay_recorded

    began = time.monotonic()
    state = open_state(request.state)
    try:
        schedule, n_shards = state.schedule, int(state.store.meta().get("n_shards", "1"))
        if schedule is None:
            raise OperationError(f"{request.state} holds no observation yet: there is nothing to replay")
        span = replay_recorded.span_of(state.store, schedule, request.since)
        settings = _settings(request, schedule, span.first_slot)
        check_replayable(settings)
        registry.check(settings.model.to_core())
        rows = replay_recorded.rows_of(state.store, state.history, schedule, span, n_shards=n_shards)
        found = replay_recorded.recorded(
            state.store, state.history, span, settings.testing.to_core(), n_shards=n_shards
        )
    finally:
        state.close()
    wanted = policies_of(request.policies or (settings.policy,))
    told: dict[str, object] = {
        "state": str(request.state),
        "since": format_duration(request.since),
        "policy_file": None if request.policy_file is None else str(request.policy_file),
        "frequency": format_duration(schedule.frequency),
        "horizon": format_duration(schedule.horizon * schedule.frequency),
        "batch": format_duration(schedule.batch * schedule.frequency),
        "train_window": format_duration(schedule.train_window * schedule.frequency),
        "model": settings.model.name,
        "policies": tuple(map(str, wanted)),
        "executor": request.executor,
        "seed": request.seed,
        "settings": dict(request.settings),
    }
    return replayed(
        rows, settings, wanted, told=told, seed=request.seed, began=began, progress=progress, recorded=found
    )


FIXED = ("frequency", "horizon", "batch", "train_window")
"""Event time that a state keeps for its whole life."""


def _settings(request: WhatIfRequest, schedule: Schedule, first_slot: int) -> "Settings":
    """Settings of the file with the event time of the state, so that batches are the recorded ones."""
    wanted = load_settings(request.policy_file, dict(request.settings))
    lengths = {
        "frequency": schedule.frequency,
        **{name: getattr(schedule, name) * schedule.frequency for name in FIXED[1:]},
    }
    for name in FIXED:
        asked: timedelta = getattr(wanted.schedule, name)
        if name in wanted.schedule.model_fields_set and asked != lengths[name]:
            raise ConfigError(
                f"schedule.{name} = {format_duration(asked)}: the state was made with "
                f"{format_duration(lengths[name])}, which a what-if replay keeps; leave it out, or replay the data "
                "itself: mlma replay DATA"
            )
    return load_settings(
        request.policy_file,
        {
            **request.settings,
            **{f"schedule.{name}": format_duration(length) for name, length in lengths.items()},
            "schedule.anchor": schedule.time_of(first_slot).isoformat(),
            "executor.kind": request.executor,
        },
    )
