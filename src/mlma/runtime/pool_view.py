"""What `mlma versions` shows: every version of a stream and every other member of its pool. Pure reading."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mlma.core.decisions import Action, EffectStatus, Hold, Phase, Reason, Role
from mlma.core.life_table import FINAL, State
from mlma.core.records import NAIVE, Decision, Effect, GroupTraining, Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.core.settings import GROUP_PREFIX, Serve
from mlma.core.version_state import is_watched, state_of
from mlma.models.external import version_name
from mlma.runtime.group_view import serving_of
from mlma.runtime.ports import ControlStore, History
from mlma.runtime.seats import Seats, left_after, seats_of

NAN = float("nan")
_VERSION = re.compile(r"\d+-\d+-\d+")


class Kind(StrEnum):
    """Kinds of members."""

    NAIVE = "naive"  # seasonal naive
    EVERGREEN = "evergreen"  # refitted after every batch
    GROUP = "group"  # the model of a group of streams
    VERSION = "version"  # trained


def kind_of(member: str) -> Kind:
    """Kind of a member by its name.

    Examples
    --------
    >>> [str(kind_of(name)) for name in ("naive", "median", "group:all", "17-40-0")]
    ['naive', 'evergreen', 'group', 'version']
    """
    if member == NAIVE:
        return Kind.NAIVE
    if member.startswith(GROUP_PREFIX):
        return Kind.GROUP
    return Kind.VERSION if _VERSION.fullmatch(member) else Kind.EVERGREEN


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """One version, or one other member of a pool; NaN and None where a number does not exist.

    Attributes
    ----------
    member
        Id of the version, or name of the member.
    state
        Of a version; None for the members that are always there.
    age
        Closed batches since its training.
    recent
        Its recent loss relative to that of the best member.
    weight
        In the newest forecasts; NaN while it is not weighed yet, and for those that do not forecast.
    n_served
        Lines of the ledger.
    came, went
        Why it was trained and took part, and why it does not any more; empty where there is nothing to say.
    """

    member: str
    kind: Kind
    state: State | None
    serves: bool
    age: int | None
    trained_at: datetime | None
    batch: int | None
    n_rows: int | None
    fit_cpu_s: float
    recent: float
    weight: float
    n_served: int
    came: str
    went: str
    version: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPool:
    """Every version of a stream, and the other members of its pool; versions in order of training, oldest first."""

    stream: Stream
    serves: str
    rows: tuple[MemberRow, ...]


def is_on_probation(serving: Serving, cursor: int | None, meta: Mapping[str, str]) -> bool:
    """Whether a version that serves alone came to serve so late that it is still watched."""
    if cursor is None or meta.get("serve") != Serve.CHAMPION:
        return False
    return is_watched(cursor - serving.batch)


def stream_pool(
    store: ControlStore, history: History, schedule: Schedule, stream: Stream, *, n_shards: int
) -> StreamPool:
    """Versions and other members of one stream's pool."""
    cursor = store.cursor()
    servings, versions = store.servings(stream_id=stream.id), store.versions(stream_id=stream.id)
    decisions = store.decisions(stream_id=stream.id, exceptions_only=True)
    seats = seats_of(history, schedule, stream, servings, versions, cursor=cursor, shard=stream.id % n_shards)
    serves = servings[-1].version_id if servings else NAIVE
    waiting = _held(decisions)
    served = Counter(serving.version_id for serving in servings)
    on_probation = bool(servings) and is_on_probation(servings[-1], cursor, store.meta())
    of_groups = store.group_trainings()
    rows = [_member(name, seats, of_groups, cursor) for name in seats.weight if kind_of(name) is not Kind.VERSION]
    for version in versions:
        is_seated = version.id in seats.weight
        state = state_of(
            version, serves=serves, seated=is_seated, waits=version.id in waiting, on_probation=on_probation
        )
        went = waiting.get(version.id, "") if state is State.CANDIDATE else ""
        if state in FINAL:
            left = left_after(history, stream, version, cursor=cursor) if state is State.RETIRED else None
            went = why_it_went(version, servings, decisions, left=left)
        rows.append(
            MemberRow(
                member=version.id, kind=Kind.VERSION, state=state, serves=version.id == serves,
                age=None if cursor is None else cursor - version.batch, trained_at=version.trained_at,
                batch=version.batch, n_rows=version.n_rows, fit_cpu_s=version.fit_cpu_s,
                recent=seats.relative(version.id), weight=seats.weight.get(version.id, NAN),
                n_served=served[version.id], came=why_it_came(version, decisions), went=went, version=version,
            )
        )  # fmt: skip
    rows += [_candidate(effect) for effect in _ordered(store, stream)]
    rows += [_failure(decision) for decision in decisions[::-1] if decision.reason is Reason.TRAINING_FAILED]
    return StreamPool(stream=stream, serves=serves, rows=tuple(rows))


