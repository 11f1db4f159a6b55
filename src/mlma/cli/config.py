"""`mlma config check | show`: the settings that count, and what is wrong with them."""

import typer

from mlma.cli.options import ConfigOption, JsonOption, settings
from mlma.cli.output import print_json, say

app = typer.Typer(no_args_is_help=True, help="Check and show settings.")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read all settings and name every mistake at once. Exit code 2: there is one.

    Example: [bold]mlma config check --config configs/watch-directory.yaml[/bold]
    """
    settings(config)
    where = str(config) if config else "defaults and environment"
    if as_json:
        print_json({"ok": True, "config": where})
    else:
        say(f"{where}: ok")


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the settings that count: file, environment and defaults joined; secrets are masked.

    Example: [bold]mlma config show --config configs/watch-directory.yaml --json[/bold]
    """
    shown = settings(config).show()
    if as_json:
        print_json(shown)
        return
    import yaml

    typer.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), nl=False)
