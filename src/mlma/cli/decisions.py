"""`mlma decisions`: what was decided, newest first, with filters."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, moment, opened
from mlma.cli.output import Exit, plain, print_json, say, table, tabulate
from mlma.core.decisions import Action

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from mlma.bootstrap import State
    from mlma.core.records import Decision, Stream


def decisions(
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="SELECTION", help="Only these streams: a name, glob or label.")
    ] = None,
    action: Annotated[
        Action | None, typer.Option("--action", help="Only this action, carried out or proposed and held.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Decided since then: a time, or 7d before the newest decision."),
    ] = None,
    held: Annotated[bool, typer.Option("--held", help="Only proposals that something held back.")] = False,
    routine: Annotated[bool, typer.Option("--all", help="Routine keeps, too.")] = False,
    limit: LimitOption = 50,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List decisions, newest first; routine keeps are left out unless --all or --action keep asks for them.

    Exit code 1: there is none.

    Example: [bold]mlma decisions --stream 'K*' --action retrain --since 7d --held[/bold]
    """
    with opened(state) as found:
        names = _names(found, stream)
        start = _since(found, since)
        routine = routine or action is Action.KEEP
        shown: list[Decision] = []
        cut = limit if action is None and not held else None
        for decision in _read(found, names, start, routine=routine, cut=cut):
            if (action is None or action in {decision.action, decision.proposed}) and (decision.held_by or not held):
                shown.append(decision)
                if len(shown) == limit:
                    break
    if as_json:
        print_json([{"stream": names[d.stream_id].name, **_columns(d)} for d in shown])
    elif shown:
        _print(shown, names)
    else:
        say("no such decision")
    if not shown:
        raise typer.Exit(Exit.NO)


def _names(found: "State", selection: str | None) -> "Mapping[int, Stream]":
    from mlma.cli.requests import selection_text
    from mlma.runtime.lookups import select_known

    streams = found.store.streams()
    if selection is not None:
        streams = select_known(selection_text([selection], streams), streams)[1]
    return {stream.id: stream for stream in streams}


def _since(found: "State", text: str | None) -> "datetime | None":
    from mlma import bootstrap

    if text is None:
        return None
    newest = found.store.decisions(limit=1)
    now = newest[0].decided_at if newest else bootstrap.clock().now()
    return moment(text, "--since", now=now, sign=-1)


def _read(
    found: "State",
    names: "Mapping[int, Stream]",
    since: "datetime | None",
    *,
    routine: bool,
    cut: int | None,
) -> "Iterator[Decision]":
    """Decisions of the named streams; one stream is asked for by itself, the store cuts where it may."""
    if len(names) == 1:
        (only,) = names
        yield from found.store.decisions(stream_id=only, since=since, exceptions_only=not routine)
        return
    every = len(names) == len(found.store.streams())
    limit = cut if every else None
    for decision in found.store.decisions(since=since, exceptions_only=not routine, limit=limit):
        if decision.stream_id in names:
            yield decision


def _columns(decision: "Decision") -> "Mapping[str, object]":
    values = plain(decision)
    assert isinstance(values, dict)
    return values


def _print(shown: "list[Decision]", names: "Mapping[int, Stream]") -> None:
    from mlma.runtime.explain_words import minute, number, percent

    rows = table(["decided", "stream", "batch", "action", "reason", "held", "p", "effect", "loss", "note"],
                 right=("batch", "p", "effect", "loss"))  # fmt: skip
    for d in shown:
        action = f"keep, not {d.proposed}" if d.held_by else str(d.action)
        rows.add_row(
            minute(d.decided_at), names[d.stream_id].name, str(d.batch), action, str(d.reason), str(d.held_by) or "-",
            number(d.p_value), percent(d.effect), number(d.mean_loss), d.note,
        )  # fmt: skip
    tabulate(rows)
