"""The scores of the newest batches against the anchored reference, and the test of what they add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlma.core.accumulation import ALLOWANCE, WINDOW, added, likeness, tail
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_tests import Prior
from mlma.core.prediction import Dependence, Prediction
from mlma.monitor.asymmetry import Asymmetry
from mlma.monitor.excess import SAMPLE, Excess
from mlma.monitor.references import NEVER, References
from mlma.monitor.scores import BLOCK, Scored, scored, shared_error, to_add

REFERENCE = 12
"""Batches of the anchored reference at least: it is compared with for long, so its own error must be small."""

PREFIX = "sum_"
STATE = ("scores", "batches", "residual")

Floats32 = NDArray[np.float32]


class Added(NamedTuple):
    """What the newest scores add up to, arrays of shape (streams,).

    Attributes
    ----------
    p_value
        NaN without a newest score.
    likeness
        Correlation of the normal scores of the newest batch and of the sum.
    rise
        Log of the rise that the batches that add to the sum show; NaN where nobody asks for it.
    skewness
        Of the scores, a number: the newest batch's own tests are corrected by it too.
    """

    p_value: Floats
    likeness: Floats
    rise: Floats
    skewness: float


class Shape(NamedTuple):
    """What the fleet has shown about the distribution of scores.

    Attributes
    ----------
    shrink
        What scores are multiplied with, because their sums vary more than independent scores lead one to expect.
    skewness
        Of single scores, before they are corrected.
    """

    shrink: float = 1.0
    skewness: float = 0.0


NORMAL = Shape()


def add_up(
    scores: list[Floats], frozen: Ints, shared: Floats, sd: Floats, dependence: Dependence, *, shape: Shape,
    loud: float,
) -> Added:  # fmt: skip
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
    shape
        What the fleet has shown about scores.
    loud
        p-value above which the rise is not asked for.
    """
    n = len(sd)
    if shape.shrink < 1.0:
        scores = [score * shape.shrink for score in scores]
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
    of_all = slice(None) if has_gaps or frozen.strides != (0,) or shared.strides != (0,) else slice(0, 1)
    common = shared[of_all] * np.minimum(frozen[of_all], length[of_all]) / np.maximum(length[of_all], 1)
    p_value = tail(total, length, np.broadcast_to(common, n))
    rise = np.full(n, np.nan)
    ask = np.flatnonzero(p_value <= loud)
    if len(ask):
        rise[ask] = _mean_score([score[ask] for score in clean]) * sd[ask]
        rise[ask] *= np.sqrt(1.0 - dependence.rho**2) / ((1.0 - dependence.rho) * shape.shrink)
    alike = likeness(length[of_all], frozen[of_all], dependence.rho)
    return Added(p_value, np.broadcast_to(alike, n), rise, shape.skewness)


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
    asymmetry
        How skewed the scores are.
    """

    n_streams: int
    scores: Floats32 = field(init=False)
    batches: Ints = field(init=False)
    residual: Floats32 = field(init=False)
    excluded: Bools | None = None
    excess: Excess = field(default_factory=Excess)
    asymmetry: Asymmetry = field(default_factory=Asymmetry)

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
        found = scored(
            tested, before, prediction, sd, prior, dependence, is_next=is_next, least=settings.min_reference
        )  # fmt: skip
        self.asymmetry.learn(found.score, [self.scores[row] for row in np.flatnonzero(self.batches > NEVER)])
        return found._replace(score=to_add(found.score, self.asymmetry.skewness))

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
        last = references.first_batch[references.settings.anchored_size - 1]
        frozen = np.broadcast_to(np.int64(WINDOW), len(last))
        if not len(last) or last.min() == NEVER or at - last.max() < WINDOW:
            frozen = np.where(last > NEVER, at - last.astype(np.int64), 0)
        shared, scores = shared_error(prediction, dependence), [*past, newest]
        if dependence.rho > 0.0 and len(shared):
            some = slice(None, None, max(1, len(shared) // SAMPLE))
            together = float(np.nan_to_num(np.median(shared[some])))
            self.excess.learn(scores, together, int(np.median(frozen[some])))
        return add_up(
            scores, frozen, shared, sd, dependence, shape=self.shape(dependence), loud=references.settings.alpha
        )  # fmt: skip

    def shape(self, dependence: Dependence) -> Shape:
        """What the fleet has shown; nothing is shrunk where neighbours do not depend on each other."""
        return Shape(self.excess.shrink if dependence.rho > 0.0 else 1.0, self.asymmetry.skewness)

    def add(self, found: Scored, at: int) -> None:
        """Remember batch ``at``."""
        row = int(np.argmin(self.batches))
        self.batches[row] = at
        with np.errstate(over="ignore"):
            self.scores[row] = found.score
            self.residual[:] = np.nan if found.residual is None else found.residual
            self.residual[np.isinf(self.residual)] = np.nan
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
        return {PREFIX + name: getattr(self, name) for name in STATE} | self.excess.arrays() | self.asymmetry.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in STATE:
            setattr(self, name, arrays[PREFIX + name].copy())
        self.n_streams, self.excluded = len(self.residual), None
        self.excess.restore(arrays)
        self.asymmetry.restore(arrays)
