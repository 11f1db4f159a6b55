"""Fleets that are tiny, silent, constant or old, and batches that are not what they should be."""

import numpy as np
import pytest

from mlma.core.settings import FleetRule, LossTestName, ReferencePolicy
from mlma.monitor.monitor import LossMonitor

OPTIONS = (
    {},
    *({"test": name.value} for name in LossTestName),
    *({"reference": policy.value} for policy in ReferencePolicy),
    *({"fleet": rule.value} for rule in FleetRule),
    {"season": 7},
    {"anchored": False},
    {"common": False},
    {"reference_size": 2},
)


def _losses(rng, streams, n=24):
    return np.abs(rng.standard_normal((streams, n)))


@pytest.mark.parametrize("streams", [0, 1, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tiny_fleets_live_through_everything(streams, options):
    rng = np.random.default_rng(1)
    monitor = LossMonitor(streams, **options)
    for batch in range(14):
        losses = _losses(rng, streams)
        if batch in (2, 6):
            losses[:] = np.nan
        verdicts = monitor.update(losses)
        assert verdicts.alarm.shape == (streams,)
        assert all(array.shape == (streams,) for array in monitor.reference_losses(batch + 1))
        assert not verdicts.alarm[np.isnan(verdicts.p_value)].any()
    monitor.exclude(monitor.remembered(), np.ones((streams, len(monitor.remembered())), dtype=bool))
    monitor.reset(np.ones(streams, dtype=bool))
    monitor.grow({}, 2)
    assert monitor.update(_losses(rng, streams + 2, n=5)).ready.tolist() == [False] * (streams + 2)
    assert monitor.nbytes > 0


@pytest.mark.parametrize("k", [0, 1, 2])
def test_batches_of_nothing_are_no_evidence(k):
    rng = np.random.default_rng(2)
    monitor = LossMonitor(20)
    for batch in range(16):
        losses, yards = _losses(rng, 20), np.abs(rng.standard_normal((k, 20, 24)))
        if batch in (0, 6):
            losses[:] = np.nan
        if batch in (3, 7):
            yards[:] = np.nan
        if batch == 9:
            losses, yards = losses[:, :0], yards[:, :, :0]
        verdicts = monitor.update(losses, yards)
        if batch in (0, 6, 9):
            assert {str(reason) for reason in verdicts.reason} == {"no_outcomes"}
    assert verdicts.ready.all()


@pytest.mark.parametrize(("n", "within"), [(96, 1), (24, 1), (7, 1), (5, 1), (1, 5)])
def test_a_stream_that_never_had_a_loss_alarms_soon_after_it_breaks(n, within):
    rng = np.random.default_rng(3)
    monitor = LossMonitor(100)
    alarms = []
    for batch in range(26):
        losses = _losses(rng, 100, n)
        losses[4] = 0.0 if batch < 20 else 3.0 * np.abs(rng.standard_normal(n))
        alarms.append(bool(monitor.update(losses).alarm[4]))
    assert not any(alarms[:20])
    assert any(alarms[20 : 20 + within])


def test_a_stream_that_was_perfect_for_long_alarms_when_losses_come_back():
    rng = np.random.default_rng(4)
    monitor = LossMonitor(100)
    for batch in range(20):
        losses = _losses(rng, 100)
        if 4 <= batch < 19:
            losses[4] = 0.0
        verdicts = monitor.update(losses)
    assert verdicts.alarm[4]


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_fleet_of_constant_losses_alarms_where_one_rises(level):
    monitor = LossMonitor(50)
    for batch in range(12):
        losses = np.full((50, 24), level)
        losses[7] += 0.2 if batch == 11 else 0.0
        verdicts = monitor.update(losses)
    assert np.flatnonzero(verdicts.alarm).tolist() == [7]


def test_one_target_a_batch_raises_hardly_a_false_alarm():
    rng = np.random.default_rng(5)
    monitor = LossMonitor(400)
    false = 0
    for batch in range(25):
        losses = _losses(rng, 400, 1)
        losses[7] *= 1000.0 if batch == 24 else 1.0
        verdicts = monitor.update(losses)
        false += int(np.count_nonzero(np.delete(verdicts.alarm, 7)))
    assert verdicts.alarm[7]
    assert false <= 3


@pytest.mark.parametrize("exponent", [-60, -20, 0, 20, 60])
def test_the_unit_of_a_loss_does_not_matter(exponent):
    made = []
    for unit in (1.0, 10.0**exponent):
        rng = np.random.default_rng(6)
        monitor = LossMonitor(30)
        for _ in range(8):
            verdicts = monitor.update(_losses(rng, 30) * unit)
        made.append(verdicts.p_value)
    np.testing.assert_allclose(made[1], made[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.5, "-0.5"), (-1e-300, "-1e-300"), (np.inf, "inf"), (-np.inf, "-inf"), (1e308, "beyond")]
)
@pytest.mark.parametrize("of_yardstick", [False, True])
def test_a_loss_that_cannot_be_is_named_even_if_the_mean_could(value, shown, of_yardstick):
    monitor = LossMonitor(6)
    losses, yards = np.ones((6, 5)), np.ones((2, 6, 5))
    (yards[1] if of_yardstick else losses)[4, 1:3] = value
    name = "yardstick 1 of stream 4" if of_yardstick and abs(value) != 1e308 else "stream 4"
    with pytest.raises(ValueError, match=f"{name}: .*{shown}"), np.errstate(over="ignore"):
        monitor.update(losses, yards)
    assert monitor.references.batch == -1


@pytest.mark.parametrize(
    ("losses", "shown"),
    [
        ([["a", 1.0], [2.0, 3.0]], "stream 0: 'a'"),
        ([[1.0, 2.0], [3.0, "x"]], "stream 1: 'x'"),
        ([[1.0, 2.0], [3.0]], "not a table"),
        (np.ones((2, 2)) * 1j, "stream 0: .*1j"),
        ("losses", "not a table"),
        ([[{}, 1.0], [2.0, 3.0]], "stream 0: {}"),
        (5.0, r"expected \(2, n\)"),
    ],
    ids=str,
)
def test_what_is_no_table_of_numbers_is_refused_with_the_place(losses, shown):
    with pytest.raises(ValueError, match=shown):
        LossMonitor(2).update(losses)


def test_numbers_in_other_clothes_are_taken():
    monitor = LossMonitor(2)
    assert monitor.update([[1, 2], [3, 4]]).mean_loss.tolist() == [1.5, 3.5]
    assert monitor.update(np.array([[True, False], [False, False]])).mean_loss.tolist() == [0.5, 0.0]
    assert monitor.update(np.ones((2, 3), dtype=np.float32)[:, ::-1]).mean_loss.tolist() == [1.0, 1.0]
    assert monitor.update(np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])).mean_loss.tolist() == [1.5, 3.5]


