"""Evergreen members: they learn what is there, from what is known at the origin, and shrug off what is wild."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.schedule import Schedule
from mlma.core.settings import QUICK, Evergreen
from mlma.models.evergreen import gram
from mlma.models.evergreen.design import Designer, bounds
from mlma.models.evergreen.members import Learned, Members
from mlma.models.features import Features
from mlma.models.naive import seasonal_naive

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
FEW = settings(max_examples=30, deadline=None, derandomize=True)
ALL = tuple(Evergreen)
LEARNING = tuple(family for family in ALL if family not in QUICK)


def schedule_of(frequency: timedelta, *, horizon: int, batch: int, train_window: int) -> Schedule:
    return Schedule(anchor=ANCHOR, frequency=frequency, horizon=horizon, batch=batch, train_window=train_window)


HOURLY = schedule_of(timedelta(hours=1), horizon=24, batch=24, train_window=28 * 24)
SHORT = schedule_of(timedelta(hours=1), horizon=6, batch=24, train_window=28 * 24)
LONG = schedule_of(timedelta(hours=1), horizon=72, batch=72, train_window=30 * 24)
DAILY = schedule_of(timedelta(days=1), horizon=7, batch=7, train_window=140)
QUARTERS = schedule_of(timedelta(minutes=15), horizon=96, batch=96, train_window=21 * 96)
WEEKLY = schedule_of(timedelta(days=7), horizon=1, batch=1, train_window=52)
SCHEDULES = {"hourly": HOURLY, "short": SHORT, "long": LONG, "daily": DAILY, "15 min": QUARTERS, "weekly": WEEKLY}


def members_of(schedule: Schedule, families: tuple[Evergreen, ...] = ALL) -> Members:
    return Members(Designer(Features(schedule)), families)


def demand(schedule: Schedule, n_streams: int, n_slots: int, *, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """Daily and weekly shape times noise, shape (streams, slots)."""
    rng = np.random.default_rng(seed)
    slot = np.arange(n_slots)
    daily = 1.0 + 0.5 * np.sin(2 * np.pi * slot / schedule.slots_per_day) * (schedule.slots_per_day > 1)
    weekly = 1.0 + 0.3 * np.cos(2 * np.pi * slot / schedule.season) * (schedule.season > 1)
    level = rng.uniform(50.0, 500.0, (n_streams, 1))
    return level * daily * weekly * np.exp(noise * rng.standard_normal((n_streams, n_slots)))


@dataclass(frozen=True)
class Past:
    """Values that end with a closed batch, and what of them members look at."""

    members: Members
    n_batches: int

    @property
    def schedule(self) -> Schedule:
        return self.members.designer.schedule

    @property
    def end(self) -> int:
        return self.n_batches * self.schedule.batch

    def start(self, y: np.ndarray) -> Learned:
        """Learn from everything as a whole."""
        first = max(0, (self.end - self.schedule.train_window) // self.schedule.batch)
        return self.members.started(
            y[:, : self.end], start=0, batches=range(first, self.n_batches), usable=np.ones((len(y), self.end), bool)
        )

    def update(self, known: Learned, y: np.ndarray, batch: int) -> Learned:
        """Learn one more batch."""
        end = self.schedule.origin_after(batch)
        return self.members.updated(
            known, y[:, :end], start=0, batch=batch, usable=np.ones((len(y), end), dtype=np.bool_)
        )

    def forecast(self, known: Learned, y: np.ndarray, *, n_origins: int = 1) -> np.ndarray:
        """Forecasts from the first origin after the past on, shape (streams, families, targets)."""
        last = self.end + n_origins * self.schedule.horizon
        return self.members.forecasts(self.members.parameters(known), y[:, :last], start=0, first=self.end, last=last)


def past_of(schedule: Schedule, families: tuple[Evergreen, ...] = LEARNING) -> Past:
    """Enough past for the longest lag and a train window."""
    members = members_of(schedule, families)
    return Past(members, -(-(members.designer.lookback + schedule.train_window) // schedule.batch))


def loss(forecast: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean absolute error of each member, relative to the mean value; shape (families,)."""
    target = y[:, None, -forecast.shape[2] :]
    return np.abs(forecast - target).mean(axis=(0, 2)) / np.abs(y).mean()


