"""The benchmark as a whole in miniature: samples, driftfdr's files, real losses, tables and the command. No figure."""

import json
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks import detection, detection_driftfdr, detection_measure, detection_real, detection_samples
from benchmarks.detection_detectors import BATCH_TESTS, run
from benchmarks.detection_drifts import DRIFTS
from benchmarks.detection_matched import is_enough, own_knobs, peer_evidence, pooled, strictest, trials
from benchmarks.detection_ours import BH, OURS, VARIANTS, Monitor, our_evidence
from benchmarks.detection_processes import PROCESSES
from benchmarks.detection_runs import RunSizes
from benchmarks.detection_samples import synthetic
from benchmarks.detection_scoring import false_alarm_rate, first_alarms
from benchmarks.detection_speed import LEARNING, SpeedSizes, learning_timed, measure
from mlma import LossMonitor

TINY = detection_samples.Sizes(
    n=24,
    streams=40,
    fleets=2,
    every=10,
    calibration_fleets=1,
    horizon=4,
    long_horizon=6,
    before=2,
    budgets=(0.05,),
    drifts=tuple(d for d in DRIFTS if d.name in ("step +100 %", "shock x2, 1 batch", "spread, mean equal", "none")),
    slow={"KSWIN": (30, 8), "ADWIN": (30, 8), "driftfdr": (30, 8)},
)
TINY_RUN = RunSizes(streams=6, batches=60, drifts=1)
TINY_SPEED = SpeedSizes(streams=40, n=24, repeats=1, sample=5)

FAKE_DRIFTFDR = """
import numpy as np, pandas as pd
class Detector:
    def __init__(self, *_): pass
MeanShift = PageHinkley = ECUSUM = Detector
class CalibrationConfig:
    def __init__(self, n_boot): self.n_boot = n_boot
class MonitorConfig:
    def __init__(self, **kw): self.__dict__.update(kw)
class Scenario:
    @classmethod
    def from_arrays(cls, values):
        made = cls(); made.values = values; return made
class Result: pass
def run_monitor(scenario, detector, procedure, config, cache):
    assert procedure is None and config.calibration.n_boot > 0
    x = scenario.values[:, config.n_ref:].reshape(len(scenario.values), -1, config.window).mean(axis=2)
    streams, windows = np.indices(x.shape)
    result = Result()
    columns = {"window": windows, "stream": streams, "pvalue": 10.0 ** -x}
    result.tests = pd.DataFrame({name: column.T.ravel() for name, column in columns.items()})
    return result
class CalibratedDetector:
    def __init__(self, *_, **__): pass
    def update(self, x): pass
"""


@pytest.fixture(scope="module")
def sample():
    return detection_samples.synthetic(PROCESSES[0], TINY)


