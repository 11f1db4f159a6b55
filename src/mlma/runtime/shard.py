"""The streams that one actor keeps: rings of outcomes and forecasts, and what is computed on them.

A shard is a cache. Everything in it is rebuilt from the history, so a killed one loses nothing; every method
is idempotent, so a call that was lost is simply made again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats, ForecastBlock, Ints
from mlma.core.robust import robust_scale
from mlma.core.schedule import Schedule
from mlma.core.settings import ModelSettings, TestingSettings
from mlma.models.features import Features
from mlma.models.naive import seasonal_naive
from mlma.runtime.ports import ArtifactStore, Checkpoints, History
from mlma.runtime.rings import Rings
from mlma.runtime.scoring import BatchScores, summarise
from mlma.runtime.serving import Champion, Memo, Predictor, Served

FEATURE_CELLS = 20_000_000
"""Feature values that are built at once while forecasting (160 MB)."""


CHECKPOINT_FORMAT = 2
"""Raised whenever the arrays of a checkpoint change their meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpec:
    """What a shard is made from; picklable."""

    shard: int
    n_shards: int
    schedule: Schedule
    testing: TestingSettings
    model: ModelSettings
    history: History
    artifacts: ArtifactStore
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the fleet has come: what a shard must have taken in before it is asked anything."""

    seq: int  # the last recorded file
    n_streams: int  # of the fleet
    batch: int  # the last closed batch; warm-up ends before the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What came of one call to forecast."""

    until: int  # first slot without a forecast
    n_forecasts: int
    failed: Mapping[int, str]  # stream id to what went wrong; seasonal naive served instead
    cpu_s: float  # spent
    spared_cpu_s: float = 0.0  # more that would have been spent without a memo


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Outcomes of one stream up to an origin, and what was forecast in its last closed batch."""

    stream_id: int
    start: int  # slot of y[0]
    y: Floats
    forecast: Floats  # served in the last closed batch, shape (batch,)


@dataclass
class Shard:
    """Rings of one shard's streams; row ``i`` is stream ``i * n_shards + shard``."""

    spec: ShardSpec
    memo: Memo | None = None
    _seq: int = 0
    _rings: Rings = field(init=False)
    _features: Features = field(init=False)
    _predictor: Predictor = field(init=False)
    _summary: BatchSummary | None = None  # of the last closed batch

    def __post_init__(self) -> None:
        schedule = self.spec.schedule
        self._features = Features(schedule)
        self._rings = Rings(
            schedule=schedule,
            lookback=self._features.lookback + schedule.train_window,
        )
        self._predictor = Predictor(
            artifacts=self.spec.artifacts, model=self.spec.model, horizon=schedule.horizon, memo=self.memo
        )

    # taking in

    def sync(self, position: Position) -> int:
        """Take in what the history holds and this shard has not seen; returns the first slot without a forecast."""
        spec, rings = self.spec, self._rings
        is_new = rings.batch is None
        if is_new:
            self._restore(position)
        rings.grow(len(range(spec.shard, position.n_streams, spec.n_shards)))
        if rings.batch is None or rings.batch < position.batch:
            self._catch_up(position.batch)
        if is_new:
            self._take_up_forecasts()
        if position.seq > self._seq:
            blocks = spec.history.observations(
                spec.shard, after_seq=self._seq, up_to_seq=position.seq, first_slot=rings.outcomes.start
            )
            for _, block in blocks:
                rings.outcomes.write(block.stream_id // spec.n_shards, block.slot, block.y)
            self._seq = position.seq
        return rings.issued_until

    def checkpoint(self) -> None:
        """Write down what a restart would otherwise read from the history."""
        if self._rings.batch is not None:
            stamp = {"seq": np.asarray(self._seq), "made_for": np.asarray(self._made_for())}
            self.spec.checkpoints.save(self.spec.shard, {**self._rings.arrays(), **stamp})

    def _made_for(self) -> str:
        """What the arrays of a checkpoint depend on."""
        return f"{CHECKPOINT_FORMAT} {self._rings.lookback} {self.spec.n_shards}"

    def _restore(self, position: Position) -> None:
        """Take up a checkpoint that is not ahead of what is recorded."""
        found = self.spec.checkpoints.load(self.spec.shard) or {}
        is_usable = str(found.get("made_for")) == self._made_for()
        if not is_usable:
            return
        is_ahead = int(found["batch"]) > position.batch or int(found["seq"]) > position.seq
        if not is_ahead and len(found["y"]) <= position.n_streams:
            self._rings.restore(found)
            self._seq = int(found["seq"])

    def _catch_up(self, batch: int) -> None:
        """Take up the last closed batch after a restart; the rings of a running shard are already there."""
        spec, rings = self.spec, self._rings
        is_new = rings.batch is None
        rings.advance(batch)
        for block in spec.history.losses(spec.shard, first_batch=max(0, batch), last_batch=batch):
            rings.close(block)
        if is_new:
            self._seq = 0

    def _take_up_forecasts(self) -> None:
        """Forecasts of the open batch that were issued before a restart."""
        spec, rings = self.spec, self._rings
        open_first = spec.schedule.first_slot(rings.open_batch)
        for issued in spec.history.forecasts(
            spec.shard, first_slot=open_first, last_slot=open_first + spec.schedule.batch - 1
        ):
            rings.issue(issued, spec.n_shards)

    def known(self, stream_id: Ints, slot: Ints) -> Bools:
        """Whether an outcome of these streams (of this shard) and slots is known already, shape (n,)."""
        return self._rings.outcomes.known(stream_id // self.spec.n_shards, slot)

    def scales(self) -> tuple[Ints, Floats, Floats, Ints]:
        """Stream ids, robust centre and scale of their recent outcomes, and their newest slots (-1: none)."""
        outcomes = self._rings.outcomes
        center, scale = robust_scale(outcomes.recent(28 * self.spec.schedule.slots_per_day))
        return self._ids(), center, scale, outcomes.last_slots()

    # judging

    def score(self, batch: int) -> BatchScores:
        """Close a batch, the one after the last closed or that one again: losses of the issued forecasts."""
        spec, rings = self.spec, self._rings
        if rings.batch != batch:
            block = rings.open_block(batch, self._ids())
            spec.history.append_losses(spec.shard, block)
            rings.close(block)
            self._summary = summarise(block, spec.testing)
        elif self._summary is None or len(self._summary.n) != rings.n_streams:
            (block,) = spec.history.losses(spec.shard, first_batch=batch, last_batch=batch)
            self._summary = summarise(block, spec.testing)
        made = self._summary
        return BatchScores(
            stream_id=self._ids(),
            n=made.n,
            mean_loss=made.mean_loss,
            naive_loss=made.yardsticks[0],
            zero_share=made.zero_share,
            event_size=made.event_size,
            single=made.single if made.single is not None else np.empty((len(made.n), 0)),
            n_rows=rings.outcomes.count(spec.schedule.origin_after(batch), spec.schedule.train_window),
            last_slot=rings.outcomes.last_slots(),
            fallback=rings.last_fallback.copy(),
        )

    # forecasting and training

    def forecast(self, champions: Mapping[int, Champion], until: int) -> Issued:
        """Issue the forecasts of every origin of the open batch that is due and was not issued yet.

        Parameters
        ----------
        champions
            By stream id of this shard; a stream without one is served by seasonal naive.
        until
            Slot; origins before or at it are due (all slots before an origin are known at it).
        """
        spec, rings = self.spec, self._rings
        schedule = spec.schedule
        batch_end = schedule.origin_after(rings.open_batch)
        first = rings.issued_until
        last = min(batch_end, (until // schedule.horizon + 1) * schedule.horizon)
        if first >= last:
            return Issued(until=first, n_forecasts=0, failed={}, cpu_s=0.0)
        began = time.thread_time()
        start = first - self._features.lookback
        y = rings.outcomes.window(start, last)
        naive = seasonal_naive(y, start=start, first=first, last=last, schedule=schedule)
        served = Served.fallback(naive)
        rows = {stream_id // spec.n_shards: champion for stream_id, champion in champions.items()}
        self._predictor.capacity = max(64, 2 * len(rows))
        for chunk in self._chunks(sorted(rows), last - first):
            X = self._features.build(y[chunk], start=start, first=first, last=last)
            for row, x in zip(chunk, X, strict=True):
                stream_id = row * spec.n_shards + spec.shard
                self._predictor.serve(served, row, stream_id, rows[row], x, (first, last))
        cpu_s = time.thread_time() - began
        block = self._block(served, naive, first, last)
        spec.history.append_forecasts(spec.shard, block)
        rings.issue(block, spec.n_shards)
        failed = {row * spec.n_shards + spec.shard: error for row, error in served.failed.items()}
        spared, self._predictor.spared_cpu_s = self._predictor.spared_cpu_s, 0.0
        return Issued(until=last, n_forecasts=len(block.slot), failed=failed, cpu_s=cpu_s, spared_cpu_s=spared)

    def _chunks(self, rows: list[int], n_targets: int) -> list[list[int]]:
        size = max(1, FEATURE_CELLS // max(1, n_targets * len(self._features.names)))
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def _block(self, served: Served, naive: Floats, first: int, last: int) -> ForecastBlock:
        keep = np.isfinite(served.forecast)
        row, column = np.nonzero(keep)
        return ForecastBlock(
            origin_first=first,
            origin_last=last - self.spec.schedule.horizon,
            stream_id=row * self.spec.n_shards + self.spec.shard,
            slot=column + first,
            forecast=served.forecast[keep],
            naive=naive[keep],
            version=served.version[keep],
            versions=tuple(served.versions),
        )

    def windows(self, stream_ids: Ints) -> list[Window]:
        """What trainings at the last closed batch need, one window a stream."""
        rings, schedule = self._rings, self.spec.schedule
        origin = schedule.origin_after(rings.open_batch - 1)
        start = origin - self._features.lookback - schedule.train_window
        rows = stream_ids // self.spec.n_shards
        y = rings.outcomes.window(start, origin, rows)
        return [
            Window(stream_id=int(stream_id), start=start, y=y[i], forecast=rings.last_forecast[row].copy())
            for i, (stream_id, row) in enumerate(zip(stream_ids, rows, strict=True))
        ]

    def _ids(self) -> Ints:
        return np.arange(self._rings.n_streams, dtype=np.int64) * self.spec.n_shards + self.spec.shard
