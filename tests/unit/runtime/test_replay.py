"""Replays of recorded data: policies share work, counts are exact, and dirty files give what clean ones give."""

import csv
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlma import bootstrap
from mlma.core.admission import admit
from mlma.core.errors import ConfigError, MlmaError, SourceError
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.runtime import engine, replay_data
from mlma.runtime.replay import ReplayArtifacts, ReplayProgress, TrainingPool
from mlma.runtime.replay_data import ReplayRequest
from mlma.runtime.serving import Memo
from mlma.runtime.training import TrainingJob
from tests.unit.runtime import odd_model
from tests.unit.runtime.memory_fleet import ANCHOR, HOURS, ODD, SCHEDULE, TINY, demand, rows_of

DAYS, WINDOW = 40, 28  # the first version is trained after day 28, and then a batch a day is scored
BATCHES = DAYS - WINDOW
POLICIES = ("never", "always", "calendar:4", "test", "mlma")


def write(path: Path, y: np.ndarray, *, names: list[str] | None = None, lines: list[list[str]] | None = None) -> Path:
    """A CSV file of hourly rows; ``lines`` come after them."""
    names = names or [f"s{i}" for i in range(len(y))]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["stream", "ts", "y"])
        for name, values in zip(names, y, strict=True):
            for hour in np.flatnonzero(np.isfinite(values)).tolist():
                stamp = ANCHOR + timedelta(hours=hour)
                out.writerow([name, stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), repr(float(values[hour]))])
        out.writerows(lines or [])
    return path


def request(data: Path, **changed: object) -> ReplayRequest:
    asked = ReplayRequest(
        data=data, frequency="1h", horizon="6h", batch="1d", train_window=f"{WINDOW}d", model=TINY, executor="inline",
        policies=POLICIES, settings={"testing.yardstick": "none"},  # the break spoils seasonal naive as well
    )  # fmt: skip
    return replace(asked, **changed)  # type: ignore[arg-type]


def figures(data: Path, **changed: object) -> dict:  # type: ignore[type-arg]
    made = bootstrap.run_replay(request(data, **changed)).to_json()
    return json.loads(json.dumps(made))  # what the file on disk would hold


def timeless(made: dict) -> dict:  # type: ignore[type-arg]
    """The figures without CPU times and the path."""
    kept = {key: made[key] for key in ("streams", "batches", "skipped")}
    timed = ("total_cost", "cost_difference")  # the larger of the two shares may be that of the CPU time
    kept["policies"] = {
        name: {key: value for key, value in numbers.items() if "cpu" not in key and key not in timed}
        for name, numbers in made["policies"].items()
    }
    return kept


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clean") / "clean.csv", demand(4, DAYS, breaks_on=34))


@pytest.fixture(scope="module")
def result(clean: Path) -> dict:  # type: ignore[type-arg]
    return figures(clean)


def test_the_json_holds_what_evaluations_read(result: dict) -> None:  # type: ignore[type-arg]
    assert {"streams", "batches", "skipped", "policies", "settings", "seconds"} <= set(result)
    assert list(result["policies"]) == list(POLICIES)
    for numbers in result["policies"].values():
        assert {
            "mean_loss", "relative_loss_to_always", "relative_loss_to_naive", "trainings", "training_share_of_always",
            "training_cpu_share_of_always", "alarms", "cpu_s", "relative_loss_interval", "total_cost",
            "cost_difference", "against_calendar", "streams_compared", "streams_left_out",
        } <= set(numbers)  # fmt: skip
        assert set(numbers["cpu_s"]) == {"train", "evergreen", "predict", "rest"}
        for spread in ("relative_loss_to_always", "relative_loss_to_naive"):
            assert set(numbers[spread]) == {"mean", "median", "p90"}
    assert (result["streams"], result["batches"], result["skipped"]) == (4, BATCHES, [])


