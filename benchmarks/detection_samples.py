"""Healthy fleets of `benchmarks.detection`: some to find the knobs on, others to inject drifts into."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.detection_drifts import DRIFTS, Drift, injected, possible
from benchmarks.detection_processes import PROCESSES, Process, healthy
from mlma.core.blocks import Bools, Floats, Ints

SLOW = {"KS": (400, 200), "KSWIN": (120, 60), "ADWIN": (320, 60), "driftfdr": (200, 80)}
"""Budgets that need more healthy streams than these are not told on them (`detection_matched.is_enough`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is simulated; batches unless said otherwise.

    Attributes
    ----------
    n
        Targets of a batch.
    streams, fleets
        Of the evaluation.
    every, turns
        One stream in so many drifts; which ones, is taken in so many turns.
    calibration_fleets
        Healthy fleets of the same size on which knobs are found.
    before
        Judged batches before the onset.
    horizon, long_horizon
        Within which a drift has to be found.
    slow
        Calibration streams and drifted streams that slow peers get to see; the others see all.
    budgets
        False alarms per stream-batch.
    """

    n: int = 96
    streams: int = 500
    fleets: int = 3
    every: int = 20
    turns: int = 2
    calibration_fleets: int = 2
    before: int = 4
    horizon: int = 12
    long_horizon: int = 40
    slow: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(SLOW))
    budgets: tuple[float, ...] = (0.01, 0.001)
    drifts: tuple[Drift, ...] = DRIFTS
    seed: int = 0

    def judged(self, *, is_long: bool) -> int:
        """Batches after the warm-up."""
        return self.before + (self.long_horizon if is_long else self.horizon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Healthy losses of one process.

    Attributes
    ----------
    calibration, evaluation
        Shape (fleets, streams, batches, n).
    drifted
        Shape (turns, fleets, streams): evaluation streams into which drifts are injected, turn by turn.
    cluster
        Shape (drifted streams,), in the order of ``drifted``: equal numbers depend on each other.
    """

    process: Process
    calibration: Floats
    evaluation: Floats
    drifted: Bools
    cluster: Ints
    sizes: Sizes

    @property
    def warm_up(self) -> int:
        """Batches before the first that is judged."""
        return self.process.warm_up

    def batches(self, drift: Drift) -> int:
        """Batches of a run."""
        return self.warm_up + self.sizes.judged(is_long=drift.is_long)

    def drifts(self) -> list[Drift]:
        """Drifts that losses of this kind can have and for which the runs are long enough."""
        available = self.evaluation.shape[2]
        return [d for d in self.sizes.drifts if possible(self.process, d) and self.batches(d) <= available]

    def described(self) -> "Sample":
        """The same sample without its losses, which take much memory."""
        hollow = np.zeros(1)
        return replace(
            self,
            calibration=np.broadcast_to(hollow, self.calibration.shape),
            evaluation=np.broadcast_to(hollow, self.evaluation.shape),
        )

    def with_drift(self, drift: Drift) -> Floats:
        """Losses of the drifted streams, shape (drifted streams, batches, n); the same at every call."""
        _, fleet, stream = np.nonzero(self.drifted)
        losses = self.evaluation[fleet, stream, : self.batches(drift)]
        rng = np.random.default_rng([self.sizes.seed, 77, len(losses)])
        return injected(self.process, drift, losses, onset=self.warm_up + self.sizes.before, rng=rng)


def in_turn(fleets: int, streams: int, *, every: int, turns: int) -> Bools:
    """Which streams drift in which turn, shape (turns, fleets, streams)."""
    if turns > every:
        raise ValueError(f"{turns} turns, expected {every} at most: no stream drifts twice")
    first = np.arange(turns) * every // turns
    drifts = (np.arange(streams)[None, :] - first[:, None]) % every == 0
    return np.repeat(drifts[:, None, :], fleets, axis=1)


def synthetic(process: Process, sizes: Sizes) -> Sample:
    """Fleets of one synthetic process; calibration and evaluation have seeds of their own."""
    batches = process.warm_up + sizes.judged(is_long=True)

    def fleets(kind: int, count: int) -> Floats:
        rngs = [np.random.default_rng([sizes.seed, PROCESSES.index(process), kind, i]) for i in range(count)]
        return np.stack([healthy(process, rng, streams=sizes.streams, batches=batches, n=sizes.n) for rng in rngs])

    drifted = in_turn(sizes.fleets, sizes.streams, every=sizes.every, turns=sizes.turns)
    fleet = np.nonzero(drifted)[1]
    return Sample(
        process=process,
        calibration=fleets(0, sizes.calibration_fleets),
        evaluation=fleets(1, sizes.fleets),
        drifted=drifted,
        cluster=fleet if process.moves_together else np.arange(len(fleet)),
        sizes=sizes,
    )
