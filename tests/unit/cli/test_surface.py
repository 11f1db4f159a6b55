"""The surface of the CLI: every command explains itself, and none loads what it does not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

import mlma
from mlma.cli.main import app

HEAVY = ("pandas", "ray", "sklearn", "lightgbm", "scipy", "pyarrow", "matplotlib")
READS = ("status", "streams", "explain", "decisions", "incidents", "versions", "ledger", "overrides", "audit", "doctor",
         "digest show", "config check", "config show")  # fmt: skip
CHANGES = ("freeze", "pin", "exclude", "lift", "retrain", "rollback", "digest send")


def commands(group=None, prefix=()):
    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield " ".join((*prefix, name)), command


ALL = dict(commands())


def options(command):
    return {option for parameter in command.params for option in getattr(parameter, "opts", [])}


@pytest.mark.parametrize("name", ["", *ALL])
def test_help_is_printed(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize("name", READS)
def test_every_read_has_json(name):
    assert "--json" in options(ALL[name])


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_has_dry_run_and_author(name):
    assert {"--dry-run", "--author"} <= options(ALL[name])


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["streams"], ["incidents"], ["freeze", "IAH", "--help"]])
def test_nothing_heavy_is_loaded(filled, arguments):
    code = (
        "import sys\nfrom mlma.cli.main import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    environment = {**os.environ, "MLMA_STATE": str(filled), "PYTHONPATH": str(Path(mlma.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_state_in_the_environment_does_not_confuse_the_settings(filled, monkeypatch):
    monkeypatch.setenv("MLMA_STATE", str(filled))
    assert CliRunner().invoke(app, ["config", "check"]).exit_code == 0
