"""One comparison of a batch with both references, for live and for sham streams alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mlma.core.accumulation import together
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.for_all import for_all
from mlma.core.judge import either
from mlma.core.loss_tests import LARGE_FLEET, Prior, moderated_p, predicted_sd
from mlma.core.prediction import Dependence, Prediction, predict
from mlma.core.settings import ReferencePolicy, TestingSettings
from mlma.core.skewness import unskewed_p
from mlma.monitor.accumulation import NORMAL, Added, Shape
from mlma.monitor.membership import is_nested, nested_by_policy, predict_adaptive, predict_anchored
from mlma.monitor.prior_memory import PriorMemory
from mlma.monitor.references import References
from mlma.monitor.sham import Segments
from mlma.monitor.sham_sums import add_up_sham

HIGHEST = 50.0
"""Log ratio beyond which effects are not told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The references of one batch, what they predict, and how far a batch may be from it.

    Attributes
    ----------
    adaptive, anchored
        Predictions, arrays of shape (streams,).
    prior
        What the fleet says about the variance between batches.
    scale, anchored_scale
        Shape (streams,), standard deviations of the predictions' errors; NaN without a reference.
    nested
        Says for some streams (indices) whether every batch of the anchored reference is in the adaptive one; to be
        asked before the batch is remembered.
    """

    settings: TestingSettings
    dependence: Dependence
    adaptive: Prediction
    anchored: Prediction
    prior: Prior
    scale: Floats
    anchored_scale: Floats
    nested: Callable[[Ints], Bools]

    @classmethod
    def make(
        cls, references: References, beta: Floats, dependence: Dependence, priors: PriorMemory, at: int
    ) -> "Kernel":
        """Predict batch ``at`` from both references."""
        adaptive = predict_adaptive(references, at, beta, dependence)
        anchored = predict_anchored(references, at, beta, dependence)
        prior = priors.update(adaptive, at)
        kept = references.kept
        anchored_scale = predicted_sd(anchored, prior) if kept is None else kept.scale_under(prior)
        return cls(
            settings=references.settings, dependence=dependence, adaptive=adaptive, anchored=anchored, prior=prior,
            scale=predicted_sd(adaptive, prior), anchored_scale=anchored_scale,
            nested=lambda some: is_nested(references, adaptive, some),
        )  # fmt: skip

    def compare(self, tested: Floats, total: Added | None = None) -> "Comparison":
        """Test a batch against both references, for numbers of shape (streams,).

        With ``total``, what the newest batches add up to is tested with them, and gets most of the level.
        """
        least = self.settings.min_reference
        p_adaptive, p_anchored = (
            moderated_p(tested, prediction, self.prior, min_reference=least, sd=sd)
            for prediction, sd in ((self.adaptive, self.scale), (self.anchored, self.anchored_scale))
        )
        return self.combine(tested, p_adaptive, p_anchored, total)

    def combine(
        self, tested: Floats, p_adaptive: Floats, p_anchored: Floats, total: Added | None = None
    ) -> "Comparison":
        """Both references together, from the p-values against each of them."""

        def correlations(some: Ints) -> Floats:
            return correlation(self.adaptive, self.anchored, self.nested(some), self.prior.df, some)

        effect = _rise(tested, self.adaptive, self.anchored, _is_louder(p_anchored, p_adaptive))
        if total is not None:
            return _with_sum(p_adaptive, p_anchored, effect, total, correlations)
        return Comparison(p_adaptive, p_anchored, either(p_adaptive, p_anchored, correlations), effect)

    def p_sham(self, segments: Segments, newest_first: Floats, shape: Shape = NORMAL) -> tuple[Floats, Floats]:
        """The same test on sham streams: p-values of both references together, and effects; shape (tests,).

        Parameters
        ----------
        segments
            What is tested against what.
        newest_first
            Shape (batches, streams): tested numbers of the newest batches, the tested batch of now included.
        shape
            Of scores, where they are added up.
        """

        def values(position: Ints) -> Floats:
            made = newest_first[segments.age(position), segments.stream]
            made += np.where(position >= segments.raised_from, np.log1p(segments.rise), 0.0)
            return np.asarray(made)

        recent = values(segments.at)
        # The guesses of a large fleet agree about p-values around alpha, and no others count here.
        prior = self.prior if len(self.scale) < LARGE_FLEET else replace(self.prior, guesses=())
        p, predictions = [], []
        for at in self._sham_references(segments):
            member = (at >= segments.start) & (at < segments.at)
            lags = np.where(member, segments.at - at, 0)
            made = predict(values(np.where(member, at, 0)), lags, self.dependence)
            p.append(moderated_p(recent, made, prior, min_reference=self.settings.min_reference))
            predictions.append(made)
        (p_adaptive, p_anchored), (adaptive, anchored) = p, predictions
        nested = nested_by_policy(self.settings, segments.at - segments.start <= self._sham_size())
        alike = correlation(adaptive, anchored, nested, self.prior.df)
        effect = _rise(recent, adaptive, anchored, _is_louder(p_anchored, p_adaptive))
        if self.settings.accumulate:
            total = add_up_sham(segments, values, self.settings, self.dependence, prior, shape)
            found = _with_sum(p_adaptive, p_anchored, effect, total, lambda some: alike[some])
            return found.p_value, found.effect
        return either(p_adaptive, p_anchored, alike), effect

    def _sham_size(self) -> int:
        settings = self.settings
        size = max(settings.reference_size, 2 * settings.season if settings.season > 1 else 0)
        is_half = settings.reference in (ReferencePolicy.SLIDING, ReferencePolicy.BEST)
        return max(2, size // 2) if is_half else size

    def _sham_references(self, segments: Segments) -> tuple[Ints, Ints]:
        """Positions of the adaptive and the anchored reference, newest first, shape (rows, tests)."""
        settings, size = self.settings, self._sham_size()
        back = np.arange(1, size + 1)[:, None]
        is_fixed = settings.reference is ReferencePolicy.FIXED
        adaptive = segments.start + size - back if is_fixed else segments.at - back
        return adaptive, segments.start + np.arange(settings.anchored_size)[::-1, None]


class Comparison(NamedTuple):
    """What the test says about a batch, arrays of shape (streams,), NaN where it says nothing.

    Attributes
    ----------
    p_adaptive, p_anchored
        One-sided p-values against each reference.
    p_value
        Of both together.
    effect
        Relative rise over the reference that speaks louder.
    p_accumulated
        Of what the newest batches add up to; None where that is not asked for.
    """

    p_adaptive: Floats
    p_anchored: Floats
    p_value: Floats
    effect: Floats
    p_accumulated: Floats | None = None


def _with_sum(
    p_adaptive: Floats, p_anchored: Floats, effect: Floats, total: Added, correlations: Callable[[Ints], Floats]
) -> Comparison:
    """Both references and what the newest batches add up to together."""
    p_adaptive, p_anchored = (unskewed_p(p, total.skewness) for p in (p_adaptive, p_anchored))
    rises = np.flatnonzero(~np.isnan(total.rise))
    louder = rises[total.p_value[rises] < np.fmin(p_adaptive[rises], p_anchored[rises])]
    effect[louder] = np.expm1(np.minimum(total.rise[louder], HIGHEST))
    p_value = together(total.p_value, p_anchored, p_adaptive, lambda some: total.likeness[some], correlations)
    return Comparison(p_adaptive, p_anchored, p_value, effect, total.p_value)


def correlation(
    wide: Prediction, narrow: Prediction, nested: Bools, prior_df: float, some: Ints | slice = slice(None)
) -> Floats:
    """Correlation of the test statistics of two predictions of one batch, at least; of some streams, as ``nested`` is.

    Where the reference of ``narrow`` is part of that of ``wide``, the error of the better prediction is uncorrelated
    with the difference between both (Gauss and Markov), so that the errors correlate by the ratio of their standard
    deviations; what the two estimates of variance differ by beyond that, counted at two standard deviations, comes
    off. Elsewhere the batch itself is what both share, and what their references share is left out.
    """
    if is_one_for_all(wide.factor) and is_one_for_all(narrow.factor) and not nested.any():
        factor, other_factor = wide.factor[0], narrow.factor[0]
        alike = (wide.own[0] + narrow.own[0] - 1.0) / np.sqrt(factor * other_factor)
        return for_all(float(np.fmax(alike, 0.0)), len(nested))
    factor, other_factor = wide.factor[some], narrow.factor[some]
    with np.errstate(invalid="ignore", divide="ignore"):
        made = (wide.own[some] + narrow.own[some] - 1.0) / np.sqrt(factor * other_factor)
        if nested.any():
            inside = np.sqrt(np.minimum(factor / other_factor, 1.0))
            inside -= np.maximum(1.0 / (prior_df + narrow.m[some] - 1.0) - 1.0 / (prior_df + wide.m[some] - 1.0), 0.0)
            made = np.where(nested, inside, made)
    return np.fmax(made, 0.0)


def is_one_for_all(part: Floats) -> bool:
    """Whether one number stands for all of several streams."""
    return part.strides == (0,) and len(part) > 1


def _is_louder(p_value: Floats, other: Floats) -> Bools:
    """Whether a p-value is the smaller one; one that exists is smaller than one that does not."""
    made = p_value < other
    missing = np.flatnonzero(np.isnan(other))
    made[missing] = ~np.isnan(p_value[missing])
    return made


def _rise(tested: Floats, adaptive: Prediction, anchored: Prediction, anchored_speaks: Bools) -> Floats:
    """Relative rise of a tested number over the level of the reference that speaks louder, shape (streams,)."""
    made = _either_of(anchored_speaks, anchored.mean, adaptive.mean)
    np.subtract(tested, made, out=made)
    if not made.max(initial=0.0) <= HIGHEST:  # or one is unknown
        np.minimum(made, HIGHEST, out=made)
    return np.asarray(np.expm1(made, out=made))


def _either_of(mask: Bools, yes: Floats, no: Floats) -> Floats:
    """What `numpy.where` gives, bit by bit and thrice as fast where the mask is as good as random."""
    bits = mask.astype(np.int64)
    np.negative(bits, out=bits)
    bits &= yes.view(np.int64) ^ no.view(np.int64)
    bits ^= no.view(np.int64)
    return bits.view(np.float64)
