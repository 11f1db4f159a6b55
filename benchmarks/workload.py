"""A running fleet: one shard with full rings, closed batches and issued forecasts, and the driver that judges it.

Everything goes in through the shard's own history port, as after a restart; nothing is put into its rings by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.adapters.checkpoints import NoCheckpoints
from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.core import policy
from mlma.core.blocks import Bools, Floats, ForecastBlock, LossBlock, ObservationBlock
from mlma.core.records import Stream
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings, LifeSettings, ModelSettings, Serve, TestingSettings
from mlma.monitor.verdicts import Verdicts
from mlma.runtime import monitoring
from mlma.runtime.control import Control, EngineSettings
from mlma.runtime.executors import InlineExecutor
from mlma.runtime.pool_members import n_seats
from mlma.runtime.pools import Pools
from mlma.runtime.ports import Checkpoints, ControlStore, History
from mlma.runtime.replay import ReplayArtifacts, VirtualClock
from mlma.runtime.scoring import BatchScores, gather
from mlma.runtime.shard_parts import Position, ShardSpec

CYCLE = 24  # slots of a day
WINDOW = 28 * CYCLE  # train window, slots
JUDGED = 20  # batches that are judged before the first one that counts: the monitor's ring is full, and went round
RENEWED = 0.04  # share of the streams that another version comes to serve at a batch, as the alarms of a test at 5 %
SPREAD = 0.1  # standard deviation of a stream's errors, as a share of its level
NAIVE_SPREAD = 0.15  # the same of the yardstick
SITES, PRODUCTS = 20, 50
"""Values of the two labels that every stream has; with their pairs, up to 1,070 sets of streams may move together."""
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


class ShardCheckpoint(NoCheckpoints):
    """The newest checkpoint of one shard, not copied: a restart that costs nothing."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] | None = None

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:  # noqa: ARG002  there is only one
        """Keep the arrays until they are taken up."""
        self._arrays = dict(arrays)

    def load(self, shard: int) -> dict[str, NDArray[Any]] | None:  # type: ignore[override]  # noqa: ARG002
        """Give the arrays away."""
        arrays, self._arrays = self._arrays, None
        return arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Outcomes of one batch and the forecasts issued for it, arrays of shape (streams, batch)."""

    number: int
    y: Floats
    forecast: Floats
    naive: Floats
    renewed: Bools  # streams that another version serves from this batch on, shape (streams,)


Observer = Callable[[Batch, Verdicts], None]


def fleet_control(*, streams: int, batch: int, store: ControlStore, history: History, checkpoints: Checkpoints,
                  executor: InlineExecutor) -> Control:  # fmt: skip
    """Control of an hourly fleet that serves a version for every stream, as an engine has it; no monitor yet.

    Train window of 28 days, forecasts for a day, the policy `mlma` and its default test.
    """
    schedule = Schedule(
        anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=CYCLE, batch=batch,
        train_window=WINDOW,
    )  # fmt: skip
    settings = EngineSettings(
        schedule=schedule, model=ModelSettings(), testing=TestingSettings(), admission=AdmissionSettings(),
        life=LifeSettings(warmup=0, min_rows=1, serve=Serve.LATEST), policy=policy.parse("mlma"),
    )  # fmt: skip
    control = Control(
        settings=settings, store=store, history=history, artifacts=ReplayArtifacts(), executor=executor,
        clock=VirtualClock(), checkpoints=checkpoints,
    )  # fmt: skip
    control.fleet.add_streams(
        [
            Stream(
                id=i, name=f"s{i}", first_slot=0,
                labels={"site": f"site {i % SITES}", "product": f"product {i // SITES % PRODUCTS}"},
            )
            for i in range(streams)
        ]
    )  # fmt: skip
    control.fleet.lines = {i: [f"{i}-0-0"] for i in range(streams)}
    control.pools = Pools(settings.life)
    control.pools.grow(streams)
    return control


@dataclass
class Workload:
    """One fleet in one shard, hourly, with a train window of 28 days and as much lookback.

    Parameters
    ----------
    streams
        All kept by the one shard.
    batch
        Slots of a batch, a multiple of 24.
    store
        Control plane; one in memory unless given.
    history
        Where blocks go; `NewestHistory` keeps next to nothing.
    observe
        Called with each batch after it was judged.
    """

    streams: int
    batch: int
    seed: int = 0
    store: ControlStore | None = None
    history: NewestHistory = field(default_factory=NewestHistory)
    observe: Observer | None = None
    newest: Batch | None = None  # the open batch
    closed: int = -1  # the last closed batch
    _seq: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.streams, self.batch])
        self.level = self.rng.lognormal(4.0, 1.0, self.streams)
        self.executor = InlineExecutor(1)
        self.control = fleet_control(
            streams=self.streams, batch=self.batch, history=self.history, checkpoints=NoCheckpoints(),
            executor=self.executor, store=SqlStore("sqlite://", create=True) if self.store is None else self.store,
        )  # fmt: skip
        self.control.monitor = monitoring.opened(self.control)
        settings = self.control.settings
        self.spec = ShardSpec(
            shard=0, n_shards=1, schedule=settings.schedule, testing=settings.testing, model=settings.model,
            evergreen=(), n_seats=n_seats(settings.life), history=self.history, artifacts=self.control.artifacts,
            checkpoints=ShardCheckpoint(),
        )  # fmt: skip
        self.executor.open([self.spec])

    def warm_up(self, *, judged: int = JUDGED) -> None:
        """Fill the rings: as many closed batches as the train window and the lookback of the features reach back.

        The last ones are judged, while versions change as in a fleet whose streams are retrained one by one.
        """
        n_batches = max(judged, 2 * WINDOW // self.batch)
        for batch in range(n_batches):
            self.take_closed(is_judged=batch >= n_batches - judged)

    def take_closed(self, *, is_judged: bool = True) -> Batch:
        """Take in a batch that is closed already, and the forecasts of the next one: what a restart does."""
        made = self._draw(self.closed + 1) if self.newest is None else self.newest
        ids = np.arange(self.streams, dtype=np.int64)
        self.history.append_losses(
            0, LossBlock(batch=made.number, stream_ids=ids, y=made.y, forecast=made.forecast, naive=made.naive)
        )
        self._observe(made)
        self.newest = self._draw(made.number + 1)
        self._forecast(self.newest)
        self.executor.checkpoint()
        self.executor.open([self.spec])
        self.closed = made.number
        self._sync()
        if is_judged:
            self.serve_renewed(made)
            verdicts = self.judge(self.executor.score(self.closed))
            if self.observe is not None:
                self.observe(made, verdicts)
            self.history.clear()
        return made

    def offer(self) -> Batch:
        """Make the outcomes of the open batch known to the history, not yet to the shard."""
        assert self.newest is not None
        self._observe(self.newest)
        return self.newest

    def take_in(self) -> None:
        """Let the shard take in what was offered."""
        self._sync()

    def score(self) -> list[BatchScores]:
        """Close the open batch: what the shards do."""
        scores = self.executor.score(self.closed + 1)
        self.closed += 1
        self.newest = None
        return scores

    def judge(self, scores: list[BatchScores]) -> Verdicts:
        """Judge the batch that was scored last: what the driver does."""
        return monitoring.judge(self.control, gather(scores, self.streams), self.closed)[0]

    def serve_renewed(self, made: Batch) -> None:
        """Note which streams another version serves from a batch on."""
        self.control.fleet.begins = {made.number: set(np.flatnonzero(made.renewed).tolist())}

    def _sync(self) -> None:
        self.executor.sync(Position(seq=self._seq, n_streams=self.streams, batch=self.closed))

    def _draw(self, number: int) -> Batch:
        slot = np.arange(number * self.batch, (number + 1) * self.batch)
        shape = (self.streams, self.batch)
        y = self.level[:, None] * (1.0 + 0.3 * np.sin(2.0 * np.pi * slot / CYCLE))
        error, naive = (
            share * self.level[:, None] * self.rng.standard_normal(shape) for share in (SPREAD, NAIVE_SPREAD)
        )
        renewed = self.rng.random(self.streams) < RENEWED
        return Batch(number=number, y=y + error, forecast=y, naive=y + naive, renewed=renewed)

    def _observe(self, made: Batch) -> None:
        self._seq += 1
        slots = np.arange(made.number * self.batch, (made.number + 1) * self.batch, dtype=np.int64)
        block = ObservationBlock(
            stream_id=np.tile(np.arange(self.streams, dtype=np.int64), self.batch),
            slot=np.repeat(slots, self.streams),
            y=made.y.T.ravel(),
        )
        self.history.append_observations(self._seq, 0, block)

    def _forecast(self, made: Batch) -> None:
        slots = np.arange(made.number * self.batch, (made.number + 1) * self.batch, dtype=np.int64)
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
