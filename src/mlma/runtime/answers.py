"""Answers of the operations in sentences: what was done, until when, and when the daemon obeys."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mlma.core.decisions import OverrideKind
from mlma.core.records import Lease, Override, Request

DAEMON_SILENT = timedelta(minutes=2)
"""Age of the daemon's heartbeat after which an answer says that no daemon is running."""

NAMED = 5
"""Streams that a sentence names before it counts the rest."""


def answer(body: str, lease: Lease | None, now: datetime, *, dry_run: bool) -> str:
    """Sentence about an order, and one about when it is obeyed."""
    if dry_run:
        return f"Dry run, nothing was written. It would be: {body}."
    runs = lease is not None and now - lease.heartbeat_at <= DAEMON_SILENT
    obeyed = (
        "The daemon obeys on its next tick." if runs else "No daemon is running: the next one obeys when it starts."
    )
    return f"{body[0].upper()}{body[1:]}. {obeyed}"


def listed(names: Sequence[str]) -> str:
    """Names in words, the first ones when there are many.

    Examples
    --------
    >>> listed(["ATL", "IAH"]), listed([f"S{i}" for i in range(94)])
    ('ATL, IAH', 'S0, S1, S2, S3 and 90 more')
    """
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1:,} more"


def in_words(time: datetime) -> str:
    """Time to the minute, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def period(override: Override) -> str:
    """Period of an override in words."""
    if override.kind is OverrideKind.EXCLUDE and override.ends_at is not None:
        return f"from {in_words(override.starts_at)} to {in_words(override.ends_at)}"
    return "for ever" if override.ends_at is None else f"until {in_words(override.ends_at)}"


def described(override: Override) -> str:
    """Override in a few words, with its id."""
    return f"override {override.id} ({override.kind} of {override.selection})"


def to_json(record: Override | Request, **more: str | datetime) -> str:
    """Record as JSON for the audit; an id that the store has yet to give is left out."""
    values: dict[str, Any] = {f.name: getattr(record, f.name) for f in fields(cast("Any", record))} | more
    if not record.id:
        del values["id"]
    return json.dumps(values, default=datetime.isoformat)
