"""River's ADWIN, as River has it, and KSWIN as arrays over streams, for `benchmarks.detection`."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.detection_detectors import Build
from benchmarks.detection_scoring import SILENT
from mlma.core.blocks import Bools, Floats, Ints

STRICTNESS = (0.8, 1.4, 2.0, 2.7, 3.6, 5.0, 7.5, 11.0, 16.0, 24.0, 40.0)
"""Minus the decimal logarithms of the deltas that ADWIN is run with; River's default is 2.7."""


def is_installed() -> bool:
    """Whether River is there."""
    return find_spec("river") is not None


class Adwin:
    """River's ADWIN with every delta of `STRICTNESS`, one a stream and delta.

    Its knob changes what it remembers, so each setting is a run of its own; the evidence is the strictness of the
    strictest setting that alarms. An alarm is a cut after which the window's mean is higher than before the batch:
    ADWIN looks for changes both ways, and that losses fell is no reason to retrain.
    """

    def __init__(self, streams: int, *, strictness: Sequence[float] = STRICTNESS) -> None:
        self._strictness = sorted(strictness)
        self._detectors = [self._new() for _ in range(streams)]

    def _new(self) -> list[Any]:
        from river.drift import ADWIN

        return [ADWIN(delta=10.0**-s) for s in self._strictness]

    def update(self, losses: Floats) -> Floats:
        """Feed the losses one by one to every setting."""
        evidence = np.full(len(losses), SILENT)
        for i, row in enumerate(losses.tolist()):
            for strictness, detector in zip(self._strictness, self._detectors[i], strict=True):
                if self._alarms(detector, row):
                    evidence[i] = strictness
        return evidence

    @staticmethod
    def _alarms(detector: Any, losses: list[float]) -> bool:
        before = detector.estimation
        update = detector.update
        alarm = False
        for loss in losses:
            update(loss)
            if detector.drift_detected and detector.estimation > before:
                alarm = True
        return alarm

    def reset(self, streams: Bools) -> None:
        """Begin anew for some streams."""
        for i in np.flatnonzero(streams):
            self._detectors[i] = self._new()


class Kswin:
    """River's KSWIN: the newest 30 losses against 30 drawn from the 70 before them, at every loss.

    The evidence is the largest Kolmogorov-Smirnov distance of a batch, of which River's p-value is a decreasing
    function (both samples have 30 losses). One draw of positions serves all streams.
    """

    WINDOW, RECENT = 100, 30

    def __init__(self, streams: int, *, seed: int = 0) -> None:
        self._past = np.full((streams, self.WINDOW - 1), np.nan)
        self._rng = np.random.default_rng(seed)

    def update(self, losses: Floats) -> Floats:
        """Take the losses of a batch one after the other."""
        both = np.concatenate([self._past, losses], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(both, self.WINDOW, axis=1)
        old = self.WINDOW - self.RECENT
        drawn = np.stack([self._rng.choice(old, self.RECENT, replace=False) for _ in range(windows.shape[1])])
        distance = np.full(windows.shape[:2], SILENT)
        ready = ~np.isnan(windows[:, :, 0])
        sample = np.take_along_axis(windows, np.broadcast_to(drawn, (len(losses), *drawn.shape)), axis=2)
        distance[ready] = ks_distance(windows[ready][:, old:], sample[ready])
        self._past = both[:, -(self.WINDOW - 1) :]
        return np.asarray(distance.max(axis=1))

    def reset(self, streams: Bools) -> None:
        """Empty the window of some streams."""
        self._past[streams] = np.nan


def ks_distance(a: Floats, b: Floats) -> Floats:
    """Largest distance between the distribution functions of two samples of equal size, row by row.

    Examples
    --------
    >>> ks_distance(np.array([[1.0, 2.0]]), np.array([[2.0, 3.0]])).tolist()
    [0.5]
    """
    n = a.shape[1]
    both = np.concatenate([a, b], axis=1)
    order: Ints = np.argsort(both, axis=1)
    value = np.take_along_axis(both, order, axis=1)
    gap = np.abs(np.cumsum(np.where(order < n, 1, -1), axis=1))
    is_last = np.ones(gap.shape, dtype=np.bool_)  # distribution functions are compared after the last of equals
    is_last[:, :-1] = value[:, 1:] != value[:, :-1]
    return np.asarray(np.where(is_last, gap, 0).max(axis=1) / n)


RIVER_TESTS: dict[str, Build] = {
    "KSWIN": lambda streams, _size, _least: Kswin(streams),
    "ADWIN": lambda streams, _size, _least: Adwin(streams),
}
