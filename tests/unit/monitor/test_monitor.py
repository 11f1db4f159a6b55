"""`LossMonitor` as its users see it: what alarms, what does not, and why."""

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.core.decisions import Reason
from mlma.core.settings import FleetRule, LossTestName, ReferencePolicy, TestingSettings

N = 24


def healthy(seed, *, streams, batches, n=N):
    """Half-normal losses, shape (batches, streams, n)."""
    return np.abs(np.random.default_rng(seed).standard_normal((batches, streams, n)))


def run(monitor, batches, yardsticks=None):
    """Verdicts of every batch."""
    return [monitor.update(batch, None if yardsticks is None else yardsticks[:, i]) for i, batch in enumerate(batches)]


# level and power


BY_TIME = [policy for policy in ReferencePolicy if policy is not ReferencePolicy.BEST]


@pytest.mark.parametrize("reference", BY_TIME)
def test_healthy_streams_alarm_as_often_as_promised(reference):
    # 10 batches of 600 streams: standard error 0.3 %
    monitor = LossMonitor(600, fleet="none", effect_floor=0.0, reference=reference)
    verdicts = run(monitor, healthy(1, streams=600, batches=12))
    assert 0.025 <= np.mean([verdict.alarm for verdict in verdicts[2:]]) <= 0.06


@pytest.mark.parametrize(("common", "low", "high"), [(True, 0.02, 0.06), (False, 0.08, 0.2)])
def test_a_reference_that_is_chosen_by_what_is_tested_needs_the_common_component(common, low, high):
    # the best batches are too good to be compared with, in all streams alike; the manual says so
    monitor = LossMonitor(600, fleet="none", effect_floor=0.0, reference="best", anchored=False, common=common)
    verdicts = run(monitor, healthy(1, streams=600, batches=16))
    assert low <= np.mean([verdict.p_value <= 0.05 for verdict in verdicts[12:]]) <= high


@pytest.mark.parametrize("test", list(LossTestName))
def test_every_test_finds_a_broken_stream(test):
    losses = healthy(2, streams=60, batches=16)
    losses[10:, 7] *= 4.0
    verdicts = run(LossMonitor(60, test=test), losses)
    assert 7 in {int(stream) for verdict in verdicts[10:] for stream in np.flatnonzero(verdict.alarm)}


@pytest.mark.parametrize("rule", list(FleetRule))
def test_every_rule_finds_a_broken_stream_and_hardly_another(rule):
    losses = healthy(3, streams=300, batches=8)
    losses[7, 42] *= 4.0
    verdict = run(LossMonitor(300, fleet=rule), losses)[-1]
    assert verdict.alarm[42]
    assert np.count_nonzero(verdict.alarm) <= (40 if rule is FleetRule.NONE else 3)


def test_the_default_rule_keeps_a_healthy_fleet_silent():
    n_alarms = 0
    for seed in range(3):
        verdicts = run(LossMonitor(400), healthy([4, seed], streams=400, batches=10))
        n_alarms += sum(int(verdict.alarm.sum()) for verdict in verdicts)
    assert n_alarms <= 5  # 24 tested batches, 5 % of them with a false alarm or two


def test_batches_that_depend_on_each_other_keep_the_level():
    rng = np.random.default_rng(5)
    level, slow = [], np.zeros(500)
    for _ in range(14):
        slow = 0.7 * slow + 0.15 * rng.standard_normal(500)
        level.append(slow)
    losses = healthy(5, streams=500, batches=14) * np.exp(level)[:, :, None]
    verdicts = run(LossMonitor(500, fleet="none", effect_floor=0.0), losses)
    assert 0.02 <= np.mean([verdict.alarm for verdict in verdicts[4:]]) <= 0.065


def test_a_week_of_its_own_is_known_after_a_week():
    rng = np.random.default_rng(6)
    profile = 0.5 * rng.standard_normal((7, 400))
    days = np.arange(22) % 7
    losses = healthy(6, streams=400, batches=22) * np.exp(profile[days])[:, :, None]
    broken = losses.copy()
    broken[21, :20] *= 2.0
    with_season, without = (LossMonitor(400, fleet="none", effect_floor=0.0, season=season) for season in (7, 1))
    found = [run(monitor, broken)[-1] for monitor in (with_season, without)]
    assert np.mean(found[0].alarm[:20]) >= 0.8
    assert np.mean(found[1].alarm[:20]) <= 0.5
    assert np.mean(found[0].alarm[20:]) <= 0.09


