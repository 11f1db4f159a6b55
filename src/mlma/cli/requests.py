"""`mlma retrain` and `mlma rollback`: one-shot orders, obeyed on the daemon's next tick."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import (
    STATE,
    AuthorOption,
    DryRunOption,
    JsonOption,
    ReasonOption,
    SelectionArgument,
    StateOption,
    moment,
    opened,
    schedule_of,
    user,
)
from mlma.cli.output import print_json, say
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from mlma.core.records import Stream
    from mlma.runtime.operations import Outcome


def retrain(
    selection: SelectionArgument,
    reason: ReasonOption = "",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Ask for a training now; what comes out is compared with the champion like any other candidate.

    A group's model is trained anew by the name of its member, such as group:all.

    Example: [bold]mlma retrain ORD --reason "new runway"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import requesting

    with opened(state) as found:
        text = selection_text(selection, found.store.streams())
        outcome = requesting.retrain(
            found.store, bootstrap.clock(), selection=text, author=author or user(), reason=reason, dry_run=dry_run
        )
    report(outcome, as_json=as_json)


def rollback(
    selection: SelectionArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="Bring back what served at this event time, or 7d before the last batch's end."
        ),
    ] = None,
    reason: ReasonOption = "",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Bring the former champion back, without a comparison; with --to the versions that served at a time.

    Example: [bold]mlma rollback ATL --reason "forecasts look wrong since the last change"[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import ledger, requesting

    with opened(state) as found:
        text = selection_text(selection, found.store.streams())
        back_to = None
        if to is not None:
            reached = ledger.present(found.store, schedule_of(found), bootstrap.clock().now())
            back_to = moment(to, "--to", now=reached, sign=-1)
        outcome = requesting.rollback(
            found.store, bootstrap.clock(), selection=text, author=author or user(), reason=reason,
            back_to=back_to, dry_run=dry_run,
        )  # fmt: skip
    report(outcome, as_json=as_json)


def selection_text(parts: Sequence[str], streams: "Iterable[Stream]") -> str:
    """Arguments as one selection; an argument that is a stream's whole name means this stream, whatever it holds.

    Raises
    ------
    OperationError
        A name holds a double quote, which a selection cannot say.
    """
    from mlma.core.selection import Selection

    names = {stream.name for stream in streams}
    told = []
    for part in parts:
        if part in names and '"' in part:
            raise OperationError(f"stream {part!r} holds a double quote: name it by a glob, with ? in its place")
        told.append(str(Selection(globs=(part,))) if part in names else part)
    return " ".join(told)


def report(outcome: "Outcome", *, as_json: bool) -> None:
    """Print what an order did, or would do."""
    if as_json:
        print_json(outcome)
        return
    say(outcome.message)
    changed = [d for d in outcome.decisions if d.proposed != "keep"]
    for decision in changed[:10]:
        say(f"  batch {decision.batch}, stream {decision.stream_id}: proposed {decision.proposed} ({decision.reason})")
    if len(changed) > 10:
        say(f"  and {len(changed) - 10:,} more: --json lists them all")
