"""Two references of one batch: how much the second one costs."""

import numpy as np
import pytest

from mlma.core.judge import either
from mlma.core.loss_tests import fit_prior, moderated
from mlma.core.prediction import Dependence, predict
from mlma.monitor.kernel import correlation

ANCHORED = 4


def _pair(x, m, dependence):
    """Predictions of the last batch from the m before it and from the first four of them."""
    past, lags = x[:m][::-1], np.arange(1, m + 1)
    return predict(past, lags, dependence), predict(past[-ANCHORED:], lags[-ANCHORED:], dependence)


def _draws(rng, m, streams, dependence):
    at = np.arange(m + 1.0)
    root = np.linalg.cholesky(dependence.correlation(at[:, None] - at[None, :]))
    return root @ rng.standard_normal((m + 1, streams))


DEPENDENCES = [Dependence(), Dependence(rho=0.6), Dependence(rho=0.2, season=7, repeats=0.9)]


@pytest.mark.parametrize("dependence", DEPENDENCES, ids=str)
@pytest.mark.parametrize("m", [5, 8, 12])
def test_errors_of_nested_references_correlate_as_said(m, dependence):
    # 50,000 streams: standard error below 0.5 %
    x = _draws(np.random.default_rng([1, m]), m, 50_000, dependence)
    wide, narrow = _pair(x, m, dependence)
    found = np.corrcoef(x[m] - wide.expected, x[m] - narrow.expected)[0, 1]
    said = correlation(wide, narrow, np.ones(50_000, dtype=bool), float("inf"))
    assert said[0] == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("m", [6, 12, 20])
def test_errors_of_other_references_correlate_at_least_as_said(m):
    dependence = Dependence(rho=0.3)
    x = _draws(np.random.default_rng([2, m]), m, 50_000, dependence)
    _, narrow = _pair(x, m, dependence)
    newest = predict(x[m - 5 : m][::-1], np.arange(1, 6), dependence)
    found = np.corrcoef(x[m] - newest.expected, x[m] - narrow.expected)[0, 1]
    said = correlation(newest, narrow, np.zeros(50_000, dtype=bool), float("inf"))
    assert 0.5 <= said[0] <= found + 0.01


@pytest.mark.parametrize("d0", [3.0, float("inf")])
@pytest.mark.parametrize("m", [5, 8])
def test_both_references_together_keep_the_level_and_lose_little(m, d0):
    # 24,000 tests: standard error 0.14 % at 5 %
    level = []
    for seed in range(3):
        rng = np.random.default_rng([3, seed, m])
        sd = np.ones(8000) if np.isinf(d0) else np.sqrt(d0 / rng.chisquare(d0, 8000))
        x = sd * rng.standard_normal((m + 1, 8000))
        wide, narrow = _pair(x, m, Dependence())
        prior = fit_prior(wide.variance, wide.m - 1.0)
        p = [moderated(x[m], made, prior).p_value for made in (wide, narrow)]
        together = either(*p, correlation(wide, narrow, np.ones(8000, dtype=bool), prior.df))
        level.append([np.mean(together <= alpha) / alpha for alpha in (0.05, 0.01)])
    five, one = np.mean(level, axis=0)
    assert 0.9 <= five <= 1.08
    assert 0.8 <= one <= 1.2


def test_the_same_reference_twice_costs_nothing():
    x = np.random.default_rng(4).standard_normal((4, 10))
    made = predict(x, np.arange(1, 5))
    assert correlation(made, made, np.ones(10, dtype=bool), 3.0).tolist() == [1.0] * 10


def test_without_a_reference_nothing_is_shared():
    made = predict(np.ones((2, 3)), np.zeros(2, dtype=int))
    some = predict(np.random.default_rng(5).standard_normal((2, 3)), np.arange(1, 3))
    for nested in (True, False):
        assert correlation(some, made, np.full(3, nested), 0.0).tolist() == [0.0] * 3
