"""Speed of `LossMonitor` as ratios of one run: NumPy's reading of the array, scipy stream by stream, driftfdr.

Welch's test, which scipy has too, is compared in `benchmarks.welch_speed`. The default it does not have. One stream
after another, that is computed in three ways. scipy's two functions, `scipy.stats.ttest_ind` and
`scipy.stats.ttest_ind_from_stats`, compare the newest batch with each of both references by the stream's own variance:
another statistic than the monitor's, which borrows the fleet's. By hand, with no more of scipy than the tail of
Student's t, come the very p-values of the monitor. All are given for nothing what the fleet knows (common component,
floors; by hand also dependence and prior) and the log losses of the past.

By hand, two ratios come of that: over the whole update, in which the monitor also learns what the fleet knows, and over
it without this learning. ``python -m benchmarks.detection_speed`` prints this part of `benchmarks.detection` alone,
without driftfdr.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import detection_driftfdr_child as child
from benchmarks import welch_speed
from benchmarks.measuring import Spread, ratio, ratio_text, significant, timed
from benchmarks.stream_by_stream import Known, by_ttest_from_stats, by_ttest_ind, compared
from benchmarks.welch_speed import WelchSpeed
from mlma import LossMonitor
from mlma.core.blocks import Floats
from mlma.core.loss_tests import LARGE_FLEET, NO_PRIOR, moderated_p
from mlma.core.prediction import predict
from mlma.core.settings import TestingSettings
from mlma.monitor import judging
from mlma.monitor.prior_memory import PriorMemory
from mlma.monitor.verdicts import Verdicts

WARM_UP = 20  # batches: the ring is full and every reference complete
REFERENCE = 8  # batches that driftfdr calibrates on

LEARNING: tuple[tuple[object, str], ...] = (
    (judging, "_learn_dependence"), (judging, "_separated"), (judging, "_run_sham"), (PriorMemory, "update"),
)  # fmt: skip
"""What an update does beyond its test: dependence, the common component, the certificate, the prior of the variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSizes:
    """Streams, targets of a batch, rounds, and streams of the sample that is handled one by one."""

    streams: int = 100_000
    n: int = 96
    repeats: int = 16  # rounds; what the monitor does now and then, it does every fourth or eighth batch
    sample: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Figures of one run; microseconds are per stream, ratios compare rounds of the same run.

    Attributes
    ----------
    share_of_numpy
        Time of ``losses.mean(axis=1)`` over time of `LossMonitor.update`: 1 is as fast as reading the array.
    ttest_ind
        Time of `scipy.stats.ttest_ind` against both references, stream by stream, per stream, over ours.
    ttest_from_stats
        The same of `scipy.stats.ttest_ind_from_stats`.
    ttest_difference
        Largest difference between the p-values of both and those of our test without a prior.
    by_hand
        Time of the monitor's test by hand, stream by stream, per stream, over ours.
    by_hand_alike
        The same over ours without the time that goes into `LEARNING`, which it is given for nothing.
    by_hand_difference
        Largest difference between its p-values and those of the monitor.
    driftfdr
        By detector: time per stream of calibration and one window over ours; None where it does not run.
    driftfdr_steady
        The same without calibration.
    bytes_per_stream
        Of everything the monitor keeps.
    welch
        The same with Welch's test in place of the default.
    """

    streams: int
    n: int
    ours_us: Spread
    numpy_us: Spread
    share_of_numpy: Spread
    ttest_ind: Spread
    ttest_from_stats: Spread
    ttest_difference: float
    by_hand: Spread
    by_hand_alike: Spread
    by_hand_difference: float
    driftfdr: dict[str, float] | None
    driftfdr_steady: dict[str, float] | None
    bytes_per_stream: float
    welch: WelchSpeed


class OneByOne:
    """The monitor's test on a sample of its streams, one after another, by hand and by scipy's function.

    ``sample`` is the number of streams, the first ones.
    """

    def __init__(self, monitor: LossMonitor, sample: int) -> None:
        self._monitor, self.sample = monitor, sample
        self._past: list[Floats] = []  # tested numbers of all batches, each of shape (sample,)

    def add(self, verdicts: Verdicts) -> None:
        """Remember a batch."""
        self._past.append(verdicts.tested[: self.sample].copy())  # a view would keep the whole fleet's

    def prepare(self, losses: Floats, verdicts: Verdicts) -> None:
        """Lay out, outside the clock, what is at hand when a batch is tested that the monitor has judged just now."""
        monitor = self._monitor
        prior = monitor.priors.prior
        guesses = np.asarray([(g.weight, g.df, g.variance, g.known_df) for g in prior.guesses]).T
        is_large = int(np.count_nonzero(verdicts.ready)) >= LARGE_FLEET
        self._known = Known(
            beta=0.0, rho=monitor.dependence.now.rho, prior=prior, is_large=is_large, guesses=guesses
        )  # fmt: skip
        self._floor = monitor.references.floors.floor[: self.sample].copy()
        mean = losses[: self.sample].mean(axis=1)
        self._shift = np.log(mean + self._floor) - verdicts.tested[: self.sample]
        self._losses, self._before = losses[: self.sample], np.stack(self._past, axis=1)

    def by_hand(self) -> Floats:
        """The monitor's p-values, shape (sample,)."""
        known, settings = self._known, self._monitor.settings
        found = np.empty(len(self._losses))
        for i in range(len(found)):
            found[i] = compared(self._recent(i), self._before[i], known, settings)
        return found

    def by_ttest_ind(self) -> Floats:
        """Those against each of both references, by the stream's own variance alone, shape (sample, 2)."""
        return self._by(by_ttest_ind)

    def by_ttest_from_stats(self) -> Floats:
        """The same from scipy's function that looks at no sample."""
        return self._by(by_ttest_from_stats)

    def _by(self, test: Callable[[float, Floats, TestingSettings], tuple[float, float]]) -> Floats:
        found = np.empty((len(self._losses), 2))
        for i in range(len(found)):
            found[i] = test(self._recent(i), self._before[i], self._monitor.settings)
        return found

    def without_prior(self) -> Floats:
        """What our test finds for `by_ttest_ind`, all streams at once, shape (sample, 2)."""
        settings = self._monitor.settings
        recent = np.array([self._recent(i) for i in range(len(self._losses))])
        past = self._before.T
        return np.stack(
            [
                moderated_p(recent, predict(part[::-1], np.arange(1, len(part) + 1)), NO_PRIOR)
                for part in (past[-settings.reference_size :], past[: settings.anchored_size])
            ],
            axis=1,
        )

    def _recent(self, i: int) -> float:
        return float(np.log(self._losses[i].mean() + self._floor[i]) - self._shift[i])


