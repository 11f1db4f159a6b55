"""One comparison of a batch with both references, for live and for sham streams alike."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.judge import either
from mlma.core.loss_tests import Prior, fit_prior, moderated, shrunk
from mlma.core.prediction import Dependence, Prediction, predict
from mlma.core.settings import ReferencePolicy, TestingSettings
from mlma.monitor.references import References
from mlma.monitor.sham import Segments

SAMPLE = 8192
"""Streams that the fleet's prior is fitted to; evenly spread over the fleet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The references of one batch, what they predict, and how far a batch may be from it.

    Attributes
    ----------
    adaptive, anchored
        Predictions, arrays of shape (streams,).
    prior
        What the fleet says about the variance between batches.
    scale
        Shape (streams,), standard deviation of the adaptive prediction's error; NaN without a reference.
    nested
        Shape (streams,): every batch of the anchored reference is in the adaptive one.
    """

    settings: TestingSettings
    dependence: Dependence
    adaptive: Prediction
    anchored: Prediction
    prior: Prior
    scale: Floats
    nested: Bools

    @classmethod
    def make(
        cls, references: References, beta: Floats, dependence: Dependence, at: int, settings: TestingSettings
    ) -> "Kernel":
        """Predict batch ``at`` from both references."""
        adaptive = references.predict_adaptive(at, beta, dependence)
        anchored = references.predict_anchored(at, beta, dependence)
        prior = fleet_prior(adaptive)
        scale = np.sqrt(shrunk(adaptive, prior) * adaptive.factor)
        return cls(
            settings=settings, dependence=dependence, adaptive=adaptive, anchored=anchored, prior=prior, scale=scale,
            nested=references.nested(adaptive.m),
        )  # fmt: skip

    def p_values(self, tested: Floats) -> tuple[Floats, Floats]:
        """One-sided p-values of a batch against the adaptive and the anchored reference, shape (streams,)."""
        least = self.settings.min_reference
        return (
            moderated(tested, self.adaptive, self.prior, min_reference=least).p_value,
            moderated(tested, self.anchored, self.prior, min_reference=least).p_value,
        )

    def together(self, p_adaptive: Floats, p_anchored: Floats) -> Floats:
        """p-value of both references together, shape (streams,)."""
        return either(p_adaptive, p_anchored, correlation(self.adaptive, self.anchored, self.nested, self.prior.df))

    def effect(self, tested: Floats, p_adaptive: Floats, p_anchored: Floats) -> Floats:
        """Relative rise over the reference that speaks louder, shape (streams,)."""
        anchored_speaks = np.nan_to_num(p_anchored, nan=2.0) < np.nan_to_num(p_adaptive, nan=2.0)
        level = np.where(anchored_speaks, self.anchored.mean, self.adaptive.mean)
        return np.expm1(np.minimum(tested - level, 50.0))

    def p_sham(self, segments: Segments, newest_first: Floats) -> tuple[Floats, Floats]:
        """The same test on sham streams: p-values of both references together, and effects; shape (tests,).

        Parameters
        ----------
        segments
            What is tested against what.
        newest_first
            Shape (batches, streams): tested numbers of the newest batches, the tested batch of now included.
        """

        def values(position: Ints) -> Floats:
            raised = np.where(position >= segments.raised_from, np.log1p(segments.rise), 0.0)
            return np.asarray(newest_first[segments.age(position), segments.stream] + raised)

        settings = self.settings
        size = max(settings.reference_size, 2 * settings.season if settings.season > 1 else 0)
        if settings.reference in (ReferencePolicy.SLIDING, ReferencePolicy.BEST):
            size = max(2, size // 2)
        back = np.arange(1, size + 1)[:, None]
        position = segments.at - back
        if settings.reference is ReferencePolicy.FIXED:
            position = segments.start + size - back
        first = segments.start + np.arange(settings.anchored_size)[::-1, None]
        recent = values(segments.at)
        p = []
        for at in (position, first):
            member = (at >= segments.start) & (at < segments.at)
            made = predict(values(np.where(member, at, 0)), np.where(member, segments.at - at, 0), self.dependence)
            result = moderated(recent, made, self.prior, min_reference=settings.min_reference)
            p.append((result.p_value, made))
        (p_adaptive, adaptive), (p_anchored, anchored) = p
        louder = np.nan_to_num(p_anchored, nan=2.0) < p_adaptive
        effect = recent - np.where(louder, anchored.mean, adaptive.mean)
        nested = segments.at - segments.start <= size
        if settings.reference in (ReferencePolicy.FIXED, ReferencePolicy.BEST):
            nested = np.full(nested.shape, settings.reference is ReferencePolicy.FIXED)
        together = either(p_adaptive, p_anchored, correlation(adaptive, anchored, nested, self.prior.df))
        return together, np.expm1(effect)


def correlation(wide: Prediction, narrow: Prediction, nested: Bools, prior_df: float) -> Floats:
    """Correlation of the test statistics of two predictions of one batch, shape (streams,), at least.

    Where the reference of ``narrow`` is part of that of ``wide``, the error of the better prediction is uncorrelated
    with the difference between both (Gauss and Markov), so that the errors correlate by the ratio of their standard
    deviations; what the two estimates of variance differ by beyond that, counted at two standard deviations, comes
    off. Elsewhere the batch itself is what both share, and what their references share is left out.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.sqrt(np.minimum(wide.factor / narrow.factor, 1.0))
        inside -= np.maximum(1.0 / (prior_df + narrow.m - 1.0) - 1.0 / (prior_df + wide.m - 1.0), 0.0)
        apart = (wide.own + narrow.own - 1.0) / np.sqrt(wide.factor * narrow.factor)
    return np.asarray(np.maximum(np.nan_to_num(np.where(nested, inside, apart), nan=0.0), 0.0))


def fleet_prior(prediction: Prediction) -> Prior:
    """What the fleet says about the variance between batches, from an even sample of its streams."""
    step = max(1, -(-len(prediction.m) // SAMPLE))
    return fit_prior(prediction.variance[::step], (prediction.m[::step] - 1).astype(np.float64))
