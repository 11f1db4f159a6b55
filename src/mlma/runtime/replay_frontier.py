"""The hindsight frontier of a replay: versions that always trained, scored on all later batches, and the best choice.

Only every g-th version of a stream is looked at, so that the extra forecasts stay cheap beside always' fits.
"""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core import losses
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.errors import ModelError
from mlma.core.frontier import best_in_hindsight
from mlma.core.policy_costs import PRICES, Spent
from mlma.models import registry
from mlma.models.features import Features
from mlma.models.forecaster import checked_forecasts
from mlma.runtime.control import EngineSettings
from mlma.runtime.engine import Engine
from mlma.runtime.replay_tally import Tally
from mlma.runtime.training import TrainingOutcome

CURVE = (0.01, 0.03, *PRICES, 3.0, 10.0)
"""Prices of a training for which the frontier is computed."""

FORECAST_SHARE = 0.05
"""Of always' fit CPU time, which the forecasts of old versions are planned to take. Real data take up to twice as
long as the made-up rows of the plan (EIA: 18 % came of a plan of 10 %), and they shall stay below 15 %."""

SMALL_S = 5.0
"""CPU seconds that these forecasts may take in any case, over all streams: a small replay has the whole frontier,
and the same one every time."""

KEPT_BYTES = 256 << 20
"""Of compressed versions that wait for the end of the replay, and of their losses."""

SAMPLE = 4
"""Streams on which the cost of a forecast is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The best choice at one price of a training."""

    price: float
    spent: Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The frontier, and what it cost to find it.

    Attributes
    ----------
    loss
        Shape (streams, versions, batches), summed over the targets of a batch; infinite where a version did not exist.
    batch_of
        Shape (streams, versions), batch after which a version was trained; -1 where a stream has fewer.
    """

    points: Sequence[Point]
    every: int  # g: only every g-th version was looked at
    loss: Floats
    batch_of: Ints
    predict_cpu_s: float
    search_cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One version that may have served."""

    batch: int  # after which it was trained
    family: str
    packed: bytes
    cpu_s: float


