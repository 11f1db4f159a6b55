"""Losses, batch means and log losses against their definitions."""

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss, mean_poisson_deviance

from mlma.core.losses import (
    SMALLEST_FLOOR,
    SMALLEST_RATE,
    batch_mean,
    log_floor,
    loss,
    relative_log_loss,
    scaled,
)
from mlma.core.settings import LossName

Y = np.array([[1.0, 4.0, 0.0, np.nan], [2.0, 2.0, 7.0, 3.0]])
FORECAST = np.array([[2.0, 1.0, 0.5, 1.0], [2.0, np.nan, 5.0, 3.5]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (LossName.ABSOLUTE, [[1.0, 3.0, 0.5, np.nan], [0.0, np.nan, 2.0, 0.5]]),
        (LossName.SQUARED, [[1.0, 9.0, 0.25, np.nan], [0.0, np.nan, 4.0, 0.25]]),
        (LossName.PINBALL, [[0.2, 2.4, 0.1, np.nan], [0.0, np.nan, 1.6, 0.1]]),
        (
            LossName.POISSON,
            [
                [2 * (np.log(0.5) + 1), 2 * (4 * np.log(4) - 3), 1.0, np.nan],
                [0.0, np.nan, 2 * (7 * np.log(1.4) - 2), 2 * (3 * np.log(3 / 3.5) + 0.5)],
            ],
        ),
    ],
)
def test_loss_matches_its_definition(name, expected):
    np.testing.assert_allclose(loss(name, Y, FORECAST, quantile=0.8), expected, rtol=1e-12, atol=1e-15)


def test_losses_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    y, forecast = rng.poisson(3.0, 500).astype(float), rng.gamma(2.0, 1.5, 500)
    assert loss(LossName.POISSON, y, forecast).mean() == pytest.approx(mean_poisson_deviance(y, forecast), rel=1e-9)
    assert loss(LossName.PINBALL, y, forecast, quantile=0.3).mean() == pytest.approx(
        mean_pinball_loss(y, forecast, alpha=0.3), rel=1e-9
    )


def test_loss_broadcasts_one_forecast_over_streams():
    assert loss(LossName.ABSOLUTE, np.zeros((3, 4)), np.ones(4)).shape == (3, 4)


def test_poisson_loss_of_a_negative_outcome_is_missing():
    assert np.isnan(loss(LossName.POISSON, [-1.0], [1.0])).all()


def test_poisson_loss_stays_finite_at_a_forecast_of_zero_or_below():
    at_zero = loss(LossName.POISSON, [2.0, 2.0, 0.0], [0.0, -5.0, 0.0])
    assert np.isfinite(at_zero).all()
    assert at_zero[0] == at_zero[1]
    assert at_zero[2] == pytest.approx(2 * SMALLEST_RATE)


@pytest.mark.parametrize(
    ("row", "min_share", "floor_count", "mean"),
    [
        ([1.0, 2.0, 3.0, 6.0], 1.0, 1, 3.0),
        ([1.0, 3.0, np.nan, np.nan], 0.5, 1, 2.0),
        ([1.0, np.nan, np.nan, np.nan], 0.5, 1, np.nan),
        ([1.0, 3.0, np.nan, np.nan], 0.25, 3, np.nan),
        ([1.0, np.nan, np.nan, np.nan], 0.0, 0, 1.0),
        ([np.nan] * 4, 0.0, 0, np.nan),
    ],
)
def test_batch_mean_needs_share_and_count(row, min_share, floor_count, mean):
    batch = batch_mean(np.array([row]), min_share=min_share, floor_count=floor_count)
    np.testing.assert_equal(batch.mean, [mean])
    assert batch.n.tolist() == [int(np.isfinite(row).sum())]
    assert batch.n.dtype == np.int64


def test_batch_mean_asks_for_no_target_more_because_of_rounding():
    losses = np.full((1, 100), np.nan)
    losses[0, :7] = 1.0
    assert batch_mean(losses, min_share=0.07).mean[0] == 1.0


def test_batch_mean_of_no_targets_is_missing():
    assert np.isnan(batch_mean(np.empty((2, 0)), min_share=0.5).mean).all()


def test_scaled_uses_only_targets_that_both_forecasts_have():
    ours = np.array([[1.0, 100.0, 3.0], [np.nan, np.nan, 1.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    naive = np.array([[2.0, np.nan, 2.0], [1.0, 1.0, np.nan], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_equal(scaled(ours, naive), [1.0, np.nan, 1.0, np.inf])


def test_relative_log_loss_is_the_log_of_the_ratio():
    mean = np.array([[2.0, 0.0, np.nan], [6.0, 3.0, 1.0]])
    yardstick = np.array([[1.0, 1.0, 1.0], [3.0, np.nan, 0.0]])
    floor = np.array([0.5, 1.0])
    expected = [[np.log(2.5 / 1.5), np.log(0.5 / 1.5), np.nan], [np.log(7 / 4), np.nan, np.log(2.0)]]
    np.testing.assert_allclose(relative_log_loss(mean, yardstick, floor), expected, rtol=1e-14)
    np.testing.assert_allclose(relative_log_loss(mean[:, 1], None, floor), np.log([0.5, 4.0]), rtol=1e-14)


def test_log_floor_adds_two_events_to_sparse_losses_and_next_to_nothing_to_others():
    rng = np.random.default_rng(2)
    events = 3.0 * (rng.random((1, 960)) < 0.1)
    errors = np.abs(rng.standard_normal((1, 960)))
    assert log_floor(events, batch=96)[0] == pytest.approx(6.0 / 96)
    assert log_floor(errors, batch=96)[0] < 0.05 * errors.mean()


def test_log_floor_of_a_stream_without_losses_is_positive():
    nothing = np.array([[0.0, 0.0], [np.nan, np.nan]])
    assert log_floor(nothing, batch=2).tolist() == [SMALLEST_FLOOR] * 2
