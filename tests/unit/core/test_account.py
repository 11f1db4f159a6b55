"""What age has cost: hard days cost nothing, slow ageing is found, and what is paid starts over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.account import FRESH_BATCHES, LARGEST_EXCESS, SLACK, SMALLEST_SHARE, Account

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
NAN = float("nan")

loss = st.floats(0.0, 1e6) | st.just(NAN)


def after(
    account: Account, versions: object, yardstick: object, *, age: int, share: float = 0.6, alone: bool = False
) -> Account:
    """One more batch in which the versions serve."""
    n = len(account.debt)
    made = [np.broadcast_to(np.asarray(values, dtype=np.float64), n) for values in (versions, yardstick)]
    return account.after(made[0], made[1], made[0], np.full(n, share), np.full(n, age), alone=alone)


def lived(versions: object, *, n_batches: int, n_streams: int = 1, alone: bool = False, share: float = 0.6) -> Account:
    """Account after batches in which the yardstick loses 1 and the versions what a function of age says."""
    account = Account.empty(n_streams)
    for age in range(1, n_batches + 1):
        account = after(account, versions(age), 1.0, age=age, alone=alone, share=share)  # type: ignore[operator]
    return account


def same(one: Account, other: Account) -> None:
    for name, value in one.arrays().items():
        np.testing.assert_array_equal(value, other.arrays()[name], err_msg=name)


@EXAMPLES
@given(
    st.lists(st.tuples(loss, loss, loss, st.floats(0.0, 1.0), st.integers(-3, 40)), max_size=20),
    st.booleans(),
)
def test_debt_is_finite_and_never_negative(batches: list[tuple[float, ...]], alone: bool) -> None:
    account = Account.empty(1)
    for versions, yardstick, served, share, age in batches:
        before = account.debt[0]
        values = [np.array([value]) for value in (versions, yardstick, served, share)]
        account = account.after(*values, np.array([int(age)]), alone=alone)
        assert np.isfinite(account.debt).all()
        assert 0.0 <= account.debt[0] <= before + LARGEST_EXCESS
        assert 0.0 <= account.share()[0] <= 1.0


def test_a_fresh_fleet_owes_nothing_and_nothing_pays() -> None:
    account = Account.empty(3)
    assert not account.debt.any()
    for alone in (False, True):
        assert not account.pays(0.0, alone=alone).any()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("level", [1.0, 3.0, 0.2])
def test_versions_that_do_not_age_never_owe_anything_however_good_they_are(level: float, alone: bool) -> None:
    account = Account.empty(2)
    for age in range(1, 60):
        account = after(account, level, 1.0, age=age, alone=alone)
        assert not account.debt.any(), age


@pytest.mark.parametrize("alone", [False, True])
def test_hard_days_that_move_both_cost_nothing(alone: bool) -> None:
    account, hard = Account.empty(1), Account.empty(1)
    rng = np.random.default_rng(1)
    for age in range(1, 60):
        factor = rng.lognormal(0.0, 1.0)
        account = after(account, 1.0, 1.0, age=age, alone=alone)
        hard = after(hard, factor, factor, age=age, alone=alone)
    assert account.debt[0] == hard.debt[0] == 0.0


@pytest.mark.parametrize("alone", [False, True])
def test_a_hard_spell_after_ageing_does_not_decide_by_itself(alone: bool) -> None:
    account = lived(lambda age: 1.0 if age <= FRESH_BATCHES else 1.1, n_batches=5, alone=alone)
    worse = after(account, 110.0, 100.0, age=6, alone=alone)
    assert worse.debt[0] - account.debt[0] <= LARGEST_EXCESS


@pytest.mark.parametrize("alone", [False, True])
def test_slow_ageing_pays_in_the_end_and_the_sooner_the_cheaper_a_training_is(alone: bool) -> None:
    def age_at_which_it_pays(price: float) -> int:
        account = Account.empty(1)
        for age in range(1, 200):
            account = after(account, 1.0 + 0.02 * max(0, age - FRESH_BATCHES), 1.0, age=age, alone=alone)
            if account.pays(price, alone=alone)[0]:
                return age
        raise AssertionError(price)

    found = [age_at_which_it_pays(price) for price in (0.1, 0.3, 1.0)]
    assert found == sorted(found)
    assert FRESH_BATCHES < found[0] <= found[1] < found[2]


def test_one_wild_batch_adds_no_more_than_is_allowed() -> None:
    account = lived(lambda _: 1.0, n_batches=10)
    wild = after(account, 1e9, 1.0, age=11)
    assert wild.debt[0] - account.debt[0] <= LARGEST_EXCESS * account.share()[0]
    assert not wild.pays(0.3, alone=False).any()


def test_less_than_the_slack_is_noise() -> None:
    fresh = FRESH_BATCHES + 1
    account = lived(lambda age: 1.0 if age < fresh else 1.0 + 0.9 * SLACK, n_batches=100)
    assert account.debt[0] == 0.0


@pytest.mark.parametrize("missing", ["versions", "yardstick", "served"])
def test_a_batch_without_a_number_changes_nothing(missing: str) -> None:
    account = lived(lambda age: 1.0 + 0.1 * age, n_batches=8)
    values = {name: np.array([NAN if name == missing else 1.0]) for name in ("versions", "yardstick", "served")}
    same(account.after(**values, share=np.array([0.5]), age=np.array([9]), alone=False), account)


def test_a_stream_without_numbers_changes_nothing_for_the_others() -> None:
    alone, beside = Account.empty(1), Account.empty(2)
    for age in range(1, 12):
        alone = after(alone, 1.0 + 0.05 * age, 1.0, age=age)
        beside = after(beside, [1.0 + 0.05 * age, NAN], 1.0, age=age)
    for name, value in alone.arrays().items():
        assert value[0] == beside.arrays()[name][0], name
    assert beside.debt[1] == 0.0


@EXAMPLES
@given(st.integers(-100, 100), st.integers(0, 1000))
def test_the_unit_of_a_stream_changes_no_debt(power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    series, unit = rng.uniform(0.5, 2.0, (10, 2, 1)), 2.0**power
    plain, scaled = Account.empty(1), Account.empty(1)
    for age, (versions, yardstick) in enumerate(series, start=1):
        plain = after(plain, versions, yardstick, age=age)
        scaled = after(scaled, unit * versions, unit * yardstick, age=age)
    np.testing.assert_allclose(scaled.debt, plain.debt, rtol=1e-9, atol=1e-12)


def test_a_training_settles_the_debt_of_its_stream_only() -> None:
    account = lived(lambda age: 1.0 + 0.1 * age, n_batches=10, n_streams=2)
    settled = account.settled(np.array([True, False]))
    assert settled.debt[0] == 0.0
    assert settled.debt[1] == account.debt[1] > 0.0
    same(settled.settled(np.array([True, False])), settled)  # twice is once
    for name in set(account.arrays()) - {"debt"}:
        np.testing.assert_array_equal(settled.arrays()[name], account.arrays()[name])


@EXAMPLES
@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.booleans())
def test_a_dearer_training_never_pays_where_a_cheaper_one_does_not(
    debts: list[float], one: float, other: float, alone: bool
) -> None:
    account = Account.of(Account.empty(len(debts)).arrays() | {"debt": np.array(debts)})
    account = Account.of(
        account.arrays() | {"share_sum": np.full(len(debts), 5.0), "share_n": np.full(len(debts), 5.0)}
    )
    cheap, dear = (account.pays(price, alone=alone) for price in sorted([one, other]))
    assert not (dear & ~cheap).any()


def test_in_a_blend_that_hardly_listens_to_versions_no_training_pays() -> None:
    def grown(share: float) -> Account:
        return lived(lambda age: 1.0 + 0.3 * age, n_batches=60, share=share)

    assert grown(SMALLEST_SHARE + 0.05).pays(0.1, alone=False).all()
    assert not grown(SMALLEST_SHARE - 0.05).pays(0.1, alone=False).any()


def test_one_stream_without_fresh_batches_of_its_own_is_judged_by_the_fleet() -> None:
    account = Account.empty(2)
    for age in range(1, 4):
        account = after(account, [2.0, NAN], 1.0, age=age, share=0.9)
    assert account.share()[1] == pytest.approx(account.share()[0])
    assert after(account, [2.0, 2.0], 1.0, age=9).debt[1] == 0.0  # twice the yardstick's loss is usual here


def test_an_account_grows_with_the_fleet_and_survives_being_written_down() -> None:
    account = lived(lambda age: 1.0 + 0.1 * age, n_batches=9, n_streams=2)
    grown = account.grown(5)
    for name, value in account.arrays().items():
        np.testing.assert_array_equal(grown.arrays()[name][:2], value)
        assert not grown.arrays()[name][2:].any()
    same(Account.of(grown.arrays()), grown)
    same(account.grown(2), account)


def test_versions_that_are_better_on_one_weekday_alone_do_not_age() -> None:
    def debt(fresh_for: int) -> float:
        account = Account.empty(1)
        for age in range(1, 29):
            made, ages = np.array([0.7 if age % 7 == 1 else 1.0]), np.array([age])
            account = account.after(made, np.ones(1), made, np.full(1, 0.6), ages, alone=False, fresh_for=fresh_for)
        return float(account.debt[0])

    assert debt(3) > 0.3  # the good day is a third of what counts as usual
    assert debt(7) < 0.1
