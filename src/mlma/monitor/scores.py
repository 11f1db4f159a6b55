"""How far one batch lies above the anchored reference, as a normal score.

A score is made once, when its batch is judged, from what the anchored reference (and, where batches depend on each
other, the batch before) predicts. Scores of healthy batches are then independent of each other, whatever the
dependence, the season and the size of the reference.
"""

from typing import NamedTuple

import numpy as np

from mlma.core.accumulation import HIGHEST, normal_score
from mlma.core.blocks import Bools, Floats
from mlma.core.loss_tests import Prior
from mlma.core.prediction import Dependence, Prediction
from mlma.core.skewness import unskewed

BLOCK = 12_288
"""Streams that are worked on at once: their rows stay in the cache."""


class Scored(NamedTuple):
    """One batch against the anchored reference, arrays of shape (streams,), NaN where nothing is known.

    ``score`` is independent of the scores before, and normal but for its skewness; ``residual`` is how far the batch
    lies from the reference, in standard deviations between batches, of what a season leaves; None where neighbours
    do not depend on each other.
    """

    score: Floats
    residual: Floats | None


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
    rho = dependence.rho
    if rho == 0.0 and prediction.m.strides == (0,) and len(sd) and prediction.m[0] >= least and sd.min() > 0.0:
        return Scored(_scored_alike(tested, prediction, sd, prior), None)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (tested - prediction.expected) / sd
        residual = None
        if rho > 0.0:
            is_seasonal = dependence.repeats > 0.0
            factor = prediction.factor / (1.0 - dependence.repeats)  # over what the season leaves of the variance
            residual = (tested - (prediction.expected if is_seasonal else prediction.mean)) / (sd / np.sqrt(factor))
            # errors of the reference: neighbours share that of the level, each phase of a season has its own
            repeated = 1.0 + rho**2 if is_seasonal else (1.0 - rho) ** 2
            innovation = (1.0 - rho**2) + repeated * np.maximum(factor - 1.0, 0.0)
            further = (residual - rho * before) / np.sqrt(innovation)
            is_known = ~np.isnan(before) if is_next is None else ~np.isnan(before) & ~is_next
            t = np.where(is_known, further, t)
        m = prediction.m[:1] if prediction.m.strides == (0,) else prediction.m
        score = normal_score(t, prior.df if np.isinf(prior.df) else np.maximum(prior.df + m - 1.0, 0.5))
        score = np.where(np.isfinite(score) & (m >= least), score, np.nan)
    return Scored(score, residual)


def _scored_alike(tested: Floats, prediction: Prediction, sd: Floats, prior: Prior) -> Floats:
    """Scores of streams that all have references of one size, where batches are independent."""
    made = np.empty(len(sd))
    df = prior.df + float(prediction.m[0]) - 1.0
    for start in range(0, len(sd), BLOCK):
        block = slice(start, start + BLOCK)
        t = tested[block] - prediction.expected[block]
        t /= sd[block]
        made[block] = normal_score(t, df)
    return made


def to_add(score: Floats, skewness: float) -> Floats:
    """Scores as they are added up, shape (streams,): normal ones, none above `HIGHEST`."""
    return np.minimum(unskewed(score, skewness), HIGHEST)


def shared_error(prediction: Prediction, dependence: Dependence) -> Floats:
    """Standard deviation, in scores, of the error that a reference gives to all scores made with it; (streams,)."""
    rho, n = dependence.rho, len(prediction.m)
    of_all = slice(0, 1) if prediction.factor.strides == (0,) and prediction.m.strides == (0,) else slice(None)
    of_level = np.maximum(prediction.factor[of_all] - 1.0, 0.0)
    if dependence.repeats > 0.0:  # what is not known about one phase says nothing about another
        of_level = (1.0 - dependence.repeats) / np.maximum(prediction.m[of_all], 1)
    part = (1.0 - rho) ** 2 * of_level
    return np.broadcast_to(np.sqrt(part / (1.0 - rho**2 + part)), n)
