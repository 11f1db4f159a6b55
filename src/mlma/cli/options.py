"""Options that several commands share, and how their texts are read."""

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.core.errors import MlmaError, OperationError

if TYPE_CHECKING:
    from mlma.bootstrap import State
    from mlma.config import Settings
    from mlma.core.schedule import Schedule

STATE_VARIABLE = "MLMA_STATE"
CONFIG_VARIABLE = "MLMA_CONFIG"

StateOption = Annotated[
    Path,
    typer.Option("--state", metavar="DIR", envvar=STATE_VARIABLE, help="State directory.", rich_help_panel="Common"),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar=CONFIG_VARIABLE, help="Settings, YAML.", rich_help_panel="Common"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Common")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Rows at most.")]
AuthorOption = Annotated[
    str, typer.Option("--author", metavar="NAME", help="Who stands for it; default: the user of this machine.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the record, the audit and the digest.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")]
SelectionArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SELECTION", help="Streams: names, globs such as 'K*', labels such as site=lhr, or '*' for all."
    ),
]

STATE = Path("state")


@contextmanager
def opened(path: Path) -> Iterator["State"]:
    """State directory, closed in the end. Raises StoreError."""
    from mlma import bootstrap

    state = bootstrap.open_state(path)
    try:
        yield state
    finally:
        state.close()


def schedule_of(state: "State") -> "Schedule":
    """Schedule of a state. Raises OperationError before the first observation fixed one."""
    if state.schedule is None:
        raise OperationError(f"{state.path} holds no observation yet: nothing was forecast or decided")
    return state.schedule


def settings(config: Path | None, overrides: Mapping[str, object] | None = None) -> "Settings":
    """Settings from file, environment and options. Raises ConfigError."""
    from mlma import bootstrap

    # The shell's shorthands for --state and --config; to the settings they would be malformed sections.
    shorthands = {name: os.environ.pop(name) for name in (STATE_VARIABLE, CONFIG_VARIABLE) if name in os.environ}
    try:
        return bootstrap.load_settings(config, overrides)
    finally:
        os.environ.update(shorthands)


def user() -> str:
    """Name of the user of this machine; empty when it has none, so that --author must be given."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def time_from(text: str, option: str) -> datetime:
    """Time written as ISO 8601; without a zone it is UTC.

    Raises
    ------
    OperationError
        The text is no time.

    Examples
    --------
    >>> time_from("2001-03-05", "--from").isoformat()
    '2001-03-05T00:00:00+00:00'
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise OperationError(f"{option} {text!r}: expected a time such as 2001-03-05 or 2001-03-05T06:00Z") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def moment(text: str, option: str, *, now: datetime, sign: int) -> datetime:
    """Time in ISO 8601, or a duration counted from ``now``: forwards with sign 1, backwards with -1.

    Raises
    ------
    OperationError
        The text is neither.

    Examples
    --------
    >>> moment("7d", "--since", now=datetime(2001, 3, 8, tzinfo=UTC), sign=-1).day
    1
    """
    from mlma.core.durations import parse_duration

    try:
        return now + sign * parse_duration(text)
    except (MlmaError, OverflowError):
        pass
    try:
        return time_from(text, option)
    except OperationError:
        raise OperationError(
            f"{option} {text!r}: expected a time such as 2001-03-05T06:00Z or a duration such as 12h or 7d"
        ) from None
