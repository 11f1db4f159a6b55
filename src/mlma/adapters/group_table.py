"""Table of the trainings of models that serve groups of streams. No queries here."""

from datetime import datetime

from sqlalchemy import BigInteger, Double, Index
from sqlmodel import Field

from mlma.adapters.columns import double_column, enum_column, time_column
from mlma.adapters.control_table import ControlTable, table_of
from mlma.core.decisions import EffectStatus, Reason


class GroupTrainingRow(ControlTable, table=True):
    """One training of a group: order, outcome and line of the ledger."""

    __tablename__ = "group_trainings"
    __table_args__ = (Index("ix_group_trainings_batch", "batch"),)
    id: str = Field(primary_key=True)
    name: str
    batch: int
    reason: Reason = enum_column(Reason)
    status: EffectStatus = enum_column(EffectStatus)
    attempts: int
    n_streams: int
    debt: float = double_column()
    price: float = double_column()
    ordered_at: datetime = time_column()
    deadline_at: datetime = time_column()
    finished_at: datetime | None = time_column(nullable=True)
    error: str
    expected_cpu_s: float | None = Field(sa_type=Double, nullable=True)
    cpu_s: float | None = Field(sa_type=Double, nullable=True)
    origin: int | None = Field(nullable=True)
    family: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    n_rows: int


GROUP_TRAININGS = table_of(GroupTrainingRow)
