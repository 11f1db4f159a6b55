"""Assembles what `mlma explain` and the plots show: pure reading over the store and the history."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.decisions import Action, EffectStatus, Hold, Phase, Reason
from mlma.core.digest_parts import is_alarm
from mlma.core.errors import OperationError
from mlma.core.explanation import (
    BatchLosses,
    Explanation,
    FleetView,
    Mark,
    MarkKind,
    StreamCount,
    Targets,
    Times,
)
from mlma.core.incident_view import IncidentView, concerns, view
from mlma.core.overrides import is_active
from mlma.core.records import NAIVE, Decision, Override, Request, Stream, Version
from mlma.core.schedule import Schedule
from mlma.core.selection import parse
from mlma.runtime.explain_words import facts, ratio
from mlma.runtime.lookups import find_stream, near, stream_of
from mlma.runtime.monitor_words import monitored
from mlma.runtime.pool_words import pool_facts
from mlma.runtime.ports import ControlStore, History
from mlma.runtime.release_time import release_words
from mlma.runtime.waiting import lapses_at

__all__ = ["Explanation", "FleetView", "explain", "find_stream", "fleet_view", "near", "stream_of"]

PREVIOUS = 12
"""Earlier decisions that an explanation lists."""

TOP = 10
"""Streams that a fleet view names."""

MARKS = {
    Action.TRAIN: MarkKind.RETRAIN,
    Action.RETRAIN: MarkKind.RETRAIN,
    Action.PROMOTE: MarkKind.PROMOTE,
    Action.REJECT: MarkKind.REJECT,
    Action.ROLL_BACK: MarkKind.ROLL_BACK,
}


def explain(
    store: ControlStore,
    history: History | None,
    schedule: Schedule,
    stream_name: str,
    *,
    now: datetime,
    last: int = 21,
    pools: History | None = None,
) -> Explanation:
    """Everything about a stream's last decision.

    Parameters
    ----------
    store
        Read, never written.
    history
        Read for outcomes and forecasts; None leaves them NaN, which saves reading the Parquet files.
    schedule
        Of the state.
    stream_name
        Exact name.
    now
        Aware; says which overrides hold.
    last
        Batches that the arrays for the plot reach back.
    pools
        Read for the stream's pool; None leaves it out.

    Raises
    ------
    UnknownStreamError
        No stream has this name.
    """
    stream = stream_of(store, stream_name)
    batches = store.decisions(stream_id=stream.id, phase=Phase.BATCH, limit=max(1, last))
    exceptions = store.decisions(stream_id=stream.id, exceptions_only=True, limit=max(PREVIOUS, 4 * last))
    versions = {version.id: version for version in store.versions(stream_id=stream.id)}
    servings = store.servings(stream_id=stream.id)
    decision, meta = batches[0] if batches else None, store.meta()
    candidate = next((d for d in exceptions if d.phase is Phase.PROMOTION), None)
    served = versions.get(decision.version_id) if decision else None
    champion = versions.get(servings[-1].version_id) if servings else None
    holding = tuple(o for o in store.overrides() if is_active(o, now) and _concerns(o, stream))
    pending = tuple(
        effect
        for status in (EffectStatus.PENDING, EffectStatus.WAITING)
        for effect in store.effects(status=status)
        if effect.stream_id == stream.id
    )
    certificate, incidents = store.certificate(), _incidents(store, schedule, stream, decision)
    waiting = tuple(r for r in store.requests(open_only=True) if _concerns(r, stream))
    pool = pool_facts(
        store, pools, schedule, stream, servings=servings, versions=list(versions.values()), n_shards=n_shards(meta)
    )
    released = "" if decision is None else release_words(
        decision, schedule, meta, stream=stream, overrides=holding, exceptions=exceptions, history=pools or history,
        shard=stream.id % n_shards(meta),
    )  # fmt: skip
    return Explanation(
        stream=stream,
        now=now,
        batch_start=schedule.time_of(schedule.first_slot(decision.batch)) if decision else None,
        batch_end=schedule.time_of(schedule.origin_after(decision.batch)) if decision else None,
        decision=decision,
        candidate=candidate,
        served=served,
        champion=champion,
        certificate=certificate,
        incidents=incidents,
        overrides=holding,
        effects=pending,
        requests=waiting,
        previous=tuple(d for d in exceptions if d is not candidate and d != decision)[:PREVIOUS],
        facts=facts(
            decision=decision, candidate=candidate, served=served, champion=champion, overrides=holding,
            effects=pending, requests=waiting, released=released,
            lapses_at=partial(lapses_at, schedule=schedule, meta=meta),
            monitored=(*monitored(decision, certificate, incidents, versions.values(), meta), *pool.facts()),
        ),
        targets=_targets(history, schedule, stream, batches, shard=stream.id % n_shards(meta)),
        losses=_losses(batches[::-1], schedule),
        marks=_marks(exceptions, batches, schedule), pool=pool.shares, debt=pool.debt, price=pool.price,
    )  # fmt: skip


def _incidents(
    store: ControlStore, schedule: Schedule, stream: Stream, decision: Decision | None
) -> tuple[IncidentView, ...]:
    """Incidents of the decision's batch that a stream belongs to, the smallest label set first."""
    if decision is None:
        return ()
    cursor = store.cursor()
    found = store.incidents(since_batch=decision.batch)
    mine = [incident for incident in found if concerns(stream.labels, incident, decision.batch)]
    mine.sort(key=lambda incident: (-len(incident.labels), incident.n_members, incident.id))
    return tuple(view(incident, schedule=schedule, cursor=cursor) for incident in mine)


