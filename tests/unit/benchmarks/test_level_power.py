"""The tables of the manual in small: the processes are what they say, and the figures are those of the monitor."""

import json

import numpy as np
import pytest

from benchmarks import level_power, level_processes
from benchmarks.level_power import Row, Share
from benchmarks.level_processes import BATCH, PROCESSES, SHIFT, simulate

STREAMS = 800
SEED = 20
NAMES = [process.name for process in PROCESSES]


def _process(name):
    return PROCESSES[NAMES.index(name)]


@pytest.mark.parametrize("name", ["iid", "AR(.5)", "scale season", "0/1, p = .1", "counts, rate .1", "heavy tail t3"])
@pytest.mark.parametrize("is_twin", [False, True])
def test_degraded_losses_are_half_a_standard_deviation_higher(name, is_twin):
    twins = {"0/1, p = .1": "0/1, more events", "counts, rate .1": "counts, higher rate"}
    healthy, degraded = simulate(
        _process(twins.get(name, name) if is_twin else name), batches=3, streams=400, seed=SEED
    )
    assert healthy.shape == degraded.shape == (3, 400, BATCH)
    # 115,200 losses, dependent ones worth a third: standard error 1 % of a standard deviation; t3 has no fourth moment
    tolerance = 0.05 if name == "heavy tail t3" else 0.03
    assert (degraded.mean() - healthy.mean()) / healthy.std() == pytest.approx(SHIFT, abs=tolerance)


def test_weeks_repeat_after_seven_batches_only():
    losses, _ = simulate(_process("weekly, of its own"), batches=15, streams=500, seed=SEED)
    level = np.log(losses.mean(axis=2))
    assert np.corrcoef(level[14], level[7])[0, 1] > 0.8
    assert abs(np.corrcoef(level[14], level[11])[0, 1]) < 0.2


@pytest.mark.parametrize(("name", "rho"), [("AR(.5) between batches", 0.4), ("slow AR between losses", 0.6)])
def test_neighbouring_batches_are_as_dependent_as_they_say(name, rho):
    losses, _ = simulate(_process(name), batches=2, streams=2000, seed=SEED)
    level = np.log(losses.mean(axis=2))
    assert np.corrcoef(level)[0, 1] == pytest.approx(rho, abs=0.1)


@pytest.mark.parametrize("name", ["AR(.8)", "0/1, p = .1", "weekly, of its own"])
def test_the_monitor_keeps_its_level_and_finds_what_an_oracle_finds(name):
    row = level_power.measure(_process(name), streams=STREAMS, seeds=1)
    for kind in ("monitor", "alone", "accumulating"):
        for m in level_power.SIZES:
            # 800 streams: standard error 0.8 % at 5 %
            assert 0.02 <= row.level[kind][0.05][m].mean <= 0.075
    assert row.power["alone"][3].mean == pytest.approx(row.oracle[3], abs=0.1)


def _row(level, power, oracle, design):
    made = Share(mean=level, error=0.001)
    level_by_kind = {kind: {0.05: {3: made}} for kind in level_power.KINDS}
    power_by_kind = {kind: {3: Share(mean=power, error=0.0)} for kind in level_power.KINDS}
    return Row(
        losses="x", has_own_level=True, level=level_by_kind, power=power_by_kind, oracle={3: oracle},
        design={3: design}, others={},
    )  # fmt: skip


@pytest.mark.parametrize(("level", "n"), [(0.024, 3), (0.025, 0), (0.06, 0), (0.061, 3)])
def test_a_broken_promise_is_named(level, n):
    assert len(level_power.misses([_row(level, 1.0, 1.0, 1.0)])) == n


@pytest.mark.parametrize(
    ("power", "oracle", "word"), [(0.90, 0.97, "possible"), (0.90, 0.93, "sampling noise"), (0.96, 0.97, None)]
)
def test_power_below_the_design_is_named_with_what_is_possible(power, oracle, word):
    found = level_power.below_design([_row(0.05, power, oracle, 0.96)])
    assert [word in text for text in found] == ([] if word is None else [True])


def test_command_prints_tables_and_json(capsys):
    size = ["--streams", "80", "--seeds", "1", "--only", "iid"]
    assert level_power.main(size) == 0
    assert "| iid |" in capsys.readouterr().out
    assert level_power.main([*size, "--json"]) == 0
    assert [row["losses"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["iid"]


def test_command_refuses_a_fleet_without_a_minority(capsys):
    with pytest.raises(SystemExit):
        level_power.main(["--streams", "9"])
    assert "expected 40 or more" in capsys.readouterr().err


def test_overlapping_errors_deceive_every_test_on_single_losses():
    row = level_power.measure(_process("overlap h = 24"), streams=400, seeds=1)
    assert row.others["Welch"] > 0.2
    assert row.others["HAC mean"] > 0.08
    assert row.level["monitor"][0.05][3].mean < 0.08


def test_every_row_of_the_design_is_measured():
    assert sum(bool(process.design) for process in level_processes.PROCESSES) == 8
