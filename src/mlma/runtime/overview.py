"""What `mlma status` and `mlma streams` show: the fleet on one screen, and one row a stream. Pure reading."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase
from mlma.core.digest_parts import is_alarm
from mlma.core.explanation import StreamCount
from mlma.core.incident_view import IncidentView, by_size, view
from mlma.core.overrides import held, is_active
from mlma.core.records import NAIVE, Certificate, Decision, Finding, Lease, Rejected, Serving, SourceFile
from mlma.core.schedule import Schedule
from mlma.runtime.answers import DAEMON_SILENT
from mlma.runtime.explain_words import ratio
from mlma.runtime.monitor_words import fallback_of
from mlma.runtime.pool_status import PoolStatus, pool_status
from mlma.runtime.ports import ControlStore, History
from mlma.runtime.waiting import WaitingTraining, waiting

SHOWN = 3
"""Worst streams, files and newest findings that an overview names."""

RECENT_BATCHES = 30
"""Batches that the recent loss is of: those of years would take seconds to add up, and hide what it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonView:
    """Whether a daemon keeps the state. ``age_s`` is the age of the last heartbeat, None without a lease."""

    is_up: bool
    age_s: float | None
    lease: Lease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """What the last batch brought, in numbers of streams."""

    batch: int
    n_judged: int
    n_tested: int
    alarms: int
    actions: Mapping[str, int]  # carried out, plain keeps left out
    held: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineView:
    """Rows that were not admitted: how many, why and where."""

    n_rows: int  # that arrived
    n_rejected: int
    n_late: int
    n_files: int
    n_refused_files: int
    by_reason: Mapping[str, int]
    worst_streams: tuple[StreamCount, ...]
    worst_files: tuple[StreamCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossView:
    """Served loss relative to seasonal naive, of streams that a trained version served; NaN when unknown."""

    last_median: float  # over streams, in the last batch
    recent_batches: int  # `RECENT_BATCHES`, or all that there are
    recent_median: float  # over streams, in these batches
    recent_share_better: float  # share of the streams that were better than naive over these


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTestView:
    """Whether the loss test keeps its promise; ``certificate`` is None before the first."""

    is_armed: bool
    certificate: Certificate | None
    policy: str  # empty before the state has one
    fallback_every: int | None  # batches of the calendar that decides under `test` while it is not armed


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A state on one screen."""

    now: datetime
    daemon: DaemonView
    n_streams: int
    n_batches: int  # closed and judged
    judged_until: datetime | None  # event time
    n_champions: int
    n_fallback: int
    n_versions: int
    last: BatchView | None
    loss: LossView
    loss_test: LossTestView
    incidents: tuple[IncidentView, ...]  # seen in the last batch, by members times rise, the largest first
    pools: PoolStatus
    waiting: tuple[WaitingTraining, ...]  # for the budget, the first to start first, a few
    n_pending_effects: int
    n_open_requests: int
    overrides: Mapping[str, int]  # active, by kind
    findings: Mapping[str, int]  # open, by kind
    newest_findings: tuple[Finding, ...]
    quarantine: QuarantineView


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One stream in a list; NaN where a number does not exist."""

    name: str
    labels: Mapping[str, str]
    batch: int | None
    mean_loss: float
    relative_loss: float  # to seasonal naive, in the last batch
    p_value: float
    effect: float
    action: str
    reason: str
    held_by: str
    version_id: str  # that serves now
    retrainings: int
    is_frozen: bool
    is_pinned: bool


def overview(
    store: ControlStore, schedule: Schedule | None, now: datetime, *, history: History | None = None
) -> Overview:
    """State as an engineer looks at it first.

    Parameters
    ----------
    store
        Read, never written.
    schedule
        Of the state; None before its first data.
    now
        Aware.
    history
        Read for the pools; None leaves them out.
    """
    streams, cursor, versions = store.streams(), store.cursor(), store.versions()
    decisions = [] if cursor is None else store.decisions(batch=cursor)
    first = store.first_batch()
    n_batches = 0 if cursor is None or first is None else cursor + 1 - first
    champions = serving_ids(store.servings())
    findings = store.findings(open_only=True)
    going_on = [] if cursor is None else store.incidents(since_batch=cursor)
    return Overview(
        now=now,
        daemon=daemon_view(store.lease(), now),
        n_streams=len(streams),
        n_batches=n_batches,
        judged_until=None if cursor is None or schedule is None else schedule.time_of(schedule.origin_after(cursor)),
        n_champions=len(champions),
        n_fallback=len(streams) - len(champions),
        n_versions=len(versions),
        last=None if cursor is None else batch_view(cursor, decisions),
        loss=_loss_view(store, decisions, cursor, min(RECENT_BATCHES, n_batches)),
        loss_test=loss_test_view(store.certificate(), store.meta()),
        incidents=tuple(by_size(view(incident, schedule=schedule, cursor=cursor) for incident in going_on)),
        pools=pool_status(store, history, decisions),
        waiting=() if schedule is None else tuple(waiting(store, schedule)[:SHOWN]),
        n_pending_effects=len(store.effects(status=EffectStatus.PENDING))
        + sum(one.status is EffectStatus.PENDING for one in store.group_trainings()),
        n_open_requests=len(store.requests(open_only=True)),
        overrides=Counter(str(o.kind) for o in store.overrides() if is_active(o, now)),
        findings=Counter(f.kind for f in findings),
        newest_findings=tuple(findings[:SHOWN]),
        quarantine=quarantine_view(store.files(), store.rejected()),
    )


def daemon_view(lease: Lease | None, now: datetime) -> DaemonView:
    """Whether a heartbeat is fresh enough to believe in a daemon."""
    age = None if lease is None else now - lease.heartbeat_at
    return DaemonView(
        is_up=age is not None and age <= DAEMON_SILENT,
        age_s=None if age is None else max(0.0, age.total_seconds()),
        lease=lease,
    )


def loss_test_view(certificate: Certificate | None, meta: Mapping[str, str]) -> LossTestView:
    """Whether alarms count, and what decides when they do not."""
    return LossTestView(
        is_armed=certificate is None or certificate.is_armed,
        certificate=certificate,
        policy=meta.get("policy", ""),
        fallback_every=fallback_of(meta),
    )


def serving_ids(servings: Iterable[Serving]) -> dict[int, str]:
    """Version that serves now by stream id, from the ledger in its order."""
    return {serving.stream_id: serving.version_id for serving in servings}


def batch_view(batch: int, decisions: Sequence[Decision]) -> BatchView:
    """Decisions of one batch, all phases, in numbers."""
    judged = [d for d in decisions if d.phase is Phase.BATCH]
    return BatchView(
        batch=batch,
        n_judged=len(judged),
        n_tested=int(sum(np.isfinite(d.p_value) for d in judged)),
        alarms=sum(map(is_alarm, judged)),
        actions=Counter(str(d.action) for d in decisions if d.action is not Action.KEEP),
        held=Counter(str(d.held_by) for d in decisions if d.held_by is not Hold.NOTHING),
    )


def quarantine_view(files: Sequence[SourceFile], rejected: Sequence[Rejected]) -> QuarantineView:
    """Rows that were not admitted, with the worst streams and files."""
    by_reason, by_stream, by_file = Counter[str](), Counter[str](), Counter[str]()
    for entry in rejected:
        by_reason[str(entry.reason)] += entry.count
        by_stream[entry.stream or "(no name)"] += entry.count
        by_file[entry.path] += entry.count
    return QuarantineView(
        n_rows=sum(file.n_rows for file in files),
        n_rejected=sum(by_reason.values()),
        n_late=sum(file.n_late for file in files),
        n_files=len(files),
        n_refused_files=sum(bool(file.error) for file in files),
        by_reason=dict(by_reason.most_common()),
        worst_streams=_worst(by_stream),
        worst_files=_worst(by_file),
    )


def _worst(counts: Counter[str]) -> tuple[StreamCount, ...]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(StreamCount(name=name, count=n) for name, n in ranked[:SHOWN])


def _loss_view(store: ControlStore, decisions: Sequence[Decision], cursor: int | None, n_batches: int) -> LossView:
    """Relative losses of the last batch, and of the newest ones."""
    last = np.array([ratio(d) for d in decisions if d.phase is Phase.BATCH and d.version_id != NAIVE])
    share = np.empty(0)
    if cursor is not None:
        sums = store.loss_sums(first_batch=cursor + 1 - n_batches, last_batch=cursor)
        share = sums.loss[sums.naive_loss > 0] / sums.naive_loss[sums.naive_loss > 0]
    return LossView(
        last_median=_median(last),
        recent_batches=n_batches,
        recent_median=_median(share),
        recent_share_better=float((share < 1).mean()) if len(share) else float("nan"),
    )


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)] if len(values) else values
    return float(np.median(finite)) if len(finite) else float("nan")


