from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.training_queue import WAITS, WANT_CODE, WANTS, Bucket, Budget, Plan, Wait, Want, Wanted, plan, settle

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)
START = datetime(2021, 3, 1, tzinfo=UTC)
NOBODY, NOTHING_LEFT = np.array([], dtype=np.int64), np.array([])


def microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def wanted(*rows: tuple[int, Want, float, float, float], now: datetime = START) -> Wanted:
    """Rows of stream, want, saving, cost in CPU seconds, hours waited."""
    return Wanted(
        stream_id=np.array([row[0] for row in rows], dtype=np.int64),
        want=np.array([WANT_CODE[row[1]] for row in rows], dtype=np.int8),
        saving=np.array([row[2] for row in rows], dtype=np.float64),
        weight=np.ones(len(rows)),
        cost_s=np.array([row[3] for row in rows], dtype=np.float64),
        since_us=np.array([microseconds(now - timedelta(hours=row[4])) for row in rows], dtype=np.int64),
    )


def planned(queue: Wanted, budget: Budget, *, bucket: Bucket | None = None, now: datetime = START) -> Plan:
    return plan(queue, bucket or Bucket.full(budget, now), budget, now=now, running=NOBODY, left_s=NOTHING_LEFT)


def order(queue: Wanted, budget: Budget | None = None) -> list[int]:
    return queue.stream_id[planned(queue, budget or Budget()).row].tolist()


RE, FIRST, ASKED = Want.RETRAINING, Want.FIRST, Want.REQUESTED


@pytest.mark.parametrize(
    ("rows", "wanted_order"),
    [
        ([(1, RE, 0.2, 10, 0), (2, RE, 0.4, 10, 0)], [2, 1]),  # more saved first
        ([(1, RE, 0.4, 40, 0), (2, RE, 0.2, 10, 0)], [2, 1]),  # for its cost
        ([(2, RE, 0.2, 10, 0), (1, RE, 0.2, 10, 0)], [1, 2]),  # ties by stream
        ([(1, RE, 9.0, 1, 0), (2, FIRST, 0.0, 10, 0), (3, ASKED, 0.0, 10, 0)], [3, 2, 1]),
        ([(1, FIRST, 9.0, 10, 1), (2, FIRST, 0.0, 10, 5)], [2, 1]),  # by waiting time
        ([(1, RE, 0.4, 10, 0), (2, RE, 0.3, 10, 24)], [2, 1]),  # a day doubles what counts
        ([(1, RE, 9.0, 10, 0), (2, RE, 0.01, 10, 24 * 7)], [2, 1]),  # a week is enough
        ([(1, RE, float("nan"), 10, 0), (2, RE, 0.01, 10, 0), (3, RE, -1.0, 10, 0)], [2, 1, 3]),
    ],
)
def test_the_queue_is_ordered_by_what_a_training_is_worth(
    rows: list[tuple[int, Want, float, float, float]], wanted_order: list[int]
) -> None:
    assert order(wanted(*rows)) == wanted_order


def test_weight_counts_like_saving() -> None:
    queue = wanted((1, RE, 0.4, 10, 0), (2, RE, 0.2, 10, 0))
    assert order(replace(queue, weight=np.array([1.0, 3.0]))) == [2, 1]


def test_every_wait_has_its_reason() -> None:
    queue = wanted(*[(stream, RE, 1.0, 10, 0) for stream in range(1, 7)])
    budget = Budget(cpu_s_per_hour=25.0, concurrent=5)
    made = plan(queue, Bucket.full(budget, START), budget, now=START, running=np.array([1]), left_s=np.array([3.0]))
    by_stream = {int(queue.stream_id[row]): WAITS[code] for row, code in zip(made.row, made.wait, strict=True)}
    assert by_stream == {
        1: Wait.STREAM_BUSY,
        2: Wait.NOTHING,
        3: Wait.NOTHING,
        4: Wait.BUDGET,
        5: Wait.BUDGET,
        6: Wait.SLOTS,
    }
    assert np.isnan(made.starts_in_s[0])


