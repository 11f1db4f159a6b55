"""Revisions of the control plane: up from empty, no drift from the tables, and clear words for the others."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from mlma.adapters.store import SqlStore
from mlma.adapters.store_open import migration_config
from mlma.adapters.tables import REVISION, ControlTable
from mlma.core.commit import Commit
from mlma.core.errors import StoreError


@pytest.fixture
def migrated() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        command.upgrade(migration_config(connection), "0001")
        yield connection
    engine.dispose()


def schema(connection: Connection) -> dict[str, set[str]]:
    """Columns and constraints of every table and index as SQLite wrote them down, one line each."""
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    return {
        name: {line.strip().rstrip(",") for line in sql.replace("(\n", "\n").splitlines()}
        for name, sql in connection.execute(query)
    }


def set_revision(path: Path, revision: str) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "mlma.db"
    with SqlStore(f"sqlite:///{path}", create=True) as store:
        store.record(Commit(cursor=7))
    return path


def test_revision_of_the_program_is_the_newest_migration(migrated: Connection) -> None:
    assert ScriptDirectory.from_config(migration_config(migrated)).get_heads() == [REVISION]


def test_revision_0001_has_what_the_tables_say(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated), ControlTable.metadata) == []


def test_revision_0001_is_what_the_tables_would_make(migrated: Connection) -> None:
    # Alembic's comparison is blind to conditions of indexes and to WITHOUT ROWID; the written schema is not.
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        ControlTable.metadata.create_all(connection)
        made = schema(connection)
    engine.dispose()
    assert schema(migrated) == made


def test_downgrade_takes_every_table_away(migrated: Connection) -> None:
    command.downgrade(migration_config(migrated), "base")
    assert schema(migrated) == {}


def test_state_is_opened_again_without_creating(state: Path) -> None:
    with SqlStore(f"sqlite:///{state}") as store:
        assert store.cursor() == 7


def test_creating_an_existing_state_keeps_it(state: Path) -> None:
    with SqlStore(f"sqlite:///{state}", create=True) as store:
        assert store.cursor() == 7


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///{folder}/none/mlma.db"])
def test_missing_state_says_what_to_type(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match="`mlma run` or `mlma demo`"):
        SqlStore(url.format(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_state_whose_creation_was_killed_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "mlma.db"
    path.touch()
    with pytest.raises(StoreError, match="no state in"):
        SqlStore(f"sqlite:///{path}")
    with SqlStore(f"sqlite:///{path}", create=True) as store:
        assert store.cursor() is None


def test_older_state_is_refused_and_named(state: Path) -> None:
    set_revision(state, "0000")
    with pytest.raises(StoreError, match=r"has revision 0000, this program needs revision 0001.*mlma run"):
        SqlStore(f"sqlite:///{state}")


def test_older_state_without_a_way_up_is_refused_when_creating(state: Path) -> None:
    set_revision(state, "0000")
    with pytest.raises(StoreError, match=r"cannot be brought to revision 0001.*0000"):
        SqlStore(f"sqlite:///{state}", create=True)


@pytest.mark.parametrize("create", [False, True])
def test_newer_state_is_refused_and_named(state: Path, *, create: bool) -> None:
    set_revision(state, "0002")
    with pytest.raises(StoreError, match=r"has revision 0002, this program knows revisions up to 0001"):
        SqlStore(f"sqlite:///{state}", create=create)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("no url", "no database URL"),
        ("mysql://host/mlma", "expected a database of sqlite or postgresql"),
        ("postgresql+nodriver://user:secret@host/mlma", r"user:\*\*\*@host.*nodriver"),
        ("sqlite:////dev/null/mlma.db", "/dev/null"),
    ],
)
def test_url_that_cannot_be_used_is_refused(url: str, match: str) -> None:
    with pytest.raises(StoreError, match=match) as refused:
        SqlStore(url, create=True)
    assert "secret" not in str(refused.value)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mlma.db"
    path.write_text("stream,ts,y\n" * 99)
    with pytest.raises(StoreError, match="is not an SQLite database"):
        SqlStore(f"sqlite:///{path}")


def test_reading_a_state_imports_neither_alembic_nor_the_heavy_libraries(state: Path) -> None:
    heavy = ("alembic", "pandas", "scipy", "ray", "sklearn", "lightgbm", "pyarrow")
    script = (
        "import sys; from mlma.adapters.store import SqlStore; store = SqlStore(sys.argv[1]); store.cursor();"
        f"store.close(); print([m for m in {heavy} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{state}"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
