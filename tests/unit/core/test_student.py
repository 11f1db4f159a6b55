"""The upper tail of Student's t against SciPy, for a few values and for many."""

import numpy as np
import pytest
from scipy import stats

from mlma.core.student import EXPANDED, FEW, REACH, upper_tail, upper_tails

DF = [0.5, 1.0, 2.5, 7.0, 40.0, 1e4, float("inf")]


def exact(t, df):
    return stats.norm.sf(t) if np.isinf(df) else stats.t.sf(t, df)


@pytest.mark.parametrize("df", DF)
def test_a_few_values_are_those_of_scipy(df):
    t = np.linspace(-12.0, 40.0, 500)
    np.testing.assert_allclose(upper_tail(t, df), exact(t, df), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("df", DF)
def test_many_values_are_as_good_wherever_one_decides(df):
    t = np.concatenate([np.linspace(-2.0 * REACH, 2.0 * REACH, 2 * FEW), np.linspace(17.0, 60.0, 100)])
    p = upper_tail(t, df)
    np.testing.assert_allclose(p, exact(t, df), atol=1e-5)
    decides = p < 0.02
    np.testing.assert_allclose(p[decides], exact(t[decides], df), rtol=1e-4, atol=1e-300)


@pytest.mark.parametrize("df", DF)
def test_a_larger_value_is_never_more_probable(df):
    p = upper_tail(np.linspace(-10.0, 10.0, 10 * FEW), df)
    assert (np.diff(p) <= 1e-12).all()


@pytest.mark.parametrize("n", [10, 2 * FEW])
def test_missing_and_infinite_values_are_what_they_should_be(n):
    t = np.zeros(n)
    t[:3] = [np.nan, np.inf, -np.inf]
    p = upper_tail(t, 3.0)
    assert np.isnan(p[0])
    assert p[1:4].tolist() == pytest.approx([0.0, 1.0, 0.5])


def test_no_values_are_no_probabilities():
    assert upper_tail(np.empty(0), 3.0).shape == (0,)


def test_values_are_not_changed():
    t = np.linspace(-3.0, 3.0, 2 * FEW)
    before = t.copy()
    upper_tail(t, 4.0)
    np.testing.assert_array_equal(t, before)


@pytest.mark.parametrize("n", [10, 2 * FEW])
def test_of_several_kinds_each_value_has_its_own_and_the_first_where_none_is_named(n):
    t, df = np.linspace(-12.0, 12.0, n), np.array([3.0, 8.0, np.inf])
    which = np.arange(n) % 3
    each = np.choose(which, [upper_tail(t, kind) for kind in df.tolist()])
    np.testing.assert_allclose(upper_tail(t, df, which), each, rtol=1e-12)
    np.testing.assert_allclose(upper_tail(t, df), upper_tail(t, 3.0), rtol=1e-12)


@pytest.mark.parametrize("df", [1.0, EXPANDED - 1.0, EXPANDED, 77.7, 1e4, 1e12, float("inf")])
def test_each_value_with_its_own_degrees_of_freedom_is_that_of_scipy(df):
    t = np.concatenate([np.linspace(-12.0, 40.0, 2 * FEW), [0.0, 1e-9, -1e-300, np.inf, -np.inf]])
    p = upper_tails(t, np.where(np.arange(t.size) % 2, df, 5.0))
    np.testing.assert_allclose(p[1::2], exact(t[1::2], df), rtol=2e-7, atol=0.0)
    np.testing.assert_allclose(p[1::2], exact(t[1::2], df), rtol=0.0, atol=2e-12)
    np.testing.assert_allclose(p[::2], exact(t[::2], 5.0), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(p[:9], upper_tails(t[:9], np.where(np.arange(9) % 2, df, 5.0)), rtol=2e-7)


def test_a_missing_value_is_missing_among_many():
    t = np.zeros(2 * FEW)
    t[7] = np.nan
    assert np.flatnonzero(np.isnan(upper_tails(t, np.full(t.size, 50.0)))).tolist() == [7]
