"""The console script: the tree of commands, and the one place where errors become a line and an exit code."""

import errno
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlma import __version__
from mlma.cli import (
    audit,
    calibrate,
    config,
    decisions,
    demo,
    digest,
    doctor,
    explain,
    incidents,
    ledger,
    overrides,
    replay,
    requests,
    status,
    streams,
    versions,
)
from mlma.cli import run as run_daemon
from mlma.cli.output import Exit, exit_code
from mlma.core.errors import MlmaError

DEBUG_VARIABLE = "MLMA_DEBUG"


class PlainErrors(TyperGroup):
    """Turns what a command raises on purpose into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except MlmaError as error:
            self._end(str(error), exit_code(error), error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever reads us has read enough; Typer ends quietly
            self._end(str(error), Exit.WRONG, error)

    @staticmethod
    def _end(message: str, code: Exit, error: Exception) -> None:
        if os.environ.get(DEBUG_VARIABLE, "0") not in {"", "0"}:
            raise error
        typer.echo(f"mlma: {message}", err=True)
        raise typer.Exit(code) from error


app = typer.Typer(
    name="mlma",
    cls=PlainErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A machine learning monitoring agent: watches the losses of forecasting models, retrains what got worse, "
    "proves it, and reports on one page.",
    epilog="Exit codes: 0 ok; 1 the answer is no, or a problem was found; 2 wrong use or input; 3 the state is "
    "missing, locked or of another version. MLMA_DEBUG=1 shows tracebacks.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mlma {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tell Typer about the options of mlma itself."""


START, LOOK, ORDER, CARE = "Start", "Look", "Order", "Care"

for panel, function, name in (
    (START, demo.demo, "demo"),
    (START, run_daemon.run, "run"),
    (START, replay.replay, "replay"),
    (START, calibrate.calibrate, "calibrate"),
    (LOOK, status.status, "status"),
    (LOOK, streams.streams, "streams"),
    (LOOK, explain.explain, "explain"),
    (LOOK, decisions.decisions, "decisions"),
    (LOOK, incidents.incidents, "incidents"),
    (LOOK, versions.versions, "versions"),
    (LOOK, ledger.ledger, "ledger"),
    (ORDER, overrides.freeze, "freeze"),
    (ORDER, overrides.pin, "pin"),
    (ORDER, overrides.exclude, "exclude"),
    (ORDER, overrides.lift, "lift"),
    (ORDER, overrides.overrides, "overrides"),
    (ORDER, requests.retrain, "retrain"),
    (ORDER, requests.rollback, "rollback"),
    (CARE, audit.audit, "audit"),
    (CARE, doctor.doctor, "doctor"),
):
    app.command(name, rich_help_panel=panel)(function)
app.add_typer(digest.app, name="digest", rich_help_panel=LOOK)
app.add_typer(config.app, name="config", rich_help_panel=CARE)


def run() -> None:
    """Console script."""
    app()
