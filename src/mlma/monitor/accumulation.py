"""The scores of the newest batches against the anchored reference, and the test of what they add up to.

A score is made once, when its batch is judged: how far the batch lies above what the anchored reference (and, where
batches depend on each other, the batch before) predicts, as a normal score. Scores of healthy batches are then
independent of each other, whatever the dependence, the season and the size of the reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlma.core.accumulation import ALLOWANCE, HIGHEST, LIKENESS, WINDOW, added, normal_score, tail
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_tests import Prior
from mlma.core.prediction import Dependence, Prediction
from mlma.monitor.excess import SAMPLE, Excess
from mlma.monitor.references import NEVER, References

REFERENCE = 12
"""Batches of the anchored reference at least: it is compared with for long, so its own error must be small."""

BLOCK = 12_288
"""Streams that are worked on at once: their rows stay in the cache."""

PREFIX = "sum_"
STATE = ("scores", "batches", "residual")

Floats32 = NDArray[np.float32]


class Scored(NamedTuple):
    """One batch against the anchored reference, arrays of shape (streams,), NaN where nothing is known.

    ``score`` is normal and independent of the scores before; ``residual`` is how far the batch lies from the
    reference, in standard deviations between batches.
    """

    score: Floats
    residual: Floats


class Added(NamedTuple):
    """What the newest scores add up to, arrays of shape (streams,).

    Attributes
    ----------
    p_value
        NaN without a newest score.
    likeness
        Correlation of the normal scores of the newest batch and of the sum.
    rise
        Log of the rise that the batches that add to the sum show; NaN where p is above `LOUD`.
    """

    p_value: Floats
    likeness: Floats
    rise: Floats


LOUD = 0.2
"""p-value above which nobody asks for the rise."""


def scored(
    tested: Floats, before: Floats, prediction: Prediction, sd: Floats, prior: Prior, dependence: Dependence,
    *, is_next: Bools | None, least: int,
) -> Scored:  # fmt: skip
    """Score a batch against the anchored reference.

    Parameters
    ----------
    tested
        Shape (streams,).
    before
        Shape (streams,), residual of the batch before; NaN where there was none.
    prediction, sd
        Of the batch, from the anchored reference, and the standard deviation of its error.
    is_next
        Shape (streams,): the batch before is part of the reference, so that the prediction knows it already.
        Asked for only where neighbours depend on each other.
    least
        Fewest reference batches.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (tested - prediction.expected) / sd
        residual, rho = t, dependence.rho
        if rho > 0.0:
            wide = np.sqrt(prediction.factor)
            level = prediction.expected if dependence.repeats > 0.0 else prediction.mean
            residual = (tested - level) / (sd / wide)
            innovation = (1.0 - rho**2) + (1.0 - rho) ** 2 * np.maximum(prediction.factor - 1.0, 0.0)
            further = (residual - rho * before) / np.sqrt(innovation)
            is_known = ~np.isnan(before) if is_next is None else ~np.isnan(before) & ~is_next
            t = np.where(is_known, further, t)
        m = prediction.m[:1] if prediction.m.strides == (0,) else prediction.m
        score = normal_score(t, prior.df if np.isinf(prior.df) else np.maximum(prior.df + m - 1.0, 0.5))
        score = np.where(np.isfinite(score) & (m >= least), np.minimum(score, HIGHEST), np.nan)
    return Scored(score, residual)


def shared_error(prediction: Prediction, dependence: Dependence) -> Floats:
    """Standard deviation, in scores, of the error that a reference gives to all scores made with it; (streams,)."""
    rho = dependence.rho
    of_level = np.maximum(prediction.factor - 1.0, 0.0)
    if dependence.repeats > 0.0:  # what is not known about one phase says nothing about another
        of_level = (1.0 - dependence.repeats) / prediction.m
    part = (1.0 - rho) ** 2 * of_level
    return np.asarray(np.sqrt(part / (1.0 - rho**2 + part)))


def add_up(
    scores: list[Floats], frozen: Ints, shared: Floats, sd: Floats, dependence: Dependence, shrink: float = 1.0
) -> Added:
    """Test what scores add up to.

    Parameters
    ----------
    scores
        At most `WINDOW` arrays of shape (streams,), the oldest first, NaN for batches that are left out.
    frozen
        Shape (streams,), how many of the newest of them were made with the reference as it is now.
    shared
        Shape (streams,), from `shared_error`.
    sd
        Shape (streams,), standard deviation of the prediction's error for the newest batch.
    dependence
        How batches depend on each other.
    shrink
        What scores are multiplied with, because their sums vary more than independent scores lead one to expect.
    """
    n = len(sd)
    if shrink < 1.0:
        scores = [score * shrink for score in scores]
    has_gaps = bool(np.isnan(np.sum([score.sum() for score in scores])))
    length = np.broadcast_to(np.int64(len(scores)), n)
    if has_gaps:
        length = np.sum([~np.isnan(score) for score in scores], axis=0)
        length = np.where(np.isnan(scores[-1]), 0, length)
    clean = [np.where(np.isnan(score), ALLOWANCE, score) for score in scores] if has_gaps else scores
    total = np.zeros(n)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        added([score[block] for score in clean], total[block])
    if has_gaps or np.ptp(frozen) > 0 or shared.strides != (0,):
        common = shared * np.minimum(frozen, length) / np.maximum(length, 1)
    else:
        common = np.broadcast_to(shared[:1] * min(int(frozen[:1].sum()), len(scores)) / len(scores), n)
    p_value = tail(total, length, common)
    rise = np.full(n, np.nan)
    loud = np.flatnonzero(p_value < LOUD)
    if len(loud):
        rise[loud] = _mean_score([score[loud] for score in clean]) * sd[loud]
        rise[loud] *= np.sqrt(1.0 - dependence.rho**2) / ((1.0 - dependence.rho) * shrink)
    likeness = LIKENESS[length[:1]] if length.strides == (0,) else LIKENESS[length]
    return Added(p_value, np.broadcast_to(likeness, n), rise)


