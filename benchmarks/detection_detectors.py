"""Detectors that `benchmarks.detection` compares, as arrays over streams: tests on single losses and chunk means.

A detector takes one closed batch of losses at a time and answers with its evidence, larger is worse: an alarm is
evidence at or above a threshold, its one knob. Peers see losses divided by the stream's mean over the warm-up, so
that one threshold fits streams of every scale.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.signal import lfilter

from benchmarks.detection_scoring import SILENT
from mlma.core.blocks import Bools, Floats
from mlma.core.loss_tests import LossTestResult, hac_mean, kolmogorov_smirnov, welch

SMALLEST_P = 1e-300


class Detector(Protocol):
    """What is asked of a detector."""

    def update(self, losses: Floats) -> Floats:
        """Take one closed batch, shape (streams, n), and return its evidence, shape (streams,)."""

    def reset(self, streams: Bools) -> None:
        """Forget the past of some streams: they were retrained."""


Build = Callable[[int, int, int], Detector]
"""Makes a detector for a number of streams, a largest and a smallest number of reference batches."""


def evidence_of(p_value: Floats) -> Floats:
    """Evidence of p-values: minus their decimal logarithm, `SILENT` where NaN."""
    with np.errstate(invalid="ignore"):
        logs = -np.log10(np.maximum(p_value, SMALLEST_P))
    return np.where(np.isnan(p_value), SILENT, logs)


def run(detector: Detector, losses: Floats, *, warm_up: int) -> Floats:
    """Evidence after the warm-up, shape (streams, batches - warm_up), of losses (streams, batches, n)."""
    for batch in range(warm_up):
        detector.update(losses[:, batch])
    return np.stack([detector.update(losses[:, b]) for b in range(warm_up, losses.shape[1])], axis=1)


def relative(losses: Floats, *, warm_up: int) -> Floats:
    """Losses of shape (streams, batches, n) divided by each stream's mean over the warm-up (where it is not zero)."""
    unit = np.nanmean(losses[:, :warm_up], axis=(1, 2), keepdims=True)
    return losses / np.where(unit > 0.0, unit, 1.0)


class FixedReference:
    """The first batches after a reset, which fill up while they are being used: the reference of batch tests."""

    def __init__(self, streams: int, size: int) -> None:
        self.count = np.zeros(streams, dtype=np.int64)
        self._size = size
        self._ring: Floats | None = None

    def losses(self, n: int) -> Floats:
        """Losses by batch, shape (streams, size, n), NaN where there is none yet."""
        if self._ring is None:
            self._ring = np.full((len(self.count), self._size, n), np.nan)
        return self._ring

    def add(self, losses: Floats) -> None:
        """Take a batch where there is room."""
        open_ = np.flatnonzero(self.count < self._size)
        self.losses(losses.shape[1])[open_, self.count[open_]] = losses[open_]
        self.count[open_] += 1

    def reset(self, streams: Bools) -> None:
        """Forget the batches of some streams."""
        self.count[streams] = 0
        if self._ring is not None:
            self._ring[streams] = np.nan


class BatchTest:
    """A two-sample test of the recent batch against the reference batches, loss by loss."""

    def __init__(self, test: Callable[[Floats, Floats], LossTestResult], streams: int, size: int, least: int) -> None:
        self._test, self._least = test, least
        self._reference = FixedReference(streams, size)

    def update(self, losses: Floats) -> Floats:
        """Return minus the logarithm of the p-values, and let the batch into the reference where there is room."""
        evidence = np.full(len(losses), SILENT)
        ready = self._reference.count >= self._least
        if ready.any():
            past = self._reference.losses(losses.shape[1])[ready]
            evidence[ready] = evidence_of(self._test(losses[ready], past.reshape(len(past), -1)).p_value)
        self._reference.add(losses)
        return evidence

    def reset(self, streams: Bools) -> None:
        """Forget the reference of some streams."""
        self._reference.reset(streams)


