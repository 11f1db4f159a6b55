"""What scores of several batches add up to, and what testing twice costs."""

import numpy as np
import pytest
from scipy.special import ndtr

from mlma.core.accumulation import LIKENESS, WINDOW, added, normal_score, tail, together

STREAMS = 200_000


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(3).standard_normal((WINDOW + 1, STREAMS))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("shared", [0.0, 0.25])
def test_healthy_sums_keep_their_level_whatever_their_length_and_their_shared_error(scores, length, shared):
    newest = [score + shared * scores[-1] for score in scores[WINDOW - length : WINDOW]]
    p_value = tail(added(newest, np.zeros(STREAMS)), np.full(STREAMS, length), np.full(STREAMS, shared))
    for alpha in (0.05, 0.01, 0.001):
        chance = 4.0 * np.sqrt(alpha / STREAMS)
        assert np.mean(p_value <= alpha) == pytest.approx(alpha, rel=0.05, abs=chance)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_testing_the_newest_batch_and_the_sum_keeps_the_level_of_one_test(scores, length):
    newest = list(scores[WINDOW - length : WINDOW])
    total = tail(added(newest, np.zeros(STREAMS)), np.full(STREAMS, length), np.zeros(STREAMS))
    p_value = together(ndtr(-newest[-1]), total, np.full(STREAMS, LIKENESS[length]))
    for alpha in (0.05, 0.01):
        assert 0.85 * alpha <= np.mean(p_value <= alpha) <= 1.08 * alpha


def test_a_shared_error_makes_the_same_sum_less_remarkable():
    total, length = np.full(3, 5.0), np.full(3, 8)
    found = tail(total, length, np.array([0.0, 0.1, 0.3]))
    assert found[0] < found[1] < found[2]


def test_one_number_for_all_streams_gives_what_a_number_for_each_gives():
    total = np.linspace(0.0, 30.0, 50)
    each = tail(total, np.full(50, 6), np.full(50, 0.2))
    alike = tail(total, np.broadcast_to(np.int64(6), 50), np.broadcast_to(np.float64(0.2), 50))
    np.testing.assert_array_equal(each, alike)
    assert (np.diff(each) <= 0.0).all()
    assert each[-1] > 0.0


def test_where_one_test_is_absent_the_other_stands_for_itself():
    p, nothing = np.array([0.02, 0.5]), np.full(2, np.nan)
    np.testing.assert_array_equal(together(p, nothing, np.full(2, 0.5)), p)
    np.testing.assert_array_equal(together(nothing, p, np.full(2, 0.5)), p)
    assert np.isnan(together(nothing, nothing, np.full(2, 0.5))).all()
    assert np.isnan(tail(np.zeros(2), np.zeros(2, dtype=np.int64), np.zeros(2))).all()


def test_correlations_may_be_asked_for_where_they_matter_only():
    newest, total = np.array([0.6, 0.01, 0.03]), np.array([0.9, 0.5, 0.001])
    asked = []

    def correlation(some):
        asked.extend(some.tolist())
        return np.full(len(some), 0.4)

    np.testing.assert_array_equal(together(newest, total, correlation), together(newest, total, np.full(3, 0.4)))
    assert asked == [1, 2]


def test_scores_of_few_degrees_of_freedom_are_never_too_large():
    assert np.isfinite(normal_score(np.array([-1e9, 1e9]), 3.0)).all()
    np.testing.assert_array_equal(normal_score(np.array([2.0]), np.inf), [2.0])
