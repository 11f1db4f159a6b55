"""Seasonal naive: which past value it takes, gap by gap."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.schedule import Schedule
from mlma.models.naive import naive_lookback, seasonal_naive

HOUR, QUARTER, DAY = timedelta(hours=1), timedelta(minutes=15), timedelta(days=1)


def schedule(frequency, horizon):
    return Schedule(
        anchor=datetime(2001, 1, 1, tzinfo=UTC),
        frequency=frequency,
        horizon=horizon,
        batch=horizon * 7,
        train_window=horizon * 70,
    )


def forecast(s, y, target):
    return seasonal_naive(y[None], start=0, first=target, last=target + 1, schedule=s)[0, 0]


@pytest.mark.parametrize(
    ("s", "target", "source"),
    [
        (schedule(HOUR, 24), 1000, 1000 - 168),
        (schedule(HOUR, 1), 1000, 1000 - 168),
        (schedule(QUARTER, 96), 4000, 4000 - 672),
        (schedule(DAY, 1), 100, 93),
        (schedule(DAY, 7), 100, 93),
        (schedule(DAY, 10), 106, 99),  # lead 6: a week back lies before the origin
        (schedule(DAY, 10), 107, 93),  # lead 7: a week back is the origin itself, so two weeks
        (schedule(DAY, 31), 31 * 3 + 30, 31 * 3 + 30 - 35),
        (schedule(7 * DAY, 1), 50, 49),
    ],
)
def test_the_source_is_the_newest_week_before_the_origin(s, target, source):
    assert forecast(s, np.arange(5000.0), target) == source


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([936], 936),  # last week
        ([768, 600], 768),  # the week before
        ([600], 600),
        ([432, 1080], 432),  # four weeks back goes before yesterday
        ([1080, 1056], 1080),  # yesterday
        ([1056, 960], 1056),
        ([960], 960),  # six days back
        ([1103, 1101], 1102),  # the mean of what else is known
        ([432 - 168, 1105], np.nan),  # five weeks back is too old, and the origin is 1104
        ([], np.nan),
    ],
)
def test_a_gap_falls_through_weeks_then_days_then_the_mean(known, expected):
    y = np.full(1200, np.nan)
    y[known] = known
    target = 1104  # first slot of its day, so its own origin
    assert forecast(schedule(HOUR, 24), y, target) == pytest.approx(expected, nan_ok=True)


def test_each_stream_and_target_takes_its_own_way():
    y = np.tile(np.arange(840.0), (3, 1))
    y[1, 840 - 168 : 840 - 144] = np.nan  # last week's day is missing
    y[2] = np.nan  # no past at all
    found = seasonal_naive(y, start=0, first=840, last=864, schedule=schedule(HOUR, 24))
    np.testing.assert_array_equal(found[0], np.arange(840.0, 864) - 168)
    np.testing.assert_array_equal(found[1], np.arange(840.0, 864) - 336)
    assert np.isnan(found[2]).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_only_the_lookback_before_the_origin_matters(data):
    s = data.draw(
        st.sampled_from(
            [
                schedule(HOUR, 24),
                schedule(HOUR, 5),
                schedule(HOUR, 400),
                schedule(DAY, 1),
                schedule(DAY, 10),
                schedule(7 * DAY, 2),
                schedule(2 * DAY, 3),
            ]
        )
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = naive_lookback(s) + 3 * s.horizon
    y = rng.normal(size=(2, n))
    y[rng.random(y.shape) < data.draw(st.sampled_from([0.1, 0.9, 0.99]))] = np.nan
    target = data.draw(st.integers(n - s.horizon, n - 1))
    origin = target // s.horizon * s.horizon
    whole = seasonal_naive(y, start=0, first=0, last=n, schedule=s)[:, target : target + 1]
    start = origin - naive_lookback(s)
    past = y[:, start:origin]
    found = seasonal_naive(past, start=start, first=target, last=target + 1, schedule=s)
    np.testing.assert_array_equal(found, whole)


def test_no_targets_and_no_streams_give_empty_arrays():
    s = schedule(HOUR, 24)
    assert seasonal_naive(np.ones((2, 9)), start=0, first=5, last=5, schedule=s).shape == (2, 0)
    assert seasonal_naive(np.ones((0, 9)), start=0, first=5, last=7, schedule=s).shape == (0, 2)


def test_the_input_is_not_changed():
    y = np.arange(400.0)[None]
    kept = y.copy()
    made = seasonal_naive(y, start=0, first=200, last=300, schedule=schedule(HOUR, 24))
    made[:] = -1.0
    np.testing.assert_array_equal(y, kept)
