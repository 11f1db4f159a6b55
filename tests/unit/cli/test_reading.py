"""What the reading commands show of a small state."""

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlma.adapters.store import SqlStore
from mlma.core.commit import Commit
from mlma.core.decisions import CertificateStatus
from mlma.core.records import Certificate, Incident


def test_status_fits_one_screen_and_names_what_matters(mlma):
    result = mlma("status")
    assert result.exit_code == 0, result.output
    for words in (
        "not running", "4: 4 served by a champion", "6 closed, up to 2001-03-07 00:00", "1 alarms", "1 frozen",
        "1 freeze", "1 open requests", "stream_silent", "12 quarantined", "12 not_a_number", "ATL (12)",
        "day1.csv (12)", "1 training pending",
    ):  # fmt: skip
        assert words in result.output
    assert len(result.output.splitlines()) <= 27


def test_status_as_json_holds_the_same(as_json):
    found = as_json("status")
    assert found["n_streams"] == 4
    assert found["daemon"] == {"is_up": False, "age_s": None, "lease": None}
    assert found["quarantine"]["by_reason"] == {"not_a_number": 12}
    assert found["loss"]["recent_median"] == pytest.approx(0.66875)
    assert found["last"]["held"] == {"frozen": 1}


def test_status_shows_what_the_test_promised_and_what_was_measured(mlma):
    said = mlma("status").output
    assert "moderated: certified after batch 5" in said
    assert "promised 5 %, measured 4.63 % (95 % interval 4.12 to 5.21 %) in 8,412 sham tests" in said
    assert "of losses raised by 25 %, 71 % alarm in the first batch, 97 % within those followed" in said
    assert "median delay 1 batch" in said
    assert "NOT ARMED" not in said


def test_status_says_that_a_failed_test_is_not_armed_and_what_decides_instead(mlma, as_json, recorded):
    recorded(Commit(certificate=failed()))
    said = mlma("status").output
    assert "NOT ARMED: the certificate of moderated failed after batch 5" in said
    assert "no alarm counts; under the policy mlma the debt decides, so trainings go on as before" in said
    assert "measured 19.2 % (95 % interval 17.1 to 21.3 %)" in said
    found = as_json("status")["loss_test"]
    assert (found["is_armed"], found["certificate"]["status"], found["fallback_every"]) == (False, "failed", 13)


def test_status_calls_a_pending_certificate_pending(mlma, as_json, recorded):
    unknown = dict.fromkeys(("level", "level_low", "level_high", "power", "caught", "delay"), float("nan"))
    recorded(Commit(certificate=failed(status=CertificateStatus.PENDING, n_healthy=12, n_degraded=0, **unknown)))
    said = mlma("status").output
    assert "certificate pending, 12 sham tests do not say enough yet; armed meanwhile" in said
    assert "NOT ARMED" not in said
    found = as_json("status")["loss_test"]
    assert (found["is_armed"], found["certificate"]["level"]) == (True, None)


def test_status_without_a_certificate_says_so(mlma, state):
    with sqlite3.connect(state / "mlma.db") as connection:
        connection.execute("DELETE FROM certificates")
    connection.close()
    assert "no certificate yet" in mlma("status").output


def test_status_names_the_incidents_that_go_on(mlma, as_json):
    (line,) = [line for line in mlma("status").output.splitlines() if line.startswith("incidents")]
    assert line.split("  ")[-1].strip() == ("site=us: 3 streams +63.0 % together since batch 4 (2001-03-05 00:00)")
    (found,) = as_json("status")["incidents"]
    assert (found["label_set"], found["labels"], found["n_members"]) == ("site=us", {"site": "us"}, 3)
    assert (found["starts_at"], found["goes_on"]) == ("2001-03-05T00:00:00+00:00", True)


def test_status_names_five_incidents_and_counts_the_others(mlma, recorded):
    recorded(Commit(incidents=[replaced(f"site=s{n}", n) for n in range(10, 20)]))
    said = mlma("status").output
    assert [f"site=s{n}:" in said for n in range(10, 20)] == [False] * 5 + [True] * 5
    assert "and 6 more: mlma incidents --open" in said
    assert len(said.splitlines()) <= 32


def replaced(label, n_members):
    key, value = label.split("=")
    return Incident(
        id=f"5-{label}", labels={key: value}, first_batch=5, last_batch=5, n_members=n_members, rise=0.5, p_value=0.001
    )


def failed(**changes):
    values = {
        "batch": 5, "test": "moderated", "status": CertificateStatus.FAILED, "promised": 0.05, "level": 0.192,
        "level_low": 0.171, "level_high": 0.213, "n_healthy": 8412, "rise": 0.25, "power": 0.9, "caught": 0.99,
        "delay": 1.5, "n_degraded": 901,
    }  # fmt: skip
    return Certificate(**(values | changes))


