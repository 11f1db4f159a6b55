"""A digest as plain text of at most `MAX_LINES` lines of `WIDTH` columns, and as JSON."""

import json
from dataclasses import asdict
from datetime import datetime

from mlma.core.digest_parts import Digest, Section
from mlma.core.digest_words import WIDTH, minute

MAX_LINES = 40
"""Lines of a digest at most, whatever the fleet: what a terminal and a phone show as one page."""

_INDENT = " " * 10


def render(digest: Digest) -> str:
    """Plain text of a digest: every section is there, an empty one says ``none``."""
    lines = [
        f"mlma digest, {minute(digest.since)} to {minute(digest.until)} UTC",
        digest.scope,
        *_section("HEALED", digest.healed),
        "",
        *_section("PENDING", digest.pending),
        "",
        *_section("NEEDS YOU", digest.needs_you),
        "",
        *_section("INCIDENTS", digest.incidents),
        "",
        _row("POOL", digest.pool),
        _row("COST", digest.cost),
        _row("HONESTY", digest.honesty[0]),
        *(_INDENT + line for line in digest.honesty[1:]),
        _row("DATA", digest.files),
        _row("ORDERS", digest.orders),
        _row("LEFT OUT", digest.suppressed),
        _row("HEARTBEAT", digest.heartbeat[0]),
        _INDENT + digest.heartbeat[1],
    ]
    return "\n".join(_cut(line) for line in lines) + "\n"


def _section(heading: str, section: Section) -> list[str]:
    lines = [_row(heading, section.summary)]
    for number, entry in enumerate(section.entries, start=1):
        lines.append(f"  {number}. {entry.text}")
        if entry.command:
            lines.append(f"     {entry.command}")
    return lines


def _row(heading: str, text: str) -> str:
    return f"{heading:<{len(_INDENT)}}{text}"


def _cut(line: str) -> str:
    """Cut a line that does not fit; blanks are kept."""
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def to_json(digest: Digest) -> str:
    """Digest as JSON text: the same content as the page, times in ISO 8601, sections with their counts."""
    return json.dumps(asdict(digest), default=_plain, allow_nan=False, ensure_ascii=False)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here")
