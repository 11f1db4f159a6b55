"""Durations as text: ``15min``, ``1h``, ``7d``."""

import re
from datetime import timedelta

from mlma.core.errors import ConfigError

UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}

EXPECTED = "a duration such as 30s, 15min, 1h, 7d or 2w (units: s, min, h, d, w)"

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(w|d|h|min|s)")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:w|d|h|min|s)\s*)+")


def parse_duration(text: str) -> timedelta:
    """Read a duration: numbers with units, added up.

    Raises
    ------
    ConfigError
        The text is none: a unit is missing or unknown. ``m`` is refused, it may mean minutes or months.

    Examples
    --------
    >>> parse_duration("1h 30min"), parse_duration("140d").days
    (datetime.timedelta(seconds=5400), 140)
    """
    cleaned = text.strip()
    if not _WHOLE.fullmatch(cleaned):
        raise ConfigError(f"{text!r}: expected {EXPECTED}")
    try:
        return sum((float(n) * UNITS[unit] for n, unit in _PART.findall(cleaned)), timedelta(0))
    except OverflowError:
        raise ConfigError(f"{text!r}: expected a duration below a thousand million days") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration so that `parse_duration` reads the same one.

    Examples
    --------
    >>> format_duration(timedelta(hours=36)), format_duration(timedelta(days=7)), format_duration(timedelta(0))
    ('36h', '7d', '0s')
    """
    for unit in ("d", "h", "min"):
        if duration and not duration % UNITS[unit]:
            return f"{duration // UNITS[unit]}{unit}"
    return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
