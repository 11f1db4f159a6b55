"""Digests of a running fleet: gathered from the store, stored before they are sent, delivered at least once.

What a digest says is decided in the core; here it is read, written and sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import structlog

from mlma.core import overrides, selection
from mlma.core.decisions import EffectStatus, Hold, OverrideKind, Phase
from mlma.core.digest import (
    DigestInputs,
    FindingKind,
    losing_streaks,
    make_digest,
    render,
    to_json,
)
from mlma.core.errors import OperationError, RetryLaterError
from mlma.core.incident_view import IncidentView, view
from mlma.core.records import Decision, Delivery, Effect, Finding, Override, SourceFile, StoredDigest, Stream
from mlma.core.schedule import Schedule
from mlma.runtime.cron import next_due
from mlma.runtime.digest_counts import loss_ratios, pool_summary, rejected_counts
from mlma.runtime.ports import Commit, ControlStore, History, Notifier

__all__ = ["backoff", "deliver_due", "gather", "issue", "next_due"]

log = structlog.get_logger(__name__)

LOOKBACK_PERIODS = 14
"""Periods before this one in which lost comparisons count: with a batch a day, a daily digest sees one."""

ATTEMPTS_BEFORE_FINDING = 3
"""Failed attempts of one delivery after which a person is told."""

_INSTANT = timedelta(microseconds=1)  # the resolution of times

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=1)

_HOLDERS = {Hold.FROZEN: OverrideKind.FREEZE, Hold.PINNED: OverrideKind.PIN}


def gather(
    store: ControlStore,
    *,
    now: datetime,
    since: datetime,
    alpha: float,
    schedule: Schedule | None = None,
    expects_daemon: bool = True,
    history: History | None = None,
) -> DigestInputs:
    """Everything that a digest of (since, now] says, read from the store.

    Parameters
    ----------
    alpha
        Promised false-alarm rate a test, in (0, 1).
    schedule
        Of the fleet; tells how far event time was judged. None leaves that out.
    expects_daemon
        False for a state that a replay made.
    history
        Read for the pools; None leaves them out.
    """
    first, until = since + _INSTANT, now + _INSTANT  # what was decided at this very moment belongs to this digest
    streams = store.streams()
    decisions = [d for d in store.decisions(since=first, exceptions_only=True) if d.decided_at < until]
    active = [override for override in store.overrides() if overrides.is_active(override, now)]
    files = _files(store, first, until)
    totals = store.totals(since=first, until=until)
    ratios = loss_ratios(totals)
    cursor, lease = store.cursor(), store.lease()
    lookback = since - LOOKBACK_PERIODS * (now - since)
    return DigestInputs(
        now=now,
        since=since,
        until=now,
        n_streams=len(streams),
        alpha=alpha,
        names={stream.id: stream.name for stream in streams},
        decisions=decisions,
        n_batches=totals.n_batches,
        n_tested=int(totals.n_tested.sum()),
        n_streams_tested=int((totals.n_tested > 0).sum()),
        last_batch=cursor,
        certificate=store.certificate(),
        incidents=_incidents(store, schedule, n_batches=totals.n_batches),
        effects=_effects(store, first, until),
        findings=[f for f in store.findings(open_only=False) if f.closed_at is None or first <= f.closed_at < until],
        overrides=active,
        requests=store.requests(open_only=True),
        holders=_holders(decisions, active, streams),
        losing_streaks=losing_streaks(store.decisions(phase=Phase.PROMOTION, since=lookback)),
        n_files=len(files),
        n_rows=sum(file.n_rows for file in files),
        rejected=rejected_counts(store.rejected(), {file.seq for file in files}),
        unreadable=[file.path for file in files if file.error],
        n_trainings=totals.n_trainings,
        fit_cpu_s=totals.fit_cpu_s,
        pool=pool_summary(store, history),
        loss_ratio_mean=float(ratios.mean()) if len(ratios) else float("nan"),
        loss_ratio_median=float(np.median(ratios)) if len(ratios) else float("nan"),
        daemon_since=lease.started_at if lease else None,
        last_tick_at=lease.heartbeat_at if lease else None,
        judged_until=schedule.time_of(schedule.origin_after(cursor)) if schedule and cursor is not None else None,
        expects_daemon=expects_daemon,
    )


def issue(
    store: ControlStore,
    *,
    now: datetime,
    since: datetime,
    targets: Sequence[str],
    alpha: float,
    schedule: Schedule | None = None,
    expects_daemon: bool = True,
    not_before: datetime | None = None,
    history: History | None = None,
) -> int:
    """Make the digest of (since, now] and store it with one pending delivery a target; returns its id.

    ``not_before`` keeps `deliver_due` away until then, for a caller that delivers it with `deliver` itself.
    """
    inputs = gather(
        store, now=now, since=since, alpha=alpha, schedule=schedule, expects_daemon=expects_daemon, history=history
    )
    digest = make_digest(inputs)
    stored = StoredDigest(
        made_at=now, since=since, subject=digest.subject, text=render(digest), body_json=to_json(digest)
    )
    return store.add_digest(stored, targets, not_before=not_before)


def backoff(attempts: int) -> timedelta:
    """Time from the last of ``attempts`` failures, at least one, to the next try.

    Examples
    --------
    >>> [str(backoff(n)) for n in (1, 2, 6, 7, 1000)]
    ['0:01:00', '0:02:00', '0:32:00', '1:00:00', '1:00:00']
    """
    return min(LAST_RETRY, FIRST_RETRY * (1 << min(attempts - 1, 10)))


def deliver_due(store: ControlStore, notifier: Notifier, now: datetime) -> None:
    """Try every delivery that is due, and record how it went.

    A delivery is recorded after it was sent, so a crash in between sends it again: at least once. It is tried
    for ever, with growing pauses, unless its target was removed from the configuration. A target that failed
    is not tried again in the same pass, so one that hangs costs one timeout; the others are not held up.
    """
    _try_all(store, notifier, now, [entry for entry in store.deliveries(open_only=True) if _is_due(entry, now)])


def deliver(store: ControlStore, notifier: Notifier, now: datetime, *, digest_id: int) -> None:
    """Try the open deliveries of one digest now, due or not, and record how it went."""
    _try_all(store, notifier, now, store.deliveries(digest_id=digest_id, open_only=True))


def _try_all(store: ControlStore, notifier: Notifier, now: datetime, due: Sequence[Delivery]) -> None:
    if not due:
        return
    wanted = {delivery.digest_id for delivery in due}
    digests = {digest.id: digest for digest in store.digests() if digest.id in wanted}
    known, failing = set(notifier.targets()), set[str]()
    for delivery in due:
        if delivery.target not in known:
            _abandon(store, delivery, now)
        elif delivery.target not in failing:
            digest = digests[delivery.digest_id]
            try:
                notifier.send(delivery.target, subject=digest.subject, text=digest.text)
            except RetryLaterError as error:
                failing.add(delivery.target)
                _failed(store, delivery, str(error), now)
            else:
                _delivered(store, delivery, now)


def _is_due(delivery: Delivery, now: datetime) -> bool:
    """Whether to try now; a delivery without a next try is either new or, with an error, abandoned."""
    if delivery.next_try_at is None:
        return not delivery.error
    return delivery.next_try_at <= now


def _delivered(store: ControlStore, delivery: Delivery, now: datetime) -> None:
    attempts = delivery.attempts + 1
    store.update_delivery(replace(delivery, attempts=attempts, delivered_at=now, next_try_at=None, error=""))
    log.info("digest_delivered", digest=delivery.digest_id, target=delivery.target, attempts=attempts)
    _close_finding(store, delivery.target, now)


def _abandon(store: ControlStore, delivery: Delivery, now: datetime) -> None:
    store.update_delivery(replace(delivery, next_try_at=None, error="the target was removed from the configuration"))
    log.warning("delivery_abandoned", digest=delivery.digest_id, target=delivery.target)
    _close_finding(store, delivery.target, now)


def _failed(store: ControlStore, delivery: Delivery, error: str, now: datetime) -> None:
    attempts = delivery.attempts + 1
    store.update_delivery(replace(delivery, attempts=attempts, next_try_at=now + backoff(attempts), error=error))
    if attempts == 1:
        log.warning("delivery_failed", digest=delivery.digest_id, target=delivery.target, error=error)
    if attempts < ATTEMPTS_BEFORE_FINDING:
        return
    known = _finding(store, delivery.target)
    if known is None:
        log.error("delivery_keeps_failing", target=delivery.target, attempts=attempts, error=error)
        known = Finding(
            kind=FindingKind.DELIVERY_FAILED.value,
            subject=delivery.target,
            message=error,
            first_at=now,
            last_at=now,
            count=0,
        )
    store.record(Commit(findings=[replace(known, message=error, last_at=now, count=known.count + 1)]))


def _finding(store: ControlStore, target: str) -> Finding | None:
    found = (f for f in store.findings() if f.kind == FindingKind.DELIVERY_FAILED and f.subject == target)
    return next(found, None)


def _close_finding(store: ControlStore, target: str, now: datetime) -> None:
    known = _finding(store, target)
    if known is not None:
        store.record(Commit(findings=[replace(known, last_at=now, closed_at=now)]))
        log.info("delivery_recovered", target=target)


def _incidents(store: ControlStore, schedule: Schedule | None, *, n_batches: int) -> list[IncidentView]:
    """Incidents seen in the last ``n_batches`` batches: those that were closed in the period."""
    cursor = store.cursor()
    if cursor is None or not n_batches:
        return []
    found = store.incidents(since_batch=cursor - n_batches + 1)
    return [view(incident, schedule=schedule, cursor=cursor) for incident in found]


def _files(store: ControlStore, since: datetime, until: datetime) -> list[SourceFile]:
    """Files taken in the period, read from the newest back so that the first months of a state stay unread."""
    limit = 256
    files = store.files(limit=limit)
    while len(files) == limit and files[0].taken_at >= since:
        limit *= 4
        files = store.files(limit=limit)
    return [file for file in files if since <= file.taken_at < until]


def _effects(store: ControlStore, since: datetime, until: datetime) -> list[Effect]:
    failed = store.effects(status=EffectStatus.FAILED)
    return store.effects(status=EffectStatus.PENDING) + [
        effect for effect in failed if effect.finished_at is not None and since <= effect.finished_at < until
    ]


def _holders(decisions: Sequence[Decision], active: Sequence[Override], streams: Sequence[Stream]) -> Mapping[int, int]:
    """Active freeze or pin of each stream that one of them held, as the override's id."""
    holders: dict[int, int] = {}
    for hold, kind in _HOLDERS.items():
        ids = {decision.stream_id for decision in decisions if decision.held_by is hold}
        held = [stream for stream in streams if stream.id in ids]
        for override in active:
            if override.kind is kind and held:
                holders |= dict.fromkeys(_selected(override, held), override.id)
    return holders


def _selected(override: Override, streams: Iterable[Stream]) -> list[int]:
    try:
        return [stream.id for stream in selection.parse(override.selection).select(streams)]
    except OperationError:
        return []  # was checked when it was written; one that no longer parses selects nothing
