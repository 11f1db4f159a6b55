"""Sums over all values since a reset predict as the values would, and feed an e-process that keeps its word."""

import numpy as np
import pytest

from mlma.core.e_process import anytime_p
from mlma.core.prediction import PARTS, Dependence, predict
from mlma.monitor.all_values import AllValues
from mlma.monitor.evidence import Evidence
from mlma.monitor.monitor import LossMonitor

N_BATCHES = 12
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def _values(k, streams, seed, offset=5.0):
    rng = np.random.default_rng([seed, k])
    return offset + 0.1 * rng.standard_normal((N_BATCHES, streams)), 3.0 + rng.standard_normal((N_BATCHES, k, streams))


def _added(log_loss, log_yards, known):
    made = AllValues(log_loss.shape[1], log_yards.shape[1])
    for batch in range(len(log_loss)):
        made.add(log_loss[batch], log_yards[batch], np.flatnonzero(known[batch]), batch=batch)
    return made


def _agree(sums, values):
    for name in PARTS:
        np.testing.assert_allclose(getattr(sums, name), getattr(values, name), **TOLERANCE, err_msg=name)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("later", [0, 3])
def test_sums_predict_what_all_values_predict(k, rho, later):
    streams = 40
    log_loss, log_yards = _values(k, streams, seed=1)
    began = np.arange(streams) % 10  # streams of every age, from 3 values on
    known = np.arange(N_BATCHES)[:, None] >= began
    beta = np.linspace(1.0, 0.3, k)
    tested = log_loss - np.einsum("k,bks->bs", beta, log_yards)
    lags = np.where(known, N_BATCHES + later - np.arange(N_BATCHES)[:, None], 0)
    made = _added(log_loss, log_yards, known).predict(N_BATCHES + later, beta, rho)
    _agree(made, predict(tested[::-1], lags[::-1], Dependence(rho=rho)))


@pytest.mark.parametrize("offset", [0.0, -30.0, 1000.0])
def test_an_offset_loses_no_digits(offset):
    log_loss, none = _values(0, 5, seed=2, offset=0.0)
    known = np.ones_like(log_loss, dtype=bool)
    here, there = (_added(log_loss + add, none, known).predict(N_BATCHES, np.empty(0), 0.4) for add in (0.0, offset))
    np.testing.assert_allclose(there.variance, here.variance, rtol=1e-9)
    np.testing.assert_allclose(there.expected - offset, here.expected, atol=1e-10)


def test_a_gap_makes_runs_that_count_as_independent():
    log_loss, none = _values(0, 1, seed=3)
    known = np.ones((N_BATCHES, 1), dtype=bool)
    known[5:8] = False
    made = _added(log_loss, none, known).predict(N_BATCHES, np.empty(0), 0.6)
    at = np.flatnonzero(known[:, 0])
    distance = np.abs(at[:, None] - at)
    same_run = (at[:, None] < 5) == (at < 5)
    inverse = np.linalg.inv(np.where(same_run, 0.6**distance, 0.0))
    x = log_loss[at, 0]
    mean = inverse.sum(axis=0) @ x / inverse.sum()
    assert made.mean[0] == pytest.approx(mean, rel=1e-12)
    assert made.variance[0] == pytest.approx((x - mean) @ inverse @ (x - mean) / (len(x) - 1), rel=1e-9)
    assert made.expected[0] == pytest.approx(mean + 0.6 * (x[-1] - mean), rel=1e-12)


def test_a_stream_without_a_value_has_no_prediction_and_one_value_no_variance():
    made = AllValues(2, 0)
    made.add(np.array([1.5, np.nan]), np.empty((0, 2)), np.array([0]), batch=0)
    found = made.predict(1, np.empty(0), 0.2)
    assert found.m.tolist() == [1, 0]
    assert found.mean[0] == 1.5
    assert np.isnan(found.variance).all()
    assert np.isnan(found.expected[1])


def test_constant_values_have_no_variance():
    made = _added(np.full((N_BATCHES, 1), 0.1), np.empty((N_BATCHES, 0, 1)), np.ones((N_BATCHES, 1), dtype=bool))
    assert made.predict(N_BATCHES, np.empty(0), 0.3).variance[0] == 0.0


