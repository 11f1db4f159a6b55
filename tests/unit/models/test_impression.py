"""What the past says of the median: where the level moves it lags, where only noise moves it is the better one."""

from datetime import UTC, datetime, timedelta

import numpy as np

from mlma.core.schedule import Schedule
from mlma.models.evergreen.design import Designer
from mlma.models.evergreen.impression import median_to_naive
from mlma.models.features import Features

HOURLY = Schedule(
    anchor=datetime(2024, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=24, batch=24, train_window=28 * 24
)
END = 11 * HOURLY.season


def found(y: np.ndarray) -> np.ndarray:
    def losses_of(target: np.ndarray, forecast: np.ndarray) -> np.ndarray:
        return np.abs(target - forecast)

    return median_to_naive(
        Designer(Features(HOURLY)), y, start=0, first=END - HOURLY.season, last=END, losses_of=losses_of
    )


def test_the_median_is_better_than_seasonal_naive_under_noise_and_worse_under_a_trend() -> None:
    slot, rng = np.arange(END), np.random.default_rng(0)
    shape = 100.0 + 40.0 * np.sin(2 * np.pi * slot / 24)
    noise = rng.normal(size=END)
    noisy, growing = found(np.stack([shape + 10.0 * noise, shape + 0.2 * slot + noise]))
    assert noisy < 0.85
    assert growing > 3.0


def test_where_nothing_can_be_compared_nothing_is_said() -> None:
    missing, repeats = np.full(END, np.nan), np.arange(END) % HOURLY.season
    assert np.isnan(found(np.stack([missing, repeats.astype(float)]))).all()


def test_a_gap_in_the_past_leaves_out_the_targets_that_either_cannot_forecast() -> None:
    y = 100.0 + np.random.default_rng(1).normal(size=(1, END))
    y[:, -30:] = np.nan
    assert np.isfinite(found(y)).all()
