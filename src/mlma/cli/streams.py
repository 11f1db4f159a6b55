"""`mlma streams`: search, filter and sort the fleet."""

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, opened
from mlma.cli.output import Exit, print_json, say, table, tabulate
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlma.core.selection import LabelSelector
    from mlma.runtime.overview import StreamRow


class Sort(StrEnum):
    """What a list of streams is sorted by; numbers with the worst first."""

    LOSS = "loss"  # served loss relative to naive
    EFFECT = "effect"
    P = "p"
    RETRAININGS = "retrainings"
    NAME = "name"


def streams(
    search: Annotated[
        str | None, typer.Argument(metavar="SEARCH", help="Glob such as 'K*', or a part of the name.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="K=V", help="Only streams with this label; repeatable.")
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order; numbers with the worst first.")] = Sort.NAME,
    limit: LimitOption = 50,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List streams with the numbers of their last batch; frozen and pinned ones are marked.

    Exit code 1: no stream matches.

    Example: [bold]mlma streams 'K*' --label site=lhr --sort effect --limit 20[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime.overview import stream_rows

    conditions = [_label(text) for text in label or []]
    with opened(state) as found:
        rows = stream_rows(found.store, bootstrap.clock().now())
    chosen = [row for row in rows if _is_meant(row, search, conditions)]
    chosen.sort(key=_key(sort))
    if as_json:
        print_json({"n_streams": len(rows), "n_matching": len(chosen), "streams": chosen[:limit]})
    else:
        _print(chosen, len(rows), limit)
    if not chosen:
        raise typer.Exit(Exit.NO)


def _label(text: str) -> "LabelSelector":
    from mlma.core.selection import parse

    selection = parse(text)
    if selection.globs or len(selection.labels) != 1:
        raise OperationError(f"--label {text!r}: expected KEY=VALUE or KEY!=VALUE, such as site=lhr")
    return selection.labels[0]


def _is_meant(row: "StreamRow", search: str | None, conditions: "Sequence[LabelSelector]") -> bool:
    from fnmatch import fnmatchcase

    if search and not (
        row.name == search
        or fnmatchcase(row.name.casefold(), search.casefold())
        or (not set("*?[") & set(search) and search.casefold() in row.name.casefold())
    ):
        return False
    return all(condition.matches(row.labels) for condition in conditions)


def _key(sort: Sort) -> "Callable[[StreamRow], tuple[float, str]]":
    def worst_first(value: float) -> float:
        return math.inf if math.isnan(value) else -value

    keys: dict[Sort, Callable[[StreamRow], float]] = {
        Sort.LOSS: lambda row: worst_first(row.relative_loss),
        Sort.EFFECT: lambda row: worst_first(row.effect),
        Sort.P: lambda row: math.inf if math.isnan(row.p_value) else row.p_value,
        Sort.RETRAININGS: lambda row: -float(row.retrainings),
        Sort.NAME: lambda _: 0.0,
    }
    return lambda row: (keys[sort](row), row.name)


def _print(rows: "Sequence[StreamRow]", n_streams: int, limit: int) -> None:
    from mlma.runtime.explain_words import number, percent

    numbers = ("loss", "/naive", "p", "effect", "retr.")
    shown = table(["stream", "serves", *numbers, "last decision", "order", "labels"], right=numbers)
    for row in rows[:limit]:
        order = " ".join(word for word, is_on in (("FROZEN", row.is_frozen), ("PINNED", row.is_pinned)) if is_on)
        held = f", held: {row.held_by}" if row.held_by else ""
        shown.add_row(
            row.name,
            row.version_id,
            number(row.mean_loss),
            number(row.relative_loss),
            number(row.p_value),
            percent(row.effect),
            str(row.retrainings),
            f"{row.action} ({row.reason}{held})" if row.action else "-",
            order,
            " ".join(f"{key}={value}" for key, value in row.labels.items()),
        )
    if rows:
        tabulate(shown)
    more = f"; {len(rows) - limit:,} more, see --limit" if len(rows) > limit else ""
    say(f"{len(rows):,} of {n_streams:,} streams{more}")
