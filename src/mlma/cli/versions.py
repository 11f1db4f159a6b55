"""`mlma versions [STREAM]`: the versions of a stream and the other members of its pool; without one, of the fleet."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, StateOption, opened, schedule_of
from mlma.cli.output import Exit, print_json, say, table, tabulate

if TYPE_CHECKING:
    from mlma.bootstrap import State
    from mlma.runtime.pool_counts import FleetPools
    from mlma.runtime.pool_view import MemberRow, StreamPool

NUMBERS = ("age", "batch", "rows", "cpu s", "recent", "weight", "served")


def versions(
    stream: Annotated[
        str | None, typer.Argument(metavar="[STREAM]", help="Exact name of a stream; without it, the fleet in numbers.")
    ] = None,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List every version of a stream and the other members of its pool: state, age, recent loss, weight, why.

    Exit code 1: none was trained yet, seasonal naive serves.

    Example: [bold]mlma versions IAH --state demo-state[/bold]
    """
    with opened(state) as found:
        trained = _fleet(found, as_json=as_json) if stream is None else _stream(found, stream, as_json=as_json)
    if not trained:
        raise typer.Exit(Exit.NO)


def _stream(found: "State", name: str, *, as_json: bool) -> bool:
    """Show one stream; whether it has a version."""
    from mlma.runtime.ageing import ageing, stream_line
    from mlma.runtime.explain import n_shards, stream_of
    from mlma.runtime.pool_view import stream_pool

    which = stream_of(found.store, name)
    shards = n_shards(found.store.meta())
    made = stream_pool(found.store, found.history, schedule_of(found), which, n_shards=shards)
    trained = [row.version for row in made.rows if row.version is not None]
    aged = ageing(found.store, found.history, which)
    if as_json:
        servings = found.store.servings(stream_id=which.id)
        members = [
            {key: getattr(row, key) for key in row.__dataclass_fields__ if key != "version"} for row in made.rows
        ]
        print_json(
            {
                "stream": which.name,
                "serves": made.serves,
                "members": members,
                "versions": trained,
                "servings": servings,
                "ageing": aged,
            }
        )
    elif made.rows:
        show(made)
        if aged is not None:
            say(stream_line(aged))
    if not trained and not as_json:
        say(f"{which.name}: no version was trained yet, seasonal naive serves")
    return bool(trained)


def show(made: "StreamPool") -> None:
    """Print the members of one pool, and why those that left did."""
    rows = table(["member", "state", "trained", *NUMBERS[:4], "recent", "weight", "served", "came"], right=NUMBERS)
    for row in made.rows:
        rows.add_row(*_cells(row))
    tabulate(rows)
    for row in made.rows:
        if row.went:
            say(f"{row.member} {row.state}: {row.went}")


def _cells(row: "MemberRow") -> list[str]:
    from mlma.runtime.explain_words import minute

    state = str(row.state or row.kind)
    return [
        row.member,
        f"{state}, serves" if row.serves else state,
        minute(row.trained_at),
        _count(row.age),
        _count(row.batch),
        _count(row.n_rows),
        _number(row.fit_cpu_s, ".2f"),
        _number(row.recent, ".3f"),
        _number(row.weight, ".3f"),
        str(row.n_served) if row.state else "-",
        row.came or "-",
    ]


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _number(value: float, pattern: str) -> str:
    return "-" if math.isnan(value) else format(value, pattern)


def _fleet(found: "State", *, as_json: bool) -> bool:
    """Show the fleet; whether anything was trained."""
    from mlma.runtime.ageing import ageing, fleet_line
    from mlma.runtime.pool_counts import fleet_pools

    made, aged = fleet_pools(found.store, found.history), ageing(found.store, found.history)
    if as_json:
        print_json({**{name: getattr(made, name) for name in made.__dataclass_fields__}, "ageing": aged})
    else:
        show_fleet(made)
        if aged is not None:
            say("")
            say(fleet_line(aged))
    return any(made.states.values())


def show_fleet(made: "FleetPools") -> None:
    """Print versions by state, and what each kind of member carries."""
    serve = f"serve: {made.serve}; " if made.serve else ""
    say(f"{serve}{made.n_streams:,} streams, {made.n_in_use:,} trained versions in use")
    states = table(["state", "versions"], right=("versions",))
    for state, count in made.states.items():
        states.add_row(str(state), f"{count:,}")
    tabulate(states)
    if not made.kinds:
        say("no pool was recorded yet")
        return
    say("")
    headings = ["member", "kind", "streams", "members", "weight", "recent"]
    kinds = table(headings, right=headings[2:])
    for row in made.kinds:
        kinds.add_row(
            row.name, str(row.kind), f"{row.n_streams:,}", f"{row.n_members:,}", _number(row.weight, ".3f"),
            _number(row.recent, ".3f"),
        )  # fmt: skip
    tabulate(kinds)
    from mlma.runtime.group_view import group_words

    for group in made.groups:
        say(group_words(group))
