"""`mlma audit`: who ordered what, and what it changed."""

from mlma.cli.options import STATE, JsonOption, LimitOption, StateOption, opened
from mlma.cli.output import print_json, say, table, tabulate


def audit(limit: LimitOption = 50, state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """List the orders of engineers, newest first, with the state before and after.

    Example: [bold]mlma audit --limit 10[/bold]
    """
    with opened(state) as found:
        rows = found.store.audit(limit=limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("nobody ordered anything yet")
        return
    shown = table(["at (UTC)", "author", "operation", "subject", "before", "after"])
    for row in rows:
        shown.add_row(f"{row.at:%Y-%m-%d %H:%M:%S}", row.author, row.operation, row.subject, row.before, row.after)
    tabulate(shown)