def measure(sizes: SpeedSizes, python: Path | None) -> Speed:
    """Time everything in turn, each round on losses of its own; ``python`` has driftfdr, None leaves it out."""
    rng = np.random.default_rng(0)
    monitor = LossMonitor(sizes.streams)
    rival = OneByOne(monitor, min(sizes.sample, sizes.streams))
    losses = np.abs(rng.standard_normal((sizes.streams, sizes.n)))
    us: dict[str, list[float]] = {name: [] for name in ("ours", "numpy", "alike", "by_hand", "ttest_ind", "from_stats")}
    apart = {"by_hand": 0.0, "ttest_ind": 0.0, "from_stats": 0.0}
    for batch in range(WARM_UP + sizes.repeats):
        losses = np.roll(losses, 1, axis=0) if batch % WARM_UP else np.abs(rng.standard_normal(losses.shape))
        verdicts: list[Verdicts] = []
        works = {
            "ours": lambda losses=losses, into=verdicts: into.append(monitor.update(losses)),
            "numpy": lambda losses=losses: losses.mean(axis=1),
        }
        with learning_timed() as learning:
            spent = {name: timed(works[name]) for name in (list(works) if batch % 2 else list(works)[::-1])}
        spent["alike"] = spent["ours"] - sum(learning)
        if batch >= WARM_UP:
            rival.prepare(losses, verdicts[0])
            p_value, plain = verdicts[0].p_value[: rival.sample], rival.without_prior()
            for name, run, ours in (
                ("by_hand", rival.by_hand, p_value), ("ttest_ind", rival.by_ttest_ind, plain),
                ("from_stats", rival.by_ttest_from_stats, plain),
            ):  # fmt: skip
                found: list[Floats] = []
                spent[name] = timed(lambda run=run, into=found: into.append(run()))
                apart[name] = max(apart[name], float(np.nanmax(np.abs(found[0] - ours))))
            for name, seconds in spent.items():
                us[name].append(1e6 * seconds / (rival.sample if name in apart else sizes.streams))
        rival.add(verdicts[0])
    peer = None if python is None else driftfdr_us(python, sizes)
    median = Spread.of(us["ours"]).median
    return Speed(
        streams=sizes.streams,
        n=sizes.n,
        ours_us=Spread.of(us["ours"]),
        numpy_us=Spread.of(us["numpy"]),
        share_of_numpy=ratio(us["numpy"], us["ours"]),
        ttest_ind=ratio(us["ttest_ind"], us["ours"]),
        ttest_from_stats=ratio(us["from_stats"], us["ours"]),
        ttest_difference=max(apart["ttest_ind"], apart["from_stats"]),
        by_hand=ratio(us["by_hand"], us["ours"]),
        by_hand_alike=ratio(us["by_hand"], us["alike"]),
        by_hand_difference=apart["by_hand"],
        driftfdr=None if peer is None else {k: sum(v) / median for k, v in peer.items()},
        driftfdr_steady=None if peer is None else {k: v[1] / median for k, v in peer.items()},
        bytes_per_stream=monitor.nbytes / sizes.streams,
        welch=welch_speed.measure(
            streams=sizes.streams, n=sizes.n, warm_up=WARM_UP, repeats=sizes.repeats, sample=sizes.sample
        ),
    )  # fmt: skip


