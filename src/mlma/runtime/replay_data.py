"""What is replayed: the request, its settings, and the rows cut into batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mlma.core.aggregate import aggregated
from mlma.core.blocks import Ints
from mlma.core.durations import format_duration, parse_duration
from mlma.core.errors import SourceError
from mlma.core.policy import Policy
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import LifeSettings

STRAY_SHARE = 0.01
"""Rows that stray clocks may have, as a share of all."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What to replay; durations as text (``1h``, ``7d``)."""

    data: Path  # Parquet or CSV file
    frequency: str
    horizon: str
    batch: str
    train_window: str
    stream_column: str = "stream"
    time_column: str = "ts"
    value_column: str = "y"
    model: str = "lightgbm"
    model_params: dict[str, object] = field(default_factory=dict)
    aggregate: str = "sum"  # of rows finer than the frequency: sum, mean or none (they are refused then)
    limit_streams: int | None = None
    policies: tuple[str, ...] = ("never", "always", "calendar:4", "mlma")
    executor: str = "ray"
    seed: int = 0
    settings: dict[str, object] = field(default_factory=dict)  # of the configuration, by dotted key


def first_time(rows: Rows, longest_gap: timedelta) -> datetime | None:
    """The oldest readable time that is not a stray one (see `main_span`), None when there is none."""
    return main_span(rows, longest_gap)[0] if (rows.time_us != NO_TIME).any() else None


