"""Scores of batches against the anchored reference, where neighbours depend on each other."""

import numpy as np
import pytest

from mlma.core.loss_tests import Prior, predicted_sd
from mlma.core.prediction import Dependence, predict
from mlma.monitor.scores import scored

STREAMS, REFERENCE, BATCHES = 4000, 14, 28


@pytest.mark.parametrize("repeats", [0.0, 0.9])
def test_scores_spread_by_one_and_do_not_follow_each_other_with_a_season_or_without(repeats):
    rng = np.random.default_rng(8)
    dependence = Dependence(rho=0.5, season=7, repeats=repeats)
    phases, rest = rng.standard_normal((7, STREAMS)), np.zeros(STREAMS)
    values = np.empty((BATCHES, STREAMS))
    for at in range(BATCHES):
        rest = 0.5 * rest + np.sqrt(0.75 if at else 1.0) * rng.standard_normal(STREAMS)
        values[at] = np.sqrt(repeats) * phases[at % 7] + np.sqrt(1.0 - repeats) * rest
    prior, before, scores = Prior(variance=1.0, df=np.inf), np.full(STREAMS, np.nan), []
    for at in range(REFERENCE, BATCHES):
        lags = np.tile(at - np.arange(REFERENCE)[::-1, None], (1, STREAMS))
        prediction = predict(values[REFERENCE - 1 :: -1], lags, dependence)
        found = scored(
            values[at], before, prediction, predicted_sd(prediction, prior), prior, dependence,
            is_next=np.full(STREAMS, at == REFERENCE), least=2,
        )  # fmt: skip
        scores.append(found.score)
        before = found.residual
    made = np.stack(scores[1:])
    assert 0.88 <= np.std(made) <= 1.03  # scores are cut at 2.5, and a season makes them a little careful
    assert np.mean(made[1:] * made[:-1]) == pytest.approx(0.0, abs=0.12)
