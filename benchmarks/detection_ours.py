"""`LossMonitor` as a detector of `benchmarks.detection`: fleets stay together, for it learns from all streams."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np

from benchmarks.detection_detectors import evidence_of
from benchmarks.detection_matched import Evidence
from benchmarks.detection_samples import Sample
from mlma import LossMonitor
from mlma.core.blocks import Bools, Floats

OURS = "mlma"
BH = "mlma, fleet rule bh"
E_PROCESS = "mlma, e-process"
ACCUMULATING = "mlma, accumulating"
VARIANTS = (OURS, BH, E_PROCESS, ACCUMULATING)
"""The first one competes: its default test, and no fleet rule, for the budget is a rate per stream and batch."""

FLOOR = 0.05
"""Smallest relative rise that alarms, the default of `LossMonitor`."""


class Monitor:
    """One `LossMonitor` with its defaults and no fleet rule; evidence is minus the logarithm of its p-value.

    A rise below the effect floor is no evidence. Whether the certificate arms the test is left aside: knobs are
    found on healthy streams here, which is what the certificate is for.
    """

    def __init__(self, streams: int, *, test: str = "moderated", season: int = 1, accumulate: bool = False) -> None:
        self._monitor = LossMonitor(
            streams, test=test, fleet="none", season=season, effect_floor=FLOOR, accumulate=accumulate
        )

    def p_values(self, losses: Floats) -> Floats:
        """Take one closed batch; p-values of shape (streams,), NaN where not ready, 1 below the effect floor."""
        verdicts = self._monitor.update(losses)
        return np.where(verdicts.ready, np.where(verdicts.effect >= FLOOR, verdicts.p_value, 1.0), np.nan)

    def update(self, losses: Floats) -> Floats:
        """Take one closed batch."""
        return evidence_of(self.p_values(losses))

    def reset(self, streams: Bools) -> None:
        """Streams were retrained."""
        self._monitor.reset(streams)


def benjamini_hochberg(p_value: Floats) -> Floats:
    """Smallest level at which each stream is found by Benjamini and Hochberg's rule; NaN stays NaN.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, np.nan, 0.02, 0.5])).round(3).tolist()
    [0.03, nan, 0.03, 0.5]
    """
    adjusted = np.full(p_value.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p_value))
    order = known[np.argsort(p_value[known])]
    stepped = p_value[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum.accumulate(stepped[::-1])[::-1]
    return adjusted


def our_evidence(
    sample: Sample, *, test: str = "moderated", accumulate: bool = False, turns: int | None = None
) -> dict[str, Evidence]:
    """Evidence on whole fleets, a share of whose streams drifts; for the default test also under the fleet rule bh.

    Parameters
    ----------
    test, accumulate
        Of `LossMonitor`.
    turns
        How many of the sample's turns; None for all.

    Returns
    -------
    dict
        `OURS` and `BH`, or `ACCUMULATING`, or `E_PROCESS`.
    """
    season, warm_up = sample.process.season, sample.warm_up
    onset = warm_up + sample.sizes.before
    drifted = sample.drifted[:turns]
    where = np.nonzero(drifted)

    def monitor(streams: int) -> Monitor:
        return Monitor(streams, test=test, season=season, accumulate=accumulate)

    known = np.stack([_p_values(monitor(len(f)), f)[:, warm_up:] for f in sample.calibration])
    begun = [monitor(sample.evaluation.shape[1]) for _ in sample.evaluation]
    before = np.stack([_p_values(m, f[:, :onset]) for m, f in zip(begun, sample.evaluation, strict=True)])[
        ..., warm_up:
    ]
    p_values = {}
    for drift in sample.drifts():
        changed = sample.with_drift(drift)[: len(where[0])]
        after = np.empty((*drifted.shape, changed.shape[1] - onset))
        for turn, fleet in np.ndindex(drifted.shape[:2]):
            losses = sample.evaluation[fleet, :, onset : sample.batches(drift)].copy()
            losses[drifted[turn, fleet]] = changed[(where[0] == turn) & (where[1] == fleet)][:, onset:]
            after[turn, fleet] = _p_values(deepcopy(begun[fleet]), losses)
        p_values[drift.name] = np.concatenate(
            [np.broadcast_to(before, (*drifted.shape, before.shape[2])), after], axis=3
        )
    rules = {E_PROCESS: None} if test == "e_process" else {OURS: None, BH: benjamini_hochberg}
    if accumulate:
        rules = {ACCUMULATING: None}
    return {
        name: Evidence(
            calibration=_evidence(known, rule).reshape(-1, known.shape[2]),
            by_drift={key: _evidence(p, rule)[where] for key, p in p_values.items()},
            streams=np.arange(len(where[0])),
        )
        for name, rule in rules.items()
    }


def _p_values(monitor: Monitor, losses: Floats) -> Floats:
    """P-values of one fleet, shape (streams, batches), of losses (streams, batches, n)."""
    return np.stack([monitor.p_values(losses[:, batch]) for batch in range(losses.shape[1])], axis=1)


def _evidence(p_value: Floats, rule: Callable[[Floats], Floats] | None) -> Floats:
    """Evidence of p-values with shape (..., streams, batches), batch by batch under a fleet's rule."""
    if rule is None:
        return evidence_of(p_value)
    return evidence_of(np.apply_along_axis(rule, -2, p_value))
