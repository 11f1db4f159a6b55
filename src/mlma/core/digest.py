"""The digest: one page on a fleet of any size, made from plain values.

Healed by itself, pending, what needs a person, what it cost, how honest the alarms were, what was left out,
and a line that proves that silence is health.
"""

import math
from collections import Counter

from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase, Reason
from mlma.core.digest_attention import attention
from mlma.core.digest_parts import (
    SHOWN,
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
from mlma.core.digest_text import MAX_LINES, render, to_json
from mlma.core.digest_words import WIDTH, count, lead, minute, rise, short
from mlma.core.records import Decision, Effect

__all__ = [
    "MAX_LINES", "SHOWN", "WIDTH", "Digest", "DigestInputs", "Entry", "FindingKind", "RejectedCount", "Section",
    "losing_streaks", "make_digest", "render", "to_json",
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
        cost=_cost(inputs),
        honesty=_honesty(inputs),
        files=_files(inputs),
        orders=_orders(inputs),
        suppressed=_suppressed(inputs, healed, pending, needs),
        heartbeat=_heartbeat(inputs, needs),
    )


def _section(summary: str, entries: list[Entry]) -> Section:
    return Section(summary=summary, entries=tuple(entries[:SHOWN]), n_more=max(0, len(entries) - SHOWN))


def _subject(inputs: DigestInputs, needs: Section) -> str:
    n_needs = len(needs.entries) + needs.n_more
    if _is_quiet(inputs) and not n_needs:
        return f"mlma: no news, all {count(inputs.n_streams, 'stream')} within reference"
    alarms = count(sum(map(is_alarm, inputs.decisions)), "alarm")
    urgent = f"{n_needs:,} need you" if n_needs != 1 else "1 needs you"
    return f"mlma: {urgent}, {alarms}, {count(inputs.n_streams, 'stream')}"


def _scope(inputs: DigestInputs) -> str:
    return (
        f"{count(inputs.n_streams, 'stream')}, {count(inputs.n_batches, 'batch', 'batches')} closed, "
        f"{count(inputs.n_tested, 'test')} of a stream's batch"
    )


def _healed(inputs: DigestInputs) -> Section:
    done = [d for d in inputs.decisions if d.held_by is Hold.NOTHING]
    promoted = [d for d in done if d.action is Action.PROMOTE and d.reason is Reason.BEAT_CHAMPION]
    undone = [d for d in done if d.action is Action.ROLL_BACK]
    back = [f for f in inputs.findings if f.kind == FindingKind.MODEL_FAILED and f.closed_at is not None]
    first = sum(d.action is Action.PROMOTE and d.reason is Reason.FIRST_VERSION for d in done)
    alarms = {(d.stream_id, d.batch): d for d in inputs.decisions if is_alarm(d)}

    def effect(decision: Decision) -> float:
        return alarms.get((decision.stream_id, decision.batch), decision).effect

    entries = [
        Entry(text=lead(name_of(inputs, d.stream_id), _better(d, effect(d)), width=_ROOM))
        for d in sorted(promoted, key=lambda d: (-weight(effect(d)), d.stream_id))
    ]
    entries += [Entry(text=lead(name_of(inputs, d.stream_id), _rolled_back(d), width=_ROOM)) for d in undone]
    entries += [Entry(text=lead(f.subject, "its model forecasts again, naive stood in", width=_ROOM)) for f in back]
    parts = [
        f"{count(len(promoted), 'better model')} promoted",
        f"{len(undone):,} rolled back",
        f"{count(len(back), 'fallback')} ended",
    ]
    if first:
        parts.append(f"{first:,} first")
    return _section(", ".join(parts) if entries or first else "none", entries)


def _better(decision: Decision, effect: float) -> str:
    """Give the proof in its own words, else why it was looked for."""
    if decision.note:
        return short(decision.note, _ROOM - 10)
    return f"challenger beat champion, loss had risen {rise(effect)}" if rise(effect) else "challenger beat champion"


def _rolled_back(decision: Decision) -> str:
    return short(f"former champion serves again ({decision.note or decision.reason})", _ROOM - 10)


def _pending(inputs: DigestInputs) -> Section:
    trainings = [e for e in inputs.effects if e.status is EffectStatus.PENDING]
    running = sum(e.attempts > 0 for e in trainings)
    waiting = held(inputs)
    entries = [Entry(text=lead(name_of(inputs, d.stream_id), _held(d), width=_ROOM)) for d in waiting]
    entries += [
        Entry(text=lead(name_of(inputs, e.stream_id), _training(e, inputs), width=_ROOM))
        for e in sorted(trainings, key=lambda e: (-e.attempts, e.ordered_at, e.id))
    ]
    summary = (
        f"{count(running, 'training')} running, {len(trainings) - running:,} queued, "
        f"{len(waiting):,} held, {count(len(inputs.requests), 'request')}"
    )
    return _section(summary if entries or inputs.requests else "none", entries)


def _held(decision: Decision) -> str:
    because = f"{decision.reason} {rise(decision.effect)}".strip()
    return f"{decision.proposed} held: {decision.held_by} ({because})"


def _training(effect: Effect, inputs: DigestInputs) -> str:
    state = "training" if effect.attempts else "training queued"
    late = ", past its deadline" if effect.deadline_at < inputs.now else ""
    return f"{state} since {minute(effect.ordered_at)} ({effect.reason}){late}"


def _needs_you(inputs: DigestInputs) -> Section:
    entries = [Entry(text=item.text, command=item.command) for item in attention(inputs)]
    return _section(count(len(entries), "item") if entries else "none", entries)


def _cost(inputs: DigestInputs) -> str:
    spent = f"{count(inputs.n_trainings, 'training')}, {inputs.fit_cpu_s:,.0f} CPU-s"
    if math.isnan(inputs.loss_ratio_mean):
        return f"{spent}; nothing scored against naive"
    return f"{spent}; loss {inputs.loss_ratio_mean:.2f} of naive (median {inputs.loss_ratio_median:.2f})"


def _honesty(inputs: DigestInputs) -> tuple[str, str, str]:
    """Set what was promised beside what was seen.

    Alarms include true ones, so their number does not measure the false-alarm rate; it bounds it from above.
    A challenger that beat the champion confirms an alarm; one that lost does not refute it, since
    retraining cannot mend everything, so the rest is called not confirmed, never false.
    """
    n = inputs.n_tested
    if not n:
        return "nothing was tested, so nothing was promised", "seen: none", "confirmed: none"
    alarms = {(d.stream_id, d.batch) for d in inputs.decisions if is_alarm(d)}
    proofs = {(d.stream_id, d.batch): d.reason for d in inputs.decisions if d.phase is Phase.PROMOTION}
    outcomes = Counter(proofs.get(alarm) for alarm in alarms)
    won, lost = outcomes[Reason.BEAT_CHAMPION], outcomes[Reason.NOT_BETTER]
    rest = len(alarms) - won
    return (
        f"promised: at most {inputs.alpha * n:,.0f} false alarms ({_share(inputs.alpha)} of {count(n, 'test')})",
        f"seen: {count(len(alarms), 'alarm')} ({_share(len(alarms) / n)}), true ones among them",
        f"confirmed by a better challenger: {won:,}; not: {rest:,} ({lost:,} lost, {rest - lost:,} open)",
    )


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


def _files(inputs: DigestInputs) -> str:
    rejected = sum(r.count for r in inputs.rejected)
    taken = f"{count(inputs.n_files, 'file')}, {count(inputs.n_rows, 'row')}"
    if not rejected:
        return f"{taken}, none quarantined"
    reasons = sorted(inputs.rejected, key=lambda r: -r.count)
    named = ", ".join(f"{r.reason} {r.count:,}" for r in reasons[:2])
    return short(f"{taken}, {rejected:,} quarantined ({named})", _BODY)


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
    """Whether every stream was tested and none alarmed; only then is silence health."""
    return inputs.n_streams_tested == inputs.n_streams > 0 and not latest_alarms(inputs)


def _heartbeat(inputs: DigestInputs, needs: Section) -> tuple[str, str]:
    n_alarming = len(latest_alarms(inputs))
    if _is_quiet(inputs):
        news = f"{'' if needs.entries else 'no news: '}all {count(inputs.n_streams, 'stream')} within reference"
    else:
        untested = inputs.n_streams - inputs.n_streams_tested
        news = f"{inputs.n_streams_tested:,} of {count(inputs.n_streams, 'stream')} tested, {n_alarming:,} alarmed"
        news += f", {untested:,} not ready" if untested > 0 else ""
    judged = f"judged to {minute(inputs.judged_until)}" if inputs.judged_until else "nothing judged yet"
    if inputs.last_tick_at is None or inputs.daemon_since is None:
        return news, f"{judged}; no daemon is running" if inputs.expects_daemon else f"{judged}; replayed"
    return news, (f"{judged}; last tick {minute(inputs.last_tick_at)}, up since {minute(inputs.daemon_since)}")
