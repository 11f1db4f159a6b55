"""`LossMonitor(accumulate=True)`: evidence of several batches, added up."""

import io

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.core.accumulation import RECENT_SHARE, SHARE
from mlma.core.decisions import Reason
from mlma.core.prediction import Dependence
from mlma.monitor.sham import Segments

STREAMS = 80


def losses(batches, *, streams=STREAMS, seed=0, rho=0.0):
    rng = np.random.default_rng(seed)
    level = np.zeros(streams)
    made = []
    for _ in range(batches):
        level = rho * level + np.sqrt(1.0 - rho**2) * rng.standard_normal(streams)
        made.append(np.abs(rng.standard_normal((streams, 48))) * np.exp(0.1 * level)[:, None])
    return made


def monitor(streams=STREAMS, **options):
    return LossMonitor(streams, **({"fleet": "none", "common": False, "accumulate": True} | options))


def fed(one, batches):
    return [one.update(batch) for batch in batches]


def test_a_small_rise_that_lasts_is_found_by_more_streams_and_says_that_several_batches_spoke():
    batches = losses(24)
    for batch in batches[14:]:
        batch[:40] *= 1.2
    found = {}
    for accumulate in (False, True):
        verdicts = fed(monitor(alpha=0.01, accumulate=accumulate), batches)[17:]
        found[accumulate] = np.mean([verdict.alarm[:40] for verdict in verdicts])
    assert found[True] > found[False] + 0.25
    spoke = verdicts[-1].reason[:40] == Reason.ALARM_ACCUMULATED
    assert spoke.mean() > 0.2
    assert 0.1 < np.median(verdicts[-1].effect[:40][spoke]) < 0.4


def test_a_rise_that_the_recent_batches_have_swallowed_is_found_against_the_frozen_ones():
    batches = losses(27, seed=11)
    for batch in batches[14:]:
        batch[:40] *= 1.5
    late = fed(monitor(alpha=0.01), batches)[-1]
    assert np.median(late.p_adaptive[:40]) > 0.05
    assert np.median(late.p_anchored[:40]) < 0.01
    assert (late.p_value[:40] <= 0.01).mean() > 0.6


def test_a_rise_over_the_recent_level_is_found_in_a_stream_that_became_better_than_its_frozen_batches():
    batches = losses(27, seed=12)
    for batch in batches[14:]:
        batch[:20] *= 0.5
    batches[-1][:20] *= 1.6
    last = fed(monitor(), batches)[-1]
    assert np.median(last.p_anchored[:20]) > 0.5
    assert last.alarm[:20].mean() > 0.5
    assert (last.reason[:20][last.alarm[:20]] == Reason.ALARM_ADAPTIVE).all()


def test_each_test_has_its_share_of_the_level_and_three_cost_no_more_than_their_shares():
    for verdicts in fed(monitor(), losses(24, seed=13, rho=0.4))[3:]:
        low = np.fmin(np.fmin(verdicts.p_anchored / SHARE, verdicts.p_adaptive / RECENT_SHARE), verdicts.p_accumulated)
        assert (verdicts.p_value >= np.minimum(low, 1.0) - 1e-12).all()
        assert (verdicts.p_value <= low * (1.0 + SHARE + RECENT_SHARE) + 1e-12).all()


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_healthy_streams_keep_their_level_also_where_neighbouring_batches_depend_on_each_other(rho):
    verdicts = fed(monitor(500), losses(24, streams=500, seed=4, rho=rho))
    for first in (4, 10, 16):
        p_value = np.stack([verdict.p_value for verdict in verdicts[first : first + 8]])
        assert 0.02 <= np.mean(p_value <= 0.05) <= 0.075  # neighbouring batches share their scores: 8 count as 3


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_sham_streams_are_tested_as_live_ones_are(rho, monkeypatch):
    one = monitor()
    monkeypatch.setattr(type(one.dependence), "now", Dependence(rho=0.4 if rho else 0.0))
    testers = []
    monkeypatch.setattr(one.sham, "run", lambda tester, run, *_, **__: testers.append((tester, run)))
    batches = losses(15, seed=5, rho=rho)
    batches[-1][:20] *= 1.4
    live = fed(one, batches)[-1]
    tester, run = testers[-1]
    everyone = np.arange(STREAMS)
    assert (run == 15).all()
    p_value, effect = tester(
        Segments(
            stream=everyone, length=run, start=np.zeros_like(everyone), at=run - 1, raised_from=run, rise=0.0,
            backwards=np.zeros(STREAMS, dtype=np.bool_),
        )
    )  # fmt: skip
    assert (live.p_accumulated < 0.05).sum() > 5
    # the prior of each batch has been forgotten since, and with it a little of the scores
    difference = np.abs(np.log(p_value / live.p_value))
    assert np.median(difference) < 0.05
    assert np.quantile(difference, 0.95) < 0.3
    np.testing.assert_allclose(effect, live.effect, atol=0.05)


