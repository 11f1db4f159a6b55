"""`mlma audit`: who ordered what, what it changed, and what came of it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, opened
from mlma.cli.output import print_json, say, table, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlma.core.records import AuditRow, Request


def audit(limit: LimitOption = 50, state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """List the orders of engineers, newest first, with the state before and after and what came of requests.

    Example: [bold]mlma audit --limit 10[/bold]
    """
    with opened(state) as found:
        rows, requests = found.store.audit(limit=limit), found.store.requests()
    came = outcomes(rows, requests)
    if as_json:
        print_json([{**asdict(row), "outcome": outcome} for row, outcome in zip(rows, came, strict=True)])
        return
    if not rows:
        say("nobody ordered anything yet")
        return
    shown = table(["at (UTC)", "author", "operation", "subject", "outcome", "before", "after"])
    for row, outcome in zip(rows, came, strict=True):
        at = f"{row.at:%Y-%m-%d %H:%M:%S}"
        shown.add_row(at, row.author, row.operation, row.subject, outcome, row.before, row.after)
    tabulate(shown)


def outcomes(rows: "Iterable[AuditRow]", requests: "Iterable[Request]") -> list[str]:
    """What came of the request that each row tells of; empty for standing orders.

    A request and its row are written at one time, by one author, about one selection.
    """
    by_order = {
        (request.created_at, request.author, str(request.kind), request.selection): (
            (request.outcome or "obeyed") if request.consumed_at else "open: the next tick obeys"
        )
        for request in requests
    }
    return [by_order.get((row.at, row.author, str(row.operation), row.subject), "") for row in rows]
