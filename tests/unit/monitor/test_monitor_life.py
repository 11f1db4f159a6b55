"""The life of a monitor: retrained models, born streams, bad data, and going on after a restart."""

import pickle

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.core.decisions import Reason
from mlma.core.settings import FleetRule, LossTestName, ReferencePolicy

N = 24


def healthy(seed, *, streams, batches, n=N):
    return np.abs(np.random.default_rng(seed).standard_normal((batches, streams, n)))


def feed(monitor, batches):
    return [monitor.update(batch) for batch in batches]


def same(one, other):
    """Two verdicts are equal to the last bit."""
    for name in (
        "p_value",
        "p_adaptive",
        "p_anchored",
        "effect",
        "ready",
        "alarm",
        "reason_code",
        "incident",
        "tested",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.incidents == other.incidents
    assert repr(one.certificate) == repr(other.certificate)


# reset


def test_a_reset_stream_starts_over_and_others_do_not():
    losses = healthy(1, streams=60, batches=9)
    monitor = LossMonitor(60)
    feed(monitor, losses[:6])
    mask = np.arange(60) < 3
    monitor.reset(mask)
    verdicts = feed(monitor, losses[6:])
    assert [verdict.n_reference[0] for verdict in verdicts] == [0, 1, 2]
    assert [verdict.n_reference[3] for verdict in verdicts] == [6, 7, 8]
    assert [bool(verdict.ready[0]) for verdict in verdicts] == [False, False, True]
    assert verdicts[0].reason[0] is Reason.NOT_READY


def test_a_new_level_after_a_reset_is_no_alarm():
    losses = healthy(2, streams=60, batches=12)
    losses[6:, 0] *= 5.0
    with_reset, without = LossMonitor(60), LossMonitor(60)
    for monitor in (with_reset, without):
        feed(monitor, losses[:6])
    with_reset.reset(np.arange(60) == 0)
    assert not any(verdict.alarm[0] for verdict in feed(with_reset, losses[6:]))
    assert any(verdict.alarm[0] for verdict in feed(without, losses[6:]))


def test_an_empty_reset_changes_nothing():
    losses = healthy(3, streams=20, batches=6)
    one, other = LossMonitor(20), LossMonitor(20)
    for monitor in (one, other):
        feed(monitor, losses[:5])
    other.reset(np.zeros(20, dtype=bool))
    same(one.update(losses[5]), other.update(losses[5]))


def test_a_reset_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"mask has shape \(4,\).*expected \(5,\)"):
        LossMonitor(5).reset(np.ones(4, dtype=bool))


def test_a_reset_starts_the_evidence_of_an_e_process_over():
    losses = healthy(4, streams=40, batches=14)
    losses[8:, 0] *= 3.0
    monitor = LossMonitor(40, test="e_process", fleet="none")
    assert feed(monitor, losses)[-1].p_value[0] < 0.01
    monitor.reset(np.arange(40) == 0)
    after = feed(monitor, healthy(5, streams=40, batches=4) * np.where(np.arange(40) == 0, 3.0, 1.0)[:, None])
    assert after[-1].p_value[0] > 0.05


# birth


def test_born_streams_are_tested_from_their_third_batch_on():
    monitor = LossMonitor(30, labels={"site": ["a"] * 30})
    feed(monitor, healthy(6, streams=30, batches=5))
    monitor.grow({"site": ["b"] * 10}, 10)
    verdicts = feed(monitor, healthy(7, streams=40, batches=4))
    assert monitor.n_streams == 40
    assert verdicts[1].ready.tolist() == [True] * 30 + [False] * 10
    assert verdicts[2].ready.all()
    assert monitor.labels["site"] == ["a"] * 30 + ["b"] * 10


def test_births_do_not_disturb_those_who_are_there():
    losses = healthy(8, streams=300, batches=10)
    one, other = LossMonitor(300, fleet="none"), LossMonitor(300, fleet="none")
    for monitor in (one, other):
        feed(monitor, losses[:5])
    other.grow({}, 5)
    newborn = healthy(9, streams=5, batches=5)
    for k in range(5):
        alone = one.update(losses[5 + k])
        beside = other.update(np.vstack([losses[5 + k], newborn[k]]))
        small = alone.p_value < 0.1  # larger ones of two references are only bounded
        np.testing.assert_allclose(beside.p_value[:300][small], alone.p_value[small], rtol=0.15, atol=1e-3)


def test_new_labels_are_empty_for_those_who_have_none():
    monitor = LossMonitor(2, labels={"site": ["a", "b"]})
    monitor.grow({"product": ["food"]}, 1)
    assert monitor.labels == {"product": ["", "", "food"], "site": ["a", "b", ""]}


@pytest.mark.parametrize("test", list(LossTestName))
def test_every_test_survives_a_birth_and_a_reset(test):
    monitor = LossMonitor(12, test=test)
    feed(monitor, healthy(10, streams=12, batches=4))
    monitor.grow({}, 3)
    feed(monitor, healthy(11, streams=15, batches=4))
    monitor.reset(np.arange(15) % 2 == 0)
    verdict = feed(monitor, healthy(12, streams=15, batches=4))[-1]
    assert verdict.ready.all()


# bad data


