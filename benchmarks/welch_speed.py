"""Welch's test: all streams in one call of `LossMonitor`, and scipy's function one stream after another.

The one test of whole batches that both have: the same statistic from the same losses, `scipy.stats.ttest_ind` with
unequal variances on the single losses of the newest batch and of each of both references. scipy is handed them as
arrays that lie ready; the monitor keeps what it needs of the past, joins both p-values, and does all else that an
update does (floors, effects, common component, fleet rule, certificate).
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table
from scipy import stats

from benchmarks.measuring import Spread, ratio, ratio_text, significant, timed
from mlma import LossMonitor
from mlma.core.blocks import Floats
from mlma.monitor.verdicts import Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class WelchSpeed:
    """Figures of one run; microseconds are per stream.

    Attributes
    ----------
    ours_us
        Of ``LossMonitor(test="welch").update``.
    scipy
        Time of `scipy.stats.ttest_ind` against both references, stream by stream, per stream, over ours.
    difference
        Largest difference between the p-values of both.
    bytes_per_stream
        Of everything the monitor keeps.
    """

    ours_us: Spread
    scipy: Spread
    difference: float
    bytes_per_stream: float


@dataclass
class Past:
    """Single losses of the streams of a sample: the first batches and the newest ones, each of shape (sample, n)."""

    n_first: int
    n_newest: int
    first: list[Floats] = field(default_factory=list)
    newest: deque[Floats] = field(default_factory=deque)

    def add(self, losses: Floats) -> None:
        """Remember a batch."""
        if len(self.first) < self.n_first:
            self.first.append(losses)
        self.newest.append(losses)
        if len(self.newest) > self.n_newest:
            self.newest.popleft()

    def references(self) -> tuple[Floats, Floats]:
        """Losses of the adaptive and of the anchored reference, shape (sample, losses)."""
        return np.hstack(list(self.newest)), np.hstack(self.first)


def by_scipy(recent: Floats, references: tuple[Floats, Floats]) -> Floats:
    """p-values of each stream against both references, shape (sample, 2)."""
    found = np.empty((len(recent), 2))
    for i, losses in enumerate(recent):
        for side, reference in enumerate(references):
            found[i, side] = stats.ttest_ind(losses, reference[i], equal_var=False, alternative="greater").pvalue
    return found


def measure(*, streams: int, n: int, warm_up: int, repeats: int, sample: int) -> WelchSpeed:
    """Time both in turn, each round on losses of its own, after ``warm_up`` batches."""
    rng = np.random.default_rng(0)
    monitor = LossMonitor(streams, test="welch")
    past = Past(monitor.settings.anchored_size, monitor.settings.reference_size)
    losses = np.abs(rng.standard_normal((streams, n)))
    us: dict[str, list[float]] = {"ours": [], "scipy": []}
    difference = 0.0
    for batch in range(warm_up + repeats):
        losses = np.roll(losses, 1, axis=0) if batch % warm_up else np.abs(rng.standard_normal(losses.shape))
        verdicts: list[Verdicts] = []
        ours = timed(lambda losses=losses, into=verdicts: into.append(monitor.update(losses)))
        recent = losses[:sample].copy()
        if batch >= warm_up:
            references = past.references()
            found: list[Floats] = []
            theirs = timed(lambda a=recent, b=references, into=found: into.append(by_scipy(a, b)))
            us["ours"].append(1e6 * ours / streams)
            us["scipy"].append(1e6 * theirs / len(recent))
            both = np.stack([verdicts[0].p_adaptive, verdicts[0].p_anchored], axis=1)[: len(recent)]
            difference = max(difference, float(np.abs(found[0] - both).max()))
        past.add(recent)
    return WelchSpeed(
        ours_us=Spread.of(us["ours"]),
        scipy=ratio(us["scipy"], us["ours"]),
        difference=difference,
        bytes_per_stream=monitor.nbytes / streams,
    )


def add_rows(table: Table, speed: WelchSpeed) -> None:
    """Rows of two columns, what and figure."""
    table.add_section()
    table.add_row('LossMonitor(test="welch").update, us a stream', significant(speed.ours_us.median))
    table.add_row("scipy.stats.ttest_ind, equal_var=False, one by one", ratio_text(speed.scipy))
    table.add_row("its p-values differ from ours by", f"{speed.difference:.0e}")
    table.add_row("state, bytes a stream", significant(speed.bytes_per_stream))
