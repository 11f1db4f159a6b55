"""Events and faults in miniature: what is counted, against what is known of the synthetic data."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import storms, storms_events, storms_scenarios, storms_versions
from benchmarks.storms_events import Run
from benchmarks.storms_scenarios import Scenario

EVENTS = """dataset,streams,start,end,kind,event,evidence_in_this_copy
made,"A*, B most streams",2001-01-11,2001-01-11,"abrupt, recovers",a storm,none
"""
SCENARIO = Scenario(
    name="made", dataset="made", streams=("A1", "C"), first="2001-01-01", last="2001-01-16", window="7d",
    events=("a storm",), flag=storms_scenarios.by_category,
)  # fmt: skip
WARM_DAYS = 7
FLAGGED = {3: 2, 12: 6}
"""Faults of A1 by day; six hours are more than a twentieth of a day, two are not worth looking at a batch for."""


def rows() -> pd.DataFrame:
    hours = pd.date_range("2001-01-01", "2001-01-16 23:00", freq="h")
    rng = np.random.default_rng(0)
    parts = []
    for name in ("A1", "C", "left out"):
        y = 50 + 20 * np.sin(2 * np.pi * hours.hour / 24) + rng.normal(0, 1, len(hours))
        parts.append(pd.DataFrame({"stream": name, "ts": hours, "y": y, "category": "OKAY"}))
    made = pd.concat(parts, ignore_index=True)
    for day, n in FLAGGED.items():
        at = made.index[(made["stream"] == "A1") & (made["ts"].dt.day == day + 1)][:n]
        made.loc[at, "category"] = "DELTA"
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sets")
    rows().to_parquet(made / "made.parquet", index=False)
    (made / "known_events.csv").write_text(EVENTS)
    return made


@pytest.fixture(scope="module")
def found(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storms, "POLICIES", ("never", "always", "mlma-blend"))
        return storms.measured(SCENARIO, folder, seed=0)


def test_streams_of_a_scenario_are_replayed_and_no_others(found):
    assert (found.streams, found.batches) == (2, 16 - WARM_DAYS)
    assert found.trainings["never"] == 2
    assert found.trainings["always"] == 2 * (1 + found.batches)
    assert found.relative_loss["always"] == pytest.approx(1.0)


def test_trainings_of_an_event_are_those_in_it_and_in_the_two_batches_after(found):
    by_policy = {one.policy: one for one in found.events}
    assert {one.streams for one in found.events} == {1}
    assert by_policy["never"].trainings == 0
    assert by_policy["always"].trainings == 3
    assert by_policy["always"].reasons == {"always": 3}


def test_versions_of_an_event_have_no_weight_once_newer_ones_serve(found):
    by_policy = {one.policy: one for one in found.events}
    assert by_policy["always"].storm_weight == 0.0
    assert by_policy["always"].looked_at == "2001-01-17"
    assert by_policy["always"].serving == {"A1": "0-14-0 at 1.00"}  # the one of day 15 serves next
    assert by_policy["never"].serving == {"A1": "0-6-0 at 1.00"}


def test_the_only_version_of_a_policy_is_in_the_hindsight_of_all(found):
    by_policy = {one.policy: one for one in found.events}
    assert all(0.0 <= one.excess_days_after <= 14.0 for one in by_policy.values())


def test_versions_of_an_event_are_compared_with_those_of_before(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storms, "POLICIES", ("never", "always", "random:3"))
        patch.setattr(storms_versions, "LATER_BATCHES", 4)  # so that the last training is one of the event
        found = {one.policy: one for one in storms.measured(SCENARIO, folder, seed=0).unseen}
    assert found["never"].streams == ()
    assert found["always"].streams == ("A1",)
    (loss,), (unseen,) = found["always"].loss, found["always"].unseen
    assert 0.0 < loss < 2.0 > unseen > 0.0  # sd of the noise: 1


def test_without_rows_that_mislead_a_training_is_better(folder):
    broken = rows().assign(y=lambda made: made["y"].mask(made["ts"].dt.day == 11, made["y"] / 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storms, "POLICIES", ("always",))
        made = broken[broken["stream"] != "left out"].assign(fault=False)
        patch.setattr(storms, "rows_of", lambda *_, **__: made)
        (found,) = storms.measured(SCENARIO, folder, seed=0).retrained
    assert (found.event, found.streams) == ("a storm", ("A1",))
    assert found.without_rows[0] < found.with_rows[0]
    assert found.before[0] < found.with_rows[0]


def test_faults_count_once_for_each_training_that_learned_from_them(found):
    faults = {one.policy: one for one in found.faults}
    assert {one.flagged_rows for one in faults.values()} == {8}
    assert {one.admitted_rows for one in faults.values()} == {8}
    assert {one.flagged_batches for one in faults.values()} == {1}  # those in the warm-up order nothing
    assert (faults["never"].learned_rows, faults["never"].learned_times) == (2, 2)
    # day 3 is in the windows of the trainings after days 6 .. 9, day 12 in those after days 12 .. 15
    assert (faults["always"].learned_rows, faults["always"].learned_times) == (8, 4 * 2 + 4 * 6)


def test_a_training_after_a_flagged_batch_is_told_with_its_reason(found):
    faults = {one.policy: one for one in found.faults}
    assert faults["always"].trainings_at == {"always": 1}
    assert faults["always"].trainings_next == {"always": 1}
    assert faults["never"].trainings_at == {}


def test_figures_are_shown_and_written(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(storms, "SCENARIOS", ())
    assert storms.main(["--data", str(folder), "--json", str(tmp_path / "made.json")]) == 0
    assert json.loads((tmp_path / "made.json").read_text())["scenarios"] == []
    assert "storms:" in capsys.readouterr().out


def test_tables_have_a_row_for_each_policy_and_event(found):
    events, unseen, retrained, faults = storms.tables([found])
    assert (events.row_count, faults.row_count) == (3, 3)
    assert unseen.row_count == len([one for one in found.unseen if one.streams])
    assert retrained.row_count == 1


def test_an_event_that_struck_no_stream_of_the_scenario_is_refused(folder):
    with pytest.raises(ValueError, match="no event 'a storm'"):
        storms_scenarios.listed_events(folder / "known_events.csv", replace(SCENARIO, streams=("C",)))


def test_injected_values_are_flagged_where_they_stand_and_nowhere_else():
    before = rows().drop(columns="category")
    after = storms_scenarios.injected(before)
    changed = before["y"].to_numpy() != after["y"].to_numpy()
    assert after["fault"].tolist() == changed.tolist()
    counts = after[after["fault"]].groupby("stream")["y"].agg(["count", "max"])
    assert counts["count"].to_dict() == {"A1": 6, "C": 24, "left out": 12}
    assert counts["max"]["A1"] == counts["max"]["C"] == storms_scenarios.HUGE
    assert counts["max"]["left out"] == pytest.approx(2 * before.loc[before["stream"] == "left out", "y"].max())


def test_others_are_drawn_by_seed(folder):
    one_more = replace(SCENARIO, streams=("A1",), others=1)
    drawn = [set(storms_scenarios.rows_of(one_more, folder, seed=seed)["stream"]) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert all(len(names) == 2 and "A1" in names for names in drawn)


def test_finer_rows_are_added_up():
    finer = rows().assign(ts=lambda made: made["ts"].where(made["ts"].dt.hour % 2 == 0, made["ts"]))
    made = storms_scenarios._summed(finer, "2h")
    assert made["y"].sum() == pytest.approx(finer["y"].sum())
    assert (made["ts"].dt.hour % 2 == 0).all()


def test_hindsight_is_the_smallest_loss_of_any_version():
    class Fixed(Run):
        def best_version(self):
            return self.tally

    made = storms_events.hindsight([Fixed(np.array([[1.0, np.nan]])), Fixed(np.array([[0.5, np.nan]]))])
    assert made[0, 0] == 0.5
    assert np.isnan(made[0, 1])


@pytest.mark.parametrize("module", [storms_events, storms_scenarios])
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
