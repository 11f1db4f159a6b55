"""What a state has recorded: its observations as rows for a replay, and what its daemon really did, to compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from mlma.core import losses
from mlma.core.blocks import Bools, Floats
from mlma.core.decisions import Action, Phase, Reason
from mlma.core.errors import OperationError
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import TestingSettings
from mlma.runtime.ports import ControlStore, History
from mlma.runtime.replay_compare import number, spread
from mlma.runtime.replay_data import EPOCH

RECORDED = "recorded"
"""Name of the row of what a daemon really did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Batches of a state that are replayed, both ends included; the first slot is the start of the warm-up."""

    first_slot: int
    first_batch: int  # the first that is scored
    last_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the daemon did in the batches of a span: losses by stream name, and its trainings."""

    loss: Mapping[str, float]  # of the served forecasts, summed over the scored targets
    naive: Mapping[str, float]
    n: Mapping[str, int]
    trainings: int
    train_cpu_s: float
    alarms: int

    def means(self, names: Sequence[str]) -> Floats:
        """Mean loss of these streams, NaN where nothing was scored; shape (names,)."""
        loss, n = (
            np.array([by_name.get(name, 0) for name in names], dtype=np.float64) for by_name in (self.loss, self.n)
        )
        return np.where(n > 0, loss / np.maximum(1.0, n), np.nan)

    def figures(self) -> dict[str, object]:
        """The daemon's row of the JSON."""
        loss, naive, n = (np.array(list(one.values()), dtype=np.float64) for one in (self.loss, self.naive, self.n))
        usable = (n > 0) & (naive > 0.0)
        return {
            "mean_loss": number(loss.sum() / n.sum()) if n.any() else None,
            "relative_loss_to_always": None,
            "relative_loss_to_naive": spread(loss[usable] / naive[usable]),
            "relative_loss_to_recorded": {"mean": 1.0, "median": 1.0, "p90": 1.0},
            "trainings": self.trainings,
            "training_share_of_always": None,
            "training_cpu_share_of_always": None,
            "alarms": self.alarms,
            "cpu_s": {"train": round(self.train_cpu_s, 2), "evergreen": None, "predict": None, "rest": None},
        }


def span_of(store: ControlStore, schedule: Schedule, since: timedelta) -> Span:
    """Closed batches of the last ``since``, after one train window of warm-up.

    Raises
    ------
    OperationError
        The state has closed no batch, or its history is shorter than the train window and a batch.
    """
    last = store.cursor()
    if last is None:
        raise OperationError("the state has closed no batch yet: there is nothing to replay")
    length = schedule.batch * schedule.frequency
    born = min((stream.first_slot for stream in store.streams()), default=0)
    warm = -(-schedule.train_window // schedule.batch)  # batches
    first = max(last + 1 - max(1, -(-since // length)), -(-max(0, born) // schedule.batch) + warm)
    if first > last:
        have = (schedule.origin_after(last) - max(0, born)) * schedule.frequency
        need = (schedule.train_window + schedule.batch) * schedule.frequency
        raise OperationError(
            f"the state holds {have.days} days of observations: expected at least {need.days}, one train window and a "
            "batch to score"
        )
    return Span(first_slot=(first - warm) * schedule.batch, first_batch=first, last_batch=last)


def rows_of(store: ControlStore, history: History, schedule: Schedule, span: Span, *, n_shards: int) -> Rows:
    """Observations of a span as rows, as they were admitted; rejected ones are not among them."""
    streams = store.streams()
    files = store.files(limit=1)
    blocks = [
        block
        for shard in range(n_shards)
        for _, block in history.observations(
            shard, after_seq=0, up_to_seq=files[-1].seq if files else 0, first_slot=span.first_slot
        )
    ]
    stream_id = np.concatenate([block.stream_id for block in blocks] or [np.zeros(0, dtype=np.int64)])
    slot = np.concatenate([block.slot for block in blocks] or [np.zeros(0, dtype=np.int64)])
    y = np.concatenate([block.y for block in blocks] or [np.zeros(0)])
    order = np.lexsort((stream_id, slot))
    keep = order[slot[order] < schedule.origin_after(span.last_batch)]
    us = timedelta(microseconds=1)
    return Rows(
        stream_code=stream_id[keep],
        stream_names=tuple(stream.name for stream in streams),
        time_us=(schedule.anchor - EPOCH) // us + slot[keep] * (schedule.frequency // us),
        y=y[keep],
        row=np.arange(1, len(keep) + 1),
        labels={stream.name: stream.labels for stream in streams if stream.labels},
    )


def recorded(store: ControlStore, history: History, span: Span, testing: TestingSettings, *, n_shards: int) -> Recorded:
    """What the daemon served and trained in the batches of a span.

    A proof and the fit after it count as two trainings, as they do in a replay.
    """
    names = [stream.name for stream in store.streams()]
    loss, naive, n = np.zeros((3, len(names)))
    for shard in range(n_shards):
        for block in history.losses(shard, first_batch=span.first_batch, last_batch=span.last_batch):
            served, yard = (
                losses.loss(testing.loss, block.y, made, quantile=testing.quantile)
                for made in (block.forecast, block.naive)
            )
            scored = np.isfinite(served) & np.isfinite(yard)
            loss[block.stream_ids] += _sum(served, where=scored)
            naive[block.stream_ids] += _sum(yard, where=scored)
            n[block.stream_ids] += scored.sum(axis=1)
    made = [one for one in store.versions() if span.first_batch - 1 <= one.batch <= span.last_batch]
    of_groups = [one for one in store.group_trainings() if span.first_batch - 1 <= one.batch <= span.last_batch]
    decided = [
        one
        for one in store.decisions(phase=Phase.PROMOTION)
        if span.first_batch - 1 <= one.batch <= span.last_batch and one.action is not Action.ROLL_BACK
    ]
    return Recorded(
        loss=dict(zip(names, loss.tolist(), strict=True)),
        naive=dict(zip(names, naive.tolist(), strict=True)),
        n=dict(zip(names, n.astype(int).tolist(), strict=True)),
        trainings=sum(2 if one.n and one.action is not Action.REJECT else 1 for one in decided)
        + sum(one.finished_at is not None for one in of_groups),
        train_cpu_s=sum(one.fit_cpu_s for one in made) + sum(one.cpu_s or 0.0 for one in of_groups),
        alarms=_n_alarms(store, span),
    )


ALARMS = (Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.ALARM_ACCUMULATED)


def _n_alarms(store: ControlStore, span: Span) -> int:
    batches = range(span.first_batch, span.last_batch + 1)
    decided = (one for batch in batches for one in store.decisions(batch=batch, phase=Phase.BATCH))
    return sum(one.reason in ALARMS for one in decided)


def _sum(values: Floats, *, where: Bools) -> Floats:
    return np.asarray(np.where(where, values, 0.0).sum(axis=1))
