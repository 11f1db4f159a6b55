"""The digest: one page on a fleet of any size, made from plain values.

Healed by itself, pending, what needs a person, what it cost, how honest the alarms were, what was left out,
and a line that proves that silence is health.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain, islice, zip_longest

from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase, Reason
from mlma.core.digest_attention import attention
from mlma.core.digest_monitor import incidents_seen, is_armed, measured
from mlma.core.digest_parts import (
    SHOWN,
    SHOWN_BRIEFLY,
    Digest,
    DigestInputs,
    Entry,
    FindingKind,
    RejectedCount,
    Section,
    held,
    is_alarm,
    latest_alarms,
    losing_streaks,
    name_of,
    weight,
)
from mlma.core.digest_pool import pool_line
from mlma.core.digest_text import MAX_LINES, render, to_json
from mlma.core.digest_words import WIDTH, count, lead, minute, rise, some
from mlma.core.records import Decision, Effect

__all__ = [
    "MAX_LINES", "SHOWN", "SHOWN_BRIEFLY", "WIDTH", "Digest", "DigestInputs", "Entry", "FindingKind", "RejectedCount",
    "Section", "losing_streaks", "make_digest", "render", "to_json",
]  # fmt: skip

_ROOM = WIDTH - 5  # columns after the number of an entry
_BODY = WIDTH - 10  # columns after a section's heading


def make_digest(inputs: DigestInputs) -> Digest:
    """One page from what happened; its length does not depend on the size of the fleet.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> now = datetime(2001, 3, 6, 7, tzinfo=UTC)
    >>> quiet = DigestInputs(now=now, since=now - timedelta(days=1), until=now, n_streams=94, alpha=0.05,
    ...     n_batches=1, n_tested=94, n_streams_tested=94, daemon_since=now, last_tick_at=now)
    >>> make_digest(quiet).subject
    'mlma: no news, all 94 streams within reference'
    """
    healed, pending, needs = _healed(inputs), _pending(inputs), _needs_you(inputs)
    return Digest(
        subject=_subject(inputs, needs),
        made_at=inputs.now,
        since=inputs.since,
        until=inputs.until,
        scope=_scope(inputs),
        healed=healed,
        pending=pending,
        needs_you=needs,
        incidents=incidents_seen(inputs),
        pool=pool_line(inputs),
        cost=_cost(inputs),
        honesty=_honesty(inputs),
        files=_files(inputs),
        orders=_orders(inputs),
        suppressed=_suppressed(inputs, healed, pending, needs),
        heartbeat=_heartbeat(inputs, needs),
    )


def _section(summary: str, n: int, entries: Iterable[Entry], *, shown: int = SHOWN_BRIEFLY) -> Section:
    """Take the first examples of ``n``; the others are never written, however many there are."""
    told = tuple(islice(entries, shown))
    return Section(summary=summary, entries=told, n_more=n - len(told))


def _subject(inputs: DigestInputs, needs: Section) -> str:
    n_needs = len(needs.entries) + needs.n_more
    if _is_quiet(inputs) and not n_needs:
        return f"mlma: no news, all {count(inputs.n_streams, 'stream')} within reference"
    alarms = count(sum(map(is_alarm, inputs.decisions)), "alarm")
    urgent = f"{n_needs:,} need you" if n_needs != 1 else "1 needs you"
    storms = f", {count(len(inputs.incidents), 'incident')}" if inputs.incidents else ""
    return f"mlma: {urgent}, {alarms}{storms}, {count(inputs.n_streams, 'stream')}"


def _scope(inputs: DigestInputs) -> str:
    return (
        f"{count(inputs.n_streams, 'stream')}, {count(inputs.n_batches, 'batch', 'batches')} closed, "
        f"{count(inputs.n_tested, 'test')} of a stream's batch"
    )


def _healed(inputs: DigestInputs) -> Section:
    done = sorted((d for d in inputs.decisions if d.held_by is Hold.NOTHING), key=lambda d: d.stream_id)
    promoted = [d for d in done if d.action is Action.PROMOTE and d.reason is Reason.BEAT_CHAMPION]
    undone = [d for d in done if d.action is Action.ROLL_BACK]
    released = [d for d in done if d.phase is Phase.RELEASE and d.action is not Action.PROMOTE]
    back = [f for f in inputs.findings if f.kind == FindingKind.MODEL_FAILED and f.closed_at is not None]
    n_first = sum(d.action is Action.PROMOTE and d.reason is Reason.FIRST_VERSION for d in done)
    alarms = {(d.stream_id, d.batch): d.effect for d in inputs.decisions if is_alarm(d)}
    promoted.sort(key=lambda d: -weight(alarms.get((d.stream_id, d.batch), d.effect)))
    rows = _in_turn(
        ((name_of(inputs, d.stream_id), _better(d)) for d in promoted),
        ((name_of(inputs, d.stream_id), f"former champion serves again ({d.note or d.reason})") for d in undone),
        ((name_of(inputs, d.stream_id), f"{d.action} released ({d.note or d.reason})") for d in released),
        ((f.subject, "its model forecasts again, naive stood in") for f in back),
    )
    counts = [
        f"{len(promoted):,} proven better" if promoted else "",
        f"{len(undone):,} rolled back" if undone else "",
        f"{len(released):,} released" if released else "",
        f"{count(len(back), 'fallback')} ended" if back else "",
        count(n_first, "first version") if n_first else "",
    ]
    n = len(promoted) + len(undone) + len(released) + len(back)
    return _section(", ".join(filter(None, counts)) or "none", n, _told(rows))


def _in_turn(*kinds: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """One row of each kind before a second one of any, so that a frequent kind cannot crowd out a rare one."""
    return (row for turn in zip_longest(*kinds) for row in turn if row is not None)


def _better(decision: Decision) -> str:
    """Give the proof: loss before and after on the same targets."""
    if math.isnan(decision.adaptive_mean) or math.isnan(decision.mean_loss):
        return decision.note or "challenger beat champion"
    change = f" ({rise(decision.effect)})" if rise(decision.effect) else ""
    return f"loss {decision.adaptive_mean:.4g} -> {decision.mean_loss:.4g} on {decision.n:,} held-out targets{change}"


def _told(rows: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    return (Entry(text=lead(name, rest, width=_ROOM)) for name, rest in rows)


def _pending(inputs: DigestInputs) -> Section:
    trainings = [e for e in inputs.effects if e.status is EffectStatus.PENDING]
    trainings.sort(key=lambda e: (-e.attempts, e.ordered_at, e.id))
    waiting = held(inputs)
    rows = chain(
        ((name_of(inputs, d.stream_id), _held(d)) for d in waiting),
        ((name_of(inputs, e.stream_id), _training(e, inputs)) for e in trainings),
    )
    counts = [
        f"{count(len(trainings), 'training')} under way" if trainings else "",
        f"{count(len(waiting), 'proposal')} held" if waiting else "",
        f"{count(len(inputs.requests), 'request')} not yet obeyed" if inputs.requests else "",
    ]
    return _section(", ".join(filter(None, counts)) or "none", len(waiting) + len(trainings), _told(rows))


def _held(decision: Decision) -> str:
    because = f"{decision.reason} {rise(decision.effect)}".strip()
    return f"{decision.proposed} held: {decision.held_by} ({because})"


def _training(effect: Effect, inputs: DigestInputs) -> str:
    again = f", try {effect.attempts + 1}" if effect.attempts else ""
    late = ", late" if effect.deadline_at < inputs.now else ""
    return f"training since {minute(effect.ordered_at)} ({effect.reason}){again}{late}"


def _needs_you(inputs: DigestInputs) -> Section:
    items = attention(inputs)
    entries = (Entry(text=item.text, command=item.command) for item in items)
    return _section(count(len(items), "item") if items else "none", len(items), entries, shown=SHOWN)


def _cost(inputs: DigestInputs) -> str:
    hours = inputs.fit_cpu_s / 3600.0
    cpu = f"{hours:,.0f} CPU-h" if hours >= 10.0 else f"{inputs.fit_cpu_s:,.0f} CPU-s"
    spent = f"{count(inputs.n_trainings, 'training')}, {cpu}"
    if math.isnan(inputs.loss_ratio_mean):
        return f"{spent}; nothing scored against naive"
    return f"{spent}; loss {inputs.loss_ratio_mean:.2f} of naive (median {inputs.loss_ratio_median:.2f})"


def _honesty(inputs: DigestInputs) -> tuple[str, str, str, str]:
    """Set what was promised beside what was seen, and beside what sham streams measured.

    Alarms include true ones, so their number does not measure the false-alarm rate; it bounds it from above.
    A challenger that beat the champion confirms an alarm; one that lost does not refute it, since
    retraining cannot mend everything, so the rest is called not confirmed, never false. Only on sham streams
    is it known which alarms are false: the last line is what the certificate says.
    """
    n = inputs.n_tested
    if not n:
        return "nothing was tested, so nothing was promised", "seen: none", "confirmed: none", measured(inputs)
    alarms = {(d.stream_id, d.batch) for d in inputs.decisions if is_alarm(d)}
    proofs = {(d.stream_id, d.batch): d.reason for d in inputs.decisions if d.phase is Phase.PROMOTION}
    outcomes = Counter(proofs.get(alarm) for alarm in alarms)
    won, lost = outcomes[Reason.BEAT_CHAMPION], outcomes[Reason.NOT_BETTER]
    rest = len(alarms) - won
    return (
        f"promised: at most {_few(inputs.alpha * n)} false on average ({_share(inputs.alpha)} of {count(n, 'test')})",
        f"seen: {count(len(alarms), 'alarm')} ({_share(len(alarms) / n)}), true ones among them",
        f"confirmed by proof: {won:,}; not: {rest:,} ({lost:,} lost, {rest - lost:,} open)",
        measured(inputs),
    )


def _few(n: float) -> str:
    return f"{n:,.0f}" if n >= 10.0 else f"{n:.2g}"


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


def _files(inputs: DigestInputs) -> str:
    rejected = sum(r.count for r in inputs.rejected)
    taken = f"{count(inputs.n_files, 'file')}, {count(inputs.n_rows, 'row')}"
    if not rejected:
        return f"{taken}, none quarantined"
    reasons = sorted(inputs.rejected, key=lambda r: -r.count)
    start = f"{taken}, {rejected:,} quarantined: "
    return start + some([f"{r.reason} {r.count:,}" for r in reasons], width=_BODY - len(start))


def _orders(inputs: DigestInputs) -> str:
    if not inputs.overrides:
        return "none"
    kinds = Counter(override.kind for override in inputs.overrides)
    named = ", ".join(f"{kinds[kind]:,} {kind}" for kind in OverrideKind if kinds[kind])
    return f"{count(len(inputs.overrides), 'override')} active ({named}): mlma overrides"


def _suppressed(inputs: DigestInputs, healed: Section, pending: Section, needs: Section) -> str:
    left_out = healed.n_more + pending.n_more + needs.n_more
    if not left_out:
        return "none"
    return f"and {left_out:,} more: mlma decisions --since {inputs.since:%Y-%m-%dT%H:%M:%SZ}"


def _is_quiet(inputs: DigestInputs) -> bool:
    """Whether every stream was tested by an armed test and none alarmed, alone or with others.

    Only then is silence health.
    """
    if inputs.incidents or not is_armed(inputs):
        return False
    return inputs.n_streams_tested == inputs.n_streams > 0 and not latest_alarms(inputs)


def _heartbeat(inputs: DigestInputs, needs: Section) -> tuple[str, str]:
    n_alarming = len(latest_alarms(inputs))
    if _is_quiet(inputs):
        news = f"{'' if needs.entries else 'no news: '}all {count(inputs.n_streams, 'stream')} within reference"
    else:
        untested = inputs.n_streams - inputs.n_streams_tested
        news = f"{inputs.n_streams_tested:,} of {count(inputs.n_streams, 'stream')} tested, {n_alarming:,} alarmed"
        news += f", {untested:,} not tested" if untested > 0 else ""
    judged = "nothing judged yet" if inputs.last_batch is None else f"judged to batch {inputs.last_batch:,}"
    if inputs.judged_until is not None:
        judged = f"judged to {minute(inputs.judged_until)}"
    if inputs.last_tick_at is None or inputs.daemon_since is None:
        return news, f"{judged}; no daemon is running" if inputs.expects_daemon else f"{judged}; replayed"
    return news, f"{judged}; last tick {minute(inputs.last_tick_at)}; up {_up(inputs.now - inputs.daemon_since)}"


def _up(duration: timedelta) -> str:
    return f"{duration.days:,} d" if duration.days else f"{duration // timedelta(hours=1)} h"