def test_trainings_of_the_baselines_are_exact(result: dict) -> None:  # type: ignore[type-arg]
    trainings = {name: numbers["trainings"] for name, numbers in result["policies"].items()}
    assert trainings["never"] == 4
    assert trainings["always"] == 4 * (BATCHES + 1)
    assert trainings["calendar:4"] == 4 * (1 + BATCHES // 4)
    assert trainings["never"] < trainings["test"] < trainings["always"]
    share = result["policies"]["calendar:4"]["training_share_of_always"]
    assert share == pytest.approx(trainings["calendar:4"] / trainings["always"], abs=1e-5)


def test_always_relative_to_itself_is_one(result: dict) -> None:  # type: ignore[type-arg]
    always = result["policies"]["always"]
    assert always["relative_loss_to_always"] == {"mean": 1.0, "median": 1.0, "p90": 1.0}
    assert always["training_share_of_always"] == always["training_cpu_share_of_always"] == 1.0


def test_the_baselines_raise_no_alarm_that_counts_as_a_training(result: dict) -> None:  # type: ignore[type-arg]
    assert result["policies"]["test"]["alarms"] > 0
    assert result["policies"]["never"]["alarms"] is None
    assert result["policies"]["never"]["trainings"] == 4


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_alone_gives_what_it_gives_beside_others(clean: Path, result: dict, name: str) -> None:  # type: ignore[type-arg]
    alone = figures(clean, policies=(name,))["policies"][name]
    together = result["policies"][name]
    for key in ("mean_loss", "relative_loss_to_naive", "trainings", "alarms"):
        assert alone[key] == together[key], key
    if name != "always":
        assert alone["relative_loss_to_always"] is None


def test_one_stream_and_origin_is_trained_once_however_many_policies_need_it(clean: Path) -> None:
    def fits(*policies: str) -> int:
        odd_model.FITS.clear()
        figures(clean, model=ODD, policies=policies)
        return len(odd_model.FITS)

    alone = {policy: fits(policy) for policy in ("never", "always", "calendar:4")}
    assert alone == {"never": 4, "always": 4 * (BATCHES + 1), "calendar:4": 4 * (1 + BATCHES // 4)}
    assert fits("never", "calendar:4", "always", "calendar:3", "calendar:2") == alone["always"]


def test_full_fits_are_shared_whatever_asked_for_them(clean: Path) -> None:
    odd_model.FITS.clear()
    made = figures(clean, model=ODD, policies=("always", "test", "debt", "random:3"))["policies"]
    assert all(made[name]["trainings"] > 4 for name in made)
    assert len(odd_model.FITS) == made["always"]["trainings"]


def test_a_pool_starts_a_training_once_and_gives_it_to_everyone() -> None:
    pool = TrainingPool()
    y = demand(1, 56)[0]
    job = TrainingJob(
        stream_id=0, batch=1, start=0, y=y, first=42 * HOURS, last=56 * HOURS, skipped=np.zeros(len(y), dtype=np.bool_),
        schedule=SCHEDULE, model=bootstrap.load_settings(None, {"model.name": ODD}).model.to_core(),
    )  # fmt: skip
    odd_model.FITS.clear()
    pool.start(job)
    pool.start(job)
    assert len(odd_model.FITS) == 1
    one, other = (pool.take({job.key}, wait=True) for _ in range(2))
    assert one[0] is other[0]
    pool.forget()
    assert pool.take({job.key}, wait=True) == []


def test_what_follows_from_the_outcomes_is_found_once_and_its_time_is_told() -> None:
    memo, made = Memo(), Counter[str]()

    def find() -> float:
        made["find"] += 1
        return float(np.sort(np.random.default_rng(0).random(200_000)).sum())

    first, spared_at_first = memo.once(("sum",), find)
    again, spared = memo.once(("sum",), find)
    assert made["find"] == 1
    assert again == first
    assert spared_at_first == 0.0
    assert spared > 0.0
    memo.clear()
    memo.once(("sum",), find)
    assert made["find"] == 2


def test_rows_are_judged_once_for_all_policies(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def counted(*args: Any, **told: Any) -> Any:
        judged.append(told["seq"])
        return admit(*args, **told)

    monkeypatch.setattr(engine, "admit", counted)
    figures(clean, policies=("never", "calendar:2"))
    assert len(judged) == len(set(judged)) > 1


def test_models_that_nobody_serves_are_forgotten() -> None:
    memo, model = Memo(), odd_model.OddModel()
    memo.loaded = {"a": (model, 0.1), "b": (model, 0.1)}
    memo.clear({"b"})
    assert list(memo.loaded) == ["b"]


def test_artifacts_that_nobody_serves_are_forgotten() -> None:
    artifacts = ReplayArtifacts()
    kept, gone = artifacts.save(b"kept"), artifacts.save(b"gone")
    artifacts.keep({kept})
    assert artifacts.load(kept) == b"kept"
    with pytest.raises(MlmaError, match="no policy of this replay serves it"):
        artifacts.load(gone)


def test_equal_artifacts_are_one_also_when_their_objects_differ() -> None:
    artifacts = ReplayArtifacts()
    one, other = bytes(range(200)), bytes(bytearray(range(200)))
    assert one is not other
    names = [artifacts.save(one), artifacts.save(other), artifacts.save(one)]
    del one
    names += [artifacts.save(bytes(bytearray([i]) * 200)) for i in range(50)]  # may stand where another has been
    assert len(set(names)) == 51
    artifacts.keep({names[0]})
    assert artifacts.save(other) == names[0]
    assert artifacts.save(b"other") != names[0]


# dirty files


def test_unsorted_and_repeated_rows_and_text_give_the_result_of_the_clean_file(
    tmp_path: Path, clean: Path, result: dict
) -> None:  # type: ignore[type-arg]
    head, *body = clean.read_text().splitlines()
    rng = np.random.default_rng(5)
    repeated = [body[i] for i in rng.choice(len(body), 50, replace=False)]
    missing = ["s1,2024-01-03T07:30:00Z,", "ghost,2024-01-03T07:00:00Z,"]
    bad = ["s1,2024-02-30T00:00:00Z,5.0", "s2,2024-01-20T05:00:00Z,many", "s3,noon,5.0", ",2024-01-20T05:00:00Z,5.0"]
    mixed = body + repeated + [line for line in missing if "ghost" not in line]
    mixed = [mixed[i] for i in rng.permutation(len(mixed))]
    dirty = tmp_path / "dirty.csv"
    dirty.write_text("\n".join([head, *mixed, *bad]) + "\n")
    made = timeless(figures(dirty, aggregate="none"))
    expected = timeless(result)
    assert made["policies"] == expected["policies"]
    counts = Counter(entry["reason"] for entry in made["skipped"])
    assert counts["duplicate"] == 4
    assert sum(entry["rows"] for entry in made["skipped"] if entry["reason"] == "duplicate") >= 49
    assert {"not_a_number", "bad_time", "bad_stream"} <= set(counts)
    for entry in made["skipped"]:
        assert {"stream", "reason", "rows", "first_row", "column", "value", "expected"} == set(entry)


def test_missing_values_are_gaps(tmp_path: Path) -> None:
    y = demand(3, DAYS)
    y[1, 30 * HOURS : 30 * HOURS + 5] = np.nan
    gap = write(tmp_path / "gap.csv", y)
    empty = tmp_path / "empty.csv"
    cells = [f"s1,2024-01-31T{hour:02d}:00:00Z," for hour in range(5)]
    empty.write_text(gap.read_text() + "\n".join(cells) + "\n")
    some = ("always", "mlma")  # what is read is the same for all of them
    assert timeless(figures(gap, policies=some)) == timeless(figures(empty, policies=some))


def test_streams_of_different_length_each_count_where_they_live(tmp_path: Path) -> None:
    y = demand(5, DAYS)
    y[1, : 20 * HOURS] = np.nan  # born late, earns a model
    y[2, 33 * HOURS :] = np.nan  # dies
    y[3, : 39 * HOURS] = np.nan  # too short
    y[4, 2 * HOURS :] = np.nan  # hardly there
    made = figures(write(tmp_path / "ragged.csv", y))
    assert (made["streams"], made["batches"]) == (5, BATCHES)
    skipped = {entry["stream"]: entry["reason"] for entry in made["skipped"]}
    assert set(skipped) == {"s3", "s4"}
    assert all("too little data" in reason for reason in skipped.values())
    assert made["policies"]["always"]["relative_loss_to_always"]["mean"] == 1.0
    assert made["policies"]["never"]["trainings"] == 3


def test_a_last_batch_that_is_not_full_is_not_scored(tmp_path: Path) -> None:
    y = demand(3, DAYS)
    y[:, DAYS * HOURS - 1 :] = np.nan
    assert figures(write(tmp_path / "cut.csv", y), policies=("never",))["batches"] == BATCHES - 1


def test_data_finer_than_the_frequency_are_added_up(tmp_path: Path) -> None:
    y = demand(2, DAYS)
    whole = write(tmp_path / "hours.csv", np.round(y * 4) / 4)
    quarters = tmp_path / "quarters.csv"
    with quarters.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["stream", "ts", "y"])
        for line in csv.DictReader(whole.read_text().splitlines()):
            start = datetime.fromisoformat(line["ts"]).astimezone(UTC)
            for minutes in (0, 15, 30, 45):
                at = start + timedelta(minutes=minutes)
                out.writerow([line["stream"], at.strftime("%Y-%m-%dT%H:%M:%SZ"), repr(float(line["y"]) / 4)])
    made, wanted = figures(quarters, policies=("never",)), figures(whole, policies=("never",))
    assert timeless(made) == timeless(wanted)
    assert made["settings"]["aggregated"].startswith("sum of up to 4 rows a slot")


def test_a_stray_clock_in_the_future_is_refused_and_does_not_prolong_the_replay(
    tmp_path: Path, clean: Path, result: dict
) -> None:  # type: ignore[type-arg]
    stray = tmp_path / "stray.csv"
    stray.write_text(clean.read_text() + "s1,2099-01-01T00:00:00Z,100.0\n")
    made = timeless(figures(stray))
    assert (made["batches"], made["policies"]) == (BATCHES, timeless(result)["policies"])
    (entry,) = made["skipped"]
    assert (entry["stream"], entry["reason"], entry["rows"]) == ("s1", "future", 1)


def test_a_clock_that_says_1970_is_refused_and_does_not_move_the_anchor(
    tmp_path: Path, clean: Path, result: dict
) -> None:  # type: ignore[type-arg]
    stray = tmp_path / "stray.csv"
    head, *body = clean.read_text().splitlines()
    stray.write_text("\n".join([head, "s1,1970-01-01T00:00:00Z,100.0", *body]) + "\n")
    made = timeless(figures(stray))
    assert (made["batches"], made["policies"]) == (BATCHES, timeless(result)["policies"])
    (entry,) = made["skipped"]
    assert (entry["stream"], entry["reason"], entry["first_row"]) == ("s1", "too_old", 1)


def test_a_long_break_in_the_data_is_not_taken_for_a_stray_clock() -> None:
    rows = rows_of(demand(2, 10), 0, 240)
    late = replace(rows, time_us=rows.time_us + np.where(rows.time_us > rows.time_us[200], 400, 0) * 86_400_000_000)
    oldest, newest = replay_data.main_span(late, timedelta(days=5))
    assert (oldest, newest) == (ANCHOR, ANCHOR + timedelta(days=409, hours=23))


def test_data_shorter_than_the_train_window_are_refused_with_a_sentence(tmp_path: Path) -> None:
    short = write(tmp_path / "short.csv", demand(2, WINDOW))
    with pytest.raises(SourceError, match="train window"):
        figures(short)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("s1,,5\ns1,noon,5\n", "row 2 has 'noon'"),
        ("s1,1609459200,5\n", "row 1 has '1609459200' .a plain number"),
        ("s1,,5\n", "all are empty"),
        ("", "there are no rows"),
    ],
)
def test_a_file_without_a_time_is_refused_with_what_it_has_instead(tmp_path: Path, cell: str, found: str) -> None:
    path = tmp_path / "timeless.csv"
    path.write_text(f"stream,ts,y\n{cell}")
    with pytest.raises(SourceError, match=f"no row holds a time, {found}"):
        figures(path)


def test_a_file_of_which_no_row_is_on_the_grid_is_told_by_row_and_scores_nothing(tmp_path: Path) -> None:
    rows = [["s0", (ANCHOR + timedelta(hours=h, minutes=17)).isoformat(), "1.0"] for h in range(24 * DAYS)]
    made = figures(write(tmp_path / "late.csv", np.empty((0, 0)), lines=rows), policies=("always", "mlma"))
    assert (made["streams"], [one["mean_loss"] for one in made["policies"].values()]) == (0, [None, None])
    assert [(note["stream"], note["reason"], note["first_row"]) for note in made["skipped"]] == [("s0", "off_grid", 1)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"policies": ("sometimes",)}, "policy 'sometimes'"),
        ({"frequency": "1 fortnight"}, "expected a duration"),
        ({"batch": "25h"}, "batch"),
        ({"model": "prophet"}, "'prophet'"),
        ({"model": "nowhere:Nothing"}, "nowhere"),
    ],
)
def test_a_request_that_cannot_be_is_refused(clean: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(MlmaError, match=message):
        figures(clean, **changed)


def test_an_unknown_policy_is_a_configuration_error(clean: Path) -> None:
    with pytest.raises(ConfigError):
        figures(clean, policies=("calendar:0",))


# pieces


def test_streams_are_drawn_by_seed(clean: Path) -> None:
    def drawn(seed: int) -> list[str]:
        rows = rows_of(demand(20, 1), 0, 2)
        limited = replay_data.limited(rows, 5, seed)
        return sorted({limited.stream_names[code] for code in limited.stream_code})

    assert drawn(1) == drawn(1)
    assert len(drawn(1)) == 5
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1
    rows = rows_of(demand(3, 1), 0, 2)
    assert replay_data.limited(rows, 3, 0) is rows
    assert replay_data.limited(rows, None, 0) is rows
    assert figures(clean, limit_streams=2, policies=("never",))["streams"] == 2


def test_streams_that_a_file_names_without_a_row_are_not_drawn() -> None:
    rows = rows_of(demand(20, 1), 0, 2)
    some = replay_data.taken(rows, np.flatnonzero(rows.stream_code % 5 == 0))  # 4 of the 20 have rows left
    found = replay_data.limited(some, 3, 0)
    assert len(np.unique(found.stream_code)) == 3
    assert set(found.stream_code.tolist()) < {0, 5, 10, 15}
    assert replay_data.limited(some, 4, 0) is some


def test_rows_that_are_taken_keep_their_marked_cells() -> None:
    rows = replace(rows_of(demand(2, 1), 0, 3), time_text={1: "noon"}, y_text={4: "many"}, broken={5: "a,b,c,d"})
    found = replay_data.taken(rows, np.array([5, 4, 0]))
    assert found.row.tolist() == [6, 5, 1]
    assert (found.time_text, found.y_text, found.broken) == ({}, {1: "many"}, {0: "a,b,c,d"})


def test_rows_go_to_their_batch_and_those_without_a_time_to_the_first() -> None:
    made = rows_of(demand(2, 6), 0, 6 * HOURS)
    rows = replace(made, time_us=np.where(np.arange(len(made)) == 100, NO_TIME, made.time_us))
    schedule = Schedule(anchor=ANCHOR, frequency=timedelta(hours=1), horizon=6, batch=24, train_window=48)
    parts, last = replay_data.by_batch(rows, schedule, 2)
    assert last == 5
    assert {batch: len(part) for batch, part in parts.items()} == {2: 6 * HOURS + 1, 3: 48, 4: 48 - 1, 5: 48}
    assert sorted(row for part in parts.values() for row in part.row.tolist()) == rows.row.tolist()
    assert isinstance(parts[3], Rows)


def test_progress_is_told_batch_by_batch(clean: Path) -> None:
    told: list[ReplayProgress] = []
    bootstrap.run_replay(request(clean, policies=("never", "always")), progress=told.append)
    assert [(p.batch, p.policy) for p in told[:4]] == [(0, "never"), (0, "always"), (1, "never"), (1, "always")]
    assert {p.n_batches for p in told} == {BATCHES}
    assert told[0].eta_s is None
    assert told[-1].eta_s == 0.0
    assert told[-1].batch == BATCHES
