"""Quick members: they know of a change a day after it, and no regression runs away on the day after a fault."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.schedule import Schedule
from mlma.core.settings import QUICK, Evergreen
from mlma.models.evergreen.design import Designer
from mlma.models.evergreen.members import Learned, Members
from mlma.models.evergreen.quick import factor, reach, span
from mlma.models.features import Features

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
ALL = tuple(Evergreen)
FEW = settings(max_examples=40, deadline=None, derandomize=True)


def schedule_of(frequency: timedelta, *, horizon: int, train_window: int) -> Schedule:
    return Schedule(anchor=ANCHOR, frequency=frequency, horizon=horizon, batch=horizon, train_window=train_window)


HOURLY = schedule_of(timedelta(hours=1), horizon=24, train_window=28 * 24)
LONG = schedule_of(timedelta(hours=1), horizon=72, train_window=30 * 24)
DAILY = schedule_of(timedelta(days=1), horizon=7, train_window=140)
WEEKLY = schedule_of(timedelta(days=7), horizon=1, train_window=52)
SCHEDULES = {"hourly": HOURLY, "long": LONG, "daily": DAILY, "weekly": WEEKLY}


def demand(n_slots: int, *, noise: float = 0.05, n_streams: int = 4) -> np.ndarray:
    """Values with a daily shape between 50 and 150, shape (streams, slots)."""
    rng, hour = np.random.default_rng(0), np.arange(n_slots) % 24
    shape = 100.0 + 50.0 * np.sin(2.0 * np.pi * hour / 24.0)
    return shape * np.exp(noise * rng.standard_normal((n_streams, n_slots)))


def forecasts(
    schedule: Schedule,
    y: np.ndarray,
    end: int,
    *,
    known_until: int | None = None,
    families: tuple[Evergreen, ...] = ALL,
) -> dict[Evergreen, np.ndarray]:
    """What each member forecasts at ``end``, learned from what came up to a slot (``end`` unless told)."""
    members = Members(Designer(Features(schedule)), families)
    until = end if known_until is None else known_until
    first = max(0, (until - schedule.train_window) // schedule.batch)
    known: Learned = members.started(
        y[:, :until], start=0, batches=range(first, until // schedule.batch), usable=np.ones((len(y), until), bool)
    )
    made = members.forecasts(members.parameters(known), y[:, :end], start=0, first=end, last=end + schedule.horizon)
    return dict(zip(families, np.moveaxis(made, 1, 0), strict=True))


def size(forecast: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute error relative to the mean outcome."""
    return float(np.abs(forecast - target).mean() / np.abs(target).mean())


BREAK = 100 * 24


def after_break(y: np.ndarray) -> dict[Evergreen, float]:
    """Error of each member on the second day after a break, where the members that learn know nothing of it yet."""
    made = forecasts(HOURLY, y, BREAK + 24, known_until=BREAK)
    return {family: size(made[family], y[:, BREAK + 24 : BREAK + 48]) for family in ALL}


def test_a_level_that_tripled_is_forecast_the_day_after() -> None:
    y = demand(BREAK + 48)
    y[:, BREAK:] *= 3.0
    error = after_break(y)
    assert error[Evergreen.RESCALED] < 0.1
    assert error[Evergreen.YESTERDAY] < 0.1
    assert error[Evergreen.MEDIAN] > 0.6


def test_a_shape_that_changed_is_forecast_the_day_after() -> None:
    y = demand(BREAK + 48)
    y[:, BREAK:] = np.roll(y, 8, axis=1)[:, BREAK:]
    error = after_break(y)
    assert error[Evergreen.YESTERDAY] < 0.1
    assert min(error[family] for family in ALL if family is not Evergreen.YESTERDAY) > 0.2


def test_a_stream_without_a_shape_is_forecast_by_the_level_of_the_day_before() -> None:
    y = 6.0 + 0.5 * np.random.default_rng(1).standard_normal((4, BREAK + 48))
    y[:, BREAK:] += 8.5
    error = after_break(y)
    assert error[Evergreen.LEVEL] < 0.04
    assert error[Evergreen.LEVEL] < 0.8 * error[Evergreen.YESTERDAY]
    assert error[Evergreen.MEDIAN] > 0.4


def test_a_stream_that_wakes_up_is_forecast_the_day_after() -> None:
    y = demand(BREAK + 48)
    y[:, :BREAK] *= 0.02
    error = after_break(y)
    assert error[Evergreen.YESTERDAY] < 0.1
    assert error[Evergreen.RESCALED] < 0.1


def test_an_hour_that_is_always_as_high_does_not_hide_what_the_day_before_says() -> None:
    """The median ratio, not that of the sums: a wild hour moves nothing."""
    y = demand(BREAK + 48)
    wild = y.copy()
    wild[:, BREAK + 3] = 1e6
    made, expected = (forecasts(HOURLY, values, BREAK + 24, known_until=BREAK) for values in (wild, y))
    for family in (Evergreen.RESCALED, Evergreen.LEVEL):
        np.testing.assert_allclose(made[family], expected[family], rtol=0.03)


