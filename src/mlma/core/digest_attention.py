"""What needs a person: every trouble of the period as a ranked item with the exact command to type.

Each question below looks for one kind of trouble. Like troubles of many streams become one item, so that
forty of them take one line and cannot crowd out another kind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlma.core.decisions import Action, EffectStatus, Hold, Phase, Reason
from mlma.core.digest_monitor import is_armed, unarmed
from mlma.core.digest_parts import (
    ORDERS_HOLD,
    DigestInputs,
    FindingKind,
    Severity,
    age,
    held,
    is_alarm,
    latest_alarms,
    name_of,
    weight,
)
from mlma.core.digest_words import WIDTH, command, count, lead, minute, rise, short, some
from mlma.core.records import Decision, Finding

LOSSES_IN_A_ROW = 2
"""Lost comparisons after which a persisting alarm is for a person: one may be chance, two are a pattern."""

QUARANTINE_SHARE = 0.01
"""Share of rejected rows above which a person should look at the source."""

_ALONE = 2  # like troubles that stand by themselves; more are grouped
_UNKNOWN = 1.0  # weight of a stream without a measured effect: its forecasts are missing or useless
_ROOM = WIDTH - 5  # columns after the number of an item
_KNOWN_KINDS = frozenset(FindingKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One trouble; ``weight`` is the effect times the streams that have it."""

    severity: Severity
    weight: float
    text: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One stream with a trouble that others may have too."""

    name: str
    detail: str
    weight: float = _UNKNOWN


def attention(inputs: DigestInputs) -> list[Item]:
    """Everything that needs a person, most severe first, then by effect times streams."""
    questions: tuple[Callable[[DigestInputs], list[Item]], ...] = (
        _stopped,
        _unarmed,
        _unread,
        _undelivered,
        _held_by_orders,
        _model_failed,
        _training_failed,
        _escalated,
        _beaten,
        _quarantined,
        _silent,
        _suspicious,
        _in_vain,
        _other_findings,
        _refused,
    )
    found = [item for question in questions for item in question(inputs)]
    return sorted(found, key=lambda item: (-item.severity, -item.weight, item.text))


def _stopped(inputs: DigestInputs) -> list[Item]:
    seen = inputs.last_tick_at
    if not inputs.expects_daemon:
        return []
    if seen is not None and (inputs.now - seen).total_seconds() <= inputs.tick_tolerance_s:
        return []
    text = "no daemon is running" if seen is None else f"the daemon has been silent since {minute(seen)}"
    return [Item(severity=Severity.CRITICAL, weight=math.inf, text=text, command="mlma doctor")]


def _unarmed(inputs: DigestInputs) -> list[Item]:
    """A test that raises more false alarms than promised: no alarm counts until it is mended."""
    if is_armed(inputs):
        return []
    return [Item(severity=Severity.CRITICAL, weight=math.inf, text=unarmed(inputs), command="mlma status")]


def _unread(inputs: DigestInputs) -> list[Item]:
    files = [path.rsplit("/", 1)[-1] for path in inputs.unreadable]
    sources = [f for f in _open(inputs, FindingKind.SOURCE_FAILED) if f.last_at >= inputs.since]
    found = []
    if files:
        start = f"{count(len(files), 'file')} could not be read: "
        found.append((float(len(files)), start + some(files, width=_ROOM - len(start))))
    elif sources:
        found.append((_UNKNOWN, lead(sources[0].subject, sources[0].message, width=_ROOM)))
    return [Item(severity=Severity.CRITICAL, weight=n, text=text, command="mlma doctor") for n, text in found]


def _undelivered(inputs: DigestInputs) -> list[Item]:
    cases = [
        _Case(name=f.subject, detail=f"no digest arrives there since {minute(f.first_at)}")
        for f in _open(inputs, FindingKind.DELIVERY_FAILED)
    ]
    return _items(cases, Severity.CRITICAL, many="targets get no digest", order=lambda _: "mlma doctor")


def _held_by_orders(inputs: DigestInputs) -> list[Item]:
    """One item for each override that holds something, since lifting it is one command."""
    alarms = latest_alarms(inputs)
    by_order: dict[int, list[Decision]] = {}
    for decision in held(inputs):
        if decision.held_by in ORDERS_HOLD:
            by_order.setdefault(inputs.holders[decision.stream_id], []).append(decision)
    found = []
    for order, decisions in by_order.items():
        cases = [
            _Case(
                name=name_of(inputs, d.stream_id),
                detail=_waits(d, alarms.get(d.stream_id, d).effect),
                weight=weight(alarms.get(d.stream_id, d).effect) or _UNKNOWN,
            )
            for d in decisions
        ]
        if len(cases) == 1:
            text = lead(cases[0].name, cases[0].detail, width=_ROOM)
        else:
            start = f"{len(cases):,} {decisions[0].held_by} streams alarm or wait: "
            text = start + some([case.name for case in cases], width=_ROOM - len(start))
        total = sum(case.weight for case in cases)
        found.append(Item(severity=Severity.HIGH, weight=total, text=text, command=f"mlma lift {order}"))
    return found


def _waits(decision: Decision, effect: float) -> str:
    """Say what a frozen or pinned stream is kept from."""
    if decision.phase is Phase.PROMOTION:
        return f"{decision.held_by}, but a better challenger waits"
    if is_alarm(decision):
        return f"{decision.held_by}, but alarms: loss {rise(effect)}"
    return f"{decision.held_by}, holds {decision.proposed} ({decision.reason})"


def _model_failed(inputs: DigestInputs) -> list[Item]:
    cases = [
        _Case(name=f.subject, detail="its model failed, seasonal naive serves")
        for f in _open(inputs, FindingKind.MODEL_FAILED)
    ]
    return _items(
        cases,
        Severity.HIGH,
        many="models failed, naive serves",
        order=lambda name: command("retrain", name, "--reason 'model failed'"),
    )


def _training_failed(inputs: DigestInputs) -> list[Item]:
    """Failures as findings, effects or decisions name them, each stream once, unless a later training worked."""
    newest = {d.stream_id: d for d in sorted(inputs.decisions, key=age) if d.phase is Phase.PROMOTION}
    failed = {i: d.reason is Reason.TRAINING_FAILED for i, d in newest.items()}
    ids = [e.stream_id for e in inputs.effects if e.status is EffectStatus.FAILED and failed.get(e.stream_id, True)]
    ids += [stream_id for stream_id, has_failed in failed.items() if has_failed]
    names = [f.subject for f in _open(inputs, FindingKind.TRAINING_FAILED)]
    names += [name_of(inputs, stream_id) for stream_id in ids]
    cases = [_Case(name=name, detail="its training failed") for name in dict.fromkeys(names)]
    return _items(cases, Severity.HIGH, many="streams could not be trained", order=_explain)


def _escalated(inputs: DigestInputs) -> list[Item]:
    newest = {d.stream_id: d for d in sorted(inputs.decisions, key=age) if Action.ESCALATE in {d.action, d.proposed}}
    cases = [
        _Case(
            name=name_of(inputs, d.stream_id),
            detail=f"a person must look ({d.reason})",
            weight=weight(d.effect) or _UNKNOWN,
        )
        for d in newest.values()
    ]
    return _items(cases, Severity.HIGH, many="streams were escalated", order=_explain)


def _beaten(inputs: DigestInputs) -> list[Item]:
    """Streams that still alarm though candidate after candidate lost against the champion."""
    cases = [
        _Case(
            name=name_of(inputs, stream_id),
            detail=f"alarms ({rise(alarm.effect) or 'no effect'}), yet {losses} challengers in a row lost",
            weight=weight(alarm.effect),
        )
        for stream_id, alarm in latest_alarms(inputs).items()
        if (losses := inputs.losing_streaks.get(stream_id, 0)) >= LOSSES_IN_A_ROW
    ]
    return _items(cases, Severity.MEDIUM, many="streams alarm, retraining does not help", order=_explain)


def _quarantined(inputs: DigestInputs) -> list[Item]:
    total = sum(rejected.count for rejected in inputs.rejected)
    if not total or total <= QUARANTINE_SHARE * inputs.n_rows:
        return []
    worst = max(inputs.rejected, key=lambda rejected: rejected.count)
    share = f"{total / inputs.n_rows:.1%}".replace("%", " %") if inputs.n_rows else "all"
    start = f"{share} of the rows quarantined, most {worst.reason}, worst stream "
    text = start + some([worst.worst_stream or "(none)"], width=_ROOM - len(start))
    return [Item(severity=Severity.MEDIUM, weight=_UNKNOWN, text=text, command="mlma status")]


def _silent(inputs: DigestInputs) -> list[Item]:
    findings = _open(inputs, FindingKind.STREAM_SILENT)
    cases = [_Case(name=f.subject, detail=f.message) for f in findings]
    return _items(
        cases,
        Severity.MEDIUM,
        many="streams send nothing",
        order=_explain if len(cases) == 1 else lambda _: "mlma status",
    )


def _suspicious(inputs: DigestInputs) -> list[Item]:
    findings = _open(inputs, FindingKind.SUSPICIOUS_DATA)
    cases = [_Case(name=f.subject, detail=f.message) for f in findings]
    return _items(cases, Severity.MEDIUM, many="streams send what looks like faults", order=_explain)


def _in_vain(inputs: DigestInputs) -> list[Item]:
    cases = [_Case(name=f.subject, detail=f.message) for f in _open(inputs, FindingKind.TRAINING_IN_VAIN)]
    return _items(cases, Severity.MEDIUM, many="streams are not helped by retraining", order=_explain)


def _other_findings(inputs: DigestInputs) -> list[Item]:
    found = []
    for kind in dict.fromkeys(f.kind for f in inputs.findings if f.kind not in _KNOWN_KINDS):
        cases = [_Case(name=f.subject, detail=f.message) for f in _open(inputs, kind)]
        many = f"findings of kind {short(kind)}"
        found += _items(cases, Severity.LOW, many=many, order=lambda _: "mlma status")
    return found


def _refused(inputs: DigestInputs) -> list[Item]:
    """Requests that could not be obeyed: they are consumed, so nobody else tells the one who asked."""
    refused = [d for d in inputs.decisions if d.phase is Phase.REQUEST and d.held_by is not Hold.NOTHING]
    cases = [
        _Case(name=name_of(inputs, d.stream_id), detail=f"{d.proposed} asked for, but held: {d.held_by}", weight=0.0)
        for d in refused
    ]
    return _items(cases, Severity.LOW, many="requests were held", order=_explain)


def _items(cases: Sequence[_Case], severity: Severity, *, many: str, order: Callable[[str], str]) -> list[Item]:
    """Tell a few cases one by one, more as one item whose command is about the worst of them."""
    ranked = sorted(cases, key=lambda case: (-case.weight, case.name))
    if len(ranked) <= _ALONE:
        return [
            Item(
                severity=severity,
                weight=case.weight,
                text=lead(case.name, case.detail, width=_ROOM),
                command=order(case.name),
            )
            for case in ranked
        ]
    start = f"{len(ranked):,} {many}: "
    text = start + some([case.name for case in ranked], width=_ROOM - len(start))
    total = sum(case.weight for case in ranked)
    return [Item(severity=severity, weight=total, text=text, command=order(ranked[0].name))]


def _explain(name: str) -> str:
    return command("explain", name)


def _open(inputs: DigestInputs, kind: str) -> list[Finding]:
    """Open findings of a kind, the oldest first."""
    found = [f for f in inputs.findings if f.kind == kind and f.closed_at is None]
    return sorted(found, key=lambda f: (f.first_at, f.subject))
