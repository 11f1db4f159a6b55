"""Tables of the control plane: one SQLModel class a record.

No queries here. A change of these classes needs a migration; a test compares the two.
"""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from mlma.adapters.budget_table import BUCKETS
from mlma.adapters.columns import UtcDateTime, counted_key, double_column, enum_column, time_column
from mlma.adapters.control_table import ControlTable, WorkTable, table_of
from mlma.adapters.group_table import GROUP_TRAININGS
from mlma.adapters.monitor_tables import CERTIFICATES, INCIDENTS
from mlma.core.decisions import (
    Action,
    EffectKind,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)

__all__ = [
    "AUDIT", "BUCKETS", "CERTIFICATES", "CURSORS", "DECISIONS", "DELIVERIES", "DIGESTS", "EFFECTS", "EXCEPTION",
    "FINDINGS", "GROUP_TRAININGS", "INCIDENTS", "LEASES", "META", "OVERRIDES", "REJECTED", "REQUESTS", "REVISION",
    "SERVINGS", "SOURCE_FILES", "STREAMS", "VERSIONS", "ControlTable",
]  # fmt: skip

REVISION = "0005"
"""The newest migration; a database of another revision is refused."""

EXCEPTION = "action <> 'keep' OR proposed <> 'keep'"
"""SQL of a decision that is not a plain keep; the index and the query must spell it the same way."""


class MetaRow(ControlTable, table=True):
    """One fact fixed when the state was made."""

    __tablename__ = "meta"
    key: str = Field(primary_key=True)
    value: str


class CursorRow(ControlTable, table=True):
    """How far the loop has come: the last closed batch of the fleet."""

    __tablename__ = "cursors"
    name: str = Field(primary_key=True)
    batch: int


class LeaseRow(ControlTable, table=True):
    """Who keeps the state; the one row has id 1."""

    __tablename__ = "leases"
    id: int = counted_key()
    holder: str
    pid: int
    host: str
    started_at: datetime = time_column()
    heartbeat_at: datetime = time_column()


class StreamRow(ControlTable, table=True):
    """One stream."""

    __tablename__ = "streams"
    id: int = counted_key()
    name: str = Field(unique=True)
    labels: dict[str, str] = Field(sa_type=JSON)
    first_slot: int


class SourceFileRow(ControlTable, table=True):
    """One file that was taken in."""

    __tablename__ = "source_files"
    seq: int = counted_key()
    path: str
    fingerprint: str
    n_rows: int
    n_admitted: int
    n_rejected: int
    n_late: int
    error: str
    taken_at: datetime = time_column()


class RejectedRow(ControlTable, table=True):
    """Rows of one file, stream and reason that were not admitted."""

    __tablename__ = "rejected_rows"
    seq: int = counted_key()
    stream: str = Field(primary_key=True)
    reason: RejectReason = enum_column(RejectReason, primary_key=True)
    path: str
    count: int
    row: int
    field: str
    value: str
    expected: str


