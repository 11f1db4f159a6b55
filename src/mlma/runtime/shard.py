"""The streams that one actor keeps: rings of outcomes and forecasts, and what is computed on them.

A shard is a cache. Everything in it is rebuilt from the history, so a killed one loses nothing; every method
is idempotent, so a call that was lost is simply made again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from mlma.core import losses, suspicion
from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import ArrivedBlock, Bools, Floats, Ints, LossBlock
from mlma.core.records import NAIVE
from mlma.core.robust import robust_scale
from mlma.core.settings import EXTERNAL, Evergreen
from mlma.models.evergreen.design import Designer
from mlma.models.evergreen.impression import median_to_naive
from mlma.models.evergreen.members import Members
from mlma.models.external import version_name
from mlma.models.features import Features
from mlma.models.naive import seasonal_naive
from mlma.runtime.arrivals import Arrivals
from mlma.runtime.evergreens import Evergreens
from mlma.runtime.group_rows import GroupRequest, GroupRows, drawn
from mlma.runtime.group_serving import GroupPredictor
from mlma.runtime.lineup import Lineup
from mlma.runtime.rings import OpenMembers, Rings
from mlma.runtime.scoring import BatchScores, PoolLosses, looked_at, score_members, summarise
from mlma.runtime.serving import Memo, Pooled, Predictor
from mlma.runtime.shard_parts import Issued, Position, ShardSpec, Window
from mlma.runtime.shard_recovery import Recovery
from mlma.runtime.soundness import Marked, Soundness

T = TypeVar("T")

FEATURE_CELLS = 20_000_000
"""Feature values that are built at once while forecasting (160 MB)."""


@dataclass
class Shard:
    """Rings of one shard's streams; row ``i`` is stream ``i * n_shards + shard``."""

    spec: ShardSpec
    memo: Memo | None = None
    _seq: int = 0
    _rings: Rings = field(init=False)
    _recovery: Recovery = field(init=False)
    _soundness: Soundness = field(init=False)
    _features: Features = field(init=False)
    _lookback: int = field(init=False)  # slots before an origin that some member looks at
    _predictor: Predictor = field(init=False)
    _groups: GroupPredictor = field(init=False)
    _evergreens: Evergreens = field(init=False)
    _arrivals: Arrivals = field(init=False)
    _summary: BatchSummary | None = None  # of the last closed batch
    _pool_losses: PoolLosses | None = None  # of the last closed batch

    def __post_init__(self) -> None:
        schedule = self.spec.schedule
        self._features = Features(schedule)
        members = Members(Designer(self._features), self.spec.evergreen)
        self._lookback = members.designer.lookback if members.families else self._features.lookback
        self._rings = Rings(
            schedule=schedule,
            lookback=self._lookback + schedule.train_window,
            n_seats=self.spec.n_seats,
        )
        self._recovery = Recovery(self.spec, self._rings)
        self._soundness = Soundness(schedule, self._rings.lookback)
        self._evergreens = Evergreens(
            shard=self.spec.shard, members=members, history=self.spec.history, checkpoints=self.spec.checkpoints,
            memo=self.memo,
        )  # fmt: skip
        self._arrivals = Arrivals(self.spec.shard, self.spec.history)
        self._predictor = Predictor(
            artifacts=self.spec.artifacts, model=self.spec.model, horizon=schedule.horizon, arrivals=self._arrivals,
            memo=self.memo,
        )  # fmt: skip
        self._groups = GroupPredictor(
            artifacts=self.spec.artifacts, groups=self.spec.groups, names=self._features.names,
            horizon=schedule.horizon, memo=self.memo,
        )  # fmt: skip

    # taking in

    def sync(self, position: Position) -> int:
        """Take in what the history holds and this shard has not seen; returns the first slot without a forecast."""
        spec, rings = self.spec, self._rings
        is_new = rings.batch is None
        if is_new:
            self._seq = self._recovery.restored(position)
        rings.grow(len(range(spec.shard, position.n_streams, spec.n_shards)))
        if rings.batch is None or rings.batch < position.batch:
            if rings.batch is None:
                self._seq = 0
            self._recovery.catch_up(position.batch)
        if is_new:
            self._recovery.take_up_forecasts()
        if position.seq > self._seq:
            blocks = spec.history.observations(
                spec.shard, after_seq=self._seq, up_to_seq=position.seq, first_slot=rings.outcomes.start
            )
            for _, block in blocks:
                rings.outcomes.write(block.stream_id // spec.n_shards, block.slot, block.y)
            self._seq = position.seq
        if spec.model.name == EXTERNAL:
            self._arrivals.sync(position.seq, rings.issued_until)
        return rings.issued_until

    def checkpoint(self) -> None:
        """Write down what a restart would otherwise read from the history."""
        self._recovery.write_down(self._seq)

    def known(self, stream_id: Ints, slot: Ints) -> Bools:
        """Whether an outcome of these streams (of this shard) and slots is known already, shape (n,)."""
        return self._rings.outcomes.known(stream_id // self.spec.n_shards, slot)

    def has_arrived(self, block: ArrivedBlock) -> Bools:
        """Whether such forecasts of these streams (of this shard) are there already, shape (n,)."""
        return self._arrivals.has(block)

    def scales(self) -> tuple[Ints, Floats, Floats, Ints]:
        """Stream ids, robust centre and scale of their recent outcomes, and their newest slots (-1: none)."""
        outcomes, days = self._rings.outcomes, 28 * self.spec.schedule.slots_per_day
        center, scale = self._once("scales", lambda: robust_scale(outcomes.recent(days)))
        return self._ids(), center.copy(), scale.copy(), outcomes.last_slots()

    # judging

    def score(self, batch: int) -> BatchScores:
        """Close a batch, the one after the last closed or that one again: losses of the issued forecasts."""
        spec, rings = self.spec, self._rings
        if rings.batch != batch:
            block, members = rings.open_block(batch, self._ids()), rings.open_members
            spec.history.append_losses(spec.shard, block)
            rings.close(block)
            self._score(block, members)
        elif self._summary is None or len(self._summary.n) != rings.n_streams:
            (block,) = spec.history.losses(spec.shard, first_batch=batch, last_batch=batch)
            self._score(block, self._recovery.members_again(block))
        assert self._summary is not None
        assert self._pool_losses is not None
        made = self._summary
        end = spec.schedule.origin_after(batch)
        shares = self._soundness.shares(rings.outcomes, end)
        odd_limit, after_fault = self._once("odd limits", lambda: self._odd_limits(shares))
        return BatchScores(
            stream_id=self._ids(),
            n=made.n,
            mean_loss=made.mean_loss,
            naive_loss=made.yardsticks[0],
            zero_share=made.zero_share,
            event_size=made.event_size,
            **looked_at(made),
            n_rows=rings.outcomes.count(end, spec.schedule.train_window),
            odd_share=shares[:, -1],
            odd_limit=odd_limit,
            after_fault=after_fault,
            last_slot=rings.outcomes.last_slots(),
            fallback=rings.last_fallback.copy(),
            members=self._pool_losses.members,
            groups=self._pool_losses.groups,
            recalibration=self._pool_losses.recalibration,
            impression=np.full(len(made.n), np.nan)
            if made.n.any()
            else self._once(("impression", Evergreen.MEDIAN in spec.evergreen), lambda: self._impression(end)),
        )

    def _odd_limits(self, shares: Floats) -> tuple[Floats, Bools]:
        """Largest share of odd values that is usual, and whether the batch before looked like a fault."""
        season = {"batch": self.spec.schedule.batch, "season": self.spec.schedule.season}
        return suspicion.newest_limit(shares, **season), suspicion.suspicious(shares[:, :-1], **season)

    def _impression(self, end: int) -> Floats:
        """What the newest week before a slot says of the median, shape (streams,); see `median_to_naive`."""
        schedule, testing, n_streams = self.spec.schedule, self.spec.testing, self._rings.n_streams
        made = np.full(n_streams, np.nan)
        if Evergreen.MEDIAN not in self.spec.evergreen:
            return made
        n_targets = -(-max(schedule.batch, schedule.season) // schedule.horizon) * schedule.horizon
        first, start = end - n_targets, end - n_targets - self._lookback

        def losses_of(y: Floats, forecast: Floats) -> Floats:
            return losses.loss(testing.loss, y, forecast, quantile=testing.quantile)

        designer = Designer(self._features)
        for rows in self._chunks(list(range(n_streams)), n_targets):
            y = self._rings.outcomes.window(start, end, np.asarray(rows))
            made[rows] = median_to_naive(designer, y, start=start, first=first, last=end, losses_of=losses_of)
        return made

    def _score(self, block: LossBlock, members: OpenMembers) -> None:
        self._summary = summarise(block, self.spec.testing)
        self._pool_losses = score_members(
            block.y,
            members,
            self._summary.n,
            self.spec.testing,
            n_fixed=1 + len(self.spec.evergreen) + len(self.spec.groups),
            n_ageless=1 + len(self.spec.evergreen),
            recalibrates=self.spec.recalibrates,
        )

    # forecasting and training

    def forecast(self, lineup: Lineup, until: int) -> Issued:
        """Issue the forecasts of every origin of the open batch that is due and was not issued yet.

        Parameters
        ----------
        lineup
            Pools of this shard's streams; seat 0 is seasonal naive.
        until
            Slot; origins before or at it are due (all slots before an origin are known at it).
        """
        spec, rings, schedule = self.spec, self._rings, self.spec.schedule
        first = rings.issued_until
        last = min(schedule.origin_after(rings.open_batch), (until // schedule.horizon + 1) * schedule.horizon)
        if first >= last:
            return Issued(until=first, n_forecasts=0, failed={}, cpu_s=0.0)
        ids = self._ids()
        faults = self._once(
            "faults", lambda: self._soundness.marked(rings.outcomes, schedule.first_slot(rings.open_batch))
        )
        self._evergreens.learn(rings.open_batch - 1, rings.outcomes, ids, lineup, faults)
        began = time.thread_time()
        pooled = self._pooled(lineup, first, last, faults)
        cpu_s = time.thread_time() - began
        members, served = pooled.members(ids, schedule.horizon), pooled.served(ids, schedule.horizon)
        if spec.n_seats > 1:
            spec.history.append_members(spec.shard, members)  # before what is served: a restart looks for that
            rings.issue_members(members, spec.n_shards)
        spec.history.append_forecasts(spec.shard, served)
        rings.issue(served, spec.n_shards)
        self._predictor.spared_cpu_s += self._groups.spared_cpu_s
        self._groups.spared_cpu_s = 0.0
        spent = [self._predictor.spared_cpu_s, self._evergreens.cpu_s, self._evergreens.spared_cpu_s]
        self._predictor.spared_cpu_s = self._evergreens.cpu_s = self._evergreens.spared_cpu_s = 0.0
        return Issued(
            until=last,
            n_forecasts=len(served.slot),
            failed_groups=dict(self._groups.failed),
            failed={int(ids[row]): error for row, error in pooled.failed.items()},
            cpu_s=cpu_s,
            spared_cpu_s=spent[0],
            evergreen_cpu_s=spent[1],
            spared_evergreen_cpu_s=spent[2],
        )

    def _pooled(self, lineup: Lineup, first: int, last: int, faults: Marked) -> Pooled:
        """Forecasts of every member for the targets first .. last - 1."""
        spec, n_streams = self.spec, self._rings.n_streams
        fixed = [NAIVE, *spec.evergreen]
        self._groups.failed.clear()
        start = first - self._lookback
        y = self._rings.outcomes.window(start, last)
        faults.blank(y, start=start)
        forecast = np.full((n_streams, spec.n_seats, last - first), np.nan)
        forecast[:, 0] = seasonal_naive(y, start=start, first=first, last=last, schedule=spec.schedule)
        pooled = Pooled.begun(forecast, lineup, first=first, fixed=fixed)
        rows = {stream_id // spec.n_shards: versions for stream_id, versions in lineup.versions.items()}
        self._predictor.capacity = max(64, 2 * sum(len(versions) for versions in rows.values()))
        if spec.evergreen:
            learned = partial(self._evergreen, y, start=start, first=first, last=last)
            forecast[:, 1 : len(fixed)] = self._once(
                ("evergreen", spec.evergreen, first, last), learned, forecasts=True
            )
        ids = {row: row * spec.n_shards + spec.shard for row in range(n_streams)}
        here = {row for row, found in rows.items() if any(version_name(v.family) is None for v in found.values())}
        nothing = np.empty((last - first, 0))
        for row in sorted(rows.keys() - here):  # no version of these streams forecasts from features
            self._predictor.fill(pooled, row, ids[row], rows[row], nothing)
        grouped = np.flatnonzero(self._groups.served(lineup)).tolist()
        chunks = self._chunks(sorted({*here, *grouped}), last - first)
        for chunk in chunks:
            keep = partial(self._once, forecasts=True) if len(chunks) == 1 else _made  # more would take too much memory
            build = partial(self._features.build, y[chunk], start=start, first=first, last=last)
            X = keep(("features", *chunk, first, last), build)
            if lineup.groups:
                sizes = partial(self._features.sizes, y[chunk], start=start, first=first, last=last)
                self._groups.fill(pooled, chunk, X, keep(("sizes", *chunk, first, last), sizes), ids)
            for row, x in zip(chunk, X, strict=True):
                if row in here:
                    self._predictor.fill(pooled, row, ids[row], rows[row], x)
        return pooled

    def group_rows(self, wanted: GroupRequest) -> GroupRows:
        """Rows that a training of a group at the last closed batch learns from."""
        key = (wanted.group, self.spec.shard, wanted.batch)
        if self.memo is not None and key in self.memo.rows:
            return self.memo.rows[key]
        made = drawn(
            wanted, self._rings.outcomes, self._features, wanted.stream_ids // self.spec.n_shards,
            origin=self.spec.schedule.origin_after(self._rings.open_batch - 1), cells=FEATURE_CELLS,
        )  # fmt: skip
        if self.memo is not None:
            self.memo.rows[key] = made
        return made

    def _evergreen(self, y: Floats, *, start: int, first: int, last: int) -> Floats:
        """Forecasts of the evergreen members, shape (streams, families, targets)."""
        made = np.empty((len(y), len(self.spec.evergreen), last - first))
        for chunk in self._chunks(list(range(len(y))), y.shape[1]):
            made[chunk] = self._evergreens.forecasts(y[chunk], chunk, start=start, first=first, last=last)
        return made

    def _once(self, key: object, make: Callable[[], T], *, forecasts: bool = False) -> T:
        """What follows from the outcomes alone: made once for all policies of a replay, and charged to each."""
        memo, outcomes = self.memo, self._rings.outcomes
        if memo is None:
            return make()
        moment = (self._seq, self._rings.batch, outcomes.start, outcomes.end, self._rings.n_streams)
        made, spared = memo.once((key, self.spec.shard, self._rings.lookback, *moment), make)
        if forecasts:
            self._predictor.spared_cpu_s += spared
        else:
            memo.spared_cpu_s += spared
        return made

    def _chunks(self, rows: list[int], n_targets: int) -> list[list[int]]:
        """Rows in pieces whose features fit into a fixed amount of memory."""
        size = max(1, FEATURE_CELLS // max(1, n_targets * len(self._features.names)))
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def windows(self, stream_ids: Ints) -> list[Window]:
        """What trainings at the last closed batch need, one window a stream."""
        rings, schedule = self._rings, self.spec.schedule
        origin = schedule.origin_after(rings.open_batch - 1)
        start = origin - self._features.lookback - schedule.train_window
        rows = stream_ids // self.spec.n_shards
        y = rings.outcomes.window(start, origin, rows)
        arrived = {}
        if self.spec.model.name == EXTERNAL:
            arrived = self._arrivals.versions(stream_ids, origin - schedule.batch, origin)
        return [
            Window(
                stream_id=int(stream_id),
                start=start,
                y=y[i],
                forecast=rings.last_forecast[row].copy(),
                arrived=arrived.get(int(stream_id), ()),
            )
            for i, (stream_id, row) in enumerate(zip(stream_ids, rows, strict=True))
        ]

    def _ids(self) -> Ints:
        return np.arange(self._rings.n_streams, dtype=np.int64) * self.spec.n_shards + self.spec.shard


def _made(key: object, make: Callable[[], T]) -> T:  # noqa: ARG001  as `Shard._once`, without a memo
    return make()
