"""Sums of products and what is solved from them, against least squares by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.models.evergreen import gram

FEW = settings(max_examples=40, deadline=None, derandomize=True)
PENALTY = 3.0


def features_of(seed: int, weekdays: np.ndarray, *, n: int = 4) -> np.ndarray:
    """Numbers and, last, indicators of the weekdays 1 to 6; shape (rows, n + 6)."""
    numbers = np.random.default_rng(seed).normal(2.0, 1.5, size=(len(weekdays), n))
    numbers[:, -1] += weekdays  # what goes with the weekday
    return np.concatenate([numbers, weekdays[:, None] == np.arange(1, 7)], axis=1)


def ridge_by_hand(features: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """Intercept and coefficients: weighted least squares on standardised features with rows for the penalty."""
    share = weight / weight.sum()
    mean, centre = share @ features, share @ y
    sd = np.sqrt(share @ (features - mean) ** 2)
    used = sd > gram.TINY_SD
    z = (features - mean)[:, used] / sd[used]
    rows = np.vstack([np.sqrt(share)[:, None] * z, np.sqrt(penalty / weight.sum()) * np.eye(int(used.sum()))])
    target = np.concatenate([np.sqrt(share) * (y - centre), np.zeros(int(used.sum()))])
    beta = np.zeros(features.shape[1])
    beta[used] = np.linalg.lstsq(rows, target, rcond=None)[0] / sd[used]
    return np.concatenate([[centre - mean @ beta], beta])


@FEW
@given(st.lists(st.integers(0, 6), min_size=3, max_size=40), st.integers(0, 2**32 - 1))
def test_indicators_are_solved_for_as_any_other_feature(days: list[int], seed: int) -> None:
    weekdays = np.array(days)
    features = features_of(seed, weekdays)
    rng = np.random.default_rng(seed + 1)
    y, weight = features @ rng.normal(size=10) + rng.normal(size=len(days)), rng.uniform(0.2, 1.0, len(days))
    rows = gram.rows_of(features[None], y[None], np.ones((1, len(days)), dtype=np.bool_))
    total, mass = gram.sums(rows, weight[None]), np.array([weight.sum()])
    expected = ridge_by_hand(features, y, weight, PENALTY) if mass[0] >= 2 else np.full(11, np.nan)
    for n_indicators in (0, 6):
        found = gram.solved(total, penalty=PENALTY, n_rows=mass, n_indicators=n_indicators)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weekdays", [[0] * 20, [3] * 20, [2, 5] * 10], ids=["monday", "thursday", "no monday"])
def test_indicators_that_say_nothing_get_no_coefficient(weekdays: list[int]) -> None:
    features = features_of(0, np.array(weekdays))
    y = 3.0 + 2.0 * features[:, 0]
    rows = gram.rows_of(features[None], y[None], np.ones((1, 20), dtype=np.bool_))
    total = gram.accumulated(np.zeros((1, 1, 12, 12), dtype=np.float32), rows, np.zeros(20, dtype=np.int64), decay=1.0)
    found = gram.solved(total, penalty=1e-4, n_rows=np.full((1, 1), 20.0), n_indicators=6)[0, 0]
    assert not found[5:][~np.isin(np.arange(1, 7), weekdays)].any()
    if len(set(weekdays)) == 1:
        assert not found[5:].any()
    np.testing.assert_allclose(found[:2], [3.0, 2.0], atol=1e-3)


def test_a_solution_has_the_same_last_bit_however_many_are_found_at_once() -> None:
    n_streams = gram.SOLVED_AT_ONCE + 7
    rows = np.stack([
        gram.rows_of(features_of(i, np.arange(30) % 7)[None], np.random.default_rng(i).normal(size=(1, 30)),
                     np.ones((1, 30), dtype=np.bool_))[0]
        for i in range(n_streams)
    ])  # fmt: skip
    total, mass = gram.sums(rows, np.ones((n_streams, 30))).astype(np.float32), np.full(n_streams, 30.0)
    together = gram.solved(total, penalty=PENALTY, n_rows=mass, n_indicators=6)
    for i in (0, 1, gram.SOLVED_AT_ONCE - 1, gram.SOLVED_AT_ONCE, n_streams - 1):
        one = slice(i, i + 1)
        alone = gram.solved(total[one], penalty=PENALTY, n_rows=mass[one], n_indicators=6)
        np.testing.assert_array_equal(alone[0], together[i])


def test_nothing_is_solved_from_fewer_than_two_rows() -> None:
    rows = gram.rows_of(np.ones((2, 1, 7)), np.ones((2, 1)), np.array([[True], [False]]))
    total = gram.sums(rows, np.ones((2, 1)))
    assert np.isnan(gram.solved(total, penalty=PENALTY, n_rows=np.array([1.0, 0.0]), n_indicators=6)).all()


def test_sums_are_written_over_those_before_only_where_that_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(5, 4, 6, 6)).astype(np.float32)
    kept, rows, group = before.copy(), rng.normal(size=(5, 8, 6)), np.array([0, 0, 1, 1, 2, 2, 2, 0])
    fresh = gram.accumulated(before, rows, group, decay=0.9)
    np.testing.assert_array_equal(before, kept)
    over = gram.accumulated(before, rows, group, decay=0.9, overwrite=True)
    assert over is before
    np.testing.assert_array_equal(over, fresh)
