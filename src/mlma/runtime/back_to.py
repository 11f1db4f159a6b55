"""A rollback to a time: which version served then, what came after it, and whether there is anything to do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from mlma.core.decisions import Hold
from mlma.core.records import Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.runtime import ledger
from mlma.runtime.answers import in_words, listed
from mlma.runtime.ports import ControlStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What going back means for one stream.

    Attributes
    ----------
    target
        Version that served then; None when seasonal naive did.
    is_change
        Another version serves now.
    taken_back
        Versions that came later: they leave the pool.
    held_by
        Why nothing is done.
    """

    target: Version | None
    is_change: bool
    taken_back: tuple[Version, ...]
    held_by: Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The ledgers and versions of some streams, and the origin to go back to.

    Everything is read from what is recorded, so that obeying twice is obeying once, also after a restart.
    """

    schedule: Schedule
    origin: int
    servings: Mapping[int, Sequence[Serving]]
    versions: Mapping[int, Sequence[Version]]

    @classmethod
    def read(cls, store: ControlStore, schedule: Schedule, streams: Sequence[Stream], time: datetime) -> Self:
        """Past of some streams as the store has it."""
        return cls(
            schedule=schedule,
            origin=ledger.origin_of(schedule, time),
            servings=ledger.of_streams(store.servings, streams),
            versions=ledger.of_streams(store.versions, streams),
        )

    def step(self, stream_id: int, champion: Version | None) -> Step:
        """What going back means for one stream, whose champion is ``champion``."""
        servings, versions = self.servings[stream_id], self.versions[stream_id]
        then = ledger.serving_at(servings, self.origin)
        if then is None:
            return Step(target=None, is_change=False, taken_back=(), held_by=Hold.NO_FORMER_CHAMPION)
        (target,) = (version for version in versions if version.id == then.version_id)
        later = ledger.came_after(versions, servings, self.origin, self.schedule)
        taken_back = tuple(version for version in versions if version.id in later)
        is_change = champion is None or champion.id != target.id
        held_by = Hold.NOTHING if is_change or taken_back else Hold.NOTHING_TO_CHANGE
        return Step(target=target, is_change=is_change, taken_back=taken_back, held_by=held_by)


def going_back(store: ControlStore, schedule: Schedule, streams: Sequence[Stream], time: datetime) -> str:
    """Part of a sentence: what going back to a time would change now."""
    past = Past.read(store, schedule, streams, time)
    changes, counts = [], Counter[Hold]()
    for stream in streams:
        serving = past.servings[stream.id]
        now = serving[-1].version_id if serving else ""
        champion = next((version for version in past.versions[stream.id] if version.id == now), None)
        step = past.step(stream.id, champion)
        counts[step.held_by] += 1
        if step.target is not None and step.held_by is Hold.NOTHING:
            changes.append(f"{stream.name} to {step.target.id}")
    body = f"bring back what served {listed([stream.name for stream in streams])} at {in_words(time)}: "
    body += f"{len(changes):,} of {len(streams):,} streams would change"
    body += f" ({listed(changes)})" if changes else ""
    same, without = counts[Hold.NOTHING_TO_CHANGE], counts[Hold.NO_FORMER_CHAMPION]
    body += f", {same:,} served as now" if same else ""
    return body + (f", {without:,} had no version then" if without else "")
