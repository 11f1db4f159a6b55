"""`mlma run`: the daemon."""

from pathlib import Path
from typing import Annotated

import typer

from mlma.cli.options import STATE_VARIABLE, ConfigOption, settings


def run(
    config: ConfigOption = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="DIR", envvar=STATE_VARIABLE, help="State directory; goes before the settings."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Work through what is there, then end.")] = False,
) -> None:
    """Run the daemon: take in what arrives, forecast, test, decide, train, report, until SIGTERM.

    A restart goes on where it stopped. Exit code 3: another daemon keeps the state.

    Example: [bold]mlma run --config configs/watch-directory.yaml --state state[/bold]
    """
    from mlma import bootstrap

    overrides = {} if state is None else {"state.path": str(state)}
    raise typer.Exit(bootstrap.run_daemon(settings(config, overrides), once=once))
