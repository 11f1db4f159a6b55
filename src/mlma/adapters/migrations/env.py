"""Runs migrations on the connection that the store hands over, inside the store's own transaction.

A developer makes a new migration from Python: `alembic.command.revision(config, autogenerate=True,
rev_id="0002", message="...")` with `migration_config(connection)` of `mlma.adapters.store_open`.
"""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from mlma.adapters.tables import ControlTable


def _plain_type(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Spell the type that the database sees: a migration must not change when a class of ours does."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def migrate() -> None:
    """Run what Alembic was asked for."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=ControlTable.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot alter a column in place
        render_item=_plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()


migrate()
