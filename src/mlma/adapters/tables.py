"""Tables of the control plane: one SQLModel class a record, and the column types that keep its values whole.

No queries here. A change of these classes needs a migration; a test compares the two.
"""

from datetime import UTC, datetime
from enum import StrEnum
from math import isnan, nan
from typing import Any, TypeVar, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    Index,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from mlma.core.decisions import (
    Action,
    EffectKind,
    EffectStatus,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)

REVISION = "0001"
"""The newest migration; a database of another revision is refused."""

EXCEPTION = "action <> 'keep' OR proposed <> 'keep'"
"""SQL of a decision that is not a plain keep; the index and the query must spell it the same way."""

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


def _enum(members: type[StrEnum], *, primary_key: bool = False) -> Any:
    return Field(sa_type=cast("type[Any]", EnumText(members)), primary_key=primary_key)


def _time(*, nullable: bool = False) -> Any:
    return Field(sa_type=UtcDateTime, nullable=nullable)


def _double() -> Any:
    return Field(sa_type=NanDouble, nullable=True)


def _key() -> Any:
    """Primary key that the program, not the database, counts."""
    return Field(primary_key=True, sa_column_kwargs={"autoincrement": False})


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
    id: int = _key()
    holder: str
    pid: int
    host: str
    started_at: datetime = _time()
    heartbeat_at: datetime = _time()


class StreamRow(ControlTable, table=True):
    """One stream."""

    __tablename__ = "streams"
    id: int = _key()
    name: str = Field(unique=True)
    labels: dict[str, str] = Field(sa_type=JSON)
    first_slot: int


class SourceFileRow(ControlTable, table=True):
    """One file that was taken in."""

    __tablename__ = "source_files"
    seq: int = _key()
    path: str
    fingerprint: str
    n_rows: int
    n_admitted: int
    n_rejected: int
    n_late: int
    error: str
    taken_at: datetime = _time()


class RejectedRow(ControlTable, table=True):
    """Rows of one file, stream and reason that were not admitted."""

    __tablename__ = "rejected_rows"
    seq: int = _key()
    stream: str = Field(primary_key=True)
    reason: RejectReason = _enum(RejectReason, primary_key=True)
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
    batch: int = _key()
    phase: Phase = _enum(Phase, primary_key=True)
    stream_id: int = _key()
    occasion: str = Field(primary_key=True)
    decided_at: datetime = _time()
    action: Action = _enum(Action)
    proposed: Action = _enum(Action)
    reason: Reason = _enum(Reason)
    held_by: Hold = _enum(Hold)
    n: int
    mean_loss: float = _double()
    naive_loss: float = _double()
    p_value: float = _double()
    effect: float = _double()
    adaptive_mean: float = _double()
    anchored_mean: float = _double()
    n_reference: int
    version_id: str
    note: str


class EffectRow(ControlTable, table=True):
    """Work that a decision ordered."""

    __tablename__ = "effects"
    __table_args__ = (Index("ix_effects_status", "status", "ordered_at"),)
    id: str = Field(primary_key=True)
    kind: EffectKind = _enum(EffectKind)
    stream_id: int
    batch: int
    reason: Reason = _enum(Reason)
    status: EffectStatus = _enum(EffectStatus)
    attempts: int
    ordered_at: datetime = _time()
    deadline_at: datetime = _time()
    finished_at: datetime | None = _time(nullable=True)
    error: str


class VersionRow(ControlTable, table=True):
    """One trained model."""

    __tablename__ = "versions"
    __table_args__ = (Index("ix_versions_stream_id", "stream_id", "batch"),)
    id: str = Field(primary_key=True)
    stream_id: int
    batch: int
    role: Role = _enum(Role)
    family: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    n_rows: int
    fit_cpu_s: float = _double()
    trained_at: datetime = _time()


class ServingRow(ControlTable, table=True):
    """One line of the ledger; ``position`` is the order of insertion."""

    __tablename__ = "servings"
    __table_args__ = (UniqueConstraint("stream_id", "origin", "version_id"),)
    position: int = Field(primary_key=True)
    stream_id: int
    origin: int
    batch: int
    version_id: str
    reason: Reason = _enum(Reason)
    at: datetime = _time()


class OverrideRow(ControlTable, table=True):
    """One standing order."""

    __tablename__ = "overrides"
    id: int = Field(primary_key=True)
    kind: OverrideKind = _enum(OverrideKind)
    selection: str
    author: str
    comment: str
    created_at: datetime = _time()
    starts_at: datetime = _time()
    ends_at: datetime | None = _time(nullable=True)
    lifted_at: datetime | None = _time(nullable=True)
    lifted_by: str


class RequestRow(ControlTable, table=True):
    """One one-shot order."""

    __tablename__ = "requests"
    id: int = Field(primary_key=True)
    kind: RequestKind = _enum(RequestKind)
    selection: str
    author: str
    comment: str
    created_at: datetime = _time()
    consumed_at: datetime | None = Field(sa_type=UtcDateTime, nullable=True, index=True)
    outcome: str


class AuditTableRow(ControlTable, table=True):
    """Who changed what; rows are only ever added."""

    __tablename__ = "audit_rows"
    id: int = Field(primary_key=True)
    at: datetime = _time()
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
    first_at: datetime = _time()
    last_at: datetime = _time()
    count: int
    closed_at: datetime | None = _time(nullable=True)


class DigestRow(ControlTable, table=True):
    """One digest as it was made."""

    __tablename__ = "digests"
    id: int = Field(primary_key=True)
    made_at: datetime = _time()
    since: datetime = _time()
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
    next_try_at: datetime | None = _time(nullable=True)
    error: str


def _table(model: type[ControlTable]) -> Table:
    return cast("Table", cast("Any", model).__table__)


META = _table(MetaRow)
CURSORS = _table(CursorRow)
LEASES = _table(LeaseRow)
STREAMS = _table(StreamRow)
SOURCE_FILES = _table(SourceFileRow)
REJECTED = _table(RejectedRow)
DECISIONS = _table(DecisionRow)
EFFECTS = _table(EffectRow)
VERSIONS = _table(VersionRow)
SERVINGS = _table(ServingRow)
OVERRIDES = _table(OverrideRow)
REQUESTS = _table(RequestRow)
AUDIT = _table(AuditTableRow)
FINDINGS = _table(FindingRow)
DIGESTS = _table(DigestRow)
DELIVERIES = _table(DeliveryRow)
