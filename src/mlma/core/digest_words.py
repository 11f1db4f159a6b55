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


def short_name(name: str, length: int = _NAME_LENGTH) -> str:
    """Name of at most ``length`` columns; its middle is left out, since names differ at their ends.

    Examples
    --------
    >>> short_name("region-1/warehouse-7/apples", 20)
    'region-1/...7/apples'
    """
    line = clean(name)
    if len(line) <= length:
        return line
    end = (length - 3) // 2
    return line[: length - 3 - end] + "..." + line[len(line) - end :]


def lead(name: str, rest: str, *, width: int) -> str:
    """``name: rest`` within ``width``; the name is cut before the rest is, but eight columns of it stay."""
    sentence = clean(rest)
    return short(f"{short_name(name, max(8, width - len(sentence) - 2))}: {sentence}", width)


def some(names: Sequence[str], *, width: int) -> str:
    """As many of the names as fit into ``width`` columns, at least the first one, and how many more there are.

    Examples
    --------
    >>> some(["LHR", "JFK", "ORD", "DFW"], width=18)
    'LHR, JFK, 2 more'
    """
    told = ""
    for n, name in enumerate(names):
        left = len(names) - n - 1
        more = f", {left:,} more" if left else ""
        room = max(8, width - len(more))
        longer = f"{told}, {short_name(name)}" if told else short_name(name, min(_NAME_LENGTH, room))
        if told and len(longer) > room:
            return f"{told}, {left + 1:,} more"
        told = longer
    return told or "none"


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
