"""One closed batch: scored by a shard, judged and recorded by the driver; beside others who handle it stream by stream.

Ours are all streams of a real fleet. A baseline handles a sample of the same streams and the same batch, and its time
is taken per stream. Seconds are CPU seconds of one process; everything here runs on one thread.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

from benchmarks.measuring import Spread, ratio, ratio_text, significant, timed
from benchmarks.stream_by_stream import Known, Past, Record, p_value
from benchmarks.workload import Batch, Workload
from mlma.adapters.store import SqlStore
from mlma.core.blocks import Floats
from mlma.monitor.verdicts import Verdicts
from mlma.runtime import closing
from mlma.runtime.scoring import BatchScores

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
    """One size of fleet; microseconds and observations are of one batch of every stream.

    ``score`` is the shard's work, ``test`` the driver's from the scores to the verdicts, ``close`` all that the driver
    does with the scores: test, propose, guard, decide and record.
    """

    streams: int
    batch: int
    sample: int
    take_in_us_per_stream: Spread
    score_us_per_stream: Spread
    test_us_per_stream: Spread
    close_us_per_stream: Spread
    take_in_per_s: float  # streams x observations
    score_per_s: float
    score_and_test_per_s: float
    whole_per_s: float  # scored and closed
    baselines: tuple[Baseline, ...]  # over score and test
    largest_difference: float  # of the p-values, ours against scipy's on the sample


class Rivals:
    """The baselines, each a function that handles the recent batch of the whole sample."""

    def __init__(self, workload: Workload, record: Record) -> None:
        self.record, self.settings = record, workload.control.settings.testing
        self.p_value = np.full(record.sample, np.nan)
        self._adwin = _adwin(record)
        self._past: list[Past] = []
        self._reference: list[Floats] = []

    def prepare(self, made: Batch, verdicts: Verdicts) -> None:
        """Lay out, outside the clock, what each baseline would have at hand; the batch was not recorded yet."""
        self._made = made
        self._past = self.record.pasts(made, verdicts)
        self._known: Known = self.record.known(made, verdicts)
        self._reference = list(np.hstack(self.record.single[-WELCH_REFERENCE:]))
        self._losses = np.abs(made.y - made.forecast)[: self.record.sample].tolist()

    def scipy(self) -> None:
        """The same statistic, losses included, stream by stream."""
        made = self._made
        for i, past in enumerate(self._past):
            self.p_value[i] = p_value(made.y[i], made.forecast[i], made.naive[i], past, self._known, self.settings)

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
        works = {"scipy, same statistic": self.scipy, "scipy, Welch's test": self.welch}
        return works | ({"River's ADWIN": self.adwin} if self._adwin else {})


def _adwin(record: Record) -> list[Any]:
    """One ADWIN for every stream of the sample, fed with what is known; none where River is not installed."""
    if find_spec("river") is None:
        return []
    from river.drift import ADWIN

    found: list[Any] = [ADWIN() for _ in range(record.sample)]  # type: ignore[no-untyped-call]
    for losses in record.single:
        for adwin, values in zip(found, losses.tolist(), strict=True):
            for value in values:
                adwin.update(value)
    return found


class Round:
    """One batch: the shard's and the driver's works in turn, then the baselines on the sample."""

    def __init__(self, workload: Workload, record: Record) -> None:
        self.workload, self.record = workload, record
        self.rivals = Rivals(workload, record)
        self.seconds: dict[str, list[float]] = {}
        self.largest_difference = 0.0

    def run(self, *, is_counted: bool = True) -> None:
        """Close the next batch, and add the seconds of every work."""
        workload, monitor = self.workload, self.workload.control.monitor
        workload.take_closed()
        made = workload.offer()
        scores: list[BatchScores] = []
        verdicts: list[Verdicts] = []
        spent = {"take in": timed(workload.take_in), "score": timed(lambda: scores.extend(workload.score()))}
        workload.serve_renewed(made)
        before = {name: array.copy() for name, array in monitor.arrays().items()}
        spent["test"] = timed(lambda: verdicts.append(workload.judge(scores)))
        self.rivals.prepare(made, verdicts[0])
        monitor.restore(before)
        spent["close"] = timed(lambda: verdicts.append(closing.close(workload.control, made.number)[0].verdicts))
        spent |= {name: timed(work) for name, work in self.rivals.works().items()}
        self.record.add(made, verdicts[1])
        self._compare(*verdicts)
        if is_counted:
            for name, seconds in spent.items():
                self.seconds.setdefault(name, []).append(seconds)

    def _compare(self, first: Verdicts, again: Verdicts) -> None:
        assert np.array_equal(first.p_value, again.p_value, equal_nan=True)
        ours, theirs = first.p_value[: self.record.sample], self.rivals.p_value
        assert np.array_equal(np.isnan(ours), np.isnan(theirs))
        self.largest_difference = max(self.largest_difference, float(np.nanmax(np.abs(ours - theirs))))


def one_size(streams: int, batch: int, *, repeats: int, sample: int) -> Throughput:
    """Measure one size of fleet, with its control plane on disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(f"sqlite:///{Path(folder) / 'mlma.db'}", create=True)
        workload = Workload(streams=streams, batch=batch, store=store)
        record = Record(workload.control.monitor, sample=min(sample, streams), kept=WELCH_REFERENCE)
        workload.observe = record.add
        workload.warm_up()
        rounds = Round(workload, record)
        rounds.run(is_counted=False)
        for _ in range(repeats):
            rounds.run()
        store.close()
    return _summary(streams, batch, rounds)


