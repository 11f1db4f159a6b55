"""Sham streams: parts of the fleet's own accepted history, tested as if they were happening now.

Nothing is wrong with a healthy one, so alarms are false and their share is the level that the test really has. A
degraded one has its loss raised by a known amount from a known batch on, which gives power and delay. Half of
them run backwards: dependence is the same in both directions, and a trend that would look like false alarms
forwards looks like none backwards, so that it does not decide about the certificate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.decisions import CertificateStatus
from mlma.core.records import Certificate

SHAMS = 400
"""Healthy sham tests at a batch, at most; as many degraded ones."""

PLENTY, EVERY = 4000, 8
"""With so many healthy tests in the window, a large fleet makes new ones at every eighth batch only, twice as many at
once: 100 a batch, at a sixth of the price of 400 (small arrays cost their overhead)."""

AGES = 4
"""Positions in the past that are tested at a batch."""

FOLLOWED = 4
"""Batches that a degraded sham stream is followed."""

WINDOW = 64
"""Batches over which the certificate is measured."""

FEWEST = 200
"""Independent sham tests below which nothing is said."""

TOLERANCE = 1.2
"""The promise is broken above this multiple of the promised rate."""

SURE = 0.99
"""Confidence that is needed to disarm a test."""

COUNTS = ("healthy", "false", "degraded", "first", *(f"after_{k + 1}" for k in range(FOLLOWED)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Parts of streams' pasts, arrays of shape (tests,). Positions count from the oldest batch of a run of batches.

    A run is the unbroken series of a stream's newest batches. Position ``at`` is tested against ``start`` to
    ``at - 1``; losses from ``raised_from`` on are raised by ``rise`` (relative).
    """

    stream: Ints
    length: Ints  # of the run
    start: Ints
    at: Ints
    backwards: Bools
    raised_from: Ints
    rise: float

    def age(self, position: Ints) -> Ints:
        """How many batches before the newest one a position is, for positions of shape (..., tests)."""
        return np.where(self.backwards, position, self.length - 1 - position)


Tester = Callable[[Segments], tuple[Floats, Floats]]
"""p-values and relative effects of the tests at ``at``."""