def _mean_score(scores: list[Floats]) -> Floats:
    """Mean of the scores since the sum was last zero, shape (streams,)."""
    total, steps = np.zeros((2, len(scores[0])))
    for score in scores:
        total = np.maximum(total + score - ALLOWANCE, 0.0)
        steps = np.where(total > 0.0, steps + 1.0, 0.0)
    return np.asarray(total / np.maximum(steps, 1.0) + ALLOWANCE)


@dataclass
class Accumulation:
    """Scores of the newest batches of ``n_streams`` streams.

    Attributes
    ----------
    scores
        Shape (WINDOW - 1, streams), one row for each of the newest batches.
    batches
        Shape (WINDOW - 1,), their numbers; `NEVER` where there is none.
    residual
        Shape (streams,), of the newest batch.
    excluded
        Shape (WINDOW - 1, streams), batches that an engineer declared bad; None for none.
    excess
        How much more the sums vary over the fleet than expected.
    """

    n_streams: int
    scores: Floats32 = field(init=False)
    batches: Ints = field(init=False)
    residual: Floats32 = field(init=False)
    excluded: Bools | None = None
    excess: Excess = field(default_factory=Excess)

    def __post_init__(self) -> None:
        self.scores = np.full((WINDOW - 1, self.n_streams), np.nan, dtype=np.float32)
        self.batches = np.full(WINDOW - 1, NEVER, dtype=np.int64)
        self.residual = np.full(self.n_streams, np.nan, dtype=np.float32)

    def score(
        self, tested: Floats, references: References, prediction: Prediction, sd: Floats, prior: Prior,
        dependence: Dependence, at: int,
    ) -> Scored:  # fmt: skip
        """Score batch ``at``, before it is remembered."""
        settings = references.settings
        before = np.full(self.n_streams, np.nan)
        if self.batches.max() == at - 1 and dependence.rho > 0.0:
            before[:] = self.residual
        is_next = None
        if dependence.rho > 0.0:
            newest = references.first_batch[settings.anchored_size - 1]
            is_next = (references.n_first < settings.anchored_size) | (newest == at - 1)
        return scored(
            tested, before, prediction, sd, prior, dependence, is_next=is_next, least=settings.min_reference
        )  # fmt: skip

    def test(
        self,
        newest: Floats,
        references: References,
        prediction: Prediction,
        sd: Floats,
        dependence: Dependence,
        at: int,
    ) -> Added:
        """Test what the scores of the batches before and of batch ``at`` add up to."""
        rows = np.argsort(self.batches, kind="stable")
        rows = rows[self.batches[rows] > NEVER]
        past: list[Floats] = [self.scores[row] for row in rows]
        if self.excluded is not None:
            past = [np.where(self.excluded[row], np.nan, self.scores[row]) for row in rows]
        last = references.first_batch[references.settings.anchored_size - 1].astype(np.int64)
        frozen = np.where(last > NEVER, at - last, 0)
        shared, scores = shared_error(prediction, dependence), [*past, newest]
        if dependence.rho > 0.0 and len(shared):
            some = slice(None, None, max(1, len(shared) // SAMPLE))
            together = float(np.nan_to_num(np.median(shared[some])))
            self.excess.learn(scores, together, int(np.median(frozen[some])))
        return add_up(scores, frozen, shared, sd, dependence, self.shrink(dependence))

    def shrink(self, dependence: Dependence) -> float:
        """What scores are multiplied with; 1 where neighbours do not depend on each other."""
        return self.excess.shrink if dependence.rho > 0.0 else 1.0

    def add(self, found: Scored, at: int) -> None:
        """Remember batch ``at``."""
        row = int(np.argmin(self.batches))
        self.batches[row] = at
        with np.errstate(over="ignore"):
            self.scores[row] = found.score
            self.residual[:] = np.where(np.isfinite(found.residual), found.residual, np.nan)
        if self.excluded is not None:
            self.excluded[row] = False

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        for row in self.scores:
            row[streams] = np.nan
        self.residual[streams] = np.nan

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Leave batches out of the sums; ``mask`` is (streams, batches). Replaces what was said before."""
        self.excluded = None
        if not mask.any():
            return
        order = np.argsort(batches)
        at = np.minimum(np.searchsorted(batches[order], self.batches), len(batches) - 1)
        self.excluded = mask[:, order[at]].T & (batches[order[at]] == self.batches)[:, None]

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.n_streams += more
        self.scores = np.pad(self.scores, ((0, 0), (0, more)), constant_values=np.nan)
        self.residual = np.pad(self.residual, (0, more), constant_values=np.nan)
        self.excluded = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {PREFIX + name: getattr(self, name) for name in STATE} | self.excess.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in STATE:
            setattr(self, name, arrays[PREFIX + name].copy())
        self.n_streams, self.excluded = len(self.residual), None
        self.excess.restore(arrays)
