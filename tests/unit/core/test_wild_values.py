"""Values in a training window that are no examples to learn from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.robust import FEW_WILD, MIN_WINDOW, wild


def steady(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(500.0, 20.0, n)


@pytest.mark.parametrize("value", [1e9, -1e9, 74_215.0])
def test_few_values_far_from_all_others_are_wild(value):
    y = steady(400)
    y[[0, 7, 399]] = value
    assert np.flatnonzero(wild(y[None])).tolist() == [0, 7, 399]


def test_a_single_order_is_wild_in_a_stream_that_mostly_sells_nothing():
    rng = np.random.default_rng(1)
    y = np.where(rng.random(326) < 0.3, rng.poisson(40, 326), 0).astype(float)
    y[0] = 74_215.0
    assert np.flatnonzero(wild(y[None])).tolist() == [0]


def test_a_new_level_is_learned_once_it_is_no_rarity():
    y = steady(400)
    y[-int(FEW_WILD * 400) :] *= 1000.0
    assert wild(y[None]).sum() == FEW_WILD * 400
    y[-int(FEW_WILD * 400) - 1] *= 1000.0
    assert not wild(y[None]).any()


@pytest.mark.parametrize("level", [1.0, 0.1, 3.0])
def test_a_storm_or_a_boom_is_not_wild(level):
    y = steady(400)
    y[100:124] *= level
    assert not wild(y[None]).any()


def test_a_short_window_a_constant_one_and_an_empty_one_have_no_wild_values():
    short = steady(MIN_WINDOW - 1)
    short[0] = 1e9
    for y in (short, np.zeros(400), np.full(400, np.nan), np.empty(0)):
        assert not wild(y[None]).any()


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e6), missing=st.floats(0.0, 0.8))
def test_units_and_gaps_do_not_matter(seed, scale, missing):
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(300) < missing, np.nan, steady(300, seed=seed))
    y[5] = 1e7
    if np.isfinite(y).sum() >= MIN_WINDOW:
        assert np.flatnonzero(wild(scale * y[None])).tolist() == np.flatnonzero(wild(y[None])).tolist()
    assert not wild(y[None])[0][np.isnan(y)].any()
