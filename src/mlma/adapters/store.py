"""The control plane on SQL: SQLite by default, PostgreSQL by URL. Fulfils ``runtime.ports.ControlStore``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Self, cast

from sqlalchemy import Connection, Table, delete, insert, make_url, or_, update

from mlma.adapters.store_open import name_of, open_engine, plain_errors
from mlma.adapters.store_read import StoreReader, select_records, to_records
from mlma.adapters.store_write import apply, row_of, upsert
from mlma.adapters.tables import AUDIT, DELIVERIES, DIGESTS, LEASES, META, OVERRIDES, REQUESTS
from mlma.core.commit import Commit
from mlma.core.errors import OperationError, StoreError
from mlma.core.overrides import require_liftable
from mlma.core.records import AuditRow, Delivery, Lease, Override, Request, StoredDigest

BUSY_TIMEOUT_S = 30.0
"""Seconds that a write waits for another process's write before it gives up; a commit takes milliseconds."""

WITHOUT_ID = frozenset({"id"})
THE_LEASE = 1
"""Key of the only row of the lease table."""


class SqlStore(StoreReader):
    """Control plane in a database.

    Parameters
    ----------
    url
        SQLAlchemy URL, for example ``sqlite:///state/mlma.db``; ``sqlite://`` is a private one in memory.
    create
        Make the database when it is missing and bring an older one up to date.
    busy_timeout_s
        Seconds that a write waits for another process's write (SQLite).

    Raises
    ------
    StoreError
        Without ``create``: there is no state, or it has an older revision. Always: it has a newer
        revision, or it cannot be opened.

    Examples
    --------
    >>> with SqlStore("sqlite://", create=True) as store:
    ...     store.record(Commit(cursor=3))
    ...     store.cursor()
    3
    """

    def __init__(self, url: str, *, create: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        engine = open_engine(url, create=create, busy_timeout_s=busy_timeout_s)
        super().__init__(engine, name_of(make_url(url)))
        self._writer = engine.execution_options(writes=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with plain_errors(self._where), self._writer.begin() as connection:
            yield connection

    def record(self, commit: Commit) -> None:
        """Make a commit true in one transaction. Raises StoreError."""
        with self._writing() as connection:
            apply(connection, commit)

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Add or replace entries of the meta table."""
        rows = [{"key": key, "value": value} for key, value in values.items()]
        if rows:
            with self._writing() as connection:
                connection.execute(upsert(connection, META), rows)

    def take_lease(self, lease: Lease, *, stale_before: datetime) -> Lease | None:
        """Take the lease unless another holder's heartbeat is at or after ``stale_before``; that lease is returned.

        The condition is part of the one statement that writes, so two who ask at once cannot both get it.
        """
        c = LEASES.c
        with self._writing() as connection:
            free = or_(c.holder == lease.holder, c.heartbeat_at < stale_before)
            connection.execute(upsert(connection, LEASES, only_if=free), row_of(lease) | {"id": THE_LEASE})
            kept = to_records(Lease, connection, select_records(Lease, LEASES))[0]
        return None if kept.holder == lease.holder else kept

    def beat(self, holder: str, now: datetime) -> bool:
        """Renew the heartbeat; False when another holder has taken over."""
        with self._writing() as connection:
            renewed = connection.execute(update(LEASES).where(LEASES.c.holder == holder).values(heartbeat_at=now))
            return renewed.rowcount == 1

    def release_lease(self, holder: str) -> None:
        """Give the lease back; nothing happens when another holder has it."""
        with self._writing() as connection:
            connection.execute(delete(LEASES).where(LEASES.c.holder == holder))

    def add_digest(self, digest: StoredDigest, targets: Sequence[str], *, not_before: datetime | None = None) -> int:
        """Store a digest and one pending delivery a target, in one transaction; returns the digest's id."""
        with self._writing() as connection:
            digest_id = _add(connection, DIGESTS, digest)
            for target in targets:
                _add(connection, DELIVERIES, Delivery(digest_id=digest_id, target=target, next_try_at=not_before))
        return digest_id

    def update_delivery(self, delivery: Delivery) -> None:
        """Replace a delivery by its id. Raises StoreError when there is none."""
        change = row_of(delivery, without=WITHOUT_ID)
        with self._writing() as connection:
            replaced = connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == delivery.id).values(change))
            if replaced.rowcount != 1:
                raise StoreError(f"delivery {delivery.id} is to be replaced, but there is no such delivery")

    def add_override(self, override: Override, audit: AuditRow) -> int:
        """Store an override with its audit row; returns its id."""
        with self._writing() as connection:
            _add(connection, AUDIT, audit)
            return _add(connection, OVERRIDES, override)

    def lift_override(self, override_id: int, *, by: str, at: datetime, audit: AuditRow) -> None:
        """End an override now. Raises OperationError when it does not exist or has ended."""
        with self._writing() as connection:
            query = select_records(Override, OVERRIDES).where(OVERRIDES.c.id == override_id)
            found = to_records(Override, connection, query.with_for_update())
            if not found:
                raise OperationError(f"there is no override {override_id}; `mlma overrides` lists them")
            require_liftable(found[0], at)
            change = row_of(replace(found[0], lifted_at=at, lifted_by=by), without=WITHOUT_ID)
            connection.execute(update(OVERRIDES).where(OVERRIDES.c.id == override_id).values(change))
            _add(connection, AUDIT, audit)

    def add_request(self, request: Request, audit: AuditRow) -> int:
        """Store a request with its audit row; returns its id."""
        with self._writing() as connection:
            _add(connection, AUDIT, audit)
            return _add(connection, REQUESTS, request)


def _add(connection: Connection, table: Table, record: object) -> int:
    """Insert a record under a new id and return the id."""
    added = connection.execute(insert(table).values(row_of(record, without=WITHOUT_ID)))
    return int(cast("tuple[int, ...]", added.inserted_primary_key)[0])
