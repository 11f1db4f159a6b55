"""`mlma explain STREAM`: the last decision in words and numbers, and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, StateOption, opened, schedule_of
from mlma.cli.output import console, pairs, print_json, say, table, tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mlma.core.explanation import Explanation
    from mlma.core.records import Decision


def explain(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Exact name of a stream.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw it: forecasts, losses, decisions.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Batches that the picture and the JSON reach back.")] = 21,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Explain the last decision for a stream: tested, proposed, held; its pool, and what age has cost.

    Example: [bold]mlma explain IAH --state demo-state --plot iah.png[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime.explain import explain as assemble

    with opened(state) as found:
        schedule, now = schedule_of(found), bootstrap.clock().now()
        history = found.history if plot is not None or as_json else None
        made = assemble(found.store, history, schedule, stream, now=now, last=last, pools=found.history)
        if plot is not None:
            bootstrap.plot_stream(found, made, plot)
    if as_json:
        print_json(made)
        return
    show(made)
    if plot is not None:
        say(f"picture: {plot}")


def show(made: "Explanation") -> None:
    """Print an explanation."""
    labels = " ".join(f"{key}={value}" for key, value in made.stream.labels.items())
    page = console()
    page.print(f"{made.stream.name}  {labels}".rstrip(), style="bold")
    if made.decision is not None:
        page.print(
            f"batch {made.decision.batch}: {made.batch_start:%Y-%m-%d %H:%M} to {made.batch_end:%Y-%m-%d %H:%M} UTC"
        )
    tabulate(pairs((fact.label, fact.text) for fact in made.facts))
    if made.previous:
        page.print("\nearlier decisions that changed or proposed something", style="bold")
        tabulate(earlier(made.previous))


def earlier(decisions: "Sequence[Decision]") -> "Table":
    """Table of decisions of one stream."""
    from mlma.runtime.explain_words import minute, number, percent

    shown = table(
        ["decided", "batch", "action", "reason", "p", "effect", "version", "note"], right=("batch", "p", "effect")
    )
    for d in decisions:
        action = f"{d.action} (held {d.proposed}: {d.held_by})" if d.held_by else str(d.action)
        effect = percent(d.effect)
        shown.add_row(
            minute(d.decided_at), str(d.batch), action, str(d.reason), number(d.p_value), effect, d.version_id, d.note
        )
    return shown
