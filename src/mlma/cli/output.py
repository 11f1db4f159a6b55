"""How commands answer: exit codes, JSON, tables. Nothing here knows what is shown."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from mlma.core.errors import GiveUpError, MlmaError, RetryLaterError, StopDaemonError, StoreError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED_WIDTH = 160
"""Columns where no terminal says how many it has: wide enough that nothing is cut."""


class Exit(IntEnum):
    """What a command's end means to a script."""

    OK = 0
    NO = 1  # the answer is no, or a problem was found
    WRONG = 2  # wrong use or wrong input
    STATE = 3  # the state is missing, locked or of another version


def exit_code(error: MlmaError) -> Exit:
    """Code for an error.

    Examples
    --------
    >>> exit_code(StoreError("there is no state")).name
    'STATE'
    """
    if isinstance(error, StoreError | StopDaemonError):
        return Exit.STATE
    return Exit.NO if isinstance(error, RetryLaterError | GiveUpError) else Exit.WRONG


def console(*, stderr: bool = False) -> "Console":
    """Terminal, or a plain wide page when piped. Names of streams are never read as markup."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in made._environ:
        made.width = PIPED_WIDTH
    return made


def tabulate(content: "Table") -> None:
    """Print a table, without the blanks that fill its last column."""
    page = console()
    with page.capture() as captured:
        page.print(content)
    page.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def say(text: str) -> None:
    """Print text as it is, without wrapping."""
    console().print(text, soft_wrap=True)


def warn(text: str) -> None:
    """Print text to standard error."""
    console(stderr=True).print(text, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as JSON, UTF-8, indented; NaN and infinite numbers as null."""
    import typer

    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def write_json(value: object, path: Path) -> None:
    """Write a value as `print_json` prints it, complete or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)


def plain(value: object) -> object:
    """Value in the words of JSON.

    Examples
    --------
    >>> plain({"p": float("nan"), "kind": Exit.NO, "every": timedelta(hours=1)})
    {'p': None, 'kind': 1, 'every': 3600.0}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(cast("Any", value))}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "dtype"):  # an array or a scalar of NumPy, which is not imported for this question
        array = cast("Any", value)
        return plain((array.astype(str) if array.dtype.kind == "M" else array).tolist())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return _plain_one(value)


def _plain_one(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, PurePath) else value


def table(headings: Sequence[str], *, right: Iterable[str] = ()) -> "Table":
    """Table without frames; columns named in ``right`` hold numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    numbers = set(right)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return made


def pairs(rows: Iterable[tuple[str, str]]) -> "Table":
    """Labels and their texts in two columns."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for label, text in rows:
        made.add_row(label, text)
    return made