def main_span(rows: Rows, longest_gap: timedelta) -> tuple[datetime, datetime]:
    """Oldest and newest readable time, stray clocks left out.

    Times count as stray when a gap longer than ``longest_gap`` parts them from the rest and they are fewer than
    one in a hundred: a clock that says 1970 or 2099 must not stretch a replay over decades. The admission then
    refuses their rows by name.

    Raises
    ------
    SourceError
        No row holds a time.
    """
    times = np.sort(rows.time_us[rows.time_us != NO_TIME])
    if not len(times):
        raise SourceError(rows.timeless())
    cuts = np.flatnonzero(np.diff(times) > longest_gap // timedelta(microseconds=1)) + 1
    few = STRAY_SHARE * len(times)
    first = max([0, *cuts[cuts <= few].tolist()])
    last = min([len(times), *cuts[len(times) - cuts <= few].tolist()])
    oldest, newest = (EPOCH + timedelta(microseconds=int(at)) for at in (times[first], times[last - 1]))
    return oldest, newest


def settings_of(request: ReplayRequest) -> dict[str, object]:
    """Settings that a request overrides, by dotted key.

    The first version of a stream needs a quarter of the train window; nothing is scored before one whole train
    window has passed, so that all policies start from the same first versions.
    """
    quarter = parse_duration(request.train_window) / 4
    frequency = parse_duration(request.frequency)
    return {
        "schedule.frequency": request.frequency,
        "schedule.horizon": request.horizon,
        "schedule.batch": request.batch,
        "schedule.train_window": request.train_window,
        "schedule.warmup": request.train_window,
        "schedule.min_history": format_duration(max(1, quarter // frequency) * frequency),
        "model.name": request.model,
        "model.params": request.model_params,
        "model.seed": request.seed,
        "executor.kind": request.executor,
        **request.settings,
    }


def described(request: ReplayRequest) -> dict[str, object]:
    """The request as plain values."""
    return {**{name: getattr(request, name) for name in request.__dataclass_fields__}, "data": str(request.data)}


def demo_request(data: Path, *, minutes15: bool, executor: str) -> ReplayRequest:
    """What the demo replays: departures an hour (or a quarter of one), a day ahead, tested day by day."""
    return ReplayRequest(
        data=data,
        frequency="15min" if minutes15 else "1h",
        horizon="24h",
        batch="1d",
        train_window="56d",
        policies=("mlma",),
        executor=executor,
    )


def life_of(life: LifeSettings, schedule: Schedule, policy: Policy) -> LifeSettings:
    """Life settings of one policy: the baselines promote the latest version without a proof."""
    return replace(
        life,
        warmup=schedule.train_window,
        proof=life.proof and policy.proves,
        serve=policy.serve or life.serve,
        price=life.price if policy.price is None else policy.price,
    )


def warm_batch(schedule: Schedule, warmup: int) -> int:
    """The batch after which the first versions are trained; nothing is scored before it is over."""
    return max(0, -(-warmup // schedule.batch) - 1)


def n_scored(rows: Rows, schedule: Schedule, warmup: int) -> int:
    """Full batches after the warm-up.

    Raises
    ------
    SourceError
        There is none.
    """
    return _last_batch(rows, schedule, warm_batch(schedule, warmup)) - warm_batch(schedule, warmup)


def prepared(rows: Rows, request: ReplayRequest, frequency: timedelta) -> tuple[Rows, str]:
    """Rows limited to the drawn streams and brought to the frequency; says in words what was aggregated."""
    rows = limited(rows, request.limit_streams, request.seed)
    if request.aggregate == "none":
        return rows, ""
    return aggregated(rows, frequency, request.aggregate)


def limited(rows: Rows, limit: int | None, seed: int) -> Rows:
    """Rows of ``limit`` streams drawn by seed; all rows when there are no more streams than that.

    A file may name streams that have no row (categories that a filter left behind); they are not drawn.
    """
    if limit is None or limit >= len(rows.stream_names):
        return rows
    present = np.unique(rows.stream_code[rows.stream_code >= 0])
    if limit >= len(present):
        return rows
    drawn = np.random.default_rng(seed).choice(present, limit, replace=False)
    return taken(rows, np.flatnonzero(np.isin(rows.stream_code, drawn)))


def taken(rows: Rows, index: Ints) -> Rows:
    """The rows at these positions, in this order, with their marked cells."""
    position = {int(old): new for new, old in enumerate(index)} if rows.time_text or rows.y_text or rows.broken else {}

    def marked(cells: Mapping[int, str]) -> dict[int, str]:
        return {position[i]: text for i, text in cells.items() if i in position}

    return replace(
        rows,
        stream_code=rows.stream_code[index],
        time_us=rows.time_us[index],
        y=rows.y[index],
        row=rows.row[index],
        time_text=marked(rows.time_text),
        y_text=marked(rows.y_text),
        broken=marked(rows.broken),
    )


def by_batch(rows: Rows, schedule: Schedule, warm: int) -> tuple[dict[int, Rows], int]:
    """Rows by the batch they fall in, and the last batch that is full.

    Everything up to batch ``warm``, and rows without a time, come first. Rows of stray clocks in the future come
    with the last full batch, so that they are refused by name.

    Raises
    ------
    SourceError
        No batch is left to score after the warm-up.
    """
    us = schedule.frequency // timedelta(microseconds=1)
    anchor = (schedule.anchor - EPOCH) // timedelta(microseconds=1)
    last = _last_batch(rows, schedule, warm)
    end = schedule.slot_at(main_span(rows, schedule.train_window * schedule.frequency)[1]) + 1
    known = rows.time_us != NO_TIME
    slot = np.where(known, (rows.time_us - anchor) // us, 0)
    batch = np.where(slot < end, slot // schedule.batch, np.where(known, last, warm))
    batch = np.maximum(batch, warm)
    order = np.argsort(batch, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(batch[order])) + 1)
    return {int(batch[part[0]]): taken(rows, part) for part in parts if len(part)}, last


def _last_batch(rows: Rows, schedule: Schedule, warm: int) -> int:
    """The last batch that is full, later than the one after which the first versions are trained."""
    first, newest = main_span(rows, schedule.train_window * schedule.frequency)
    last = (schedule.slot_at(newest) + 1) // schedule.batch - 1
    if last <= warm:
        needed = schedule.origin_after(warm + 1) * schedule.frequency
        window = format_duration(schedule.train_window * schedule.frequency)
        raise SourceError(
            f"the data reach from {first:%Y-%m-%d %H:%M} to {newest:%Y-%m-%d %H:%M} UTC: expected at least "
            f"{format_duration(needed)}, the train window of {window} in whole batches and one batch to score"
        )
    return last
