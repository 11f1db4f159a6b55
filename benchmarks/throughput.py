"""Score and test in one shard, beside the same statistic by scipy stream by stream, Welch by scipy, and River's ADWIN.

Ours are all streams of a real shard. A baseline handles a sample of the same streams and the same batch, and its time
is taken per stream. Seconds are CPU seconds of one process; everything here runs on one thread.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from river.drift import ADWIN
from scipy import stats

from benchmarks.measuring import Spread, ratio, ratio_text, significant, timed
from benchmarks.workload import Batch, Workload
from mlma.core.blocks import Floats
from mlma.core.judge import Evidence, Verdict, judge
from mlma.core.loss_tests import Prior, fit_prior
from mlma.core.settings import TestingSettings
from mlma.runtime.scoring import LOSS_FLOOR
from mlma.runtime.shard import RING_BATCHES

SIZES = (1_000, 10_000, 100_000)
BATCHES = (96, 24)
REPEATS = 5
SAMPLE = 200  # streams of a baseline
WELCH_REFERENCE = 8  # batches of single losses that Welch's test gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One way to do it stream by stream, and how many times our seconds per stream it takes."""

    name: str
    us_per_stream: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One size of shard; microseconds and observations are of one batch of every stream."""

    streams: int
    batch: int
    sample: int
    take_in_us_per_stream: Spread
    score_us_per_stream: Spread
    judge_us_per_stream: Spread
    take_in_per_s: float  # streams x observations
    score_and_test_per_s: float
    baselines: tuple[Baseline, ...]
    largest_difference: float  # of the p-values, ours against scipy's on the sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a baseline has of one stream's closed batches after ``since``, oldest first; shape (batches,)."""

    loss: Floats
    naive: Floats
    usual_naive: float  # mean over all closed batches and the recent one


def by_scipy(y: Floats, forecast: Floats, naive: Floats, past: Past, prior: Prior, settings: TestingSettings) -> float:
    """p-value of the moderated test for one stream, the way one writes it with NumPy and scipy.

    Parameters
    ----------
    y, forecast, naive
        Shape (batch,), all known.
    prior
        Given for nothing: its cost is on our side only.
    """
    floor = LOSS_FLOOR * past.usual_naive
    recent = np.log(np.abs(y - forecast).mean() + floor) - np.log(np.abs(y - naive).mean() + floor)
    before = np.log(past.loss + floor) - np.log(past.naive + floor)
    found = []
    for values in (before[-settings.reference_size :], before[: settings.anchored_size]):
        m = len(values)
        if m < settings.min_reference:
            continue
        df = prior.df + m - 1
        if np.isinf(prior.df):
            variance = prior.variance
        else:
            variance = (prior.df * prior.variance + (m - 1) * values.var(ddof=1)) / df
        t = (recent - values.mean()) / np.sqrt(variance * (1.0 + 1.0 / m))
        found.append(float(stats.t.sf(t, df)))
    if len(found) < 2:
        return found[0] if found else float("nan")
    return min(2.0 * min(found), max(found))


class Rivals:
    """The baselines, each a function that handles the recent batch of the whole sample."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.prior = Prior(df=0.0, variance=0.0)
        self.p_value = np.full(workload.sample, np.nan)
        self._adwin = [ADWIN() for _ in range(workload.sample)]
        self._past: list[Past] = []
        self._reference: list[Floats] = []
        self._losses: list[list[float]] = []
        for losses in self._single(workload.past[-WELCH_REFERENCE:]):
            for adwin, values in zip(self._adwin, losses.tolist(), strict=True):
                for value in values:
                    adwin.update(value)

    @staticmethod
    def _single(batches: list[Batch]) -> list[Floats]:
        return [np.abs(batch.y - batch.forecast) for batch in batches]

    def prepare(self, prior: Prior) -> None:
        """Lay out, outside the clock, what each baseline would have at hand."""
        workload = self.workload
        self.prior = prior
        past = workload.past[:-1]
        loss = np.stack([made.mean(axis=1) for made in self._single(past)], axis=1)
        naive = np.stack([np.abs(batch.y - batch.naive).mean(axis=1) for batch in workload.past], axis=1)
        usual = naive[:, -RING_BATCHES:].mean(axis=1)
        first = np.maximum(workload.since[: workload.sample] + 1, len(past) - RING_BATCHES + 1)
        self._past = [
            Past(loss=loss[i, first[i] :], naive=naive[i, first[i] : -1], usual_naive=float(usual[i]))
            for i in range(workload.sample)
        ]
        self._reference = list(np.hstack(self._single(past[-WELCH_REFERENCE:])))
        self._losses = self._single(workload.past[-1:])[0].tolist()

    def scipy(self) -> None:
        """The same statistic, losses included, stream by stream."""
        newest, settings = self.workload.past[-1], self.workload.testing
        for i, past in enumerate(self._past):
            self.p_value[i] = by_scipy(newest.y[i], newest.forecast[i], newest.naive[i], past, self.prior, settings)

    def welch(self) -> None:
        """Welch's test on the single losses, as scipy has it."""
        for recent, reference in zip(self._losses, self._reference, strict=True):
            stats.ttest_ind(recent, reference, equal_var=False, alternative="greater")

    def adwin(self) -> None:
        """ADWIN, loss by loss; the losses are given for nothing."""
        for adwin, losses in zip(self._adwin, self._losses, strict=True):
            for loss in losses:
                adwin.update(loss)

    def works(self) -> dict[str, Callable[[], None]]:
        """All of them, by the name that the table shows."""
        return {
            "scipy, same statistic": self.scipy,
            "scipy, Welch's test": self.welch,
            "River's ADWIN": self.adwin,
        }


