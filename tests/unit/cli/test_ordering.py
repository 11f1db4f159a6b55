"""Orders through the CLI: what they write, what they refuse, and that a dry run writes nothing."""

import json

import pytest

from mlma.adapters.store import SqlStore

REASON = ["--reason", "release week"]


@pytest.fixture
def written(state):
    """Overrides and requests that are in the store."""

    def read():
        with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
            return store.overrides(), store.requests(), store.audit()

    return read


ORDERS = [
    ["freeze", "IAH", "--for", "3d", *REASON],
    ["pin", "IAH,ATL", "--until", "2030-07-01T06:00Z", *REASON],
    ["freeze", "IA*", "--forever", *REASON],
    ["exclude", "*", "--from", "2001-03-02", "--to", "2001-03-03", *REASON],
    ["lift", "1"],
    ["retrain", "IAH", *REASON],
    ["rollback", "IAH", *REASON],
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(order[:2]))
def test_an_order_leaves_an_audit_row_with_its_author(mlma, written, order):
    result = mlma(*order, "--author", "eve")
    assert result.exit_code == 0, result.output
    assert "No daemon is running" in result.output
    newest = written()[2][0]
    assert (newest.author, newest.operation) == ("eve", order[0])


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(order[:2]))
def test_a_dry_run_writes_nothing(mlma, written, order):
    before = written()
    result = mlma(*order, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "Dry run" in result.output
    assert written() == before


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(order[:2]))
def test_an_order_answers_in_json(as_json, order):
    assert as_json(*order)["operation"] == order[0]


def test_the_author_is_the_user_of_this_machine(mlma, written, monkeypatch):
    monkeypatch.setenv("LOGNAME", "grace")
    mlma("retrain", "IAH", *REASON)
    assert written()[2][0].author == "grace"


def test_a_name_with_a_space_is_one_stream(mlma, written):
    assert mlma("retrain", "New York", *REASON).exit_code == 0
    assert written()[1][-1].selection == '"New York"'


def test_several_arguments_are_one_selection(mlma, written):
    assert mlma("retrain", "New York", "IAH", *REASON).exit_code == 0
    assert written()[1][-1].selection == '"New York",IAH'


def test_overrides_are_listed_until_they_are_lifted(mlma, as_json):
    assert "for ever" in mlma("overrides").output
    mlma("lift", "1")
    assert as_json("overrides") == []
    assert [order["state"] for order in as_json("overrides", "--all")] == ["lifted"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["freeze", "IAH", *REASON], 2, "needs an end"),
        (["freeze", "IAH", "--for", "3d"], 2, "needs a reason"),
        (["freeze", "IAH", "--for", "3d", "--until", "2030-01-01", *REASON], 2, "not both"),
        (["freeze", "IAH", "--for", "3 moons", *REASON], 2, "duration"),
        (["freeze", "IHA", "--for", "3d", *REASON], 2, "did you mean"),
        (["exclude", "*", "--from", "yesterday", "--to", "2001-03-03", *REASON], 2, "--from 'yesterday'"),
        (["exclude", "*", "--from", "2001-03-03", "--to", "2001-03-02", *REASON], 2, "not after its start"),
        (["lift", "99"], 2, "there is no override 99"),
        (["lift", "IAH"], 2, "'IAH' is no id"),
        (["streams", "--label", "site"], 2, "KEY=VALUE"),
        (["decisions", "--since", "soon"], 2, "expected a time"),
        (["decisions", "--action", "dance"], 2, "dance"),
        (["streams", "--sort", "colour"], 2, "colour"),
        (["explain"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["replay", "absent.parquet"], 2, "there is no such file"),
        (["replay", "."], 2, "is a folder; expected one Parquet or CSV file"),
        (["status", "--state", "absent"], 3, "there is no state"),
        (["retrain", "IAH", "--state", "absent", *REASON], 3, "there is no state"),
    ],
)
def test_wrong_use_is_one_clear_line_and_its_code(mlma, arguments, code, words):
    result = mlma(*arguments)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_a_replay_that_scored_nothing_says_so_in_words_and_by_its_code(mlma, tmp_path):
    lines = [f"s,2001-03-{day:02}T{hour:02}:17Z,1" for day in range(1, 8) for hour in range(24)]
    data, out = tmp_path / "late.csv", tmp_path / "out.json"
    data.write_text("\n".join(["stream,ts,y", *lines]) + "\n")
    replayed = (
        "--batch",
        "1d",
        "--train-window",
        "4d",
        "--policy",
        "never",
        "--model",
        "ridge",
        "--executor",
        "inline",
    )
    result = mlma("replay", str(data), *replayed, "--json", str(out))
    assert result.exit_code == 1, result.output
    assert "nothing was scored" in result.stderr
    assert "168 rows refused" in result.stdout
    assert json.loads(out.read_text())["policies"]["never"]["mean_loss"] is None


def test_a_replay_of_constants_says_why_nothing_is_compared(mlma, tmp_path):
    lines = [f"s,2001-03-{day:02}T{hour:02}:00Z,5" for day in range(1, 29) for hour in range(24)]
    data = tmp_path / "constant.csv"
    data.write_text("\n".join(["stream,ts,y", *lines]) + "\n")
    replayed = ("--batch", "7d", "--train-window", "21d", "--policy", "always", "--policy", "never")
    result = mlma("replay", str(data), *replayed, "--model", "ridge", "--executor", "inline")
    assert result.exit_code == 0, result.output
    assert "left out of every comparison, for always has no loss there: 1 of the streams" in result.stdout


def test_debug_shows_the_error_itself(mlma, monkeypatch):
    from mlma.core.errors import StoreError

    monkeypatch.setenv("MLMA_DEBUG", "1")
    assert isinstance(mlma("status", "--state", "absent").exception, StoreError)


def test_a_digest_without_targets_is_not_sent(mlma, written):
    result = mlma("digest", "send")
    assert result.exit_code == 1
    assert "no target" in result.output
    assert "Dry run" in mlma("digest", "send", "--dry-run").output
