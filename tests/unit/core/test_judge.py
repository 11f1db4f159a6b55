"""Verdicts as a decision table, and two p-values of one batch as one."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mlma.core.blocks import REASONS
from mlma.core.decisions import Reason
from mlma.core.judge import Findings, either, verdict

NAN = float("nan")
FEW = settings(max_examples=30, deadline=None)


def findings(**more):
    """A stream whose loss rose by half, significantly, against both references."""
    one = {
        "p_adaptive": 0.001, "p_anchored": 0.001, "effect": 0.5, "significant": True, "ready": True, "has_value": True,
        "bad": False, "in_incident": False,
    } | more  # fmt: skip
    armed = bool(one.pop("armed", True))
    known = {field.name for field in fields(Findings)}
    return Findings(armed=armed, **{name: np.array([value]) for name, value in one.items() if name in known})


TABLE = [
    pytest.param({}, Reason.ALARM_BOTH, True, id="both references"),
    pytest.param({"p_adaptive": 0.9}, Reason.ALARM_ANCHORED, True, id="anchored"),
    pytest.param({"p_adaptive": NAN}, Reason.ALARM_ANCHORED, True, id="anchored alone"),
    pytest.param({"p_anchored": 0.9}, Reason.ALARM_ADAPTIVE, True, id="adaptive"),
    pytest.param({"p_anchored": NAN}, Reason.ALARM_ADAPTIVE, True, id="adaptive alone"),
    pytest.param({"p_adaptive": 0.3, "p_anchored": 0.1, "p_accumulated": 0.01}, Reason.ALARM_ACCUMULATED, True,
                 id="several batches"),
    pytest.param({"p_adaptive": 0.01, "p_anchored": 0.1, "p_accumulated": 0.01}, Reason.ALARM_ADAPTIVE, True,
                 id="several batches, and the newest alone"),
    pytest.param({"effect": 0.049}, Reason.SMALL_EFFECT, False, id="small"),
    pytest.param({"effect": 0.05}, Reason.ALARM_BOTH, True, id="at the floor"),
    pytest.param({"significant": False}, Reason.WITHIN_REFERENCE, False, id="within"),
    pytest.param({"significant": False, "in_incident": True}, Reason.INCIDENT, False, id="incident"),
    pytest.param({"in_incident": True}, Reason.ALARM_BOTH, True, id="worse than its incident"),
    pytest.param({"armed": False}, Reason.UNCERTIFIED, False, id="not armed"),
    pytest.param({"armed": False, "effect": 0.01}, Reason.SMALL_EFFECT, False, id="not armed, and small"),
    pytest.param({"armed": False, "significant": False}, Reason.WITHIN_REFERENCE, False, id="not armed, and within"),
    pytest.param({"p_adaptive": NAN, "p_anchored": NAN, "ready": False}, Reason.NOT_READY, False, id="not ready"),
    pytest.param({"p_adaptive": NAN, "p_anchored": NAN, "ready": False, "has_value": False, "significant": False},
                 Reason.NO_OUTCOMES, False, id="no outcomes"),
    pytest.param({"p_adaptive": NAN, "p_anchored": NAN, "ready": False, "bad": True, "significant": False},
                 Reason.BAD_DATA, False, id="bad data"),
    pytest.param({"p_adaptive": NAN, "p_anchored": NAN, "ready": False, "bad": True, "has_value": False,
                  "significant": False}, Reason.BAD_DATA, False, id="bad data without outcomes"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "reason", "alarms"), TABLE)
def test_the_first_reason_that_applies_is_named(more, reason, alarms):
    alarm, code = verdict(findings(**more), alpha=0.05, effect_floor=0.05)
    assert REASONS[code[0]] is reason
    assert bool(alarm[0]) is alarms


def test_the_table_has_a_row_for_every_reason_that_a_test_can_give():
    others = {
        Reason.NO_VERSION, Reason.DEBT, Reason.CALENDAR, Reason.ALWAYS, Reason.MODEL_FAILED,  # policies
        Reason.TRIGGERED,
        Reason.REQUESTED, Reason.BACK_TO_TIME,  # orders
        Reason.FIRST_VERSION, Reason.LATEST_SERVES, Reason.JOINED_POOL, Reason.IN_SHADOW,  # trainings
        Reason.DID_BETTER, Reason.BEAT_CHAMPION,
        Reason.NOT_BETTER,
        Reason.TRAINING_FAILED,
    }  # fmt: skip
    assert {row.values[1] for row in TABLE} == set(Reason) - others


def test_an_empty_fleet_gives_an_empty_verdict():
    nothing = {name: np.empty(0) for name in ("p_adaptive", "p_anchored", "effect")}
    none = {name: np.empty(0, dtype=bool) for name in ("significant", "ready", "has_value", "bad", "in_incident")}
    known = {field.name for field in fields(Findings)}
    found = Findings(armed=True, **nothing, **{name: value for name, value in none.items() if name in known})
    alarm, code = verdict(found, alpha=0.05, effect_floor=0.05)
    assert len(alarm) == len(code) == 0


# two p-values as one


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("p", [0.15, 0.05, 0.01, 1e-4])
def test_both_together_are_the_chance_that_either_is_so_small(p, correlation):
    z = stats.norm.isf(p)
    both = stats.multivariate_normal.cdf([-z, -z], cov=[[1.0, correlation], [correlation, 1.0]])
    found = either(np.array([p]), np.array([0.9]), np.array([correlation]))
    assert found[0] == pytest.approx(2.0 * p - both, rel=1e-3)


@pytest.mark.parametrize("correlation", [0.0, 0.8, 0.99, 1.0])
def test_both_together_keep_the_level(correlation):
    # 200,000 pairs: standard error 0.05 % at 5 %
    rng = np.random.default_rng(1)
    shared, one, other = rng.standard_normal((3, 200_000))
    mixed = [np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own for own in (one, other)]
    p = either(stats.norm.sf(mixed[0]), stats.norm.sf(mixed[1]), np.full(200_000, correlation))
    for alpha in (0.05, 0.01):
        assert np.mean(p <= alpha) == pytest.approx(alpha, rel=0.06)


def test_equal_tests_cost_nothing_and_independent_ones_what_bonferroni_takes():
    p = np.array([0.001, 0.01, 0.1])
    assert either(p, p, np.ones(3)) == pytest.approx(p, rel=1e-6)
    assert either(p, np.full(3, 0.5), np.zeros(3)) == pytest.approx(2.0 * p - p**2, rel=1e-4)


P_VALUES = hnp.arrays(np.float64, 20, elements=st.one_of(st.just(NAN), st.just(0.0), st.floats(0.0, 1.0)))


@FEW
@given(first=P_VALUES, second=P_VALUES, correlation=st.floats(0.0, 1.0))
def test_both_together_lie_between_the_smaller_and_twice_the_smaller(first, second, correlation):
    found = either(first, second, np.full(20, correlation))
    low = np.fmin(first, second)
    assert (np.isnan(found) == np.isnan(low)).all()
    some = ~np.isnan(low)
    assert (found[some] >= low[some] * (1.0 - 1e-9)).all()
    assert (found[some] <= np.minimum(2.0 * low[some], 1.0) * (1.0 + 1e-9)).all()
    one = np.isnan(first) ^ np.isnan(second)
    np.testing.assert_array_equal(found[one], low[one])


@FEW
@given(p=P_VALUES, other=P_VALUES, correlation=st.floats(0.0, 0.9))
def test_both_together_do_not_depend_on_their_order_and_grow_with_either(p, other, correlation):
    c = np.full(20, correlation)
    here = either(p, other, c)
    np.testing.assert_array_equal(either(other, p, c), here)
    more = either(np.minimum(p * 1.5, 1.0), other, c)
    assert ((more >= here * (1.0 - 1e-9)) | np.isnan(here)).all()


def test_large_fleets_are_judged_like_small_ones():
    rng = np.random.default_rng(2)
    first, second = 0.25 * rng.random((2, 20_000))
    correlation = rng.random(20_000)
    large = either(first, second, correlation)
    small = np.concatenate([either(first[i::20], second[i::20], correlation[i::20]) for i in range(20)])
    order = np.concatenate([np.arange(20_000)[i::20] for i in range(20)])
    np.testing.assert_allclose(large[order], small, rtol=1e-3)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.77, 1.0, None])
def test_what_is_looked_up_is_as_good_down_to_tiny_p_values(correlation):
    rng = np.random.default_rng(3)
    p = np.exp(rng.uniform(np.log(1e-7), np.log(0.2), 20_000))
    c = rng.random(20_000) if correlation is None else np.broadcast_to(correlation, 20_000)
    many = either(p, np.ones(20_000), c)
    few = np.concatenate([either(p[i : i + 500], np.ones(500), c[i : i + 500]) for i in range(0, 20_000, 500)])
    np.testing.assert_allclose(many, few, rtol=2e-5)
