"""Which batches are the reference, as a table; and their mean and variance against NumPy."""

import numpy as np
import pytest

from mlma.core.reference import membership
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


@pytest.mark.parametrize("policy", list(ReferencePolicy))
def test_no_past_batches_give_an_empty_reference(policy):
    members = membership(np.empty((2, 0)), np.empty(0, int), np.zeros(2, int), policy=policy, size=4)
    assert members.shape == (2, 0)
