"""What every test shares: how examples are drawn, memory that is set aside, and one migrated database to copy."""

import gc
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from mlma.adapters import store_open

settings.register_profile("mlma", deadline=None, derandomize=True)
settings.load_profile("mlma")  # how long an example takes says nothing on a busy machine, and each run tries the same

IN_MEMORY = "in memory"
"""What the store calls a private database."""


def pytest_collection_finish() -> None:
    """Set aside all that the imports made: hundreds of thousands of objects that every full collection would visit."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_migration_for_all_private_databases() -> Iterator[None]:
    """Private databases are copies of one that went through the migrations; files are migrated one by one."""
    migrate: Callable[[Engine, str], None] = store_open._migrate
    template = sqlite3.connect(":memory:", check_same_thread=False)
    whole = create_engine("sqlite://", creator=lambda: template, poolclass=StaticPool)

    def copied(engine: Engine, where: str) -> None:
        if where != IN_MEMORY:
            migrate(engine, where)
            return
        if not template.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            migrate(whole, where)
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            connection.rollback()
            template.backup(raw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_open, "_migrate", copied)
        yield
    whole.dispose()
    template.close()
