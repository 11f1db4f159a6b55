"""Revisions of the control plane: up from empty, no drift from the tables, and clear words for the others."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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
from mlma.core.decisions import Action, CertificateStatus, Hold, Phase, Reason, RequestKind
from mlma.core.errors import StoreError
from mlma.core.records import AuditRow, Certificate, Decision, Incident, Request

NOW = datetime(2001, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
NAN = float("nan")

ROWS_OF_0001 = """
    INSERT INTO meta VALUES ('alpha', '0.05'), ('n_shards', '2');
    INSERT INTO cursors VALUES ('fleet', 7);
    INSERT INTO streams VALUES (0, 'IAH', '{"site": "tx"}', 0), (1, 'ATL', '{}', 3);
    INSERT INTO decisions VALUES
        (7, 'batch', 0, '', '2001-03-04 05:06:07.890123', 'retrain', 'retrain', 'alarm_both', '', 24, 2.0, 4.0, 0.01,
         0.5, 1.5, NULL, 8, '0-0-0', ''),
        (7, 'batch', 1, '', '2001-03-04 05:06:07.890123', 'keep', 'keep', 'not_ready', '', 24, NULL, NULL, NULL, NULL,
         NULL, NULL, 1, 'naive', '');
    INSERT INTO effects VALUES
        ('train-0-7-0', 'train', 0, 7, 'alarm_both', 'pending', 0, '2001-03-04 05:06:07.890123',
         '2001-03-05 05:06:07.890123', NULL, '');
    INSERT INTO servings VALUES (1, 0, 24, 0, '0-0-0', 'first_version', '2001-03-04 05:06:07.890123');