@pytest.mark.parametrize("wild", [1e9, -1e9, 1e300])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_wild_value_before_the_origin_is_not_served(name: str, wild: float) -> None:
    schedule = SCHEDULES[name]
    end = (Designer(Features(schedule)).lookback + schedule.train_window) // schedule.batch * schedule.batch
    y = demand(end + schedule.horizon)
    y[1:, end - 2] = wild
    made = forecasts(schedule, y, end, families=QUICK)
    for family, forecast in made.items():
        known = np.isfinite(forecast)
        assert (np.abs(forecast[known]) < 1000.0).all(), family
        assert known.any() or (family is Evergreen.YESTERDAY and schedule.slots_per_day == 1)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e-9, 1e9])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_constant_is_forecast_by_itself(name: str, value: float) -> None:
    schedule = SCHEDULES[name]
    end = (Designer(Features(schedule)).lookback + schedule.train_window) // schedule.batch * schedule.batch
    made = forecasts(schedule, np.full((1, end), value), end, families=QUICK)
    for family, forecast in made.items():
        if family is not Evergreen.YESTERDAY or schedule.slots_per_day > 1:
            np.testing.assert_array_equal(forecast, value, err_msg=family)


def test_a_day_with_gaps_says_what_its_other_hours_say() -> None:
    y = demand(BREAK + 48)
    y[:, BREAK:] *= 3.0
    y[:, BREAK : BREAK + 24 : 3] = np.nan
    made = forecasts(HOURLY, y, BREAK + 24, known_until=BREAK)
    target = y[:, BREAK + 24 : BREAK + 48]
    assert size(made[Evergreen.RESCALED], target) < 0.1
    assert np.isnan(made[Evergreen.YESTERDAY][:, ::3]).all()
    assert np.isfinite(made[Evergreen.LEVEL]).all()


def test_quick_members_say_nothing_of_a_stream_whose_last_day_is_missing() -> None:
    y = demand(BREAK + 48)
    y[2, BREAK : BREAK + 24] = np.nan
    made = forecasts(HOURLY, y, BREAK + 24, known_until=BREAK)
    for family in (Evergreen.YESTERDAY, Evergreen.LEVEL):
        assert np.isnan(made[family][2]).all()
    np.testing.assert_array_equal(made[Evergreen.RESCALED][2], made[Evergreen.MEDIAN][2])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_last_day_is_a_day_or_a_horizon_and_never_a_single_value(name: str) -> None:
    assert span(SCHEDULES[name]) == {"hourly": 24, "long": 72, "daily": 7, "weekly": 5}[name]


# the factor of a day


@FEW
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=30))
def test_a_factor_lies_between_one_and_what_the_day_shows(ratios: list[float]) -> None:
    found = float(factor(np.array([[ratios]]), np.ones((1, 1, len(ratios))))[0, 0])
    assert min(1.0, *ratios) * (1 - 1e-9) <= found <= max(1.0, *ratios) * (1 + 1e-9)


def test_a_factor_is_drawn_towards_one_where_the_day_says_little() -> None:
    rng, usual = np.random.default_rng(2), np.ones((1, 1, 7))
    steady, rough = (2.0 * np.exp(sd * rng.standard_normal((1, 1, 7))) for sd in (0.01, 1.0))
    assert factor(steady, usual)[0, 0] > 1.95
    assert 0.8 < factor(rough, usual)[0, 0] < 1.5


@pytest.mark.parametrize("day", [[0.0, 0.0, 0.0, 5.0], [-1.0, -2.0, -3.0, 4.0], [np.nan] * 4])
def test_a_day_that_cannot_be_compared_has_the_factor_one(day: list[float]) -> None:
    assert factor(np.array([[day]]), np.ones((1, 1, 4)))[0, 0] == 1.0


# how far a regression reaches


def test_a_regression_does_not_run_away_on_the_day_after_a_strange_one() -> None:
    """A day at one value, as a dead sensor gives it: features that no day before it had."""
    hour, rng = np.arange(29 * 24) % 24, np.random.default_rng(3)
    y = np.where((hour >= 8) & (hour < 18), 80.0, -20.0) + rng.uniform(-2.0, 2.0, (8, 29 * 24))
    y[:, 28 * 24 :] = 40.0
    wide = 102.0
    made = forecasts(HOURLY, y, 29 * 24, known_until=28 * 24)
    for family in (Evergreen.LAD, Evergreen.SLOT_RIDGE):
        assert made[family].max() <= 82.0 + 0.26 * wide
        assert made[family].min() >= -22.0 - 0.26 * wide


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_straight_line_stays_within_reach(name: str) -> None:
    schedule = SCHEDULES[name]
    lookback = Designer(Features(schedule)).lookback
    end = 2 * lookback // schedule.horizon * schedule.horizon
    y = np.arange(float(end + schedule.horizon))[None]
    low, high = reach(y, schedule, start=0, first=end, last=end + schedule.horizon, lookback=lookback)
    target = y[:, end:]
    assert (low <= target).all()
    assert (target[:, :-1] <= high[:, :-1] + 1.0).all()


def test_nothing_is_out_of_reach_of_a_stream_without_values() -> None:
    y = np.full((1, 2000), np.nan)
    low, high = reach(y, HOURLY, start=0, first=1992, last=2016, lookback=1344)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()