@pytest.mark.parametrize("mask", [[0, 1], np.ones(2), [True], np.ones((2, 2), dtype=bool)], ids=str)
def test_a_mask_must_say_true_or_false_for_every_stream(mask):
    with pytest.raises(ValueError, match="expected \\(2,\\) of True and False"):
        LossMonitor(2).reset(mask)


def test_a_batch_is_judged_once():
    monitor = LossMonitor(2)
    summary = monitor.summarise(np.ones((2, 3)))
    monitor.judge(summary, batch=5)
    with pytest.raises(ValueError, match="later than 5"):
        monitor.judge(summary, batch=5)
    assert monitor.judge(summary).batch == 6


def _aged(batches):
    rng = np.random.default_rng(7)
    monitor, sizes = LossMonitor(20), []
    for batch in range(batches):
        if batch % 50 == 0:
            monitor.reset(rng.random(20) < 0.1)
        verdicts = monitor.update(_losses(rng, 20, 12))
        sizes.append(monitor.nbytes)
    return verdicts, sizes


def test_memory_does_not_grow_with_age():
    verdicts, sizes = _aged(200)
    assert max(sizes[60:]) <= max(sizes[:60])
    assert verdicts.ready.any()


@pytest.mark.slow
def test_ten_years_of_days_change_nothing():
    verdicts, sizes = _aged(3650)
    assert max(sizes[60:]) <= max(sizes[:60])
    assert verdicts.ready.any()


@pytest.mark.parametrize(("size", "most"), [(4, 220.0), (8, 300.0), (16, 520.0)])
@pytest.mark.parametrize("k", [0, 1])
def test_memory_is_that_of_the_references(size, most, k):
    monitor = LossMonitor(5000, reference_size=size)
    rng = np.random.default_rng(8)
    monitor.update(_losses(rng, 5000, 4), np.ones((k, 5000, 4)))
    rows = 2 * max(4, size) + 4
    assert monitor.nbytes / 5000 <= most + k * 8.0 * rows
