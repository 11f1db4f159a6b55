"""Features: golden values by hand, an oracle for everything else, and what must not change them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.schedule import Schedule
from mlma.models.features import Features
from mlma.models.naive import naive_lookback

MONDAY = datetime(2001, 1, 1, tzinfo=UTC)
HOUR, QUARTER, DAY = timedelta(hours=1), timedelta(minutes=15), timedelta(days=1)


def schedule(frequency, horizon, anchor=MONDAY):
    return Schedule(anchor=anchor, frequency=frequency, horizon=horizon, batch=horizon * 7, train_window=horizon * 70)


SCHEDULES = [
    schedule(HOUR, 24),
    schedule(HOUR, 1),
    schedule(HOUR, 5),
    schedule(HOUR, 36, anchor=MONDAY + 7 * HOUR),
    schedule(HOUR, 24 * 30),
    schedule(QUARTER, 96),
    schedule(QUARTER, 4),
    schedule(DAY, 1),
    schedule(DAY, 7),
    schedule(DAY, 31),
    schedule(2 * DAY, 3),
    schedule(7 * DAY, 1),
]
IDS = [f"{s.frequency}-{s.horizon}" for s in SCHEDULES]


def row(s, y, target, *, start=0):
    """Features of one target by name."""
    features = Features(s)
    X = features.build(y[None], start=start, first=target, last=target + 1)
    return dict(zip(features.names, X[0, 0].tolist(), strict=True))


def nanmean(values):
    known = [v for v in values if not np.isnan(v)]
    return sum(known) / len(known) if known else np.nan


def oracle(s, y, target):
    """The same features, straight from their description, one value at a time; ``y`` starts at slot 0."""
    origin, day = target // s.horizon * s.horizon, s.slots_per_day
    time = s.anchor + target * s.frequency

    def at(slot):
        return y[slot] if 0 <= slot < len(y) else np.nan

    expected = {}
    names = Features(s).names
    for name in names:
        kind, _, number = name.partition("_")
        if kind == "lag" and number.isdigit():
            expected[name] = at(target - int(number))
        elif kind == "level":
            expected[name] = nanmean([at(i) for i in range(origin - int(number) * day, origin)])
    seven = [name for name in names if name.startswith("lag_") and name != "lag_mean"][:7]
    return expected | {
        "lag_mean": nanmean([expected[name] for name in seven]),
        "last": at(origin - 1),
        "last_day_before": at(origin - 1 - day),
        "lead": target - origin,
        "slot_of_day": (time - time.replace(hour=0, minute=0)) // s.frequency,
        "weekday": time.weekday(),
        "day_of_month": time.day,
    }


def test_hourly_day_ahead_features_have_their_values_by_hand():
    y = np.arange(1000.0)
    target = 30 * 24 + 5  # 05:00 on Wednesday the 31st; its origin is slot 720
    assert row(schedule(HOUR, 24), y, target) == {
        **{f"lag_{lag}": target - lag for lag in (24, 48, 72, 96, 120, 144, 168, 336)},
        "lag_mean": target - 96,
        "level_1": 720 - 12.5,
        "level_7": 720 - 84.5,
        "level_28": 720 - 336.5,
        "slot_of_day": 5,
        "weekday": 2,
    }


def test_quarter_hourly_hour_ahead_features_have_their_values_by_hand():
    y = np.arange(5000.0)
    target = 29 * 96 + 6  # 01:30 on Tuesday the 30th; its origin is slot 2788
    found = row(schedule(QUARTER, 4), y, target)
    assert found == {
        **{f"lag_{days * 96}": target - days * 96 for days in (1, 2, 3, 4, 5, 6, 7, 14)},
        "lag_mean": target - 4 * 96,
        "last": 2787,
        "last_day_before": 2787 - 96,
        "level_1": 2788 - 48.5,
        "level_7": 2788 - 336.5,
        "level_28": 2788 - 1344.5,
        "lead": 2,
        "slot_of_day": 6,
        "weekday": 1,
    }


def test_daily_week_ahead_features_have_their_values_by_hand():
    y = np.arange(60.0)
    target = 45  # Thursday 2001-02-15; its origin is slot 42
    assert row(schedule(DAY, 7), y, target) == {
        **{f"lag_{lag}": target - lag for lag in (7, 8, 9, 10, 11, 12, 13, 20, 14, 21)},
        "lag_mean": target - 10,
        "level_1": 41,
        "level_7": 38,
        "level_28": 27.5,
        "lead": 3,
        "weekday": 3,
        "day_of_month": 15,
    }


def test_means_leave_missing_values_out():
    y = np.arange(60.0)
    y[35:41] = np.nan
    found = row(schedule(DAY, 1), y, 42)
    assert found["lag_1"] == 41
    assert np.isnan(found["lag_2"])
    assert found["level_7"] == found["lag_mean"] == 41
    assert found["level_28"] == (sum(range(14, 35)) + 41) / 22


def test_a_stream_without_a_past_has_only_its_calendar():
    found = row(schedule(DAY, 7), np.full(60, np.nan), 45)
    known = {name for name, value in found.items() if not np.isnan(value)}
    assert known == {"lead", "weekday", "day_of_month"}


@pytest.mark.parametrize("s", SCHEDULES, ids=IDS)
def test_features_equal_the_oracle_with_gaps_and_at_the_edges(s):
    rng = np.random.default_rng(1)
    features = Features(s)
    n = features.lookback + 3 * s.horizon
    y = rng.normal(10, 3, n)
    y[rng.random(n) < 0.3] = np.nan
    for target in (n - 1, n - s.horizon, n + 3, s.horizon + 1, 0):
        found, expected = row(s, y, target), oracle(s, y, target)
        assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-12, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nothing_at_or_after_the_origin_matters(data):
    s = data.draw(st.sampled_from(SCHEDULES))
    features = Features(s)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = features.lookback + 2 * s.horizon
    y = rng.normal(size=(2, n))
    target = data.draw(st.integers(n - s.horizon, n - 1))
    origin = target // s.horizon * s.horizon
    changed = y.copy()
    changed[:, origin:] = data.draw(st.sampled_from([np.nan, 1e6, 0.0]))
    before = features.build(y, start=0, first=target, last=target + 1)
    np.testing.assert_array_equal(features.build(changed, start=0, first=target, last=target + 1), before)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_else_is_in_memory_does_not_change_the_last_bit(data):
    s = data.draw(st.sampled_from(SCHEDULES))
    features = Features(s)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = features.lookback + 4 * s.horizon
    y = rng.normal(1e3, 1.0, size=(3, n))
    y[rng.random(y.shape) < 0.1] = np.nan
    first = data.draw(st.integers(n - 3 * s.horizon, n - 1))
    last = data.draw(st.integers(first + 1, n))
    whole = features.build(y, start=0, first=n - 3 * s.horizon, last=n)
    part = whole[:, first - (n - 3 * s.horizon) : last - (n - 3 * s.horizon)]
    cut = first // s.horizon * s.horizon - features.lookback
    time_major = np.asfortranarray(y[:, cut:])
    np.testing.assert_array_equal(features.build(time_major, start=cut, first=first, last=last), part)
    alone = features.build(y[1:2, cut:last], start=cut, first=first, last=last)
    np.testing.assert_array_equal(alone, part[1:2])


@pytest.mark.parametrize("s", SCHEDULES, ids=IDS)
def test_features_of_chosen_targets_are_those_of_all_to_the_last_bit(s):
    rng = np.random.default_rng(4)
    features = Features(s)
    n = features.lookback + 5 * s.horizon
    y = rng.normal(1e3, 1.0, size=(4, n))
    y[rng.random(y.shape) < 0.2] = np.nan
    first = n - 4 * s.horizon - 1
    whole = features.build(y, start=-7, first=first, last=n)
    stream, column = rng.integers(0, 4, 9), rng.integers(0, n - first, 9)
    found = features.chosen(y, start=-7, row=stream, slot=first + column)
    np.testing.assert_array_equal(found, whole[stream, column])
    assert features.chosen(y, start=-7, row=stream[:0], slot=column[:0]).shape == (0, len(features.names))


@pytest.mark.parametrize("s", SCHEDULES, ids=IDS)
def test_lookback_is_what_the_targets_of_an_origin_need(s):
    features = Features(s)
    origin = 4 * features.lookback // s.horizon * s.horizon
    y = np.random.default_rng(3).normal(size=(1, origin))
    span = {"first": origin, "last": origin + s.horizon}
    full = features.build(y, start=0, **span)
    enough, short = origin - features.lookback, origin - features.lookback + 1
    assert np.isfinite(full).all()
    np.testing.assert_array_equal(features.build(y[:, enough:], start=enough, **span), full)
    assert (features.build(y[:, short:], start=short, **span) != full).any()


def test_a_large_level_does_not_cancel_digits():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=2000)
    s = schedule(HOUR, 24)
    plain, lifted = row(s, noise, 1500), row(s, noise + 1e9, 1500)
    for name in ("level_1", "level_7", "level_28", "lag_mean"):
        assert lifted[name] - 1e9 == pytest.approx(plain[name], abs=1e-6)


def test_building_changes_no_input_and_returns_float64():
    y = np.arange(900.0)[None].astype(np.float32)
    kept = y.copy()
    X = Features(schedule(HOUR, 24)).build(y, start=0, first=800, last=830)
    assert X.dtype == np.float64
    np.testing.assert_array_equal(y, kept)


def test_no_targets_and_no_streams_give_empty_arrays():
    features = Features(schedule(HOUR, 24))
    p = len(features.names)
    assert features.build(np.ones((2, 9)), start=0, first=5, last=5).shape == (2, 0, p)
    assert features.build(np.ones((0, 9)), start=0, first=5, last=7).shape == (0, 2, p)
    assert np.isnan(features.build(np.ones((1, 0)), start=0, first=5, last=7)[..., :9]).all()


def test_infinite_means_take_out_only_their_own_stream():
    y = np.ones((2, 900))
    y[0] = 1e308
    X = Features(schedule(HOUR, 24)).build(y, start=0, first=800, last=801)
    assert np.isfinite(X[1]).all()


@pytest.mark.parametrize("s", SCHEDULES, ids=IDS)
def test_names_are_unique_and_as_many_as_columns(s):
    features = Features(s)
    assert len(set(features.names)) == len(features.names)
    assert features.build(np.ones((1, 5)), start=0, first=2, last=4).shape == (1, 2, len(features.names))


@pytest.mark.parametrize("s", SCHEDULES, ids=IDS)
def test_what_features_look_back_to_is_enough_for_seasonal_naive(s):
    assert Features(s).lookback >= naive_lookback(s)
