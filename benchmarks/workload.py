"""One shard as a running fleet would have it: full rings, closed batches, forecasts of the open batch issued.

Everything goes in through the shard's own history port, as after a restart; nothing is put into its rings by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.adapters.history import MemoryHistory
from mlma.core.blocks import Bools, Floats, ForecastBlock, Ints, LossBlock, ObservationBlock
from mlma.core.judge import Evidence
from mlma.core.schedule import Schedule
from mlma.core.settings import ModelSettings, TestingSettings
from mlma.runtime.replay import ReplayArtifacts
from mlma.runtime.shard import Position, Shard, ShardSpec

CYCLE = 24  # slots of a day
WINDOW = 28 * CYCLE  # train window, slots
MIN_CLOSED = 12  # batches that are closed before the first one is scored: more than both references hold
SPREAD = 0.1  # standard deviation of a stream's errors, as a share of its level
NAIVE_SPREAD = 0.15  # the same of the yardstick
Observations = list[tuple[int, ObservationBlock]]
VERSION = "0-0-0"  # of the served forecasts: no fallback


class NewestHistory(MemoryHistory):
    """History that keeps the newest block of each kind: what is measured is the shard, not its past in memory."""

    def observations(self, shard: int, *, after_seq: int, up_to_seq: int, **_: object) -> Observations:
        """Give the block as it is: what filtering costs belongs to the adapter, not to the shard."""
        return [
            (seq, block) for seq, block in self._observations.get(shard, {}).items() if after_seq < seq <= up_to_seq
        ]

    def append_observations(self, seq: int, shard: int, block: ObservationBlock) -> None:
        """Keep what file ``seq`` brought, and nothing before it."""
        self._observations.clear()
        super().append_observations(seq, shard, block)

    def append_forecasts(self, shard: int, block: ForecastBlock) -> None:
        """Keep this block alone."""
        self._forecasts.clear()
        super().append_forecasts(shard, block)

    def append_losses(self, shard: int, block: LossBlock) -> None:
        """Keep this block alone."""
        self._losses.clear()
        super().append_losses(shard, block)

    def clear(self) -> None:
        """Keep nothing."""
        for kept in (self._observations, self._forecasts, self._losses):
            kept.clear()


class MemoryCheckpoints:
    """The newest checkpoint of one shard, not copied: a restart that costs nothing."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] | None = None

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:  # noqa: ARG002  there is only one
        """Keep the arrays until they are taken up."""
        self._arrays = dict(arrays)

    def load(self, shard: int) -> dict[str, NDArray[Any]] | None:  # noqa: ARG002  there is only one
        """Give the arrays away."""
        arrays, self._arrays = self._arrays, None
        return arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Outcomes of one batch and the forecasts issued for it, arrays of shape (streams, batch)."""

    y: Floats
    forecast: Floats
    naive: Floats


@dataclass
class Workload:
    """One shard of one fleet, hourly, with a train window of 28 days and as much lookback.

    Parameters
    ----------
    streams
        All kept by the one shard.
    batch
        Slots of a batch, a multiple of 24.
    sample
        Streams whose past is kept beside the shard, so that a baseline can redo its arithmetic.
    """

    streams: int
    batch: int
    seed: int = 0
    sample: int = 0
    testing: TestingSettings = field(default_factory=TestingSettings)
    newest: Batch | None = None  # the open batch
    past: list[Batch] = field(default_factory=list)  # of the sample, in order of time
    _seq: int = 0
    _closed: int = -1

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.streams, self.batch])
        self.level = self.rng.lognormal(4.0, 1.0, self.streams)
        self.schedule = Schedule(
            anchor=datetime(2001, 1, 1, tzinfo=UTC),
            frequency=timedelta(hours=1),
            horizon=CYCLE,
            batch=self.batch,
            train_window=WINDOW,
        )
        self.history = NewestHistory()
        self.spec = ShardSpec(
            shard=0,
            n_shards=1,
            schedule=self.schedule,
            testing=self.testing,
            model=ModelSettings(),
            history=self.history,
            artifacts=ReplayArtifacts(),
            checkpoints=MemoryCheckpoints(),
        )
        self.shard = Shard(self.spec)
        self.since: Ints = np.full(self.streams, -1, dtype=np.int64)
        self.excluded: Bools | None = None

    def warm_up(self) -> None:
        """Fill the rings: as many closed batches as the train window and the lookback of the features reach back.

        Afterwards the streams serve versions of every age, as a fleet does whose streams are retrained one by one.
        """
        for _ in range(max(MIN_CLOSED, 2 * WINDOW // self.batch)):
            self.take_closed(is_scored=False)
        self.since = self.rng.integers(-1, self._closed, self.streams)

    def take_closed(self, *, is_scored: bool = True) -> None:
        """Take in a batch that is closed already, and the forecasts of the next one: what a restart does.

        ``is_scored`` asks for its evidence again, so that the shard knows all that it would know without the restart.
        """
        batch = self._closed + 1
        made = self._draw(batch) if self.newest is None else self.newest
        ids = np.arange(self.streams, dtype=np.int64)
        self.history.append_losses(
            0, LossBlock(batch=batch, stream_ids=ids, y=made.y, forecast=made.forecast, naive=made.naive)
        )
        self._keep(made)
        self._observe(batch, made.y)
        self.newest = self._draw(batch + 1)
        self._forecast(batch + 1, self.newest)
        self.shard.checkpoint()
        self.shard = Shard(self.spec)
        self.shard.sync(self._position(closed=batch))
        self.history.clear()
        self._closed = batch
        if is_scored:
            self.shard.score(batch, self.since, self.excluded)

    def offer(self) -> None:
        """Make the outcomes of the open batch known to the history, not yet to the shard."""
        assert self.newest is not None
        self._observe(self._closed + 1, self.newest.y)

    def take_in(self) -> None:
        """Let the shard take in what was offered."""
        self.shard.sync(self._position(closed=self._closed))

    def score(self) -> Evidence:
        """Close the open batch."""
        evidence = self.shard.score(self._closed + 1, self.since, self.excluded)
        assert self.newest is not None
        self._closed += 1
        self._keep(self.newest)
        self.newest = None
        return evidence

    def _draw(self, batch: int) -> Batch:
        slot = np.arange(batch * self.batch, (batch + 1) * self.batch)
        shape = (self.streams, self.batch)
        y = self.level[:, None] * (1.0 + 0.3 * np.sin(2.0 * np.pi * slot / CYCLE))
        error, naive = (
            share * self.level[:, None] * self.rng.standard_normal(shape) for share in (SPREAD, NAIVE_SPREAD)
        )
        return Batch(y=y + error, forecast=y, naive=y + naive)

    def _observe(self, batch: int, y: Floats) -> None:
        self._seq += 1
        slots = np.arange(batch * self.batch, (batch + 1) * self.batch, dtype=np.int64)
        block = ObservationBlock(
            stream_id=np.tile(np.arange(self.streams, dtype=np.int64), self.batch),
            slot=np.repeat(slots, self.streams),
            y=y.T.ravel(),
        )
        self.history.append_observations(self._seq, 0, block)

    def _forecast(self, batch: int, made: Batch) -> None:
        slots = np.arange(batch * self.batch, (batch + 1) * self.batch, dtype=np.int64)
        block = ForecastBlock(
            origin_first=int(slots[0]),
            origin_last=int(slots[-1]) + 1 - CYCLE,
            stream_id=np.repeat(np.arange(self.streams, dtype=np.int64), self.batch),
            slot=np.tile(slots, self.streams),
            forecast=made.forecast.ravel(),
            naive=made.naive.ravel(),
            version=np.zeros(self.streams * self.batch, dtype=np.int64),
            versions=(VERSION,),
        )
        self.history.append_forecasts(0, block)

    def _position(self, *, closed: int) -> Position:
        return Position(seq=self._seq, n_streams=self.streams, batch=closed)

    def _keep(self, made: Batch) -> None:
        rows = slice(self.sample)
        self.past.append(
            Batch(y=made.y[rows].copy(), forecast=made.forecast[rows].copy(), naive=made.naive[rows].copy())
        )
