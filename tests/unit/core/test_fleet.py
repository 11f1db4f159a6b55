"""The fleet's rules against scipy, by hand, by their properties, and by the rates that they promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats
from scipy.special import ndtr

from mlma.core.fleet import HALF_SPENT, OnlineFdr, alarms, log_e_of, online_alarms
from mlma.core.settings import FleetRule

ALL = list(FleetRule)
FINITE = st.floats(0.0, 1.0) | st.floats(0.0, 1e-3)  # most draws of the first kind would never alarm
P_VALUES = arrays(np.float64, st.integers(1, 30), elements=FINITE | st.just(float("nan")))


def _all_ready(p):
    return np.ones(len(p), dtype=bool)


def _alarms(p, rule, alpha=0.05):
    return alarms(p, ready=_all_ready(p), alpha=alpha, rule=rule)


def _after(batches, alpha=0.05):
    """What the online rule remembers after the batches of p-values."""
    online = OnlineFdr()
    for p in batches:
        online = online_alarms(p, ready=_all_ready(p), alpha=alpha, online=online).after
    return online


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(("rule", "method"), [(FleetRule.BH, "bh"), (FleetRule.BY, "by")])
def test_bh_and_by_agree_with_scipy(alpha, rule, method):
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.random(40) ** rng.uniform(1.0, 8.0)
        expected = stats.false_discovery_control(p, method=method) <= alpha
        assert _alarms(p, rule, alpha).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FleetRule.NONE, [True, True, True, False, False]),
        (FleetRule.BONFERRONI, [True, False, False, False, False]),
        (FleetRule.BH, [True, True, True, False, False]),
        (FleetRule.BY, [True, False, False, False, False]),
        (FleetRule.E_BH, [False, False, False, False, False]),
        (FleetRule.ONLINE, [False, False, False, False, False]),
    ],
)
def test_rule_turns_p_values_into_alarms(rule, expected):
    assert _alarms(np.array([0.004, 0.02, 0.03, 0.2, 0.9]), rule).tolist() == expected


@pytest.mark.parametrize("rule", ALL)
def test_streams_that_are_not_ready_neither_alarm_nor_count(rule):
    p = np.array([0.02, 0.001, np.nan, 1e-6])
    ready = np.array([True, False, True, True])
    ours = alarms(p, ready=ready, alpha=0.05, rule=rule)
    alone = _alarms(p[[0, 3]], rule)
    assert ours[[0, 3]].tolist() == alone.tolist()
    assert alone.any()
    assert not ours[1]
    assert not ours[2]


@pytest.mark.parametrize("rule", ALL)
def test_no_tested_stream_gives_no_alarm(rule):
    assert not _alarms(np.full(3, np.nan), rule).any()
    assert _alarms(np.empty(0), rule).shape == (0,)


@pytest.mark.parametrize("rule", ALL)
def test_zero_is_the_strongest_p_value_and_one_the_weakest(rule):
    assert _alarms(np.array([0.0, 1.0]), rule).tolist() == [True, False]


@given(p=P_VALUES, rule=st.sampled_from(ALL), data=st.data())
def test_more_evidence_never_loses_an_alarm(p, rule, data):
    share = data.draw(arrays(np.float64, len(p), elements=st.floats(0.0, 1.0)))
    before = _alarms(p, rule, 0.2)
    after = _alarms(p * share, rule, 0.2)
    assert not np.any(before & ~after)


@given(p=P_VALUES, rule=st.sampled_from(ALL), data=st.data())
def test_order_of_the_streams_never_matters(p, rule, data):
    order = np.array(data.draw(st.permutations(range(len(p)))))
    assert _alarms(p[order], rule, 0.2).tolist() == _alarms(p, rule, 0.2)[order].tolist()


@given(p=P_VALUES, rule=st.sampled_from(ALL), data=st.data())
def test_only_tested_streams_that_are_ready_alarm(p, rule, data):
    ready = data.draw(arrays(np.bool_, len(p)))
    ours = alarms(p, ready=ready, alpha=0.2, rule=rule)
    assert not np.any(ours & (~ready | np.isnan(p)))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (FleetRule.BONFERRONI, FleetRule.BH),
        (FleetRule.BY, FleetRule.BH),
        (FleetRule.E_BH, FleetRule.BH),
        (FleetRule.ONLINE, FleetRule.BH),
        (FleetRule.BH, FleetRule.NONE),
    ],
)
@given(p=P_VALUES)
def test_alarms_of_one_rule_are_among_those_of_another(narrow, wide, p):
    assert not np.any(_alarms(p, narrow, 0.2) & ~_alarms(p, wide, 0.2))


@given(past=st.lists(P_VALUES, max_size=6), p=P_VALUES)
def test_online_alarms_are_among_those_of_bh_whatever_came_before(past, p):
    ours = online_alarms(p, ready=_all_ready(p), alpha=0.2, online=_after(past, 0.2)).alarms
    assert not np.any(ours & ~_alarms(p, FleetRule.BH, 0.2))


def test_calibrated_p_values_are_e_values():
    mass, error = integrate.quad(lambda u: np.exp(log_e_of(np.array([np.exp(-u)]))[0] - u), 2.0, np.inf)
    assert mass == pytest.approx(1.0, abs=1e-6)
    assert error < 1e-6
    assert np.all(log_e_of(np.array([0.2, 1.0])) == -np.inf)
    assert log_e_of(np.array([0.0]))[0] == np.inf
    assert np.isnan(log_e_of(np.array([np.nan]))[0])


def test_e_bh_takes_e_values_as_they_are():
    log_e = np.log([60.0, 45.0, 1e-300, 20.0])
    p = np.array([np.nan, 0.9, 0.9, 0.9])  # not looked at
    ours = alarms(p, ready=_all_ready(p), alpha=0.05, rule=FleetRule.E_BH, log_e=log_e)
    # 4 tests: the two largest need 4 / (0.05 * 2) = 40 and have it; three would need 26.7.
    assert ours.tolist() == [True, True, False, False]
    without = alarms(p, ready=_all_ready(p), alpha=0.05, rule=FleetRule.E_BH, log_e=np.array([np.inf, *[np.nan] * 3]))
    assert without.tolist() == [True, False, False, False]


def _naive_online(batches, alpha):
    """Batch-BH word by word from its definition: every batch is kept, R+ by trying each p-value as 0."""

    def rejected(p, level):
        ranks = np.arange(1, len(p) + 1)
        return max((int(k) for k, x in zip(ranks, np.sort(p), strict=True) if x <= level * k / len(p)), default=0)

    level, number, most = [], [], []
    for t, p in enumerate(batches, start=1):
        spent = sum(a * m / (m + sum(number) - r) for a, r, m in zip(level, number, most, strict=True))
        level.append(min(alpha, (alpha * t / (t + HALF_SPENT) - spent) * (len(p) + sum(number)) / len(p)))
        number.append(rejected(p, level[-1]))
        most.append(max(rejected(np.where(np.arange(len(p)) == i, 0.0, p), level[-1]) for i in range(len(p))))
        yield number[-1]


def test_online_rule_agrees_with_its_definition():
    rng = np.random.default_rng(2)
    for _ in range(20):
        batches = [ndtr(-rng.standard_normal(12) - 3.0 * (rng.random(12) < 0.3)) for _ in range(25)]
        online = OnlineFdr()
        for p, expected in zip(batches, _naive_online(batches, 0.1), strict=True):
            step = online_alarms(p, ready=_all_ready(p), alpha=0.1, online=online)
            online = step.after
            assert np.count_nonzero(step.alarms) == expected


def test_online_state_survives_being_written():
    rng = np.random.default_rng(3)
    online = _after([rng.random(20) ** 4 for _ in range(30)])
    again = OnlineFdr.from_arrays(online.arrays())
    p = rng.random(20) ** 4
    one = online_alarms(p, ready=_all_ready(p), alpha=0.05, online=online)
    two = online_alarms(p, ready=_all_ready(p), alpha=0.05, online=again)
    assert one.alarms.tolist() == two.alarms.tolist()
    for name, values in one.after.arrays().items():
        np.testing.assert_array_equal(two.after.arrays()[name], values)


def test_batch_without_a_test_changes_nothing_of_the_online_rule():
    online = _after([np.array([1e-6, 0.5])])
    p = np.full(2, np.nan)
    assert online_alarms(p, ready=_all_ready(p), alpha=0.05, online=online).after is online


def test_online_rule_outlives_an_alpha_that_was_lowered():
    online = _after([np.array([0.3, 0.5])] * 30, alpha=0.2)
    for _ in range(3):
        step = online_alarms(np.array([0.3, 1e-12]), ready=np.ones(2, dtype=bool), alpha=0.001, online=online)
        online = step.after
    assert not step.alarms.any()  # what was spent at 0.2 is gone
    assert np.all(np.isfinite(online.weight))


def test_online_memory_does_not_grow_with_the_batches():
    rng = np.random.default_rng(4)
    online = _after(ndtr(-rng.standard_normal(200) - 4.0 * (rng.random(200) < 0.02)) for _ in range(1_000))
    assert online.n_batches == 1_000
    assert online.n_alarms > 1_000
    assert len(online.slack) <= 8


@pytest.mark.parametrize(("n_rising", "rise"), [(1, 8.0), (20, 7.0)])
def test_strong_signal_is_found_after_a_thousand_healthy_batches(n_rising, rise):
    rng = np.random.default_rng(5)
    online = _after(rng.random(1_000) for _ in range(1_000))
    z = rng.standard_normal(1_000)
    z[:n_rising] += rise
    p = ndtr(-z)
    ours = online_alarms(p, ready=_all_ready(p), alpha=0.05, online=online).alarms
    assert np.mean(ours[:n_rising]) >= 0.9
    assert not ours[n_rising:].any()


def _life(rng, *, alpha, n_streams, n_batches, share_of_batches, share_of_streams, rise):
    """Share of false alarms, and of changes found, over one life of a fleet under ONLINE and under BH."""
    online, false, found, changed = OnlineFdr(), np.zeros(2), np.zeros(2), 0
    for _ in range(n_batches):
        is_changed = (rng.random(n_streams) < share_of_streams) & (rng.random() < share_of_batches)
        p = ndtr(-rng.standard_normal(n_streams) - rise * is_changed)
        online_now, online = online_alarms(p, ready=_all_ready(p), alpha=alpha, online=online)
        for i, now in enumerate((online_now, _alarms(p, FleetRule.BH, alpha))):
            false[i] += np.count_nonzero(now & ~is_changed)
            found[i] += np.count_nonzero(now & is_changed)
        changed += np.count_nonzero(is_changed)
    return false / np.maximum(false + found, 1), found / max(changed, 1)


@pytest.mark.parametrize(
    ("share_of_batches", "share_of_streams", "rise"), [(0.0, 0.0, 0.0), (0.05, 0.02, 4.0), (0.2, 0.05, 3.5)]
)
def test_online_false_discovery_rate_holds_over_200_batches_where_bh_fails(share_of_batches, share_of_streams, rise):
    rng, alpha, n_lives = np.random.default_rng(6), 0.1, 60
    lives = [
        _life(
            rng,
            alpha=alpha,
            n_streams=100,
            n_batches=200,
            share_of_batches=share_of_batches,
            share_of_streams=share_of_streams,
            rise=rise,
        )
        for _ in range(n_lives)
    ]
    rates = np.array([rate for rate, _ in lives])
    found = np.array([share for _, share in lives]).mean(axis=0)
    error = rates[:, 0].std(ddof=1) / np.sqrt(n_lives)
    assert rates[:, 0].mean() <= alpha + 2.0 * error  # one-sided, 2.3 % of correct rules would fail it; seeded
    assert rates[:, 1].mean() > 1.2 * alpha  # the share over a life is not what BH per batch promises
    if rise > 0.0:
        assert found[0] > 0.4 * found[1]


def test_online_alarms_do_not_depend_on_how_streams_are_ordered_in_the_past():
    rng = np.random.default_rng(7)
    batches = [rng.random(10) ** 5 for _ in range(5)]
    p = rng.random(10) ** 5
    results = [
        online_alarms(p, ready=_all_ready(p), alpha=0.1, online=_after([b[list(order)] for b in batches], 0.1)).alarms
        for order in itertools.islice(itertools.permutations(range(10)), 0, 2_000, 400)
    ]
    assert all(result.tolist() == results[0].tolist() for result in results)
