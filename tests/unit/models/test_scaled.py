"""Features of many streams on one scale."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.schedule import Schedule
from mlma.models.features import Features
from mlma.models.scaled import scaled

HOURLY = Features(
    Schedule(
        anchor=datetime(2024, 1, 1, tzinfo=UTC),
        frequency=timedelta(hours=1),
        horizon=24,
        batch=24,
        train_window=28 * 24,
    )
)


def rows(y: np.ndarray) -> np.ndarray:
    """Features of the last day."""
    return HOURLY.build(y, start=0, first=y.shape[1] - 24, last=y.shape[1])


def sizes(y: np.ndarray) -> np.ndarray:
    return HOURLY.sizes(y, start=0, first=y.shape[1] - 24, last=y.shape[1])


def series(factor: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    hour = np.arange(40 * 24)
    return factor * (5.0 + np.sin(2 * np.pi * hour / 24) + 0.1 * rng.standard_normal((1, len(hour))))


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**30])
def test_a_stream_of_another_level_has_the_same_features_but_its_level(factor: float) -> None:
    one, other = rows(series()), rows(series(factor))
    scale = sizes(series())
    assert sizes(series(factor)) == pytest.approx(factor * scale)
    made = scaled(one, HOURLY.names, scale)
    assert made.shape[-1] == len(HOURLY.names) + 1
    np.testing.assert_allclose(scaled(other, HOURLY.names, factor * scale)[..., :-1], made[..., :-1])
    np.testing.assert_array_equal(made[..., -1], np.log1p(scale))


def test_the_calendar_is_not_divided() -> None:
    X = rows(series(1000.0))
    made = scaled(X, HOURLY.names, sizes(series(1000.0)))
    for name in ("slot_of_day", "weekday"):
        column = HOURLY.names.index(name)
        np.testing.assert_array_equal(made[..., column], X[..., column])


def test_a_stream_around_zero_is_measured_by_the_size_of_its_values() -> None:
    assert sizes(series() - 5.0) == pytest.approx(np.full((1, 24), 2 / np.pi), rel=0.05)


def test_a_negative_stream_has_a_positive_scale() -> None:
    assert (sizes(-series()) == sizes(series())).all()


def test_nothing_but_zeros_is_a_scale_of_zero_and_gives_finite_features() -> None:
    X = rows(np.zeros((1, 40 * 24)))
    scale = sizes(np.zeros((1, 40 * 24)))
    assert not scale.any()
    assert np.isfinite(scaled(X, HOURLY.names, scale)).all()


def test_a_stream_without_values_has_no_scale() -> None:
    assert np.isnan(sizes(np.full((1, 40 * 24), np.nan))).all()


def test_rare_sales_have_a_scale_of_their_mean() -> None:
    y = np.zeros((1, 40 * 24))
    y[0, ::100] = 7.0
    assert sizes(y) == pytest.approx(np.full((1, 24), 0.07), rel=0.1)


def test_nothing_is_changed_in_place() -> None:
    X = rows(series())
    before = X.copy()
    scaled(X, HOURLY.names, sizes(series()))
    np.testing.assert_array_equal(X, before)


def test_the_size_of_values_that_are_never_negative_is_the_level() -> None:
    y = series()
    y[0, 100:300] = np.nan
    np.testing.assert_array_equal(sizes(y), rows(y)[..., HOURLY.names.index("level_28")])