@dataclass
class Sham:
    """Counts of the newest batches, shape (WINDOW, counts)."""

    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros((WINDOW, len(COUNTS))))
    streams: Floats = field(default_factory=lambda: np.zeros(WINDOW))  # streams that could be drawn from
    n: int = 0

    def is_due(self) -> bool:
        """Whether to `run` at this batch and not to `skip` it: not always in a large fleet with `PLENTY` of tests."""
        return not self._is_plenty() or self.n % EVERY == 0

    def _is_plenty(self) -> bool:
        return bool(self.counts[:, 0].sum() >= PLENTY and self.streams.max() >= 2 * SHAMS)

    def skip(self) -> bool:
        """Let a batch pass without tests; whether tests of another batch leave the window for it."""
        at = self.n % WINDOW
        had_tests = bool(self.streams[at] > 0.0)
        self.counts[at], self.streams[at] = 0.0, 0.0
        self.n += 1
        return had_tests

    def run(self, tester: Tester, run: Ints, rng: np.random.Generator, *, alpha: float, floor: float, rise: float,
            least: int) -> None:  # fmt: skip
        """Draw and test sham streams.

        Parameters
        ----------
        tester
            The test under watch.
        run
            Shape (streams,): how many of the newest batches of each stream are accepted, without a gap.
        rng
            Draws them.
        alpha, floor
            As for live streams. False alarms are counted before the effect floor, as alpha promises.
        rise
            Relative rise of the loss of degraded streams.
        least
            Fewest reference batches.
        """
        at = self.n % WINDOW
        able, long = np.flatnonzero(run > least), np.flatnonzero(run >= least + FOLLOWED)
        n_tests = 2 * SHAMS if self._is_plenty() else SHAMS
        self.skip()
        if len(able):
            segments = _drawn(able, run, rng, n_tests=n_tests, least=least, follow=1)
            n_healthy = len(segments.at)
            if len(long):
                degraded = _drawn(long, run, rng, n_tests=SHAMS, least=least, follow=FOLLOWED)
                segments = _joined(segments, degraded, rise)
            p, effect = tester(segments)
            healthy = p[:n_healthy]
            self.counts[at, :2] = np.count_nonzero(np.isfinite(healthy)), np.count_nonzero(healthy <= alpha)
            self.counts[at, 2:] = _followed((p[n_healthy:] <= alpha) & (effect[n_healthy:] >= floor))
            self.streams[at] = len(able)

    def certificate(self, *, batch: int, test: str, alpha: float, rise: float) -> Certificate:
        """What was seen over the newest `WINDOW` batches."""
        total = dict(zip(COUNTS, self.counts.sum(axis=0).tolist(), strict=True))
        healthy, degraded = total["healthy"], total["degraded"]
        # tests that look at the same batches of the same streams again are not independent of each other
        independent = min(healthy, float(self.streams.sum()))
        share = total["false"] / healthy if healthy else float("nan")
        low, high = interval(share, independent, 0.95)
        status = CertificateStatus.PENDING
        if independent >= FEWEST:
            broken = interval(share, independent, 2.0 * SURE - 1.0)[0] > TOLERANCE * alpha
            status = CertificateStatus.FAILED if broken else CertificateStatus.CERTIFIED
        caught = np.array([total[f"after_{k + 1}"] for k in range(FOLLOWED)])
        some = caught.sum() > 0
        delay = float(np.searchsorted(np.cumsum(caught), caught.sum() / 2.0) + 1) if some else float("nan")
        return Certificate(
            batch=batch, test=test, status=status, promised=alpha, level=share, level_low=low, level_high=high,
            n_healthy=int(healthy), rise=rise, power=total["first"] / degraded if degraded else float("nan"),
            caught=float(caught.sum()) / degraded if degraded else float("nan"), delay=delay,
            n_degraded=int(degraded),
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {"sham_counts": self.counts, "sham_streams": self.streams, "sham_n": np.asarray(self.n)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        self.counts, self.streams = arrays["sham_counts"].copy(), arrays["sham_streams"].copy()
        self.n = int(arrays["sham_n"])


def _drawn(able: Ints, run: Ints, rng: np.random.Generator, *, n_tests: int, least: int, follow: int) -> Segments:
    """Healthy segments of some streams, with room for ``follow`` batches."""
    few = n_tests // 4
    stream = rng.permutation(able)[:n_tests] if len(able) > few else rng.choice(able, few)
    length = run[stream]
    # a few ages at a batch, others at the next: what shares its ages is tested together
    share, part = rng.random((2, AGES))[:, np.arange(len(stream)) % AGES]
    at = least + (share * (length - follow + 1 - least)).astype(np.int64)
    return Segments(
        stream=stream, length=length, start=(part * (at - least + 1)).astype(np.int64), at=at,
        backwards=rng.random(len(stream)) < 0.5, raised_from=length, rise=0.0,
    )  # fmt: skip


def _joined(healthy: Segments, degraded: Segments, rise: float) -> Segments:
    """Healthy segments as they are, then the others degraded, at their first batch, all at the next, and so on."""

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(healthy, name), *[getattr(degraded, name)] * FOLLOWED])

    later = np.repeat(np.arange(FOLLOWED), len(degraded.at))
    return Segments(
        stream=column("stream"), length=column("length"), start=column("start"), backwards=column("backwards"),
        at=np.concatenate([healthy.at, np.tile(degraded.at, FOLLOWED) + later]),
        raised_from=np.concatenate([healthy.raised_from, np.tile(degraded.at, FOLLOWED)]), rise=rise,
    )  # fmt: skip


def _followed(alarm: Bools) -> Floats:
    """Tests, alarms at the first batch, and first alarms after 1, 2, ... batches; from what `_joined` put together."""
    alarms = alarm.reshape(FOLLOWED, -1)
    first = alarms & (np.cumsum(alarms, axis=0) == 1)
    after = np.count_nonzero(first, axis=1)
    return np.array([alarms.shape[1], after[0], *after], dtype=np.float64)


def interval(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval (1927) for a share seen in n independent tests; (nan, nan) without any.

    Examples
    --------
    >>> [round(bound, 4) for bound in interval(0.05, 1000, 0.95)]
    [0.0381, 0.0653]
    """
    if n <= 0.0:
        return float("nan"), float("nan")
    z = float(ndtri(0.5 + confidence / 2.0))
    centre = (share + z**2 / (2.0 * n)) / (1.0 + z**2 / n)
    half = z * np.sqrt(share * (1.0 - share) / n + z**2 / (4.0 * n**2)) / (1.0 + z**2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
