"""`mlma demo`: 94 US airports of 2001, replayed through the whole loop."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.output import say
from mlma.cli.progress import progress_bar

if TYPE_CHECKING:
    from mlma.bootstrap import DemoReport


class Executor(StrEnum):
    """What the demo runs on."""

    RAY = "ray"
    INLINE = "inline"


def demo(
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="State directory that it makes.")] = Path(
        "demo-state"
    ),
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Picture; default: DIR/fleet.png.")] = None,
    minutes15: Annotated[bool, typer.Option("--minutes15", help="Quarters of an hour instead of hours.")] = False,
    executor: Annotated[Executor, typer.Option("--executor", help="Ray shard actors, or this process alone.")] = (
        Executor.RAY
    ),
) -> None:
    """Replay the departures of 94 US airports in 2001, and leave a state that the other commands read.

    Example: [bold]mlma demo && mlma explain IAH --state demo-state[/bold]
    """
    from mlma import bootstrap

    picture = png or state / "fleet.png"
    with progress_bar() as bar:
        report = bootstrap.run_demo(
            state=state, fleet_png=picture, minutes15=minutes15, executor=str(executor), progress=bar
        )
    for line in summary(report):
        say(line)


def summary(report: "DemoReport") -> list[str]:
    """What happened and what to type next, on at most 24 lines of 80 columns."""
    state = f" --state {report.state}"
    loss = report.relative_loss_to_naive
    return [
        f"{report.streams:,} streams, {report.batches:,} batches, in {report.seconds:.0f} s",
        "",
        f"  alarms        {report.alarms:,}",
        f"  trainings     {report.trainings:,}",
        f"  promoted      {report.promotions:,}, first versions included",
        f"  rejected      {report.rejected:,} candidates that did not beat their champion",
        f"  loss          {loss:.3f} of seasonal naive, mean of streams ({1 - loss:.0%} better)",
        f"  picture       {report.fleet_png}",
        *(f"  {line}" for line in report.summary[:4]),
        "",
        "Look around:",
        f"  mlma status{state}",
        f"  mlma streams --sort retrainings --limit 10{state}",
        f"  mlma explain IAH --plot iah.png{state}",
        f"  mlma decisions --action promote --limit 10{state}",
        f"  mlma versions IAH{state}",
        f"  mlma digest show --stored{state}",
    ]