def _summary(streams: int, batch: int, rounds: Round) -> Throughput:
    ours = ("take in", "score", "test", "close")
    sample = rounds.record.sample
    us = {
        name: [1e6 * second / (streams if name in ours else sample) for second in seconds]
        for name, seconds in rounds.seconds.items()
    }
    both = [score + test for score, test in zip(us["score"], us["test"], strict=True)]
    whole = [score + close for score, close in zip(us["score"], us["close"], strict=True)]

    def per_s(values: list[float]) -> float:
        return 1e6 * batch / Spread.of(values).median

    return Throughput(
        streams=streams,
        batch=batch,
        sample=sample,
        take_in_us_per_stream=Spread.of(us["take in"]),
        score_us_per_stream=Spread.of(us["score"]),
        test_us_per_stream=Spread.of(us["test"]),
        close_us_per_stream=Spread.of(us["close"]),
        take_in_per_s=per_s(us["take in"]),
        score_per_s=per_s(us["score"]),
        score_and_test_per_s=per_s(both),
        whole_per_s=per_s(whole),
        baselines=tuple(
            Baseline(name=name, us_per_stream=Spread.of(us[name]), ratio=ratio(us[name], both))
            for name in rounds.rivals.works()
        ),
        largest_difference=rounds.largest_difference,
    )


def measure(*, quick: bool) -> list[Throughput]:
    """Measure all sizes; ``quick`` leaves the largest out."""
    sizes = SIZES[:-1] if quick else SIZES
    return [one_size(size, batch, repeats=REPEATS, sample=SAMPLE) for batch in BATCHES for size in sizes]


def tables(results: list[Throughput]) -> list[Table]:
    """Two tables: what shard and driver do, and what the baselines take instead."""
    ours = Table(
        title="One shard and the driver, one core (medians of CPU time)",
        caption="In the first four: streams x observations per second. score: the shard; test: the driver, to the "
        "verdicts;\nclose: the driver's test, proposals, guards, decisions and their record (SQLite on disk).",
    )
    headings = ("streams", "batch", "take in", "score", "score + test", "score + close", "take in us", "score us",
                "test us", "close us")  # fmt: skip
    for heading in headings:
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
        rates = (result.take_in_per_s, result.score_per_s, result.score_and_test_per_s, result.whole_per_s)
        spent = (
            result.take_in_us_per_stream, result.score_us_per_stream, result.test_us_per_stream,
            result.close_us_per_stream,
        )  # fmt: skip
        ours.add_row(*size, *map(significant, rates), *(significant(spread.median) for spread in spent))
        rivals.add_row(*size, *(ratio_text(baseline.ratio) for baseline in result.baselines))
    return [ours, rivals]