"""
"""What a daemon of the first release left behind, in its own words."""


@pytest.fixture
def migrated() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        command.upgrade(migration_config(connection), "head")
        yield connection
    engine.dispose()


@pytest.fixture
def first_release(tmp_path: Path) -> str:
    """A state of revision 0001 with rows in it."""
    url = f"sqlite:///{tmp_path}/first.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), "0001")
        for statement in ROWS_OF_0001.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    return url


def schema(connection: Connection) -> dict[str, set[str]]:
    """Columns and constraints of every table and index as SQLite wrote them down, one line each."""
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    return {
        # a table that SQLite renamed stands in quotes
        name: {line.strip().rstrip(",") for line in sql.replace(f'"{name}"', name).replace("(\n", "\n").splitlines()}
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


def test_the_newest_revision_has_what_the_tables_say(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated), ControlTable.metadata) == []


def test_the_newest_revision_is_what_the_tables_would_make(migrated: Connection) -> None:
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


def test_downgrade_to_0001_leaves_what_0001_made(migrated: Connection) -> None:
    command.downgrade(migration_config(migrated), "0001")
    left = schema(migrated)
    assert len(left) > 16
    assert not {name for name in left if "incident" in name or "certificate" in name}


def test_state_of_the_first_release_is_brought_up_to_date_and_keeps_its_rows(first_release: str) -> None:
    with SqlStore(first_release, create=True) as store:
        assert store.meta() == {"alpha": "0.05", "n_shards": "2"}
        assert store.cursor() == 7
        assert [(s.id, s.name, s.labels) for s in store.streams()] == [(0, "IAH", {"site": "tx"}), (1, "ATL", {})]
        alarm, young = store.decisions()
        assert (alarm.reason, alarm.action, alarm.decided_at) == (Reason.ALARM_BOTH, Action.RETRAIN, NOW)
        assert (alarm.effect, alarm.n_reference) == (0.5, 8)
        assert (young.reason, young.version_id) == (Reason.NOT_READY, "naive")
        assert [effect.id for effect in store.effects()] == ["train-0-7-0"]
        assert [serving.reason for serving in store.servings()] == [Reason.FIRST_VERSION]
        assert (store.certificate(), store.incidents()) == (None, [])


@pytest.fixture
def second_revision(tmp_path: Path) -> str:
    """A state of revision 0002 with a request that was obeyed and one that waits."""
    url = f"sqlite:///{tmp_path}/second.db"
    engine = create_engine(url)
    at = "'2001-03-04 05:06:07.890123'"
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), "0002")
        connection.exec_driver_sql(
            "INSERT INTO requests (id, kind, selection, author, comment, created_at, consumed_at, outcome) VALUES "
            f"(3, 'rollback', 'IAH', 'ada', 'worse', {at}, {at}, '1 of 1 streams'), "
            f"(4, 'rollback', 'ATL', 'bob', 'worse', {at}, NULL, '')"
        )
    engine.dispose()
    return url


def test_requests_of_revision_0002_stay_and_new_ones_may_name_a_time(second_revision: str) -> None:
    asked = Request(kind=RequestKind.ROLLBACK, selection="IAH", author="ada", comment="back", created_at=NOW,
                    back_to=NOW - timedelta(days=3))  # fmt: skip
    audit = AuditRow(at=NOW, author="ada", operation="rollback", subject="IAH", before="null", after="{}")
    with SqlStore(second_revision, create=True) as store:
        assert store.add_request(asked, audit) == 5
        obeyed, waiting, new = store.requests()
        assert (obeyed.back_to, obeyed.outcome, waiting.back_to) == (None, "1 of 1 streams", None)
        assert new.back_to == NOW - timedelta(days=3)
        assert [request.id for request in store.requests(open_only=True)] == [4, 5]


def test_downgrade_to_0002_keeps_the_requests(second_revision: str) -> None:
    with SqlStore(second_revision, create=True):
        pass
    engine = create_engine(second_revision)
    with engine.begin() as connection:
        command.downgrade(migration_config(connection), "0002")
        assert [row[0] for row in connection.execute(text("SELECT id FROM requests ORDER BY id"))] == [3, 4]
        assert "back_to" not in str(schema(connection)["requests"])
        assert "ix_requests_consumed_at" in schema(connection)
    engine.dispose()


def test_state_of_the_first_release_takes_what_this_one_records(first_release: str) -> None:
    decided = [
        Decision(
            stream_id=i, batch=8, phase=Phase.BATCH, action=Action.KEEP, proposed=Action.KEEP, reason=reason,
            held_by=Hold.NOTHING, decided_at=NOW,
        )
        for i, reason in enumerate((Reason.INCIDENT, Reason.UNCERTIFIED))
    ]  # fmt: skip
    certificate = Certificate(
        batch=8, test="moderated", status=CertificateStatus.PENDING, promised=0.05, level=NAN, level_low=NAN,
        level_high=NAN, n_healthy=0, rise=0.5, power=NAN, caught=NAN, delay=NAN, n_degraded=0,
    )  # fmt: skip
    incident = Incident(
        id="8-site=tx", labels={"site": "tx"}, first_batch=8, last_batch=8, n_members=1, rise=0.4, p_value=0.001
    )
    with SqlStore(first_release, create=True) as store:
        store.record(Commit(cursor=8, decisions=decided, certificate=certificate, incidents=[incident]))
    with SqlStore(first_release) as store:  # brought up to date once, it is opened by every command
        assert [d.reason for d in store.decisions(batch=8)] == [Reason.INCIDENT, Reason.UNCERTIFIED]
        assert repr(store.certificate()) == repr(certificate)
        assert store.incidents() == [incident]


def test_reading_a_state_of_the_first_release_says_what_to_type(first_release: str) -> None:
    with pytest.raises(StoreError, match=r"has revision 0001, this program needs revision 0005.*mlma run"):
        SqlStore(first_release)


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
    with pytest.raises(StoreError, match=r"has revision 0000, this program needs revision 0005.*mlma run"):
        SqlStore(f"sqlite:///{state}")


def test_older_state_without_a_way_up_is_refused_when_creating(state: Path) -> None:
    set_revision(state, "0000")
    with pytest.raises(StoreError, match=r"cannot be brought to revision 0005.*0000"):
        SqlStore(f"sqlite:///{state}", create=True)


@pytest.mark.parametrize("create", [False, True])
def test_newer_state_is_refused_and_named(state: Path, *, create: bool) -> None:
    set_revision(state, "0006")
    with pytest.raises(StoreError, match=r"has revision 0006, this program knows revisions up to 0005"):
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
