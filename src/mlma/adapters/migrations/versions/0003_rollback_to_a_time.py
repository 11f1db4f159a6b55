"""Requests that go back to a time.

Revision 0003, after 0002. The new reason, hold and role need none: closed sets are stored as their text.
"""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _recreate() -> Literal["always", "never"]:
    """SQLite writes the table anew, so that its schema reads as if it had been made so; others alter it in place."""
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def upgrade() -> None:
    with op.batch_alter_table("requests", recreate=_recreate()) as requests:
        requests.add_column(sa.Column("back_to", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("requests", recreate=_recreate()) as requests:
        requests.drop_column("back_to")
