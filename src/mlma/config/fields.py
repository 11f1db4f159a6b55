"""Types of single settings, and the base of every section."""

import re
from datetime import timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from mlma.core import policy, selection
from mlma.core.durations import EXPECTED, format_duration, parse_duration
from mlma.core.errors import ConfigError, OperationError

IMPORT_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""What stands in a module, as ``package.module:name``."""


class Section(BaseModel):
    """A part of the settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, protected_namespaces=())


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected {EXPECTED}")
    try:
        return parse_duration(value)
    except ConfigError:
        raise ValueError(f"expected {EXPECTED}") from None


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected a duration above zero")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected an IANA time zone such as UTC or Europe/London") from None
    return value


def _cron(value: str) -> str:
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - 0.1 s that most commands need not pay

    try:
        CronTrigger.from_crontab(value, timezone="UTC")
    except ValueError as error:
        raise ValueError(
            f"expected five cron fields (minute hour day month weekday) such as '0 7 * * *': {error}"
        ) from None
    return value


def _policy(value: str) -> str:
    expected = "expected never, always, calendar:K (K batches, K >= 1), test or mlma"
    try:
        wanted = policy.parse(value)
    except ConfigError:
        raise ValueError(expected) from None
    if wanted.is_for_replays:
        raise ValueError(f"a policy for replays only, which a daemon cannot follow; {expected}")
    if "+" in value or "-" in value:
        raise ValueError(f"{expected}; what serves is said by life.serve")
    return value


def _model_name(value: str) -> str:
    if not re.fullmatch(rf"lightgbm|ridge|external|{IMPORT_PATH}", value):
        raise ValueError(
            "expected lightgbm, ridge, external or the import path MODULE:CLASS of a scikit-learn regressor"
        )
    return value


def _group_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w.-]*", value):
        raise ValueError("expected a letter, then letters, digits, points, dashes or underscores")
    return value


def _selection(value: str) -> str:
    try:
        selection.parse(value)
    except OperationError as error:
        raise ValueError(str(error)) from None
    return value


def _count(value: object) -> object:
    """``auto`` or a whole number from 1, also as text from the environment."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d*", value):
        return int(value)
    raise ValueError("expected auto or a whole number from 1")


AnyDuration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(format_duration)]
"""Zero or more."""
Duration = Annotated[AnyDuration, AfterValidator(_positive)]
"""Above zero."""
Zone = Annotated[str, AfterValidator(_zone)]
Cron = Annotated[str, AfterValidator(_cron)]
PolicyText = Annotated[str, AfterValidator(_policy)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Count = Annotated[int | Literal["auto"], BeforeValidator(_count)]
GroupName = Annotated[str, AfterValidator(_group_name)]
SelectionText = Annotated[str, AfterValidator(_selection)]
