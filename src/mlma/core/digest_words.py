"""Words of a digest: names, numbers and commands in the few columns that a line has."""

import math
import shlex
from collections.abc import Sequence
from datetime import datetime

WIDTH = 78
"""Columns of a digest: what a mail client and a terminal show without wrapping."""

_NAME_LENGTH = 24  # columns of a stream's name in a sentence
_COMMAND_INDENT = 5  # columns before a command


def rise(effect: float) -> str:
    """Effect as a signed percentage, empty when there is none.

    Examples
    --------
    >>> rise(0.344), rise(float("nan")), rise(5000.0)
    ('+34 %', '', '> +99,999 %')
    """
    if math.isnan(effect):
        return ""
    return "> +99,999 %" if effect > 999.99 else f"{effect:+,.0%}".replace("%", " %")


def clean(text: str) -> str:
    """Text on one line: white space runs become one blank, what cannot be printed a question mark."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def short(text: str, length: int = _NAME_LENGTH) -> str:
    """Text on one line of at most ``length`` columns, its end cut off when it is longer.

    Examples
    --------
    >>> short("a rather long name", 10)
    'a rathe...'
    """
    line = clean(text)
    return line if len(line) <= length else line[: max(0, length - 3)].rstrip() + "..."[:length]


def lead(name: str, rest: str, *, width: int) -> str:
    """``name: rest`` within ``width``; the name is cut before the rest is, but eight columns of it stay."""
    room = max(8, width - len(rest) - 2)
    return short(f"{short(name, min(room, _NAME_LENGTH))}: {rest}", width)


def some(names: Sequence[str], *, width: int) -> str:
    """As many of the names as fit into ``width`` columns, at least the first one, and how many more there are.

    Examples
    --------
    >>> some(["LHR", "JFK", "ORD", "DFW"], width=18)
    'LHR, JFK, 2 more'
    """
    text = short(names[0], max(8, width - 12)) if names else "none"
    for n, name in enumerate(names[1:], start=2):
        longer = f"{text}, {short(name)}"
        left = len(names) - n
        if len(longer) + (len(f", {left:,} more") if left else 0) > width:
            return f"{text}, {left + 1:,} more"
        text = longer
    return text


def command(operation: str, subject: str, options: str = "") -> str:
    """Exact command line for one subject, quoted for a shell.

    A name that would not fit into the page, or cannot be typed, is left to the digest's JSON.

    Examples
    --------
    >>> command("retrain", "store 12", "--reason 'model failed'")
    "mlma retrain 'store 12' --reason 'model failed'"
    """
    dashes = "-- " if subject.startswith("-") else ""
    parts = ["mlma", operation, options, dashes + shlex.quote(subject)] if dashes else [
        "mlma", operation, shlex.quote(subject), options]  # fmt: skip
    line = " ".join(part for part in parts if part)
    return line if len(line) <= WIDTH - _COMMAND_INDENT and line.isprintable() else "mlma digest show --json"


def minute(at: datetime) -> str:
    """Time to the minute, as the digest prints it."""
    return f"{at:%Y-%m-%d %H:%M}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Say a number and its noun, in the plural unless there is one.

    Examples
    --------
    >>> count(1, "stream"), count(1200, "stream"), count(2, "batch", "batches")
    ('1 stream', '1,200 streams', '2 batches')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
