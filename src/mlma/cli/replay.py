"""`mlma replay`: what would have happened on recorded data, under several policies."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.output import Exit, print_json, say, warn, write_json
from mlma.cli.progress import progress_bar
from mlma.cli.replay_table import has_scores, show
from mlma.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlma.runtime.replay import ReplayProgress
    from mlma.runtime.replay_report import ReplayReport

STDOUT = Path("-")
POLICIES = ["never", "always", "calendar:4", "mlma"]
NOTHING_SCORED = (
    "nothing was scored: no stream had a quarter of the train window, four fifths of it observed, and outcomes after "
    "it; see the notes on what was skipped, and check the frequency and the columns"
)
DATA_ONLY = (
    "frequency", "horizon", "batch", "train_window", "stream_column", "time_column", "value_column", "aggregate",
    "model", "param", "limit_streams",
)  # fmt: skip
"""Options that say what a file of data holds; a state knows it."""


def replay(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Parquet or CSV file with one row a stream and time.")
    ] = None,
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
        typer.Option("--policy", help="never, always, calendar:K, calendar:best, random:N, test, welch, ks, adwin, "
                     "page-hinkley or debt, each also with +pool; mlma, mlma-champion, mlma-blend; frontier. "
                     "Default: " + ", ".join(POLICIES) + "."),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: testing.alpha=0.01.")
    ] = None,
    from_state: Annotated[
        Path | None, typer.Option("--from-state", metavar="DIR", help="Replay what a state has recorded, not DATA.")
    ] = None,
    since: Annotated[str, typer.Option("--since", help="With --from-state: how much of its end, such as 90d.")] = "90d",
    policy_file: Annotated[
        Path | None, typer.Option("--policy-file", metavar="FILE", help="With --from-state: settings to try, YAML.")
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help="ray (one training a core) or inline.")] = "ray",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of trainings, chance and --limit-streams.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON; - for standard output.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a page with pictures and tables, HTML.")
    ] = None,
) -> None:  # fmt: skip
    """Replay recorded data under several policies and compare their losses, trainings and total costs.

    Every forecast is made before its outcome is known; policies share what they train alike.

    Examples: [bold]mlma replay DATA.parquet --frequency 1h --horizon 24h --batch 7d --train-window 140d
    --policy always --policy calendar:best --policy mlma --report report.html[/bold]

    [bold]mlma replay --from-state state --since 90d --policy-file new.yaml[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime.replay_data import ReplayRequest

    for path, option in ((out, "--json"), (report, "--report")):
        _require_folder(path, option)
    _require_source(ctx, data, from_state)
    if from_state is not None:
        from mlma.core.durations import parse_duration

        asked = bootstrap.WhatIfRequest(
            state=from_state, since=parse_duration(since), policy_file=policy_file, executor=executor, seed=seed,
            policies=tuple(dict.fromkeys(policy or ())), settings=key_values(setting or [], "--set"),
        )  # fmt: skip
        _tell(ctx, lambda bar: bootstrap.run_what_if(asked, progress=bar), out, report)
        return
    if aggregate not in {"sum", "mean", "none"}:
        raise ConfigError(f"--aggregate {aggregate!r}: expected sum, mean or none")
    assert data is not None
    request = ReplayRequest(
        data=data, frequency=frequency, horizon=horizon, batch=batch, train_window=train_window,
        stream_column=stream_column, time_column=time_column, value_column=value_column, aggregate=aggregate,
        model=model, model_params=key_values(param or [], "--param"), limit_streams=limit_streams,
        policies=tuple(dict.fromkeys(policy or POLICIES)), executor=executor, seed=seed,
        settings=key_values(setting or [], "--set"),
    )  # fmt: skip
    _tell(ctx, lambda bar: bootstrap.run_replay(request, progress=bar), out, report)


def _tell(
    ctx: typer.Context,
    run: "Callable[[Callable[[ReplayProgress], None]], ReplayReport]",
    out: Path | None,
    report: Path | None,
) -> None:
    """Run, and write and print what came of it."""
    from mlma.runtime.replay_page import page

    with progress_bar() as bar:
        made = run(bar)
    figures = made.to_json()
    if report is not None:
        temporary = report.with_name(f".{report.name}.tmp")
        temporary.write_text(page(made, figures, command_of(ctx)), "utf-8")
        temporary.replace(report)
    if out == STDOUT:
        print_json(figures)
    else:
        show(figures)
        if out is not None:
            write_json(figures, out)
            say(f"figures: {out}")
        if report is not None:
            say(f"report: {report}")
    if not has_scores(figures):
        warn(f"mlma: {NOTHING_SCORED}")
        raise typer.Exit(Exit.NO)


def _require_folder(path: Path | None, option: str) -> None:
    """Refuse a path that cannot be written before hours are spent, not after."""
    if path is not None and path != STDOUT and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"{option} {path}: expected a file in a folder that exists")
    if path == STDOUT and option == "--report":
        raise ConfigError("--report -: expected a file")


def _require_source(ctx: typer.Context, data: Path | None, state: Path | None) -> None:
    """Refuse neither or both of DATA and --from-state, and options of the one with the other."""
    if data is not None and state is not None:
        raise ConfigError(f"DATA {data} and --from-state {state}: expected one of them")
    if data is None and state is None:
        raise ConfigError("DATA is missing: expected a file, or --from-state with a state directory")
    if data is not None and not data.is_file():
        what = "is a folder; expected one Parquet or CSV file" if data.is_dir() else "there is no such file"
        raise ConfigError(f"DATA {data}: {what}")
    wrong = DATA_ONLY if state is not None else ("since", "policy_file")
    for name in wrong:
        if _is_given(ctx, name):
            why = "a state has its own; put what may change into --policy-file" if state else "it needs --from-state"
            raise ConfigError(f"--{name.replace('_', '-')}: {why}")


def _is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter was typed, not left to its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def command_of(ctx: typer.Context) -> str:
    """The command as it can be typed again, from the options that were given."""
    words = ["mlma", ctx.info_name or "replay"]
    for param in ctx.command.params:
        if param.name is None or not _is_given(ctx, param.name):
            continue
        values = ctx.params[param.name]
        for value in values if isinstance(values, list | tuple) else [values]:
            words += [param.opts[0]] if param.opts[0].startswith("-") else []  # an argument has no option
            words.append(str(value))
    return shlex.join(words)


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
