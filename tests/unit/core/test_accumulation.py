"""What scores of several batches add up to, and what testing twice costs."""

import numpy as np
import pytest
from scipy.special import ndtr

from mlma.core.accumulation import WINDOW, added, likeness, normal_score, tail, together

STREAMS = 200_000


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(3).standard_normal((WINDOW + 1, STREAMS))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("shared", [0.0, 0.25])
def test_healthy_sums_keep_their_level_whatever_their_length_and_their_shared_error(scores, length, shared):
    own = np.sqrt(1.0 - shared**2)
    newest = [own * score + shared * scores[-1] for score in scores[WINDOW - length : WINDOW]]
    p_value = tail(added(newest, np.zeros(STREAMS)), np.full(STREAMS, length), np.full(STREAMS, shared))
    for alpha in (0.05, 0.01, 0.001):
        chance = 4.0 * np.sqrt(alpha / STREAMS)
        assert np.mean(p_value <= alpha) == pytest.approx(alpha, rel=0.05, abs=chance)


def alike(value):
    return lambda some: np.full(len(some), value)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("near", [0.0, 0.7, 1.0])
def test_testing_the_sum_and_the_newest_batch_twice_keeps_the_level_of_one_test(scores, length, near):
    newest = scores[WINDOW - length : WINDOW]
    total = tail(added(list(newest), np.zeros(STREAMS)), np.full(STREAMS, length), np.zeros(STREAMS))
    recent = near * newest[-1] + np.sqrt(1.0 - near**2) * scores[-1]
    as_sum = likeness(np.full(1, length), np.full(1, 1), 0.0)[0]
    p_value = together(total, ndtr(-newest[-1]), ndtr(-recent), alike(as_sum), alike(near))
    for alpha in (0.05, 0.01):
        assert 0.85 * alpha <= np.mean(p_value <= alpha) <= 1.08 * alpha


@pytest.mark.parametrize(("rho", "back"), [(0.3, 20), (0.5, 2), (0.7, 4), (0.9, 20)])
@pytest.mark.parametrize("length", [1, 2, 8])
def test_where_neighbours_depend_the_newest_batch_by_itself_has_a_part_of_the_older_scores(scores, rho, back, length):
    older = np.random.default_rng(5).standard_normal((20, STREAMS))
    known = np.vstack([scores[:WINDOW][::-1], older])[:back]  # since the newest frozen batch, the newest first
    own = np.sqrt((1.0 - rho**2) / (1.0 - rho ** (2 * back))) * (rho ** np.arange(len(known)) @ known)
    total = tail(
        added(list(scores[WINDOW - length : WINDOW]), np.zeros(STREAMS)), np.full(STREAMS, length), np.zeros(STREAMS)
    )
    as_sum = likeness(np.full(1, length), np.full(1, back), rho)[0]
    p_value = together(total, ndtr(-own), ndtr(-own), alike(as_sum), alike(1.0))
    for alpha in (0.05, 0.01):
        assert 0.75 * alpha <= np.mean(p_value <= alpha) <= 1.08 * alpha


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


def test_where_two_tests_are_absent_the_third_stands_for_itself():
    p, nothing = np.array([0.02, 0.5]), np.full(2, np.nan)
    for three in ((p, nothing, nothing), (nothing, p, nothing), (nothing, nothing, p)):
        np.testing.assert_array_equal(together(*three, alike(0.5), alike(0.5)), p)
    assert np.isnan(together(nothing, nothing, nothing, alike(0.5), alike(0.5))).all()
    assert np.isnan(tail(np.zeros(2), np.zeros(2, dtype=np.int64), np.zeros(2))).all()


def test_where_one_test_is_absent_the_price_of_three_is_paid():
    p, nothing = np.array([0.02, 0.5]), np.full(2, np.nan)
    with_none = together(p, np.ones(2), nothing, alike(0.5), alike(0.5))
    np.testing.assert_array_equal(with_none, together(p, np.ones(2), np.ones(2), alike(0.5), alike(0.5)))
    assert (with_none > p).all()


def test_a_p_value_of_three_tests_grows_with_each_of_them():
    steps = np.geomspace(1e-18, 1.0, 400)
    for place in range(3):
        three = [np.full(400, 0.7)] * 3
        three[place] = steps
        made = together(*three, alike(0.68), alike(0.9))
        assert (np.diff(made) >= -1e-12).all()
        assert (made <= 1.0).all()


def test_correlations_may_be_asked_for_where_they_matter_only():
    total, frozen, recent = np.array([0.9, 0.5, 0.001]), np.array([0.6, 0.01, 0.03]), np.array([0.7, 0.4, 0.1])
    asked = []

    def correlation(some):
        asked.append(some.tolist())
        return np.full(len(some), 0.4)

    together(total, frozen, recent, correlation, correlation)
    assert asked == [[1, 2], [1, 2]]


def test_scores_of_few_degrees_of_freedom_are_never_too_large():
    assert np.isfinite(normal_score(np.array([-1e9, 1e9]), 3.0)).all()
    np.testing.assert_array_equal(normal_score(np.array([2.0]), np.inf), [2.0])
