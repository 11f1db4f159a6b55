"""Table of what is left of the training budget. No queries here."""

from datetime import datetime

from sqlalchemy import Double
from sqlmodel import Field

from mlma.adapters.columns import time_column
from mlma.adapters.control_table import ControlTable, table_of


class BucketRow(ControlTable, table=True):
    """CPU seconds that the trainings of a fleet may spend, and until when they have been earned."""

    __tablename__ = "buckets"
    name: str = Field(primary_key=True)
    saved_s: float = Field(sa_type=Double)
    at: datetime = time_column()


BUCKETS = table_of(BucketRow)
