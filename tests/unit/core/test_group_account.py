"""The account of a group: one debt of many streams, by the arithmetic of a stream's account."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.account import FRESH_BATCHES, LARGEST_EXCESS, SMALLEST_SHARE, Account
from mlma.core.group_account import GroupAccount

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
NAN = float("nan")
loss = st.just(0.0) | st.floats(1e-6, 1e6) | st.just(NAN)


def lived(model: object, *, n_streams: int = 4, n_batches: int = 20, share: float = 0.4) -> GroupAccount:
    """Account after batches in which the yardstick loses 1 and the model what a function of its age says."""
    account = GroupAccount(streams=Account.empty(n_streams))
    member = np.ones(n_streams, dtype=np.bool_)
    for age in range(1, n_batches + 1):
        mine = np.broadcast_to(np.asarray(model(age), dtype=np.float64), n_streams)  # type: ignore[operator]
        account = account.after(mine, np.ones(n_streams), mine, np.full(n_streams, share), member, age=age)
    return account


@EXAMPLES
@given(st.lists(st.tuples(st.lists(loss, min_size=9, max_size=9), st.integers(1, 9)), max_size=12))
def test_the_debt_is_finite_and_never_negative(batches: list[tuple[list[float], int]]) -> None:
    account, member = GroupAccount(streams=Account.empty(3)), np.array([True, True, False])
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
    account = GroupAccount(streams=Account.empty(2))
    member = np.array([True, False])
    for age in range(1, 10):
        wild = np.array([1.0, 50.0 if age > FRESH_BATCHES else 1.0])
        account = account.after(wild, np.ones(2), wild, np.full(2, 0.5), member, age=age)
    assert account.debt == 0.0
    assert account.streams.fresh_n.tolist() == [FRESH_BATCHES, 0.0]


def test_an_empty_group_never_pays() -> None:
    assert not GroupAccount(streams=Account.empty(2)).pays(0.0, np.zeros(2, dtype=np.bool_))


def test_what_is_recorded_gives_the_same_account_again() -> None:
    account = lived(lambda age: 1.0 + 0.05 * age)
    found = GroupAccount.from_columns(account.columns("group:all:") | {"debt": np.ones(4)}, "group:all:")
    assert found.debt == account.debt > 0.0
    for name, value in account.streams.arrays().items():
        if name != "debt":
            np.testing.assert_array_equal(found.streams.arrays()[name], value)
    grown = found.grown(6)
    assert grown.debt == account.debt
    assert len(grown.streams.debt) == 6
    assert GroupAccount.from_columns({}, "group:all:").debt == 0.0
