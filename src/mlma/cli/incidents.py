"""`mlma incidents`: streams that got worse together, newest first."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, moment, opened, schedule_of
from mlma.cli.output import Exit, print_json, say, table, tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlma.bootstrap import State
    from mlma.core.incident_view import IncidentView


def incidents(
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Seen since then: a time, or 7d before the last closed batch's end."
        ),
    ] = None,
    going_on: Annotated[bool, typer.Option("--open", help="Only those seen in the last closed batch.")] = False,
    limit: LimitOption = 50,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List incidents, newest first: the label set, its members, by how much and since when they got worse together.

    Exit code 1: there is none.

    Example: [bold]mlma incidents --since 7d[/bold]
    """
    from mlma.core.incident_view import view

    with opened(state) as found:
        cursor, schedule = found.store.cursor(), found.schedule
        first = cursor if going_on else _first_batch(found, since)
        shown = [] if cursor is None else found.store.incidents(since_batch=first, limit=limit)
        views = [view(incident, schedule=schedule, cursor=cursor) for incident in shown]
    if as_json:
        print_json(views)
    elif views:
        _print(views)
    else:
        say("no such incident")
    if not views:
        raise typer.Exit(Exit.NO)


def _first_batch(found: "State", since: str | None) -> int | None:
    """Batch that holds a time; a duration counts from the end of the last closed batch."""
    cursor = found.store.cursor()
    if since is None or cursor is None:
        return None
    schedule = schedule_of(found)
    start = moment(since, "--since", now=schedule.time_of(schedule.origin_after(cursor)), sign=-1)
    return schedule.batch_of(schedule.slot_at(start))


def _print(views: "Sequence[IncidentView]") -> None:
    from mlma.runtime.explain_words import minute, number, percent

    rows = table(["from", "to", "batches", "label set", "streams", "rise", "p"], right=("streams", "rise", "p"))
    for one in views:
        end = "goes on" if one.goes_on else minute(one.ends_at)
        rows.add_row(
            minute(one.starts_at), end, f"{one.first_batch} to {one.last_batch}", one.label_set,
            f"{one.n_members:,}", percent(one.rise), number(one.p_value),
        )  # fmt: skip
    tabulate(rows)
