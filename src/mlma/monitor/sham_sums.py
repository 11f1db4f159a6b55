"""The test of what several batches add up to, on sham streams."""

from collections.abc import Callable

import numpy as np

from mlma.core.accumulation import WINDOW
from mlma.core.blocks import Floats, Ints
from mlma.core.loss_tests import Prior, predicted_sd
from mlma.core.prediction import Dependence, predict
from mlma.core.settings import TestingSettings
from mlma.monitor.accumulation import Added, Shape, add_up
from mlma.monitor.scores import scored, shared_error, to_add
from mlma.monitor.sham import Segments


def add_up_sham(
    segments: Segments,
    values: Callable[[Ints], Floats],
    settings: TestingSettings,
    dependence: Dependence,
    prior: Prior,
    shape: Shape,
) -> Added:
    """Score the newest batches of sham streams as live ones are, and test what they add up to; shape (tests,).

    Parameters
    ----------
    segments
        What is tested against what.
    values
        Tested numbers at positions of shape (..., tests).
    settings, dependence, prior, shape
        As for live streams.
    """
    size = settings.anchored_size
    reference = segments.start + np.arange(size)[::-1, None]
    before = np.full(len(segments.at), np.nan)
    scores: list[Floats] = []
    for back in range(WINDOW, -1, -1):
        at = segments.at - back
        inside = at > segments.start
        member = inside & (reference < at)
        made = predict(values(np.where(member, reference, 0)), np.where(member, at - reference, 0), dependence)
        sd = predicted_sd(made, prior)
        found = scored(
            np.where(inside, values(np.where(inside, at, 0)), np.nan), before, made, sd, prior, dependence,
            is_next=reference[0] >= at - 1, least=settings.min_reference,
        )  # fmt: skip
        before = np.full(len(segments.at), np.nan) if found.residual is None else found.residual
        scores.append(to_add(found.score, shape.skewness))
    frozen = np.maximum(segments.at - reference[0], 0)
    return add_up(scores[1:], frozen, shared_error(made, dependence), sd, dependence, shape=shape, loud=settings.alpha)