def test_sparse_losses_wait_for_events_and_then_keep_the_level():
    events = (np.random.default_rng(7).random((12, 800, 48)) < 0.05).astype(float)
    verdicts = run(LossMonitor(800, fleet="none", effect_floor=0.0), events)
    ready = np.array([verdict.ready for verdict in verdicts])
    assert 0.0 < ready[2].mean() < 1.0
    assert ready[8].mean() > 0.99
    assert np.sum([verdict.alarm for verdict in verdicts[2:]]) / ready[2:].sum() == pytest.approx(0.045, abs=0.02)


# slow slides


HALF_WEEKS = 52


def _ramp(seed, *, streams, weekly):
    """Half a year of half-weekly batches that get worse by so much a week after the first six."""
    rise = (1.0 + weekly) ** (np.maximum(np.arange(HALF_WEEKS) - 5.0, 0.0) / 2.0)
    return healthy(seed, streams=streams, batches=HALF_WEEKS, n=168) * rise[:, None, None]


def _delays(losses, **options):
    """Weeks to the first alarm of each stream after the first six batches; inf where there is none."""
    first = np.full(losses.shape[1], np.inf)
    verdicts = run(LossMonitor(losses.shape[1], alpha=0.001, fleet="none", common=False, **options), losses)
    for batch, verdict in enumerate(verdicts[6:]):
        first = np.where(verdict.alarm & np.isinf(first), batch / 2.0, first)
    return first


def test_a_slide_of_one_per_cent_a_week_is_caught_by_the_anchored_reference_alone():
    ramp, still = (_ramp(8, streams=50, weekly=weekly) for weekly in (0.01, 0.0))
    both = _delays(ramp)
    adaptive, chance = (np.isfinite(_delays(losses, anchored=False)).mean() for losses in (ramp, still))
    assert np.isfinite(both).mean() >= 0.9
    assert 5.0 <= np.median(both) <= 24.0
    assert adaptive <= chance + 0.15  # the adaptive reference slides along
    assert chance <= 0.3


def test_a_slow_slide_says_that_the_anchored_reference_spoke():
    verdict = run(LossMonitor(50, fleet="none", common=False), _ramp(9, streams=50, weekly=0.02))[-1]
    anchored = verdict.reason == Reason.ALARM_ANCHORED
    assert np.count_nonzero(anchored) >= 35
    assert not np.any(verdict.reason == Reason.ALARM_ADAPTIVE)
    assert np.all(verdict.effect[anchored] > 0.2)


# reasons and numbers


def test_every_stream_has_a_reason():
    losses = healthy(10, streams=50, batches=8)
    losses[6:, 0] *= 5.0
    losses[7, 1] = np.nan
    losses[:6, 2] = np.nan
    losses[6:, 3] *= 1.0  # healthy
    verdict = run(LossMonitor(50), losses)[-1]
    assert [verdict.reason[i] for i in range(4)] == [
        Reason.ALARM_BOTH, Reason.NO_OUTCOMES, Reason.NOT_READY, Reason.WITHIN_REFERENCE,
    ]  # fmt: skip
    assert verdict.ready.tolist()[:4] == [True, False, False, True]


def test_a_rise_below_the_effect_floor_is_small_not_an_alarm():
    losses = healthy(11, streams=40, batches=9, n=20_000)
    losses[8, 5] *= 1.05
    for floor, reason in ((0.03, Reason.ALARM_BOTH), (0.2, Reason.SMALL_EFFECT)):
        verdict = run(LossMonitor(40, effect_floor=floor), losses)[-1]
        assert verdict.reason[5] is reason
        assert verdict.effect[5] == pytest.approx(0.05, abs=0.02)
        assert bool(verdict.alarm[5]) is (reason is Reason.ALARM_BOTH)


def test_numbers_of_a_verdict_belong_together():
    verdict = run(LossMonitor(80), healthy(12, streams=80, batches=7))[-1]
    assert verdict.batch == 6
    assert (verdict.n == N).all()
    assert (verdict.n_reference == 6).all()
    assert (verdict.p_value >= np.fmin(verdict.p_adaptive, verdict.p_anchored) - 1e-9).all()
    assert verdict.incidents == ()
    assert (verdict.incident == -1).all()
    assert verdict.mean_loss == pytest.approx(np.sqrt(2 / np.pi), abs=0.6)


def test_the_scale_of_a_stream_does_not_matter():
    losses = healthy(13, streams=30, batches=8)
    unit = np.exp(np.random.default_rng(13).uniform(-12.0, 12.0, 30))
    here, there = (run(LossMonitor(30), x)[-1] for x in (losses, losses * unit[None, :, None]))
    np.testing.assert_allclose(there.p_value, here.p_value, rtol=1e-6)
    np.testing.assert_array_equal(there.reason, here.reason)


def test_one_stream_alone_can_be_monitored():
    losses = healthy(14, streams=1, batches=10)
    losses[9] *= 5.0
    verdicts = run(LossMonitor(1), losses)
    assert verdicts[9].alarm[0]
    assert not any(verdict.alarm[0] for verdict in verdicts[:9])


