"""Who found a drift sooner and missed fewer, at the same budget: cells of process, drift and budget, won or lost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from benchmarks.detection_matched import Trial
from benchmarks.detection_samples import Sample
from benchmarks.detection_scoring import Difference, paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One detector in one cell, over its own streams.

    Attributes
    ----------
    delay
        Mean batches to the first alarm, the horizon where missed; NaN for drifts of one batch.
    missed
        Share of drifts.
    late
        Share of streams whose first alarm came after the horizon.
    threshold, calibrated
        Knob, and false alarms per stream-batch with it on the calibration fleets.
    streams
        That had no alarm before the onset.
    """

    detector: str
    delay: float
    missed: float
    late: float
    threshold: float
    calibrated: float
    streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Ours against one peer on the streams that both had at risk; differences are ours minus the peer's.

    ``first`` compares delays, and for a drift of one batch the share of late alarms, which is shown but does not
    decide: who is blind is never late. ``missed`` compares the misses. A difference within one standard error counts
    as equal.
    """

    peer: str
    first: Difference
    missed: Difference
    streams: int
    has_delay: bool = True

    @property
    def is_later(self) -> bool:
        """Delay longer, where there is one."""
        return self.has_delay and self.first.is_worse

    @property
    def is_won(self) -> bool:
        """Delay shorter or equal and misses fewer or equal."""
        return not (self.is_later or self.missed.is_worse)

    @property
    def is_strictly_won(self) -> bool:
        """Won, and better in one of the two."""
        return self.is_won and ((self.has_delay and self.first.is_better) or self.missed.is_better)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One process, drift and budget: what every detector did, and ours against every peer."""

    process: str
    drift: str
    budget: float
    lines: tuple[Line, ...]
    contests: tuple[Contest, ...]

    @property
    def is_won(self) -> bool:
        """Whether no peer was better in any respect."""
        return all(contest.is_won for contest in self.contests)

    def line(self, detector: str) -> Line:
        """Line of one detector."""
        return next(line for line in self.lines if line.detector == detector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """Realised false alarms per stream-batch of one detector on fleets that no knob has seen."""

    process: str
    detector: str
    budget: float
    rate: float


def line(trial: Trial) -> Line:
    """Summary of one trial."""
    result = trial.outcome
    risk = result.at_risk
    some = bool(risk.any())
    return Line(
        detector=trial.detector,
        delay=float(result.delay[risk].mean()) if some and trial.horizon > 1 else float("nan"),
        missed=float(result.missed[risk].mean()) if some else float("nan"),
        late=float(result.late[risk].mean()) if some else float("nan"),
        threshold=trial.knob.threshold,
        calibrated=trial.knob.rate,
        streams=int(risk.sum()),
    )


def contest(ours: Trial, peer: Trial, sample: Sample) -> Contest:
    """Paired comparison over the streams of both trials without an alarm before the onset."""
    shared, i, j = np.intersect1d(ours.streams, peer.streams, return_indices=True)
    a, b = ours.outcome, peer.outcome
    risk = a.at_risk[i] & b.at_risk[j]
    i, j, cluster = i[risk], j[risk], sample.cluster[shared[risk]]
    if ours.horizon > 1:
        first = paired(a.delay[i], b.delay[j], cluster)
    else:
        first = paired(a.late[i].astype(float), b.late[j].astype(float), cluster)
    return Contest(
        peer=peer.detector,
        first=first,
        missed=paired(a.missed[i].astype(float), b.missed[j].astype(float), cluster),
        streams=int(risk.sum()),
        has_delay=ours.horizon > 1,
    )


def cells(sample: Sample, ours: str, variants: Sequence[str], found: Sequence[Trial]) -> list[Cell]:
    """Cells of one sample: ``ours`` against every detector that is not among the ``variants`` of ours."""
    groups: dict[tuple[str, float], list[Trial]] = {}
    for trial in found:
        groups.setdefault((trial.drift.name, trial.budget), []).append(trial)
    result = []
    for (drift, budget), group in groups.items():
        own = [trial for trial in group if trial.detector == ours and trial.drift.is_contest]
        peers = [trial for trial in group if trial.detector != ours and trial.detector not in variants]
        result.append(
            Cell(
                process=sample.process.name,
                drift=drift,
                budget=budget,
                lines=tuple(line(trial) for trial in group),
                contests=tuple(contest(own[0], peer, sample) for peer in peers) if own else (),
            )
        )
    return result


def healthy(sample: Sample, found: Sequence[Trial]) -> list[Healthy]:
    """Realised rates on the evaluation's streams without any drift."""
    return [
        Healthy(process=sample.process.name, detector=trial.detector, budget=trial.budget, rate=trial.rate)
        for trial in found
        if trial.drift.name == "none"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one variant of ours won by one way to set knobs: cells against every peer, and contests with single ones."""

    variant: str
    setting: str
    won: int
    cells: int
    contests_won: int
    contests: int

    @classmethod
    def of(cls, variant: str, setting: str, settled: Sequence[Cell]) -> Self:
        """Count the cells that have a contest, and their contests."""
        won, contested = share_won(settled)
        contests = [contest for cell in settled for contest in cell.contests]
        return cls(
            variant=variant, setting=setting, won=won, cells=contested,
            contests_won=sum(contest.is_won for contest in contests), contests=len(contests),
        )  # fmt: skip

    def and_of(self, other: Self) -> Self:
        """Both together: the same variant and setting under another seed."""
        return replace(
            self, won=self.won + other.won, cells=self.cells + other.cells,
            contests_won=self.contests_won + other.contests_won, contests=self.contests + other.contests,
        )  # fmt: skip


def share_won(settled: Sequence[Cell]) -> tuple[int, int]:
    """Cells won, and cells contested."""
    contested = [cell for cell in settled if cell.contests]
    return sum(cell.is_won for cell in contested), len(contested)