@dataclass
class Candidates:
    """Keeps every g-th version that always trains, compressed; g is found out when the second one arrives.

    Parameters
    ----------
    settings
        Of the engine that runs always.
    n_batches
        That will be scored.
    every
        g; 0 finds it out from the CPU time of the first fits and forecasts.
    """

    settings: EngineSettings
    n_batches: int
    every: int = 0
    engine: Engine | None = None
    predict_cpu_s: float = 0.0
    keep_cpu_s: float = 0.0  # spent while always trained
    _count: dict[int, int] = field(default_factory=dict)
    _kept: dict[int, list[Candidate]] = field(default_factory=dict)

    def took(self, outcome: TrainingOutcome) -> None:
        """Keep an outcome of always if it is one to look at."""
        began, predicted_s = time.thread_time(), self.predict_cpu_s
        self._keep(outcome)
        self.keep_cpu_s += time.thread_time() - began - (self.predict_cpu_s - predicted_s)

    def _keep(self, outcome: TrainingOutcome) -> None:
        if outcome.error or outcome.held_out is not None:
            return
        stream, batch, _ = outcome.key
        n = self._count.get(stream, 0)
        self._count[stream] = n + 1
        if n and not self.every:
            self.every = self._affordable()
        if n == 0 or n % self.every == 0:
            made = Candidate(
                batch=batch, family=outcome.family, packed=zlib.compress(outcome.blob, 1), cpu_s=outcome.cpu_s
            )
            self._kept.setdefault(stream, []).append(made)

    def _affordable(self) -> int:
        """Smallest g that keeps the forecasts' CPU time and the memory within their bounds."""
        first = {stream: kept[0] for stream, kept in self._kept.items()}
        fit_s = float(np.median([one.cpu_s for one in first.values()]))  # the first ones import their library
        some = sorted(first)[:: max(1, len(first) // SAMPLE)][:SAMPLE]
        began = time.thread_time()
        schedule = self.settings.schedule
        n_slots = max(1, self.n_batches // 2) * schedule.batch  # a version has half of the batches after it, on average
        features = Features(schedule)
        y = np.random.default_rng(0).uniform(1.0, 2.0, (1, features.lookback + n_slots))
        start = -features.lookback // schedule.horizon * schedule.horizon
        X = features.build(y, start=start, first=0, last=n_slots)[0]
        building_s = 2.0 * (time.thread_time() - began)
        version_s = float("inf")
        for stream in (*some, *some):  # the first time, everything is read in
            again = time.thread_time()
            self._forecast(first[stream], X)
            version_s = min(version_s, time.thread_time() - again)
        self.predict_cpu_s += time.thread_time() - began
        left_s = max(FORECAST_SHARE * self.n_batches * fit_s, SMALL_S / len(first)) - building_s
        by_time = self.n_batches * version_s / max(left_s, 1e-9)
        n_bytes = sum(len(one.packed) for one in first.values()) + 4 * len(first) * self.n_batches
        by_memory = self.n_batches * n_bytes / KEPT_BYTES
        return max(1, min(self.n_batches, int(np.ceil(max(by_time, by_memory)))))

    def _forecast(self, version: Candidate, X: Floats) -> Floats:
        """Forecasts of rows of features, NaN throughout when the model cannot."""
        try:
            model = registry.load(version.family, zlib.decompress(version.packed), self.settings.model)
            return checked_forecasts(model.predict(X), len(X))
        except ModelError:
            return np.full(len(X), np.nan)

    def found(self, always: Tally) -> Found:
        """Score the kept versions on all batches after them, and choose the best at every price.

        What keeping them took is charged to the frontier, and not to always any more.
        """
        always.cpu_s -= self.keep_cpu_s + self.predict_cpu_s
        began = time.thread_time()
        loss, batch_of, cpu_s = self._losses(always)
        self.predict_cpu_s += time.thread_time() - began
        began = time.thread_time()
        points = chosen(loss, cpu_s, always.spent(), always.losses().astype(np.float64), always.counts() > 0)
        return Found(
            points=points, every=max(1, self.every), loss=loss, batch_of=batch_of,
            predict_cpu_s=self.predict_cpu_s, search_cpu_s=self.keep_cpu_s + time.thread_time() - began,
        )  # fmt: skip

    def _losses(self, always: Tally) -> tuple[Floats, Ints, Floats]:
        """Summed loss by stream, version and batch, infinite where a version did not exist or could not forecast."""
        schedule, counts, batches = self.settings.schedule, always.counts(), np.asarray(always.batches)
        n_versions = max((len(kept) for kept in self._kept.values()), default=0)
        shape = (always.n_streams, n_versions)
        loss = np.full((*shape, len(batches)), np.inf)
        batch_of, cpu_s = np.full(shape, -1), np.zeros(shape)
        first, last = schedule.first_slot(int(batches[0])), schedule.origin_after(int(batches[-1]))
        y = self._outcomes(always.engine, always.n_streams, last)
        features = Features(schedule)
        for stream, kept in self._kept.items():  # each version is a model of its own
            X = features.build(y[stream : stream + 1], start=0, first=first, last=last)[0]
            for i, version in enumerate(kept):
                batch_of[stream, i], cpu_s[stream, i] = version.batch, version.cpu_s
                j = int(np.searchsorted(batches, version.batch + 1))
                if j == len(batches):
                    continue
                at = schedule.first_slot(int(batches[j]))
                made = self._forecast(version, X[at - first :])
                loss[stream, i, j:] = self._by_batch(y[stream, at:last], made) * counts[stream, j:]
        return loss, batch_of, cpu_s

    def _by_batch(self, y: Floats, forecast: Floats) -> Floats:
        """Mean loss of consecutive batches, shape (batches,); infinite where a forecast is missing."""
        testing = self.settings.testing
        single = losses.loss(testing.loss, y, forecast, quantile=testing.quantile).reshape(-1, self._batch_slots)
        known = np.isfinite(y).reshape(single.shape)
        mean = np.where(known, single, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
        return np.where(np.isfinite(mean), mean, np.inf)

    @property
    def _batch_slots(self) -> int:
        return self.settings.schedule.batch

    @staticmethod
    def _outcomes(engine: Engine, n_streams: int, last: int) -> Floats:
        """Everything that was admitted, shape (streams, last), NaN where nothing was."""
        y = np.full((n_streams, last), np.nan)
        for shard in range(engine.executor.n_shards):
            for _, block in engine.history.observations(shard, after_seq=0, up_to_seq=2**62, first_slot=0):
                keep = block.slot < last
                y[block.stream_id[keep], block.slot[keep]] = block.y[keep]
        return y


def chosen(loss: Floats, cpu_s: Floats, always: Spent, own: Floats, scored: Bools) -> list[Point]:
    """The best choice of versions at every price of `CURVE`.

    Parameters
    ----------
    loss
        Shape (streams, versions, batches), summed over the targets of a batch.
    cpu_s
        Shape (streams, versions), of the fits.
    always
        What always lost and spent.
    own
        Shape (streams, batches), always' own loss; it stands in where no version could forecast.
    scored
        Shape (streams, batches), batches that count.
    """
    usable = always.scored & (always.loss > 0.0) & scored.any(axis=1)
    streams = np.flatnonzero(usable)
    relative = np.where(scored[streams, None], loss[streams], 0.0)
    nobody = ~np.isfinite(relative).any(axis=1)  # shape (streams, batches)
    relative = np.where(np.asarray(nobody)[:, None], own[streams, None], relative)
    relative /= always.loss[streams, None, None]
    unit = len(streams) / max(1.0, always.fits[streams].sum())  # share of trainings of one, in means over streams
    points = []
    for price in CURVE:
        made = best_in_hindsight(relative, price * unit)
        total, fits, fit_cpu_s = np.zeros((3, len(always.loss)))
        total[streams] = made.loss.sum(axis=1) * always.loss[streams]
        fits[streams] = made.switched.sum(axis=1)
        spent = np.take_along_axis(cpu_s[streams], made.served, axis=1)
        fit_cpu_s[streams] = np.where(made.switched, spent, 0.0).sum(axis=1)
        points.append(Point(price=price, spent=Spent(loss=total, scored=usable, fits=fits, fit_cpu_s=fit_cpu_s)))
    return points
