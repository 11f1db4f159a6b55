"""`mlma replay`: what would have happened on recorded data, under several policies."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mlma.cli.output import print_json, say, table, tabulate, write_json
from mlma.cli.progress import progress_bar
from mlma.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STDOUT = Path("-")
POLICIES = ["never", "always", "calendar:4", "mlma"]


def replay(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Parquet or CSV file with one row a stream and time.")],
    frequency: Annotated[str, typer.Option("--frequency", help="Length of a slot: 15min, 1h, 1d.")] = "1h",
    horizon: Annotated[str, typer.Option("--horizon", help="How far one forecast reaches.")] = "24h",
    batch: Annotated[str, typer.Option("--batch", help="Event time of one tested batch.")] = "7d",
    train_window: Annotated[str, typer.Option("--train-window", help="Event time that a training uses.")] = "140d",
    stream_column: Annotated[str, typer.Option("--stream-column", help="Column with the stream's name.")] = "stream",
    time_column: Annotated[str, typer.Option("--time-column", help="Column with the time.")] = "ts",
    value_column: Annotated[str, typer.Option("--value-column", help="Column with the observed value.")] = "y",
    aggregate: Annotated[
        str, typer.Option("--aggregate", help="Rows finer than the frequency: sum, mean, or none (refuse them).")
    ] = "sum",
    model: Annotated[str, typer.Option("--model", help="lightgbm, ridge or MODULE:CLASS.")] = "lightgbm",
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="Parameter of the model; repeatable.")
    ] = None,
    limit_streams: Annotated[
        int | None, typer.Option("--limit-streams", min=1, metavar="N", help="Only N streams, drawn by the seed.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="never, always, calendar:K or mlma; repeatable. Default: "
                     + ", ".join(POLICIES) + "."),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: testing.alpha=0.01.")
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help="ray (one training a core) or inline.")] = "ray",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of trainings and of --limit-streams.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON; - for standard output.")
    ] = None,
) -> None:  # fmt: skip
    """Replay recorded data under several policies and compare their losses and trainings.

    Every forecast is made before its outcome is known; policies share what they train alike.

    Example: [bold]mlma replay DATA.parquet --frequency 1h --horizon 24h --batch 7d --train-window 140d
    --policy always --policy calendar:4 --policy mlma --json out.json[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime.replay_data import ReplayRequest

    if aggregate not in {"sum", "mean", "none"}:
        raise ConfigError(f"--aggregate {aggregate!r}: expected sum, mean or none")
    if not data.is_file():
        raise ConfigError(f"DATA {data}: there is no such file")
    _require_folder(out)
    request = ReplayRequest(
        data=data, frequency=frequency, horizon=horizon, batch=batch, train_window=train_window,
        stream_column=stream_column, time_column=time_column, value_column=value_column, aggregate=aggregate,
        model=model, model_params=key_values(param or [], "--param"), limit_streams=limit_streams,
        policies=tuple(dict.fromkeys(policy or POLICIES)), executor=executor, seed=seed,
        settings=key_values(setting or [], "--set"),
    )  # fmt: skip
    with progress_bar() as bar:
        figures = bootstrap.run_replay(request, progress=bar).to_json()
    if out == STDOUT:
        print_json(figures)
        return
    show(figures)
    if out is not None:
        write_json(figures, out)
        say(f"figures: {out}")


def _require_folder(out: Path | None) -> None:
    """Refuse a path that cannot be written before hours are spent, not after."""
    if out is not None and out != STDOUT and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"--json {out}: expected a file in a folder that exists")


def key_values(texts: "Sequence[str]", option: str) -> dict[str, object]:
    """``K=V`` texts as a mapping; a value that reads as JSON is taken as such."""
    values: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(f"{option} {text!r}: expected KEY=VALUE")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
    return values


def show(figures: "Mapping[str, object]") -> None:
    """Print the comparison of the policies as a table."""
    policies = cast("dict[str, dict[str, object]]", figures["policies"])
    headings = ["mean loss", "/ always", "/ naive", "trainings", "share", "alarms", "train s", "predict s", "rest s"]
    rows = table(["policy", *headings], right=headings)
    for name, found in policies.items():
        cpu = cast("dict[str, float]", found["cpu_s"])
        rows.add_row(
            name, _figure(found["mean_loss"]), _mean(found["relative_loss_to_always"]),
            _mean(found["relative_loss_to_naive"]), f"{found['trainings']:,}",
            _figure(found["training_share_of_always"]), f"{found['alarms']:,}",
            *(f"{cpu[part]:.1f}" for part in ("train", "predict", "rest")),
        )  # fmt: skip
    tabulate(rows)
    skipped = cast("list[dict[str, object]]", figures["skipped"])
    say(f"{figures['streams']:,} streams, {figures['batches']:,} batches, {len(skipped):,} notes on what was skipped")
    for note in skipped[:5]:
        say("  " + ", ".join(f"{key} {value}" for key, value in note.items()))


def _figure(value: object) -> str:
    return "-" if value is None else f"{cast('float', value):.4g}"


def _mean(spread: object) -> str:
    mean = None if spread is None else cast("dict[str, float | None]", spread)["mean"]
    return "-" if mean is None else f"{mean:.3f}"
