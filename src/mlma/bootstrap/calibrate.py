"""Joining a calibration: recorded data, one replay that trains every stream once, and the loss tests on its losses."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mlma.bootstrap.engine import check_replayable, engine_settings, executor_of

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.core.settings import TestingSettings
    from mlma.monitor.calibration import Tell
    from mlma.runtime.calibrate import CalibrationReport, CalibrationRequest, LossData
    from mlma.runtime.replay import ReplayProgress


def run_calibration(
    request: "CalibrationRequest",
    settings: "Settings",
    *,
    progress: "Callable[[ReplayProgress], None] | None" = None,
    tell: "Tell | None" = None,
) -> "CalibrationReport":
    """Measure what level, power and delay the loss test has on recorded data.

    Parameters
    ----------
    request
        What to calibrate on.
    settings
        Of the loop and its test.
    progress
        Called while models are replayed.
    tell
        Called while tests are measured: what, batches done, batches in all.

    Raises
    ------
    SourceError, ConfigError, ModelError, OperationError
        The data, a setting or the model cannot be used, or there is too little data.
    """
    import numpy as np

    from mlma.core.settings import LossTestName
    from mlma.monitor.calibration import calibrate
    from mlma.monitor.calibration_figures import FACTORS, Wanted
    from mlma.runtime.calibrate import CalibrationReport
    from mlma.runtime.calibration_words import advice

    began = time.monotonic()
    testing = settings.testing.to_core()
    if request.is_losses:
        if "min_outcomes" not in settings.testing.model_fields_set:
            testing = replace(testing, min_outcomes=0.0)  # nobody knows how many losses there should have been
        data = _recorded(request, settings)
    else:
        data = _replayed(request, settings, testing, progress)
    wanted = Wanted(
        rises=request.rises,
        ramp=request.ramp,
        alphas=request.alphas,
        tests=() if request.quick else tuple(LossTestName),
        factors=() if request.quick else FACTORS,
    )
    figures = calibrate(
        data.history, testing, wanted, rng=np.random.default_rng(request.seed), tell=tell or (lambda *_: None)
    )
    return CalibrationReport(
        data=request.data,
        model="" if request.is_losses else settings.model.name,
        first=data.first,
        last=data.last,
        relative=bool(len(data.history.yardsticks)),
        notes=data.notes,
        figures=figures,
        advice=advice(figures),
        seconds=round(time.monotonic() - began, 1),
    )


def _recorded(request: "CalibrationRequest", settings: "Settings") -> "LossData":
    """Losses as the data have them."""
    import numpy as np

    from mlma.adapters.sources.files import ColumnMapping
    from mlma.adapters.sources.loss_files import NAIVE_COLUMN, files_in, read_losses
    from mlma.core.errors import SourceError
    from mlma.core.settings import Yardstick
    from mlma.runtime import calibrate, replay_data

    source = settings.source
    mapping = ColumnMapping(
        stream=source.stream_column, time=source.time_column, value=request.loss_column,
        labels=source.label_columns, timezone=source.timezone,
    )  # fmt: skip
    parts = [read_losses(file, mapping, request.naive_column) for file in files_in(request.data)]
    rows = calibrate.joined([losses for losses, _ in parts])
    naives = [naive for _, naive in parts if naive is not None]
    if 0 < len(naives) < len(parts):
        raise SourceError(
            f"column {request.naive_column or NAIVE_COLUMN!r}: is in {len(naives)} of {len(parts)} files of "
            f"{request.data}; expected it in all of them or in none"
        )
    drawn = replay_data.limited(rows, request.streams, request.seed)
    if not naives or settings.testing.yardstick is Yardstick.NONE:
        return calibrate.from_losses(drawn, None, request.batch)
    kept = np.flatnonzero(np.isin(rows.row, drawn.row))
    return calibrate.from_losses(drawn, replay_data.taken(calibrate.joined(naives), kept), request.batch)


def _with_first_versions(settings: "Settings") -> "Settings":
    """The first version of a stream needs a quarter of the train window, as in a replay, unless it is set."""
    schedule = settings.schedule
    if schedule.min_history is not None:
        return settings
    quarter = max(1, schedule.train_window // (4 * schedule.frequency)) * schedule.frequency
    return settings.model_copy(update={"schedule": schedule.model_copy(update={"min_history": quarter})})


def _replayed(
    request: "CalibrationRequest",
    settings: "Settings",
    testing: "TestingSettings",
    progress: "Callable[[ReplayProgress], None] | None",
) -> "LossData":
    """Losses of forecasts whose models were trained once, in a replay of the data."""
    from mlma.adapters.checkpoints import NoCheckpoints
    from mlma.adapters.memory_history import MemoryHistory
    from mlma.adapters.sources.files import ColumnMapping, read_file
    from mlma.adapters.sources.loss_files import files_in
    from mlma.adapters.store import SqlStore
    from mlma.core import policy
    from mlma.core.aggregate import aggregated
    from mlma.models import registry
    from mlma.runtime import calibrate, replay, replay_data, replay_report
    from mlma.runtime.engine import Engine
    from mlma.runtime.serving import Memo

    check_replayable(settings)
    registry.check(settings.model.to_core())
    settings = _with_first_versions(settings)
    source, frequency = settings.source, settings.schedule.frequency
    mapping = ColumnMapping(
        stream=source.stream_column, time=source.time_column, value=source.value_column,
        labels=source.label_columns, timezone=source.timezone,
    )  # fmt: skip
    rows = calibrate.joined([read_file(file, mapping) for file in files_in(request.data)])
    rows = replay_data.limited(rows, request.streams, request.seed)
    if request.aggregate != "none":
        rows, _ = aggregated(rows, frequency, request.aggregate)
    first, _ = replay_data.main_span(rows, settings.schedule.train_window)
    schedule = settings.schedule.to_core(settings.schedule.anchor_before(first))
    common, never = engine_settings(settings, schedule), policy.parse("never")
    workers = executor_of(settings, 0) if settings.executor.kind == "ray" else None
    pool, artifacts, clock = replay.TrainingPool(workers), replay.ReplayArtifacts(), replay.VirtualClock()
    memo = Memo()
    engine = Engine(
        settings=replace(common, testing=testing, policy=never, life=replay_data.life_of(common.life, schedule, never)),
        store=SqlStore("sqlite://", create=True),
        history=MemoryHistory(),
        artifacts=artifacts,
        executor=replay.ReplayExecutor(pool, memo),
        clock=clock,
        checkpoints=NoCheckpoints(),
    )
    collector = calibrate.LossCollector()
    engine.observe = collector.observe
    engine.open()
    if workers is not None:
        workers.open([])
    try:
        tally = replay_report.Tally(name="training once", engine=engine)
        replay.run(rows, [tally], pool=pool, memo=memo, artifacts=artifacts, clock=clock, progress=progress)
    finally:
        if workers is not None:
            workers.close()
    made = collector.collect(engine, testing)
    rejected = sum(entry.count for entry in engine.store.rejected())
    noted = (f"{rejected:,} of {len(rows):,} rows were not admitted (mlma replay names them)",) if rejected else ()
    return replace(made, notes=made.notes + noted)
