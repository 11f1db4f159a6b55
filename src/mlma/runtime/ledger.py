"""The ledger read back: which version served a stream at a time, since when, why, and who decided it. Pure reading.

Times are event time: the version that served a slot is the one that serves at the origin of the slot's forecast.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np

from mlma.core.blocks import MemberBlock
from mlma.core.decisions import Action, Phase, Reason, Role
from mlma.core.records import NAIVE, Decision, GroupTraining, Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.runtime.group_view import serving_of
from mlma.runtime.ports import ControlStore, History

FEW = 16
"""Streams that are asked for one by one; for more, a table is read once."""

AGENT = "mlma"
"""Who decided, when no engineer did."""

R = TypeVar("R", Serving, Version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One member of a pool and its weight in what was served."""

    member: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the ledger in words.

    Attributes
    ----------
    version_id
        `naive` before the first version.
    since, until
        Event time of the first slot that it served, and of the first that the next one served; None: from the
        beginning, and until now.
    batch
        The last batch closed when it came to serve; None for seasonal naive.
    decided_at, decided_by
        Wall time, and `mlma` or the engineer who asked for it.
    note
        What the decision says about itself.
    """

    stream: str
    version_id: str
    since: datetime | None
    until: datetime | None
    batch: int | None
    reason: Reason
    decided_at: datetime | None
    decided_by: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What served one stream at a time.

    Attributes
    ----------
    at, issued_at
        The slot that was asked for, and the origin of its forecast; event time.
    weights
        Members with weight in the forecast of that slot, the heaviest first; empty when it has not been issued, or
        is not kept any more.
    stood_in
        The version gave no forecast for the slot, others did.
    """

    line: Line
    at: datetime
    issued_at: datetime
    weights: tuple[Weighed, ...]
    stood_in: bool


def origin_of(schedule: Schedule, time: datetime) -> int:
    """Origin, as a slot, of the forecast for the slot that contains a time."""
    return schedule.slot_at(time) // schedule.horizon * schedule.horizon


def present(store: ControlStore, schedule: Schedule, now: datetime) -> datetime:
    """Event time reached: the end of the last closed batch; ``now`` before the first."""
    cursor = store.cursor()
    return now if cursor is None else schedule.time_of(schedule.origin_after(cursor))


def of_streams(read: Callable[..., list[R]], streams: Sequence[Stream]) -> dict[int, list[R]]:
    """Rows of some streams by stream id, each list in the order of the store.

    Parameters
    ----------
    read
        `ControlStore.servings` or `ControlStore.versions`.
    """
    if len(streams) <= FEW:
        return {stream.id: read(stream_id=stream.id) for stream in streams}
    found: dict[int, list[R]] = defaultdict(list)
    wanted = {stream.id for stream in streams}
    for row in read():
        if row.stream_id in wanted:
            found[row.stream_id].append(row)
    return {stream.id: found[stream.id] for stream in streams}


def serving_at(servings: Sequence[Serving], origin: int) -> Serving | None:
    """Line of one stream's ledger that counts at an origin; None while seasonal naive serves.

    Of two lines with the same origin the later one counts.
    """
    return next((serving for serving in reversed(servings) if serving.origin <= origin), None)


def came_after(versions: Sequence[Version], servings: Sequence[Serving], origin: int, schedule: Schedule) -> set[str]:
    """Versions of one stream that took no part at an origin yet, and might take part now; by id.

    One that served came when it first served, any other one when its training could at the earliest be used.
    """
    first: dict[str, int] = {}
    for serving in servings:
        first[serving.version_id] = min(serving.origin, first.get(serving.version_id, serving.origin))
    return {
        version.id
        for version in versions
        if version.role not in {Role.REJECTED, Role.TAKEN_BACK}
        and first.get(version.id, schedule.origin_after(version.batch)) > origin
    }


def lines(
    store: ControlStore,
    schedule: Schedule,
    streams: Sequence[Stream],
    *,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Line]:
    """Lines of the ledgers of some streams, in the order in which they were decided.

    Parameters
    ----------
    since
        Leaves out what had been replaced by this event time.
    limit
        The newest lines at most.
    """
    servings = of_streams(store.servings, streams)
    chosen = [(s, stream) for stream in streams for s in _since(servings[stream.id], schedule, since)]
    chosen.sort(key=lambda pair: (pair[0].at, pair[0].stream_id))
    kept = chosen if limit is None else chosen[-limit:]
    return [_line(store, schedule, stream, servings[stream.id], serving) for serving, stream in kept]


