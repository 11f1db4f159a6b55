"""What an engineer may order to stand: freeze, pin, exclude; and lift. Each leaves an audit row.

The order is written to the store and obeyed by the daemon's next tick.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mlma.core.decisions import Action, OverrideKind, RequestKind
from mlma.core.errors import OperationError
from mlma.core.records import AuditRow, Decision, Override, Request
from mlma.runtime.answers import answer, described, in_words, listed, period, to_json
from mlma.runtime.lookups import decisions_touched, select_known
from mlma.runtime.order_checks import end_of, is_over, liftable, remaining, require_aware, signed
from mlma.runtime.ports import Clock, ControlStore

IN_WORDS: Mapping[OverrideKind | RequestKind, str] = {
    OverrideKind.FREEZE: "no model of {streams} changes",
    OverrideKind.PIN: "the serving version of {streams} stays",
    OverrideKind.EXCLUDE: "the observations of {streams} count as bad data",
    RequestKind.RETRAIN: "retrain {streams}",
    RequestKind.ROLLBACK: "bring back the former champion of {streams}",
}
"""What an order asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an operation did, or would do.

    Attributes
    ----------
    streams
        Names of the streams it is about, in order of id.
    ids
        Overrides or requests that were written, lifted, or found to say the same already.
    message
        One or two sentences for the engineer.
    dry_run
        Nothing was written.
    decisions
        Past decisions on batches that an exclusion touches, newest first.
    """

    operation: str
    selection: str
    streams: tuple[str, ...]
    ids: tuple[int, ...]
    message: str
    dry_run: bool
    decisions: tuple[Decision, ...] = ()


def freeze(
    store: ControlStore,
    clock: Clock,
    *,
    selection: str,
    author: str,
    reason: str,
    until: datetime | None,
    forever: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Hold every model change of a selection.

    Raises
    ------
    OperationError
        Author, reason or end is missing, or the end has passed.
    UnknownStreamError
        The selection, or one of its names, matches no stream.
    """
    now = clock.now()
    ends_at = end_of(until, now, forever=forever)
    return _put(store, _from_now(OverrideKind.FREEZE, selection, author, reason, now, ends_at), dry_run=dry_run)


def pin(
    store: ControlStore,
    clock: Clock,
    *,
    selection: str,
    author: str,
    reason: str,
    until: datetime | None,
    forever: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Hold the serving version of a selection; training goes on. Raises as `freeze` does."""
    now = clock.now()
    ends_at = end_of(until, now, forever=forever)
    return _put(store, _from_now(OverrideKind.PIN, selection, author, reason, now, ends_at), dry_run=dry_run)


def _from_now(
    kind: OverrideKind, selection: str, author: str, reason: str, now: datetime, ends_at: datetime | None
) -> Override:
    """An override that holds from now on."""
    return Override(
        kind=kind, selection=selection, author=author, comment=reason, created_at=now, starts_at=now, ends_at=ends_at
    )


def exclude(
    store: ControlStore,
    clock: Clock,
    *,
    selection: str,
    author: str,
    reason: str,
    start: datetime,
    end: datetime,
    dry_run: bool = False,
) -> Outcome:
    """Mark a period of event time as bad data, past or to come, and list the decisions that it touches.

    Raises
    ------
    OperationError
        Author or reason is missing, a time has no zone, or the end is not after the start.
    UnknownStreamError
        The selection, or one of its names, matches no stream.
    """
    require_aware(start, end)
    if end <= start:
        raise OperationError(f"the period ends at {in_words(end)}, not after its start at {in_words(start)}")
    override = Override(
        kind=OverrideKind.EXCLUDE,
        selection=selection,
        author=author,
        comment=reason,
        created_at=clock.now(),
        starts_at=start,
        ends_at=end,
    )
    return _put(store, override, dry_run=dry_run)


def lift(
    store: ControlStore, clock: Clock, *, ids: Sequence[int], author: str, reason: str, dry_run: bool = False
) -> Outcome:
    """End overrides before their time, all or none.

    Raises
    ------
    OperationError
        Author or reason is missing, or an override does not exist or has ended.
    """
    author, reason = signed(author, reason)
    now, known = clock.now(), {override.id: override for override in store.overrides()}
    lifted = [liftable(known, override_id, now) for override_id in dict.fromkeys(ids)]
    if not lifted:
        raise OperationError("name the overrides to lift by their ids; `mlma overrides` lists them")
    if not dry_run:
        for override in lifted:
            audit = AuditRow(
                at=now,
                author=author,
                operation="lift",
                subject=str(override.id),
                before=to_json(override),
                after=to_json(override, lifted_at=now, lifted_by=author, reason=reason),
            )
            store.lift_override(override.id, by=author, at=now, audit=audit)
    chosen = [s for s in store.streams() if any(is_over(override, s) for override in lifted)]
    body = "lifted: " + ", ".join(described(override) for override in lifted)
    return Outcome(
        operation="lift",
        selection=" ".join(override.selection for override in lifted),
        streams=tuple(stream.name for stream in chosen),
        ids=tuple(override.id for override in lifted),
        message=answer(body, store.lease(), now, dry_run=dry_run) + remaining(known, lifted, chosen, now),
        dry_run=dry_run,
    )


def _put(store: ControlStore, asked: Override, *, dry_run: bool) -> Outcome:
    """Check an override as it was asked for and write it with its audit row."""
    author, reason = signed(asked.author, asked.comment)
    selection, streams = select_known(asked.selection, store.streams())
    override = replace(asked, selection=str(selection), author=author, comment=reason)
    kind, names = override.kind, tuple(stream.name for stream in streams)
    body = f"{IN_WORDS[kind].format(streams=listed(names))} {period(override)}"
    touched: tuple[Decision, ...] = ()
    if kind is OverrideKind.EXCLUDE:
        touched = decisions_touched(store, override, streams)
        more = sum(decision.proposed is not Action.KEEP for decision in touched)
        body += f"; {len(touched)} past decisions used it, {more} of them proposed a change"
    ids: tuple[int, ...] = ()
    if not dry_run:
        ids = (store.add_override(override, audit_of(override)),)
        body = f"override {ids[0]}: {body}"
    return Outcome(
        operation=kind,
        selection=override.selection,
        streams=names,
        ids=ids,
        message=answer(body, store.lease(), override.created_at, dry_run=dry_run),
        dry_run=dry_run,
        decisions=touched,
    )


def audit_of(order: Override | Request) -> AuditRow:
    """Audit row of a new order: before it there was nothing."""
    return AuditRow(
        at=order.created_at,
        author=order.author,
        operation=order.kind,
        subject=order.selection,
        before="null",
        after=to_json(order),
    )
