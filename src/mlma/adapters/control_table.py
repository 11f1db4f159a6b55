"""Base of the control plane's tables. Which tables there are is said in tables and monitor_tables."""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import Double, MetaData, Table
from sqlmodel import Field, SQLModel

from mlma.adapters.columns import enum_column, time_column
from mlma.core.decisions import EffectStatus, Reason


class ControlTable(SQLModel):
    """Base of all tables; its own metadata, so that a program that embeds mlma keeps its tables apart."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class WorkTable(ControlTable):
    """Columns of work that was ordered, whoever it is for: why and when, how it stands, what it cost."""

    id: str = Field(primary_key=True)
    batch: int
    reason: Reason = enum_column(Reason)
    status: EffectStatus = enum_column(EffectStatus)
    attempts: int
    ordered_at: datetime = time_column()
    deadline_at: datetime = time_column()
    finished_at: datetime | None = time_column(nullable=True)
    error: str
    expected_cpu_s: float | None = Field(sa_type=Double, nullable=True)
    cpu_s: float | None = Field(sa_type=Double, nullable=True)


def table_of(model: type[ControlTable]) -> Table:
    """SQLAlchemy's table of a class."""
    return cast("Table", cast("Any", model).__table__)
