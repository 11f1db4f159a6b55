"""Tables of what the loss test says about itself and about many streams at once. No queries here."""

from sqlalchemy import JSON, Index
from sqlmodel import Field

from mlma.adapters.columns import counted_key, double_column, enum_column
from mlma.adapters.control_table import ControlTable, table_of
from mlma.core.decisions import CertificateStatus

CERTIFICATES_KEPT = 400
"""Batches whose certificates are kept: over a year of daily ones. Each says all that its past showed."""


class CertificateRow(ControlTable, table=True):
    """What the loss test was seen to do on sham streams, up to and with a batch."""

    __tablename__ = "certificates"
    batch: int = counted_key()
    test: str
    status: CertificateStatus = enum_column(CertificateStatus)
    promised: float = double_column()
    level: float = double_column()
    level_low: float = double_column()
    level_high: float = double_column()
    n_healthy: int
    rise: float = double_column()
    power: float = double_column()
    caught: float = double_column()
    delay: float = double_column()
    n_degraded: int


class IncidentRow(ControlTable, table=True):
    """Streams that got worse together. The index is the order in which they are read."""

    __tablename__ = "incidents"
    __table_args__ = (Index("ix_incidents_last_batch", "last_batch", "first_batch"),)
    id: str = Field(primary_key=True)
    labels: dict[str, str] = Field(sa_type=JSON)
    first_batch: int
    last_batch: int
    n_members: int
    rise: float = double_column()
    p_value: float = double_column()


CERTIFICATES = table_of(CertificateRow)
INCIDENTS = table_of(IncidentRow)
