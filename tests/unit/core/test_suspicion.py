import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.suspicion import (
    FEWEST_BATCHES,
    LONGEST_RUN,
    faults,
    newest_limit,
    odd_shares,
    strange,
    stuck,
    suspicious,
    usual_batches,
)

DAY, WEEK = 24, 168
RNG = np.random.default_rng(5)


def demand(days: int = 20, streams: int = 1) -> np.ndarray:
    return RNG.normal(500.0, 20.0, (streams, days * DAY))


def is_suspicious(y: np.ndarray) -> list[bool]:
    return suspicious(odd_shares(y, batch=DAY), batch=DAY, season=WEEK).tolist()


def test_a_stuck_meter_and_a_feed_of_zeros_look_like_faults_and_a_few_equal_values_do_not() -> None:
    y = demand(streams=5)
    y[0, -8:] = y[0, -9]
    y[1, -8:] = 0.0
    y[2, -8:] = -1.0
    y[3, -LONGEST_RUN:] = y[3, -LONGEST_RUN]
    assert is_suspicious(y) == [True, True, True, False, False]


def test_three_odd_values_are_no_fault_however_short_the_batch() -> None:
    y = demand(streams=2)
    y[:, -3:] = 0.0
    y[1, -4:] = 0.0
    assert is_suspicious(y) == [False, True]
    assert suspicious(odd_shares(y, batch=7), batch=7, season=7).tolist() == [False, True]


def test_nights_without_a_departure_are_usual() -> None:
    y = demand()
    y.reshape(-1, DAY)[:, :6] = 0.0
    assert is_suspicious(y) == [False]


@pytest.mark.parametrize("days", [14, 21, 28, 56])
def test_closed_sundays_are_usual_though_they_are_few(days: int) -> None:
    y = demand(days=days)
    y.reshape(-1, DAY)[6::7] = 0.0
    assert is_suspicious(y) == [False]
    assert not faults(y[:, : 20 * DAY], batch=DAY, season=WEEK)[:, WEEK:].any()


def test_a_closed_sunday_after_open_ones_is_not() -> None:
    y = demand(days=28)
    y[0, -DAY:] = 0.0
    assert is_suspicious(y) == [True]


def test_what_goes_on_for_long_is_how_the_stream_is_now() -> None:
    y = demand(days=20)
    y[0, -6 * DAY :] = 0.0
    assert is_suspicious(y) == [False]


def test_faults_of_a_tenth_of_the_batches_before_do_not_hide_another() -> None:
    y = demand(days=20)
    y[0, -2 * DAY :] = 0.0
    assert is_suspicious(y) == [True]


def weeks(text: str) -> np.ndarray:
    """Shares by weekly batch: a dot is a sound one, a digit so many tenths, a blank one without values."""
    shares = {".": 0.0, " ": np.nan}
    return np.array([[shares[one] if one in shares else int(one) / 10 for one in text]])


def looks(text: str) -> str:
    """The weeks that looked like a fault when they came, as !."""
    usual = usual_batches(weeks(text), batch=WEEK, season=WEEK)[0]
    return "".join("!" if one.isdigit() and not usual[at] else one for at, one in enumerate(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("................22.2...2221", "................!!.!...!!!!"),  # a fault comes back: it vouches for nothing
        ("....................222222", "....................!!!!22"),  # goes on: how the stream is now
        ("...............2.2.2.2.2.2.2.2.2.2", "...............!.!.!.!.!.!.!.!.!.2"),  # more than a quarter of all
        ("................222 222 2222", "................!!! !!! !222"),  # a week without values ends the row
        ("..2222....................4", "..2222....................4"),  # before anything was usual it all was
        ("..................2..5.2.", "..................!..!.!."),
    ],
)
def test_a_fault_that_comes_again_is_no_more_usual_than_the_first_time(text: str, expected: str) -> None:
    assert looks(text) == expected


SHARES = st.lists(st.sampled_from([0.0, 0.04, 0.06, 0.1, 0.2, 0.3, 0.6, 1.0, float("nan")]), min_size=1, max_size=40)


@given(SHARES, st.sampled_from([DAY, WEEK]))
def test_the_newest_batch_is_judged_as_when_it_says_what_is_usual(values: list[float], batch: int) -> None:
    shares = np.array([values, values[::-1]])
    season = {"batch": batch, "season": WEEK}
    usual = usual_batches(shares, **season)
    assert suspicious(shares, **season).tolist() == (np.isfinite(shares) & ~usual)[:, -1].tolist()
    assert np.array_equal(usual[:, :-1], usual_batches(shares[:, :-1], **season))


@given(SHARES)
def test_what_is_usual_and_what_goes_on_is_learned_from(values: list[float]) -> None:
    shares = np.array([[*values, *[0.5] * (2 + len(values) // 8)]])
    found = strange(shares, batch=WEEK, season=WEEK)
    assert not found[0, len(values) :].any()
    assert not found[np.isnan(shares)].any()


def test_the_batches_of_a_fault_that_comes_again_are_not_learned_from() -> None:
    found = strange(weeks("................22.2...222."), batch=WEEK, season=WEEK)
    assert np.flatnonzero(found).tolist() == [16, 17, 19, 23, 24, 25]


@pytest.mark.parametrize("days", range(FEWEST_BATCHES + 1))
def test_without_a_past_nothing_looks_like_a_fault(days: int) -> None:
    y = np.zeros((1, days * DAY))
    assert is_suspicious(y) == [False]


def test_missing_values_are_no_fault_and_a_batch_without_values_is_not_judged() -> None:
    y = demand(streams=2)
    y[0, -DAY:] = np.nan
    y[1, -DAY : -DAY + 12] = np.nan
    shares = odd_shares(y, batch=DAY)
    assert np.isnan(shares[0, -1])
    assert shares[1, -1] == 0.0
    assert is_suspicious(y) == [False, False]


def test_a_part_of_a_batch_at_the_start_is_left_out() -> None:
    y = demand(days=10)[:, 5:]
    y[0, :7] = 0.0
    shares = odd_shares(y, batch=DAY)
    assert shares.shape == (1, 9)
    assert not shares.any()
    assert newest_limit(shares, batch=DAY, season=WEEK).tolist() == [0.125]


def test_odd_values_of_sound_batches_are_learned_from() -> None:
    y = demand(days=20)[0]
    y[3 * DAY : 3 * DAY + 10] = 7.0
    y[9 * DAY] = 0.0
    assert np.flatnonzero(faults(y[None], batch=DAY, season=WEEK)).tolist() == list(range(3 * DAY, 3 * DAY + 10))


def test_a_stream_of_zeros_is_learned_from() -> None:
    assert not faults(np.zeros((1, 20 * DAY)), batch=DAY, season=WEEK).any()
    assert not faults(np.zeros((1, 3)), batch=DAY, season=WEEK).any()


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), max_size=40))
def test_stuck_agrees_with_counting_runs(values: list[float]) -> None:
    found = []
    for at, value in enumerate(values):
        first = last = at
        while first > 0 and values[first - 1] == value:
            first -= 1
        while last + 1 < len(values) and values[last + 1] == value:
            last += 1
        found.append(not np.isnan(value) and last - first + 1 > LONGEST_RUN)
    assert stuck(np.asarray(values)).tolist() == found
