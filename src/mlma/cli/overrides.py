"""`mlma freeze | pin | exclude | lift | overrides`: standing orders, obeyed until they end or are lifted."""

from datetime import datetime
from typing import Annotated

import typer

from mlma.cli.options import (
    STATE,
    AuthorOption,
    DryRunOption,
    JsonOption,
    ReasonOption,
    SelectionArgument,
    StateOption,
    opened,
    time_from,
    user,
)
from mlma.cli.output import print_json, say, table, tabulate
from mlma.cli.requests import report, selection_text
from mlma.core.errors import OperationError

ForOption = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Its end: 12h, 3d, 2w from now.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Its end, ISO 8601; UTC if unsaid.")]
ForeverOption = Annotated[bool, typer.Option("--forever", help="It has no end, until it is lifted.")]


def freeze(
    selection: SelectionArgument,
    reason: ReasonOption = "",
    for_: ForOption = None,
    until: UntilOption = None,
    forever: ForeverOption = False,
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Hold every model change of streams; testing, alarms and reports go on.

    Example: [bold]mlma freeze IAH --for 3d --reason "release week"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import operations

    clock = bootstrap.clock()
    end = _end(for_, until, clock.now())
    with opened(state) as found:
        text = selection_text(selection, found.store.streams())
        outcome = operations.freeze(
            found.store, clock, selection=text, author=author or user(), reason=reason, until=end, forever=forever,
            dry_run=dry_run,
        )  # fmt: skip
    report(outcome, as_json=as_json)


def pin(
    selection: SelectionArgument,
    reason: ReasonOption = "",
    for_: ForOption = None,
    until: UntilOption = None,
    forever: ForeverOption = False,
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Hold the serving version of streams; training and comparing go on.

    Example: [bold]mlma pin "ORD,ATL" --until 2030-07-01T06:00Z --reason "approved versions"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import operations

    clock = bootstrap.clock()
    end = _end(for_, until, clock.now())
    with opened(state) as found:
        text = selection_text(selection, found.store.streams())
        outcome = operations.pin(
            found.store, clock, selection=text, author=author or user(), reason=reason, until=end, forever=forever,
            dry_run=dry_run,
        )  # fmt: skip
    report(outcome, as_json=as_json)


def exclude(
    selection: SelectionArgument,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Start of the period in event time, ISO 8601.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Its end, which does not belong to it.")],
    reason: ReasonOption = "",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Mark a period as bad data, past or to come: out of trainings, references and tests.

    Example: [bold]mlma exclude '*' --from 2001-09-11 --to 2001-09-16 --reason "airspace closed"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import operations

    begin, finish = time_from(start, "--from"), time_from(end, "--to")
    with opened(state) as found:
        text = selection_text(selection, found.store.streams())
        outcome = operations.exclude(
            found.store, bootstrap.clock(), selection=text, author=author or user(), reason=reason, start=begin,
            end=finish, dry_run=dry_run,
        )  # fmt: skip
    report(outcome, as_json=as_json)


def lift(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Overrides, as `mlma overrides` numbers them.")],
    reason: ReasonOption = "no longer needed",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """End overrides now; what they held is released on the next tick.

    Example: [bold]mlma lift 3 --reason "the release is out"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import operations

    numbers = [_number(text) for text in ids]
    with opened(state) as found:
        outcome = operations.lift(
            found.store, bootstrap.clock(), ids=numbers, author=author or user(), reason=reason, dry_run=dry_run
        )
    report(outcome, as_json=as_json)


def overrides(
    every: Annotated[bool, typer.Option("--all", help="Ended and lifted ones, too.")] = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List the overrides that hold or will hold, with their author, reason and end.

    Example: [bold]mlma overrides --all --json[/bold]
    """
    from mlma import bootstrap
    from mlma.core.overrides import State
    from mlma.core.overrides import state as state_of
    from mlma.runtime.answers import period

    now = bootstrap.clock().now()
    with opened(state) as found:
        known = [(order, state_of(order, now)) for order in found.store.overrides()]
    shown = [(order, is_) for order, is_ in known if every or is_ in {State.ACTIVE, State.PENDING}]
    if as_json:
        print_json([{"state": is_, **{name: getattr(o, name) for name in o.__dataclass_fields__}} for o, is_ in shown])
        return
    if not shown:
        more = f" ({len(known):,} have ended: --all)" if known else ""
        say(f"no override holds{more}")
        return
    rows = table(["id", "kind", "selection", "state", "period", "author", "reason"], right=("id",))
    for order, is_ in shown:
        rows.add_row(
            str(order.id), str(order.kind), order.selection, str(is_), period(order), order.author, order.comment
        )
    tabulate(rows)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise OperationError(f"{text!r} is no id of an override: expected a number; `mlma overrides` lists them")
    return int(text)


def _end(for_: str | None, until: str | None, now: datetime) -> datetime | None:
    from mlma.core.durations import parse_duration

    if for_ is not None and until is not None:
        raise OperationError("give either --for or --until, not both")
    if for_ is not None:
        return now + parse_duration(for_)
    return None if until is None else time_from(until, "--until")
