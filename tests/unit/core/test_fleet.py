"""The fleet's rules against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from mlma.core.fleet import alarms
from mlma.core.settings import FleetRule


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_bh_agrees_with_scipy(alpha):
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.random(40) ** rng.uniform(1.0, 4.0)
        expected = stats.false_discovery_control(p, method="bh") <= alpha
        ours = alarms(p, ready=np.ones(40, bool), alpha=alpha, rule=FleetRule.BH)
        assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FleetRule.NONE, [True, True, True, False, False]),
        (FleetRule.BONFERRONI, [True, False, False, False, False]),
        (FleetRule.BH, [True, True, True, False, False]),
    ],
)
def test_rule_turns_p_values_into_alarms(rule, expected):
    p = np.array([0.01, 0.02, 0.03, 0.2, 0.9])
    assert alarms(p, ready=np.ones(5, bool), alpha=0.05, rule=rule).tolist() == expected


@pytest.mark.parametrize("rule", list(FleetRule))
def test_streams_that_are_not_ready_neither_alarm_nor_count(rule):
    p = np.array([0.02, 0.001, np.nan, 0.03])
    ready = np.array([True, False, True, True])
    ours = alarms(p, ready=ready, alpha=0.05, rule=rule)
    alone = alarms(p[[0, 3]], ready=np.ones(2, bool), alpha=0.05, rule=rule)
    assert ours[[0, 3]].tolist() == alone.tolist()
    assert not ours[1]
    assert not ours[2]


@pytest.mark.parametrize("rule", list(FleetRule))
def test_no_tested_stream_gives_no_alarm(rule):
    assert not alarms(np.full(3, np.nan), ready=np.ones(3, bool), alpha=0.05, rule=rule).any()
    assert alarms(np.empty(0), ready=np.empty(0, bool), alpha=0.05, rule=rule).shape == (0,)