def _member(name: str, seats: Seats, of_groups: Sequence[GroupTraining], cursor: int | None) -> MemberRow:
    """Row of a member that needs no training of the stream."""
    row = _row(name, kind_of(name), recent=seats.relative(name), weight=seats.weight[name])
    training = serving_of(of_groups, name)
    if training is None:
        return row
    return replace(
        row,
        age=None if cursor is None else cursor - training.batch,
        trained_at=training.finished_at,
        batch=training.batch,
        n_rows=training.n_rows,
        fit_cpu_s=NAN if training.cpu_s is None else training.cpu_s,
        came=f"{training.reason}, for {training.n_streams:,} streams",
    )


def _row(
    member: str,
    kind: Kind,
    *,
    state: State | None = None,
    batch: int | None = None,
    recent: float = NAN,
    weight: float = NAN,
    came: str = "",
    went: str = "",
) -> MemberRow:
    return MemberRow(
        member=member, kind=kind, state=state, serves=False, age=None, trained_at=None, batch=batch, n_rows=None,
        fit_cpu_s=NAN, recent=recent, weight=weight, n_served=0, came=came, went=went, version=None,
    )  # fmt: skip


def _ordered(store: ControlStore, stream: Stream) -> list[Effect]:
    """Trainings of a stream that are under way or wait."""
    unfinished = (EffectStatus.PENDING, EffectStatus.WAITING)
    return [e for status in unfinished for e in store.effects(status=status) if e.stream_id == stream.id]


def _candidate(effect: Effect) -> MemberRow:
    name = effect.id.partition("-")[2]
    return _row(name, Kind.VERSION, state=State.CANDIDATE, batch=effect.batch, came=f"{effect.reason}, {effect.status}")


def _failure(decision: Decision) -> MemberRow:
    return _row(
        decision.version_id, Kind.VERSION, state=State.FAILED, batch=decision.batch,
        went=f"no candidate came out of the training: {decision.note}",
    )  # fmt: skip


def _held(decisions: Sequence[Decision]) -> Mapping[str, str]:
    """Candidates that an override keeps from serving, with what holds them, by id."""
    return {
        d.version_id: f"waits: the stream is {d.held_by}"
        for d in decisions
        if d.phase is Phase.PROMOTION and d.held_by is not Hold.NOTHING
    }


def why_it_came(version: Version, decisions: Sequence[Decision]) -> str:
    """Reason of the training, the one by which its version took part, and its name where it forecasts elsewhere.

    Parameters
    ----------
    decisions
        Of the stream, newest first, without plain keeps.
    """
    trains = {Action.TRAIN, Action.RETRAIN}
    ordered = next((d.reason for d in decisions if d.batch <= version.batch and d.action in trains), None)
    mine = [d for d in decisions if d.version_id == version.id and d.phase is Phase.PROMOTION]
    took_part = next((d.reason for d in mine if d.reason is not Reason.NOT_BETTER), None)
    name = version_name(version.family)
    why = ", ".join(str(reason) for reason in (ordered, took_part) if reason is not None)
    return why if name is None else f"{why} as {name}".strip()


def why_it_went(
    version: Version, servings: Sequence[Serving], decisions: Sequence[Decision], *, left: int | None
) -> str:
    """Why a version does not forecast any more, in one sentence.

    Parameters
    ----------
    servings
        Ledger of the stream.
    decisions
        Of the stream, newest first, without plain keeps.
    left
        The last batch after which it had a seat; None when that is not known.
    """
    if version.role is Role.REJECTED:
        lost = next((d for d in decisions if d.version_id == version.id and d.reason is Reason.NOT_BETTER), None)
        return f"lost its comparison: {lost.note}" if lost and lost.note else "lost its comparison"
    undone = [d for d in decisions if d.action is Action.ROLL_BACK]
    if version.role is Role.TAKEN_BACK:
        by = next((d for d in undone if d.reason is Reason.BACK_TO_TIME and d.batch >= version.batch), None)
        return f"an engineer went back to a time before it came: {by.note}" if by else "an engineer went back"
    last = max((row for row, serving in enumerate(servings) if serving.version_id == version.id), default=-1)
    after = servings[last + 1] if 0 <= last < len(servings) - 1 else None
    if after is not None and after.reason is Reason.REQUESTED:
        by = min(undone, key=lambda d: abs(d.decided_at - after.at), default=None)
        return f"rolled back: {by.note}" if by else "rolled back by an engineer"
    when = "" if left is None else f" after batch {left}"
    why = "a newer version took its seat"
    if version_name(version.family) is not None:
        why += ", or its forecasts did not come any more"
    return f"left the pool{when}: {why}"
