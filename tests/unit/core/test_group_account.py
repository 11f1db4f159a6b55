"""The account of a group: one debt of many streams, by the arithmetic of a stream's account."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.account import FRESH_BATCHES, LARGEST_EXCESS, SMALLEST_SHARE
from mlma.core.group_account import GroupAccount, Usual

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
NAN = float("nan")
loss = st.just(0.0) | st.floats(1e-6, 1e6) | st.just(NAN)


def lived(
    model: object, *, n_streams: int = 4, n_batches: int = 20, share: float = 0.4, fresh_for: int = FRESH_BATCHES
) -> GroupAccount:
    """Account after batches in which the yardstick loses 1 and the model what a function of its age says."""
    account = GroupAccount().grown(n_streams)
    member = np.ones(n_streams, dtype=np.bool_)
    for age in range(1, n_batches + 1):
        mine = np.broadcast_to(np.asarray(model(age), dtype=np.float64), n_streams)  # type: ignore[operator]
        one, of = np.ones(n_streams), np.full(n_streams, share)
        account = account.after(mine, one, mine, of, member, age=age, fresh_for=fresh_for)
    return account


@EXAMPLES
@given(st.lists(st.tuples(st.lists(loss, min_size=9, max_size=9), st.integers(1, 9)), max_size=12))
def test_the_debt_is_finite_and_never_negative(batches: list[tuple[list[float], int]]) -> None:
    account, member = GroupAccount().grown(3), np.array([True, True, False])
    for losses, age in batches:
        before = account.debt
        model, yardstick, served = np.asarray(losses).reshape(3, 3)
        account = account.after(model, yardstick, served, np.full(3, 0.5), member, age=age)
        assert np.isfinite(account.debt)
        assert 0.0 <= account.debt <= before + LARGEST_EXCESS


def test_a_model_that_does_not_age_owes_nothing() -> None:
    assert lived(lambda age: 0.9, n_batches=50).debt == 0.0


def test_a_model_that_ages_on_all_streams_comes_to_pay() -> None:
    account = lived(lambda age: 1.0 if age <= FRESH_BATCHES else 1.3, n_batches=6)
    assert account.debt > 0.1
    assert account.pays(0.1, np.ones(4, dtype=np.bool_))
    assert not account.pays(account.debt, np.ones(4, dtype=np.bool_))
    assert account.settled().debt == 0.0


def test_one_bad_stream_of_many_counts_by_its_part() -> None:
    def one_bad(age: int) -> np.ndarray:
        return np.where(np.arange(40) == 0, 1.0 if age <= FRESH_BATCHES else 1.3, 1.0)

    assert lived(one_bad, n_streams=40).debt < lived(lambda age: one_bad(age)[0], n_streams=40).debt / 20


def test_no_training_pays_where_the_rest_of_the_pool_carries_the_blend() -> None:
    account = lived(lambda age: 1.0 if age <= FRESH_BATCHES else 2.0, share=0.9 * SMALLEST_SHARE)
    assert account.debt > 0.1
    assert not account.pays(0.0, np.ones(4, dtype=np.bool_))


def test_streams_of_others_do_not_count() -> None:
    account = GroupAccount().grown(2)
    member = np.array([True, False])
    for age in range(1, 10):
        wild = np.array([1.0, 50.0 if age > FRESH_BATCHES else 1.0])
        account = account.after(wild, np.ones(2), wild, np.full(2, 0.5), member, age=age)
    assert account.debt == 0.0
    assert account.streams.fresh_n.tolist() == [FRESH_BATCHES, 0.0]


def test_an_empty_group_never_pays() -> None:
    assert not GroupAccount().grown(2).pays(0.0, np.zeros(2, dtype=np.bool_))


def test_what_is_recorded_gives_the_same_account_again() -> None:
    account = lived(lambda age: 1.0 + 0.05 * age)
    found = GroupAccount.from_columns(account.columns("group:all:") | {"debt": np.ones(4)}, "group:all:")
    assert found.debt == account.debt > 0.0
    for name, value in account.usual.arrays().items():
        np.testing.assert_array_equal(found.usual.arrays()[name], value)
    assert found.usual.n == FRESH_BATCHES
    for name, value in account.streams.arrays().items():
        if name != "debt":
            np.testing.assert_array_equal(found.streams.arrays()[name], value)
    grown = found.grown(6)
    assert grown.debt == account.debt
    assert len(grown.streams.debt) == len(grown.usual.model) == 6
    assert grown.usual.ratio(np.ones(6)) == account.usual.ratio(np.ones(4)) != 1.0
    assert GroupAccount.from_columns({}, "group:all:").debt == 0.0


def test_a_record_from_before_the_usual_ratio_was_kept_starts_over_and_learns_it_from_the_next_batches() -> None:
    columns = lived(lambda age: 1.0 + 0.05 * age).columns("group:all:")
    old = {name: value for name, value in columns.items() if ":usual_" not in name}
    account, member, one = GroupAccount.from_columns(old, "group:all:"), np.ones(4, dtype=np.bool_), np.ones(4)
    assert account.debt == 0.0
    assert account.streams.loss_n.tolist() == [20.0] * 4
    for age in range(21, 21 + FRESH_BATCHES):
        account = account.after(2.0 * one, one, one, 0.4 * one, member, age=age)
    assert account.debt == 0.0
    assert account.usual.ratio(one) == pytest.approx(2.0)
    assert account.after(2.5 * one, one, one, 0.4 * one, member, age=30).debt > 0.1


@pytest.mark.parametrize("days", [{1: 0.3}, {3: 0.3}, {2: 3.0}, {1: 0.2, 3: 0.3, 7: 3.0}])
def test_a_single_special_day_is_not_taken_for_what_is_usual(days: dict[int, float]) -> None:
    account = lived(lambda age: days.get(age, 0.9), n_batches=60, fresh_for=7)
    assert account.usual.ratio(np.ones(4)) == pytest.approx(0.9)
    assert account.debt == 0.0


def test_streams_on_which_the_model_mostly_loses_next_to_nothing_are_no_sign_of_age() -> None:
    rng, n_streams = np.random.default_rng(0), 200
    account, member = GroupAccount().grown(n_streams), np.ones(n_streams, dtype=np.bool_)
    worst = 0.0
    for age in range(1, 101):
        is_event = rng.random(n_streams) < 0.1  # on the other days nothing happens, and the model knows it best
        yardstick, model = np.where(is_event, 1.0, 0.02), np.where(is_event, rng.uniform(0.5, 1.5, n_streams), 0.002)
        account = account.after(model, yardstick, yardstick, np.full(n_streams, 0.5), member, age=age, fresh_for=7)
        worst = max(worst, account.debt)
    assert worst < 0.1


def test_a_wild_loss_of_one_stream_speaks_for_nobody_else() -> None:
    account = lived(lambda age: 1.0, n_streams=40)
    wild = np.where(np.arange(40) == 0, 1e9, 1.0)
    one, member = np.ones(40), np.ones(40, dtype=np.bool_)
    assert account.after(wild, one, one, 0.4 * one, member, age=21).debt < 0.1


def test_of_five_batches_the_lowest_and_the_highest_ratio_are_left_out_and_of_fewer_none() -> None:
    usual, one = Usual.empty(1), np.ones(1)
    assert usual.ratio(one) == 1.0
    found = []
    for lost in (0.8, 0.2, 0.9, 5.0, 0.7):
        usual = usual.after(lost * one, one, float(np.log(lost)))
        found.append(usual.ratio(one))
    assert found == pytest.approx([0.8, 0.5, 1.9 / 3, 6.9 / 4, 0.8])


def test_a_group_learns_what_is_usual_in_the_units_that_are_known_last() -> None:
    usual = Usual.empty(2).after(np.array([1.0, 30.0]), np.array([2.0, 10.0]), 0.0)
    assert usual.ratio(np.array([1.0, 0.0])) == 0.5
    assert usual.ratio(np.array([1.0, 1.0])) == pytest.approx(31 / 12)