def test_status_says_when_the_daemon_was_killed(mlma, state):
    from mlma.adapters.store import SqlStore
    from mlma.core.records import Lease

    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        at = datetime(2001, 3, 6, 23, tzinfo=UTC)  # two hours before the clock of these commands
        store.take_lease(
            Lease(holder="h", pid=42, host="box", started_at=at, heartbeat_at=at), stale_before=at - timedelta(days=1)
        )
    assert "DOWN: process 42 on box" in mlma("status").output
    doctor = mlma("doctor")
    assert doctor.exit_code == 1
    assert "it was killed" in doctor.output


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["ATL", "IAD", "IAH", "New York"]),
        (["IA*"], ["IAD", "IAH"]),
        (["york"], ["New York"]),
        (["--label", "site=tx"], ["IAH"]),
        (["--label", "site!=tx", "IA*"], ["IAD"]),
        (["--sort", "effect"], ["IAD", "ATL", "IAH", "New York"]),
        (["--sort", "p"], ["IAD", "ATL", "IAH", "New York"]),
        (["--sort", "loss", "--limit", "1"], ["IAD"]),
        (["--sort", "retrainings"], ["ATL", "IAH", "IAD", "New York"]),
    ],
)
def test_streams_are_searched_filtered_and_sorted(as_json, arguments, names):
    assert [row["name"] for row in as_json("streams", *arguments)["streams"]] == names


def test_a_frozen_stream_is_visible(mlma):
    (line,) = [line for line in mlma("streams").output.splitlines() if line.startswith("IAD")]
    assert "FROZEN" in line
    assert "held: frozen" in line


def test_no_matching_stream_is_exit_code_1(mlma):
    assert mlma("streams", "XYZ").exit_code == 1


def test_explain_says_the_decision_the_proof_and_what_held_it(mlma):
    said = mlma("explain", "IAD").output
    for words in (
        "keep the model, though proposed was to retrain", "alarm_both", "mlma lift 1", "p = 0.0012", "+34.0 %",
        "5 recent, 2 adaptive reference, 1.9 anchored reference", "served / naive = 1.250", "3-0-0 (lightgbm",
        "1 freeze IAD for ever by ada: audit",
    ):  # fmt: skip
        assert words in said
    said = mlma("explain", "IAH").output
    assert "1-4-0 promoted" in said
    assert "candidate 2 against champion 3 on 24 held-out targets" in said


def test_explain_names_the_incident_that_a_stream_was_part_of(mlma, as_json):
    said = mlma("explain", "New York").output
    assert "the loss rose together with others: one incident, not an alarm of this stream (incident)" in said
    assert "site=us: 3 streams +63.0 % together since batch 4 (2001-03-05 00:00), p = 0.00012" in said
    assert [one["id"] for one in as_json("explain", "New York")["incidents"]] == ["4-site=us"]
    assert "together" not in mlma("explain", "IAH").output  # its incident was over before its last batch


def test_explain_speaks_of_the_certificate_only_when_it_is_not_certified(mlma, recorded):
    assert "certificate" not in mlma("explain", "IAH").output
    recorded(Commit(certificate=failed()))
    said = mlma("explain", "IAH").output
    assert "NOT ARMED" in said
    assert "19.2 %" in said


def test_explain_lists_pending_work_and_requests(mlma):
    said = mlma("explain", "ATL").output
    assert "train after batch 5 waits" in said
    assert "request 1 retrain by bob: new runway" in said


def test_explain_as_json_has_the_arrays_of_the_picture(as_json):
    found = as_json("explain", "IAH", "--last", "3")
    assert len(found["targets"]["y"]) == 72
    assert None not in found["targets"]["forecast"]
    assert found["losses"]["batch"] == [3, 4, 5]
    assert {mark["kind"] for mark in found["marks"]} == {"retrain", "promote"}


def test_explain_of_an_unknown_stream_suggests_near_names(mlma):
    result = mlma("explain", "IHA")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert "IAH" in result.stderr


def test_explain_draws(mlma, tmp_path):
    picture = tmp_path / "iah.png"
    result = mlma("explain", "IAH", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert (int.from_bytes(head[16:20]), int.from_bytes(head[20:24])) == (1400, 900)


def test_the_fleet_is_drawn(state, tmp_path):
    from mlma import bootstrap

    opened = bootstrap.open_state(state)
    bootstrap.plot_fleet(opened, tmp_path / "fleet.png")
    opened.close()
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        ([], 13),
        (["--stream", "IAH"], 4),
        (["--stream", "site=tx"], 4),
        (["--stream", "New York"], 2),
        (["--action", "retrain"], 3),
        (["--held"], 1),
        (["--since", "2001-03-05T00:00Z"], 5),
        (["--since", "1d"], 3),
        (["--limit", "2"], 2),
        (["--all", "--stream", "IA*"], 15),
    ],
)
def test_decisions_are_filtered(as_json, arguments, n):
    assert len(as_json("decisions", *arguments)) == n