def stream_rows(store: ControlStore, now: datetime) -> list[StreamRow]:
    """One row a stream in order of id, from the decisions of the last batch."""
    streams, cursor, orders = store.streams(), store.cursor(), store.overrides()
    last: dict[int, Decision] = {}
    if cursor is not None:
        last = {d.stream_id: d for d in store.decisions(batch=cursor, phase=Phase.BATCH)}
    trained = Counter(version.stream_id for version in store.versions())
    champions = serving_ids(store.servings())
    frozen = held(orders, OverrideKind.FREEZE, streams, now)
    pinned = held(orders, OverrideKind.PIN, streams, now)
    nan = float("nan")
    rows = []
    for position, stream in enumerate(streams):
        d = last.get(stream.id)
        rows.append(
            StreamRow(
                name=stream.name,
                labels=dict(stream.labels),
                batch=d.batch if d else None,
                mean_loss=d.mean_loss if d else nan,
                relative_loss=ratio(d) if d else nan,
                p_value=d.p_value if d else nan,
                effect=d.effect if d else nan,
                action=str(d.action) if d else "",
                reason=str(d.reason) if d else "",
                held_by=str(d.held_by) if d else "",
                version_id=champions.get(stream.id, NAIVE),
                retrainings=max(0, trained[stream.id] - 1),
                is_frozen=bool(frozen[position]),
                is_pinned=bool(pinned[position]),
            )
        )
    return rows
