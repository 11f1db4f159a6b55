"""Whole runs of `benchmarks.detection`: every alarm retrains the stream, which mends it and resets the detector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.detection_detectors import ALWAYS, BATCH_TESTS, NEVER, Detector, Periodic, relative
from benchmarks.detection_matched import Evidence, own_knobs
from benchmarks.detection_ours import E_PROCESS, OURS, Monitor
from benchmarks.detection_processes import Process, healthy
from benchmarks.detection_river import Adwin, Kswin
from benchmarks.detection_samples import Sizes
from benchmarks.detection_scoring import RunScore, score_run
from mlma.core.blocks import Bools, Floats, Ints

RISE = 1.5
NAMES = ("iid", "AR(.8)", "AR(.5) between batches")
"""Processes whose whole runs are told: one well-behaved, one that depends within, one between batches."""

CALENDARS = {"always": ALWAYS, "never": NEVER, "every 10 batches": 10.0, "every 30 batches": 30.0}
LEAST = 2
"""Reference batches after a reset, before a batch test speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSizes:
    """How long the runs are; batches unless said otherwise.

    ``gap`` batches at least lie between the end of one drift's horizon and the next onset. One stream in eight drifts
    at a time at most, so that the fleet as a whole does not.
    """

    streams: int = 150
    batches: int = 130
    drifts: int = 1
    horizon: int = 15
    gap: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """Score of one detector on the whole run of one process."""

    process: str
    detector: str
    score: RunScore


def schedule(rng: np.random.Generator, sizes: RunSizes, *, warm_up: int) -> Ints:
    """Number of the drift within whose horizon a batch lies, -1 for none, shape (streams, batches).

    Every stream has its own onsets, so that streams do not drift together.
    """
    drift = np.full((sizes.streams, sizes.batches), -1, dtype=np.int64)
    slot = (sizes.batches - warm_up) // sizes.drifts
    slack = slot - sizes.horizon - sizes.gap
    if slack < 1:
        raise ValueError(f"{sizes.batches} batches are too few for {sizes.drifts} drifts")
    for number in range(sizes.drifts):
        onset = warm_up + number * slot + sizes.gap + rng.integers(0, slack, sizes.streams)
        inside = np.arange(sizes.batches) - onset[:, None]
        drift[(inside >= 0) & (inside < sizes.horizon)] = number
    return drift


def simulate(
    detector: Detector, threshold: float, losses: Floats, worse: Floats, drift: Ints, *, warm_up: int
) -> Bools:
    """Alarms of a detector, shape (streams, batches), in a world where an alarm mends the stream.

    A stream that drifts has its ``worse`` losses until its first alarm inside the horizon; what nobody found is
    mended by the calendar when the horizon ends. Either way the detector is reset for the stream.

    Parameters
    ----------
    losses, worse
        Shape (streams, batches, n): healthy, and with every batch degraded.
    drift
        Shape (streams, batches), as `schedule` makes it.
    """
    alarms = np.zeros(drift.shape, dtype=np.bool_)
    mended = np.zeros(len(losses), dtype=np.bool_)
    for batch in range(losses.shape[1]):
        number = drift[:, batch]
        before = drift[:, batch - 1] if batch else np.full(len(losses), -1)
        ended = (before >= 0) & (number < 0)
        if (ended & ~mended).any():
            detector.reset(ended & ~mended)
        mended &= number >= 0
        is_worse = (number >= 0) & ~mended
        evidence = detector.update(np.where(is_worse[:, None], worse[:, batch], losses[:, batch]))
        if batch >= warm_up:
            alarms[:, batch] = evidence >= threshold
            if alarms[:, batch].any():
                detector.reset(alarms[:, batch])
            mended |= alarms[:, batch] & (number >= 0)
    return alarms


def knobs(found: Mapping[str, Evidence], sizes: Sizes) -> dict[str, float]:
    """Threshold of each detector at the first budget, as its healthy short runs give it."""
    key = (sizes.budgets[0], False)
    own = {name: own_knobs(evidence, sizes) for name, evidence in found.items()}
    return {name: knob[key].threshold for name, knob in own.items() if key in knob}


def contestants(process: Process, knob: Mapping[str, float]) -> dict[str, tuple[Callable[[int], Detector], float]]:
    """Detectors and thresholds by name: those whose knob is known, and the calendars."""
    size, season = process.warm_up, process.season
    made: dict[str, tuple[Callable[[int], Detector], float]] = {
        OURS: (lambda s: Monitor(s, season=season), knob.get(OURS, np.nan)),
        E_PROCESS: (lambda s: Monitor(s, test="e_process", season=season), knob.get(E_PROCESS, np.nan)),
        "KSWIN": (Kswin, knob.get("KSWIN", np.nan)),
        "ADWIN": (lambda s: Adwin(s, strictness=[knob["ADWIN"]]), knob.get("ADWIN", np.nan)),
    }
    for name, build in BATCH_TESTS.items():
        made[name] = (lambda s, build=build: build(s, size, LEAST), knob.get(name, np.nan))
    made = {name: pair for name, pair in made.items() if name in knob}
    for name, period in CALENDARS.items():
        made[name] = (lambda s, period=period: Periodic(s, period), 1.0)
    return made


def run_lines(process: Process, knob: Mapping[str, float], sizes: RunSizes, *, n: int, seed: int) -> list[RunLine]:
    """Score every detector on the same whole run of one process."""
    rng = np.random.default_rng([seed, 55])
    losses = healthy(process, rng, streams=sizes.streams, batches=sizes.batches, n=n)
    worse = process.raised(rng, losses, np.full(sizes.batches, RISE))
    unit = losses[:, : process.warm_up].mean(axis=(1, 2), keepdims=True)
    drift = schedule(rng, sizes, warm_up=process.warm_up)
    lines = []
    for name, (build, threshold) in contestants(process, knob).items():
        is_ours = name in (OURS, E_PROCESS)
        good = losses if is_ours else relative(losses, warm_up=process.warm_up)
        bad = worse if is_ours else worse / np.where(unit > 0.0, unit, 1.0)
        alarms = simulate(build(sizes.streams), threshold, good, bad, drift, warm_up=process.warm_up)
        judged = slice(process.warm_up, None)
        lines.append(RunLine(process=process.name, detector=name, score=score_run(alarms[:, judged], drift[:, judged])))
    return lines
