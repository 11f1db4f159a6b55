"""River's ADWIN, as River has it, and KSWIN as arrays over streams, for `benchmarks.detection`."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.detection_scoring import SILENT
from mlma.core.blocks import Bools, Floats, Ints

DELTAS = tuple(10.0**-k for k in (80, 60, 45, 34, 26, 20, 16, 13, 10, 8, 6.5, 5, 4, 3.2, 2.6, 2, 1.6, 1.2, 0.8, 0.4))
"""Settings of ADWIN that are tried for a budget, strictest first."""


def is_installed() -> bool:
    """Whether River is there."""
    return find_spec("river") is not None


class Adwin:
    """One River ADWIN a stream; an alarm is a cut after which its window's mean is higher than before the batch.

    ADWIN looks for changes both ways. That it fell is no reason to retrain, so such cuts are not held against it.
    """

    def __init__(self, streams: int, *, delta: float) -> None:
        self._delta = delta
        self._detectors = [self._new() for _ in range(streams)]

    def _new(self) -> Any:
        from river.drift import ADWIN

        return ADWIN(delta=self._delta)

    def update(self, losses: Floats) -> Floats:
        """Feed the losses one by one; infinite where it alarmed."""
        return np.array([self._alarms(d, row) for d, row in zip(self._detectors, losses.tolist(), strict=True)])

    @staticmethod
    def _alarms(detector: Any, losses: list[float]) -> float:
        before = detector.estimation
        update = detector.update
        alarm = SILENT
        for loss in losses:
            update(loss)
            if detector.drift_detected and detector.estimation > before:
                alarm = np.inf
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
