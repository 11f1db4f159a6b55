"""The daemon's own test, written for one stream at a time with NumPy and scipy, from a record of its own.

What the fleet knows (coefficient of the yardstick, dependence between batches, prior of the variance, common
movement) is given to it for nothing; what it finds is compared with the monitor's p-values.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.special import ndtri, owens_t

from benchmarks.workload import Batch
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_tests import LARGE_FLEET, NO_PRIOR, NOTHING_ABOVE, WHOLE_BELOW, Prior, fit_prior
from mlma.core.settings import TestingSettings
from mlma.monitor.monitor import LossMonitor
from mlma.monitor.prior_memory import EVERY, SAMPLE
from mlma.monitor.verdicts import Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Best linear unbiased prediction from m batches in a row, the newest ``gap`` batches before the predicted one.

    ``mean``, ``weights`` of shape (m,); ``inverse`` of the correlation matrix; factors as in `Prediction`.
    """

    mean: Floats
    weights: Floats
    inverse: Floats
    factor: float
    own: float


@lru_cache(maxsize=1024)
def pattern(m: int, gap: int, rho: float) -> Pattern:
    """Pattern of batches that depend on each other like an autoregression (ordinary kriging).

    Examples
    --------
    >>> made = pattern(4, 1, 0.0)
    >>> made.weights.tolist(), made.factor
    ([0.25, 0.25, 0.25, 0.25], 1.25)
    """
    at = np.arange(m)
    inverse = np.linalg.inv(np.power(rho, np.abs(at[:, None] - at)))
    ahead = np.power(rho, gap + at[::-1].astype(np.float64))
    mean = inverse.sum(axis=0) / inverse.sum()
    left = 1.0 - ahead @ inverse.sum(axis=0)
    weights = ahead @ inverse + left * mean
    factor = 1.0 - ahead @ inverse @ ahead + left**2 / inverse.sum()
    return Pattern(mean=mean, weights=weights, inverse=inverse, factor=factor, own=1.0 - ahead @ weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the fleet knows at a batch, given for nothing."""

    beta: float
    rho: float
    prior: Prior
    is_large: bool  # so many streams are tested that the prior's best guess is enough where p is not small
    guesses: Floats  # shape (4, guesses): weight, df, variance, known_df


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What one stream has at hand: its batches after the last change of version, oldest first, shape (batches,)."""

    log_loss: Floats  # cleaned of what was common
    log_naive: Floats
    floor: float
    shift: float  # what is common in the recent batch


def p_value(y: Floats, forecast: Floats, naive: Floats, past: Past, known: Known, settings: TestingSettings) -> float:
    """p-value of one stream; y, forecast and naive of shape (batch,), all known. NaN with too short a reference."""
    recent = np.log(np.abs(y - forecast).mean() + past.floor) - past.shift
    recent -= known.beta * np.log(np.abs(y - naive).mean() + past.floor)
    return compared(recent, past.log_loss - known.beta * past.log_naive, known, settings)


def compared(recent: float, before: Floats, known: Known, settings: TestingSettings) -> float:
    """p-value of a tested number, against those of all batches before, oldest first, without a gap."""
    n = len(before)
    if n < settings.min_reference:
        return float("nan")
    wide = _side(recent, before[-settings.reference_size :], 1, known)
    first = before[: settings.anchored_size]
    narrow = _side(recent, first, n - len(first) + 1, known)
    low = min(wide.p_value, narrow.p_value)
    if low >= 0.2 or low == 0.0:
        return min(2.0 * low, 1.0)
    c = _correlation(wide, narrow, known, is_nested=n <= settings.reference_size)
    return float(low + 2.0 * owens_t(-ndtri(low), np.sqrt((1.0 - c) / (1.0 + c))))


def by_ttest_ind(recent: float, before: Floats, settings: TestingSettings) -> tuple[float, float]:
    """p-values against the adaptive and the anchored reference from `scipy.stats.ttest_ind`, one batch against m.

    That is the test's statistic with a stream's own variance alone: what scipy has no function for is left out, the
    variance that a fleet lends, dependence between batches, and both p-values together.
    """
    adaptive, anchored = (
        float(stats.ttest_ind([recent], reference, alternative="greater").pvalue)
        for reference in (before[-settings.reference_size :], before[: settings.anchored_size])
    )
    return adaptive, anchored


def by_ttest_from_stats(recent: float, before: Floats, settings: TestingSettings) -> tuple[float, float]:
    """The same p-values from `scipy.stats.ttest_ind_from_stats`, which is given means and deviations."""
    adaptive, anchored = (
        float(
            stats.ttest_ind_from_stats(
                recent, 0.0, 1, reference.mean(), reference.std(ddof=1), len(reference), alternative="greater"
            ).pvalue
        )
        for reference in (before[-settings.reference_size :], before[: settings.anchored_size])
    )
    return adaptive, anchored


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The test against one of the two references."""

    p_value: float
    m: int
    pattern: Pattern


def _side(recent: float, values: Floats, gap: int, known: Known) -> Side:
    made = pattern(len(values), gap, known.rho)
    away = values - made.mean @ values
    squares = float(away @ made.inverse @ away)
    p = _tail(float(recent - made.weights @ values), squares, len(values), made.factor, known)
    return Side(p_value=p, m=len(values), pattern=made)


def _correlation(wide: Side, narrow: Side, known: Known, *, is_nested: bool) -> float:
    """Correlation of the two tests, as `mlma.monitor.kernel.correlation` has it."""
    a, b = wide.pattern, narrow.pattern
    if not is_nested:
        return max(0.0, float((a.own + b.own - 1.0) / np.sqrt(a.factor * b.factor)))
    extra = 1.0 / (known.prior.df + narrow.m - 1) - 1.0 / (known.prior.df + wide.m - 1)
    return max(0.0, float(np.sqrt(min(a.factor / b.factor, 1.0))) - max(extra, 0.0))


def _tail(difference: float, squares: float, m: int, factor: float, known: Known) -> float:
    """Probability of such a difference, averaged over what the prior may be."""
    prior = known.prior
    variance = prior.variance
    if np.isfinite(prior.df):
        variance = (prior.df * prior.variance + squares) / (prior.df + m - 1)
    best = float(stats.t.sf(difference / np.sqrt(variance * factor), prior.df + m - 1))
    if not known.guesses.size or (known.is_large and best >= NOTHING_ABOVE):
        return best
    weight, df, variances, known_df = known.guesses
    with np.errstate(invalid="ignore"):
        shrunk = np.where(np.isinf(df), variances, (df * variances + squares) / (df + m - 1))
        total = np.where(np.isinf(df), known_df, 1.0 / (1.0 / (df + m - 1) + 1.0 / known_df))
    averaged = float(weight @ stats.t.sf(difference / np.sqrt(shrunk * factor), total))
    if not known.is_large:
        return averaged
    share = min(1.0, max(0.0, (NOTHING_ABOVE - best) / (NOTHING_ABOVE - WHOLE_BELOW)))
    return best + share * (averaged - best)


@dataclass
class Record:
    """What happened to the streams of a fleet, batch by batch, kept beside the monitor.

    Parameters
    ----------
    sample
        Streams, the first ones, whose single losses are kept.
    kept
        Batches of single losses that are kept.
    """

    monitor: LossMonitor
    sample: int
    kept: int
    beta: float = 1.0  # that the next batch is tested with
    first: Ints = field(init=False)  # shape (streams,), first batch of the version that serves
    log_loss: dict[int, Floats] = field(default_factory=dict)  # by batch, shape (streams,)
    log_naive: dict[int, Floats] = field(default_factory=dict)
    single: list[Floats] = field(default_factory=list)  # shape (sample, batch), newest last
    prior: Prior = NO_PRIOR  # of the newest fit
    usual_m: int = 0  # reference batches that most streams had then

    def __post_init__(self) -> None:
        self.first = np.zeros(self.monitor.n_streams, dtype=np.int64)

    def add(self, made: Batch, verdicts: Verdicts) -> None:
        """Take note of a batch that was judged."""
        if not len(self.first):  # the monitor grew at its first batch
            self.first = np.full(len(made.y), made.number)
        self.prior, self.usual_m = self._fitted(made)
        self.first[made.renewed] = made.number
        self.log_loss[made.number], self.log_naive[made.number] = self._logs(made)
        self.log_loss[made.number] -= self.shift(made, verdicts)
        self.beta = float(self.monitor.coefficients.beta[0])
        self.single = [*self.single, np.abs(made.y - made.forecast)[: self.sample]][-self.kept :]

    def shift(self, made: Batch, verdicts: Verdicts) -> Floats:
        """What was common in a batch that was judged and not added yet, shape (streams,)."""
        log_loss, log_naive = self._logs(made)
        return np.asarray(log_loss - self.beta * log_naive - verdicts.tested)

    def _logs(self, made: Batch) -> tuple[Floats, Floats]:
        floor = self.floor
        return (
            np.log(np.abs(made.y - made.forecast).mean(axis=1) + floor),
            np.log(np.abs(made.y - made.naive).mean(axis=1) + floor),
        )

    @property
    def floor(self) -> Floats:
        """Shape (streams,); fixed at the first batch of a version, for no loss is zero here."""
        return self.monitor.references.floors.floor

    def pasts(self, made: Batch, verdicts: Verdicts) -> list[Past]:
        """What the streams of the sample have at hand for a batch that was judged and not added yet."""
        first = np.where(made.renewed, made.number, self.first)[: self.sample]
        numbers = np.asarray(sorted(self.log_loss), dtype=np.int64)
        loss, naive = (
            np.stack([kept[number][: self.sample] for number in numbers.tolist()], axis=1)
            for kept in (self.log_loss, self.log_naive)
        )
        shift = self.shift(made, verdicts)
        return [
            Past(
                log_loss=loss[i, numbers >= first[i]], log_naive=naive[i, numbers >= first[i]],
                floor=float(self.floor[i]), shift=float(shift[i]),
            )
            for i in range(self.sample)
        ]  # fmt: skip

    def known(self, made: Batch, verdicts: Verdicts) -> Known:
        """What the fleet knew when it judged a batch, computed anew; the monitor must not have gone on since."""
        rho = self.monitor.dependence.now.rho
        prior, _ = self._fitted(made)
        guesses = np.asarray([(g.weight, g.df, g.variance, g.known_df) for g in prior.guesses]).T
        n_tested = int(np.count_nonzero(verdicts.ready))
        return Known(beta=self.beta, rho=rho, prior=prior, is_large=n_tested >= LARGE_FLEET, guesses=guesses)

    def _fitted(self, made: Batch) -> tuple[Prior, int]:
        """The prior that a batch is judged with, fitted at the batches at which the monitor does, and its size."""
        if not self.log_loss:
            return NO_PRIOR, 0
        some = slice(None, None, max(1, -(-len(self.first) // SAMPLE)))
        size = self.monitor.settings.reference_size
        variance, m = self._variances(made, self.monitor.dependence.now.rho, some, size)
        usual_m = int(np.argmax(np.bincount(m)))
        if usual_m == self.usual_m and self.prior != NO_PRIOR and made.number % EVERY != EVERY // 2:
            return self.prior, usual_m
        return fit_prior(variance, np.maximum(m - 1, 0).astype(np.float64)), usual_m

    def _variances(self, made: Batch, rho: float, some: slice, size: int) -> tuple[Floats, Ints]:
        """Variance between the reference batches of some streams, and how many there are; shape (streams,)."""
        numbers = sorted(self.log_loss)[-size:]
        tested = np.stack([self.log_loss[b][some] - self.beta * self.log_naive[b][some] for b in numbers])
        first = np.where(made.renewed, made.number, self.first)[some]
        m = np.count_nonzero(np.asarray(numbers)[:, None] >= first, axis=0).astype(np.int64)
        variance = np.full(len(first), np.nan)
        for length in range(2, len(numbers) + 1):
            streams: Bools = m == length
            inverse, values = pattern(length, 1, rho).inverse, tested[-length:, streams]
            away = values - pattern(length, 1, rho).mean @ values
            variance[streams] = np.einsum("is,ij,js->s", away, inverse, away) / (length - 1)
        return variance, m
