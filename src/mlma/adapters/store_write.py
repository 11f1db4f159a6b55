"""Statements that make records true inside a transaction that the store has opened."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import repeat
from operator import attrgetter
from typing import Any, cast

import numpy as np
from sqlalchemy import ColumnElement, Connection, Dialect, Insert, Table, bindparam, delete, update
from sqlalchemy.dialects import sqlite

from mlma.adapters.monitor_tables import CERTIFICATES_KEPT
from mlma.adapters.store_read import FLEET
from mlma.adapters.tables import (
    BUCKETS,
    CERTIFICATES,
    CURSORS,
    DECISIONS,
    EFFECTS,
    FINDINGS,
    GROUP_TRAININGS,
    INCIDENTS,
    REJECTED,
    REQUESTS,
    SERVINGS,
    SOURCE_FILES,
    STREAMS,
    VERSIONS,
)
from mlma.core.blocks import ACTIONS, HOLDS, REASONS, DecisionBlock, Floats
from mlma.core.commit import Commit
from mlma.core.decisions import Phase
from mlma.core.errors import StoreError
from mlma.core.records import Certificate, Decision, Request, Serving

PLAIN = frozenset({bool, int, float, str, bytes, datetime, type(None)})
"""Types of what a column takes as it is."""


def row_of(record: object, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Fields of a record by column name."""
    names, values_of = _fields(cast("Hashable", type(record)), without)
    return {
        name: dict(value) if type(value) not in PLAIN and isinstance(value, Mapping) else value
        for name, value in zip(names, values_of(record), strict=True)
    }


@cache
def _fields(kind: Hashable, without: frozenset[str]) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """Names of a record's fields, two at least, and what reads them all: looked up once, rows are many."""
    names = tuple(f.name for f in fields(cast("Any", kind)) if f.name not in without)
    return names, attrgetter(*names)


def upsert(connection: Connection, table: Table, *, only_if: ColumnElement[bool] | None = None) -> Insert:
    """Insert that replaces a row of the same primary key, in the words of the connection's database.

    With ``only_if``, a row that exists is replaced only where the condition holds for it.
    """
    if only_if is None:
        return _replacing(connection.dialect.name, table)
    return _made(connection.dialect.name, table, only_if)


@cache
def _replacing(dialect: str, table: Table) -> Insert:
    """`upsert` without a condition: made once, for a daemon writes the same tables at every tick."""
    return _made(dialect, table, None)


def _made(dialect: str, table: Table, only_if: ColumnElement[bool] | None) -> Insert:
    statement = sqlite.insert(table)
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 20 ms that `mlma status` need not pay

        # Both dialects spell it alike, and their statements have the same method.
        statement = cast("sqlite.Insert", postgresql.insert(table))
    changed = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changed, where=only_if)


def apply(connection: Connection, commit: Commit) -> None:
    """Make every part of a commit true; the caller's transaction makes it all or nothing."""
    if commit.cursor is not None:
        connection.execute(upsert(connection, CURSORS), {"name": FLEET, "batch": commit.cursor})
    _put(connection, SOURCE_FILES, () if commit.file is None else (commit.file,))
    _put(connection, REJECTED, commit.rejected)
    _put(connection, STREAMS, commit.streams)
    if commit.block is not None:
        put_block(connection, commit.block)
    _put_decisions(connection, commit.decisions)
    _put(connection, EFFECTS, commit.effects)
    _put(connection, VERSIONS, commit.versions)
    _put_servings(connection, commit.servings)
    _consume(connection, commit.requests)
    _put(connection, FINDINGS, commit.findings)
    _put(connection, INCIDENTS, commit.incidents)
    _put(connection, GROUP_TRAININGS, commit.groups)
    if commit.bucket is not None:
        connection.execute(upsert(connection, BUCKETS), {"name": FLEET, **row_of(commit.bucket)})
    if commit.certificate is not None:
        _put_certificate(connection, commit.certificate)


def _put(connection: Connection, table: Table, records: Iterable[object]) -> None:
    rows = [row_of(record) for record in records]
    if rows:
        connection.execute(upsert(connection, table), rows)


def _put_certificate(connection: Connection, certificate: Certificate) -> None:
    """Store a certificate and forget those of long ago: each tells all that the sham streams showed so far."""
    _put(connection, CERTIFICATES, (certificate,))
    connection.execute(delete(CERTIFICATES).where(CERTIFICATES.c.batch <= certificate.batch - CERTIFICATES_KEPT))


