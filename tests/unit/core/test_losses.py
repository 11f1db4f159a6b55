"""Losses against their definitions."""

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss, mean_poisson_deviance

from mlma.core.losses import SMALLEST_RATE, loss
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
