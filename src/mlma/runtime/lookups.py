"""What operations look up before they write: streams by selection, the schedule, decisions that an order touches."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from mlma.core.errors import OperationError, UnknownStreamError
from mlma.core.overrides import excluded_span
from mlma.core.records import Decision, Override, Stream
from mlma.core.schedule import Schedule
from mlma.core.selection import Selection, parse
from mlma.core.settings import GROUP_PREFIX
from mlma.runtime.ports import ControlStore

NEAR = 5
"""Names that an error suggests."""


def find_stream(streams: Sequence[Stream], name: str) -> Stream:
    """Stream of a name.

    Raises
    ------
    UnknownStreamError
        No stream has this name; the message suggests near ones.
    """
    for stream in streams:
        if stream.name == name:
            return stream
    raise UnknownStreamError(f"there is no stream {name!r}{near(streams, name)}")


def stream_of(store: ControlStore, name: str) -> Stream:
    """Stream of a name, without reading the others. Raises UnknownStreamError as `find_stream` does."""
    return store.stream(name) or find_stream(store.streams(), name)


def near(streams: Sequence[Stream], name: str) -> str:
    """End of a sentence that suggests names like ``name``; case and small mistakes are forgiven."""
    by_folded: dict[str, str] = {}
    for stream in streams:
        by_folded.setdefault(stream.name.casefold(), stream.name)
    wanted = name.casefold()
    close = get_close_matches(wanted, by_folded, n=NEAR, cutoff=0.6)
    close += [folded for folded in by_folded if wanted and wanted in folded and folded not in close]
    if close:
        return "; did you mean " + ", ".join(by_folded[folded] for folded in close[:NEAR]) + "?"
    return f"; `mlma streams` lists all {len(streams):,}" if streams else "; the state has no streams yet"


def schedule_of(meta: Mapping[str, str]) -> Schedule:
    """Schedule that was fixed when the state was made.

    Raises
    ------
    OperationError
        The daemon has not fixed one yet.
    """
    try:
        return Schedule(
            anchor=datetime.fromisoformat(meta["anchor"]).astimezone(UTC),
            frequency=timedelta(seconds=float(meta["frequency_s"])),
            horizon=int(meta["horizon"]),
            batch=int(meta["batch"]),
            train_window=int(meta["train_window"]),
        )
    except KeyError as error:
        raise OperationError(f"the state has no {error.args[0]} yet: the daemon has not started on it") from error


def select_known(text: str, streams: Sequence[Stream]) -> tuple[Selection, list[Stream]]:
    """Streams that a selection names.

    Raises
    ------
    OperationError
        The selection cannot be read.
    UnknownStreamError
        It names no stream, or one of its names or globs matches none: a typing error must not pass in silence.
    """
    selection = parse(text)
    names = [stream.name for stream in streams]
    for glob in selection.globs:
        if not any(Selection(globs=(glob,)).matches(name, {}) for name in names):
            raise UnknownStreamError(f"no stream matches {glob!r}{_near(glob, names)}")
    chosen = selection.select(streams)
    if not chosen:
        labels = sorted({f"{key}={value}" for stream in streams for key, value in stream.labels.items()})
        wanted = " ".join(str(label) for label in selection.labels)
        raise UnknownStreamError(f"no stream matches {text!r}{_near(wanted, labels)}")
    return selection, chosen


def group_in(selection: str) -> str | None:
    """Name of the group that a selection means as a whole, ``group:NAME``; None when it means streams.

    Examples
    --------
    >>> group_in("group:north"), group_in("IAH,ATL"), group_in("group:a b")
    ('north', None, None)
    """
    name = selection.removeprefix(GROUP_PREFIX)
    return name if name and name != selection and name.isascii() and not set(name) & set(' ,"=*?[') else None


def known_group(meta: Mapping[str, str], name: str) -> str:
    """Group of that name, which the daemon of a state serves.

    Raises
    ------
    UnknownStreamError
        There is none; the message names those that there are.
    """
    known = json.loads(meta.get("groups", "[]"))
    if name not in known:
        there = f"those are: {', '.join(known)}" if known else "the daemon of this state serves none"
        raise UnknownStreamError(f"there is no group {name!r}; {there}")
    return name


def _near(word: str, names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(word.strip("*?").lower(), list(by_lower), n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(by_lower[name] for name in near) + "?"
    return f"; `mlma streams` lists the {len(names)} there are" if names else "; the state has no streams yet"


def decisions_touched(store: ControlStore, override: Override, streams: Sequence[Stream]) -> tuple[Decision, ...]:
    """Past decisions on batches that an exclusion touches, newest first."""
    schedule, cursor = schedule_of(store.meta()), store.cursor()
    first, last = excluded_span(override, schedule)
    if cursor is None or last < first:
        return ()
    batches = range(max(0, schedule.batch_of(first)), min(cursor, schedule.batch_of(last)) + 1)
    if len(streams) <= len(batches):  # the fewer questions of the two
        found = [d for stream in streams for d in store.decisions(stream_id=stream.id) if d.batch in batches]
    else:
        wanted = {stream.id for stream in streams}
        found = [d for batch in batches for d in store.decisions(batch=batch) if d.stream_id in wanted]
    return tuple(sorted(found, key=lambda d: (-d.batch, -d.decided_at.timestamp(), d.stream_id)))