class ChunkMean:
    """NannyML's rule: the mean of the chunk against mean + z standard deviations of the reference chunks' means.

    Its z is 3 by default; here it is the knob. The standard deviation has the divisor m, as NannyML's has.
    """

    def __init__(self, streams: int, size: int, least: int) -> None:
        self._least = max(2, least)
        self._reference = FixedReference(streams, size)

    def update(self, losses: Floats) -> Floats:
        """Return how many standard deviations the batch mean lies above the mean of the reference chunks."""
        mean = np.nanmean(losses, axis=1)
        evidence = np.full(len(mean), SILENT)
        ready = self._reference.count >= self._least
        if ready.any():
            past = self._reference.losses(1)[ready, :, 0]
            spread = np.nanstd(past, axis=1)
            rise = mean[ready] - np.nanmean(past, axis=1)
            none = np.where(rise > 0.0, np.inf, SILENT)
            evidence[ready] = np.where(spread > 0.0, rise / np.where(spread > 0.0, spread, 1.0), none)
        self._reference.add(mean[:, None])
        return evidence

    def reset(self, streams: Bools) -> None:
        """Forget the reference of some streams."""
        self._reference.reset(streams)


class PageHinkley:
    """River's Page-Hinkley test upwards, as arrays; its statistic's largest value in the batch is the evidence.

    It equals ``river.drift.PageHinkley(mode="up", delta=delta)`` up to an alarm (a test holds it to that). River
    forgets everything at an alarm; before the first one that is judged there is none, so nothing is forgotten here.
    """

    MIN_INSTANCES = 30
    ALPHA = 1.0 - 0.0001

    def __init__(self, streams: int, *, delta: float) -> None:
        self._delta = delta
        self._n = np.zeros((streams, 1))
        self._total = np.zeros((streams, 1))
        self._sum = np.zeros((streams, 1))
        self._lowest = np.full((streams, 1), np.inf)

    def update(self, losses: Floats) -> Floats:
        """Take the losses of a batch one after the other."""
        n = self._n + np.arange(1, losses.shape[1] + 1)
        total = self._total + np.cumsum(losses, axis=1)
        step = losses - total / n - self._delta
        rise, _ = lfilter([1.0], [1.0, -self.ALPHA], step, axis=1, zi=self.ALPHA * self._sum)
        lowest = np.minimum(self._lowest, np.minimum.accumulate(rise, axis=1))
        statistic = np.where(n >= self.MIN_INSTANCES, rise - lowest, SILENT)
        self._n, self._total, self._sum, self._lowest = n[:, -1:], total[:, -1:], rise[:, -1:], lowest[:, -1:]
        return np.asarray(statistic.max(axis=1))

    def reset(self, streams: Bools) -> None:
        """Begin anew for some streams."""
        self._n[streams] = self._total[streams] = self._sum[streams] = 0.0
        self._lowest[streams] = np.inf


class Periodic:
    """Alarms every k batches whatever the losses are: k = 1 always, k = infinity never."""

    def __init__(self, streams: int, period: float) -> None:
        self._period = period
        self._since = np.zeros(streams)

    def update(self, losses: Floats) -> Floats:
        """Look at the calendar only."""
        self._since += 1.0
        return np.where(self._since >= self._period, np.inf, np.full(len(losses), SILENT))

    def reset(self, streams: Bools) -> None:
        """Start the calendar of some streams again."""
        self._since[streams] = 0.0


ALWAYS, NEVER = 1.0, math.inf

BATCH_TESTS: dict[str, Build] = {
    "Welch": lambda streams, size, least: BatchTest(welch, streams, size, least),
    "KS": lambda streams, size, least: BatchTest(kolmogorov_smirnov, streams, size, least),
    "HAC mean": lambda streams, size, least: BatchTest(hac_mean, streams, size, least),
    "chunk mean + z sd": lambda streams, size, least: ChunkMean(streams, size, max(3, least)),
    "Page-Hinkley": lambda streams, _size, _least: PageHinkley(streams, delta=0.005),
    "Page-Hinkley, delta .1": lambda streams, _size, _least: PageHinkley(streams, delta=0.1),
}
"""The peers that are computed here, whatever else is installed."""
