from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.decisions import OverrideKind
from mlma.core.errors import OperationError
from mlma.core.overrides import (
    State,
    excluded_batches,
    excluded_slots,
    excluded_span,
    held,
    is_active,
    require_liftable,
    state,
)
from mlma.core.records import Override, Stream
from mlma.core.schedule import Schedule

T0 = datetime(2001, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCHEDULE = Schedule(anchor=T0, frequency=HOUR, horizon=24, batch=24, train_window=240)
STREAMS = [
    Stream(id=0, name="IAH", labels={"site": "us"}, first_slot=0),
    Stream(id=1, name="JFK", labels={"site": "us"}, first_slot=0),
    Stream(id=2, name="LHR", labels={"site": "uk"}, first_slot=0),
]


def override(kind: OverrideKind = OverrideKind.FREEZE, **more: Any) -> Override:
    given = {"selection": "IAH", "created_at": T0, "starts_at": T0, "ends_at": T0 + 3 * DAY}
    return Override(id=3, kind=kind, author="ada", comment="audit", **(given | more))


def exclusion(start: timedelta, end: timedelta | None, **more: Any) -> Override:
    ends_at = None if end is None else T0 + end
    return override(OverrideKind.EXCLUDE, starts_at=T0 + start, ends_at=ends_at, **more)


@pytest.mark.parametrize("kind", [OverrideKind.FREEZE, OverrideKind.PIN])
@pytest.mark.parametrize(
    ("more", "now", "expected"),
    [
        ({}, T0 - HOUR, State.PENDING),
        ({}, T0, State.ACTIVE),
        ({}, T0 + 3 * DAY - timedelta(microseconds=1), State.ACTIVE),
        ({}, T0 + 3 * DAY, State.ENDED),
        ({"ends_at": None}, T0 + 9999 * DAY, State.ACTIVE),
        ({"lifted_at": T0 + DAY}, T0 + DAY, State.LIFTED),
        ({"lifted_at": T0 + DAY}, T0 + DAY - HOUR, State.ACTIVE),
        ({"lifted_at": T0 + DAY}, T0 + 9 * DAY, State.LIFTED),
        ({"lifted_at": T0 - DAY}, T0 - HOUR, State.LIFTED),
    ],
)
def test_freeze_and_pin_hold_from_start_to_end(
    kind: OverrideKind, more: dict[str, Any], now: datetime, expected: State
) -> None:
    assert state(override(kind, **more), now) is expected
    assert is_active(override(kind, **more), now) is (expected is State.ACTIVE)


@pytest.mark.parametrize("now", [T0 - 99 * DAY, T0, T0 + 99 * DAY])
def test_exclusion_holds_until_it_is_lifted_whatever_the_clock_says(now: datetime) -> None:
    assert state(exclusion(DAY, 2 * DAY), now) is State.ACTIVE
    assert state(exclusion(DAY, 2 * DAY, lifted_at=T0, lifted_by="bob"), now) is State.LIFTED


@pytest.mark.parametrize(
    ("order", "match"),
    [
        (override(lifted_at=T0 + HOUR, lifted_by="bob"), "override 3 was lifted by bob at 2001-01-01 01:00 UTC"),
        (override(ends_at=T0 + DAY), "override 3 ended by itself at 2001-01-02 00:00 UTC"),
        (exclusion(DAY, 2 * DAY, lifted_at=T0, lifted_by="bob"), "was lifted by bob"),
    ],
)
def test_override_that_is_over_cannot_be_lifted(order: Override, match: str) -> None:
    with pytest.raises(OperationError, match=match):
        require_liftable(order, T0 + 2 * DAY)


@pytest.mark.parametrize("order", [override(), override(starts_at=T0 + 2 * DAY), exclusion(-99 * DAY, -98 * DAY)])
def test_override_that_holds_or_will_hold_can_be_lifted(order: Override) -> None:
    require_liftable(order, T0 + DAY)


def test_held_streams_are_those_of_active_overrides_of_the_kind() -> None:
    orders = [
        override(selection="site=us,J*"),
        override(OverrideKind.PIN, selection="*"),
        override(selection="LHR", starts_at=T0 + DAY),
    ]
    assert held(orders, OverrideKind.FREEZE, STREAMS, T0).tolist() == [False, True, False]
    assert held(orders, OverrideKind.FREEZE, STREAMS, T0 + DAY).tolist() == [False, True, True]
    assert held(orders, OverrideKind.PIN, STREAMS, T0).tolist() == [True, True, True]
    assert held([], OverrideKind.PIN, STREAMS, T0).tolist() == [False, False, False]
    assert held(orders, OverrideKind.PIN, STREAMS[2:], T0).shape == (1,)


@pytest.mark.parametrize(
    ("start", "end", "batches"),
    [
        (DAY, 2 * DAY, [1]),  # the end is not part of it
        (DAY, 2 * DAY + timedelta(seconds=1), [1, 2]),
        (2 * DAY - timedelta(seconds=1), 2 * DAY, [1]),
        (30 * HOUR, 31 * HOUR, [1]),
        (-DAY, HOUR, [0]),
        (3 * DAY, None, [3, 4]),
        (-9 * DAY, -8 * DAY, []),
        (30 * HOUR, 30 * HOUR, []),
    ],
)
def test_batch_that_shares_a_slot_with_the_period_is_excluded(
    start: timedelta, end: timedelta | None, batches: list[int]
) -> None:
    mask = excluded_batches([exclusion(start, end)], STREAMS, SCHEDULE, np.arange(5), T0)
    assert mask.shape == (3, 5)
    assert np.flatnonzero(mask[0]).tolist() == batches
    assert not mask[1:].any()


def test_exclusions_add_up_and_lifted_ones_do_not_count() -> None:
    orders = [
        exclusion(0 * DAY, DAY, selection="*"),
        exclusion(2 * DAY, 3 * DAY, selection="LHR"),
        exclusion(0 * DAY, 5 * DAY, selection="*", lifted_at=T0, lifted_by="bob"),
        override(selection="*"),
    ]
    mask = excluded_batches(orders, STREAMS, SCHEDULE, np.array([2, 0]), T0 - 99 * DAY)
    assert mask.tolist() == [[False, True], [False, True], [True, True]]
    slots = excluded_slots(orders, STREAMS[2], SCHEDULE, 0, 96)
    assert np.flatnonzero(slots).tolist() == [*range(24), *range(48, 72)]


def test_excluded_slots_begin_at_the_first_slot_asked_for() -> None:
    order = exclusion(2 * HOUR + timedelta(minutes=30), 4 * HOUR + timedelta(minutes=1))
    assert excluded_slots([order], STREAMS[0], SCHEDULE, 1, 6).tolist() == [False, True, True, True, False]
    assert excluded_slots([order], STREAMS[1], SCHEDULE, 1, 6).tolist() == [False] * 5
    assert excluded_slots([order], STREAMS[0], SCHEDULE, 6, 6).tolist() == []


@given(st.integers(-10_000, 10_000), st.integers(0, 10_000), st.integers(-100, 100), st.integers(1, 60))
def test_batch_is_excluded_exactly_when_one_of_its_slots_is(start: int, length: int, batch: int, step: int) -> None:
    order = exclusion(start * timedelta(minutes=step), start * timedelta(minutes=step) + length * timedelta(minutes=1))
    slots = excluded_slots([order], STREAMS[0], SCHEDULE, batch * 24, batch * 24 + 24)
    assert excluded_batches([order], STREAMS[:1], SCHEDULE, np.array([batch]), T0)[0, 0] == slots.any()


@given(st.integers(-1000, 1000), st.integers(1, 1000))
def test_span_covers_every_slot_that_shares_time_with_the_period(start: int, length: int) -> None:
    begin, end = start * timedelta(minutes=7), start * timedelta(minutes=7) + length * timedelta(minutes=1)
    first, last = excluded_span(exclusion(begin, end), SCHEDULE)
    assert SCHEDULE.time_of(first) <= T0 + begin < SCHEDULE.time_of(first + 1)
    assert SCHEDULE.time_of(last) < T0 + end <= SCHEDULE.time_of(last + 1)