@contextmanager
def learning_timed() -> Iterator[list[float]]:
    """CPU seconds that go into `LEARNING` meanwhile, call by call."""
    seconds: list[float] = []

    def clocked(work: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            began = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                seconds.append(time.process_time() - began)

        return run

    before = [(owner, name, getattr(owner, name)) for owner, name in LEARNING]
    for owner, name, work in before:
        setattr(owner, name, clocked(work))
    try:
        yield seconds
    finally:
        for owner, name, work in before:
            setattr(owner, name, work)


def driftfdr_us(python: Path, sizes: SpeedSizes) -> dict[str, tuple[float, float]] | None:
    """Microseconds per stream that driftfdr takes to calibrate, and to take in a window, with its default settings.

    None when it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python), child.__file__, "--time", str(sizes.n), str(REFERENCE * sizes.n)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return None
    return {name: (float(a), float(b)) for name, (a, b) in json.loads(result.stdout).items()}


def table(speed: Speed) -> Table:
    """The figures as a table."""
    made = Table(title=f"Speed, {speed.streams:,} streams x {speed.n} losses in one call, one core (medians, ranges)")
    made.add_column("what")
    made.add_column("figure", justify="right")
    made.add_row("LossMonitor.update, us a stream", significant(speed.ours_us.median))
    made.add_row("losses.mean(axis=1), us a stream", significant(speed.numpy_us.median))
    share = speed.share_of_numpy
    made.add_row("rate, share of NumPy's", f"{share.median:.1%} [{share.low:.1%}..{share.high:.1%}]")
    made.add_row("scipy.stats.ttest_ind, stream by stream", ratio_text(speed.ttest_ind))
    made.add_row("scipy.stats.ttest_ind_from_stats, the same", ratio_text(speed.ttest_from_stats))
    made.add_row("their p-values differ from ours without a prior by", f"{speed.ttest_difference:.0e}")
    made.add_row("the monitor's p-values by hand, stream by stream", ratio_text(speed.by_hand))
    made.add_row("the same, without what we learn about the fleet", ratio_text(speed.by_hand_alike))
    made.add_row("its p-values differ from ours by", f"{speed.by_hand_difference:.0e}")
    if speed.driftfdr is None:
        made.add_row("driftfdr", "left out")
    for name, times in (speed.driftfdr or {}).items():
        steady = significant((speed.driftfdr_steady or {})[name])
        made.add_row(f"{name}, calibration and a window", f"x{significant(times)} (a window alone x{steady})")
    made.add_row("state, bytes a stream", significant(speed.bytes_per_stream))
    welch_speed.add_rows(made, speed.welch)
    return made


if __name__ == "__main__":
    Console().print(table(measure(SpeedSizes(), None)))
