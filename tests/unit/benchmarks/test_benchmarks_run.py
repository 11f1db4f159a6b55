"""The benchmarks of `make bench` in miniature: their numbers exist and agree with each other. No speed is asserted."""

import itertools
import json
import math
import subprocess
import sys
from datetime import timedelta

import pytest

from benchmarks import __main__ as bench
from benchmarks import measuring, memory, overhead, start_time, throughput
from benchmarks.measuring import Spread
from mlma import bootstrap
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


@pytest.mark.parametrize("batch", throughput.BATCHES)
def test_baselines_do_the_same_work_as_the_shard(batch):
    result = throughput.one_size(60, batch, repeats=3, sample=20)
    assert result.largest_difference < 1e-9  # p-values of the shard and of scipy, stream by stream
    parts = (result.score_us_per_stream, result.judge_us_per_stream, result.take_in_us_per_stream)
    assert all(0 < part.low <= part.median <= part.high for part in parts)
    ours = 1e6 * batch / result.score_and_test_per_s
    assert result.score_us_per_stream.low <= ours
    for baseline in result.baselines:
        assert baseline.us_per_stream.low / (parts[0].high + parts[1].high) <= baseline.ratio.low * (1 + 1e-9)
        assert baseline.ratio.high <= baseline.us_per_stream.high / (parts[0].low + parts[1].low) * (1 + 1e-9)
    assert len(throughput.tables([result])) == 2


def test_bytes_per_stream_add_up(monkeypatch):
    monkeypatch.setattr(memory, "in_another_process", memory.in_this_process)
    result = memory.one_batch_size(24, (40, 240))
    held = result.per_stream
    assert held.outcomes == pytest.approx(8 * result.slots, rel=0.05)
    assert held.losses == 2 * 8 * memory.RING_BATCHES
    assert held.batches == 3 * 8 * 24
    assert 0 <= held.rest < 0.2 * held.resident
    assert held.peak > held.resident
    assert len(memory.tables([result])) == 1


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