# what they learn


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_process_without_noise_is_forecast_nearly_without_error(name: str) -> None:
    past = past_of(SCHEDULES[name])
    y = demand(past.schedule, 4, past.end + past.schedule.horizon, noise=0.0)
    assert (loss(past.forecast(past.start(y), y), y) < 0.02).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_with_noise_the_members_beat_seasonal_naive_and_none_is_worse(name: str) -> None:
    past = past_of(SCHEDULES[name])
    schedule, n_origins = past.schedule, 4
    y = demand(schedule, 40, past.end + n_origins * schedule.horizon, noise=0.1)
    naive = seasonal_naive(y, start=0, first=past.end, last=y.shape[1], schedule=schedule)
    found = loss(past.forecast(past.start(y), y, n_origins=n_origins), y)
    assert np.isfinite(found).all()
    (usual,) = loss(naive[:, None], y)
    assert (found < 1.02 * usual).all()
    assert (np.sort(found)[:2] < 0.95 * usual).all()


def test_a_regression_finds_the_coefficients_of_the_process() -> None:
    """A value that follows the value a day before by a factor of 1/2 is forecast so, not by its usual level."""
    past = past_of(schedule_of(timedelta(days=1), horizon=1, batch=7, train_window=728), (Evergreen.SLOT_RIDGE,))
    rng, y = np.random.default_rng(1), np.full((8, past.end + 1), 100.0)
    for day in range(1, y.shape[1]):
        y[:, day] = 100.0 + 0.5 * (y[:, day - 1] - 100.0) + 10.0 * rng.standard_normal(8)
    made = past.forecast(past.start(y), y)[:, 0, 0]
    expected = 100.0 + 0.5 * (y[:, past.end - 1] - 100.0)
    assert np.abs(made - expected).mean() < 0.5 * np.abs(expected - 100.0).mean()


def test_members_follow_a_stream_that_changes_for_good() -> None:
    past = past_of(HOURLY)
    later = Past(past.members, past.n_batches + 42)
    y = demand(HOURLY, 6, later.end + 24)
    y[:, past.end :] = 3.0 * np.roll(y[:, past.end :], 7, axis=1)
    stale = known = past.start(y)
    for batch in range(past.n_batches, later.n_batches):
        known = later.update(known, y, batch)
    fresh, old = (loss(later.forecast(learned, y), y) for learned in (known, stale))
    assert (fresh < 0.2).all()
    assert (fresh[1:] < 0.8 * old[1:]).all()  # the median has nothing to learn but its bounds


# wild values


@pytest.mark.parametrize("wild", [1e9, -1e9, 1e300])
@pytest.mark.parametrize("name", ["hourly", "daily", "weekly"])
def test_a_wild_value_neither_teaches_nor_is_served(name: str, wild: float) -> None:
    past = past_of(SCHEDULES[name])
    y = demand(past.schedule, 3, past.end + past.schedule.horizon)
    spoilt = y.copy()
    spoilt[0, past.end - 3 * past.schedule.batch] = wild
    spoilt[1, past.end - 1] = wild  # the value before the origin
    clean, made = (past.forecast(past.start(values), values) for values in (y, spoilt))
    np.testing.assert_array_equal(made[2], clean[2])
    assert np.isfinite(made).all()
    assert (np.abs(made - clean) <= 0.5 * clean.max(axis=2, keepdims=True)).all()


@pytest.mark.parametrize("wild", [1e9, -1e9])
def test_a_wild_value_in_an_update_neither_teaches_nor_is_served(wild: float) -> None:
    past = past_of(HOURLY)
    later = Past(past.members, past.n_batches + 3)
    y = demand(HOURLY, 2, later.end + 24)
    spoilt = y.copy()
    spoilt[0, past.end + 7] = wild
    made = []
    for values in (y, spoilt):
        known = past.start(values)
        for batch in range(past.n_batches, later.n_batches):
            known = later.update(known, values, batch)
        made.append(later.forecast(known, values))
    np.testing.assert_array_equal(made[1][1], made[0][1])
    assert (np.abs(made[1] - made[0]) <= 0.3 * made[0].max()).all()


