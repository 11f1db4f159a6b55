"""`mlma versions STREAM`: every version that was trained for a stream, and what it is to it."""

from typing import Annotated

import typer

from mlma.cli.options import STATE, JsonOption, StateOption, opened
from mlma.cli.output import Exit, print_json, say, table, tabulate


def versions(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Exact name of a stream.")],
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a stream: role, when trained, on how many rows, size, CPU time, hash.

    Exit code 1: none was trained yet, seasonal naive serves.

    Example: [bold]mlma versions IAH --state demo-state[/bold]
    """
    from mlma.runtime.explain import find_stream

    with opened(state) as found:
        which = find_stream(found.store.streams(), stream)
        trained = found.store.versions(stream_id=which.id)
        servings = found.store.servings(stream_id=which.id)
    serves = servings[-1].version_id if servings else "naive"
    if as_json:
        print_json({"stream": which.name, "serves": serves, "versions": trained, "servings": servings})
    elif trained:
        rows = table(["version", "role", "family", "trained", "after batch", "rows", "bytes", "cpu s", "sha256"],
                     right=("after batch", "rows", "bytes", "cpu s"))  # fmt: skip
        for v in trained:
            role = f"{v.role}, serves" if v.id == serves else str(v.role)
            rows.add_row(
                v.id, role, v.family, f"{v.trained_at:%Y-%m-%d %H:%M}", str(v.batch), f"{v.n_rows:,}",
                f"{v.size_bytes:,}", f"{v.fit_cpu_s:.2f}", v.sha256[:12] or "none",
            )  # fmt: skip
        tabulate(rows)
    else:
        say(f"{which.name}: no version was trained yet, seasonal naive serves")
    if not trained:
        raise typer.Exit(Exit.NO)
