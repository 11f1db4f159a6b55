"""Every detector at the same budget of false alarms: knobs from healthy fleets, then delay and misses on drifts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.detection_detectors import Build, relative, run
from benchmarks.detection_drifts import Drift
from benchmarks.detection_samples import Sample, Sizes
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


Knobs = Mapping[tuple[float, bool], Knob]
"""Knob of one detector by budget, and by whether the run is the long one."""


def own_knobs(evidence: Evidence, sizes: Sizes) -> Knobs:
    """Knobs of a detector that meet each budget on the sample's own healthy streams, where these are enough."""
    found = {}
    for budget in sizes.budgets:
        for is_long in (False, True):
            healthy = evidence.calibration[:, : sizes.judged(is_long=is_long)]
            if is_enough(*healthy.shape, budget):
                found[budget, is_long] = match(healthy, budget)
    return found


def strictest(knobs: Sequence[Knobs]) -> Knobs:
    """One setting that keeps the budget in every sample: the least sensitive of the samples' own knobs.

    A detector that has to be switched off in one sample is switched off.
    """
    shared = set(knobs[0]).intersection(*knobs)
    found = {}
    for key in shared:
        candidates = [each[key] for each in knobs]
        off = [knob for knob in candidates if math.isnan(knob.threshold)]
        found[key] = off[0] if off else max(candidates, key=lambda knob: knob.threshold)
    return found


KEPT = 1.5
"""Multiple of the budget up to which a detector counts as keeping it in a process: chance is part of that."""


def that_keep(found: Sequence[Trial], always: Sequence[str]) -> list[Trial]:
    """Trials of the detectors that keep the budget on this sample's evaluation streams, and of some others always.

    A budget that is kept over all processes together may be overspent in one of them; where it is, the detector was
    not matched.
    """
    rate = {(trial.detector, trial.budget): trial.rate for trial in found if trial.drift.name == "none"}
    return [
        trial
        for trial in found
        if trial.detector in always or rate[trial.detector, trial.budget] <= KEPT * trial.budget
    ]


def pooled(evidence: Sequence[Evidence], sizes: Sizes) -> Knobs:
    """One setting that keeps the budget over the healthy streams of all samples together, not in each of them.

    What an engineer has whose fleet is of many kinds: where a detector does not know what dependence or tails do, it
    spends its false alarms on the streams that have them.
    """
    length = min(each.calibration.shape[1] for each in evidence)
    return own_knobs(
        Evidence(
            calibration=np.concatenate([each.calibration[:, :length] for each in evidence]), by_drift={},
            streams=np.empty(0, dtype=np.int64),
        ),
        sizes,
    )  # fmt: skip


def trials(name: str, evidence: Evidence, sample: Sample, knobs: Knobs | None = None) -> list[Trial]:
    """Apply knobs to every drift: those that meet the budgets on the sample's own healthy streams unless given."""
    sizes = sample.sizes
    knobs = own_knobs(evidence, sizes) if knobs is None else knobs
    return [
        _trial(name, sample, drift, budget, streams=evidence.streams, knob=knobs[budget, drift.is_long], first=first)
        for budget in sizes.budgets
        for drift in sample.drifts()
        if (budget, drift.is_long) in knobs
        for first in [first_alarms(evidence.by_drift[drift.name], knobs[budget, drift.is_long].threshold)]
    ]


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
