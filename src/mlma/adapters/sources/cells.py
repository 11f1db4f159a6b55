"""Cells of a column as names, times and values; cells that hold something else keep their text."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.errors import ConfigError, SourceError
from mlma.core.rows import NO_TIME

TIME_EXPECTED = "an existing ISO 8601 time such as 2001-06-08 18:00 (read in {zone}) or 2001-06-08T18:00:00+02:00"

# RE2 syntax. A date, then perhaps a time of day, then perhaps an offset.
ISO_TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?$"
HAS_OFFSET = r":\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
INFINITE = r"(?i)^[+-]?inf(inity)?$"
NO_VALUE = r"(?i)^(|nan|na|n/a|null|none|<na>)$"

US_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
LATEST_US = 253_402_300_800_000_000
"""Year 10000: later times cannot be written and are refused as unreadable."""
EARLIEST_US = -62_135_596_800_000_000
"""Year 1."""


@dataclass(frozen=True)
class Names:
    """Codes (n,) into the distinct names; -1 where empty."""

    code: Ints
    names: tuple[str, ...]


@dataclass(frozen=True)
class Times:
    """Microseconds since 1970 UTC (n,), and the text of cells that are no time by position."""

    us: Ints
    text: dict[int, str]


@dataclass(frozen=True)
class Values:
    """Numbers (n,), NaN where missing or unreadable, and the text of the unreadable ones by position."""

    y: Floats
    text: dict[int, str]


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises
    ------
    ConfigError
        When there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"timezone {name!r}: expected an IANA name such as UTC or Europe/London") from error


def parse_names(column: pa.ChunkedArray, *, where: str) -> Names:
    """Read names: text, categories, or whole numbers.

    Raises
    ------
    SourceError
        When the column's type cannot be a name.
    """
    kind = _value_type(column)
    if pa.types.is_null(kind):
        return Names(np.full(len(column), -1, dtype=np.int64), ())
    if pa.types.is_floating(kind):  # pandas turns whole numbers with a gap into floats
        column = _whole_numbers(column, where)
    elif not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise SourceError(f"{where}: holds {kind}; expected names as text or whole numbers")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    unified = encoded.unify_dictionaries().combine_chunks()
    chunk = unified.chunk(0) if isinstance(unified, pa.ChunkedArray) else unified
    texts = ["" if t is None else t for t in pc.cast(chunk.dictionary, pa.string()).to_pylist()]
    distinct = {text: code for code, text in enumerate(dict.fromkeys(t for t in texts if t.strip()))}
    recode = np.array([distinct.get(text, -1) for text in texts] + [-1], dtype=np.int64)
    indices = pc.fill_null(pc.cast(chunk.indices, pa.int64()), len(texts)).to_numpy(zero_copy_only=False)
    return Names(recode[indices], tuple(distinct))


def _whole_numbers(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    present = pc.if_else(pc.is_nan(column), None, column)
    try:
        return pc.cast(present, pa.int64())
    except pa.ArrowInvalid as error:
        raise SourceError(f"{where}: holds fractions; expected names as text or whole numbers") from error


def parse_values(column: pa.ChunkedArray, *, where: str) -> Values:
    """Read numbers: floats, integers, decimals, booleans as 0 and 1, or text.

    Raises
    ------
    SourceError
        When the column's type cannot be a number (times, lists, ...).
    """
    kind = _value_type(column)
    if _is_text(kind):
        return _text_values(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    if not (number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise SourceError(f"{where}: holds {kind}; expected numbers")
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.uint8())
    return Values(_floats(pc.cast(column, pa.float64(), safe=False)), {})


def _text_values(cells: pa.ChunkedArray) -> Values:
    infinite = _mask(pc.match_substring_regex(cells, INFINITE))
    numeric = _mask(pc.match_substring_regex(cells, NUMBER))
    missing = _mask(pc.match_substring_regex(cells, NO_VALUE)) | _mask(pc.is_null(cells))
    y = np.full(len(cells), np.nan)
    if numeric.any():
        y[numeric] = _floats(pc.cast(cells.filter(pa.array(numeric)), pa.float64()))
    if infinite.any():
        negative = _mask(pc.starts_with(cells, "-"))
        y[infinite] = np.where(negative[infinite], -np.inf, np.inf)
    return Values(y, _texts(cells, ~(numeric | infinite | missing)))


def parse_times(column: pa.ChunkedArray, *, zone: str, where: str) -> Times:
    """Read times: timestamps of any unit, dates, or ISO 8601 text; those without an offset in ``zone``.

    Raises
    ------
    SourceError
        When the column's type cannot be a time. Whole numbers are refused: their unit would be a guess.
    """
    kind = _value_type(column)
    if _is_text(kind):
        return _text_times(pc.utf8_trim_whitespace(pc.cast(column, pa.string())), zone)
    if pa.types.is_null(kind):
        return Times(np.full(len(column), NO_TIME), {})
    if pa.types.is_date(kind):
        column = pc.cast(column, pa.timestamp("ms"))
    elif not pa.types.is_timestamp(kind):
        raise SourceError(f"{where}: holds {kind}; expected timestamps, dates or ISO 8601 text")
    elif pa.types.is_dictionary(column.type):
        column = pc.cast(column, kind)
    is_aware = column.type.tz is not None
    us, text = _microseconds(column)
    if not is_aware:
        us = _localised(us, zone)
    skipped = np.nonzero((us == NO_TIME) & ~_mask(pc.is_null(column)))[0]
    for i in skipped.tolist():
        text.setdefault(i, str(pc.cast(column, pa.string())[i].as_py()))
    return Times(us, text)


def _microseconds(column: pa.ChunkedArray) -> tuple[Ints, dict[int, str]]:
    """Raw count of a timestamp column in microseconds; times beyond year 1 to 9999 are none."""
    raw = pc.fill_null(pc.cast(column, pa.int64()), NO_TIME).to_numpy()
    missing = raw == NO_TIME
    if column.type.unit == "ns":
        us = raw // 1000
        wild = np.zeros(len(raw), dtype=np.bool_)
    else:
        factor = US_PER_UNIT[column.type.unit]
        wild = ~missing & ((raw >= LATEST_US // factor) | (raw < EARLIEST_US // factor))
        us = np.where(wild, 0, raw) * np.int64(factor)
    text = {int(i): f"{raw[i]} {column.type.unit} since 1970" for i in np.nonzero(wild)[0]}
    return np.where(missing | wild, NO_TIME, us).astype(np.int64), text


def _text_times(cells: pa.ChunkedArray, zone: str) -> Times:
    is_time = _mask(pc.match_substring_regex(cells, ISO_TIME))
    is_aware = is_time & _mask(pc.match_substring_regex(cells, HAS_OFFSET))
    us = np.full(len(cells), NO_TIME, dtype=np.int64)
    for mask, naive in ((is_aware, False), (is_time & ~is_aware, True)):
        if mask.any():
            texts = pd.Series(cells.filter(pa.array(mask)).to_pylist(), dtype=object)
            parsed = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
            found = np.asarray(pd.DatetimeIndex(parsed).as_unit("us").asi8, dtype=np.int64)
            us[mask] = _localised(found, zone) if naive else found
    empty = _mask(pc.is_null(cells)) | _mask(pc.equal(cells, ""))
    return Times(us, _texts(cells, (us == NO_TIME) & ~empty))


def _localised(us: Ints, zone: str) -> Ints:
    """Shift wall-clock microseconds of a zone to UTC; the first of two, none for one that does not exist."""
    if zone == "UTC" or not len(us):
        return us
    wall = pd.DatetimeIndex(us.view("datetime64[us]"))  # NO_TIME is its NaT
    first = np.ones(len(us), dtype=np.bool_)  # the earlier of two is the one with summer time
    local = wall.tz_localize(zone, ambiguous=first, nonexistent="NaT")
    return np.asarray(local.tz_convert("UTC").as_unit("us").asi8, dtype=np.int64)


def _value_type(column: pa.ChunkedArray) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mask(array: pa.ChunkedArray) -> Bools:
    return np.asarray(pc.fill_null(array, False).to_numpy(), dtype=np.bool_)  # noqa: FBT003 - the library's order


def _floats(array: pa.ChunkedArray) -> Floats:
    return np.array(array.to_numpy(), dtype=np.float64)  # nulls become NaN


def _texts(cells: pa.ChunkedArray, mask: Bools) -> dict[int, str]:
    at = np.nonzero(mask)[0]
    texts = cells.filter(pa.array(mask)).to_pylist()
    return {int(i): text or "" for i, text in zip(at, texts, strict=True)}
