"""`mlma ledger`: which version served which stream at a time, since when, why, and who decided it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, moment, opened, schedule_of
from mlma.cli.output import Exit, pairs, print_json, say, table, tabulate
from mlma.cli.requests import selection_text

if TYPE_CHECKING:
    from datetime import datetime

    from mlma.bootstrap import State
    from mlma.core.records import Stream
    from mlma.runtime.ledger import Line, Served

WEIGHTS_SHOWN = 20


def ledger(
    selection: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SELECTION]", help="Streams: names, globs, labels; without it, all of them."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="What served then: an event time, or 7d before the end.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Leave out what had been replaced by then.")
    ] = None,
    limit: LimitOption = 50,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Say which version served at a time, since when, why, and who decided it; without --at, every change.

    For one stream and a time also the weights that its forecast was made with. Exit code 1: nothing is recorded.

    Example: [bold]mlma ledger IAH --at 2001-03-05T12:00Z[/bold]
    """
    from mlma import bootstrap
    from mlma.core.errors import OperationError
    from mlma.runtime import ledger as books

    if at is not None and since is not None:
        raise OperationError("give --at or --since, not both: one time, or every change since one")
    with opened(state) as found:
        schedule = schedule_of(found)
        reached = books.present(found.store, schedule, bootstrap.clock().now())
        streams = _streams(found, selection or [])
        if at is not None:
            time = moment(at, "--at", now=reached, sign=-1)
            lines = _at(found, streams, time, limit=limit, as_json=as_json)
        else:
            start = None if since is None else moment(since, "--since", now=reached, sign=-1)
            lines = books.lines(found.store, schedule, streams, since=start, limit=limit)
            _print(lines, as_json=as_json)
    if not lines:
        raise typer.Exit(Exit.NO)


def _streams(found: "State", selection: Sequence[str]) -> "Sequence[Stream]":
    """Streams that are meant; one that is named is found without reading the others."""
    from mlma.runtime.lookups import select_known

    named = [found.store.stream(part) for part in selection]
    if selection and None not in named:
        return [stream for stream in named if stream is not None]
    streams = found.store.streams()
    return select_known(selection_text(selection, streams), streams)[1] if selection else streams


def _at(
    found: "State", streams: "Sequence[Stream]", time: "datetime", *, limit: int, as_json: bool
) -> "Sequence[Line]":
    """Show what served at a time; the lines that count then."""
    from mlma.runtime import ledger as books
    from mlma.runtime.explain import n_shards

    schedule = schedule_of(found)
    if len(streams) != 1:
        lines = books.at(found.store, schedule, streams, time, limit=limit)
        _print(lines, as_json=as_json)
        return lines
    shard = streams[0].id % n_shards(found.store.meta())
    served = books.served(found.store, found.history, schedule, streams[0], time, shard=shard)
    if as_json:
        print_json(served)
    else:
        show(served)
    return [served.line]


def show(served: "Served") -> None:
    """Print what served one stream at a time."""
    from mlma.runtime.explain_words import REASON_WORDS, minute

    line = served.line
    since = "from the beginning" if line.since is None else f"since {minute(line.since)}"
    until = "until now" if line.until is None else f"until {minute(line.until)}"
    rows = [
        ("stream", line.stream),
        ("at", f"{minute(served.at)} UTC, forecast at {minute(served.issued_at)}"),
        ("served by", f"{line.version_id}, {since}, {until}"),
        ("why", f"{REASON_WORDS[line.reason]} ({line.reason})"),
    ]
    if line.decided_at is not None:
        rows.append(("decided", f"{minute(line.decided_at)} by {line.decided_by}"))
    rows += [("note", line.note)] if line.note else []
    if served.stood_in:
        rows.append(("stood in", f"{line.version_id} gave no forecast for this slot, others stood in"))
    weights = ", ".join(f"{one.member} {one.weight:.3f}" for one in served.weights[:WEIGHTS_SHOWN])
    rows.append(("weights", weights or "not kept for this forecast, or it was not made yet"))
    tabulate(pairs(rows))


def _print(lines: "Sequence[Line]", *, as_json: bool) -> None:
    from mlma.runtime.explain_words import minute

    if as_json:
        print_json(lines)
        return
    if not lines:
        say("nothing is recorded")
        return
    rows = table(["stream", "version", "from", "to", "reason", "decided", "by"])
    for line in lines:
        rows.add_row(
            line.stream, line.version_id, minute(line.since), "now" if line.until is None else minute(line.until),
            str(line.reason), minute(line.decided_at), line.decided_by,
        )  # fmt: skip
    tabulate(rows)
