"""`mlma calibrate`: what level, power and delay the loss test will have on your data, before it is switched on."""

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import ConfigOption, JsonOption, settings
from mlma.cli.output import console, print_json
from mlma.cli.progress import progress_bar
from mlma.cli.replay import key_values
from mlma.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlma.runtime.replay import ReplayProgress

DATA, DRIFT = "Data", "What is measured"


def calibrate(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Parquet or CSV file (or a directory of them), one row a stream and time."),
    ],
    config: ConfigOption = None,
    losses: Annotated[
        bool, typer.Option("--losses", help="DATA holds losses already: no model is trained.", rich_help_panel=DATA)
    ] = False,
    frequency: Annotated[
        str | None, typer.Option("--frequency", help="Length of a slot: 15min, 1h, 1d.", rich_help_panel=DATA)
    ] = None,
    horizon: Annotated[
        str | None, typer.Option("--horizon", help="How far one forecast reaches.", rich_help_panel=DATA)
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Event time of one tested batch.", rich_help_panel=DATA)
    ] = None,
    train_window: Annotated[
        str | None, typer.Option("--train-window", help="Event time that a training uses.", rich_help_panel=DATA)
    ] = None,
    stream_column: Annotated[
        str | None, typer.Option("--stream-column", help="Column with the stream's name.", rich_help_panel=DATA)
    ] = None,
    time_column: Annotated[
        str | None, typer.Option("--time-column", help="Column with the time.", rich_help_panel=DATA)
    ] = None,
    value_column: Annotated[
        str | None,
        typer.Option("--value-column", help="Column with the observed value, or the loss.", rich_help_panel=DATA),
    ] = None,
    naive_column: Annotated[
        str | None,
        typer.Option("--naive-column", help="With --losses: column with a yardstick's loss.", rich_help_panel=DATA),
    ] = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            "--aggregate", help="Rows finer than the frequency: sum, mean, or none (refuse them).", rich_help_panel=DATA
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="lightgbm, ridge (quick) or MODULE:CLASS.", rich_help_panel=DATA)
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="K=V", help="Parameter of the model; repeatable.", rich_help_panel=DATA),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option("--executor", help="ray (one training a core) or inline.", rich_help_panel=DATA),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option("--streams", min=1, metavar="N", help="Only N streams, drawn by the seed.", rich_help_panel=DATA),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: testing.fleet=bh.")
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            "--alpha", help="Promised rate of false alarms; more of them are compared.", rich_help_panel=DRIFT
        ),
    ] = None,
    rise: Annotated[
        list[float] | None,
        typer.Option(
            "--rise", help="Rise of the loss that is put in, 0.25 is 25 %; repeatable.", rich_help_panel=DRIFT
        ),
    ] = None,
    ramp: Annotated[
        float, typer.Option("--ramp", min=0.0, help="Also a rise that grows by so much a week.", rich_help_panel=DRIFT)
    ] = 0.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="No other loss tests, no other batches.", rich_help_panel=DRIFT)
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of trainings and of what is drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure what the loss test does on your data: false alarms, what it finds, how soon.

    Every stream is trained once and its losses are collected; then rises are put into them and the test runs anew.

    Example: [bold]mlma calibrate DATA.parquet --batch 1d --train-window 56d --model ridge[/bold]
    """
    from mlma import bootstrap
    from mlma.cli.calibrate_tables import show
    from mlma.core.durations import parse_duration
    from mlma.monitor.calibration_figures import RISES
    from mlma.runtime.calibrate import CalibrationRequest

    _check(losses, alpha or [], rise or [], aggregate, {
        "--frequency": frequency, "--horizon": horizon, "--train-window": train_window, "--aggregate": aggregate,
        "--model": model, "--param": param, "--executor": executor,
    }, naive_column)  # fmt: skip
    overrides = {
        "schedule.frequency": frequency, "schedule.horizon": horizon, "schedule.batch": None if losses else batch,
        "schedule.train_window": train_window, "source.stream_column": stream_column,
        "source.time_column": time_column, "source.value_column": None if losses else value_column,
        "model.name": model, "model.params": key_values(param, "--param") if param else None,
        "model.seed": seed, "executor.kind": executor, "testing.alpha": alpha[0] if alpha else None,
        **key_values(setting or [], "--set"),
    }  # fmt: skip
    found = settings(config, {key: value for key, value in overrides.items() if value is not None})
    request = CalibrationRequest(
        data=data, is_losses=losses, batch=parse_duration(batch) if losses and batch else found.schedule.batch,
        loss_column=value_column or "loss", naive_column=naive_column, aggregate=aggregate or "sum", streams=streams,
        rises=tuple(rise or RISES), ramp=ramp, alphas=tuple((alpha or [])[1:]), quick=quick, seed=seed,
    )  # fmt: skip
    with _shown() as (bar, tell):
        report = bootstrap.run_calibration(request, found, progress=bar, tell=tell)
    if as_json:
        print_json(report)
    else:
        show(report)


def _check(
    losses: bool, alphas: "Sequence[float]", rises: "Sequence[float]", aggregate: str | None,
    model_only: "Mapping[str, object]", naive_column: str | None,
) -> None:  # fmt: skip
    """Refuse what makes no sense before hours are spent, not after. Raises ConfigError."""
    given = [name for name, value in model_only.items() if value is not None]
    if losses and given:
        raise ConfigError(f"--losses: no model is trained, so {', '.join(given)} cannot be given with it")
    if naive_column is not None and not losses:
        raise ConfigError("--naive-column: belongs to --losses; a replay computes seasonal naive itself")
    if aggregate not in {None, "sum", "mean", "none"}:
        raise ConfigError(f"--aggregate {aggregate!r}: expected sum, mean or none")
    for name, values in (("--alpha", alphas), ("--rise", rises)):
        for value in values:
            if not (0.0 < value < 1.0 if name == "--alpha" else 0.0 < value < float("inf")):
                expected = "a rate between 0 and 1" if name == "--alpha" else "a relative rise above 0, such as 0.25"
                raise ConfigError(f"{name} {value:g}: expected {expected}")


@contextmanager
def _shown() -> "Iterator[tuple[Callable[[ReplayProgress], None], Callable[[str, int, int], None]]]":
    """Shows the replay, and after it, on a terminal, what is being measured."""
    page = console(stderr=True)
    status = page.status("measuring") if page.is_terminal else None
    with ExitStack() as replaying:
        bar = replaying.enter_context(progress_bar())

        def tell(what: str, done: int, n: int) -> None:
            if status is None:
                return
            replaying.close()  # a terminal shows one of them at a time
            status.start()  # again and again does no harm
            status.update(f"measuring {what}: {done} of {n}")

        try:
            yield bar, tell
        finally:
            if status is not None:
                status.stop()