def n_shards(meta: Mapping[str, str]) -> int:
    """Shards over which the history of a state is spread."""
    return int(meta.get("n_shards", "1"))


def _concerns(order: Override | Request, stream: Stream) -> bool:
    try:
        return parse(order.selection).matches(stream.name, stream.labels)
    except OperationError:
        return False  # was checked when it was written; a selection that no longer parses selects nothing


def _ends(schedule: Schedule, batches: Sequence[int]) -> Times:
    return schedule.times_of((np.asarray(batches, dtype=np.int64) + 1) * schedule.batch)


def _targets(
    history: History | None, schedule: Schedule, stream: Stream, batches: Sequence[Decision], *, shard: int
) -> Targets:
    """Outcomes and forecasts of the judged batches, slot by slot without holes."""
    if not batches:
        empty = np.empty(0)
        return Targets(time=schedule.times_of(np.empty(0, dtype=np.int64)), y=empty, forecast=empty, naive=empty)
    first, last = batches[-1].batch, batches[0].batch
    y, forecast, naive = np.full((3, (last - first + 1) * schedule.batch), np.nan)
    blocks = history.losses(shard, first_batch=first, last_batch=last, stream_id=stream.id) if history else []
    for block in blocks:
        if len(block.stream_ids):
            begin = (block.batch - first) * schedule.batch
            here = slice(begin, begin + schedule.batch)
            y[here], forecast[here], naive[here] = block.y[0], block.forecast[0], block.naive[0]
    slots = np.arange(schedule.first_slot(first), schedule.origin_after(last), dtype=np.int64)
    return Targets(time=schedule.times_of(slots), y=y, forecast=forecast, naive=naive)


def _losses(batches: Sequence[Decision], schedule: Schedule) -> BatchLosses:
    def column(name: str) -> Floats:
        return np.array([getattr(d, name) for d in batches], dtype=np.float64)

    return BatchLosses(
        batch=np.array([d.batch for d in batches], dtype=np.int64),
        time=_ends(schedule, [d.batch for d in batches]),
        mean_loss=column("mean_loss"),
        naive_loss=column("naive_loss"),
        adaptive_mean=column("adaptive_mean"),
        anchored_mean=column("anchored_mean"),
        p_value=column("p_value"),
        effect=column("effect"),
    )


