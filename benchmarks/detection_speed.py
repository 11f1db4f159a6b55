"""Speed of `LossMonitor` as ratios of one run: NumPy's reading of the array, scipy stream by stream, driftfdr."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy import stats

from benchmarks import detection_driftfdr_child as child
from benchmarks.measuring import Spread, in_turn, ratio, ratio_text, significant
from mlma import LossMonitor
from mlma.core.blocks import Floats

WARM_UP = 20  # batches: the ring is full and every reference complete
ADAPTIVE, ANCHORED = 8, 4  # reference batches, the defaults of `LossMonitor`
PRIOR_DF = 4.0  # worth of what the fleet knows; given to scipy for nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSizes:
    """Streams, targets of a batch, rounds, and streams of the sample that is handled one by one."""

    streams: int = 100_000
    n: int = 96
    repeats: int = 7
    sample: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Figures of one run; microseconds are per stream, ratios compare rounds of the same run.

    Attributes
    ----------
    share_of_numpy
        Time of ``losses.mean(axis=1)`` over time of `LossMonitor.update`: 1 is as fast as reading the array.
    scipy
        Time of the same kind of test stream by stream, per stream, over ours.
    driftfdr
        By detector: time per stream of calibration and one window over ours; None where it does not run.
    driftfdr_steady
        The same without calibration.
    bytes_per_stream
        Of everything the monitor keeps.
    """

    streams: int
    n: int
    ours_us: Spread
    numpy_us: Spread
    share_of_numpy: Spread
    scipy: Spread
    driftfdr: dict[str, float] | None
    driftfdr_steady: dict[str, float] | None
    bytes_per_stream: float


def one_by_one(recent: Floats, past: Floats, first: Floats) -> Floats:
    """Prediction t against two references and Simes' combination with ``scipy.stats``, one stream after another.

    Parameters
    ----------
    recent
        Shape (streams, n), losses.
    past, first
        Shape (streams, m): log mean losses of the reference batches.
    """
    found = np.empty(len(recent))
    for i in range(len(recent)):
        x = np.log(np.mean(recent[i]) + 1e-9)
        p = sorted(_p_value(x, values[i]) for values in (past, first))
        found[i] = min(2.0 * p[0], p[1])
    return found


def _p_value(x: float, values: Floats) -> float:
    m = len(values)
    own, df = np.var(values, ddof=1), PRIOR_DF + m - 1.0
    scale = np.sqrt((PRIOR_DF * 0.01 + (m - 1.0) * own) / df * (1.0 + 1.0 / m))
    return float(stats.t.sf((x - np.mean(values)) / scale, df))


def measure(sizes: SpeedSizes, python: Path | None) -> Speed:
    """Time everything in turn; ``python`` has driftfdr, None leaves it out."""
    rng = np.random.default_rng(0)
    batches = [np.abs(rng.standard_normal((sizes.streams, sizes.n))) for _ in range(2)]
    monitor = LossMonitor(sizes.streams)
    for b in range(WARM_UP):
        monitor.update(batches[b % 2])
    sample = min(sizes.sample, sizes.streams)
    past = np.log(np.abs(rng.standard_normal((sample, ADAPTIVE, sizes.n))).mean(axis=2))
    works = {
        "ours": lambda: monitor.update(batches[0]),
        "numpy": lambda: batches[0].mean(axis=1),
        "scipy": lambda: one_by_one(batches[0][:sample], past, past[:, :ANCHORED]),
    }
    seconds = in_turn(works, repeats=sizes.repeats, clock=time.process_time)
    ours = [1e6 * s / sizes.streams for s in seconds["ours"]]
    numpy = [1e6 * s / sizes.streams for s in seconds["numpy"]]
    peer = None if python is None else driftfdr_us(python, sizes)
    median = Spread.of(ours).median
    return Speed(
        streams=sizes.streams,
        n=sizes.n,
        ours_us=Spread.of(ours),
        numpy_us=Spread.of(numpy),
        share_of_numpy=ratio(numpy, ours),
        scipy=ratio([1e6 * s / sample for s in seconds["scipy"]], ours),
        driftfdr=None if peer is None else {k: sum(v) / median for k, v in peer.items()},
        driftfdr_steady=None if peer is None else {k: v[1] / median for k, v in peer.items()},
        bytes_per_stream=sum(a.nbytes for a in monitor.arrays().values()) / sizes.streams,
    )


def driftfdr_us(python: Path, sizes: SpeedSizes) -> dict[str, tuple[float, float]] | None:
    """Microseconds per stream that driftfdr takes to calibrate, and to take in a window, with its default settings.

    None when it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python), child.__file__, "--time", str(sizes.n), str(ADAPTIVE * sizes.n)]
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
    made.add_row("scipy, stream by stream", ratio_text(speed.scipy))
    if speed.driftfdr is None:
        made.add_row("driftfdr", "left out")
    for name, times in (speed.driftfdr or {}).items():
        steady = significant((speed.driftfdr_steady or {})[name])
        made.add_row(f"{name}, calibration and a window", f"x{significant(times)} (a window alone x{steady})")
    made.add_row("state, bytes a stream", significant(speed.bytes_per_stream))
    return made