def at(
    store: ControlStore, schedule: Schedule, streams: Sequence[Stream], time: datetime, *, limit: int | None = None
) -> list[Line]:
    """Line that counts at a time, for each stream, or for the first ``limit`` ones."""
    origin, streams = origin_of(schedule, time), streams[:limit]
    servings = of_streams(store.servings, streams)
    return [
        _line(store, schedule, stream, servings[stream.id], serving_at(servings[stream.id], origin))
        for stream in streams
    ]


def served(
    store: ControlStore, history: History | None, schedule: Schedule, stream: Stream, time: datetime, *, shard: int
) -> Served:
    """What served one stream at a time, with the weights that its forecast was made with."""
    (line,) = at(store, schedule, [stream], time)
    slot, origin = schedule.slot_at(time), origin_of(schedule, time)
    block = None if history is None else _members(history, schedule, stream, origin, shard=shard)
    weights: tuple[Weighed, ...] = ()
    stood_in = False
    if block is not None:
        of_groups = store.group_trainings()
        weights = tuple(
            Weighed(member=_named(block.members[block.member[row]], of_groups, origin), weight=float(block.weight[row]))
            for row in np.argsort(-block.weight, kind="stable")
            if block.weight[row] > 0
        )
        mine = [row for row, code in enumerate(block.member) if block.members[code] == line.version_id]
        stood_in = bool(mine) and not np.isfinite(block.forecast[mine[0], slot - block.origin_first])
    return Served(
        line=line,
        at=schedule.time_of(slot),
        issued_at=schedule.time_of(origin),
        weights=weights,
        stood_in=stood_in,
    )


def _named(member: str, of_groups: Sequence[GroupTraining], origin: int) -> str:
    """Name of a member; of the model of a group, the id of the training that it came of."""
    training = serving_of(of_groups, member, origin=origin)
    return member if training is None else training.id


def _members(history: History, schedule: Schedule, stream: Stream, origin: int, *, shard: int) -> MemberBlock | None:
    """Block in which the forecasts of an origin were recorded, cut to one stream."""
    batch = schedule.batch_of(origin)
    first, last = schedule.first_slot(batch), schedule.origin_after(batch) - 1
    blocks = history.members(shard, first_origin=first, last_origin=last, stream_id=stream.id)
    found = [block for block in blocks if block.origin_first <= origin <= block.origin_last and len(block.seat)]
    return found[-1] if found else None


def _since(servings: Sequence[Serving], schedule: Schedule, since: datetime | None) -> Sequence[Serving]:
    if since is None:
        return servings
    counts = serving_at(servings, origin_of(schedule, since))
    return servings[0 if counts is None else servings.index(counts) :]


def _line(
    store: ControlStore, schedule: Schedule, stream: Stream, servings: Sequence[Serving], found: Serving | None
) -> Line:
    later = servings if found is None else servings[servings.index(found) + 1 :]
    following = schedule.time_of(later[0].origin) if later else None
    if found is None:
        return Line(
            stream=stream.name, version_id=NAIVE, since=None, until=following, batch=None, reason=Reason.NO_VERSION,
            decided_at=None, decided_by=AGENT, note="",
        )  # fmt: skip
    decision = _decision(store, found)
    return Line(
        stream=stream.name,
        version_id=found.version_id,
        since=schedule.time_of(found.origin),
        until=following,
        batch=found.batch,
        reason=found.reason,
        decided_at=found.at,
        decided_by=author_of(decision) or AGENT,
        note=decision.note if decision else "",
    )


def _decision(store: ControlStore, serving: Serving) -> Decision | None:
    """Decision that made a version serve: of the batch that was closed then, or of the one it was trained after."""
    made = {Action.PROMOTE, Action.ROLL_BACK}
    trained_after = int(serving.version_id.split("-")[1])
    for batch in dict.fromkeys((serving.batch, serving.batch - 1, trained_after)):
        near = [
            decision
            for decision in store.decisions(stream_id=serving.stream_id, batch=batch)
            if decision.version_id == serving.version_id and decision.action in made
        ]
        if near:
            return min(near, key=lambda decision: abs(decision.decided_at - serving.at))
    return None


def author_of(decision: Decision | None) -> str:
    """Engineer whose request a decision obeyed; empty when there was none.

    Examples
    --------
    >>> author_of(None)
    ''
    """
    if decision is None or decision.phase is not Phase.REQUEST:
        return ""
    found = re.match(r"request \d+ by (?P<author>.+?): ", decision.note)
    return found["author"] if found else ""
