"""What the loss test says about itself, and about many streams at once.

Revision 0002, after 0001. The new reasons of decisions need none: closed sets are stored as their text.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.String()


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("test", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("promised", sa.Double(), nullable=True),
        sa.Column("level", sa.Double(), nullable=True),
        sa.Column("level_low", sa.Double(), nullable=True),
        sa.Column("level_high", sa.Double(), nullable=True),
        sa.Column("n_healthy", sa.Integer(), nullable=False),
        sa.Column("rise", sa.Double(), nullable=True),
        sa.Column("power", sa.Double(), nullable=True),
        sa.Column("caught", sa.Double(), nullable=True),
        sa.Column("delay", sa.Double(), nullable=True),
        sa.Column("n_degraded", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch", name="pk_certificates"),
    )
    op.create_table(
        "incidents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("first_batch", sa.Integer(), nullable=False),
        sa.Column("last_batch", sa.Integer(), nullable=False),
        sa.Column("n_members", sa.Integer(), nullable=False),
        sa.Column("rise", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_last_batch", "incidents", ["last_batch", "first_batch"])


def downgrade() -> None:
    op.drop_table("incidents")
    op.drop_table("certificates")