def test_sums_survive_a_restart_a_reset_and_new_streams():
    log_loss, log_yards = _values(1, 4, seed=4)
    made = _added(log_loss, log_yards, np.ones((N_BATCHES, 4), dtype=bool))
    other = AllValues(0, 0)
    other.restore(made.arrays())
    _agree(other.predict(N_BATCHES, np.ones(1), 0.3), made.predict(N_BATCHES, np.ones(1), 0.3))
    other.reset(np.array([1]))
    other.grow(2)
    found = other.predict(N_BATCHES, np.ones(1), 0.3)
    assert found.m.tolist() == [N_BATCHES, 0, N_BATCHES, N_BATCHES, 0, 0]
    assert made.n.tolist() == [N_BATCHES] * 4


def _evidence_of(x, rho, shift_from=None, shift=0.0):
    """Smallest anytime p-value after every batch, shape (batches, streams), of autoregressive batches."""
    batches, streams = x.shape
    evidence = Evidence(streams, 0, 8)
    everyone, none = np.ones(streams, dtype=bool), np.empty((0, streams))
    made = np.ones((batches, streams))
    for batch in range(batches):
        value = x[batch] + (shift if shift_from is not None and batch >= shift_from else 0.0)
        found, _ = evidence.update(value, evidence.past.predict(batch, np.empty(0), rho), least=2)
        made[batch] = np.where(np.isnan(found), 1.0, found)
        evidence.add(value, none, everyone, batch=batch, row=batch % 8)
    return made


def _autoregressive(rho, batches, streams, seed):
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((batches, streams))
    x = steps.copy()
    for batch in range(1, batches):
        x[batch] = rho * x[batch - 1] + np.sqrt(1.0 - rho**2) * steps[batch]
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_healthy_streams_rarely_ever_alarm_in_a_life_of_200_batches(rho):
    # 1,000 lives: the standard error at .05 is .007
    made = _evidence_of(_autoregressive(rho, 200, 1000, seed=5), rho)
    ever = np.mean(made[-1] <= 0.05)
    assert ever <= 0.05
    assert (np.diff(made, axis=0) <= 0.0).all()  # a peak never rises
    assert ever > 0.002  # and it can alarm


@pytest.mark.parametrize(("rho", "delay"), [(0.0, 8), (0.5, 16)])
def test_a_rise_after_100_batches_is_found_soon(rho, delay):
    made = _evidence_of(_autoregressive(rho, 130, 400, seed=6), rho, shift_from=100, shift=2.0)
    healthy = made[99] > 0.05
    found = np.argmax(made[100:, healthy] <= 0.05, axis=0) + 1
    assert np.mean(made[-1, healthy] <= 0.05) > 0.9
    assert np.median(found) <= delay


def test_the_monitor_learns_the_dependence_and_keeps_the_promise_of_the_e_process():
    # a life of 60 batches with everything on; 300 lives, standard error .013 at .05
    rng = np.random.default_rng(7)
    state = _autoregressive(0.5, 60, 300, seed=8) * 0.3
    monitor = LossMonitor(300, test="e_process", fleet="none", effect_floor=0.0)
    for batch in range(60):
        verdicts = monitor.update(np.abs(rng.standard_normal((300, 24))) * np.exp(state[batch])[:, None])
    assert 0.2 < monitor.dependence.now.rho < 0.7
    assert np.mean(verdicts.p_value <= 0.05) <= 0.05


def test_a_batch_that_turns_out_to_be_bad_data_starts_the_evidence_anew():
    rng = np.random.default_rng(9)
    monitor = LossMonitor(20, test="e_process", fleet="none")
    for batch in range(12):
        losses = np.abs(rng.standard_normal((20, 24)))
        losses[3] *= 30.0 if batch == 11 else 1.0
        verdicts = monitor.update(losses)
    assert monitor.evidence.process.log_peak[3] > 1.0
    mask = np.zeros((20, 1), dtype=bool)
    mask[3] = True
    monitor.exclude(np.array([11]), mask)
    assert anytime_p(monitor.evidence.process.log_peak)[3] == 1.0
    assert monitor.evidence.past.n[3] == 0
    assert monitor.evidence.past.n[4] == 12
    monitor.exclude(np.array([11]), mask)  # said again at every batch
    monitor.update(np.abs(rng.standard_normal((20, 24))))
    assert monitor.evidence.past.n[3] == 1
    assert verdicts.n_reference[4] > 0
