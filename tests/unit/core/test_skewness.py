"""Scores that lean to one side become normal ones, in the same order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from mlma.core.skewness import LOUD, unskewed, unskewed_p

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
skewnesses = st.floats(-0.6, 0.6)


@EXAMPLES
@given(skewnesses, st.floats(-30.0, 30.0), st.floats(0.0, 5.0))
def test_the_order_of_scores_is_kept(skewness: float, score: float, more: float) -> None:
    low, high = unskewed(np.array([score, score + more]), skewness)
    assert low <= high


@EXAMPLES
@given(skewnesses, st.floats(1e-12, LOUD), st.floats(1.0, 1.9))
def test_the_order_of_p_values_is_kept(skewness: float, p: float, factor: float) -> None:
    low, high = unskewed_p(np.array([p, min(p * factor, LOUD)]), skewness)
    assert 0.0 <= low <= high <= 1.0


def test_nothing_is_changed_without_skewness_and_what_is_missing_stays_missing() -> None:
    values = np.array([np.nan, -1.0, 3.0])
    np.testing.assert_array_equal(unskewed(values, 0.0), values)
    assert np.isnan(unskewed(values, 0.4)[0])
    p = np.array([np.nan, 0.9, 0.0])
    np.testing.assert_array_equal(unskewed_p(p, 0.0), p)
    assert np.isnan(unskewed_p(p, 0.4)[0])
    assert unskewed_p(p, 0.4)[1] == 0.9


@pytest.mark.parametrize(("shape", "sign"), [(40.0, 1.0), (120.0, 1.0), (40.0, -1.0), (120.0, -1.0)])
def test_the_tail_of_a_gamma_comes_out_as_promised(shape: float, sign: float) -> None:
    draws = np.random.default_rng(3).gamma(shape, size=400_000)
    score = sign * (draws - shape) / np.sqrt(shape)
    skewness = sign * 2.0 / np.sqrt(shape)
    for level in (0.05, 0.01):
        before = float(np.mean(ndtr(-score) <= level))
        after = float(np.mean(unskewed_p(ndtr(-score), skewness) <= level))
        assert abs(after - level) < 0.35 * abs(before - level)