def test_decisions_are_newest_first_and_name_the_stream(as_json):
    found = as_json("decisions")
    assert found[0]["stream"] == "IAD"
    assert [d["batch"] for d in found] == sorted((d["batch"] for d in found), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "label_sets"),
    [
        ([], ["site=us", "site=tx"]),
        (["--open"], ["site=us"]),
        (["--limit", "1"], ["site=us"]),
        (["--since", "1d"], ["site=us"]),
        (["--since", "2001-03-04T12:00Z"], ["site=us", "site=tx"]),  # within batch 3, the last one of site=tx
        (["--since", "2001-03-05"], ["site=us"]),
        (["--since", "2001-03-08"], []),
    ],
)
def test_incidents_are_filtered_and_newest_first(as_json, arguments, label_sets):
    assert [one["label_set"] for one in as_json("incidents", *arguments)] == label_sets


def test_incidents_say_who_how_much_and_when(mlma):
    heading, open_one, over = mlma("incidents").output.splitlines()
    assert heading.split() == ["from", "to", "batches", "label", "set", "streams", "rise", "p"]
    assert open_one.split() == ["2001-03-05", "00:00", "goes", "on", "4", "to", "5", "site=us", "3", "+63.0", "%",
                                "0.00012"]  # fmt: skip
    assert over.split()[:4] == ["2001-03-03", "00:00", "2001-03-05", "00:00"]


def test_no_incident_is_exit_code_1(mlma):
    result = mlma("incidents", "--since", "2001-03-08")
    assert (result.exit_code, result.output) == (1, "no such incident\n")


def test_incidents_of_a_wrong_time_are_refused(mlma):
    assert mlma("incidents", "--since", "yesterday").exit_code == 2


def test_the_digest_tells_incidents_and_the_certificate(mlma, recorded):
    recorded(Commit(certificate=failed()))
    said = mlma("digest", "show", "--since", "7d").output
    assert "site=us: 3 streams +63 % since 5 Mar" in said
    assert "site=tx: 1 stream +63 % from 3 Mar to 4 Mar" in said
    assert "1. loss test NOT ARMED: 19.2 % false alarms where 5 % are promised" in said


def test_versions_show_state_and_records(mlma, as_json):
    said = mlma("versions", "IAH").output
    assert "serving, serves" in said
    assert "retired" in said
    assert [v["role"] for v in as_json("versions", "IAH")["versions"]] == ["former", "champion"]


def test_digest_of_this_moment_is_one_page_and_valid_json(mlma, as_json):
    said = mlma("digest", "show").output
    assert said.startswith("mlma digest, ")
    assert "subject" in as_json("digest", "show", "--since", "7d")


def test_a_stored_digest_that_does_not_exist_is_exit_code_1(mlma):
    assert mlma("digest", "show", "--stored").exit_code == 1


def test_audit_lists_who_ordered_what(mlma, as_json):
    assert "ada" in mlma("audit").output
    assert [row["operation"] for row in as_json("audit")] == ["retrain", "freeze"]


def test_audit_says_what_came_of_requests_and_nothing_of_standing_orders(mlma, as_json, state):
    assert [row["outcome"] for row in as_json("audit")] == ["open: the next tick obeys", ""]
    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        (asked,) = store.requests(open_only=True)
        done = replace(asked, consumed_at=asked.created_at, outcome="0 of 1 streams; the others were held: frozen")
        store.record(Commit(requests=[done]))
    assert as_json("audit")[0]["outcome"] == "0 of 1 streams; the others were held: frozen"
    assert "held: frozen" in mlma("audit").output


def test_config_shows_and_checks(mlma, tmp_path):
    assert mlma("config", "check").exit_code == 0
    assert json.loads(mlma("config", "show", "--json").stdout)["policy"] == "mlma"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("schedul:\n  horizon: 24h\n")
    result = mlma("config", "check", "--config", str(wrong))
    assert result.exit_code == 2
    assert "schedul" in result.stderr


def test_doctor_finds_nothing_wrong_with_the_state(as_json):
    found = as_json("doctor")
    assert [check for check in found["checks"] if not check["ok"]] == []


def test_version_is_printed(mlma):
    from mlma import __version__

    assert mlma("--version").stdout == f"mlma {__version__}\n"


def test_reading_leaves_the_database_as_it_was(mlma, state: Path):
    before = (state / "mlma.db").read_bytes()
    for arguments in (
        ["status"],
        ["streams"],
        ["explain", "IAH"],
        ["decisions"],
        ["incidents"],
        ["digest", "show"],
        ["doctor"],
    ):
        mlma(*arguments)
    assert (state / "mlma.db").read_bytes() == before
