"""Questions to the control plane: rows become records. Nothing here writes."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar, cast

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    Select,
    Table,
    and_,
    case,
    func,
    select,
    text,
    type_coerce,
)

from mlma.adapters.store_open import plain_errors
from mlma.adapters.tables import (
    AUDIT,
    BUCKETS,
    CERTIFICATES,
    CURSORS,
    DECISIONS,
    DELIVERIES,
    DIGESTS,
    EFFECTS,
    EXCEPTION,
    FINDINGS,
    GROUP_TRAININGS,
    INCIDENTS,
    LEASES,
    META,
    OVERRIDES,
    REJECTED,
    REQUESTS,
    SERVINGS,
    SOURCE_FILES,
    STREAMS,
    VERSIONS,
)
from mlma.core.blocks import LossSums, PeriodTotals
from mlma.core.decisions import EffectStatus, Phase
from mlma.core.records import (
    AuditRow,
    Certificate,
    Decision,
    Delivery,
    Effect,
    Finding,
    GroupTraining,
    Incident,
    Lease,
    Override,
    Rejected,
    Request,
    Serving,
    SourceFile,
    StoredDigest,
    Stream,
    Version,
)
from mlma.core.training_queue import Bucket

FLEET = "fleet"
"""Name of the cursor of the whole fleet."""

R = TypeVar("R")


def select_records(record: type[R], table: Table) -> Select[Any]:
    """Query of the columns that a record has, by the names of its fields."""
    return select(*(table.c[f.name] for f in fields(cast("Any", record))))


def to_records(record: type[R], connection: Connection, query: Select[Any]) -> list[R]:
    """Rows of a query as records, in its order."""
    return [record(**row) for row in connection.execute(query).mappings()]


def as_double(column: ColumnElement[float]) -> ColumnElement[float]:
    """Column for arithmetic in SQL, without the translation of NULL to NaN."""
    return type_coerce(column, Double())


def _per_stream(wanted: ColumnElement[bool]) -> Select[Any]:
    """Stream, its batches with a p-value, and its sums of losses as `LossSums` has them, of the wanted decisions."""
    c = DECISIONS.c
    # A sum skips NULL: n * mean_loss may count only where both losses exist.
    both = and_(c.mean_loss.is_not(None), c.naive_loss.is_not(None))
    sums = (func.coalesce(func.sum(case((both, c.n * as_double(loss)))), 0.0) for loss in (c.mean_loss, c.naive_loss))
    return select(c.stream_id, func.count(c.p_value), *sums).where(wanted).group_by(c.stream_id).order_by(c.stream_id)


class StoreReader:
    """The reading half of the control store (see ``runtime.ports.ControlStore``)."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where

    def _ask(self, question: Callable[[Connection], R]) -> R:
        with plain_errors(self._where), self._engine.connect() as connection:
            return question(connection)

    def _list(self, record: type[R], query: Select[Any]) -> list[R]:
        return self._ask(lambda connection: to_records(record, connection, query))

    def meta(self) -> Mapping[str, str]:
        """What was fixed when the state was made (anchor, frequency, shards ...)."""
        query = select(META.c.key, META.c.value).order_by(META.c.key)
        return self._ask(lambda connection: {row.key: row.value for row in connection.execute(query)})

    def cursor(self) -> int | None:
        """The last closed batch, None before the first."""
        query = select(CURSORS.c.batch).where(CURSORS.c.name == FLEET)
        return self._ask(lambda connection: cast("int | None", connection.execute(query).scalar()))

    def lease(self) -> Lease | None:
        """Who keeps the state, None when nobody does."""
        return next(iter(self._list(Lease, select_records(Lease, LEASES))), None)

    def streams(self) -> list[Stream]:
        """All streams in order of id."""
        return self._list(Stream, select_records(Stream, STREAMS).order_by(STREAMS.c.id))

    def stream(self, name: str) -> Stream | None:
        """The stream of a name, None when there is none; the others are not read."""
        query = select_records(Stream, STREAMS).where(STREAMS.c.name == name)
        return next(iter(self._list(Stream, query)), None)

    def files(self, *, limit: int | None = None) -> list[SourceFile]:
        """Files in order of seq, or the last ``limit`` ones."""
        query = select_records(SourceFile, SOURCE_FILES).order_by(SOURCE_FILES.c.seq.desc()).limit(limit)
        return self._list(SourceFile, query)[::-1]

    def rejected(self) -> list[Rejected]:
        """Rejected rows in order of seq, then stream and reason."""
        order = (REJECTED.c.seq, REJECTED.c.stream, REJECTED.c.reason)
        return self._list(Rejected, select_records(Rejected, REJECTED).order_by(*order))

    def decisions(
        self,
        *,
        stream_id: int | None = None,
        batch: int | None = None,
        phase: Phase | None = None,
        since: datetime | None = None,
        exceptions_only: bool = False,
        limit: int | None = None,
    ) -> list[Decision]:
        """Decisions, newest first (by batch, then decided_at, then stream); see the port.

        A plain keep, which ``exceptions_only`` leaves out, is one that was also proposed as a keep. What was
        decided for a stream at one moment comes as request, release, promotion, batch: the last step first.
        """
        c = DECISIONS.c
        query = select_records(Decision, DECISIONS)
        if stream_id is not None:
            query = query.where(c.stream_id == stream_id)
        if batch is not None:
            query = query.where(c.batch == batch)
        if phase is not None:
            query = query.where(c.phase == phase)
        if since is not None:
            query = query.where(c.decided_at >= since)
        if exceptions_only:
            query = query.where(text(f"({EXCEPTION})"))
        order = (c.batch.desc(), c.decided_at.desc(), c.stream_id, c.phase.desc(), c.occasion.desc())
        return self._list(Decision, query.order_by(*order).limit(limit))

    def totals(self, *, since: datetime, until: datetime) -> PeriodTotals:
        """Sums over the batch decisions decided, and the models trained, in [since, until); see the port."""
        c, trained_at = DECISIONS.c, VERSIONS.c.trained_at
        period = and_(c.phase == Phase.BATCH, c.decided_at >= since, c.decided_at < until)
        per_stream = _per_stream(period)
        batches = select(func.count(c.batch.distinct())).where(period)
        trained = select(func.count(), func.coalesce(func.sum(as_double(VERSIONS.c.fit_cpu_s)), 0.0)).where(
            trained_at >= since, trained_at < until
        )

        finished_at = GROUP_TRAININGS.c.finished_at
        of_groups = select(func.count(), func.coalesce(func.sum(as_double(GROUP_TRAININGS.c.cpu_s)), 0.0)).where(
            finished_at >= since, finished_at < until, GROUP_TRAININGS.c.status == EffectStatus.DONE
        )

        def ask(connection: Connection) -> PeriodTotals:
            rows = connection.execute(per_stream).all()
            n_trainings, fit_cpu_s = connection.execute(trained).one()
            n_groups, groups_cpu_s = connection.execute(of_groups).one()
            return PeriodTotals(
                n_batches=int(connection.execute(batches).scalar_one()),
                n_trainings=int(n_trainings) + int(n_groups),
                fit_cpu_s=float(fit_cpu_s) + float(groups_cpu_s),
                stream_id=np.array([row[0] for row in rows], dtype=np.int64),
                n_tested=np.array([row[1] for row in rows], dtype=np.int64),
                loss=np.array([row[2] for row in rows], dtype=np.float64),
                naive_loss=np.array([row[3] for row in rows], dtype=np.float64),
            )

        return self._ask(ask)

    def first_batch(self) -> int | None:
        """The first batch with a decision, None without any."""
        first = select(func.min(DECISIONS.c.batch))
        found = self._ask(lambda connection: connection.execute(first).scalar_one())
        return None if found is None else int(found)

    def loss_sums(self, *, first_batch: int, last_batch: int) -> LossSums:
        """Sums over the batch decisions of the batches in [first_batch, last_batch]."""
        c = DECISIONS.c  # with one bound alone, SQLite reads the decisions of all time, in order of stream
        per_stream = _per_stream(and_(c.phase == Phase.BATCH, c.batch >= first_batch, c.batch <= last_batch))
        rows = self._ask(lambda connection: connection.execute(per_stream).all())
        return LossSums(
            loss=np.array([row[2] for row in rows], dtype=np.float64),
            naive_loss=np.array([row[3] for row in rows], dtype=np.float64),
        )

    def effects(self, *, status: EffectStatus | None = None) -> list[Effect]:
        """Effects in order of ordered_at, then id."""
        query = select_records(Effect, EFFECTS).order_by(EFFECTS.c.ordered_at, EFFECTS.c.id)
        return self._list(Effect, query if status is None else query.where(EFFECTS.c.status == status))

    def group_trainings(self) -> list[GroupTraining]:
        """Trainings of groups in order of batch, then id."""
        c = GROUP_TRAININGS.c
        return self._list(GroupTraining, select_records(GroupTraining, GROUP_TRAININGS).order_by(c.batch, c.id))

    def bucket(self) -> Bucket | None:
        """State of the training budget, None before it was first used."""
        return next(iter(self._list(Bucket, select_records(Bucket, BUCKETS).where(BUCKETS.c.name == FLEET))), None)

    def versions(self, *, stream_id: int | None = None) -> list[Version]:
        """Versions in order of stream, batch and count."""
        c = VERSIONS.c
        # Ids of one stream and batch differ in their count alone: the longer one has the higher count.
        query = select_records(Version, VERSIONS).order_by(c.stream_id, c.batch, func.length(c.id), c.id)
        return self._list(Version, query if stream_id is None else query.where(c.stream_id == stream_id))

    def servings(self, *, stream_id: int | None = None) -> list[Serving]:
        """The ledger in order of insertion."""
        query = select_records(Serving, SERVINGS).order_by(SERVINGS.c.position)
        return self._list(Serving, query if stream_id is None else query.where(SERVINGS.c.stream_id == stream_id))

    def overrides(self) -> list[Override]:
        """All overrides in order of id, ended ones included."""
        return self._list(Override, select_records(Override, OVERRIDES).order_by(OVERRIDES.c.id))

    def requests(self, *, open_only: bool = False) -> list[Request]:
        """Requests in order of id; ``open_only`` leaves the consumed ones out."""
        query = select_records(Request, REQUESTS).order_by(REQUESTS.c.id)
        return self._list(Request, query.where(REQUESTS.c.consumed_at.is_(None)) if open_only else query)

    def audit(self, *, limit: int | None = None) -> list[AuditRow]:
        """Audit rows, newest first."""
        return self._list(AuditRow, select_records(AuditRow, AUDIT).order_by(AUDIT.c.id.desc()).limit(limit))

    def findings(self, *, open_only: bool = True) -> list[Finding]:
        """Findings, newest first (by last_at, then kind and subject)."""
        c = FINDINGS.c
        query = select_records(Finding, FINDINGS).order_by(c.last_at.desc(), c.kind, c.subject)
        return self._list(Finding, query.where(c.closed_at.is_(None)) if open_only else query)

    def certificate(self) -> Certificate | None:
        """The certificate of the newest batch that has one."""
        query = select_records(Certificate, CERTIFICATES).order_by(CERTIFICATES.c.batch.desc()).limit(1)
        return next(iter(self._list(Certificate, query)), None)

    def incidents(self, *, since_batch: int | None = None, limit: int | None = None) -> list[Incident]:
        """Incidents, the newest first (by last_batch, then first_batch, then members); see the port."""
        c = INCIDENTS.c
        query = select_records(Incident, INCIDENTS)
        if since_batch is not None:
            query = query.where(c.last_batch >= since_batch)
        order = (c.last_batch.desc(), c.first_batch.desc(), c.n_members.desc(), c.id)
        return self._list(Incident, query.order_by(*order).limit(limit))

    def digests(self, *, limit: int | None = None) -> list[StoredDigest]:
        """Digests, newest first."""
        query = select_records(StoredDigest, DIGESTS).order_by(DIGESTS.c.id.desc()).limit(limit)
        return self._list(StoredDigest, query)

    def deliveries(self, *, digest_id: int | None = None, open_only: bool = False) -> list[Delivery]:
        """Deliveries in order of id; ``open_only`` leaves the delivered ones out."""
        query = select_records(Delivery, DELIVERIES).order_by(DELIVERIES.c.id)
        if digest_id is not None:
            query = query.where(DELIVERIES.c.digest_id == digest_id)
        return self._list(Delivery, query.where(DELIVERIES.c.delivered_at.is_(None)) if open_only else query)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()
