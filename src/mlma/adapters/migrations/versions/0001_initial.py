"""The first tables of the control plane.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.String()
TIME = sa.DateTime(timezone=True)
EXCEPTION = sa.text("action <> 'keep' OR proposed <> 'keep'")


def upgrade() -> None:
    _state()
    _intake()
    _decisions()
    _models()
    _orders()
    _reports()


def _state() -> None:
    """Make the tables of what the state is and who keeps it."""
    op.create_table(
        "meta",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cursors"),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
    )


def _intake() -> None:
    """Make the tables of what came in."""
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("first_slot", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_streams"),
        sa.UniqueConstraint("name", name="uq_streams_name"),
    )
    op.create_table(
        "source_files",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_admitted", sa.Integer(), nullable=False),
        sa.Column("n_rejected", sa.Integer(), nullable=False),
        sa.Column("n_late", sa.Integer(), nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_source_files"),
    )
    op.create_table(
        "rejected_rows",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("field", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("expected", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("seq", "stream", "reason", name="pk_rejected_rows"),
    )


def _decisions() -> None:
    """Make the table of decisions."""
    op.create_table(
        "decisions",
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phase", TEXT, nullable=False),
        sa.Column("stream_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("occasion", TEXT, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("proposed", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("held_by", TEXT, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("mean_loss", sa.Double(), nullable=True),
        sa.Column("naive_loss", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("effect", sa.Double(), nullable=True),
        sa.Column("adaptive_mean", sa.Double(), nullable=True),
        sa.Column("anchored_mean", sa.Double(), nullable=True),
        sa.Column("n_reference", sa.Integer(), nullable=False),
        sa.Column("version_id", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("batch", "phase", "stream_id", "occasion", name="pk_decisions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_decisions_stream_id", "decisions", ["stream_id", "batch"])
    op.create_index("ix_decisions_decided_at", "decisions", ["decided_at"])
    op.create_index(
        "ix_decisions_exception",
        "decisions",
        ["batch", "decided_at"],
        sqlite_where=EXCEPTION,
        postgresql_where=EXCEPTION,
    )


def _models() -> None:
    """Make the tables of what decisions order and what serves."""
    op.create_table(
        "effects",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("ordered_at", TIME, nullable=False),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_effects"),
    )
    op.create_index("ix_effects_status", "effects", ["status", "ordered_at"])
    op.create_table(
        "versions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("family", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("fit_cpu_s", sa.Double(), nullable=True),
        sa.Column("trained_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
    )
    op.create_index("ix_versions_stream_id", "versions", ["stream_id", "batch"])
    op.create_table(
        "servings",
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("version_id", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_servings"),
        sa.UniqueConstraint("stream_id", "origin", "version_id", name="uq_servings_stream_id"),
    )


def _orders() -> None:
    """Make the tables of what engineers ask for."""
    op.create_table(
        "overrides",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("selection", TEXT, nullable=False),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=True),
        sa.Column("lifted_at", TIME, nullable=True),
        sa.Column("lifted_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_overrides"),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("selection", TEXT, nullable=False),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("consumed_at", TIME, nullable=True),
        sa.Column("outcome", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_consumed_at", "requests", ["consumed_at"])
    op.create_table(
        "audit_rows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("before", TEXT, nullable=False),
        sa.Column("after", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_rows"),
    )


def _reports() -> None:
    """Make the tables of what engineers are told."""
    op.create_table(
        "findings",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("first_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_findings"),
    )
    op.create_table(
        "digests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("body_json", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_digests"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest_id", sa.Integer(), nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_at", TIME, nullable=True),
        sa.Column("next_try_at", TIME, nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["digest_id"], ["digests.id"], name="fk_deliveries_digest_id"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_digest_id", "deliveries", ["digest_id"])
    op.create_index("ix_deliveries_delivered_at", "deliveries", ["delivered_at"])


def downgrade() -> None:
    for name in (
        "deliveries",
        "digests",
        "findings",
        "audit_rows",
        "requests",
        "overrides",
        "servings",
        "versions",
        "effects",
        "decisions",
        "rejected_rows",
        "source_files",
        "streams",
        "leases",
        "cursors",
        "meta",
    ):
        op.drop_table(name)