def test_nothing_cheap_overtakes_what_waits_for_budget() -> None:
    budget = Budget(cpu_s_per_hour=20.0, concurrent=4)
    made = planned(wanted((1, ASKED, 0, 20, 0), (2, RE, 1.0, 1, 0)), budget, bucket=Bucket(saved_s=19.5, at=START))
    assert [WAITS[code] for code in made.wait] == [Wait.BUDGET, Wait.BUDGET]
    assert made.starts_in_s.tolist() == pytest.approx([90.0, 270.0])


def test_one_that_would_fit_waits_behind_one_that_does_not() -> None:
    budget = Budget(cpu_s_per_hour=10.0, burst_s=10.0, concurrent=4)
    bucket = Bucket(saved_s=9.0, at=START)
    made = planned(wanted((1, ASKED, 0, 50, 0), (2, RE, 1.0, 1, 0)), budget, bucket=bucket)
    assert [WAITS[code] for code in made.wait] == [Wait.BUDGET, Wait.BUDGET]
    assert made.starts_in_s[0] == pytest.approx(360.0)


def test_a_training_dearer_than_the_burst_starts_from_a_full_bucket_and_is_owed() -> None:
    budget = Budget(cpu_s_per_hour=10.0, concurrent=2)
    made = planned(wanted((1, RE, 1.0, 25, 0), (2, RE, 0.1, 5, 0)), budget)
    assert made.starting.tolist() == [0]
    assert made.bucket.saved_s == pytest.approx(-15.0)
    assert made.starts_in_s[1] == pytest.approx(2 * 3600.0)


def test_without_a_budget_only_slots_count() -> None:
    made = planned(wanted(*[(stream, RE, 1.0, 10, 0) for stream in range(3)]), Budget(concurrent=2))
    assert [WAITS[code] for code in made.wait] == [Wait.NOTHING, Wait.NOTHING, Wait.SLOTS]
    assert made.starts_in_s.tolist() == [0.0, 0.0, 10.0]


def test_a_budget_of_nothing_starts_nothing_and_says_never() -> None:
    budget = Budget(cpu_s_per_hour=0.0, burst_s=5.0, concurrent=2)
    made = planned(wanted((1, RE, 1.0, 10, 0)), budget, bucket=Bucket(saved_s=0.0, at=START))
    assert made.starts_in_s.tolist() == [np.inf]


def test_what_a_training_really_cost_is_settled_up_to_the_burst() -> None:
    budget = Budget(cpu_s_per_hour=10.0)
    bucket = Bucket(saved_s=4.0, at=START)
    assert settle(bucket, budget, expected_s=3.0, actual_s=9.0).saved_s == pytest.approx(-2.0)
    assert settle(bucket, budget, expected_s=9.0, actual_s=1.0).saved_s == pytest.approx(10.0)
    assert settle(Bucket(saved_s=np.inf, at=START), Budget(), expected_s=3.0, actual_s=9.0).saved_s == np.inf


def test_time_that_goes_back_earns_nothing() -> None:
    budget = Budget(cpu_s_per_hour=10.0)
    bucket = Bucket(saved_s=0.0, at=START)
    assert planned(wanted(), budget, bucket=bucket, now=START - timedelta(hours=5)).bucket == bucket


def test_an_empty_queue_has_an_empty_plan() -> None:
    made = planned(wanted(), Budget(cpu_s_per_hour=10.0))
    assert len(made.row) == len(made.starting) == 0


def test_what_waits_starts_when_it_was_said_to() -> None:
    budget = Budget(cpu_s_per_hour=7.0, burst_s=30.0, concurrent=9)
    queue = wanted((1, RE, 1.0, 11.3, 0), (2, RE, 0.9, 13.7, 0), (3, RE, 0.8, 17.1, 0))
    made = planned(queue, budget, bucket=Bucket(saved_s=1.0, at=START))
    when = START + timedelta(seconds=float(made.starts_in_s[0]))
    assert planned(queue, budget, bucket=made.bucket, now=when).starting.tolist() == [0]
    assert planned(queue, budget, bucket=made.bucket, now=when - timedelta(seconds=1)).starting.tolist() == []


