"""The benchmarks of `make bench` in miniature: their numbers exist and agree with each other. No speed is asserted."""

import itertools
import json
import math
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import (
    loss_test_costs,
    measuring,
    memory,
    overhead,
    restart,
    start_time,
    stream_by_stream,
    throughput,
    workload,
)
from benchmarks.measuring import Spread
from mlma import LossMonitor, bootstrap
from mlma.core.prediction import Dependence, predict
from mlma.core.settings import LossTestName
from mlma.runtime.overview import overview


def test_works_are_timed_in_turn_and_in_alternating_order():
    calls = []
    ticks = itertools.count()
    seconds = measuring.in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, clock=lambda: float(next(ticks))
    )
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_ratio_is_the_median_of_the_ratios_of_the_rounds():
    assert measuring.ratio([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == Spread(median=3.0, low=2.0, high=4.0)


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.0, "1,230,000"), (0.012345, "0.0123"), (12.3, "12.3"), (0.0, "0"), (100.0, "100")]
)
def test_figures_are_shown_with_three_digits(value, text):
    assert measuring.significant(value) == text


@pytest.fixture(scope="module", params=throughput.BATCHES)
def throughput_of_60(request):
    return throughput.one_size(60, request.param, repeats=3, sample=20)


def test_the_same_statistic_stream_by_stream_finds_the_same_p_values(throughput_of_60):
    assert 0.0 < throughput_of_60.largest_difference < 1e-12


def test_times_are_of_whole_works(throughput_of_60):
    made = throughput_of_60
    parts = (made.take_in_us_per_stream, made.score_us_per_stream, made.test_us_per_stream, made.close_us_per_stream)
    assert all(0 < part.low <= part.median <= part.high for part in parts)
    both = 1e6 * made.batch / made.score_and_test_per_s
    assert made.score_us_per_stream.low + made.test_us_per_stream.low <= both * (1 + 1e-9)
    assert made.whole_per_s < made.score_per_s
    assert made.score_and_test_per_s < made.score_per_s


def test_baselines_are_compared_with_score_and_test_of_their_own_round(throughput_of_60):
    score, test = throughput_of_60.score_us_per_stream, throughput_of_60.test_us_per_stream
    for baseline in throughput_of_60.baselines:
        assert baseline.us_per_stream.low / (score.high + test.high) <= baseline.ratio.low * (1 + 1e-9)
        assert baseline.ratio.high <= baseline.us_per_stream.high / (score.low + test.low) * (1 + 1e-9)
    assert len(throughput.tables([throughput_of_60])) == 2


def test_without_river_its_baseline_is_left_out(monkeypatch):
    monkeypatch.setattr(throughput, "find_spec", lambda _: None)
    result = throughput.one_size(30, 24, repeats=1, sample=5)
    assert [baseline.name for baseline in result.baselines] == ["scipy, same statistic", "scipy, Welch's test"]
    assert len(throughput.tables([result])) == 2


def test_a_p_value_that_differs_from_the_baselines_is_seen(monkeypatch):
    monkeypatch.setattr(throughput, "p_value", lambda *_: 0.5)
    with pytest.raises(AssertionError):  # the first difference: streams that are not ready
        throughput.one_size(60, 24, repeats=1, sample=60)


@pytest.mark.parametrize(("m", "gap", "rho"), [(2, 1, 0.0), (4, 1, 0.3), (8, 1, 0.6), (4, 7, 0.3)])
def test_the_baselines_prediction_is_that_of_the_core(m, gap, rho):
    values = np.random.default_rng([m, gap]).standard_normal(m)
    made = stream_by_stream.pattern(m, gap, rho)
    core = predict(values[::-1, None], np.arange(gap, gap + m), Dependence(rho=rho))
    away = values - made.mean @ values
    ours = [made.weights @ values, made.mean @ values, away @ made.inverse @ away / (m - 1), made.factor, made.own]
    theirs = [core.expected, core.mean, core.variance, core.factor, core.own]
    np.testing.assert_allclose(ours, np.concatenate(theirs), rtol=1e-10)


def test_workload_is_a_fleet_whose_streams_are_of_every_age():
    seen = []
    work = workload.Workload(streams=200, batch=24, observe=lambda made, verdicts: seen.append((made, verdicts)))
    work.warm_up()
    assert [made.number for made, _ in seen] == list(range(work.closed - workload.JUDGED + 1, work.closed + 1))
    _, verdicts = seen[-1]
    assert set(verdicts.n_reference.tolist()) == set(range(9))
    assert (verdicts.n == 24).all()
    assert verdicts.certificate.is_armed
    assert 0.0 < np.mean([made.renewed.mean() for made, _ in seen]) < 3.0 * workload.RENEWED


