"""Table of the trainings of models that serve groups of streams. No queries here."""

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from mlma.adapters.columns import double_column
from mlma.adapters.control_table import WorkTable, table_of


class GroupTrainingRow(WorkTable, table=True):
    """One training of a group: order, outcome and line of the ledger."""

    __tablename__ = "group_trainings"
    __table_args__ = (Index("ix_group_trainings_batch", "batch"),)
    name: str
    n_streams: int
    debt: float = double_column()
    price: float = double_column()
    origin: int | None = Field(nullable=True)
    family: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    n_rows: int


GROUP_TRAININGS = table_of(GroupTrainingRow)