@pytest.fixture
def fake_driftfdr(tmp_path, monkeypatch):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "driftfdr.py").write_text(FAKE_DRIFTFDR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    return Path(sys.executable)


def test_calibration_and_evaluation_share_no_losses(sample):
    assert sample.calibration.shape == (1, 40, 16, 24)
    assert sample.evaluation.shape == (2, 40, 16, 24)
    assert not np.isin(sample.calibration, sample.evaluation).any()


def test_streams_take_turns_in_drifting_and_none_drifts_twice():
    drifted = detection_samples.in_turn(3, 40, every=10, turns=4)
    assert drifted.shape == (4, 3, 40)
    assert drifted.sum(axis=0).max() == 1
    assert (drifted.sum(axis=2) == 4).all()
    with pytest.raises(ValueError, match="no stream drifts twice"):
        detection_samples.in_turn(1, 40, every=2, turns=3)


def test_budgets_are_not_told_on_too_few_healthy_streams():
    assert is_enough(320, 16, 0.001)
    assert not is_enough(200, 16, 0.001)


def test_our_evidence_of_a_drift_is_that_of_a_run_from_the_beginning(sample):
    # the batches before the onset are run once for all drifts, on a copy of the monitor
    found = our_evidence(sample)
    for name in (OURS, BH):
        before = [evidence[:, : TINY.before] for evidence in found[name].by_drift.values()]
        assert all((b == before[0]).all() for b in before)
        step = found[name].by_drift["step +100 %"]
        assert step.shape == (int(sample.drifted.sum()), TINY.before + TINY.horizon)
        assert np.median(step[:, TINY.before]) > 1.0 > np.median(step[:, TINY.before - 1])
        assert found[name].calibration.shape == (40, TINY.before + TINY.long_horizon)
    drift = next(d for d in TINY.drifts if d.name == "step +100 %")
    losses = sample.evaluation[1, :, : sample.batches(drift)].copy()
    turn, fleet, _ = np.nonzero(sample.drifted)
    chosen = (turn == 1) & (fleet == 1)
    losses[sample.drifted[1, 1]] = sample.with_drift(drift)[chosen]
    at_once = run(Monitor(TINY.streams), losses, warm_up=sample.warm_up)[sample.drifted[1, 1]]
    assert np.array_equal(at_once, found[OURS].by_drift[drift.name][chosen])


def test_the_e_process_may_see_fewer_turns(sample):
    (evidence,) = our_evidence(sample, test="e_process", turns=1).values()
    assert len(evidence.by_drift["none"]) == len(evidence.streams) == np.count_nonzero(sample.drifted[0])


def test_a_described_sample_has_no_losses_but_the_same_drifts(sample):
    light = sample.described()
    assert light.drifts() == sample.drifts()
    assert light.evaluation.base.nbytes == 8
    evidence = peer_evidence("Welch", BATCH_TESTS["Welch"], sample)
    for a, b in zip(trials("Welch", evidence, sample), trials("Welch", evidence, light), strict=True):
        assert a.knob == b.knob
        assert (a.first == b.first).all()


def test_one_setting_for_all_keeps_the_budget_in_every_process():
    processes = [p for p in PROCESSES if p.name in ("iid", "overlap h = 24")]
    found = [(s, peer_evidence("Welch", BATCH_TESTS["Welch"], s)) for s in (synthetic(p, TINY) for p in processes)]
    knobs = strictest([own_knobs(evidence, TINY) for _, evidence in found])
    for _, evidence in found:
        for (budget, is_long), knob in knobs.items():
            healthy = evidence.calibration[:, : TINY.judged(is_long=is_long)]
            assert false_alarm_rate(first_alarms(healthy, knob.threshold), healthy.shape[1]) <= budget


def test_one_setting_for_the_pool_keeps_the_budget_in_all_together_and_not_in_each():
    processes = [p for p in PROCESSES if p.name in ("iid", "overlap h = 24")]
    found = [peer_evidence("Welch", BATCH_TESTS["Welch"], s) for s in (synthetic(p, TINY) for p in processes)]
    knobs = pooled(found, TINY)
    assert knobs
    for (budget, is_long), knob in knobs.items():
        parts = [each.calibration[:, : TINY.judged(is_long=is_long)] for each in found]
        rates = [
            false_alarm_rate(first_alarms(healthy, knob.threshold), healthy.shape[1])
            for healthy in (np.concatenate(parts), *parts)
        ]
        assert rates[0] <= budget
        assert rates[1] <= rates[0] <= rates[2]  # Welch's false alarms are those of the overlap


def test_driftfdr_is_asked_and_answers_through_files(sample, tmp_path, fake_driftfdr):
    found = detection_driftfdr.start(fake_driftfdr, sample, tmp_path).evidence()
    assert len(found) == 4
    evidence = found["driftfdr e-CUSUM"]
    assert evidence.calibration.shape == (30, TINY.before + TINY.long_horizon)
    step = evidence.by_drift["step +100 %"]
    assert step.shape == (8, TINY.before + TINY.horizon)
    assert step[:, TINY.before :].mean() == pytest.approx(2.0, abs=0.3)  # relative losses, doubled
    assert len(trials("driftfdr e-CUSUM", evidence, sample)) == len(sample.drifts())


def test_a_process_without_driftfdr_says_why(sample, tmp_path):
    with pytest.raises(detection_driftfdr.UnavailableError, match="driftfdr"):
        detection_driftfdr.start(Path(sys.executable), sample, tmp_path).evidence()


def test_an_environment_that_cannot_be_made_is_said_and_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(detection_driftfdr.UnavailableError, match="no-python"):
        detection_driftfdr.interpreter(tmp_path / "peers")
    assert (tmp_path / "peers" / ".gitignore").read_text() == "*\n"


def real_file(directory):
    rng = np.random.default_rng(0)
    hours = np.arange(168 + 24 * 40)
    parts = []
    for i in range(44):
        y = 100.0 + 10.0 * np.sin(2 * np.pi * hours / 24) + rng.standard_normal(len(hours))
        if i == 0:
            y[300] = np.nan
        if i == 1:
            y[:] = 5.0  # nothing to forecast
        if i > 1:
            y[168 + 24 * 24 :] *= 1.0 + 0.5 * rng.random(len(hours) - 168 - 24 * 24)  # unrest at the end
        parts.append(pd.DataFrame({"stream": f"H{i:02}", "y": y.astype(np.float32)}))
    frame = pd.concat(parts, ignore_index=True)
    frame["stream"] = frame["stream"].astype("category")
    frame.to_parquet(directory / "m4_hourly.parquet")


def test_real_losses_are_calm_stretches_of_streams_without_gaps(tmp_path):
    real_file(tmp_path)
    (source,) = detection_real.present(tmp_path)
    sample = detection_real.real(source, tmp_path, TINY)
    assert sample.evaluation.shape[1] + sample.calibration.shape[1] == 42  # one has a gap, one no losses
    assert sample.evaluation.shape[2] == 16
    assert np.median(sample.evaluation) < 2.0  # the calm half, not the one with unrest
    assert not np.isnan(sample.evaluation).any()
    assert sample.drifted.sum() == sample.evaluation.shape[1]  # each drifts once


def test_no_data_means_no_real_part(tmp_path):
    assert detection_real.present(None) == []
    assert detection_real.present(tmp_path) == []


def plan(**changes):
    settings = {
        "sizes": TINY, "processes": PROCESSES[:1], "data": None, "peers": None,
        "runs": TINY_RUN, "run_processes": ("iid",), "speed": None, **changes,
    }  # fmt: skip
    return detection_measure.Plan(**settings)


@pytest.mark.slow
def test_the_whole_benchmark_in_small(tmp_path, fake_driftfdr):
    real_file(tmp_path)
    page = Console(file=StringIO(), width=200)
    chosen = plan(peers=fake_driftfdr, data=tmp_path, processes=PROCESSES[:2])
    report = detection_measure.measure(chosen, page)
    detection.show(report, chosen, page)
    printed = page.file.getvalue()
    names = {line.detector for cell in report.cells for line in cell.lines}
    assert {*VARIANTS, "Welch", "KS", "HAC mean", "driftfdr e-CUSUM"} <= names
    assert {"Page-Hinkley", "ADWIN", "KSWIN", "chunk mean + z sd"} <= names
    contested = [cell for cell in report.cells if cell.contests]
    assert {cell.drift for cell in contested} == {"step +100 %", "shock x2, 1 batch"}  # not: none, spread alone
    assert {c.peer for c in contested[0].contests} == names - set(VARIANTS)
    assert {run.detector for run in report.runs} >= {"always", "never", "every 10 batches", OURS}
    assert printed.count("Cells won against every peer") == len(report.shares) == 4 * len(VARIANTS)  # ways of knobs
    first = report.shares[0]
    assert (first.variant, first.cells) == (OURS, sum(bool(cell.contests) for cell in report.cells))
    assert first.won == sum(cell.is_won for cell in report.cells if cell.contests)
    assert {cell.process for cell in report.cells_of_one_setting} == {"iid", "AR(.5)"}
    assert {cell.process for cell in report.cells_of_pool} == {"iid", "AR(.5)"}
    assert {rate.process for rate in report.healthy_of_pool} == {"iid", "AR(.5)"}
    assert {rate.process for rate in report.healthy} == {"iid", "AR(.5)", "M4, days"}


def test_speed_is_ratios_and_bytes(fake_driftfdr):
    speed = measure(TINY_SPEED, fake_driftfdr)
    assert 0.0 < speed.share_of_numpy.low <= speed.share_of_numpy.high
    assert 0.0 < speed.by_hand.median < speed.by_hand_alike.median  # the second leaves a part of our time out
    assert 0.0 < speed.ttest_from_stats.median < speed.ttest_ind.median
    assert 0.0 < speed.by_hand_difference < 1e-9
    assert 0.0 < speed.ttest_difference < 1e-9
    assert speed.bytes_per_stream > 8 * 12
    assert set(speed.driftfdr) == set(speed.driftfdr_steady)
    assert speed.welch.ours_us.low > 0.0
    assert speed.welch.scipy.low > 0.0
    assert 0.0 < speed.welch.difference < 1e-12
    assert speed.welch.bytes_per_stream > speed.bytes_per_stream


def test_what_an_update_learns_is_timed_call_by_call_and_put_back_after():
    before = [getattr(owner, name) for owner, name in LEARNING]
    monitor = LossMonitor(30)
    losses = np.abs(np.random.default_rng(0).standard_normal((4, 30, 24)))
    with learning_timed() as seconds:
        for batch in losses:
            monitor.update(batch)
    assert len(seconds) == len(LEARNING) * len(losses)
    monitor.update(losses[0])
    assert len(seconds) == len(LEARNING) * len(losses)
    assert [getattr(owner, name) for owner, name in LEARNING] == before


def test_speed_is_told_without_driftfdr_when_it_fails():
    assert measure(TINY_SPEED, Path(sys.executable)).driftfdr is None


def test_command_prints_what_it_left_out_and_writes_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(detection, "QUICK", TINY)
    monkeypatch.setattr(detection, "QUICK_PROCESSES", ("iid",))
    monkeypatch.setattr(detection, "RunSizes", lambda streams: TINY_RUN)
    monkeypatch.setattr(detection, "SpeedSizes", lambda **_: TINY_SPEED)
    monkeypatch.setattr(detection.detection_river, "is_installed", lambda: False)
    command = ["--quick", "--no-driftfdr", "--seed", "3", "--seed", "4", "--json", str(tmp_path / "bench.json")]
    assert detection.main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for said in ("driftfdr, as asked for", "River is not installed", "no --data directory"):
        assert f"Left out: {said}" in printed or said in printed
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["machine"]["numpy"]
    assert {cell["process"] for cell in document["cells"]} == {"iid"}
    assert not any(line["detector"] == "ADWIN" for cell in document["cells"] for line in cell["lines"])
    (further,) = document["further"]  # the second seed: neither whole runs nor speed
    assert (document["seed"], further["seed"]) == (3, 4)
    assert document["runs"]
    assert not further["runs"]
    assert further["speed"] is None
    assert document["cells"] != further["cells"]
    for of_first, of_second in zip(document["shares"], further["shares"], strict=True):
        won, cells = (of_first[name] + of_second[name] for name in ("won", "cells"))
        assert f"over 2 seeds, {of_first['variant']}, {of_first['setting']}: {won} of {cells}" in printed


def test_driftfdr_that_cannot_be_installed_leaves_its_rows_out(monkeypatch, tmp_path):
    def fails(directory):
        raise detection_driftfdr.UnavailableError("no network")

    monkeypatch.setattr(detection_driftfdr, "interpreter", fails)
    left_out = []
    made = detection._plan(detection._options(["--quick", "--peers-dir", str(tmp_path)]), left_out)
    assert made.peers is None
    assert "driftfdr cannot be installed: no network" in left_out
