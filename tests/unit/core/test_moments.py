"""Moments of parts are those of the whole, whatever is missing and however far from zero the losses are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.moments import moments_of, pooled


def assert_same(made, wanted, *, rtol=1e-9, atol=0.0):
    for got, want in zip(made, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


@given(seed=st.integers(0, 10_000), offset=st.sampled_from([0.0, 1.0, 1e4, 1e8]), n_parts=st.integers(1, 6))
def test_parts_give_the_whole(seed, offset, n_parts):
    rng = np.random.default_rng(seed)
    losses = offset + rng.exponential(size=(7, 30)) * rng.choice([1e-3, 1.0, 50.0], size=(7, 1))
    losses[rng.random(losses.shape) < 0.2] = np.nan
    losses[0], losses[1, :-1] = np.nan, np.nan
    cuts = np.sort(rng.integers(0, 31, n_parts - 1))
    assert_same(
        pooled([moments_of(part) for part in np.split(losses, cuts, axis=1)]),
        moments_of(losses), rtol=1e-9, atol=1e-10 * max(1.0, offset * 1e-6) ** 2,
    )  # fmt: skip


def test_they_are_what_numpy_says():
    losses = np.random.default_rng(1).exponential(size=(5, 40)) + 1e6
    losses[2, ::3] = np.nan
    n, mean, squares = moments_of(losses)
    np.testing.assert_array_equal(n, np.count_nonzero(~np.isnan(losses), axis=1))
    np.testing.assert_allclose(mean, np.nanmean(losses, axis=1), rtol=1e-14)
    np.testing.assert_allclose(squares, n * np.nanvar(losses, axis=1), rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 0.3, 1e-12, 7e9])
def test_constant_losses_have_no_spread_in_any_parts(value):
    made = pooled([moments_of(np.full((2, n), value)) for n in (3, 7, 1, 96)])
    assert made.squares.tolist() == [0.0, 0.0]
    assert made.mean.tolist() == [value, value]


def test_without_losses_all_is_zero():
    assert_same(moments_of(np.full((2, 3), np.nan)), np.zeros((3, 2)))
    assert_same(moments_of(np.empty((2, 0))), np.zeros((3, 2)))
    assert_same(pooled([moments_of(np.empty((2, 0)))] * 3), np.zeros((3, 2)))


def test_multiplied_losses_have_multiplied_moments():
    losses = np.random.default_rng(3).exponential(size=(3, 20))
    factor = np.array([1.0, 2.0, 0.5])
    assert_same(moments_of(losses).times(factor), moments_of(losses * factor[:, None]), rtol=1e-12)
