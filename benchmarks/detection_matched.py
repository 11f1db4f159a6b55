"""Every detector at the same budget of false alarms: knobs from healthy fleets, then delay and misses on drifts."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.detection_detectors import Build, Detector, relative, run
from benchmarks.detection_drifts import Drift
from benchmarks.detection_samples import Sample
from benchmarks.detection_scoring import Knob, Outcome, false_alarm_rate, first_alarms, match, outcome
from mlma.core.blocks import Floats, Ints

FEWEST_ALARMS = 5.0
"""False alarms that calibration streams must lead one to expect; with fewer, no knob is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence of one detector on one sample.

    Attributes
    ----------
    calibration
        Of the healthy calibration streams, shape (streams, batches after the warm-up).
    by_drift
        Of the streams with that drift, by its name; shape (streams, batches after the warm-up).
    streams
        Positions of those streams among the drifted ones of the sample.
    """

    calibration: Floats
    by_drift: Mapping[str, Floats]
    streams: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One detector, one drift, one budget; ``rate`` is what the evaluation's streams showed without a drift."""

    detector: str
    drift: Drift
    budget: float
    knob: Knob
    first: Ints  # (streams,)
    streams: Ints
    batches: int
    onset: int
    horizon: int

    @property
    def outcome(self) -> Outcome:
        """Delay, misses and late alarms."""
        return outcome(self.first, onset=self.onset, horizon=self.horizon, batches=self.batches)

    @property
    def rate(self) -> float:
        """False alarms per batch at risk; of use where nothing drifts."""
        return false_alarm_rate(self.first, self.batches)


def spaced(available: int, wanted: int) -> Ints:
    """So many positions, evenly spaced, of those available."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).astype(np.int64))


def peer_losses(sample: Sample, peer: str) -> tuple[Floats, dict[str, Floats], Ints]:
    """Relative losses of calibration streams and of drifted ones by drift, and the latter's positions."""
    warm_up = sample.warm_up
    healthy = sample.calibration.reshape(-1, *sample.calibration.shape[2:])
    n_drifted = int(sample.drifted.sum())
    few, fewer = sample.sizes.slow.get(peer, (len(healthy), n_drifted))
    calibration = relative(healthy[spaced(len(healthy), few)], warm_up=warm_up)
    streams = spaced(n_drifted, fewer)
    drifted = {d.name: relative(sample.with_drift(d)[streams], warm_up=warm_up) for d in sample.drifts()}
    return calibration, drifted, streams


def peer_evidence(name: str, build: Build, sample: Sample) -> Evidence:
    """Evidence of a peer that treats every stream by itself."""
    calibration, drifted, streams = peer_losses(sample, name)
    warm_up = sample.warm_up

    def evidence(losses: Floats) -> Floats:
        return run(build(len(losses), warm_up, warm_up), losses, warm_up=warm_up)

    by_drift: dict[str, Floats] = {}
    for length in {losses.shape[1] for losses in drifted.values()}:  # drifts of one length run together, as if
        names = [name for name, losses in drifted.items() if losses.shape[1] == length]  # they were more streams
        parts = np.split(evidence(np.concatenate([drifted[name] for name in names])), len(names))
        by_drift |= dict(zip(names, parts, strict=True))
    return Evidence(calibration=evidence(calibration), by_drift=by_drift, streams=streams)


def is_enough(streams: int, judged: int, budget: float) -> bool:
    """Whether a budget can be told on so many healthy streams: `FEWEST_ALARMS` are expected among them."""
    return streams * judged * budget >= FEWEST_ALARMS


def trials(name: str, evidence: Evidence, sample: Sample) -> list[Trial]:
    """Find the knob of each budget and run length, and apply it to every drift."""
    found = []
    for budget in sample.sizes.budgets:
        for drift in sample.drifts():
            healthy = evidence.calibration[:, : sample.sizes.judged(is_long=drift.is_long)]
            if is_enough(*healthy.shape, budget):
                knob = match(healthy, budget)
                first = first_alarms(evidence.by_drift[drift.name], knob.threshold)
                found.append(_trial(name, sample, drift, budget, streams=evidence.streams, knob=knob, first=first))
    return found


def setting_trials(
    name: str, make: Callable[[int, float], Detector], settings: tuple[float, ...], sample: Sample
) -> list[Trial]:
    """Trials of a detector whose knob changes what it remembers, so that each setting is a run of its own.

    Parameters
    ----------
    make
        Makes the detector for a number of streams and a setting; its evidence is infinite where it alarms.
    settings
        Strictest first. The most sensitive one within the budget is looked for by bisection.
    """
    calibration, drifted, streams = peer_losses(sample, name)

    @cache
    def on_healthy(setting: float) -> Floats:
        return run(make(len(calibration), setting), calibration, warm_up=sample.warm_up)

    @cache
    def on_drifted(setting: float, drift: str) -> Ints:
        losses = drifted[drift]
        return first_alarms(run(make(len(losses), setting), losses, warm_up=sample.warm_up), 1.0)

    def rate(setting: float, judged: int) -> float:
        return false_alarm_rate(first_alarms(on_healthy(setting)[:, :judged], 1.0), judged)

    found = []
    for budget in sample.sizes.budgets:
        for drift in sample.drifts():
            judged = sample.sizes.judged(is_long=drift.is_long)
            if is_enough(len(calibration), judged, budget):
                after = bisect_right(settings, budget, key=lambda s, judged=judged: rate(s, judged))
                setting = settings[max(0, after - 1)]
                knob = Knob(threshold=setting, rate=rate(setting, judged))
                first = on_drifted(setting, drift.name)
                found.append(_trial(name, sample, drift, budget, streams=streams, knob=knob, first=first))
    return found


def _trial(name: str, sample: Sample, drift: Drift, budget: float, *, streams: Ints, knob: Knob, first: Ints) -> Trial:
    sizes = sample.sizes
    horizon = sizes.long_horizon if drift.is_long else sizes.horizon
    return Trial(
        detector=name,
        drift=drift,
        budget=budget,
        knob=knob,
        first=first,
        streams=streams,
        batches=sizes.judged(is_long=drift.is_long),
        onset=sizes.before,
        horizon=horizon if drift.horizon is None else drift.horizon,
    )
