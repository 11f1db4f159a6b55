"""Calibrations on losses whose level and power are known, and the parts that they are made of."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from mlma.core.batch_summary import Detail, summarise_batch
from mlma.core.decisions import CertificateStatus
from mlma.core.errors import OperationError
from mlma.core.settings import FleetRule, LossTestName, TestingSettings
from mlma.monitor.calibration import calibrate, needed
from mlma.monitor.calibration_figures import Drift, Wanted, independent_tests
from mlma.monitor.calibration_power import Rounds, degraded_runs, draw_rounds, raised
from mlma.monitor.calibration_runs import LossHistory, alarms_under, new_monitor, watch

SETTINGS = TestingSettings()
ALONE = Wanted(rises=(0.25,), tests=(), factors=(), trials=60)


def history_of(losses, batch=timedelta(days=7), yardsticks=None):
    yards = np.empty((0, *losses.shape)) if yardsticks is None else yardsticks
    return LossHistory(losses=losses, yardsticks=yards, batch=batch, labels={})


def iid(n_streams, n_batches, n, seed=0):
    return np.abs(np.random.default_rng(seed).standard_normal((n_streams, n_batches, n)))


def overlapping(n_streams, n_batches, n, width=24, seed=0):
    steps = np.random.default_rng(seed).standard_normal((n_streams, n_batches * n + width))
    sums = np.cumsum(steps, axis=1)
    return np.abs((sums[:, width:] - sums[:, :-width])[:, : n_batches * n]).reshape(n_streams, n_batches, n)


def calibrated(history, settings=SETTINGS, wanted=ALONE, seed=1):
    return calibrate(history, settings, wanted, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def healthy_fleet():
    return calibrated(history_of(iid(60, 30, 50)), wanted=replace(ALONE, rises=(0.25, 1.0), trials=60))


def test_the_level_on_healthy_losses_is_within_its_interval(healthy_fleet):
    main = healthy_fleet.main
    assert main.certificate.status is CertificateStatus.CERTIFIED
    assert main.certificate.level_low <= 0.05 <= main.certificate.level_high + 0.01
    assert 0.03 < main.level.share < 0.065  # 1,680 tests: standard error .005
    assert main.level.low < main.level.share < main.level.high
    assert main.level.n == 60 * 28  # two batches of reference before the first test


def test_the_power_is_near_the_one_that_can_be_computed(healthy_fleet):
    # log batch means have the standard deviation .756 / sqrt(50) = .107; a rise of 25 % is .223, so a prediction from
    # 8 batches has the power Phi(.223 / (.107 sqrt(9/8)) - 1.645) = .63; a second reference and short ones cost some
    at_once = healthy_fleet.main.power[0].at_once
    assert at_once.low < 0.63
    assert at_once.high > 0.45
    assert healthy_fleet.main.power[1].at_once.share > 0.95
    assert healthy_fleet.main.power[1].delay == 1.0


def test_what_alarms_by_chance_stands_beside_what_is_found(healthy_fleet):
    main = healthy_fleet.main
    assert main.chance.within == main.power[0].within == (1, 4, 13)
    assert main.chance.at_once.share < 0.15
    shares = [share.share for share in main.power[0].caught]
    assert shares == sorted(shares)
    assert shares[-1] > main.chance.caught[-1].share


def test_rules_that_promise_more_alarm_less(healthy_fleet):
    rules = {one.rule: one for one in healthy_fleet.main.rules}
    assert set(rules) == set(FleetRule)
    assert rules[FleetRule.NONE].mean == pytest.approx(healthy_fleet.main.alarms)
    assert rules[FleetRule.BY].mean <= rules[FleetRule.BH].mean < rules[FleetRule.NONE].mean
    assert rules[FleetRule.NONE].p99 >= rules[FleetRule.NONE].mean
    assert rules[FleetRule.NONE].power.at_once.share == healthy_fleet.main.power[0].at_once.share


def test_a_test_that_breaks_its_promise_is_not_certified():
    history = history_of(overlapping(60, 24, 48))
    made = calibrated(history, wanted=replace(ALONE, tests=(LossTestName.WELCH,), trials=8))
    statuses = {one.settings.name: one.certificate.status for one in made.tests}
    assert statuses == {
        LossTestName.MODERATED: CertificateStatus.CERTIFIED,
        LossTestName.WELCH: CertificateStatus.FAILED,
    }
    assert made.tests[1].level.low > 0.1
    assert made.tests[1].alarms > made.tests[0].alarms  # as the test says, though the daemon would not listen


def test_drift_in_the_data_counts_on_the_streams_as_they_are():
    losses = iid(40, 20, 50) * np.where(np.arange(20) < 12, 1.0, 1.6)[None, :, None]
    made = calibrated(history_of(losses), settings=replace(SETTINGS, common=False), wanted=replace(ALONE, trials=8))
    assert made.main.level.low > 0.06


def test_longer_batches_and_a_weekly_season_are_computed():
    made = calibrated(history_of(iid(20, 30, 12), timedelta(days=1)), wanted=replace(ALONE, factors=(2, 4), trials=8))
    found = [(one.batch.days, one.settings.season, one.n_batches) for one in made.batches]
    assert found == [(1, 7, 30), (2, 1, 15)]  # 7 batches of 4 days and 4 of a week are too few to compare
    assert made.batches[-1].power[0].at_once.share > made.main.power[0].at_once.share


def test_other_levels_are_measured_on_the_same_losses():
    made = calibrated(history_of(iid(40, 12, 24)), wanted=replace(ALONE, alphas=(0.05, 0.2), trials=8))
    assert [one.settings.alpha for one in made.alphas] == [0.2]
    assert made.alphas[0].level.share > made.main.level.share


def test_a_ramp_is_followed_to_the_end():
    made = calibrated(history_of(iid(20, 22, 50)), wanted=replace(ALONE, ramp=0.05, trials=8))
    assert made.ramp.drift == Drift(per_week=0.05)
    assert made.ramp.within[-1] == 15
    assert made.ramp.caught[-1].share >= made.ramp_chance.caught[-1].share
    assert made.ramp.delay > 1.0


def test_one_stream_can_be_calibrated():
    made = calibrated(history_of(iid(1, 12, 24)), wanted=replace(ALONE, trials=8))
    assert made.main.n_streams == 1
    assert made.main.certificate.status is CertificateStatus.PENDING
    assert made.main.power[0].at_once.n == 8


def test_losses_that_are_not_there_are_counted():
    losses = iid(5, 14, 10)
    losses[0, :7] = np.nan  # a stream that was born later
    made = calibrated(history_of(losses), wanted=replace(ALONE, trials=8))
    assert made.missing == pytest.approx(0.1)
    assert made.main.level.n == 4 * 12 + 5


def test_the_same_seed_gives_the_same_figures():
    history = history_of(iid(10, 14, 10))
    wanted = replace(ALONE, trials=8)
    first, second, other = (calibrated(history, wanted=wanted, seed=seed) for seed in (1, 1, 2))
    assert repr(first) == repr(second)
    assert repr(first) != repr(other)


def test_too_few_batches_are_named():
    assert needed(SETTINGS) == 6
    with pytest.raises(OperationError, match="5 closed batches with losses, expected at least 6"):
        calibrated(history_of(iid(3, 5, 10)))
    with pytest.raises(OperationError, match="1 closed batch with losses"):
        calibrated(history_of(iid(3, 1, 10)))


def test_streams_without_enough_outcomes_are_named():
    losses = iid(3, 20, 10)
    losses[:, :, 2:] = np.nan
    with pytest.raises(OperationError, match=r"best of 3 streams has 0 batches of 20 with at least 25%"):
        calibrated(history_of(losses))


# parts


def healthy_run(history, settings):
    return watch(new_monitor(history, settings, seed=3), history.summaries(settings))


@pytest.mark.parametrize("name", LossTestName)
def test_putting_nothing_in_changes_nothing(name):
    settings = replace(SETTINGS, name=name)
    rng = np.random.default_rng(5)
    history = history_of(iid(8, 12, 10), yardsticks=np.abs(rng.standard_normal((1, 8, 12, 10))))
    healthy = healthy_run(history, settings)
    rounds = Rounds(onset=np.array([7, 5]), streams=np.eye(2, 8, dtype=bool), follow=3)
    found = list(degraded_runs(history, history.summaries(settings), settings, rounds, [Drift()], seed=3))
    assert [(round_, drift) for round_, drift, _ in found] == [(1, 0), (0, 0)]
    for round_, _, run in found:
        span = slice(rounds.onset[round_], rounds.onset[round_] + 3)
        np.testing.assert_array_equal(run.p_value, healthy.p_value[span])
        np.testing.assert_array_equal(run.alarm, healthy.alarm[span])


@pytest.mark.parametrize("rule", FleetRule)
def test_alarms_under_a_rule_are_those_of_a_monitor_with_that_rule(rule):
    losses = iid(40, 16, 24)
    losses[:6, 10:] *= 3.0
    settings = replace(SETTINGS, fleet=rule)
    run = healthy_run(history_of(losses), settings)
    other = healthy_run(history_of(losses), replace(SETTINGS, fleet=FleetRule.NONE))
    alarm, before = alarms_under(rule, other, settings)
    np.testing.assert_array_equal(alarm, run.alarm)
    assert alarm.any() or rule is FleetRule.E_BH
    resumed, _ = alarms_under(
        rule, replace(other, p_value=other.p_value[8:], effect=other.effect[8:], ready=other.ready[8:]), settings,
        before[8],
    )  # fmt: skip
    np.testing.assert_array_equal(resumed, alarm[8:])


@pytest.mark.parametrize("detail", Detail)
def test_a_raised_summary_is_the_summary_of_raised_losses(detail):
    losses = iid(5, 1, 20)[:, 0]
    losses[losses < 0.3] = 0.0
    yards = iid(5, 1, 20, seed=1)[None, :, 0]
    factor = np.array([1.0, 1.25, 2.0, 1.0, 1.1])
    made = raised(summarise_batch(losses, yards, detail=detail), factor)
    wanted = summarise_batch(losses * factor[:, None], yards, detail=detail)
    for name in ("n", "mean_loss", "yardsticks", "zero_share", "event_size", "moments", "single"):
        got, want = getattr(made, name), getattr(wanted, name)
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_only_tested_streams_out_of_alarm_are_drawn():
    healthy = healthy_run(history_of(iid(30, 14, 24)), SETTINGS)
    rounds = draw_rounds(healthy, 50, 4, np.random.default_rng(0))
    assert rounds.onset.min() >= 3
    assert rounds.onset.max() <= 10
    assert set(rounds.streams.sum(axis=1)) <= {2, 3}
    before = rounds.onset - 1
    assert healthy.ready[before][rounds.streams].all()
    assert not healthy.alarm[before][rounds.streams].any()


def test_joined_batches_keep_the_newest_losses():
    losses = iid(2, 7, 3)
    made = history_of(losses, timedelta(days=1)).joined(3)
    assert made.losses.shape == (2, 2, 9)
    assert made.batch == timedelta(days=3)
    np.testing.assert_array_equal(made.losses[:, -1], losses[:, 4:].reshape(2, 9))


def test_tests_that_alarm_together_count_as_fewer():
    everything = np.ones((50, 20), dtype=bool)
    alone = np.random.default_rng(0).random((50, 20)) < 0.1
    together = np.repeat(alone[:, :1], 20, axis=1)
    assert independent_tests(alone, everything) > 500
    assert independent_tests(together, everything) == pytest.approx(50, rel=0.1)
    assert independent_tests(~everything, everything) == 1000
