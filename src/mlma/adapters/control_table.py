"""Base of the control plane's tables. Which tables there are is said in tables and monitor_tables."""

from typing import Any, cast

from sqlalchemy import MetaData, Table
from sqlmodel import SQLModel


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


def table_of(model: type[ControlTable]) -> Table:
    """SQLAlchemy's table of a class."""
    return cast("Table", cast("Any", model).__table__)
