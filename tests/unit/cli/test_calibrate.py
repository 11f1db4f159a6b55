"""`mlma calibrate` on a small part of the real departures, on recorded losses, and on what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mlma import bootstrap
from mlma.cli.main import app

REPLAYED = "--batch 2d --train-window 14d --model ridge --executor inline --quick --rise 1"


def run(*words):
    return CliRunner().invoke(app, ["calibrate", *map(str, words)], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def departures(tmp_path_factory):
    """Three airports of the shipped data, 40 days."""
    path = tmp_path_factory.mktemp("departures") / "departures.parquet"
    frame = pd.read_parquet(bootstrap.demo_data())
    some = frame["stream"].isin(["ATL", "ORD", "DFW"]) & (frame["ts"] < frame["ts"].min() + pd.Timedelta(days=40))
    frame[some].astype({"stream": "str"}).to_parquet(path)
    return path


def losses(n_streams=3, n_days=10, **columns):
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=24 * n_days, freq="h")
    frames = [
        pd.DataFrame({"stream": f"s{i}", "ts": times, "loss": np.abs(rng.standard_normal(len(times)))})
        for i in range(n_streams)
    ]
    return pd.concat(frames, ignore_index=True).assign(**columns)


@pytest.fixture
def written(tmp_path):
    def write(frame, name="losses.csv"):
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def test_real_departures_are_trained_once_and_calibrated(departures):
    ran = run(departures, *REPLAYED.split(), "--streams", 2)
    assert ran.exit_code == 0, ran.output
    lines = ran.stdout.splitlines()
    assert lines[0].endswith(
        "(ridge, trained once): 2 streams, 13 batches of 2d with 48 losses, 2001-01-15 to 2001-02-10"
    )
    assert lines[1].startswith(
        "moderated, alpha 5 %, fleet rule none, reference pooled 8, effect floor 5 %, relative to"
    )
    headings = [line.split("  ")[0] for line in lines]
    for heading in (
        "false alarms",
        "sham streams",
        "streams as they are",
        "nothing (chance)",
        "+100 %",
        "none (yours)",
        "bh",
    ):
        assert heading in headings
    assert "loss test" not in headings
    assert sum("sham tests" in line or "Batches of 2d see" in line for line in lines) == 2


def test_recorded_losses_need_no_model(written):
    path = written(losses(naive_loss=1.0))
    options = ["--losses", "--batch", "1d", "--quick", "--rise", 0.5, "--alpha", 0.1, "--alpha", 0.01, "--json"]
    ran = run(path, *options)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    main = found["figures"]["main"]
    assert (found["model"], found["relative"], main["n_streams"], main["n_batches"]) == ("", True, 3, 10)
    assert main["certificate"]["promised"] == main["settings"]["alpha"] == 0.1
    assert [one["settings"]["alpha"] for one in found["figures"]["alphas"]] == [0.01]
    assert [one["drift"]["rise"] for one in main["power"]] == [0.5]
    assert len(main["rules"]) == 6
    assert 0 < len(found["advice"]) <= 3


def test_files_of_a_directory_are_read_together(written, tmp_path):
    frame = losses()
    written(frame[frame["stream"] == "s0"], "a.csv")
    written(frame[frame["stream"] != "s0"].rename(columns={"loss": "error"}).assign(loss=1.0), "b.csv")
    ran = run(tmp_path, "--losses", "--batch", "1d", "--quick", "--rise", 0.5, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["figures"]["main"]["n_streams"] == 3


def test_settings_come_from_the_file_and_options_go_before_it(written, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("schedule: {batch: 1d}\ntesting: {fleet: bh, alpha: 0.2}\nsource: {stream_column: name}\n")
    path = written(losses().rename(columns={"stream": "name"}))
    words = [
        path,
        "--losses",
        "--config",
        config,
        "--quick",
        "--rise",
        0.5,
        "--alpha",
        0.1,
        "--set",
        "testing.season=2",
    ]
    ran = run(*words, "--json")
    assert ran.exit_code == 0, ran.output
    settings = json.loads(ran.stdout)["figures"]["main"]["settings"]
    assert (settings["fleet"], settings["alpha"], settings["season"]) == ("bh", 0.1, 2)


def with_cells(column, value, n):
    frame = losses()
    frame[column] = frame[column].astype(object)
    frame.loc[frame.index[:n], column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (losses().drop(columns="loss"), "column 'loss' is missing; expected the columns 'stream', 'ts', 'loss'"),
        (with_cells("loss", "high", 3), "column 'loss': 3 of 720 rows hold text, first row 1: 'high'"),
        (with_cells("loss", -0.5, 2), "column 'loss': 2 of 720 rows hold a negative loss, first row 1: -0.5"),
        (losses(n_days=1), "too little data: 1 closed batch with losses, expected at least 6"),
    ],
)
def test_wrong_losses_are_one_sentence_with_counts(written, frame, message):
    ran = run(written(frame), "--losses", "--batch", "1d")
    assert ran.exit_code == 2
    assert message in ran.output


def test_too_few_batches_after_the_train_window_are_named(departures):
    ran = run(departures, *REPLAYED.split(), "--streams", 1, "--train-window", "34d")
    assert ran.exit_code == 2
    assert "too little data: 3 closed batches with losses, expected at least 6 (2 for the smallest" in ran.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--losses", "--model", "ridge", "--horizon", "1h"], "so --horizon, --model cannot be given with it"),
        (["--naive-column", "naive"], "--naive-column: belongs to --losses"),
        (["--alpha", "1.5"], "--alpha 1.5: expected a rate between 0 and 1"),
        (["--rise", "0"], "--rise 0: expected a relative rise above 0"),
        (["--rise", "nan"], "--rise nan: expected a relative rise above 0"),
        (["--aggregate", "median"], "--aggregate 'median': expected sum, mean or none"),
        (["--losses", "--naive-column", "other"], "column 'other' is missing"),
        (["--losses", "--batch", "soon"], "'soon': expected a duration"),
    ],
)
def test_options_without_meaning_are_refused(written, words, message):
    ran = run(written(losses(n_days=2)), *words)
    assert ran.exit_code == 2
    assert message in ran.output


def test_a_path_without_data_is_named(tmp_path):
    assert "does not exist; expected a file, or a directory with files" in run(tmp_path / "nothing").output
    assert "holds no file whose name ends in .parquet, .csv, .csv.gz" in run(tmp_path).output
