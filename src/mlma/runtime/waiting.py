"""Trainings that wait for the budget: who, why, since when, and when they are expected to start."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlma.core.decisions import EffectStatus, Reason
from mlma.core.records import Effect, GroupTraining
from mlma.core.schedule import Schedule
from mlma.runtime.explain_words import minute, start_words
from mlma.runtime.ports import ControlStore


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTraining:
    """A training that waits for the budget, for status pages.

    Attributes
    ----------
    name
        Of the stream; of a group ``group:`` and its name.
    batch
        After which it was ordered.
    since, starts_at
        Event times: of the order, and at which it is expected to start; None where nobody knows (groups).
    lapses_at
        Event time at which it gives up, None where the state does not say.
    """

    name: str
    reason: Reason
    batch: int
    since: datetime
    starts_at: datetime | None
    lapses_at: datetime | None = None


def lapses_at(batch: int, schedule: Schedule, meta: Mapping[str, str]) -> datetime | None:
    """Event time at which a training that was ordered after a batch gives up waiting; None in a state of before."""
    if "budget_patience" not in meta:
        return None
    return schedule.time_of(schedule.origin_after(batch + int(meta["budget_patience"]) + 1))


def waiting(store: ControlStore, schedule: Schedule) -> list[WaitingTraining]:
    """Trainings that wait for the budget, the first to start first."""
    streams, meta = store.streams(), store.meta()

    def found(name: str, training: Effect | GroupTraining, starts_at: datetime | None) -> WaitingTraining:
        since = schedule.time_of(schedule.origin_after(training.batch))
        return WaitingTraining(
            name=name, reason=training.reason, batch=training.batch, since=since, starts_at=starts_at,
            lapses_at=lapses_at(training.batch, schedule, meta),
        )  # fmt: skip

    queue = [found(streams[e.stream_id].name, e, e.starts_at) for e in store.effects(status=EffectStatus.WAITING)]
    queue += [
        found(f"group:{one.name}", one, None) for one in store.group_trainings() if one.status is EffectStatus.WAITING
    ]
    return sorted(queue, key=lambda one: (one.starts_at or one.since, one.since, one.name))


def waiting_words(training: WaitingTraining) -> str:
    """One line of a status page.

    Examples
    --------
    >>> from datetime import UTC
    >>> since, starts_at = datetime(2001, 3, 3, tzinfo=UTC), datetime(2001, 3, 5, tzinfo=UTC)
    >>> waiting_words(WaitingTraining(name="klax", reason=Reason.DEBT, batch=41, since=since, starts_at=starts_at))
    'klax: debt after batch 41, waits since 2001-03-03 00:00, expected to start 2001-03-05 00:00 of event time'
    """
    start = start_words(training.starts_at, training.lapses_at)
    return (
        f"{training.name}: {training.reason} after batch {training.batch}, waits since {minute(training.since)}{start}"
    )