def test_no_stream_at_all_is_an_empty_verdict():
    verdict = run(LossMonitor(0), np.empty((3, 0, N)))[-1]
    assert verdict.p_value.shape == verdict.alarm.shape == (0,)


def test_one_shock_of_a_site_is_one_incident_and_no_alarms():
    losses = healthy(15, streams=400, batches=9)
    site = np.arange(400) % 8
    losses[8, site == 3] *= 1.8
    labels = {"site": [f"s{i}" for i in site]}
    verdict = run(LossMonitor(400, labels=labels), losses)[-1]
    assert [dict(incident.labels) for incident in verdict.incidents] == [{"site": "s3"}]
    assert np.count_nonzero(verdict.alarm) <= 2
    members = verdict.incident == 0
    assert np.mean(site[members] == 3) > 0.95
    assert (verdict.reason[site == 3] == Reason.INCIDENT).sum() > 30


# missing losses


def test_missing_losses_are_left_out():
    losses = healthy(16, streams=200, batches=10)
    losses[np.random.default_rng(16).random(losses.shape) < 0.3] = np.nan
    verdicts = run(LossMonitor(200, fleet="none", effect_floor=0.0), losses)
    assert verdicts[-1].ready.all()
    assert verdicts[-1].n.mean() == pytest.approx(0.7 * N, rel=0.05)
    assert np.mean([verdict.alarm for verdict in verdicts[2:]]) <= 0.065
    assert verdicts[3].mean_loss[0] == pytest.approx(np.nanmean(losses[3, 0]))


def test_a_stream_with_gaps_is_compared_with_the_batches_that_it_has():
    losses = healthy(17, streams=100, batches=12)
    losses[[3, 5, 6, 9], 0] = np.nan
    losses[11, 0] *= 5.0
    verdicts = run(LossMonitor(100), losses)
    assert verdicts[11].n_reference[0] == 7
    assert verdicts[11].alarm[0]
    assert np.isnan(verdicts[5].p_value[0])


def test_targets_may_vary_in_number_from_batch_to_batch():
    monitor = LossMonitor(50)
    for n in (24, 24, 30, 7, 24):
        verdict = monitor.update(healthy(18, streams=50, batches=1, n=n)[0])
    assert verdict.ready.all()


# bad input


@pytest.mark.parametrize("shape", [(5,), (4, N), (5, N, 1), (6, N)])
def test_losses_of_a_wrong_shape_are_refused_with_the_right_one(shape):
    with pytest.raises(ValueError, match=r"expected \(5, n\)"):
        LossMonitor(5).update(np.ones(shape))


@pytest.mark.parametrize(("wrong", "shown"), [(-0.5, "-0.5"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_impossible_losses_are_refused_by_name_of_the_stream(wrong, shown):
    losses = np.ones((5, N))
    losses[3, 2] = wrong
    with pytest.raises(ValueError, match=rf"stream 3: {shown}; expected finite numbers >= 0"):
        LossMonitor(5).update(losses)


@pytest.mark.parametrize("shape", [(5, N), (1, 4, N), (1, 5, N + 1)])
def test_yardsticks_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(k, 5, 24\)"):
        LossMonitor(5).update(np.ones((5, N)), np.ones(shape))


def test_a_refused_batch_changes_nothing():
    losses = healthy(19, streams=30, batches=6)
    one, other = LossMonitor(30), LossMonitor(30)
    for batch in losses[:5]:
        one.update(batch)
        other.update(batch)
        with pytest.raises(ValueError, match="stream 0"):
            other.update(-1.0 - batch)
    np.testing.assert_array_equal(one.update(losses[5]).p_value, other.update(losses[5]).p_value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha 0.0: expected a rate between 0 and 1"),
        ({"alpha": 1.0}, "alpha 1.0"),
        ({"test": "wilcoxon"}, "test 'wilcoxon': expected one of moderated"),
        ({"fleet": "holm"}, "fleet 'holm'"),
        ({"reference": "newest"}, "reference 'newest'"),
        ({"reference_size": 1}, "reference_size 1: expected 2"),
        ({"min_reference": 1}, "min_reference 1"),
        ({"season": 0}, "season 0: expected 1"),
        ({"effect_floor": -0.1}, "effect_floor -0.1"),
        ({"labels": {"site": ["a"]}}, r"labels\['site'\] has 1 values"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LossMonitor(5, **options)


def test_a_monitor_can_be_made_from_the_settings_of_a_configuration():
    settings = TestingSettings(alpha=0.01, fleet=FleetRule.BY, season=7)
    assert LossMonitor.from_settings(settings, 10).settings is settings