def test_a_batch_that_is_excluded_later_leaves_the_sums():
    batches = losses(20, seed=6)
    for at in (16, 17, 18):
        batches[at] = 2.0 * batches[at]
    one = monitor()
    fed(one, batches[:19])
    loud, quiet = one, LossMonitor.load(_saved(one))
    quiet.exclude(np.array([16, 17, 18]), np.ones((STREAMS, 3), dtype=np.bool_))
    p_loud, p_quiet = (each.update(batches[19]).p_accumulated for each in (loud, quiet))
    assert np.median(p_loud) < 0.01
    assert np.mean(p_quiet <= 0.05) < 0.15


def test_a_missing_batch_adds_nothing_and_costs_nothing():
    batches = losses(20, seed=7)
    with_gap = [batch.copy() for batch in batches]
    with_gap[17][3] = np.nan
    whole, gap = (fed(monitor(), each)[-3:] for each in (batches, with_gap))
    assert np.isnan(gap[0].p_accumulated[3])
    assert np.isfinite(gap[1].p_accumulated[3])
    others = np.arange(STREAMS) != 3
    np.testing.assert_allclose(gap[2].p_accumulated[others], whole[2].p_accumulated[others], rtol=0.15)


def test_after_a_reset_the_sums_begin_again():
    batches = losses(20, seed=8)
    for batch in batches[14:]:
        batch[:10] *= 1.5
    one = monitor()
    assert np.median(fed(one, batches[:18])[-1].p_accumulated[:10]) < 0.01
    one.reset(np.arange(STREAMS) < 10)
    first, second = fed(one, batches[18:])
    assert np.isnan(first.p_accumulated[:10]).all()
    assert not first.ready[:10].any()
    assert np.isfinite(second.p_accumulated[10:]).all()


def _saved(one):
    file = io.BytesIO()
    one.save(file)
    file.seek(0)
    return file


def test_saved_and_loaded_in_between_it_says_the_same():
    batches = losses(18, seed=9, rho=0.5)
    straight, broken = monitor(), monitor()
    fed(straight, batches[:13])
    fed(broken, batches[:13])
    broken = LossMonitor.load(_saved(broken))
    for batch in batches[13:]:
        a, b = straight.update(batch), broken.update(batch)
        np.testing.assert_array_equal(a.p_accumulated, b.p_accumulated)
        np.testing.assert_array_equal(a.p_value, b.p_value)


def test_born_streams_join_with_sums_of_their_own():
    batches = losses(16, streams=STREAMS + 5, seed=10)
    one = monitor()
    fed(one, [batch[:STREAMS] for batch in batches[:12]])
    one.grow({}, 5)
    verdicts = fed(one, batches[12:])
    assert np.isnan(verdicts[0].p_accumulated[STREAMS:]).all()
    assert np.isfinite(verdicts[-1].p_accumulated).all()


def test_a_fleet_without_spread_is_judged_without_sums():
    one = monitor(20)
    verdicts = fed(one, [np.full((20, 8), 2.0)] * 6)
    assert np.isnan(verdicts[-1].p_accumulated).all()
    assert (verdicts[-1].p_value == 1.0).all()


@pytest.mark.parametrize("options", [{"test": "welch"}, {"test": "e_process"}, {"anchored": False}])
def test_adding_up_needs_the_moderated_test_and_an_anchored_reference(options):
    with pytest.raises(ValueError, match=r"accumulate: expected the moderated test and an anchored reference"):
        monitor(**options)


def test_without_it_there_are_no_sums():
    assert monitor(accumulate=False).update(losses(1)[0]).p_accumulated is None
