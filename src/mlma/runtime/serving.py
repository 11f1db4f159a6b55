"""Forecasts of one shard's pools: every member's, each failure contained, and what the members cost."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mlma.core import pool
from mlma.core.blocks import Floats, ForecastBlock, Ints, MemberBlock, RefitBlock
from mlma.core.recalibration import recalibrated
from mlma.core.settings import Evergreen, ModelSettings
from mlma.models import registry
from mlma.models.external import version_name
from mlma.models.forecaster import Forecaster, checked_forecasts
from mlma.runtime.arrivals import Arrivals
from mlma.runtime.group_rows import GroupRows
from mlma.runtime.lineup import Champion, Lineup
from mlma.runtime.ports import ArtifactStore

T = TypeVar("T")


@dataclass(slots=True)
class Memo:
    """What several policies of a replay share, with the CPU seconds that it took.

    Attributes
    ----------
    forecasts, refits
        Of versions; and what evergreen members learned.
    loaded
        Models by artifact; kept over batches, as long as some policy serves them.
    found
        What else follows from the outcomes alone, which are the same for all policies, by name and place.
    spared_cpu_s
        CPU seconds of ``found`` that were not spent again, but for forecasts.
    """

    forecasts: dict[tuple[str, int, int, int], tuple[Floats, float]] = field(default_factory=dict)
    refits: dict[tuple[int, int, tuple[Evergreen, ...]], tuple[RefitBlock, float]] = field(default_factory=dict)
    loaded: dict[str, tuple[Forecaster, float]] = field(default_factory=dict)
    found: dict[tuple[object, ...], tuple[Any, float]] = field(default_factory=dict)
    spared_cpu_s: float = 0.0
    rows: dict[tuple[str, int, int], GroupRows] = field(default_factory=dict)  # of trainings of groups

    def clear(self, served: Set[str] = frozenset()) -> None:
        """Forget everything but the models of artifacts that are still served."""
        self.forecasts.clear()
        self.refits.clear()
        self.found.clear()
        self.rows.clear()
        self.loaded = {sha256: loaded for sha256, loaded in self.loaded.items() if sha256 in served}

    def once(self, key: tuple[object, ...], make: Callable[[], T]) -> tuple[T, float]:
        """What ``make`` gave when it was first asked for, not to be changed, and the CPU seconds that this spares."""
        if key in self.found:
            return self.found[key]
        began = time.thread_time()
        made = make()
        self.found[key] = made, time.thread_time() - began
        return made, 0.0


NOBODY = -1
"""Code of an empty seat."""


@dataclass(slots=True)
class Pooled:
    """Forecasts under way of the targets ``first .. last - 1``; ``code`` indexes ``names``."""

    first: int
    last: int
    forecast: Floats  # (streams, seats, targets)
    lineup: Lineup
    code: Ints  # (streams, seats), NOBODY for an empty seat
    names: dict[str, int]  # in order of their codes
    failed: dict[int, str] = field(default_factory=dict)  # by row

    @classmethod
    def begun(cls, forecast: Floats, lineup: Lineup, *, first: int, fixed: Sequence[str]) -> "Pooled":
        """Nobody but the fixed members sits yet."""
        code = np.full(forecast.shape[:2], NOBODY, dtype=np.int64)
        code[:, : len(fixed)] = np.arange(len(fixed))
        names = {name: i for i, name in enumerate(fixed)}
        return cls(first, first + forecast.shape[2], forecast, lineup, code, names)

    def seat(self, row: int, seat: int, name: str) -> None:
        """Note who sits there."""
        self.code[row, seat] = self.names.setdefault(name, len(self.names))

    def served(self, stream_ids: Ints, horizon: int) -> ForecastBlock:
        """What is served: the blend, named after its leading member."""
        lineup = self.lineup
        made = pool.blended(recalibrated(self.forecast, lineup.shift, lineup.slope), lineup.weight)
        lead = pool.leading(self.forecast, self.lineup.weight)
        keep = np.isfinite(made)
        row, column = np.nonzero(keep)
        return ForecastBlock(
            origin_first=self.first,
            origin_last=self.last - horizon,
            stream_id=stream_ids[row],
            slot=column + self.first,
            forecast=made[keep],
            naive=self.forecast[:, 0][keep],
            version=self.code[row, lead[keep]],
            versions=tuple(self.names),
        )

    def members(self, stream_ids: Ints, horizon: int) -> MemberBlock:
        """Every member's forecasts, with the weights."""
        row, seat = np.nonzero(self.code != NOBODY)
        return MemberBlock(
            origin_first=self.first,
            origin_last=self.last - horizon,
            stream_id=stream_ids[row],
            seat=seat,
            member=self.code[row, seat],
            members=tuple(self.names),
            weight=self.lineup.weight[row, seat],
            inner=self.lineup.inner[row, seat],
            shift=self.lineup.shift[row, seat],
            slope=self.lineup.slope[row, seat],
            forecast=self.forecast[row, seat],
        )