@pytest.mark.parametrize("wild", [1e9, -1e9])
def test_a_wild_value_on_the_first_day_of_a_born_stream_does_not_spoil_it_for_good(wild: float) -> None:
    past = past_of(HOURLY)
    later = Past(past.members, past.n_batches + 42)
    y = demand(HOURLY, 2, later.end + 24)
    y[1, : past.end] = np.nan
    spoilt = y.copy()
    spoilt[1, past.end + 5] = wild
    made = []
    for values in (y, spoilt):
        known = past.members.grown(past.start(values[:1]), 2)
        for batch in range(past.n_batches, later.n_batches):
            known = later.update(known, values, batch)
        made.append(later.forecast(known, values))
    np.testing.assert_allclose(made[1][1], made[0][1], rtol=0.2)


@pytest.mark.parametrize("n", [3, 24, 101, 3360])
@pytest.mark.parametrize("wild", [1e9, -1e9])
def test_bounds_do_not_follow_a_single_wild_value(n: int, wild: float) -> None:
    y = np.random.default_rng(0).uniform(80.0, 120.0, (2, n))
    y[1, n // 2] = wild
    low, high = bounds(y).T
    assert (np.abs([low[1], high[1]]) < 1000.0).all()
    assert low[0] >= 0.0
    if n > 3:
        assert low[1] < 90.0
        assert high[1] > 110.0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=40))
