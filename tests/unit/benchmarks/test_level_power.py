"""The table of the manual in small: the level of the moderated test on healthy losses, and its power."""

import json

import numpy as np
import pytest

from benchmarks import level_power

STREAMS = 1504
SEED = 20


@pytest.mark.parametrize("process", level_power.PROCESSES, ids=lambda process: process.name)
def test_moderated_test_keeps_its_level_on_healthy_losses(process):
    # 1,504 streams: standard error 0.6 % at 5 %
    fleet = level_power.simulate(process, m=3, streams=STREAMS, seed=SEED)
    assert 0.025 <= level_power.batch_cell(fleet).level <= 0.065


def test_moderation_finds_what_the_plain_prediction_t_misses():
    fleet = level_power.simulate(level_power.PROCESSES[0], m=2, streams=STREAMS, seed=SEED)
    assert level_power.batch_cell(fleet).power > 0.95
    assert level_power.batch_cell(fleet, is_moderated=False).power < 0.5


def test_mixed_fleet_keeps_the_level_on_average():
    fleet = level_power.mixed(m=3, streams=STREAMS, seed=SEED)
    assert 0.025 <= level_power.batch_cell(fleet).level <= 0.065


@pytest.mark.parametrize("m", [2, 3, 5, 8])
@pytest.mark.parametrize("events", [2, 5])
def test_log_floor_keeps_the_level_of_batches_with_few_events(events, m):
    # 6,000 streams: standard error 0.3 % at 5 %
    counts = np.random.default_rng([SEED, m]).poisson(events / 96, (6000, m + 1, 96)).astype(float)
    fleet = level_power.Fleet(reference=counts[:, :m], healthy=counts[:, m], degraded=counts[:, m])
    assert 0.025 <= level_power.batch_cell(fleet).level <= 0.06


def test_command_prints_tables_and_json(capsys):
    assert level_power.main(["--streams", "80"]) == 0
    assert "| mixed fleet |" in capsys.readouterr().out
    assert level_power.main(["--streams", "80", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["rows"]) == len(level_power.PROCESSES) + 1


def test_command_refuses_a_fleet_that_cannot_be_split(capsys):
    with pytest.raises(SystemExit):
        level_power.main(["--streams", "81"])
    assert "multiple of 8" in capsys.readouterr().err
