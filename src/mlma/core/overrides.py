"""When a standing order holds, for which streams, and which event time it takes out. Pure.

Freeze and pin are intervals of wall time. Exclude is an interval of event time: it holds from the moment it is
written until it is lifted, whatever the clock says, because the past it names does not move.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum

import numpy as np

from mlma.core.blocks import Bools, Ints
from mlma.core.decisions import OverrideKind
from mlma.core.errors import OperationError
from mlma.core.records import Override, Stream
from mlma.core.schedule import Schedule
from mlma.core.selection import parse

NO_END = np.iinfo(np.int64).max
"""Slot after every slot: the end of a period that lasts for ever."""


class State(StrEnum):
    """How far an override has come."""

    PENDING = "pending"  # it has not begun
    ACTIVE = "active"  # it holds
    ENDED = "ended"  # its end has passed
    LIFTED = "lifted"  # an engineer ended it


def state(override: Override, now: datetime) -> State:
    """State of an override at a moment; freeze and pin hold in the half-open [starts_at, ends_at).

    Examples
    --------
    >>> from datetime import UTC, timedelta
    >>> start = datetime(2001, 1, 1, tzinfo=UTC)
    >>> freeze = Override(kind=OverrideKind.FREEZE, selection="IAH", author="ada", comment="audit", created_at=start,
    ...                   starts_at=start, ends_at=start + timedelta(days=3))
    >>> str(state(freeze, start)), str(state(freeze, start + timedelta(days=3)))
    ('active', 'ended')
    """
    if override.kind is OverrideKind.EXCLUDE:
        return State.ACTIVE if override.lifted_at is None else State.LIFTED
    if override.lifted_at is not None and override.lifted_at <= now:
        return State.LIFTED
    if override.ends_at is not None and override.ends_at <= now:
        return State.ENDED
    return State.ACTIVE if override.starts_at <= now else State.PENDING


def is_active(override: Override, now: datetime) -> bool:
    """Whether an override holds now."""
    return state(override, now) is State.ACTIVE


def require_liftable(override: Override, now: datetime) -> None:
    """Accept an override that holds or will hold.

    Raises
    ------
    OperationError
        It has ended or was lifted, whenever that was.
    """
    if override.lifted_at is not None:
        raise OperationError(
            f"override {override.id} was lifted by {override.lifted_by} at {override.lifted_at:%Y-%m-%d %H:%M} UTC"
        )
    if state(override, now) is State.ENDED:
        raise OperationError(f"override {override.id} ended by itself at {override.ends_at:%Y-%m-%d %H:%M} UTC")


def held(overrides: Iterable[Override], kind: OverrideKind, streams: Sequence[Stream], now: datetime) -> Bools:
    """Streams for which an override of a kind holds now.

    Returns
    -------
    Bools
        Shape (streams,), in the order of ``streams``.
    """
    mask = np.zeros(len(streams), dtype=np.bool_)
    for override in overrides:
        if override.kind is kind and is_active(override, now):
            mask |= _selected(override, streams)
    return mask


def excluded_batches(
    overrides: Iterable[Override], streams: Sequence[Stream], schedule: Schedule, batches: Ints, now: datetime
) -> Bools:
    """Batches that share a slot with an excluded period.

    Parameters
    ----------
    overrides
        Of any kind; those that exclude and are not lifted count, wherever their period lies.
    batches
        Shape (batches,).

    Returns
    -------
    Bools
        Shape (streams, batches), rows in the order of ``streams``.
    """
    mask = np.zeros((len(streams), len(batches)), dtype=np.bool_)
    for override in overrides:
        if override.kind is not OverrideKind.EXCLUDE or not is_active(override, now):
            continue
        first, last = excluded_span(override, schedule)
        touched = (batches >= schedule.batch_of(first)) & (batches <= schedule.batch_of(last)) & (first <= last)
        if touched.any():
            mask |= _selected(override, streams)[:, None] & touched
    return mask


def excluded_slots(overrides: Iterable[Override], stream: Stream, schedule: Schedule, first: int, end: int) -> Bools:
    """Slots of one stream that share time with an excluded period.

    Parameters
    ----------
    overrides
        Of any kind; those that exclude and are not lifted count.
    first, end
        First slot asked for, and the slot after the last one.

    Returns
    -------
    Bools
        Shape (end - first,).
    """
    slots = np.arange(first, end)
    mask = np.zeros(slots.shape, dtype=np.bool_)
    for override in overrides:
        excludes = override.kind is OverrideKind.EXCLUDE and override.lifted_at is None
        if excludes and parse(override.selection).matches(stream.name, stream.labels):
            begin, last = excluded_span(override, schedule)
            mask |= (slots >= begin) & (slots <= last)
    return mask


def excluded_spans(
    overrides: Iterable[Override], streams: Sequence[Stream], schedule: Schedule
) -> dict[int, tuple[tuple[int, int], ...]]:
    """Excluded periods of the streams that an order to exclude names, as (first slot, slot after the last).

    Parameters
    ----------
    overrides
        Of any kind; those that exclude and are not lifted count.
    """
    found: dict[int, tuple[tuple[int, int], ...]] = {}
    for override in overrides:
        if override.kind is not OverrideKind.EXCLUDE or override.lifted_at is not None:
            continue
        first, last = excluded_span(override, schedule)
        for stream_id in np.flatnonzero(_selected(override, streams)).tolist() if first <= last else ():
            found[streams[stream_id].id] = (*found.get(streams[stream_id].id, ()), (first, last + 1))
    return found


def excluded_span(override: Override, schedule: Schedule) -> tuple[int, int]:
    """First and last slot, both included, that share time with an override's period; last < first when none does."""
    first = schedule.slot_at(override.starts_at)
    if override.ends_at is None:
        return first, NO_END
    return first, -((schedule.anchor - override.ends_at) // schedule.frequency) - 1


def _selected(override: Override, streams: Sequence[Stream]) -> Bools:
    """Streams that an override names, shape (streams,)."""
    selection = parse(override.selection)
    return np.fromiter((selection.matches(s.name, s.labels) for s in streams), dtype=np.bool_, count=len(streams))