def test_bounds_enclose_the_median_and_keep_the_sign(values: list[float]) -> None:
    low, high = bounds(np.array([values]))[0]
    known = np.array(values)[np.isfinite(values)]
    if len(known):
        middle = np.sort(known)[(len(known) - 1) // 2]
        assert low <= middle <= high
        assert low >= 0.0 or (known < 0).any()
    else:
        assert (low, high) == (-np.inf, np.inf)


# gaps and strange streams


@pytest.mark.parametrize("name", SCHEDULES)
def test_missing_values_are_gaps_not_zeros(name: str) -> None:
    past = past_of(SCHEDULES[name])
    y = demand(past.schedule, 6, past.end + past.schedule.horizon, noise=0.0)
    holes = y.copy()
    holes[:, : past.end][np.random.default_rng(3).random((6, past.end)) < 0.2] = np.nan
    made = past.forecast(past.start(holes), holes)
    assert np.isfinite(made).all()
    assert (loss(made, y) < 0.15).all()


def test_a_stream_that_is_missing_altogether_is_forecast_by_nobody_and_changes_nothing_for_the_others() -> None:
    past = past_of(HOURLY)
    y = demand(HOURLY, 3, past.end + 24)
    beside = y.copy()
    beside[1] = np.nan
    made = past.forecast(past.start(beside), beside)
    assert np.isnan(made[1]).all()
    np.testing.assert_array_equal(made[[0, 2]], past.forecast(past.start(y), y)[[0, 2]])


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-9, 1e9])
@pytest.mark.parametrize("name", ["hourly", "daily"])
def test_a_constant_stream_is_forecast_by_its_constant(name: str, value: float) -> None:
    past = past_of(SCHEDULES[name])
    y = np.full((1, past.end + past.schedule.horizon), value)
    known = past.start(y)
    made = past.forecast(known, y)
    np.testing.assert_allclose(made, value, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(Past(past.members, past.n_batches).forecast(
        past.update(past.start(y), y, past.n_batches - 1), y), value, rtol=1e-6, atol=1e-12)  # fmt: skip


def test_streams_of_any_sign_are_forecast_and_those_of_one_sign_keep_it() -> None:
    past = past_of(HOURLY)
    y = demand(HOURLY, 3, past.end + 24)
    y[1] = -y[1]
    y[2] -= y[2].mean()
    made = past.forecast(past.start(y), y)
    assert np.isfinite(made).all()
    assert (made[0] >= 0).all()
    for stream in (1, 2):
        for j, family in enumerate(LEARNING):
            error = np.abs(made[stream, j] - y[stream, past.end :]).mean()
            assert error < 0.2 * np.abs(y[stream]).mean(), (stream, family)


@pytest.mark.parametrize("schedule", [HOURLY, DAILY])
def test_negative_values_are_forecast_as_well_as_positive_ones(schedule: Schedule) -> None:
    past = past_of(schedule)
    y = demand(schedule, 20, past.end + schedule.horizon, noise=0.1)
    usual, negated = (loss(past.forecast(past.start(sign * y), sign * y), sign * y) for sign in (1.0, -1.0))
    np.testing.assert_allclose(negated, usual, rtol=0.05)


def test_a_stream_of_rare_counts_gives_finite_forecasts_that_are_not_negative() -> None:
    past = past_of(DAILY)
    y = np.random.default_rng(2).poisson(0.05, (20, past.end + 7)).astype(float)
    made = past.forecast(past.start(y), y)
    assert np.isfinite(made).all()
    assert (made >= 0.0).all()
    assert made.max() < 5.0


# births


@pytest.mark.parametrize("name", ["hourly", "daily", "weekly"])
def test_a_born_stream_changes_nothing_for_the_others_and_learns(name: str) -> None:
    past = past_of(SCHEDULES[name])
    more = 60
    later = Past(past.members, past.n_batches + more)
    y = demand(past.schedule, 2, later.end + past.schedule.horizon)
    y[1, : past.end] = np.nan
    alone, grown = past.start(y[:1]), past.members.grown(past.start(y[:1]), 2)
    assert np.isnan(past.forecast(grown, y)[1, 1:]).all()
    for batch in range(past.n_batches, later.n_batches):
        alone, grown = later.update(alone, y[:1], batch), later.update(grown, y, batch)
    np.testing.assert_array_equal(later.forecast(grown, y)[0], later.forecast(alone, y[:1])[0])
    assert (np.abs(later.forecast(grown, y)[1] / y[1, later.end : later.end + past.schedule.horizon] - 1) < 0.35).all()


# the same whenever and with whomever


@cache
def learned(name: str) -> tuple[Past, np.ndarray, Learned]:
    """Streams with gaps, four origins beyond what was learned from them."""
    past = past_of(SCHEDULES[name], ALL)
    y = demand(past.schedule, 4, past.end + 4 * past.schedule.horizon, seed=3)
    y[np.random.default_rng(3).random(y.shape) < 0.05] = np.nan
    return past, y, past.start(y)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_forecasts_have_the_same_last_bit_for_any_chunk_of_streams(name: str, size: int) -> None:
    past, y, known = learned(name)
    made = past.forecast(known, y)
    for at in range(0, len(y), size):
        mine = past.start(y[at : at + size])
        for key, value in mine.arrays().items():
            np.testing.assert_array_equal(value, known.arrays()[key][at : at + size] if key != "solved" else value)
        np.testing.assert_array_equal(past.forecast(mine, y[at : at + size]), made[at : at + size])


@pytest.mark.parametrize("name", SCHEDULES)
def test_forecasts_have_the_same_last_bit_for_one_origin_or_many(name: str) -> None:
    past, y, known = learned(name)
    members, horizon, n = past.members, past.schedule.horizon, 4
    many = past.forecast(known, y, n_origins=n)
    for k in range(n):
        first = past.end + k * horizon
        start = first - members.designer.lookback
        one = members.forecasts(
            members.parameters(known), y[:, start : first + horizon], start=start, first=first, last=first + horizon
        )
        np.testing.assert_array_equal(one, many[:, :, k * horizon : (k + 1) * horizon], err_msg=f"origin {k}")


@FEW
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(0, 3), st.integers(0, 1000))
def test_only_values_before_the_origin_matter(name: str, k: int, seed: int) -> None:
    past, y, known = learned(name)
    horizon, rng = past.schedule.horizon, np.random.default_rng(seed)
    other = y.copy()
    origin = past.end + k * horizon
    other[:, origin:] = rng.choice([np.nan, 1e9, 0.0, -3.0], other[:, origin:].shape)
    one, changed = (past.forecast(known, values, n_origins=4)[:, :, : (k + 1) * horizon] for values in (y, other))
    np.testing.assert_array_equal(one, changed)


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_matters_for_nothing_after_its_batch(name: str) -> None:
    past = past_of(SCHEDULES[name], ALL)
    y = demand(past.schedule, 3, past.end + 2 * past.schedule.batch)
    other = y.copy()
    other[:, past.end + past.schedule.batch :] = 1e9
    one, changed = (past.update(past.start(values), values, past.n_batches).arrays() for values in (y, other))
    for key, value in one.items():
        np.testing.assert_array_equal(value, changed[key], err_msg=key)


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_goes_on_after_being_written_down_as_if_it_had_never_been(name: str) -> None:
    past = past_of(SCHEDULES[name], ALL)
    later = Past(past.members, past.n_batches + 5)
    y = demand(past.schedule, 3, later.end + past.schedule.horizon)
    straight = stopped = past.start(y)
    for batch in range(past.n_batches, later.n_batches):
        straight = later.update(straight, y, batch)
        stopped = later.update(Learned.of({k: v.copy() for k, v in stopped.arrays().items()}), y, batch)
    for key, value in straight.arrays().items():
        np.testing.assert_array_equal(value, stopped.arrays()[key], err_msg=key)


