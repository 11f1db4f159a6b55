"""Properties of the loss tests that hold for any losses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlma.core.fleet import alarms
from mlma.core.loss_tests import (
    NO_PRIOR,
    Prior,
    fit_prior,
    hac_mean,
    kolmogorov_smirnov,
    mann_whitney,
    moderated,
    welch,
)
from mlma.core.losses import loss
from mlma.core.prediction import Dependence, predict
from mlma.core.reference import membership
from mlma.core.settings import FleetRule, LossName, ReferencePolicy

SINGLE_LOSS_TESTS = [welch, mann_whitney, kolmogorov_smirnov, hac_mean]
VALUES = st.one_of(
    st.just(np.nan), st.integers(0, 6).map(float), st.floats(0.0, 1e4, allow_subnormal=False).map(lambda x: round(x, 3))
)
FEW = settings(max_examples=40, deadline=None)


def losses(streams, n):
    return hnp.arrays(np.float64, (streams, n), elements=VALUES)


@pytest.mark.parametrize("test", SINGLE_LOSS_TESTS)
@FEW
@given(recent=losses(3, 9), reference=losses(3, 14))
def test_p_values_are_probabilities_exactly_where_ready(test, recent, reference):
    result = test(recent, reference, min_n=3)
    enough = ((~np.isnan(recent)).sum(1) >= 3) & ((~np.isnan(reference)).sum(1) >= 3)
    assert (result.ready == enough).all()
    assert (np.isnan(result.p_value) == ~enough).all()
    assert ((result.p_value[enough] >= 0) & (result.p_value[enough] <= 1)).all()


@pytest.mark.parametrize("test", SINGLE_LOSS_TESTS)
@FEW
@given(recent=losses(4, 9), reference=losses(4, 14), order=st.permutations(range(4)))
def test_row_order_never_matters(test, recent, reference, order):
    there = test(recent, reference, min_n=3)
    moved = test(recent[order], reference[order], min_n=3)
    np.testing.assert_array_equal(moved.p_value, there.p_value[order])
    np.testing.assert_array_equal(moved.statistic, there.statistic[order])


@pytest.mark.parametrize("test", SINGLE_LOSS_TESTS)
@FEW
@given(recent=losses(2, 9), reference=losses(2, 14))
def test_a_stream_without_losses_changes_no_other(test, recent, reference):
    alone = test(recent, reference, min_n=3)
    beside = test(
        np.vstack([recent, np.full((1, 9), np.nan)]), np.vstack([reference, np.full((1, 14), np.nan)]), min_n=3
    )
    np.testing.assert_array_equal(beside.p_value[:2], alone.p_value)
    assert not beside.ready[2]


@pytest.mark.parametrize("test", SINGLE_LOSS_TESTS)
@FEW
@given(recent=losses(2, 9), reference=losses(2, 14), power=st.integers(-8, 8))
def test_the_unit_of_the_loss_never_matters(test, recent, reference, power):
    unit = 2.0**power  # exact in floating point
    here, there = (test(recent * u, reference * u, min_n=3) for u in (1.0, unit))
    np.testing.assert_allclose(there.p_value, here.p_value, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("test", [mann_whitney, kolmogorov_smirnov])
@FEW
@given(recent=losses(2, 9), reference=losses(2, 14))
def test_rank_tests_see_only_the_order(test, recent, reference):
    here, there = test(recent, reference, min_n=3), test(recent**3 + 1, reference**3 + 1, min_n=3)
    np.testing.assert_array_equal(there.p_value, here.p_value)


BATCH_VALUES = hnp.arrays(
    np.float64, (6, 8), elements=st.one_of(st.just(np.nan), st.integers(-40, 40).map(lambda k: k / 8))
)


DEPENDENCES = st.sampled_from([Dependence(), Dependence(rho=0.4), Dependence(rho=0.3, season=3, repeats=0.5)])


def _predicted(x, dependence):
    """From the newest five batches of each stream; x has shape (streams, batches), time ascending."""
    since = np.full(len(x), -1)
    members = membership(x, np.arange(x.shape[1]), since, policy=ReferencePolicy.POOLED, size=5)
    lags = np.where(members, np.arange(x.shape[1], 0, -1), 0)
    return predict(np.ascontiguousarray(x[:, ::-1].T), np.ascontiguousarray(lags[:, ::-1].T), dependence)


def _moderated(x, recent, dependence):
    made = _predicted(x, dependence)
    return moderated(recent, made, fit_prior(made.variance, made.m - 1.0))


@FEW
@given(x=BATCH_VALUES, order=st.permutations(range(6)), how=DEPENDENCES)
def test_moderated_test_does_not_depend_on_row_order(x, order, how):
    there, moved = _moderated(x[:, :7], x[:, 7], how), _moderated(x[order][:, :7], x[order][:, 7], how)
    np.testing.assert_allclose(moved.p_value, there.p_value[order], rtol=1e-6, atol=1e-12)


@FEW
@given(x=BATCH_VALUES, how=DEPENDENCES)
def test_moderated_test_ignores_streams_without_batches(x, how):
    alone = _moderated(x[:, :7], x[:, 7], how)
    beside = _moderated(np.vstack([x[:, :7], np.full((2, 7), np.nan)]), np.append(x[:, 7], [1.0, np.nan]), how)
    np.testing.assert_allclose(beside.p_value[:6], alone.p_value, rtol=1e-9, atol=1e-15)
    assert not beside.ready[6:].any()


@FEW
@given(x=BATCH_VALUES, shift=st.integers(-1000, 1000), how=DEPENDENCES)
def test_moderated_test_does_not_depend_on_a_shift_of_log_losses(x, shift, how):
    here, there = _moderated(x[:, :7], x[:, 7], how), _moderated(x[:, :7] + shift, x[:, 7] + shift, how)
    np.testing.assert_allclose(there.p_value, here.p_value, rtol=1e-6, atol=1e-12)


@FEW
@given(x=BATCH_VALUES, power=st.integers(-6, 6), how=DEPENDENCES)
def test_moderated_test_does_not_depend_on_the_scale_of_log_losses(x, power, how):
    scale = 2.0**power  # exact in floating point
    here, there = (_moderated(values[:, :7], values[:, 7], how) for values in (x, x * scale))
    np.testing.assert_allclose(there.p_value, here.p_value, rtol=1e-6, atol=1e-12)


@FEW
@given(
    x=BATCH_VALUES, rise=st.floats(0.0, 3.0), df=st.sampled_from([0.0, 3.0, float("inf"), "fitted"]), how=DEPENDENCES
)  # fmt: skip
def test_a_larger_recent_loss_never_raises_the_p_value(x, rise, df, how):
    made = _predicted(x[:, :7], how)
    prior = fit_prior(made.variance, made.m - 1.0) if df == "fitted" else Prior(df=df, variance=0.2) if df else NO_PRIOR
    low = moderated(x[:, 7], made, prior).p_value
    high = moderated(x[:, 7] + rise, made, prior).p_value
    assert (np.isnan(low) == np.isnan(high)).all()
    assert ((high <= low * (1.0 + 1e-12)) | np.isnan(low)).all()


@FEW
@given(x=BATCH_VALUES, since=hnp.arrays(np.int64, 6, elements=st.integers(-1, 8)), size=st.integers(1, 9))
@pytest.mark.parametrize("policy", list(ReferencePolicy))
def test_reference_holds_only_finite_batches_since_and_no_more_than_its_size(policy, x, since, size):
    batches = np.arange(8)
    chosen = membership(x, batches, since, policy=policy, size=size)
    assert np.isfinite(x[chosen]).all()
    assert (np.broadcast_to(batches, x.shape)[chosen] > np.repeat(since, chosen.sum(1))).all()
    assert (chosen.sum(1) <= max(2, size)).all()


@FEW
@given(x=BATCH_VALUES, size=st.integers(4, 8))
def test_best_run_has_the_lowest_mean_of_all_runs(x, size):
    members = membership(x, np.arange(8), np.full(6, -1), policy=ReferencePolicy.BEST, size=size)
    for row, chosen in zip(x, members, strict=True):
        valid = row[np.isfinite(row)]
        width = size // 2
        if len(valid) >= width:
            runs = [valid[i : i + width].mean() for i in range(len(valid) - width + 1)]
            assert row[chosen].mean() == pytest.approx(min(runs), abs=1e-12)
            assert chosen.sum() == width


@FEW
@given(p=hnp.arrays(np.float64, 12, elements=st.one_of(st.just(np.nan), st.floats(0.0, 1.0))))
def test_stricter_rules_alarm_on_a_subset(p):
    ready = np.ones(12, dtype=bool)
    bonferroni, bh, none = (
        alarms(p, ready=ready, alpha=0.1, rule=rule) for rule in (FleetRule.BONFERRONI, FleetRule.BH, FleetRule.NONE)
    )
    assert (bonferroni <= bh).all()
    assert (bh <= none).all()


@FEW
@given(
    p=hnp.arrays(np.float64, 12, elements=st.floats(0.0, 1.0)),
    order=st.permutations(range(12)),
    rule=st.sampled_from(FleetRule),
)
def test_alarms_do_not_depend_on_row_order(p, order, rule):
    ready = np.ones(12, dtype=bool)
    there = alarms(p, ready=ready, alpha=0.1, rule=rule)
    assert (alarms(p[order], ready=ready, alpha=0.1, rule=rule) == there[order]).all()


@FEW
@given(y=losses(2, 5), forecast=losses(2, 5), name=st.sampled_from(LossName), quantile=st.floats(0.05, 0.95))
def test_losses_are_never_negative_and_zero_for_a_perfect_forecast(y, forecast, name, quantile):
    value = loss(name, y, forecast, quantile=quantile)
    assert (np.isnan(value) == (np.isnan(y) | np.isnan(forecast))).all()
    assert (value[~np.isnan(value)] >= 0).all()
    perfect = loss(name, y, y, quantile=quantile)
    assert (perfect[~np.isnan(y)] <= 1e-5).all()