def _marks(exceptions: Sequence[Decision], batches: Sequence[Decision], schedule: Schedule) -> tuple[Mark, ...]:
    """Marks of the shown batches, oldest first, each kind once a batch."""
    shown = {d.batch for d in batches}
    found: dict[tuple[int, MarkKind], Mark] = {}
    for decision in reversed(exceptions):
        kind = MarkKind.HELD if decision.held_by is not Hold.NOTHING else MARKS.get(decision.action)
        if kind is not None and decision.batch in shown:
            at = schedule.time_of(schedule.origin_after(decision.batch))
            found[decision.batch, kind] = Mark(kind=kind, batch=decision.batch, at=at)
    return tuple(found.values())


def fleet_view(store: ControlStore, history: History, schedule: Schedule) -> FleetView:  # noqa: ARG001  one signature for views
    """A fleet batch by batch, read one batch at a time.

    Parameters
    ----------
    store, history
        Read, never written.
    schedule
        Of the state.
    """
    streams, versions, cursor = store.streams(), store.versions(), store.cursor()
    first = min((version.batch for version in versions), default=cursor)
    batches = [] if cursor is None or first is None else list(range(first, cursor + 1))
    rows = [_fleet_row(store.decisions(batch=batch)) for batch in batches]
    trained = Counter(version.batch for version in versions)
    retrained = Counter(version.stream_id for version in _after_first(versions))
    names = {stream.id: stream.name for stream in streams}
    ranked = sorted(retrained.items(), key=lambda item: (-item[1], names[item[0]]))[:TOP]
    table = np.array([row.numbers for row in rows], dtype=np.float64).reshape(len(rows), 5).T
    return FleetView(
        n_streams=len(streams),
        batch=np.array(batches, dtype=np.int64),
        time=_ends(schedule, batches),
        alarm_share=table[0],
        retrain_share=table[1],
        trainings=np.array([trained[batch] for batch in batches], dtype=np.int64),
        ratio_median=table[2],
        ratio_low=table[3],
        ratio_high=table[4],
        top_retrained=tuple(StreamCount(name=names[stream_id], count=n) for stream_id, n in ranked),
        n_retrainings=sum(retrained.values()),
        n_promoted=sum(row.n_promoted for row in rows),
        n_rejected=sum(row.n_rejected for row in rows),
    )


def _after_first(versions: Sequence[Version]) -> list[Version]:
    """Versions without the first one of each stream; they come in order of stream and batch."""
    before = (None, *(version.stream_id for version in versions))
    return [version for version, previous in zip(versions, before, strict=False) if version.stream_id == previous]


@dataclass(frozen=True, slots=True, kw_only=True)
class _FleetRow:
    """One batch of a fleet in numbers; ``numbers`` are the float columns of a view in their order."""

    numbers: tuple[float, ...]
    n_promoted: int
    n_rejected: int


def _fleet_row(decisions: Sequence[Decision]) -> _FleetRow:
    judged = [d for d in decisions if d.phase is Phase.BATCH]
    tried = [d for d in decisions if d.phase is Phase.PROMOTION]
    n = max(1, len(judged))
    ratios = np.array([ratio(d) for d in judged if d.version_id != NAIVE], dtype=np.float64)
    ratios = ratios[np.isfinite(ratios)]
    spread = np.quantile(ratios, [0.5, 0.1, 0.9]) if len(ratios) else np.full(3, np.nan)
    alarms = sum(map(is_alarm, judged)) / n
    retrained = sum(d.action is Action.RETRAIN for d in judged) / n
    return _FleetRow(
        numbers=(alarms, retrained, *spread.tolist()),
        n_promoted=sum(d.reason is Reason.BEAT_CHAMPION and d.action is Action.PROMOTE for d in tried),
        n_rejected=sum(d.action is Action.REJECT for d in tried),
    )