def test_an_update_needs_no_more_of_the_past_than_its_window() -> None:
    past = past_of(HOURLY, ALL)
    y = demand(HOURLY, 3, past.end + 24)
    known, end, designer = past.start(y), past.end + 24, past.members.designer
    start = min(end - HOURLY.train_window, past.end - designer.lookback)
    cut = past.members.updated(
        known, y[:, start:end], start=start, batch=past.n_batches, usable=np.ones((3, end - start), dtype=np.bool_)
    )
    for key, value in past.update(known, y, past.n_batches).arrays().items():
        np.testing.assert_array_equal(cut.arrays()[key], value, err_msg=key)


def test_what_is_not_usable_teaches_nothing() -> None:
    past = past_of(HOURLY, ALL)
    y = demand(HOURLY, 2, past.end + 24)
    end = past.end + 24
    usable = np.ones((2, end), dtype=np.bool_)
    usable[0, past.end + 3 : past.end + 9] = False
    other = y.copy()
    other[0, past.end + 3 : past.end + 9] *= 1.7
    known = past.start(y)
    one, changed = (
        past.members.updated(known, values, start=0, batch=past.n_batches, usable=usable).arrays()
        for values in (y, other)
    )
    for key in ("log_sums", "log_rows", "slot_sums", "log_solution", "slot_solution"):
        np.testing.assert_array_equal(one[key], changed[key], err_msg=key)


@pytest.mark.parametrize(
    "families", [(), (Evergreen.MEDIAN,), (Evergreen.LAD, Evergreen.MEDIAN), (Evergreen.LEVEL, Evergreen.LAD)]
)
def test_members_come_in_the_order_that_was_asked_for(families: tuple[Evergreen, ...]) -> None:
    past = past_of(DAILY, families)
    y = demand(DAILY, 2, past.end + 7)
    if not families:
        assert past.start(y).slot_sums.size == 0
        return
    everybody = past_of(DAILY, ALL)
    expected = everybody.forecast(everybody.start(y), y)[:, [ALL.index(family) for family in families]]
    np.testing.assert_array_equal(past.forecast(past.start(y), y), expected)


def test_a_feature_that_varies_by_rounding_alone_gets_no_coefficient() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 200, 2))
    features[0, :, 1] = 7.3
    weight = np.sqrt(0.97 ** np.arange(200))  # the sums are no whole numbers, so float32 rounds them
    rows = gram.rows_of(features, 2.0 * features[:, :, 0], np.ones((1, 200), dtype=np.bool_)) * weight[:, None]
    empty = np.zeros((1, 1, 4, 4), dtype=np.float32)
    total = gram.accumulated(empty, rows, np.zeros(200, dtype=np.int64), decay=1.0)
    mass, mean = float(total[0, 0, 0, 0]), float(total[0, 0, 0, 2]) / float(total[0, 0, 0, 0])
    assert abs(float(total[0, 0, 2, 2]) / mass - mean**2) > gram.TINY_SD**2
    solution = gram.solved(total, penalty=1e-3, n_rows=np.full((1, 1), 200.0))[0, 0]
    assert solution[2] == 0.0
    np.testing.assert_allclose(solution[:2], [0.0, 2.0], atol=1e-4)
