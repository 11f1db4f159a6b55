"""Column types that keep the values of the control plane whole: aware times, NaN, closed sets.

They translate between Python and SQL; which table has which column is said in tables.
"""

from datetime import UTC, datetime
from enum import StrEnum
from math import isnan, nan
from typing import Any, TypeVar, cast

from sqlalchemy import DateTime, Dialect, Double, String, TypeDecorator
from sqlmodel import Field

E = TypeVar("E", bound=StrEnum)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times, UTC: SQLite forgets the zone, so it is taken off on the way in and put back on the way out.

    A naive time is refused: nobody knows which instant it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Time in UTC; without its zone on SQLite."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no time zone: expected an aware time")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware time, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class NanDouble(TypeDecorator[float]):
    """Floats whose NaN is NULL in the database, so that SQL's own averages leave it out."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:  # noqa: ARG002 - SQLAlchemy's signature
        """None for NaN."""
        return None if value is None or isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:  # noqa: ARG002 - SQLAlchemy's signature
        """NaN for None."""
        return nan if value is None else value


class EnumText(TypeDecorator[E]):
    """A closed set stored as its text: a new member needs no migration, and SQL stays readable."""

    impl = String
    cache_ok = True

    def __init__(self, members: type[E]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: E | str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Text of a member; anything else raises ValueError."""
        return None if value is None else self.members(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Member of a text."""
        return None if value is None else self.members(value)


def enum_column(members: type[StrEnum], *, primary_key: bool = False) -> Any:
    """Field of a closed set."""
    return Field(sa_type=cast("type[Any]", EnumText(members)), primary_key=primary_key)


def time_column(*, nullable: bool = False) -> Any:
    """Field of an aware time."""
    return Field(sa_type=UtcDateTime, nullable=nullable)


def double_column() -> Any:
    """Field of a float that may be NaN."""
    return Field(sa_type=NanDouble, nullable=True)


def counted_key() -> Any:
    """Primary key that the program, not the database, counts."""
    return Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
