"""When a cron expression is due, in a time zone; APScheduler does the calendar, no scheduler runs."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mlma.core.errors import ConfigError

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = rf"[0-7]|{'|'.join(_DAYS)}"
_DAY_ITEM = re.compile(rf"(?:\*|(?P<first>{_DAY})(?:-(?P<last>{_DAY}))?)(?:/(?P<step>[1-7]))?", re.IGNORECASE)


def next_due(cron: str, timezone: str, after: datetime) -> datetime:
    """First time later than ``after`` at which a cron expression is due, UTC.

    The five fields mean what they mean to cron: weekday 0 and 7 are Sunday, and when both the day of the
    month and the weekday are restricted, either of them is enough. An hour that the end of daylight saving
    time repeats is due once, unless the expression is due at every hour.

    Parameters
    ----------
    cron
        Minute, hour, day of the month, month, weekday.
    timezone
        IANA name of the zone that the fields are in, such as ``Europe/Berlin``.
    after
        Aware.

    Raises
    ------
    ConfigError
        The expression or the zone is not one, or the expression is never due.

    Examples
    --------
    >>> next_due("0 7 * * 1-5", "Europe/Berlin", datetime(2001, 3, 9, 12, tzinfo=UTC)).isoformat()
    '2001-03-12T06:00:00+00:00'
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ConfigError(f"cron {cron!r}: expected five fields (minute hour day month weekday), got {len(fields)}")
    minute, hour, day, month, weekday = fields
    weekdays = _weekdays(weekday, cron)
    choices = [(day, weekdays)]
    if not day.startswith("*") and not weekday.startswith("*"):
        choices = [(day, "*"), ("*", weekdays)]
    zone = _zone(timezone)
    triggers = [_trigger(f"{minute} {hour} {d} {month} {w}", cron, zone) for d, w in choices]
    found = [due for trigger in triggers if (due := _first(trigger, after, every_hour="*" in hour))]
    if not found:
        raise ConfigError(f"cron {cron!r} is never due: no month has such a day")
    return min(found)


def _first(trigger: "CronTrigger", after: datetime, *, every_hour: bool) -> datetime | None:
    while True:
        # In UTC: wall-clock arithmetic would stand still in the hour that is repeated.
        due: datetime | None = trigger.get_next_fire_time(None, after.astimezone(UTC) + timedelta(microseconds=1))
        if due is None or every_hour or not due.fold:
            return None if due is None else due.astimezone(UTC)
        after = due


def _trigger(fields: str, cron: str, zone: ZoneInfo) -> "CronTrigger":
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415  0.1 s, which a shown digest need not pay

    try:
        return CronTrigger.from_crontab(fields, timezone=zone)
    except ValueError as error:
        raise ConfigError(f"cron {cron!r}: {error}; expected minute hour day month weekday") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"time zone {name!r}: expected an IANA name such as UTC or Europe/Berlin") from error


def _weekdays(field: str, cron: str) -> str:
    """Weekdays by name, since APScheduler counts from Monday and cron from Sunday."""
    if field == "*":
        return field
    days: set[int] = set()
    for item in field.split(","):
        found = _DAY_ITEM.fullmatch(item)
        if found is None:
            raise ConfigError(
                f"cron {cron!r}: weekday {item!r}: expected 0-7 (0 and 7 are Sunday), names such as mon, or a range"
            )
        first, last = _number(found["first"] or "0"), _number(found["last"] or found["first"] or "6")
        if found["step"] and found["first"] and not found["last"]:
            last = 6
        last += 7 if last < first else 0  # fri-mon goes over the end of the week
        days |= {day % 7 for day in range(first, last + 1, int(found["step"] or 1))}
    return ",".join(_DAYS[day] for day in sorted(days))


def _number(day: str) -> int:
    return int(day) if day.isdigit() else _DAYS.index(day.lower())
