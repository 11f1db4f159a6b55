"""What replays did around dated events: who was trained, who served, and what it cost.

Everything is read off the ledger and the history of finished replays, as an engineer could; see `benchmarks.storms`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.decisions import EffectKind
from mlma.core.records import Effect
from mlma.core.robust import wild
from mlma.core.schedule import Schedule
from mlma.core.suspicion import faults
from mlma.models.features import Features
from mlma.runtime.replay_tally import Tally

AFTER = timedelta(days=14)
"""How long after an event its versions are looked for, and excess loss is counted."""

LATER_BATCHES = 2
"""Batches after an event in which a training still counts as one of the event."""

EXCESS = 1.1
"""Served loss over the best version's at which a batch counts as one of excess loss."""

FLAGGED_SHARE = 0.05
"""Share of a batch's slots with a fault above which nothing should be trained after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A dated event and the streams that it struck; times aware."""

    name: str
    start: datetime
    end: datetime
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterEvent:
    """What one policy did in and after one event."""

    event: str
    policy: str
    streams: int
    trainings: int  # ordered in the event and in the two batches after
    reasons: Mapping[str, int]
    looked_at: str  # day at which the weights were read
    storm_weight: float  # of the versions of these trainings then, mean over the streams
    storm_serves: int  # streams where they weigh more than one half
    excess_days_after: float  # a stream and fortnight
    excess_days_before: float
    serving: Mapping[str, str] = field(default_factory=dict)  # by stream: the member with most weight, and the weight


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderFaults:
    """What one policy did about flagged values."""

    policy: str
    flagged_rows: int  # in the data
    admitted_rows: int  # of these, not refused
    flagged_batches: int  # scored, with more than 5 % of the stream's slots flagged
    trainings: int
    trainings_at: Mapping[str, int]  # ordered after such a batch, by reason
    trainings_next: Mapping[str, int]  # ordered after the batch that follows one, by reason
    learned_rows: int  # flagged values that some training had as a target
    learned_times: int  # the same, once for each training
    relative_loss: float  # to always, mean over streams; NaN without it


@dataclass(frozen=True)
class Run:
    """A finished replay of one policy, by stream and batch."""

    tally: Tally

    @property
    def first(self) -> int:
        """The first scored batch."""
        return self.tally.batches[0]

    @property
    def last(self) -> int:
        """The last scored batch."""
        return self.tally.batches[-1]

    @property
    def ids(self) -> Mapping[str, int]:
        """Stream ids by name."""
        return self.tally.engine.fleet.ids

    def batch_at(self, time: datetime) -> int:
        """Batch in which a time lies."""
        schedule = self.tally.engine.settings.schedule
        return schedule.batch_of(schedule.slot_at(time))

    def served(self) -> Floats:
        """Mean served loss, shape (streams, batches); NaN where nothing was scored."""
        n = self.tally.counts().astype(np.float64)
        return np.divide(self.tally.losses(), n, out=np.full(n.shape, np.nan), where=n > 0)

    def best_version(self) -> Floats:
        """Smallest mean loss of a trained version in the pool, shape (streams, batches); NaN where there is none."""
        made = np.full((self.tally.n_streams, len(self.tally.batches)), np.inf)
        for column, batch in enumerate(self.tally.batches):
            block = self.tally.engine.history.pool(batch)
            assert block is not None
            own = np.asarray([is_version(name) for name in block.members], dtype=np.bool_)[block.member]
            own &= np.isfinite(block.loss)
            np.minimum.at(made[:, column], block.stream_id[own], block.loss[own])
        return np.where(np.isfinite(made), made, np.nan)

    def trainings(self) -> list[Effect]:
        """Trainings that were ordered."""
        return [effect for effect in self.tally.engine.store.effects() if effect.kind is EffectKind.TRAIN]

    def weights(self, stream_id: int, batch: int) -> dict[str, float]:
        """Weights of the members of a pool after a batch, by name."""
        block = self.tally.engine.history.pool(batch, stream_id=stream_id)
        if block is None:
            return {}
        return {block.members[member]: float(weight) for member, weight in zip(block.member, block.weight, strict=True)}


def is_version(member: str) -> bool:
    """Whether a member of a pool was trained: its name is made of stream, batch and a count.

    Examples
    --------
    >>> is_version("3-12-0"), is_version("naive"), is_version("slot_ridge")
    (True, False, False)
    """
    return all(part.isdigit() for part in member.split("-"))


def hindsight(runs: Sequence[Run]) -> Floats:
    """The best version of all pools of all policies, shape (streams, batches)."""
    found = np.stack([np.nan_to_num(run.best_version(), nan=np.inf) for run in runs]).min(axis=0)
    return np.where(np.isfinite(found), found, np.nan)