def occasion(phase: Phase, decided_at: datetime, proposed: str, version_id: str) -> str:
    """Tell apart what may happen more than once to a stream after one batch.

    A batch is judged once; a candidate is compared once, but two requested trainings after one batch make
    two candidates; a request or a release is known by its time and what it proposes.

    Examples
    --------
    >>> at = datetime(2001, 1, 8, tzinfo=UTC)
    >>> occasion(Phase.BATCH, at, "retrain", "0-0-0")
    ''
    >>> occasion(Phase.PROMOTION, at, "promote", "0-0-0")
    '0-0-0'
    >>> occasion(Phase.REQUEST, at, "retrain", "0-0-0")
    '2001-01-08T00:00:00+00:00 retrain'
    """
    if phase is Phase.BATCH:
        return ""
    return version_id if phase is Phase.PROMOTION else f"{decided_at.astimezone(UTC).isoformat()} {proposed}"


def _put_decisions(connection: Connection, decisions: Sequence[Decision]) -> None:
    rows = [row_of(d) | {"occasion": occasion(d.phase, d.decided_at, d.proposed, d.version_id)} for d in decisions]
    if rows:
        connection.execute(upsert(connection, DECISIONS), rows)


def put_block(connection: Connection, block: DecisionBlock) -> None:
    """Store the decisions of a batch by columns, in one bulk statement and without an object a row."""
    if not len(block):
        return
    columns = _columns(block)
    statement = upsert(connection, DECISIONS)
    compiled, names = _compiled(statement, connection.dialect)
    if names is None:
        rows = [dict(zip(columns, row, strict=True)) for row in _rows(columns.values())]
        connection.execute(statement, rows)
        return
    # SQLite takes the rows as they are. Through SQLAlchemy's types and dictionaries the same insert ran at
    # 60,000 rows/s, this way at 150,000 (one core, disk, synchronous=FULL); only the time needs converting.
    to_bind = DECISIONS.c.decided_at.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    columns["decided_at"] = repeat(to_bind(block.decided_at) if to_bind else block.decided_at)
    connection.exec_driver_sql(compiled, _rows([columns[name] for name in names]))


@lru_cache(maxsize=64)
def _compiled(statement: Insert, dialect: Dialect) -> tuple[str, list[str] | None]:
    """Text of a statement of literals and placeholders, SQLAlchemy's own, and the order of these if they have none."""
    compiled = statement.compile(dialect=dialect)
    return str(compiled), cast("Any", compiled).positiontup


def _rows(columns: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """Rows of columns; constant columns have no end, the shortest real one sets the number of rows."""
    return list(zip(*columns, strict=False))


def _columns(block: DecisionBlock) -> dict[str, Iterable[Any]]:
    """Columns of the decisions table by name."""
    actions, reasons = [a.value for a in ACTIONS], [r.value for r in REASONS]
    holds = [h.value for h in HOLDS]
    proposed = [actions[code] for code in block.proposed.tolist()]
    occasions = (
        occasion(block.phase, block.decided_at, *pair) for pair in zip(proposed, block.version_id, strict=True)
    )
    return {
        "batch": repeat(block.batch),
        "phase": repeat(block.phase.value),
        "stream_id": block.stream_id.tolist(),
        "occasion": occasions,
        "decided_at": repeat(block.decided_at),
        "action": [actions[code] for code in block.action.tolist()],
        "proposed": proposed,
        "reason": [reasons[code] for code in block.reason.tolist()],
        "held_by": [holds[code] for code in block.held_by.tolist()],
        "n": block.n.tolist(),
        "mean_loss": _nullable(block.mean_loss),
        "naive_loss": _nullable(block.naive_loss),
        "p_value": _nullable(block.p_value),
        "effect": _nullable(block.effect),
        "adaptive_mean": _nullable(block.adaptive_mean),
        "anchored_mean": _nullable(block.anchored_mean),
        "n_reference": block.n_reference.tolist(),
        "version_id": block.version_id,
        "note": repeat(""),
    }


def _nullable(values: Floats) -> list[float | None]:
    """Floats with None for NaN."""
    column: list[float | None] = values.tolist()
    for missing in np.flatnonzero(np.isnan(values)).tolist():
        column[missing] = None
    return column


def _put_servings(connection: Connection, servings: Sequence[Serving]) -> None:
    """Add lines to the ledger; a line that exists moves to the end, where this commit puts it."""
    if not servings:
        return
    c = SERVINGS.c
    same = delete(SERVINGS).where(
        c.stream_id == bindparam("of_stream"),
        c.origin == bindparam("at_origin"),
        c.version_id == bindparam("of_version"),
    )
    connection.execute(
        same, [{"of_stream": s.stream_id, "at_origin": s.origin, "of_version": s.version_id} for s in servings]
    )
    connection.execute(SERVINGS.insert(), [row_of(s) for s in servings])


def _consume(connection: Connection, requests: Sequence[Request]) -> None:
    """Mark requests as consumed; what the engineer wrote stays as it was."""
    for request in requests:
        change = {"consumed_at": request.consumed_at, "outcome": request.outcome}
        if connection.execute(update(REQUESTS).where(REQUESTS.c.id == request.id).values(change)).rowcount != 1:
            raise StoreError(f"request {request.id} is to be marked as consumed, but there is no such request")
