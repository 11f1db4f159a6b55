"""What a reader may copy from the documents works: commands parse, Python runs, settings load."""

import csv
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from mlma import config
from mlma.adapters.sources.files import ColumnMapping, read_file
from mlma.cli.main import app
from tests.docs.documents import REPOSITORY, Block, blocks

ROOT = get_command(app)
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""What the command line raises when a command or an option does not exist; Typer does not export it."""
TARGETS = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>"}
BENIGN = {"source", "cp", "apt-get", "cd", "mkdir"}
"""Programs of the system that a block may use beside mlma, make and python."""

EXECUTED_BY_TESTS = ("mlma config", "mlma --version")
"""What a console block may run: quick, and without a daemon."""


def commands(body: str) -> Iterator[list[str]]:
    """Single commands of a shell block, as words."""
    for line in body.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word in OPERATORS:
                yield words
                words = []
            else:
                words.append(word)
        yield words


def parse(words: list[str]) -> None:
    """Parse a command of mlma as the command line does, without running it. Raises a usage error."""
    command, context = ROOT, ROOT.make_context("mlma", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def is_of_commands(block: Block) -> bool:
    """Whether a block is nothing but commands of mlma."""
    return all(line.startswith("mlma ") for line in block.body.replace("\\\n", " ").splitlines())


@pytest.mark.parametrize("block", [*blocks("bash", "sh"), *filter(is_of_commands, blocks("text"))], ids=str)
def test_every_command_in_a_shell_block_exists(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for words in commands(block.body):
        plain = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if not plain:
            continue
        program = Path(plain[0]).name
        if program == "mlma":
            parse(plain[1:])
        elif program == "make":
            assert set(plain[1:]) <= set(TARGETS)
        elif program == "python":
            assert plain[1] == "-m"
            assert (REPOSITORY / (plain[2].replace(".", "/") + ".py")).exists() or plain[2] in {"benchmarks", "venv"}
        else:
            assert program in BENIGN


def test_a_command_that_does_not_exist_is_found_out() -> None:
    for words in (["frezee", "IAH"], ["freeze", "IAH", "--fro", "3d"], ["digest", "sho"]):
        with pytest.raises(USAGE_ERROR):
            parse(words)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if ">>>" in block.body:
        found = doctest.DocTestParser().get_doctest(block.body, {}, str(block), str(block.document), block.line)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found).failed == 0
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile("\n" * block.line + block.body, str(block.document), "exec"), {"__name__": str(block)})


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_yaml_block_loads_as_settings(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(block.body, encoding="utf-8")
    config.load(path)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_ready_configuration_loads(path: Path) -> None:
    config.load(path)


def test_every_json_block_is_json() -> None:
    for block in blocks("json"):
        json.loads(block.body)


@pytest.mark.parametrize("block", blocks("csv"), ids=str)
def test_every_csv_block_is_read_as_data(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(block.body, encoding="utf-8")
    rows = read_file(path, ColumnMapping(forecast="forecast", version="version"))
    assert len(rows) == len(list(csv.DictReader(io.StringIO(block.body))))
    assert not rows.time_text
    assert not rows.y_text


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_every_console_block_prints_what_it_says(block: Block, tmp_path: Path) -> None:
    for folder in ("configs", "simulations"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for entry in block.body.removeprefix("$ ").split("\n$ "):
        command, _, wanted = entry.partition("\n")
        assert command.startswith(EXECUTED_BY_TESTS)
        ran = subprocess.run(
            shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(wanted, ran.stdout + ran.stderr, flags), ran.stdout + ran.stderr


def test_every_block_says_what_it_is() -> None:
    known = {"bash", "sh", "console", "python", "yaml", "json", "csv", "text", "ini"}
    every = [block for language in ("", *known) for block in blocks(language)]
    assert [str(block) for block in every if block.language not in known] == []
    assert sum(1 for _ in blocks("python")) > 2


def test_python_blocks_are_whole() -> None:
    for block in blocks("python"):
        list(tokenize.generate_tokens(io.StringIO(block.body).readline))
