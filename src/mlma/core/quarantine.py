"""Rows that were not admitted, counted by stream and reason, each with one example in words."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints
from mlma.core.decisions import RejectReason
from mlma.core.durations import format_duration
from mlma.core.hooks import NAME_EXPECTED
from mlma.core.records import Rejected
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings

US = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

REASONS: tuple[RejectReason, ...] = tuple(RejectReason)
REASON_CODE = {reason: code for code, reason in enumerate(REASONS)}

MAX_TEXT = 80
"""Characters of a cell that an example quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What an example needs to say beside its row: the rules that were applied to one file."""

    rows: Rows
    schedule: Schedule
    oldest_slot: int  # that is taken
    now: datetime | None
    settings: AdmissionSettings
    kept: Ints  # (n,), position of the row that was kept instead; -1 when it was known before
    center: Floats  # by stream code
    scale: Floats
    seq: int
    path: str

    def records(self, verdict: NDArray[np.int8]) -> tuple[Rejected, ...]:
        """One record for each stream and reason, in that order.

        Parameters
        ----------
        verdict
            Shape (n,); a reason code, or negative where the row was not rejected.
        """
        at = np.nonzero(verdict >= 0)[0]
        key = self.rows.stream_code[at] * len(REASONS) + verdict[at]
        _, first, count = np.unique(key, return_index=True, return_counts=True)
        records = [self._record(int(at[i]), REASONS[verdict[at[i]]], int(n)) for i, n in zip(first, count, strict=True)]
        return tuple(sorted(records, key=lambda r: (r.stream, REASON_CODE[r.reason])))

    def _record(self, at: int, reason: RejectReason, count: int) -> Rejected:
        code = int(self.rows.stream_code[at])
        example = self._example(at, code, reason)
        value = example.value
        return Rejected(
            seq=self.seq,
            path=self.path,
            stream=self.rows.stream_names[code] if code >= 0 else "",
            reason=reason,
            count=count,
            row=int(self.rows.row[at]),
            field=example.field,
            value=value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…",
            expected=example.expected,
        )

    def _example(  # noqa: PLR0911 - one return a reason
        self, at: int, code: int, reason: RejectReason
    ) -> "_Example":
        rows = self.rows
        match reason:
            case RejectReason.UNREADABLE:
                return _Example("", rows.broken[at], "a line with as many columns as the header")
            case RejectReason.BAD_STREAM:
                return _Example(rows.stream_column, "", "the name of a stream")
            case RejectReason.BAD_TIME:
                return _Example(rows.time_column, rows.time_text.get(at, ""), rows.time_expected)
            case RejectReason.OFF_GRID | RejectReason.TOO_OLD | RejectReason.FUTURE:
                time = int(rows.time_us[at])
                return _Example(rows.time_column, _iso(time), self._time_rule(time, reason))
            case RejectReason.NOT_A_NUMBER:
                return _Example(rows.value_column, rows.y_text[at], "a number")
            case RejectReason.NOT_FINITE:
                return _Example(rows.value_column, f"{rows.y[at]:g}", "a finite number")
            case RejectReason.ABSURD:
                allowed = self.settings.absurd_factor * self.scale[code]
                rule = (
                    f"within {self.center[code]:g} ± {allowed:.4g}, "
                    f"{self.settings.absurd_factor:g} times the stream's scale"
                )
                return _Example(rows.value_column, f"{rows.y[at]:g}", rule)
            case RejectReason.DUPLICATE:
                return _Example(rows.value_column, f"{rows.y[at]:g}", self._twin_rule(at))
            case _:
                return self._forecast_example(at, code, reason)

    def _forecast_example(self, at: int, code: int, reason: RejectReason) -> "_Example":
        """Of a forecast made elsewhere."""
        rows, time = self.rows, _iso(int(self.rows.time_us[at]))
        match reason:
            case RejectReason.UNKNOWN_STREAM:
                name = rows.stream_names[code]
                return _Example(rows.stream_column, name, "a stream whose observations have begun to arrive")
            case RejectReason.BAD_VERSION:
                version = int(rows.version_code[at]) if rows.version_code is not None else -1
                named = rows.version_names[version] if version >= 0 else ""
                return _Example(rows.version_column, named, NAME_EXPECTED)
            case RejectReason.LOOK_AHEAD:
                return _Example(rows.time_column, time, "a time whose outcome is not known yet: this one was")
            case _:
                settled = _iso_time(self.schedule.time_of(self.oldest_slot))
                rule = f"{settled} or later: earlier forecasts are settled (admission.forecast_wait)"
                return _Example(rows.time_column, time, rule)

    def _time_rule(self, time_us: int, reason: RejectReason) -> str:
        if reason is RejectReason.TOO_OLD:
            oldest = 0 if self.rows.are_forecasts else self.oldest_slot
            return f"{_iso_time(self.schedule.time_of(oldest))} or later"
        if reason is RejectReason.FUTURE and self.now is not None:
            return f"{_iso_time(self.now + self.settings.future_tolerance)} or earlier (the clock of this machine)"
        frequency_us = self.schedule.frequency // US
        anchor_us = (self.schedule.anchor - EPOCH) // US
        nearest = anchor_us + (time_us - anchor_us + frequency_us // 2) // frequency_us * frequency_us
        return (
            f"a multiple of {format_duration(self.schedule.frequency)} from {_iso_time(self.schedule.anchor)}; "
            f"the nearest is {_iso(nearest)}"
        )

    def _twin_rule(self, at: int) -> str:
        kept = int(self.kept[at])
        if kept < 0:
            return "one row a stream and time; this one was known before"
        y, same = self.rows.y[kept], self.rows.y[kept] == self.rows.y[at]
        return (
            f"one row a stream and time; row {self.rows.row[kept]} "
            f"{'has the same value' if same else f'says {y:g}'} and is kept"
        )


class _Example(NamedTuple):
    """What an example quotes and what should have stood there."""

    field: str  # column
    value: str
    expected: str


def _iso(time_us: int) -> str:
    """ISO 8601 text of microseconds since 1970, also for years that `datetime` does not know."""
    return str(np.datetime64(time_us, "us")).removesuffix(".000000") + "Z" if time_us != NO_TIME else ""


def _iso_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
