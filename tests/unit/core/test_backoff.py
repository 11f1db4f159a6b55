import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlma.core.backoff import LARGEST, in_vain

NAN = float("nan")


@pytest.mark.parametrize(
    ("recent", "trained", "wanted"),
    [
        ([], [], 0),
        ([1.0], [3], 0),
        ([1.0, 0.9], [3, 7], 0),  # the newer one helps
        ([1.0, 1.0], [3, 7], 1),  # no better
        ([0.9, 1.0], [7, 3], 0),  # seats are in no order
        ([1.0, 0.8, 0.9], [3, 7, 9], 1),  # the last did not
        ([1.0, 1.2, 1.1], [3, 7, 9], 2),  # better than the one before, but not than the best
        ([1.0, 1.2, 0.9], [3, 7, 9], 0),  # the last did
        ([NAN, 1.2, 0.9], [9, 7, 8], 0),  # not judged yet
        ([NAN, NAN], [1, 2], 0),
        ([1.0] * 9, list(range(9)), LARGEST),
    ],
)
def test_newest_versions_that_are_no_better_than_an_older_one_are_counted(
    recent: list[float], trained: list[int], wanted: int
) -> None:
    made = in_vain(
        np.array([recent], dtype=np.float64).reshape(1, -1), np.array([trained], dtype=np.int64).reshape(1, -1)
    )
    assert made.tolist() == [wanted]


@given(arrays.arrays(np.float64, (4, 5), elements=st.sampled_from([1.0, 2.0, 3.0, NAN])), st.permutations(range(5)))
def test_the_order_of_the_seats_does_not_matter(recent: np.ndarray, order: list[int]) -> None:
    trained = np.tile(np.arange(5), (4, 1))
    np.testing.assert_array_equal(in_vain(recent, trained), in_vain(recent[:, order], trained[:, order]))