def after_event(run: Run, event: Event, best: Floats) -> AfterEvent:
    """What a policy did in an event and in the fortnight after it.

    Parameters
    ----------
    best
        See `hindsight`.
    """
    began, over = run.batch_at(event.start), run.batch_at(event.end)
    until = min(run.last, max(run.batch_at(event.end + AFTER), run.first))
    ids = [run.ids[name] for name in event.streams]
    ordered = [
        effect
        for effect in run.trainings()
        if effect.stream_id in ids and began <= effect.batch <= over + LATER_BATCHES
    ]
    storm = {effect.id.removeprefix(f"{EffectKind.TRAIN}-") for effect in ordered}
    weights = {name: run.weights(run.ids[name], until) for name in event.streams}
    shares = [sum(weight for member, weight in found.items() if member in storm) for found in weights.values()]
    before = range(max(run.first, began - (until - over)), began)
    schedule = run.tally.engine.settings.schedule
    return AfterEvent(
        event=event.name,
        policy=run.tally.name,
        streams=len(ids),
        trainings=len(ordered),
        reasons=_counted(ordered),
        looked_at=f"{schedule.time_of(schedule.origin_after(until)):%Y-%m-%d}",
        storm_weight=float(np.mean(shares)),
        storm_serves=int(np.sum(np.asarray(shares) > 0.5)),
        excess_days_after=_excess_days(run, ids, range(max(over + 1, run.first), until + 1), best),
        excess_days_before=_excess_days(run, ids, before, best),
        serving={name: _most(found) for name, found in weights.items() if found},
    )


def _most(weights: Mapping[str, float]) -> str:
    member = max(weights, key=lambda name: weights[name])
    return f"{member} at {weights[member]:.2f}"


def _excess_days(run: Run, ids: Sequence[int], batches: range, best: Floats) -> float:
    """Days of excess loss a stream and fortnight; NaN when nothing was scored."""
    columns = [batch - run.first for batch in batches]
    served, least = run.served()[np.ix_(ids, columns)], best[np.ix_(ids, columns)]
    known = np.isfinite(served) & np.isfinite(least)
    if not known.any():
        return float("nan")
    return float(np.mean((served > EXCESS * least)[known])) * AFTER.days


def under_faults(run: Run, flagged: Mapping[str, NDArray[np.datetime64]], always: Run | None) -> UnderFaults:
    """What a policy did about flagged values.

    Parameters
    ----------
    flagged
        Times of the flagged values of each stream, UTC.
    """
    schedule = run.tally.engine.settings.schedule
    anchor = schedule.times_of(np.zeros(1, dtype=np.int64))[0]
    step = np.timedelta64(schedule.frequency // timedelta(microseconds=1), "us")
    slots = {run.ids[name]: (times.astype("M8[us]") - anchor) // step for name, times in flagged.items()}
    values = {stream: observed(run, stream) for stream in slots}
    admitted = {stream: np.intersect1d(at, np.flatnonzero(np.isfinite(values[stream]))) for stream, at in slots.items()}
    full = {
        (stream, int(batch))
        for stream, at in slots.items()
        for batch, n in zip(*np.unique(at // schedule.batch, return_counts=True), strict=True)
        if n > FLAGGED_SHARE * schedule.batch and batch >= run.first
    }
    trainings = run.trainings()
    learned: dict[int, list[Ints]] = {stream: [] for stream in slots}
    for effect in trainings:
        if effect.stream_id in slots:
            targets = _targets(schedule, values[effect.stream_id], effect.batch)
            learned[effect.stream_id].append(np.intersect1d(admitted[effect.stream_id], targets))
    return UnderFaults(
        policy=run.tally.name,
        flagged_rows=sum(len(at) for at in slots.values()),
        admitted_rows=sum(len(at) for at in admitted.values()),
        flagged_batches=len(full),
        trainings=len(trainings),
        trainings_at=_counted([one for one in trainings if (one.stream_id, one.batch) in full]),
        trainings_next=_counted(
            [
                one
                for one in trainings
                if (one.stream_id, one.batch - 1) in full and (one.stream_id, one.batch) not in full
            ]
        ),
        learned_rows=sum(len(np.unique(np.concatenate(parts))) for parts in learned.values() if parts),
        learned_times=sum(len(part) for parts in learned.values() for part in parts),
        relative_loss=float("nan") if always is None else relative_loss(run, always),
    )


def relative_loss(run: Run, always: Run) -> float:
    """Mean over the streams of the loss relative to that of always."""
    mine, theirs = run.tally.loss, always.tally.loss
    known: Bools = (theirs > 0) & (run.tally.n > 0)
    return float(np.mean(mine[known] / theirs[known]))


def observed(run: Run, stream_id: int) -> Floats:
    """Outcomes of a stream that were admitted, by slot up to the end of the replay; NaN where there is none."""
    engine = run.tally.engine
    made = np.full(engine.settings.schedule.origin_after(run.last), np.nan)
    for _, block in engine.history.observations(
        stream_id % engine.executor.n_shards, after_seq=0, up_to_seq=2**62, first_slot=0, stream_id=stream_id
    ):
        known = block.slot < len(made)
        made[block.slot[known]] = block.y[known]
    return made


def _targets(schedule: Schedule, y: Floats, batch: int) -> Ints:
    """Slots whose outcomes a training after a batch learns from, ascending: those in its window that it keeps."""
    origin = schedule.origin_after(batch)
    start = max(0, origin - schedule.train_window - Features(schedule).lookback)
    window = y[None, start:origin]
    left_out = wild(window) | faults(window, batch=schedule.batch, season=schedule.season)
    kept = np.isfinite(window[0]) & ~left_out[0]
    found = start + np.flatnonzero(kept)
    return found[found >= origin - schedule.train_window]


def _counted(effects: Sequence[Effect]) -> dict[str, int]:
    return dict(Counter(str(effect.reason) for effect in effects))