def test_bytes_per_stream_add_up(monkeypatch):
    monkeypatch.setattr(memory, "in_another_process", memory.in_this_process)
    result = memory.one_batch_size(24, (40, 240))
    held = result.per_stream
    assert held.outcomes == pytest.approx(8 * result.slots, rel=0.05)
    assert held.forecasts == 3 * 8 * 24
    assert held.monitor_arrays >= held.monitor_saved > 16 * 8  # the ring of a float for 16 batches at the very least
    assert held.shard == pytest.approx(held.shard_arrays, rel=0.05)  # two ways to count the same
    assert held.monitor == pytest.approx(held.monitor_arrays, rel=0.25)
    assert held.resident == held.shard + held.monitor
    assert held.peak > held.resident
    assert len(memory.tables([result])) == 2


def test_arrays_are_counted_once_and_views_with_all_that_they_hold():
    whole = np.zeros((10, 8))
    kept = {"view": whole[2:4], "again": [whole, (whole.T,)], "text": "x" * 1000}
    assert memory.nbytes(kept) == whole.nbytes
    assert memory.nbytes(LossMonitor(50)) > 50 * 16 * 8


def test_a_lost_checkpoint_is_made_up_for_to_the_last_bit():
    result = restart.one_size(40, 24, batches=5, repeats=3, reopened=1)  # compares what was loaded and rebuilt
    assert result.bytes_per_stream > 16 * 8
    parts = (result.judge_ms, result.save_ms, result.close_ms, result.load_ms, result.rebuild_ms)
    assert all(0 < part.low <= part.median <= part.high for part in parts)
    assert result.save_ms.low / result.judge_ms.high <= result.save_by_judge.low * (1 + 1e-9)
    assert result.rebuild_by_load.median == pytest.approx(result.rebuild_ms.median / result.load_ms.median)
    assert len(restart.tables([result])) == 2


def test_a_rebuild_that_differs_is_seen(monkeypatch):
    seeds = itertools.count(1)
    monkeypatch.setattr(restart.monitoring, "_rebuilt", lambda *_: LossMonitor(10, seed=next(seeds)))
    with pytest.raises(AssertionError, match="made_for"):
        restart.one_size(10, 24, batches=2, repeats=1, reopened=1)


def test_a_process_of_its_own_prints_its_bytes(capsys):
    assert memory.main(["30", "24"]) == 0
    assert memory.Held(**json.loads(capsys.readouterr().out)).outcomes > 0


def test_the_state_that_status_is_timed_on_is_a_fleet(tmp_path):
    start_time.make_state(tmp_path / "state")
    state = bootstrap.open_state(tmp_path / "state")
    view = overview(state.store, state.schedule, start_time.MADE_AT + timedelta(days=start_time.BATCHES))
    state.close()
    assert (view.n_streams, view.n_batches) == (start_time.STREAMS, start_time.BATCHES)


def test_the_timed_commands_succeed():
    with start_time.commands() as commands:
        assert list(commands) == [start_time.NOTHING, "mlma --help", "mlma status"]
        for command in commands.values():
            assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_command_that_fails_is_not_timed():
    work = start_time._run([sys.executable, "-c", "raise SystemExit('no such state')"])
    with pytest.raises(RuntimeError, match="no such state"):
        work()


def test_overhead_is_a_share_of_the_replay():
    result = overhead.replay(overhead.request(2, model="ridge", train_window="28d"))
    assert result.streams == 2
    assert result.batches > 10
    assert result.trainings > 0
    assert 0 < result.share < 1
    assert math.isclose(
        result.share, result.rest_cpu_s / (result.rest_cpu_s + result.train_cpu_s + result.predict_cpu_s)
    )
    assert len(overhead.tables([result])) == 1


def test_command_prints_tables_and_writes_the_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(throughput, "SIZES", (30, 31))
    monkeypatch.setattr(throughput, "REPEATS", 1)
    assert bench.main(["--quick", "--only", "throughput", "--json", str(tmp_path / "new" / "bench.json")]) == 0
    printed = capsys.readouterr().out
    assert "River's ADWIN" in printed
    assert "level_power" in printed
    document = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert document["quick"] is True
    assert document["machine"]["numpy"]
    assert [(result["streams"], result["batch"]) for result in document["throughput"]] == [(30, 96), (30, 24)]
    assert "memory" not in document


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--only", "speed"])
    assert "throughput" in capsys.readouterr().err


def test_every_loss_test_has_its_costs_printed(capsys):
    assert loss_test_costs.main(["--streams", "20", "--losses", "6", "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in LossTestName)
