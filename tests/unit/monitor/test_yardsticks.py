"""Yardsticks: hard days are no alarms, coefficients are learned, and useless yardsticks do no harm."""

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.monitor.yardsticks import Coefficients

N = 48


def fleet(seed, *, streams, batches, hard=0.0, exponent=1.0):
    """Losses and a naive forecast's, of streams whose days are hard in their own way.

    The model's loss moves with the difficulty of the day to the power of ``exponent``.
    """
    rng = np.random.default_rng(seed)
    day = np.exp(hard * rng.standard_normal((batches, streams, 1)))
    model, naive = np.abs(rng.standard_normal((2, batches, streams, N)))
    return model * day**exponent, 2.0 * naive * day


def run(monitor, losses, naive):
    return [monitor.update(loss, None if naive is None else yards[None]) for loss, yards in _pairs(losses, naive)]


def _pairs(losses, naive):
    return zip(losses, losses if naive is None else naive, strict=True)


def test_what_a_yardstick_explains_is_no_alarm_and_what_it_does_not_is_found():
    losses, naive = fleet(1, streams=300, batches=12, hard=0.5)
    losses[11, :30] *= 1.8
    with_yards, without = (run(LossMonitor(300, fleet="none"), losses, yards)[-1] for yards in (naive, None))
    assert np.mean(with_yards.alarm[:30]) >= 0.75
    assert np.mean(without.alarm[:30]) <= 0.5
    assert np.mean(with_yards.alarm[30:]) <= 0.08


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_coefficient_of_a_yardstick_is_learned(exponent):
    losses, naive = fleet(2, streams=300, batches=30, hard=0.5, exponent=exponent)
    monitor = LossMonitor(300)
    run(monitor, losses, naive)
    assert monitor.coefficients.beta[0] == pytest.approx(exponent, abs=0.12)


def test_a_yardstick_that_says_nothing_costs_no_power():
    losses, naive = fleet(3, streams=300, batches=30)
    naive *= np.exp(0.5 * np.random.default_rng(3).standard_normal((30, 300, 1)))  # its own trouble
    losses[29, :60] *= 1.4
    useless, none = (run(LossMonitor(300, fleet="none"), losses, yards)[-1] for yards in (naive, None))
    assert np.mean(useless.alarm[:60]) >= np.mean(none.alarm[:60]) - 0.1
    assert np.mean(useless.p_value[60:] <= 0.05) <= 0.09


def test_the_level_is_kept_with_yardsticks():
    losses, naive = fleet(4, streams=500, batches=14, hard=0.4, exponent=0.7)
    verdicts = run(LossMonitor(500, fleet="none", effect_floor=0.0), losses, naive)
    # 11 batches of 500 streams: standard error 0.3 %
    assert 0.025 <= np.mean([verdict.alarm for verdict in verdicts[3:]]) <= 0.06


def test_more_yardsticks_share_the_explanation():
    rng = np.random.default_rng(5)
    days = np.exp(0.5 * rng.standard_normal((2, 30, 300, 1)))
    noise = np.abs(rng.standard_normal((3, 30, 300, N)))
    losses = noise[0] * days[0] * np.sqrt(days[1])
    monitor = LossMonitor(300)
    for k in range(30):
        monitor.update(losses[k], np.stack([noise[1, k] * days[0, k], noise[2, k] * days[1, k]]))
    assert monitor.coefficients.beta == pytest.approx([1.0, 0.5], abs=0.15)


def test_a_target_without_a_yardstick_is_left_out():
    losses, naive = fleet(6, streams=50, batches=6)
    naive[5, 0, :40] = np.nan
    losses[5, 0, :40] = 1e6
    verdict = run(LossMonitor(50), losses, naive)[-1]
    assert not verdict.alarm[0]


def test_a_batch_without_any_yardstick_is_not_tested():
    losses, naive = fleet(7, streams=50, batches=6)
    naive[5, 3] = np.nan
    verdict = run(LossMonitor(50), losses, naive)[-1]
    assert np.isnan(verdict.p_value[3])
    assert verdict.ready[4]


def test_the_number_of_yardsticks_stays_the_same():
    losses, naive = fleet(8, streams=10, batches=3)
    monitor = LossMonitor(10)
    monitor.update(losses[0], naive[0][None])
    with pytest.raises(ValueError, match="0 yardsticks, expected 1 as in the batches before"):
        monitor.update(losses[1])
    with pytest.raises(ValueError, match="2 yardsticks, expected 1"):
        monitor.update(losses[1], np.stack([naive[1], naive[1]]))
    assert monitor.update(losses[1], naive[1][None]).batch == 1


def test_the_effect_is_the_rise_relative_to_the_yardstick():
    losses, naive = fleet(9, streams=200, batches=10, hard=0.8)
    losses[9], naive[9] = 3.0 * losses[9], 2.0 * naive[9]
    verdict = run(LossMonitor(200, common=False), losses, naive)[-1]
    assert np.median(verdict.effect) == pytest.approx(0.5, abs=0.15)


# the coefficients themselves


def test_nothing_learned_is_the_loss_relative_to_the_first_yardstick():
    assert Coefficients(0).beta.tolist() == []
    assert Coefficients(3).beta.tolist() == [1.0, 0.0, 0.0]


def test_coefficients_come_from_a_regression_towards_the_start():
    rng = np.random.default_rng(10)
    dy = rng.standard_normal((1, 4000))
    made = Coefficients(1)
    made.learn(0.3 * dy[0] + 0.1 * rng.standard_normal(4000), dy, np.ones(4000), np.ones(4000, dtype=bool))
    # 4,000 observations against a prior worth 100
    assert made.beta[0] == pytest.approx((4000 * 0.3 + 100 * 1.0) / 4100, abs=0.02)


def test_broken_streams_and_those_that_do_not_count_teach_nothing():
    rng = np.random.default_rng(11)
    dy = rng.standard_normal((1, 500))
    loss = 0.5 * dy[0]
    here, there = Coefficients(1), Coefficients(1)
    here.learn(loss, dy, np.ones(500), np.arange(500) < 400)
    broken = loss.copy()
    broken[400:450], broken[450:] = 1e6, np.where(rng.random(50) < 0.5, 50.0, -50.0)
    there.learn(broken, dy, np.ones(500), np.ones(500, dtype=bool))
    np.testing.assert_array_equal(there.beta, here.beta)


def test_a_yardstick_that_never_moves_keeps_its_start():
    made = Coefficients(2)
    rng = np.random.default_rng(12)
    for _ in range(5):
        dy = np.stack([rng.standard_normal(300), np.zeros(300)])
        made.learn(0.5 * dy[0], dy, np.ones(300), np.ones(300, dtype=bool))
    assert np.isfinite(made.beta).all()
    assert made.beta[1] == pytest.approx(0.0, abs=1e-9)