def test_excluded_batches_enter_no_reference():
    losses = healthy(13, streams=40, batches=10)
    losses[5, 4] *= 30.0
    losses[8, 4] *= 5.0
    monitor = LossMonitor(40)
    feed(monitor, losses[:8])
    mask = np.zeros((40, 1), dtype=bool)
    mask[4] = True
    monitor.exclude(np.array([5]), mask)
    verdict = monitor.update(losses[8])
    assert verdict.n_reference[[3, 4]].tolist() == [8, 7]
    assert verdict.alarm[4]


def test_exclusion_is_what_was_said_last():
    monitor = LossMonitor(10)
    feed(monitor, healthy(14, streams=10, batches=6))
    everything = np.ones((10, 2), dtype=bool)
    monitor.exclude(np.array([1, 2]), everything)
    assert (monitor.update(healthy(15, streams=10, batches=1)[0]).n_reference == 4).all()
    monitor.exclude(np.array([1, 2]), ~everything)
    assert (monitor.update(healthy(16, streams=10, batches=1)[0]).n_reference == 7).all()


def test_remembered_batches_are_those_that_can_matter():
    monitor = LossMonitor(5, reference_size=4)
    feed(monitor, healthy(17, streams=5, batches=30))
    remembered = monitor.remembered().tolist()
    assert remembered == sorted(remembered)
    assert set(remembered) >= {0, 1, 2, 3, 26, 27, 28, 29}


def test_a_batch_that_is_known_to_be_bad_is_not_tested():
    losses = healthy(18, streams=20, batches=6)
    monitor = LossMonitor(20)
    feed(monitor, losses[:5])
    bad = np.arange(20) == 3
    verdict = monitor.judge(monitor.summarise(losses[5] * np.where(bad, 50.0, 1.0)[:, None]), bad=bad)
    assert verdict.reason[3] is Reason.BAD_DATA
    assert np.isnan(verdict.p_value[3])
    assert not verdict.alarm[3]


# restart


SETTINGS = [
    {},
    {"test": "e_process", "fleet": "e_bh"},
    {"test": "welch"},
    {"fleet": "online", "season": 7, "reference": "sliding"},
    {"reference": "best", "anchored": False},
    {"reference": "fixed", "labels": {"site": [f"s{i % 5}" for i in range(40)]}},
]


@pytest.mark.parametrize("options", SETTINGS, ids=lambda options: "-".join(map(str, options)) or "default")
@pytest.mark.parametrize("how", ["file", "pickle", "arrays"])
def test_a_monitor_goes_on_after_a_restart_to_the_last_bit(options, how, tmp_path):
    losses = healthy(19, streams=40, batches=14)
    losses[11, ::5] *= 1.5
    losses[np.random.default_rng(19).random(losses.shape) < 0.05] = np.nan
    monitor = LossMonitor(40, seed=3, **options)
    feed(monitor, losses[:10])
    monitor.reset(np.arange(40) == 7)
    if how == "file":
        path = str(tmp_path / "monitor.npz")
        monitor.save(path)
        other = LossMonitor.load(path)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(monitor))
    else:
        other = LossMonitor(40, seed=3, **options)
        other.restore(monitor.arrays())
    for batch in losses[10:]:
        same(monitor.update(batch), other.update(batch))


def test_yardsticks_and_births_survive_a_restart(tmp_path):
    rng = np.random.default_rng(20)
    monitor = LossMonitor(30)
    for _ in range(5):
        monitor.update(rng.exponential(size=(30, N)), rng.exponential(size=(2, 30, N)))
    monitor.grow({}, 4)
    monitor.save(str(tmp_path / "m.npz"))
    other = LossMonitor.load(str(tmp_path / "m.npz"))
    for _ in range(4):
        losses, yards = rng.exponential(size=(34, N)), rng.exponential(size=(2, 34, N))
        same(monitor.update(losses, yards), other.update(losses, yards))


def test_a_fresh_monitor_can_be_saved(tmp_path):
    LossMonitor(7, alpha=0.01, fleet=FleetRule.BY, reference=ReferencePolicy.SLIDING).save(str(tmp_path / "m.npz"))
    other = LossMonitor.load(str(tmp_path / "m.npz"))
    assert (other.n_streams, other.settings.alpha, other.settings.fleet) == (7, 0.01, FleetRule.BY)


def test_a_file_that_is_no_monitor_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match="not a saved LossMonitor"):
        LossMonitor.load(str(path))


@pytest.mark.parametrize("other", [LossMonitor(5, alpha=0.01), LossMonitor(6), LossMonitor(5, seed=1)])
def test_the_state_of_another_monitor_is_refused(other):
    with pytest.raises(ValueError, match="other settings"):
        other.restore(LossMonitor(5).arrays())


def test_losses_given_are_not_changed():
    losses = healthy(21, streams=20, batches=6)
    before = losses.copy()
    feed(LossMonitor(20, test="welch"), losses)
    np.testing.assert_array_equal(losses, before)


def test_verdicts_do_not_change_afterwards():
    losses = healthy(22, streams=20, batches=12)
    monitor = LossMonitor(20)
    verdicts = feed(monitor, losses[:6])
    kept = [(verdict.p_value.copy(), verdict.tested.copy(), verdict.mean_loss.copy()) for verdict in verdicts]
    monitor.reset(np.ones(20, dtype=bool))
    feed(monitor, losses[6:])
    for verdict, (p_value, tested, mean_loss) in zip(verdicts, kept, strict=True):
        np.testing.assert_array_equal(verdict.p_value, p_value)
        np.testing.assert_array_equal(verdict.tested, tested)
        np.testing.assert_array_equal(verdict.mean_loss, mean_loss)
