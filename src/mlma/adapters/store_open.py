"""Opens the control plane's database: engine, pragmas, revision check, migration, and errors in plain words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from mlma.adapters.tables import REVISION
from mlma.core.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

HOW_TO_START = "`mlma run` or `mlma demo` makes one"

BACKENDS = ("sqlite", "postgresql")

MESSAGES = {
    "database is locked": "another process has kept it locked for too long; see who with `mlma doctor`",
    "disk is full": "the disk is full; free some space, nothing of this change was stored",
    "disk I/O error": "the disk cannot be read or written; nothing of this change was stored",
    "readonly database": "it may not be written; check who owns the file and its directory",
    "unable to open": "it cannot be opened; check the path and who may read it",
    "file is not a database": "it is not an SQLite database",
    "malformed": "it is damaged; restore a backup of the state directory",
    "no such table": f"a table of the control plane is missing; {HOW_TO_START}",
}
"""SQLite's words for what an engineer can mend, and ours."""


def name_of(url: URL) -> str:
    """Database as an engineer knows it: the file, or the URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or "in memory"
    return url.render_as_string(hide_password=True)


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """Turn every error of the database below into a StoreError that says where and what to do."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        hint = next((ours for theirs, ours in MESSAGES.items() if theirs in cause), "")
        raise StoreError(f"state {where}: {hint} ({cause})" if hint else f"state {where}: {cause}") from error


def open_engine(url: str, *, create: bool, busy_timeout_s: float) -> Engine:
    """Engine of a database whose revision is this program's.

    Parameters
    ----------
    url
        SQLAlchemy URL; ``sqlite://`` is a private database in memory.
    create
        Make the database, or bring an older one up to this program's revision.
    busy_timeout_s
        Seconds that a write waits for another process's write (SQLite).

    Raises
    ------
    StoreError
        The URL cannot be used, the database is missing, or it is of another revision.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            f"state URL {url!r} is no database URL: expected for example sqlite:///state/mlma.db"
        ) from error
    where = name_of(parsed)
    if parsed.get_backend_name() not in BACKENDS:
        raise StoreError(f"state {where}: expected a database of {' or '.join(BACKENDS)}")
    sqlite = parsed.get_backend_name() == "sqlite"
    in_memory = sqlite and parsed.database in {None, "", ":memory:"}
    if sqlite and not in_memory:
        _require_file(Path(parsed.database or ""), create=create)
    try:
        with plain_errors(where):
            engine = (
                _sqlite_engine(parsed, wal=create and not in_memory, in_memory=in_memory, timeout_s=busy_timeout_s)
                if sqlite
                else create_engine(parsed, pool_pre_ping=True)
            )
    except ImportError as error:
        raise StoreError(
            f"state {where}: the driver {error.name!r} is not installed; install it or use sqlite:///..."
        ) from error
    try:
        with plain_errors(where):
            _check_revision(engine, where, create=create)
    except StoreError:
        engine.dispose()
        raise
    return engine


def _require_file(path: Path, *, create: bool) -> None:
    if path.exists():
        return
    if not create:
        raise StoreError(f"there is no state at {path} yet; {HOW_TO_START}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"state {path}: its directory cannot be made ({error})") from error


def _sqlite_engine(url: URL, *, wal: bool, in_memory: bool, timeout_s: float) -> Engine:
    """SQLite engine whose transactions are real: pysqlite's own opening of transactions is switched off.

    A writing transaction takes the write lock when it begins (BEGIN IMMEDIATE). One that read first and then
    found the database changed would fail at once with "database is locked", whatever the timeout.
    """
    arguments: dict[str, Any] = {"isolation_level": None, "timeout": timeout_s}
    if in_memory:
        arguments["check_same_thread"] = False
        engine = create_engine(url, connect_args=arguments, poolclass=StaticPool)
    else:
        engine = create_engine(url, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        # Written into the file once; readers find it there.
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        # FULL, not NORMAL: in WAL mode NORMAL may lose the last commits when the power fails, and the
        # daemon has acted on them by then (DESIGN: nothing lost, nothing twice). One fsync a commit.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _revision(connection: Connection) -> str | None:
    """Revision of a database; None when it holds no state."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _check_revision(engine: Engine, where: str, *, create: bool) -> None:
    with engine.connect() as connection:
        found = _revision(connection)
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        raise StoreError(
            f"state {where} has revision {found}, this program knows revisions up to {REVISION}; "
            "install the newer mlma that made it"
        )
    if create:
        _migrate(engine, where)
    elif found is None:
        raise StoreError(f"there is no state in {where} yet; {HOW_TO_START}")
    else:
        raise StoreError(
            f"state {where} has revision {found}, this program needs revision {REVISION}; "
            "stop the old daemon and start `mlma run`, which brings it up to date"
        )


def migration_config(connection: Connection) -> "Config":
    """Alembic configuration of the package's own migrations, on an open connection."""
    from alembic.config import Config  # noqa: PLC0415 - reading a state must not pay for Alembic

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _migrate(engine: Engine, where: str) -> None:
    """Bring a database up to date in one transaction; whoever comes second finds it done."""
    from alembic import command  # noqa: PLC0415 - reading a state must not pay for Alembic
    from alembic.util.exc import CommandError  # noqa: PLC0415

    try:
        with engine.execution_options(writes=True).begin() as connection:
            command.upgrade(migration_config(connection), "head")
    except CommandError as error:
        raise StoreError(f"state {where} cannot be brought to revision {REVISION}: {error}") from error
