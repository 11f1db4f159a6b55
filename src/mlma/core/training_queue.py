"""Which of the wanted trainings start now, under a budget of CPU seconds an hour and of trainings at the same time.

Whether a training is wanted at all is decided before; here nothing is refused, only ordered and made to wait.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints

_HOUR_S = 3600.0
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Want(StrEnum):
    """Why a training is wanted; the first two come before all others, in this order, and count like them."""

    REQUESTED = "requested"  # an engineer asked for it
    FIRST = "first"  # the stream has no version
    RETRAINING = "retraining"  # it is expected to save more than it costs


class Wait(StrEnum):
    """Why a wanted training does not start now."""

    NOTHING = ""  # it starts
    STREAM_BUSY = "stream_busy"  # a training of the stream runs or is ahead in the queue
    SLOTS = "slots"  # as many trainings run as may run at the same time
    BUDGET = "budget"  # the CPU seconds of it and of those ahead of it have not been earned yet


WANTS: tuple[Want, ...] = tuple(Want)
WAITS: tuple[Wait, ...] = tuple(Wait)
WANT_CODE = {member: code for code, member in enumerate(WANTS)}
WAIT_CODE = {member: code for code, member in enumerate(WAITS)}

_OVERDUE = len(WANTS) - 1
"""Class of retrainings that waited for too long: after the first two, before the other retrainings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What trainings may cost.

    Attributes
    ----------
    cpu_s_per_hour
        CPU seconds that are earned in an hour of the queue's time, at least 0; inf for no limit.
    burst_s
        CPU seconds that may be saved up, more than 0; inf only without a limit. None: those of one hour.
    concurrent
        Trainings at the same time, at least 1.
    ageing
        Waiting time after which what a retraining saves for its cost counts twice, then three times, and so on.
    patience
        Waiting time after which a retraining goes before all others, the longest wait first.
    """

    cpu_s_per_hour: float = float("inf")
    burst_s: float | None = None
    concurrent: int = 1
    ageing: timedelta = timedelta(days=1)
    patience: timedelta = timedelta(days=7)

    @property
    def limit_s(self) -> float:
        """The most CPU seconds that can be saved up."""
        return self.cpu_s_per_hour if self.burst_s is None else self.burst_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The state of the budget.

    Attributes
    ----------
    saved_s
        CPU seconds that may be spent at once; negative after a training that cost more than could be saved up,
        or more than was expected.
    at
        Until when CPU seconds have been earned.
    """

    saved_s: float
    at: datetime

    @classmethod
    def full(cls, budget: Budget, now: datetime) -> "Bucket":
        """A budget of which nothing has been spent."""
        return cls(saved_s=budget.limit_s, at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Trainings that wait, arrays of shape (n,).

    Attributes
    ----------
    stream_id
        One row for each stream; of several, the one that is first in the queue counts.
    want
        Positions in `WANTS`.
    saving
        Relative loss that a training is expected to save, summed over the batches until the next one; NaN for
        unknown, which counts as nothing.
    weight
        Of the stream, at least 0.
    cost_s
        Expected CPU seconds, more than 0.
    since_us
        Microseconds from 1970 UTC until it was wanted first.
    """

    stream_id: Ints
    want: NDArray[np.int8]
    saving: Floats
    weight: Floats
    cost_s: Floats
    since_us: Ints

    def __len__(self) -> int:
        return len(self.stream_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What starts and what waits; arrays of shape (n,) in the order of the queue.

    Attributes
    ----------
    row
        Position in `Wanted`; every one occurs once.
    wait
        Positions in `WAITS`: why it waits, or `nothing` for those that start now.
    starts_in_s
        Seconds until the expected start if nothing else becomes wanted and a CPU second takes a second; 0 for those
        that start, inf without a budget, NaN for `stream_busy`.
    bucket
        After the starts: their expected cost is spent.
    """

    row: Ints
    wait: NDArray[np.int8]
    starts_in_s: Floats
    bucket: Bucket

    @property
    def starting(self) -> Ints:
        """Positions in `Wanted` of those that start now, first come first."""
        return np.asarray(self.row[self.wait == WAIT_CODE[Wait.NOTHING]])


def earn(bucket: Bucket, budget: Budget, now: datetime) -> Bucket:
    """Add what was earned since the bucket's time, up to the limit; time that goes back earns nothing."""
    if now <= bucket.at:
        return bucket
    earned = (now - bucket.at).total_seconds() / _HOUR_S * budget.cpu_s_per_hour
    return Bucket(saved_s=min(bucket.saved_s + earned, budget.limit_s), at=now)


def settle(bucket: Bucket, budget: Budget, *, expected_s: float, actual_s: float) -> Bucket:
    """Correct for a training that ended: what it cost less is given back up to the limit, what it cost more is owed."""
    if np.isinf(budget.cpu_s_per_hour):
        return bucket
    return replace(bucket, saved_s=min(bucket.saved_s + expected_s - actual_s, budget.limit_s))


def plan(wanted: Wanted, bucket: Bucket, budget: Budget, *, now: datetime, running: Ints, left_s: Floats) -> Plan:
    """Order the queue and say what starts.

    Parameters
    ----------
    now
        In the queue's time: event time in a replay, wall time in a daemon.
    running, left_s
        Shape (running,), streams whose trainings run, and the CPU seconds that each is expected to need yet.

    Notes
    -----
    Requests of engineers go first, then first versions, then retrainings that waited for longer than
    ``budget.patience``, each by waiting time; then retrainings by saving x weight / cost x (1 + waiting time /
    ``budget.ageing``). Ties go to the smaller stream id. Nobody overtakes: what is ahead and waits for budget is not
    passed by something cheaper, so that nothing expensive starves.

    A token bucket: a training starts when its cost has been saved up, or all that can be if it costs more, which then
    is owed. So the expected cost of all that starts within any span of T hours, both ends included, is at most
    ``max(burst_s, largest cost) + cpu_s_per_hour * T``.

    Examples
    --------
    >>> wanted = Wanted(
    ...     stream_id=np.array([7, 8, 9]),
    ...     want=np.array([2, 2, 1], dtype=np.int8),
    ...     saving=np.array([0.2, 0.9, np.nan]),
    ...     weight=np.ones(3),
    ...     cost_s=np.array([10.0, 10.0, 10.0]),
    ...     since_us=np.zeros(3, dtype=np.int64),
    ... )
    >>> budget = Budget(cpu_s_per_hour=20.0, concurrent=4)
    >>> made = plan(wanted, Bucket.full(budget, _EPOCH), budget, now=_EPOCH, running=np.array([]), left_s=np.array([]))
    >>> wanted.stream_id[made.starting].tolist(), [WAITS[code].value for code in made.wait]
    ([9, 8], ['', '', 'budget'])
    >>> made.starts_in_s.tolist()
    [0.0, 0.0, 1800.0]
    """
    bucket = earn(bucket, budget, now)
    row = _order(wanted, budget, now)
    cost = wanted.cost_s[row]
    busy = _is_busy(wanted.stream_id[row], running)
    rank = np.cumsum(~busy) - 1
    spent_before = np.cumsum(np.where(busy, 0.0, cost)) - np.where(busy, 0.0, cost)
    needed = spent_before + np.minimum(cost, budget.limit_s)
    has_slot = rank < max(budget.concurrent - len(running), 0)
    # Half a microsecond of CPU time forgives rounding of sums, so that a training starts when it was said to.
    has_budget = needed <= bucket.saved_s + 5e-7
    starts = ~busy & has_slot & has_budget  # both only get scarcer along the queue
    wait = np.select(
        [busy, starts, ~has_slot],
        [WAIT_CODE[reason] for reason in (Wait.STREAM_BUSY, Wait.NOTHING, Wait.SLOTS)],
        default=WAIT_CODE[Wait.BUDGET],
    ).astype(np.int8)
    by_budget = _until_earned(needed - bucket.saved_s, budget)
    by_slots = np.where(has_slot, 0.0, (left_s.sum() + spent_before) / budget.concurrent)
    starts_in_s = np.maximum.accumulate(np.where(busy | starts, 0.0, np.maximum(by_budget, by_slots)))
    return Plan(
        row=row,
        wait=wait,
        starts_in_s=np.where(busy, np.nan, starts_in_s),
        bucket=replace(bucket, saved_s=bucket.saved_s - float(cost[starts].sum())),
    )


def _order(wanted: Wanted, budget: Budget, now: datetime) -> Ints:
    """Positions in the order of the queue: total, and the same however the rows are arranged."""
    waited_us = np.maximum((now - _EPOCH) // _MICROSECOND - wanted.since_us, 0)
    is_retraining = wanted.want == WANT_CODE[Want.RETRAINING]
    is_overdue = is_retraining & (waited_us >= budget.patience // _MICROSECOND)
    by_worth = is_retraining & ~is_overdue
    rank = np.where(is_overdue, _OVERDUE, np.where(by_worth, len(WANTS), wanted.want))
    age = 1.0 + waited_us / (budget.ageing / _MICROSECOND)
    worth = np.nan_to_num(wanted.saving, nan=0.0) * wanted.weight / wanted.cost_s
    # Waiting must never make a loss look worse: only what saves something grows.
    worth = np.where(worth > 0.0, worth * age, worth)
    first = np.where(by_worth, 0, wanted.since_us)
    return np.lexsort((wanted.stream_id, -np.where(by_worth, worth, 0.0), first, rank)).astype(np.int64)


def _is_busy(stream_id: Ints, running: Ints) -> Bools:
    """Whether a training of the stream runs, or is further ahead; shape (n,), in the order of the queue."""
    is_first = np.zeros(len(stream_id), dtype=np.bool_)
    is_first[np.unique(stream_id, return_index=True)[1]] = True
    return np.asarray(~is_first | np.isin(stream_id, running))


def _until_earned(missing_s: Floats, budget: Budget) -> Floats:
    """Seconds until CPU seconds that are missing have been earned."""
    if budget.cpu_s_per_hour == 0.0:
        return np.where(missing_s > 0.0, np.inf, 0.0)
    return np.maximum(missing_s, 0.0) / budget.cpu_s_per_hour * _HOUR_S
