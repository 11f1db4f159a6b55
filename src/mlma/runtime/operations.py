"""What an engineer may ask: freeze, pin, exclude, lift, retrain, roll back. Each leaves an audit row.

The order is written to the store and obeyed by the daemon's next tick.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mlma.core.decisions import Action, OverrideKind, RequestKind
from mlma.core.errors import OperationError
from mlma.core.records import AuditRow, Decision, Override, Request
from mlma.runtime.answers import answer, described, in_words, listed, period, to_json
from mlma.runtime.back_to import going_back
from mlma.runtime.lookups import decisions_touched, schedule_of, select_known
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
    override = Override(
        kind=OverrideKind.FREEZE,
        selection=selection,
        author=author,
        comment=reason,
        created_at=now,
        starts_at=now,
        ends_at=end_of(until, now, forever=forever),
    )
    return _put(store, override, dry_run=dry_run)


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
    override = Override(
        kind=OverrideKind.PIN,
        selection=selection,
        author=author,
        comment=reason,
        created_at=now,
        starts_at=now,
        ends_at=end_of(until, now, forever=forever),
    )
    return _put(store, override, dry_run=dry_run)


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


def retrain(
    store: ControlStore, clock: Clock, *, selection: str, author: str, reason: str, dry_run: bool = False
) -> Outcome:
    """Ask for a training of a selection. Raises as `rollback` does."""
    return _request(store, clock, RequestKind.RETRAIN, selection, author, reason, dry_run=dry_run)


def rollback(
    store: ControlStore,
    clock: Clock,
    *,
    selection: str,
    author: str,
    reason: str,
    back_to: datetime | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Ask for the former champions of a selection, or for what served at a time; asking twice is asking once.

    Parameters
    ----------
    back_to
        Event time whose versions are to serve again; what came later leaves the pools.

    Raises
    ------
    OperationError
        Author or reason is missing, the time has no zone or lies ahead, or the daemon has not started on the state.
    UnknownStreamError
        The selection, or one of its names, matches no stream.
    """
    if back_to is not None:
        require_aware(back_to)
        if back_to > clock.now():
            raise OperationError(f"{in_words(back_to)} lies ahead, it is {in_words(clock.now())}: nothing served then")
    return _request(store, clock, RequestKind.ROLLBACK, selection, author, reason, dry_run=dry_run, back_to=back_to)


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
        ids = (store.add_override(override, _audit(override)),)
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


def _audit(order: Override | Request) -> AuditRow:
    """Audit row of a new order: before it there was nothing."""
    return AuditRow(
        at=order.created_at,
        author=order.author,
        operation=order.kind,
        subject=order.selection,
        before="null",
        after=to_json(order),
    )


def _request(
    store: ControlStore,
    clock: Clock,
    kind: RequestKind,
    text: str,
    author: str,
    reason: str,
    *,
    dry_run: bool,
    back_to: datetime | None = None,
) -> Outcome:
    author, reason = signed(author, reason)
    selection, streams = select_known(text, store.streams())
    now, names = clock.now(), tuple(stream.name for stream in streams)
    body = IN_WORDS[kind].format(streams=listed(names))
    if back_to is not None:
        body = going_back(store, schedule_of(store.meta()), streams, back_to)
    ids: tuple[int, ...] = ()
    asked = (kind, str(selection), back_to)
    same = [r for r in store.requests(open_only=True) if (r.kind, r.selection, r.back_to) == asked]
    if same:
        ids = (same[0].id,)
        by = f"{same[0].author} at {in_words(same[0].created_at)}"
        body = f"request {same[0].id} by {by} is open and asks for the same, nothing was added: {body}"
    elif not dry_run:
        request = Request(
            kind=kind, selection=str(selection), author=author, comment=reason, created_at=now, back_to=back_to
        )
        ids = (store.add_request(request, _audit(request)),)
        body = f"request {ids[0]}: {body}"
    return Outcome(
        operation=kind,
        selection=str(selection),
        streams=names,
        ids=ids,
        message=answer(body, store.lease(), now, dry_run=dry_run),
        dry_run=dry_run,
    )
