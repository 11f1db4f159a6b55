"""Detectors of benchmarks.detection do what the tools they stand for do; drifts are what they say."""

import doctest
from importlib import import_module

import numpy as np
import pytest

from benchmarks import detection_detectors, detection_drifts, detection_processes, detection_river
from benchmarks.detection_detectors import BATCH_TESTS, PageHinkley, relative, run
from benchmarks.detection_scoring import SILENT

DRIFT = {drift.name: drift for drift in detection_drifts.DRIFTS}
PROCESS = {process.name: process for process in detection_processes.PROCESSES}
N = 48


def losses_of(name, streams=6, batches=12, seed=0):
    return detection_processes.healthy(
        PROCESS[name], np.random.default_rng(seed), streams=streams, batches=batches, n=N
    )


@pytest.mark.parametrize("module", ["scoring", "ours", "river", "detectors"])
def test_examples_in_docstrings_hold(module):
    failed, tried = doctest.testmod(import_module(f"benchmarks.detection_{module}"))
    assert failed == 0
    assert tried > 0 or module == "detectors"


@pytest.mark.parametrize("delta", [0.005, 0.1])
def test_page_hinkley_alarms_when_rivers_does(delta):
    drift = pytest.importorskip("river.drift")
    losses = relative(losses_of("AR(.8)", batches=14), warm_up=8)
    losses[::2, 9:] *= 2.0
    threshold = 25.0
    evidence = run(PageHinkley(len(losses), delta=delta), losses, warm_up=0)
    ours = np.array([int(np.argmax(row >= threshold)) if (row > threshold).any() else -1 for row in evidence])
    theirs = []
    for stream in losses:
        detector = drift.PageHinkley(mode="up", delta=delta, threshold=threshold)
        alarm = -1
        for i, loss in enumerate(stream.ravel()):
            detector.update(loss)
            if detector.drift_detected:
                alarm = i // N
                break
        theirs.append(alarm)
    assert ours.tolist() == theirs
    assert max(theirs) > -1


def test_kswin_distance_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, (20, 30)).astype(float), rng.integers(0, 5, (20, 30)).astype(float)
    distance = detection_river.ks_distance(a, b)
    assert distance == pytest.approx([stats.ks_2samp(x, y).statistic for x, y in zip(a, b, strict=True)])


def test_kswin_speaks_once_its_window_is_full_and_after_a_reset_again():
    detector = detection_river.Kswin(3)
    losses = losses_of("iid", streams=3, batches=8)
    evidence = np.stack([detector.update(losses[:, b]) for b in range(4)], axis=1)
    assert (evidence[:, :2] == SILENT).all()  # 96 losses of 100
    assert (evidence[:, 2:] > 0.0).all()
    detector.reset(np.array([True, False, False]))
    assert detector.update(losses[:, 4])[0] == SILENT


def test_adwin_alarms_on_a_rise_and_not_on_a_fall():
    pytest.importorskip("river.drift")
    losses = losses_of("iid", streams=2, batches=16)
    losses[0, 10:] *= 3.0
    losses[1, 10:] /= 3.0
    evidence = run(detection_river.Adwin(2, strictness=[2.0, 4.0, 60.0]), losses, warm_up=8)
    assert (evidence[0, :2] == SILENT).all()
    assert evidence[0].max() == 4.0  # the strictest that alarmed; the third setting never does
    assert (evidence[1] == SILENT).all()


@pytest.mark.parametrize("name", BATCH_TESTS)
def test_evidence_grows_with_the_loss_and_a_reset_forgets(name):
    losses = relative(losses_of("iid", streams=8, batches=10), warm_up=8)
    losses[:4, 9] *= 4.0
    detector = BATCH_TESTS[name](8, 8, 8)
    evidence = run(detector, losses, warm_up=8)
    assert (evidence[:4, 1] > evidence[4:, 1].max()).all()
    detector.reset(np.ones(8, dtype=bool))
    after = detector.update(losses[:, 0])
    is_cumulative = name.startswith("Page-Hinkley")
    assert (after < evidence[:4, 1].min()).all() if is_cumulative else (after == SILENT).all()


def test_chunk_rule_is_mean_and_standard_deviations_of_the_reference_chunks():
    losses = np.array([[[1.0], [3.0], [8.0]]])
    detector = detection_detectors.ChunkMean(1, 2, 2)
    assert run(detector, losses, warm_up=2).tolist() == [[6.0]]  # (8 - 2) / 1


POSSIBLE = [(p, d) for p in PROCESS for d in DRIFT if detection_drifts.possible(PROCESS[p], DRIFT[d])]


@pytest.mark.parametrize(("name", "drift"), POSSIBLE)
def test_a_drift_begins_at_its_onset_and_raises_the_mean_by_its_factor(name, drift):
    process, change = PROCESS[name], DRIFT[drift]
    losses = losses_of(name, streams=150, batches=10)
    changed = detection_drifts.injected(process, change, losses, onset=4, rng=np.random.default_rng(9))
    assert changed.shape == losses.shape
    assert (changed[:, :4] == losses[:, :4]).all()
    expected = change.factor(np.arange(6.0))
    found = changed[:, 4:].mean(axis=(0, 2)) / losses[:, 4:].mean(axis=(0, 2))
    # 7,200 losses a batch, and noise of its own where spread or counts are drawn
    assert found == pytest.approx(expected, rel=0.25 if "counts" in name else 0.12)
    if name == "0/1, p = .1":
        assert set(np.unique(changed)) == {0.0, 1.0}
    if change.spreads:
        spread = changed[:, 4:].std(axis=(1, 2)) / losses[:, 4:].std(axis=(1, 2)) / expected.mean()
        assert np.median(spread) > 1.02  # wider than its mean explains


def test_the_mean_of_processes_is_stationary_but_for_season_and_common_factor():
    for name in ("iid", "AR(.8)", "overlap h = 24", "counts, rate .1", "0/1, p = .1"):
        losses = losses_of(name, streams=300, batches=8)
        assert losses[:, :4].mean() == pytest.approx(losses[:, 4:].mean(), rel=0.06)


def test_zeros_and_ones_cannot_spread():
    process, drift = PROCESS["0/1, p = .1"], DRIFT["spread, mean equal"]
    assert not detection_drifts.possible(process, drift)
    with pytest.raises(ValueError, match="cannot drift"):
        detection_drifts.injected(process, drift, losses_of(process.name), onset=4, rng=np.random.default_rng(0))