arrivals = st.lists(
    st.tuples(
        st.integers(0, 12),  # stream
        st.sampled_from(WANTS),
        st.floats(-1.0, 5.0) | st.just(float("nan")),  # saving
        st.floats(0.5, 40.0),  # cost
        st.integers(0, 40),  # quarter of an hour in which it becomes wanted
    ),
    max_size=25,
)
budgets = st.builds(
    Budget,
    cpu_s_per_hour=st.sampled_from([3.0, 20.0, 100.0]),
    burst_s=st.sampled_from([None, 5.0, 60.0]),
    concurrent=st.integers(1, 4),
    patience=st.sampled_from([timedelta(hours=1), timedelta(days=7)]),
)


def run_through(rows: list[tuple[int, Want, float, float, int]], budget: Budget) -> list[tuple[float, int, float]]:
    """Live through the arrivals: (hour of start, stream, cost); a CPU second takes 60 s, so that slots matter."""
    bucket, waiting, started = Bucket.full(budget, START), [], []
    running: list[tuple[int, float, float]] = []  # stream, hour of the end, CPU seconds
    for quarter in range(120):
        hour = quarter / 4
        running = [entry for entry in running if entry[1] > hour]
        waiting += [row for row in rows if row[4] == quarter]
        queue = wanted(*[(s, want, saving, cost, hour - at / 4) for s, want, saving, cost, at in waiting],
                       now=START + timedelta(hours=hour))  # fmt: skip
        made = plan(
            queue,
            bucket,
            budget,
            now=START + timedelta(hours=hour),
            running=np.array([entry[0] for entry in running], dtype=np.int64),
            left_s=np.array([entry[2] for entry in running]),
        )
        assert sorted(made.row.tolist()) == list(range(len(waiting)))  # nothing is lost
        bucket = made.bucket
        for row in made.starting.tolist():
            assert waiting[row][0] not in {entry[0] for entry in running}
            running.append((waiting[row][0], hour + waiting[row][3] / 60.0, waiting[row][3]))
            started.append((hour, waiting[row][0], waiting[row][3]))
        waiting = [row for position, row in enumerate(waiting) if position not in set(made.starting.tolist())]
        assert len(running) <= budget.concurrent
    return started


@given(rows=arrivals, budget=budgets)
@EXAMPLES
def test_the_budget_is_never_exceeded_over_any_window(
    rows: list[tuple[int, Want, float, float, int]], budget: Budget
) -> None:
    started = run_through(rows, budget)
    dearest = max((cost for _, _, cost in started), default=0.0)
    for first, _, _ in started:
        for last, _, _ in started:
            within = sum(cost for hour, _, cost in started if first <= hour <= last)
            assert within <= max(budget.limit_s, dearest) + budget.cpu_s_per_hour * max(last - first, 0.0) + 1e-4


@given(rows=arrivals, budget=budgets)
@EXAMPLES
def test_a_replay_starts_the_same_trainings(rows: list[tuple[int, Want, float, float, int]], budget: Budget) -> None:
    assert run_through(rows, budget) == run_through(rows, budget)


@given(rows=arrivals, seed=st.integers(0, 99))
@EXAMPLES
def test_the_order_does_not_depend_on_how_the_rows_are_arranged(
    rows: list[tuple[int, Want, float, float, int]], seed: int
) -> None:
    one_each = list({row[0]: row for row in rows}.values())
    mixed = [one_each[i] for i in np.random.default_rng(seed).permutation(len(one_each))]
    assert order(wanted(*one_each)) == order(wanted(*mixed))


@given(rows=arrivals, budget=budgets)
@EXAMPLES
def test_expected_starts_follow_the_order(rows: list[tuple[int, Want, float, float, int]], budget: Budget) -> None:
    made = planned(wanted(*rows), budget)
    known = made.starts_in_s[~np.isnan(made.starts_in_s)]
    assert (np.diff(known) >= 0.0).all()
    free = made.wait != WAITS.index(Wait.STREAM_BUSY)
    assert (np.diff((made.wait[free] != 0).astype(int)) >= 0).all()  # nobody starts behind one that waits
