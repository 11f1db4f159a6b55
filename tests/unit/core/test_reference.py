"""Which batches are the reference, as a table; and their mean and variance against NumPy."""

import numpy as np
import pytest

from mlma.core.reference import anchored_membership, membership, summarise
from mlma.core.settings import ReferencePolicy

NAN = np.nan
BATCHES = np.arange(10, 20)
X = np.array([5.0, NAN, 4.0, 1.0, np.inf, 2.0, 6.0, 3.0, 3.0, 9.0])


@pytest.mark.parametrize(
    ("policy", "size", "since", "expected"),
    [
        (ReferencePolicy.POOLED, 3, 0, [17, 18, 19]),
        (ReferencePolicy.POOLED, 99, 0, [10, 12, 13, 15, 16, 17, 18, 19]),
        (ReferencePolicy.POOLED, 5, 17, [18, 19]),
        (ReferencePolicy.FIXED, 3, 0, [10, 12, 13]),
        (ReferencePolicy.FIXED, 3, 13, [15, 16, 17]),
        (ReferencePolicy.SLIDING, 6, 0, [17, 18, 19]),
        (ReferencePolicy.SLIDING, 1, 0, [18, 19]),
        (ReferencePolicy.BEST, 6, 0, [12, 13, 15]),
        (ReferencePolicy.BEST, 2, 13, [17, 18]),
        (ReferencePolicy.BEST, 8, 16, [17, 18, 19]),
        (ReferencePolicy.BEST, 99, 0, [10, 12, 13, 15, 16, 17, 18, 19]),
        (ReferencePolicy.POOLED, 3, 19, []),
        (ReferencePolicy.BEST, 4, 19, []),
    ],
)
def test_policy_chooses_its_batches(policy, size, since, expected):
    members = membership(X[None], BATCHES, np.array([since]), policy=policy, size=size)
    assert BATCHES[members[0]].tolist() == expected


def test_best_prefers_the_newest_of_equal_runs():
    members = membership(np.ones((1, 6)), np.arange(6), np.array([-1]), policy=ReferencePolicy.BEST, size=4)
    assert np.flatnonzero(members[0]).tolist() == [4, 5]


def test_anchored_holds_the_first_batches_after_the_promotion():
    members = anchored_membership(np.stack([X, X, X]), BATCHES, np.array([0, 13, 19]), size=2)
    assert [BATCHES[row].tolist() for row in members] == [[10, 12], [15, 16], []]
    assert not anchored_membership(X[None], BATCHES, np.array([0]), size=0).any()


@pytest.mark.parametrize("policy", list(ReferencePolicy))
def test_no_past_batches_give_an_empty_reference(policy):
    members = membership(np.empty((2, 0)), np.empty(0, int), np.zeros(2, int), policy=policy, size=4)
    reference = summarise(np.empty((2, 0)), members)
    assert members.shape == (2, 0)
    assert reference.m.tolist() == [0, 0]
    assert np.isnan(reference.mean).all()


def test_summary_agrees_with_numpy():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 12))
    members = rng.random((50, 12)) < 0.6
    reference = summarise(np.where(members, x, NAN), members)
    for i in range(50):
        chosen = x[i, members[i]]
        assert reference.m[i] == len(chosen)
        assert reference.mean[i] == pytest.approx(chosen.mean(), rel=1e-12)
        assert reference.variance[i] == pytest.approx(chosen.var(ddof=1), rel=1e-12)


def test_variance_of_fewer_than_two_batches_is_missing():
    members = np.array([[True, False], [False, False]])
    reference = summarise(np.ones((2, 2)), members)
    np.testing.assert_equal(reference.variance, [NAN, NAN])
    np.testing.assert_equal(reference.mean, [1.0, NAN])


def test_equal_batches_have_a_variance_of_exactly_zero():
    x = np.full((1, 7), 0.1 + 0.2)
    reference = summarise(x, np.ones((1, 7), bool))
    assert reference.variance[0] == 0.0
    assert reference.mean[0] == x[0, 0]


def test_variance_survives_an_offset_far_larger_than_the_spread():
    x = np.random.default_rng(4).normal(size=(1, 8))
    near, far = (summarise(x + offset, np.ones((1, 8), bool)).variance[0] for offset in (0.0, 1e8))
    assert far == pytest.approx(near, rel=1e-6)
