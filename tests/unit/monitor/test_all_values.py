"""Sums over all values give what the values themselves would give, whatever is learned later."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.prediction import Dependence, predict
from mlma.monitor.all_values import AllValues

FEW = settings(max_examples=30, deadline=None)


def fed(log_loss, log_yards, present):
    """Sums over batches; shapes (batches, streams), (k, batches, streams) and (batches, streams)."""
    made = AllValues(log_loss.shape[1], len(log_yards))
    for batch, row in enumerate(present):
        made.add(log_loss[batch], log_yards[:, batch], np.flatnonzero(row), batch=batch)
    return made


@FEW
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 12), k=st.integers(0, 2), rho=st.sampled_from([0.0, 0.4, 0.9]),
    later=st.integers(0, 3),
)  # fmt: skip
def test_an_unbroken_past_is_predicted_as_from_its_values(seed, n, k, rho, later):
    rng = np.random.default_rng(seed)
    loss, yards = rng.normal(5.0, 1.0, (n, 4)), rng.normal(-3.0, 1.0, (k, n, 4))
    beta = rng.normal(size=k)
    made = fed(loss, yards, np.ones((n, 4), dtype=bool)).predict(n + later, beta, rho)
    tested = loss - np.tensordot(beta, yards, axes=1)
    want = predict(tested[::-1], np.arange(1, n + 1) + later, Dependence(rho=rho))
    for name in ("mean", "expected", "variance", "factor", "own"):
        np.testing.assert_allclose(getattr(made, name), getattr(want, name), rtol=1e-6, atol=1e-9, err_msg=name)
    assert (made.m == n).all()


def test_without_dependence_gaps_do_not_matter():
    rng = np.random.default_rng(1)
    loss, present = rng.normal(size=(15, 30)), rng.random((15, 30)) < 0.6
    made = fed(loss, np.empty((0, 15, 30)), present).predict(15, np.empty(0), 0.0)
    for stream in range(30):
        values = loss[present[:, stream], stream]
        assert made.m[stream] == len(values)
        assert made.mean[stream] == pytest.approx(values.mean())
        assert made.variance[stream] == pytest.approx(values.var(ddof=1))


def test_under_dependence_a_gap_makes_what_is_before_it_count_as_independent():
    # 40,000 streams: standard error 0.7 % of a variance; taking runs as independent is a little wrong on purpose
    rng = np.random.default_rng(2)
    at = np.array([0.0, 1.0, 2.0, 6.0, 7.0, 8.0])
    root = np.linalg.cholesky(Dependence(rho=0.5).correlation(at[:, None] - at[None, :]))
    x = root @ rng.standard_normal((6, 40_000))
    made = AllValues(40_000, 0)
    for batch, value in zip((0, 1, 2, 6, 7), x, strict=False):
        made.add(value, np.empty((0, 40_000)), np.arange(40_000), batch=batch)
    made = made.predict(8, np.empty(0), 0.5)
    assert np.mean(np.square(x[5] - made.expected)) == pytest.approx(made.factor[0], rel=0.05)
    assert made.variance.mean() == pytest.approx(1.0, rel=0.08)


def test_an_offset_far_larger_than_the_spread_loses_no_digits():
    x = np.random.default_rng(3).normal(size=(10, 5))
    present = np.ones((10, 5), dtype=bool)
    near, far = (fed(x + offset, np.empty((0, 10, 5)), present) for offset in (0.0, 1e6))
    one, other = (made.predict(10, np.empty(0), 0.3) for made in (near, far))
    np.testing.assert_allclose(other.variance, one.variance, rtol=1e-6)
    np.testing.assert_allclose(other.expected - 1e6, one.expected, atol=1e-7)


def test_nothing_predicts_nothing_and_one_value_knows_no_spread():
    made = AllValues(2, 0)
    made.add(np.array([1.0, 2.0]), np.empty((0, 2)), np.array([1]), batch=0)
    said = made.predict(1, np.empty(0), 0.5)
    assert np.isnan(said.mean[0])
    assert (said.mean[1], said.m[1]) == (2.0, 1)
    assert np.isnan(said.variance).all()


def test_reset_birth_and_restart():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 4))
    made = fed(x, np.empty((0, 6, 4)), np.ones((6, 4), dtype=bool))
    made.reset(np.array([2]))
    made.grow(1)
    assert made.n.tolist() == [6, 6, 0, 6, 0]
    other = AllValues(0, 0)
    other.restore(made.arrays())
    for part in (made, other):
        part.add(np.arange(5.0), np.empty((0, 5)), np.arange(5), batch=6)
    one, two = (part.predict(7, np.empty(0), 0.2) for part in (made, other))
    np.testing.assert_array_equal(one.expected, two.expected)
    assert one.expected[2] == 2.0
