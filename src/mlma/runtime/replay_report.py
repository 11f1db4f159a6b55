"""What a replay measured, by policy: losses against always and naive, trainings, CPU time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.decisions import RejectReason
from mlma.core.records import Rejected
from mlma.runtime.closing import Closed
from mlma.runtime.engine import Engine


@dataclass
class Tally:
    """Losses of one policy by stream, summed over the targets that a trained version was responsible for."""

    name: str
    engine: Engine
    loss: Floats = field(default_factory=lambda: np.zeros(0))
    naive: Floats = field(default_factory=lambda: np.zeros(0))
    n: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    cpu_s: float = 0.0  # of take and tick in this process

    def observe(self, closed: Closed) -> None:
        """Add one batch."""
        more = len(closed.has_version) - len(self.n)
        self.loss, self.naive = (np.concatenate([old, np.zeros(more)]) for old in (self.loss, self.naive))
        self.n = np.concatenate([self.n, np.zeros(more, dtype=np.int64)])
        scores = closed.scores
        counts = closed.has_version & np.isfinite(scores.mean_loss) & np.isfinite(scores.naive_loss)
        n = np.where(counts, scores.n, 0)
        self.loss += np.where(counts, np.nan_to_num(scores.mean_loss), 0.0) * n
        self.naive += np.where(counts, np.nan_to_num(scores.naive_loss), 0.0) * n
        self.n += n

    def relative_to_naive(self) -> Floats:
        """Loss over the naive loss of each stream that was scored, shape (scored streams,)."""
        return _ratio(self.loss, self.naive, self.n > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """Result of a replay."""

    tallies: Sequence[Tally]
    streams: int
    batches: int
    seconds: float
    rejected: Sequence[Rejected]
    settings: dict[str, object]
    inline_training: bool

    def to_json(self) -> dict[str, object]:
        """Figures by policy, as `mlma replay --json` writes them."""
        always = next((tally for tally in self.tallies if tally.name == "always"), None)
        return {
            "settings": self.settings,
            "streams": self.streams,
            "batches": self.batches,
            "seconds": round(self.seconds, 1),
            "skipped": self._skipped(),
            "policies": {tally.name: self._figures(tally, always) for tally in self.tallies},
        }

    def _figures(self, tally: Tally, always: Tally | None) -> dict[str, object]:
        costs = tally.engine.costs
        used = tally.n > 0
        trained_here = costs.train_cpu_s if self.inline_training else 0.0
        rest = max(0.0, tally.cpu_s - trained_here - (costs.predict_cpu_s - costs.spared_cpu_s))
        return {
            "mean_loss": _number(tally.loss.sum() / max(1, tally.n.sum())),
            "relative_loss_to_always": None if always is None else _spread(_ratio(tally.loss, always.loss, used)),
            "relative_loss_to_naive": _spread(tally.relative_to_naive()),
            "trainings": costs.trainings,
            "training_share_of_always": _share(costs.trainings, always.engine.costs.trainings if always else None),
            "training_cpu_share_of_always": _share(
                costs.train_cpu_s, always.engine.costs.train_cpu_s if always else None
            ),
            "alarms": costs.alarms,
            "cpu_s": {
                "train": round(costs.train_cpu_s, 2),
                "predict": round(costs.predict_cpu_s, 2),
                "rest": round(rest, 2),
            },
        }

    def _skipped(self) -> list[dict[str, object]]:
        skipped: list[dict[str, object]] = []
        engine, n = self.tallies[0].engine, self.tallies[0].n
        for stream in engine.fleet.streams:
            if stream.id >= len(n) or not n[stream.id]:
                reason = "no batch was scored under a trained version: too little data in the train window"
                if engine.fleet.champion(stream.id) is not None:
                    reason = "trained, but no batch after it had outcomes"
                skipped.append({"stream": stream.name, "reason": reason})
        skipped += [
            {
                "stream": entry.stream,
                "reason": str(entry.reason),
                "rows": entry.count,
                "first_row": entry.row,
                "column": entry.field,
                "value": entry.value,
                "expected": entry.expected,
            }
            for entry in _merged(self.rejected)
        ]
        return skipped


def _merged(rejected: Sequence[Rejected]) -> list[Rejected]:
    """One entry a stream and reason, with the first row as the example; a replay takes its file in by batches."""
    found: dict[tuple[str, RejectReason], Rejected] = {}
    for entry in rejected:
        known = found.get((entry.stream, entry.reason), entry)
        count = entry.count if known is entry else known.count + entry.count
        found[entry.stream, entry.reason] = replace(min(known, entry, key=lambda one: one.row), count=count)
    return list(found.values())


def _ratio(numerator: Floats, denominator: Floats, used: Bools) -> Floats:
    usable = used & (denominator > 0)
    return numerator[usable] / denominator[usable]


def _spread(values: Floats) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "median": None, "p90": None}
    return {
        "mean": _number(values.mean()),
        "median": _number(np.median(values)),
        "p90": _number(np.quantile(values, 0.9)),
    }


def _share(part: float, whole: float | None) -> float | None:
    return None if not whole else _number(part / whole)


def _number(value: float) -> float:
    return round(float(value), 5)
