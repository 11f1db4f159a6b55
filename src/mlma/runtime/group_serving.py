"""Forecasts of the models that serve many streams, for one shard: many streams a call, a failure contained."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.core.settings import GroupSettings
from mlma.models import registry
from mlma.models.forecaster import Forecaster, checked_forecasts
from mlma.models.scaled import scaled
from mlma.runtime.lineup import GroupSeat, Lineup
from mlma.runtime.ports import ArtifactStore
from mlma.runtime.serving import Memo, Pooled


@dataclass(slots=True)
class GroupPredictor:
    """The loaded models of the groups."""

    artifacts: ArtifactStore
    groups: Sequence[GroupSettings]
    names: Sequence[str]  # of the features
    horizon: int  # slots of one origin
    memo: Memo | None = None
    spared_cpu_s: float = 0.0  # what forecasts taken from the memo cost when they were made
    failed: dict[str, str] = field(default_factory=dict)  # by member, in the last call
    _loaded: dict[str, tuple[str, Forecaster]] = field(default_factory=dict)  # hash and model by member

    def served(self, lineup: Lineup) -> Bools:
        """Whether any group serves a stream of the shard, shape (streams,)."""
        made = np.zeros(len(lineup.weight), dtype=np.bool_)
        for one in lineup.groups:
            made |= one.streams
        return made

    def fill(
        self, pooled: Pooled, rows: Sequence[int], X: Floats, scale: Floats, stream_ids: Mapping[int, int]
    ) -> None:
        """Let the groups' models forecast the streams of some rows.

        Parameters
        ----------
        X
            Features, shape (rows, targets, p).
        scale
            `Features.sizes` of the same rows and targets.
        stream_ids
            Id by row.
        """
        for one in pooled.lineup.groups:
            mine = [at for at, row in enumerate(rows) if one.streams[row]]
            for at in mine:
                pooled.seat(rows[at], one.seat, one.member)
            if not mine:
                continue
            try:
                made = self._predict(one, pooled, [stream_ids[rows[at]] for at in mine], X[mine], scale[mine])
            except Exception as error:  # noqa: BLE001  a user's model may raise anything; the group is named, the rest go on
                self.failed[one.member] = f"{one.model.version_id}: {type(error).__name__}: {error}"
                continue
            n_bad = int((~np.isfinite(made) & np.isfinite(scale[mine])).sum())
            if n_bad:
                self.failed[one.member] = f"{one.model.version_id}: {n_bad} of {made.size} forecasts not finite"
            pooled.forecast[np.asarray(rows)[mine], one.seat] = np.where(np.isfinite(made), made, np.nan)

    def _predict(self, one: GroupSeat, pooled: Pooled, ids: Sequence[int], X: Floats, scale: Floats) -> Floats:
        """Forecasts of some streams, those that another policy has asked for from the memo; (streams, targets)."""
        made = np.empty(scale.shape)
        keys = [(one.model.sha256, stream_id, pooled.first, pooled.last) for stream_id in ids]
        known = {} if self.memo is None else self.memo.forecasts
        missing = [at for at, key in enumerate(keys) if key not in known]
        if missing:
            began = time.thread_time()
            made[missing] = self._forecasts(self._model(one), X[missing], scale[missing])
            each = (time.thread_time() - began) / len(missing)
            if self.memo is not None:
                for at in missing:
                    self.memo.forecasts[keys[at]] = (made[at].copy(), each)
        for at in sorted(set(range(len(keys))) - set(missing)):
            made[at], cpu_s = known[keys[at]]
            self.spared_cpu_s += cpu_s
        return made

    def _forecasts(self, model: Forecaster, X: Floats, scale: Floats) -> Floats:
        rows = scaled(X, self.names, scale)
        if getattr(model, "is_rowwise", False):
            flat = rows.reshape(-1, rows.shape[-1])
            made = checked_forecasts(model.predict(flat), len(flat)).reshape(scale.shape)
        else:  # a product of more rows may differ in the last bit: one origin of one stream a call
            made = np.empty(scale.shape)
            for at in range(0, scale.shape[1], self.horizon):
                span = slice(at, at + self.horizon)
                for row in range(len(rows)):
                    made[row, span] = checked_forecasts(model.predict(rows[row, span]), rows[row, span].shape[0])
        return made * scale

    def _model(self, one: GroupSeat) -> Forecaster:
        sha256, model = self._loaded.get(one.member, ("", None))
        if model is None or sha256 != one.model.sha256:
            settings = next(group.model for group in self.groups if group.member == one.member)
            model = registry.load(one.model.family, self.artifacts.load(one.model.sha256), settings)
            self._loaded[one.member] = (one.model.sha256, model)
        return model
