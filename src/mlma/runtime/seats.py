"""Who sits in one stream's pool now: recent losses after the last batch, weights in the newest forecasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlma.core.decisions import Role
from mlma.core.records import Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.runtime.ports import History

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seats:
    """Members of one pool by name.

    Attributes
    ----------
    weight
        In the newest forecasts, in order of the seats; NaN for a version that came since.
    recent
        Recent losses after the last closed batch.
    """

    weight: Mapping[str, float]
    recent: Mapping[str, float]

    def relative(self, member: str) -> float:
        """Recent loss relative to that of the best member; NaN without one.

        Examples
        --------
        >>> Seats(weight={}, recent={"naive": 3.0, "median": 2.0}).relative("naive")
        1.5
        """
        known = [loss for loss in self.recent.values() if loss > 0]
        return self.recent.get(member, NAN) / min(known) if known else NAN


def seats_of(
    history: History,
    schedule: Schedule,
    stream: Stream,
    servings: Sequence[Serving],
    versions: Sequence[Version],
    *,
    cursor: int | None,
    shard: int,
) -> Seats:
    """Pool of one stream as it is now.

    Notes
    -----
    What was recorded last counts: the newest forecasts since the last batch, or the pool as that batch left it, and
    who came or was taken back since.
    """
    block = None if cursor is None else history.pool(cursor, stream_id=stream.id)
    if cursor is None or block is None:
        return Seats(weight={}, recent={})
    first = schedule.origin_after(cursor)
    issued = history.members(shard, first_origin=first, last_origin=first + schedule.batch - 1, stream_id=stream.id)
    members = [block.members[code] for code in block.member]
    recent = dict(zip(members, block.recent.tolist(), strict=True))
    weight = dict(zip(members, block.weight.tolist(), strict=True))
    newest = first - 1
    if issued and len(issued[-1].seat):
        last = issued[-1]
        weight = dict(zip((last.members[code] for code in last.member), last.weight.tolist(), strict=True))
        newest = last.origin_last
    for serving in servings:
        if serving.origin > newest:
            weight.setdefault(serving.version_id, NAN)
    for version in versions:
        if version.role is Role.TAKEN_BACK:
            weight.pop(version.id, None)
    return Seats(weight=weight, recent=recent)


def left_after(history: History, stream: Stream, version: Version, *, cursor: int | None) -> int | None:
    """Return the last batch after which a version had a seat, None when it never had one that was recorded.

    Found by halving: a version sits in one run of batches, from the first one closed after it came.
    """
    if cursor is None or not _sat(history, stream, version, version.batch + 1):
        return None
    seated, gone = version.batch + 1, cursor + 1
    while gone - seated > 1:
        middle = (seated + gone) // 2
        if _sat(history, stream, version, middle):
            seated = middle
        else:
            gone = middle
    return seated


def _sat(history: History, stream: Stream, version: Version, batch: int) -> bool:
    block = history.pool(batch, stream_id=stream.id)
    return block is not None and version.id in {block.members[code] for code in block.member.tolist()}
