"""What is calibrated on: losses out of a replay that trains every stream once, or losses as they were recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mlma.core import losses
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.durations import format_duration
from mlma.core.errors import OperationError, SourceError
from mlma.core.rows import NO_TIME, Rows
from mlma.core.settings import TestingSettings, Yardstick
from mlma.monitor.calibration import needed
from mlma.monitor.calibration_figures import RISES, Calibration
from mlma.monitor.calibration_runs import LossHistory
from mlma.runtime.closing import Closed
from mlma.runtime.engine import Engine
from mlma.runtime.monitoring import labels_of
from mlma.runtime.replay_data import main_span

US = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STRAY_BATCHES = 20
"""Batches of silence that part stray clocks from the rest of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate on, and what is asked.

    Attributes
    ----------
    data
        File, or directory with files.
    is_losses
        The data holds losses, so no model is trained.
    batch
        Event time of a batch of such losses.
    loss_column, naive_column
        Of such losses; None takes ``naive_loss`` where it is there.
    aggregate
        Of rows finer than the frequency: sum, mean or none.
    streams
        So many streams, drawn by the seed; None for all.
    rises, ramp
        What is put in: rises at once, and one that grows by so much a week (0 for none).
    alphas
        Promised rates to compare with that of the settings.
    quick
        Only the settings themselves, without other loss tests and batches.
    """

    data: Path
    is_losses: bool = False
    batch: timedelta
    loss_column: str = "loss"
    naive_column: str | None = None
    aggregate: str = "sum"
    streams: int | None = None
    rises: tuple[float, ...] = RISES
    ramp: float = 0.0
    alphas: tuple[float, ...] = ()
    quick: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossData:
    """Losses in batches, and where they come from.

    Attributes
    ----------
    first, last
        Start of the first batch, end of the last one.
    notes
        What was left out, in sentences.
    """

    history: LossHistory
    first: datetime
    last: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """A calibration with what it was made from; ``advice`` are at most three sentences."""

    data: Path
    model: str  # empty where losses were given
    first: datetime  # start of the first batch
    last: datetime  # end of the last one
    relative: bool  # the losses have a yardstick
    notes: tuple[str, ...]
    figures: Calibration
    advice: tuple[str, ...]
    seconds: float


@dataclass
class LossCollector:
    """Notes in a replay which streams were served by a trained version in which batch."""

    served: dict[int, Bools] = field(default_factory=dict)

    def observe(self, closed: Closed) -> None:
        """Take note of a closed batch."""
        self.served[closed.batch] = closed.has_version.copy()

    def collect(self, engine: Engine, testing: TestingSettings) -> LossData:
        """Losses of all batches that some trained version served, after a replay in one shard.

        Raises
        ------
        OperationError
            No batch was.
        """
        schedule, streams = engine.settings.schedule, engine.fleet.streams
        batches = [batch for batch, served in sorted(self.served.items()) if served.any()]
        if not batches:
            raise OperationError(
                f"too little data: no stream got a model ({len(self.served)} batches closed after the train window of "
                f"{format_duration(schedule.train_window * schedule.frequency)}), expected "
                f"{needed(testing)} batches with losses; a shorter --train-window needs less data"
            )
        n_yardsticks = 1 if testing.yardstick is Yardstick.NAIVE else 0
        shape = (len(streams), batches[-1] - batches[0] + 1, schedule.batch)
        made, yards = np.full(shape, np.nan), np.full((n_yardsticks, *shape), np.nan)
        for block in engine.history.losses(0, first_batch=batches[0], last_batch=batches[-1]):
            rows = np.flatnonzero(self.served[block.batch][block.stream_ids])
            at, into = block.batch - batches[0], block.stream_ids[rows]
            made[into, at] = losses.loss(testing.loss, block.y[rows], block.forecast[rows], quantile=testing.quantile)
            for yard in yards:
                yard[into, at] = losses.loss(testing.loss, block.y[rows], block.naive[rows], quantile=testing.quantile)
        some = np.flatnonzero(np.isfinite(made).any(axis=(1, 2)))
        history = LossHistory(
            losses=made, yardsticks=yards, batch=schedule.batch * schedule.frequency, labels=labels_of(streams)
        )
        without = len(streams) - len(some)
        notes = (f"{without:,} of {len(streams):,} streams got no model in time and are left out",) if without else ()
        return LossData(
            history=history.part(some, history.n_batches),
            first=schedule.time_of(schedule.first_slot(batches[0])),
            last=schedule.time_of(schedule.origin_after(batches[-1])),
            notes=notes,
        )


def from_losses(rows: Rows, naive: Rows | None, batch: timedelta) -> LossData:
    """Recorded losses in batches that begin at midnight UTC before the first one.

    The losses of a stream and batch stand in order of time; n is the largest number of them. The last batch counts
    only where the data reach its end.

    Parameters
    ----------
    rows
        ``y`` is the loss.
    naive
        The same rows, whose ``y`` is the loss of a yardstick; None without one.
    batch
        Event time of a batch.

    Raises
    ------
    SourceError
        A loss that is text, infinite or negative, or a row without stream or time: how many, and the first.
    OperationError
        There is no complete batch.
    """
    _refuse(rows)
    if naive is not None:
        _refuse(naive)
    first, newest = main_span(rows, STRAY_BATCHES * batch)
    anchor = first.replace(hour=0, minute=0, second=0, microsecond=0)
    number = (rows.time_us - (anchor - EPOCH) // US) // (batch // US)
    times = np.unique(rows.time_us)
    step = timedelta(microseconds=int(np.median(np.diff(times)))) if len(times) > 1 else timedelta(0)
    n_batches = (newest + step - anchor) // batch
    if n_batches < 1:
        raise OperationError(
            f"too little data: the losses reach from {first:%Y-%m-%d %H:%M} to {newest:%Y-%m-%d %H:%M} UTC, expected "
            f"several whole batches of {format_duration(batch)}"
        )
    keep = np.flatnonzero((number >= 0) & (number < n_batches))
    order = keep[np.lexsort((rows.time_us[keep], number[keep], rows.stream_code[keep]))]
    streams, row = np.unique(rows.stream_code[order], return_inverse=True)
    cell = row * n_batches + number[order]
    position = np.arange(len(order)) - np.searchsorted(cell, cell)
    shape = (len(streams), int(n_batches), int(position.max(initial=0)) + 1)
    history = LossHistory(
        losses=_placed(rows.y[order], shape, cell, position),
        yardsticks=np.empty((0, *shape)) if naive is None else _placed(naive.y[order], shape, cell, position)[None],
        batch=batch,
        labels=_labels(rows, [rows.stream_names[code] for code in streams]),
    )
    left = len(rows) - len(keep)
    return LossData(
        history=history,
        first=anchor,
        last=anchor + n_batches * batch,
        notes=(f"{left:,} of {len(rows):,} losses lie outside whole batches and are left out",) if left else (),
    )


def _labels(rows: Rows, names: Sequence[str]) -> dict[str, list[str]]:
    keys = sorted({key for labels in rows.labels.values() for key in labels})
    return {key: [rows.labels.get(name, {}).get(key, "") for name in names] for key in keys}


def _placed(values: Floats, shape: tuple[int, int, int], cell: Ints, position: Ints) -> Floats:
    made = np.full((shape[0] * shape[1], shape[2]), np.nan)
    made[cell, position] = values
    return made.reshape(shape)


def _refuse(rows: Rows) -> None:
    """Refuse rows that are no losses, with their number and the first one."""
    n = f"{len(rows):,} rows"
    for column, what, cells, expected in (
        (rows.value_column, "hold text", rows.y_text, "a number >= 0, or nothing"),
        (rows.time_column, "hold no time", rows.time_text, rows.time_expected),
        (rows.stream_column, "cannot be split into columns", rows.broken, "as many cells as there are columns"),
    ):
        if cells:
            at = min(cells)
            raise SourceError(
                f"column {column!r}: {len(cells):,} of {n} {what}, first row {rows.row[at]}: {cells[at]!r}; "
                f"expected {expected}"
            )
    for column, wrong, what in (
        (rows.stream_column, rows.stream_code < 0, "hold no stream"),
        (rows.time_column, rows.time_us == NO_TIME, "hold no time"),
        (rows.value_column, rows.y < 0.0, "hold a negative loss"),
        (rows.value_column, np.isinf(rows.y), "hold an infinite loss"),
    ):
        if wrong.any():
            at = int(np.argmax(wrong))
            value = f": {rows.y[at]:g}" if column == rows.value_column else ""
            raise SourceError(
                f"column {column!r}: {np.count_nonzero(wrong):,} of {n} {what}, first row {rows.row[at]}{value}; "
                "expected a stream, a time, and a loss that is finite and >= 0, or nothing"
            )
    if not np.isfinite(rows.y).any():
        raise SourceError(f"column {rows.value_column!r}: none of {n} holds a loss")


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several files, in this order; row numbers go on.

    Examples
    --------
    >>> one = Rows(stream_code=np.array([0]), stream_names=("a",), time_us=np.array([0]), y=np.ones(1), row=np.ones(1))
    >>> both = joined([one, replace(one, stream_names=("b",))])
    >>> both.stream_names, both.stream_code.tolist(), both.row.tolist()
    (('a', 'b'), [0, 1], [1, 2])
    """
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(name for part in parts for name in part.stream_names))
    code = {name: at for at, name in enumerate(names)}
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    codes = [np.array([*(code[name] for name in part.stream_names), -1])[part.stream_code] for part in parts]
    texts: tuple[dict[int, str], dict[int, str], dict[int, str]] = ({}, {}, {})
    for start, part in zip(starts, parts, strict=False):
        for found, cells in zip(texts, (part.time_text, part.y_text, part.broken), strict=True):
            found.update({start + at: text for at, text in cells.items()})
    return replace(
        parts[0],
        stream_code=np.concatenate(codes),
        stream_names=names,
        time_us=np.concatenate([part.time_us for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        row=np.arange(1, starts[-1] + 1),
        labels={name: found for part in reversed(parts) for name, found in part.labels.items()},
        time_text=texts[0],
        y_text=texts[1],
        broken=texts[2],
    )