class Round:
    """One batch: the shard's three works in turn, then the baselines on the sample."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.rivals = Rivals(workload)
        self.seconds: dict[str, list[float]] = {}
        self.largest_difference = 0.0
        self._nothing_excluded = np.zeros(workload.streams, dtype=np.bool_)

    def run(self, *, is_counted: bool = True) -> None:
        """Close the next batch, and add the seconds of every work."""
        workload = self.workload
        workload.take_closed()
        workload.offer()
        evidence: list[Evidence] = []
        verdict: list[Verdict] = []

        def test() -> None:
            verdict.append(judge(evidence[0], workload.testing, excluded=self._nothing_excluded))

        spent = {
            "take in": timed(workload.take_in),
            "score": timed(lambda: evidence.append(workload.score())),
            "judge": timed(test),
        }
        reference = evidence[0].adaptive
        self.rivals.prepare(fit_prior(reference.variance, (reference.m - 1).astype(np.float64)))
        spent |= {name: timed(work) for name, work in self.rivals.works().items()}
        ours = verdict[0].p_value[: workload.sample]
        assert np.array_equal(np.isnan(ours), np.isnan(self.rivals.p_value))
        difference = float(np.nanmax(np.abs(ours - self.rivals.p_value)))
        self.largest_difference = max(self.largest_difference, difference)
        if is_counted:
            for name, seconds in spent.items():
                self.seconds.setdefault(name, []).append(seconds)


def one_size(streams: int, batch: int, *, repeats: int, sample: int) -> Throughput:
    """Measure one size of shard."""
    workload = Workload(streams=streams, batch=batch, sample=min(sample, streams))
    workload.warm_up()
    rounds = Round(workload)
    rounds.run(is_counted=False)
    for _ in range(repeats):
        rounds.run()
    seconds = rounds.seconds
    per_stream = {
        name: [1e6 * s / (streams if name in {"take in", "score", "judge"} else workload.sample) for s in values]
        for name, values in seconds.items()
    }
    ours = [score + test for score, test in zip(per_stream["score"], per_stream["judge"], strict=True)]
    return Throughput(
        streams=streams,
        batch=batch,
        sample=workload.sample,
        take_in_us_per_stream=Spread.of(per_stream["take in"]),
        score_us_per_stream=Spread.of(per_stream["score"]),
        judge_us_per_stream=Spread.of(per_stream["judge"]),
        take_in_per_s=1e6 * batch / Spread.of(per_stream["take in"]).median,
        score_and_test_per_s=1e6 * batch / Spread.of(ours).median,
        baselines=tuple(
            Baseline(name=name, us_per_stream=Spread.of(per_stream[name]), ratio=ratio(per_stream[name], ours))
            for name in rounds.rivals.works()
        ),
        largest_difference=rounds.largest_difference,
    )


def measure(*, quick: bool) -> list[Throughput]:
    """Measure all sizes; ``quick`` leaves the largest out."""
    sizes = SIZES[:-1] if quick else SIZES
    return [one_size(size, batch, repeats=REPEATS, sample=SAMPLE) for batch in BATCHES for size in sizes]


def tables(results: list[Throughput]) -> list[Table]:
    """Two tables: what the shard does, and what the baselines take instead."""
    ours = Table(title="One shard, one core: streams x observations per second (medians of CPU time)")
    for heading in ("streams", "batch", "take in", "score + test", "take in us", "score us", "test us"):
        ours.add_column(heading, justify="right")
    rivals = Table(
        title="The same batch stream by stream: times our score + test (median of paired ratios)",
        caption=f"Baselines handle a sample of {results[0].sample} streams; time is per stream.\n"
        f"p-values of the same statistic differ by at most {max(r.largest_difference for r in results):.0e}.",
    )
    for heading in ("streams", "batch", *(baseline.name for baseline in results[0].baselines)):
        rivals.add_column(heading, justify="right")
    for result in results:
        size = (f"{result.streams:,}", str(result.batch))
        ours.add_row(
            *size,
            significant(result.take_in_per_s),
            significant(result.score_and_test_per_s),
            significant(result.take_in_us_per_stream.median),
            significant(result.score_us_per_stream.median),
            significant(result.judge_us_per_stream.median),
        )
        rivals.add_row(*size, *(ratio_text(baseline.ratio) for baseline in result.baselines))
    return [ours, rivals]
