"""Small fleets with a known break, and engines over real adapters; shared by the integration tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mlma.adapters.artifacts import FileArtifacts
from mlma.adapters.checkpoints import FileCheckpoints
from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core import policy
from mlma.core.records import Decision
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings, GroupSettings, LifeSettings, ModelSettings, TestingSettings
from mlma.runtime.control import EngineSettings
from mlma.runtime.engine import Engine
from mlma.runtime.executors import Executor
from mlma.runtime.ports import Clock, ControlStore, History

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 24
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=1), horizon=24, batch=24, train_window=28 * 24)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def demand(n_streams: int, days: int, *, seed: int = 1, breaks_on: int | None = None) -> np.ndarray:
    """Hourly demand, shape (streams, days * 24); every second stream changes its shape for good on one day."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * HOURS)
    daily = 1 + 0.6 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(2 * np.pi * hour / 168)
    level = rng.uniform(50, 500, (n_streams, 1))
    y = level * daily * np.exp(0.05 * rng.standard_normal((n_streams, days * HOURS)))
    if breaks_on is not None:
        late = hour >= breaks_on * HOURS
        shifted = level * (1 + 0.6 * np.cos(2 * np.pi * hour / 24)) * 1.5
        y[::2, late] = shifted[::2, late] * np.exp(0.05 * rng.standard_normal(y[::2, late].shape))
    return y


def rows_of(y: np.ndarray, first_hour: int, last_hour: int, names: list[str] | None = None) -> Rows:
    """Rows of the hours first .. last - 1 of every stream, stream by stream."""
    names = names or [f"s{i:03d}" for i in range(len(y))]
    hours = np.arange(first_hour, last_hour)
    start = (ANCHOR - EPOCH) // timedelta(microseconds=1)
    code = np.repeat(np.arange(len(y)), len(hours))
    return Rows(
        stream_code=code,
        stream_names=tuple(names),
        time_us=np.tile(start + hours * 3_600_000_000, len(y)),
        y=y[:, first_hour:last_hour].ravel(),
        row=np.arange(1, len(code) + 1),
    )


def settings_for(model: str = "ridge", *, wanted: str = "test", **testing: object) -> EngineSettings:
    """Engine settings of the small fleets: every pool serves its blend, a loss test orders the trainings."""
    used = ModelSettings(name=model, params={"num_trees": 20} if model == "lightgbm" else {})
    return EngineSettings(
        schedule=SCHEDULE,
        model=used,
        testing=TestingSettings(**testing),  # type: ignore[arg-type]
        life=LifeSettings(
            warmup=28 * 24, min_rows=14 * 24, groups=(GroupSettings(min_streams=3, rows=900, model=used),)
        ),
        admission=AdmissionSettings(),
        policy=policy.parse(wanted),
    )


def engine_at(path: Path, executor: Executor, clock: Clock, settings: EngineSettings | None = None) -> Engine:
    """Engine over a directory, opened where its store stands."""
    path.mkdir(parents=True, exist_ok=True)
    engine = Engine(
        settings=settings or settings_for(),
        store=SqlStore(f"sqlite:///{path / 'mlma.db'}", create=True),
        history=ParquetHistory(path / "history"),
        artifacts=FileArtifacts(path / "artifacts"),
        executor=executor,
        clock=clock,
        checkpoints=FileCheckpoints(path / "checkpoints"),
    )
    engine.open()
    return engine


def outcome(store: ControlStore) -> dict[str, object]:
    """Everything that two runs over the same data must agree on, without the times of day."""
    at = EPOCH

    def plain(decision: Decision) -> str:
        return repr(replace(decision, decided_at=at))

    return {
        "cursor": store.cursor(),
        "streams": store.streams(),
        "decisions": sorted(plain(decision) for decision in store.decisions()),
        "versions": [replace(version, trained_at=at, fit_cpu_s=0.0) for version in store.versions()],
        "servings": sorted(repr(replace(serving, at=at)) for serving in store.servings()),
        "effects": [
            replace(effect, ordered_at=at, deadline_at=at, finished_at=None, attempts=0, cpu_s=None)
            for effect in store.effects()
        ],
        "groups": sorted(
            repr(replace(one, ordered_at=at, deadline_at=at, finished_at=None, attempts=0, cpu_s=None))
            for one in store.group_trainings()
        ),
        "files": [(file.seq, file.path, file.n_admitted, file.n_rejected, file.n_late) for file in store.files()],
        "rejected": store.rejected(),
        "certificate": repr(store.certificate()),
        "incidents": [repr(incident) for incident in store.incidents()],
    }


def issued(history: History, n_shards: int, last_batch: int) -> dict[str, object]:
    """What was forecast and weighed, to the last bit."""
    forecasts = [
        (stream, slot, value, block.versions[code])
        for shard in range(n_shards)
        for block in history.forecasts(shard, first_slot=0, last_slot=10**6)
        for stream, slot, value, code in zip(
            block.stream_id.tolist(), block.slot.tolist(), block.forecast.tolist(), block.version, strict=True
        )
    ]
    pools = [
        (batch, name, repr(getattr(block, name).tolist()))
        for batch in range(last_batch + 1)
        if (block := history.pool(batch)) is not None
        for name in ("stream_id", "seat", "loss", "recent", "mass", "weight")
    ]
    return {"forecasts": sorted(forecasts), "pools": pools}
