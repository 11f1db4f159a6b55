"""Whatever an engineer may type, set or read in a record is explained in the manual."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from mlma.cli.main import app
from mlma.config import Settings
from mlma.core.decisions import (
    Action,
    EffectStatus,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)
from tests.docs.documents import MANUAL, README, headings, manual_pages, text_of

CONFIGURATION = text_of(MANUAL / "configuration.md")
CLI = MANUAL / "cli.md"


def commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command that can be typed, as ``digest show``, with its parameters."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield " ".join([*path, name]), command


ROOT = get_command(app)
COMMANDS = dict(commands(ROOT))


def sections() -> dict[str, str]:
    """What the list of commands says by command: the chapter of its section, and what all commands share."""
    _, shared, *chapters = re.split(r"^(?=## )", text_of(CLI), flags=re.MULTILINE)
    return {
        title: shared + chapter
        for chapter in chapters
        for title in re.findall(r"^### mlma (.+?) *$", chapter, re.MULTILINE)
    }


def test_the_list_of_commands_has_a_section_for_each_and_no_other() -> None:
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"mlma {command}" in (COMMANDS[command].help or "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_chapter_of_its_command(command: str) -> None:
    page = sections()[command]
    options = [o for p in COMMANDS[command].params for o in [*p.opts, *p.secondary_opts] if o.startswith("--")]
    missing = [option for option in options if not re.search(rf"{option}(?![\w-])", page)]
    assert not missing


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str) -> None:
    without = [p.name for p in COMMANDS[command].params if p.param_type_name == "option" and not p.help]
    assert not without


def settings(model: type[BaseModel], *path: str) -> Iterator[str]:
    """Dotted key of every setting."""
    for name, field in model.model_fields.items():
        inner = [t for t in [field.annotation, *get_args(field.annotation)] if isinstance(t, type)]
        section = next((t for t in inner if issubclass(t, BaseModel)), None)
        if section is None:
            yield ".".join([*path, name])
        else:
            yield from settings(section, *path, name)


@pytest.mark.parametrize("setting", list(settings(Settings)))
def test_every_setting_has_a_row_in_the_manual(setting: str) -> None:
    assert re.search(rf"^\| `{re.escape(setting)}` \| .+ \| .+ \|$", CONFIGURATION, re.MULTILINE)


def test_no_setting_in_the_manual_is_unknown() -> None:
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \|", CONFIGURATION, re.MULTILINE)
    assert set(rows) == set(settings(Settings))


@pytest.mark.parametrize(
    ("vocabulary", "page"),
    [(Action, "decisions"), (Reason, "decisions"), (Hold, "decisions"), (Phase, "decisions"), (Role, "decisions"),
     (RejectReason, "data")],
)  # fmt: skip
def test_every_word_of_a_record_has_a_row_in_the_manual(vocabulary: type[StrEnum], page: str) -> None:
    text = text_of(MANUAL / f"{page}.md")
    words = [word.value for word in vocabulary if word.value]
    assert [word for word in words if not re.search(rf"^\| `{word}` \| [^|]+ \|", text, re.MULTILINE)] == []


@pytest.mark.parametrize("vocabulary", [EffectStatus, OverrideKind, RequestKind])
def test_every_word_of_an_order_is_in_the_manual(vocabulary: type[StrEnum]) -> None:
    text = "\n".join(text_of(page) for page in manual_pages())
    assert [
        word.value for word in vocabulary if f"`{word.value}`" not in text and f"mlma {word.value}" not in text
    ] == []


def test_the_index_links_every_page_of_the_manual() -> None:
    index = text_of(MANUAL / "index.md")
    assert [page.name for page in manual_pages() if page.name != "index.md" and f"({page.name})" not in index] == []


def test_the_readme_names_the_two_commands_and_what_is_missing() -> None:
    assert "make demo" in text_of(README)
    assert "make test" in text_of(README)
    assert "What it does not do yet" in headings(README)