class DecisionRow(ControlTable, table=True):
    """One decision. The key starts with the batch: a batch's rows arrive together and are read together.

    ``occasion`` tells apart what may happen more than once to a stream after one batch: empty for batch,
    the candidate for promotion, the time of the decision for request and release.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        Index("ix_decisions_stream_id", "stream_id", "batch"),
        Index("ix_decisions_decided_at", "decided_at"),
        Index(
            "ix_decisions_exception",
            "batch",
            "decided_at",
            sqlite_where=text(EXCEPTION),
            postgresql_where=text(EXCEPTION),
        ),
        {"sqlite_with_rowid": False},
    )
    batch: int = counted_key()
    phase: Phase = enum_column(Phase, primary_key=True)
    stream_id: int = counted_key()
    occasion: str = Field(primary_key=True)
    decided_at: datetime = time_column()
    action: Action = enum_column(Action)
    proposed: Action = enum_column(Action)
    reason: Reason = enum_column(Reason)
    held_by: Hold = enum_column(Hold)
    n: int
    mean_loss: float = double_column()
    naive_loss: float = double_column()
    p_value: float = double_column()
    effect: float = double_column()
    adaptive_mean: float = double_column()
    anchored_mean: float = double_column()
    n_reference: int
    version_id: str
    note: str


class EffectRow(WorkTable, table=True):
    """Work that a decision ordered."""

    __tablename__ = "effects"
    __table_args__ = (Index("ix_effects_status", "status", "ordered_at"),)
    kind: EffectKind = enum_column(EffectKind)
    stream_id: int
    starts_at: datetime | None = time_column(nullable=True)


class VersionRow(ControlTable, table=True):
    """One trained model."""

    __tablename__ = "versions"
    __table_args__ = (Index("ix_versions_stream_id", "stream_id", "batch"),)
    id: str = Field(primary_key=True)
    stream_id: int
    batch: int
    role: Role = enum_column(Role)
    family: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    n_rows: int
    fit_cpu_s: float = double_column()
    trained_at: datetime = time_column()


class ServingRow(ControlTable, table=True):
    """One line of the ledger; ``position`` is the order of insertion."""

    __tablename__ = "servings"
    __table_args__ = (UniqueConstraint("stream_id", "origin", "version_id"),)
    position: int = Field(primary_key=True)
    stream_id: int
    origin: int
    batch: int
    version_id: str
    reason: Reason = enum_column(Reason)
    at: datetime = time_column()


class OverrideRow(ControlTable, table=True):
    """One standing order."""

    __tablename__ = "overrides"
    id: int = Field(primary_key=True)
    kind: OverrideKind = enum_column(OverrideKind)
    selection: str
    author: str
    comment: str
    created_at: datetime = time_column()
    starts_at: datetime = time_column()
    ends_at: datetime | None = time_column(nullable=True)
    lifted_at: datetime | None = time_column(nullable=True)
    lifted_by: str


class RequestRow(ControlTable, table=True):
    """One one-shot order."""

    __tablename__ = "requests"
    id: int = Field(primary_key=True)
    kind: RequestKind = enum_column(RequestKind)
    selection: str
    author: str
    comment: str
    created_at: datetime = time_column()
    back_to: datetime | None = time_column(nullable=True)
    consumed_at: datetime | None = Field(sa_type=UtcDateTime, nullable=True, index=True)
    outcome: str


class AuditTableRow(ControlTable, table=True):
    """Who changed what; rows are only ever added."""

    __tablename__ = "audit_rows"
    id: int = Field(primary_key=True)
    at: datetime = time_column()
    author: str
    operation: str
    subject: str
    before: str
    after: str


class FindingRow(ControlTable, table=True):
    """What a monitor saw."""

    __tablename__ = "findings"
    kind: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    message: str
    first_at: datetime = time_column()
    last_at: datetime = time_column()
    count: int
    closed_at: datetime | None = time_column(nullable=True)


class DigestRow(ControlTable, table=True):
    """One digest as it was made."""

    __tablename__ = "digests"
    id: int = Field(primary_key=True)
    made_at: datetime = time_column()
    since: datetime = time_column()
    subject: str
    text: str
    body_json: str


class DeliveryRow(ControlTable, table=True):
    """One digest to one target."""

    __tablename__ = "deliveries"
    id: int = Field(primary_key=True)
    digest_id: int = Field(foreign_key="digests.id", index=True)
    target: str
    attempts: int
    delivered_at: datetime | None = Field(sa_type=UtcDateTime, nullable=True, index=True)
    next_try_at: datetime | None = time_column(nullable=True)
    error: str


META = table_of(MetaRow)
CURSORS = table_of(CursorRow)
LEASES = table_of(LeaseRow)
STREAMS = table_of(StreamRow)
SOURCE_FILES = table_of(SourceFileRow)
REJECTED = table_of(RejectedRow)
DECISIONS = table_of(DecisionRow)
EFFECTS = table_of(EffectRow)
VERSIONS = table_of(VersionRow)
SERVINGS = table_of(ServingRow)
OVERRIDES = table_of(OverrideRow)
REQUESTS = table_of(RequestRow)
AUDIT = table_of(AuditTableRow)
FINDINGS = table_of(FindingRow)
DIGESTS = table_of(DigestRow)
DELIVERIES = table_of(DeliveryRow)
