"""Serving one shard's forecasts: the champion where it can, seasonal naive where it cannot."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Floats, Ints
from mlma.core.records import NAIVE
from mlma.core.settings import ModelSettings
from mlma.models import registry
from mlma.models.forecaster import Forecaster, checked_forecasts
from mlma.runtime.ports import ArtifactStore

Memo = dict[tuple[str, int, int, int], tuple[Floats, float]]
"""Forecasts that several policies of a replay share: artifact, stream and span to forecasts and CPU seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version that serves a stream, and how its artifact is read."""

    version_id: str
    family: str
    sha256: str


@dataclass(slots=True)
class Served:
    """Forecasts under way, shape (streams, targets); ``version`` indexes ``versions``."""

    forecast: Floats
    version: Ints
    versions: dict[str, int] = field(default_factory=lambda: {NAIVE: 0})
    failed: dict[int, str] = field(default_factory=dict)

    @classmethod
    def fallback(cls, naive: Floats) -> "Served":
        """Every target served by seasonal naive."""
        return cls(forecast=naive.copy(), version=np.zeros(naive.shape, dtype=np.int64))


@dataclass(slots=True)
class Predictor:
    """Loaded models by artifact, least recently used first, and the forecasts that policies of a replay share."""

    artifacts: ArtifactStore
    model: ModelSettings
    horizon: int  # slots of one origin
    memo: Memo | None = None
    spared_cpu_s: float = 0.0  # what forecasts taken from the memo cost when they were made
    capacity: int = 64  # models kept in memory; a LightGBM model of 60 trees takes about 0.1 MB
    _loaded: OrderedDict[str, Forecaster] = field(default_factory=OrderedDict)

    def serve(
        self, served: Served, row: int, stream_id: int, champion: Champion, x: Floats, span: tuple[int, int]
    ) -> None:
        """Replace the naive forecasts of one row by the champion's where those are finite.

        A model that raises, or returns a value that is not finite, takes only itself out: seasonal naive keeps
        serving those targets and the failure is named.
        """
        try:
            made = self._predict(stream_id, champion, x, span)
        except Exception as error:  # noqa: BLE001  a user's model may raise anything; the stream is named, the rest go on
            served.failed[row] = f"{champion.version_id}: {type(error).__name__}: {error}"
            return
        finite = np.isfinite(made)
        if not finite.all():
            served.failed[row] = f"{champion.version_id}: {int((~finite).sum())} of {len(made)} forecasts not finite"
        code = served.versions.setdefault(champion.version_id, len(served.versions))
        served.forecast[row, finite] = made[finite]
        served.version[row, finite] = code

    def _predict(self, stream_id: int, champion: Champion, x: Floats, span: tuple[int, int]) -> Floats:
        key = (champion.sha256, stream_id, *span)
        if self.memo is not None and key in self.memo:
            made, cpu_s = self.memo[key]
            self.spared_cpu_s += cpu_s
            return made
        began = time.thread_time()
        made = self._by_origin(self._load(champion), x)
        if self.memo is not None:
            self.memo[key] = (made, time.thread_time() - began)
        return made

    def _by_origin(self, model: Forecaster, x: Floats) -> Floats:
        """Forecasts of one origin a call: a matrix product of more rows may differ in the last bit.

        So a daemon that catches up, or is restarted in the middle of a batch, records the very same numbers.
        """
        parts = np.split(x, range(self.horizon, len(x), self.horizon))
        return np.concatenate([checked_forecasts(model.predict(part), len(part)) for part in parts])

    def _load(self, champion: Champion) -> Forecaster:
        found = self._loaded.get(champion.sha256)
        if found is None:
            found = registry.load(champion.family, self.artifacts.load(champion.sha256), self.model)
            self._loaded[champion.sha256] = found
            while len(self._loaded) > self.capacity:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(champion.sha256)
        return found
