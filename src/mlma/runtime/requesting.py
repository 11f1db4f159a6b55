"""What an engineer may ask for once: a training, or the versions that served before. Each leaves an audit row.

The order is written to the store and obeyed by the daemon's next tick.
"""

from datetime import datetime

from mlma.core.decisions import RequestKind
from mlma.core.errors import OperationError
from mlma.core.records import Request
from mlma.runtime.answers import answer, in_words, listed
from mlma.runtime.back_to import going_back
from mlma.runtime.lookups import group_in, known_group, schedule_of, select_known
from mlma.runtime.operations import IN_WORDS, Outcome, audit_of
from mlma.runtime.order_checks import require_aware, signed
from mlma.runtime.ports import Clock, ControlStore


def retrain(
    store: ControlStore, clock: Clock, *, selection: str, author: str, reason: str, dry_run: bool = False
) -> Outcome:
    """Ask for a training of a selection, or of a group's model by ``group:NAME``. Raises as `rollback` does."""
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
    selection, names, body = _asked_for(store, kind, text, back_to)
    now = clock.now()
    ids: tuple[int, ...] = ()
    asked = (kind, selection, back_to)
    same = [r for r in store.requests(open_only=True) if (r.kind, r.selection, r.back_to) == asked]
    if same:
        ids = (same[0].id,)
        by = f"{same[0].author} at {in_words(same[0].created_at)}"
        body = f"request {same[0].id} by {by} is open and asks for the same, nothing was added: {body}"
    elif not dry_run:
        request = Request(
            kind=kind, selection=selection, author=author, comment=reason, created_at=now, back_to=back_to
        )
        ids = (store.add_request(request, audit_of(request)),)
        body = f"request {ids[0]}: {body}"
    return Outcome(
        operation=kind,
        selection=selection,
        streams=names,
        ids=ids,
        message=answer(body, store.lease(), now, dry_run=dry_run),
        dry_run=dry_run,
    )


def _asked_for(
    store: ControlStore, kind: RequestKind, text: str, back_to: datetime | None
) -> tuple[str, tuple[str, ...], str]:
    """Selection of a request, the names that it means, and what it asks for in words."""
    streams = store.streams()
    group = None if any(stream.name == text for stream in streams) else group_in(text)
    if group is not None:
        known_group(store.meta(), group)
        if kind is RequestKind.ROLLBACK:
            raise OperationError(f"{text} has no former model to go back to; `mlma retrain {text}` trains it anew")
        return text, (text,), f"retrain {text}"
    selection, chosen = select_known(text, streams)
    names = tuple(stream.name for stream in chosen)
    if back_to is not None:
        return str(selection), names, going_back(store, schedule_of(store.meta()), chosen, back_to)
    return str(selection), names, IN_WORDS[kind].format(streams=listed(names))
