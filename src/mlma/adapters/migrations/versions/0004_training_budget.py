"""What trainings cost, which of them wait for the budget, and what is left of it.

Revision 0004, after 0003. Trainings of the past get the CPU time of the versions that came of them.
"""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SPENT = """
    UPDATE effects SET cpu_s = (SELECT fit_cpu_s FROM versions WHERE versions.id = substr(effects.id, 7))
    WHERE effects.kind = 'train' AND effects.status = 'done'
"""
"""A training is named after its version: ``train-`` and the version's id."""


def _recreate() -> Literal["always", "never"]:
    """SQLite writes the table anew, so that its schema reads as if it had been made so; others alter it in place."""
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def upgrade() -> None:
    with op.batch_alter_table("effects", recreate=_recreate()) as effects:
        effects.add_column(sa.Column("expected_cpu_s", sa.Double(), nullable=True))
        effects.add_column(sa.Column("cpu_s", sa.Double(), nullable=True))
        effects.add_column(sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(SPENT)
    op.create_table(
        "buckets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("saved_s", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_buckets"),
    )


def downgrade() -> None:
    op.drop_table("buckets")
    with op.batch_alter_table("effects", recreate=_recreate()) as effects:
        for name in ("starts_at", "cpu_s", "expected_cpu_s"):
            effects.drop_column(name)