@dataclass(slots=True)
class Predictor:
    """Loaded models by artifact, least recently used first, and the forecasts that policies of a replay share."""

    artifacts: ArtifactStore
    model: ModelSettings
    horizon: int  # slots of one origin
    arrivals: Arrivals  # forecasts that were made elsewhere
    memo: Memo | None = None
    spared_cpu_s: float = 0.0  # what forecasts taken from the memo cost when they were made
    capacity: int = 64  # models kept in memory; a LightGBM model of 60 trees takes about 0.1 MB
    _loaded: OrderedDict[str, Forecaster] = field(default_factory=OrderedDict)

    def fill(self, pooled: Pooled, row: int, stream_id: int, versions: Mapping[int, Champion], x: Floats) -> None:
        """Let the versions of one stream forecast.

        A model that raises, or returns a value that is not finite, takes only itself out: the rest of the pool
        serves those targets and the failure is named.
        """
        span = (pooled.first, pooled.last)
        for seat, champion in versions.items():
            pooled.seat(row, seat, champion.version_id)
            try:
                elsewhere = version_name(champion.family)
                if elsewhere is None:
                    made = self._predict(stream_id, champion, x, span)
                else:
                    made = self.arrivals.of(stream_id, elsewhere, *span)
            except Exception as error:  # noqa: BLE001  a user's model may raise anything; the stream is named, the rest go on
                pooled.failed[row] = f"{champion.version_id}: {type(error).__name__}: {error}"
                continue
            finite = np.isfinite(made)
            if not finite.all():
                n_bad = int((~finite).sum())
                what = "not finite" if elsewhere is None else f"of {elsewhere} had not arrived in time"
                pooled.failed[row] = f"{champion.version_id}: {n_bad} of {len(made)} forecasts {what}"
                made = np.where(finite, made, np.nan)
            pooled.forecast[row, seat] = made

    def _predict(self, stream_id: int, champion: Champion, x: Floats, span: tuple[int, int]) -> Floats:
        key = (champion.sha256, stream_id, *span)
        if self.memo is not None and key in self.memo.forecasts:
            made, cpu_s = self.memo.forecasts[key]
            self.spared_cpu_s += cpu_s
            return made
        began = time.thread_time()
        made = self._by_origin(self._load(champion), x)
        if self.memo is not None:
            self.memo.forecasts[key] = (made, time.thread_time() - began)
        return made

    def _by_origin(self, model: Forecaster, x: Floats) -> Floats:
        """Forecasts of one origin a call: a matrix product of more rows may differ in the last bit.

        So a daemon that catches up, or is restarted in the middle of a batch, records the very same numbers.
        """
        if getattr(model, "is_rowwise", False):
            return checked_forecasts(model.predict(x), len(x))
        parts = np.split(x, range(self.horizon, len(x), self.horizon))
        return np.concatenate([checked_forecasts(model.predict(part), len(part)) for part in parts])

    def _load(self, champion: Champion) -> Forecaster:
        found = self._loaded.get(champion.sha256)
        if found is None:
            found = self._shared(champion)
            self._loaded[champion.sha256] = found
            while len(self._loaded) > self.capacity:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(champion.sha256)
        return found

    def _shared(self, champion: Champion) -> Forecaster:
        """A model that another policy of a replay has loaded, or loaded now."""
        known = None if self.memo is None else self.memo.loaded.get(champion.sha256)
        if known is not None:
            self.spared_cpu_s += known[1]
            return known[0]
        began = time.thread_time()
        made = registry.load(champion.family, self.artifacts.load(champion.sha256), self.model)
        if self.memo is not None:
            self.memo.loaded[champion.sha256] = made, time.thread_time() - began
        return made
