from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from mlma.core.errors import ConfigError
from mlma.core.schedule import Schedule

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def schedule(frequency: timedelta = HOUR, horizon: int = 6, batch: int = 24, train_window: int = 336) -> Schedule:
    return Schedule(anchor=ANCHOR, frequency=frequency, horizon=horizon, batch=batch, train_window=train_window)


@pytest.mark.parametrize(
    ("frequency", "per_day", "season"),
    [(timedelta(minutes=15), 96, 672), (HOUR, 24, 168), (timedelta(hours=6), 4, 28), (DAY, 1, 7), (7 * DAY, 1, 1),
     (14 * DAY, 1, 1)],
)  # fmt: skip
def test_day_and_season_in_slots(frequency: timedelta, per_day: int, season: int) -> None:
    made = schedule(frequency, horizon=1, batch=7)
    assert (made.slots_per_day, made.season) == (per_day, season)


@pytest.mark.parametrize(
    ("after", "slot"),
    [(timedelta(0), 0), (timedelta(minutes=59, seconds=59), 0), (HOUR, 1), (DAY, 24), (-timedelta(seconds=1), -1),
     (-HOUR, -1), (-HOUR - timedelta(seconds=1), -2)],
)  # fmt: skip
def test_a_time_lies_in_the_slot_that_contains_it(after: timedelta, slot: int) -> None:
    assert schedule().slot_at(ANCHOR + after) == slot


def test_the_zone_of_a_time_does_not_matter() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert schedule().slot_at((ANCHOR + 7 * HOUR).astimezone(zone)) == 7


def test_slots_and_times_go_both_ways() -> None:
    made = schedule(timedelta(minutes=15), horizon=96, batch=96, train_window=960)
    for slot in (-3, 0, 1, 95, 96, 10**6):
        assert made.slot_at(made.time_of(slot)) == slot
    slots = np.array([0, 1, 96])
    assert made.times_of(slots).tolist() == [made.time_of(s).replace(tzinfo=None) for s in slots.tolist()]


def test_batches_cover_the_slots_without_gap_or_overlap() -> None:
    made = schedule()
    for batch in range(-2, 5):
        covered = range(made.first_slot(batch), made.origin_after(batch))
        assert len(covered) == made.batch
        assert {made.batch_of(slot) for slot in covered} == {batch}
        assert made.first_slot(batch + 1) == made.origin_after(batch)
        assert made.origin_after(batch) % made.horizon == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frequency": timedelta(0)}, "frequency 0:00:00"),
        ({"frequency": timedelta(minutes=7)}, "divides a day or is a whole number of days"),
        ({"frequency": timedelta(hours=36)}, "divides a day or is a whole number of days"),
        ({"frequency": -HOUR}, "expected a duration"),
        ({"horizon": 0}, "expected at least 1"),
        ({"batch": 25}, r"whole number of horizons \(6 slots each\)"),
        ({"batch": 0}, "whole number of horizons"),
        ({"train_window": 23}, r"at least one batch \(24 slots\)"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedule(**values)  # type: ignore[arg-type]
