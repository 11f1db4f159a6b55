"""What the commands say about pools: versions, ledger, rollback to a time, status, explain."""

import re
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core.account import Account
from mlma.core.blocks import MemberBlock, PoolBlock
from mlma.core.decisions import RequestKind
from mlma.core.staleness import Staleness

NAN = float("nan")
MEMBERS = ("naive", "median", "0-0-0", "1-0-0", "1-4-0", "2-0-0", "3-0-0")
ROWS = [  # stream, seat, member, recent loss, weight
    (0, 0, 0, 4.0, 0.0), (0, 1, 1, 2.0, 0.6), (0, 2, 2, 2.2, 0.4),
    (1, 0, 0, 4.0, 0.0), (1, 1, 1, 2.5, 0.3), (1, 2, 3, 3.0, 0.2), (1, 3, 4, 2.0, 0.5),
    (2, 0, 0, 4.0, 0.0), (2, 1, 1, 2.0, 0.7), (2, 2, 5, 2.6, 0.3),
    (3, 0, 0, 4.0, 0.0), (3, 1, 1, 2.0, 0.8), (3, 2, 6, 3.0, 0.2),
]  # fmt: skip
"""The pools of the small state after its last batch."""


def pool_block(batch: int, rows: list[tuple[int, int, int, float, float]] = ROWS) -> PoolBlock:
    stream_id, seat, member = (np.array([row[k] for row in rows], dtype=np.int64) for k in range(3))
    recent, weight = (np.array([row[k] for row in rows]) for k in (3, 4))
    account = Account.empty(4).arrays() | {
        "debt": np.array([0.0, 0.12, 0.4, 0.0]), "share_sum": np.full(4, 1.2), "share_n": np.full(4, 2.0)
    }  # fmt: skip
    told = {
        "batch": batch, "stream_id": stream_id, "seat": seat, "member": member, "members": MEMBERS, "recent": recent,
        "weight": weight, "account": account, "loss": recent, "mass": np.ones(len(rows)),
    }  # fmt: skip
    sums = {f.name: np.zeros((len(rows), 3)) for f in fields(PoolBlock) if f.name not in told}  # not shown
    return PoolBlock(**(told | sums))  # type: ignore[arg-type]


def members_block(batch: int, *, weight: list[float] | None = None) -> MemberBlock:
    """Forecasts of IAH in a batch, with the weights of the pool."""
    mine = [row for row in ROWS if row[0] == 1]
    forecast = np.ones((len(mine), 24))
    return MemberBlock(
        origin_first=24 * batch, origin_last=24 * batch, stream_id=np.ones(len(mine), dtype=np.int64),
        seat=np.array([row[1] for row in mine]), member=np.array([row[2] for row in mine]), members=MEMBERS,
        weight=np.array(weight or [row[4] for row in mine]), inner=np.ones(len(mine)),
        shift=np.zeros(len(mine)), slope=np.ones(len(mine)), forecast=forecast,
    )  # fmt: skip


@pytest.fixture
def pooled(state: Path) -> Path:
    """The small state with pools, as the daemon of a blend leaves it."""
    history = ParquetHistory(state / "history")
    older = [row for row in ROWS if MEMBERS[row[2]] != "1-4-0"]
    for batch in range(1, 5):
        history.append_pool(pool_block(batch, older))
    history.append_pool(pool_block(5))
    history.append_members(1, members_block(5))
    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        store.set_meta({"serve": "blend", "price": "0.3"})
    return state


def line_of(said: str, start: str) -> str:
    (found,) = [line for line in said.splitlines() if line.startswith(start)]
    return found


def with_ages(state: Path) -> None:
    """Record the last batch's pools again, with what 30 batches of two versions a stream said about age."""
    noted, rng = Staleness.fresh(4), np.random.default_rng(1)
    for batch in range(30):
        age = np.tile([1 + batch % 5, 11 + batch % 5], (4, 1))
        loss = np.exp(0.02 * age + 0.005 * rng.standard_normal((4, 2)))
        loss[3] = np.nan  # one version only
        noted.update(loss, age)
    block = pool_block(5)
    account = dict(block.account) | noted.columns()
    ParquetHistory(state / "history").append_pool(replace(block, account=account))


# versions


def test_versions_tell_what_age_costs_and_what_a_training_would_save(
    mlma: Callable[..., Result], as_json: Callable[..., object], pooled: Path
) -> None:
    assert "age costs" not in mlma("versions").output  # nothing was noted
    with_ages(pooled)
    assert "age costs: +8.3 % at 5 batches, +29" in mlma("versions").output
    assert "(3 of 4 streams say so)" in mlma("versions").output
    said = mlma("versions", "IAH").output
    assert "debt 0.12 of 0.3; training now saves 0." in said
    aged = as_json("versions", "IAH")["ageing"]
    assert aged["rise"][0] == pytest.approx(np.expm1(0.08), abs=0.02)
    assert aged["rise"] == sorted(aged["rise"])
    fleet = as_json("versions")
    assert (fleet["ageing"]["n_known"], fleet["serve"]) == (3, "blend")


def test_versions_show_every_member_of_the_pool(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("versions", "IAH").output
    assert line_of(said, "1-4-0").split() == ["1-4-0", "serving,", "serves", "2001-03-06", "00:00", "1", "4", "48",
        "0.25", "1.000", "0.500", "1", "alarm_both,", "beat_champion"]  # fmt: skip
    assert line_of(said, "1-0-0").split()[1] == "kept"
    assert line_of(said, "median").split() == [
        "median",
        "evergreen",
        "-",
        "-",
        "-",
        "-",
        "-",
        "1.250",
        "0.300",
        "-",
        "-",
    ]
    assert line_of(said, "naive").split()[-4:] == ["2.000", "0.000", "-", "-"]


def test_a_version_that_lost_its_comparison_says_so(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("versions", "ATL").output
    assert "0-3-0 rejected: lost its comparison: candidate 2 against champion 3" in said
    assert "candidate" in line_of(said, "0-5-0")


def test_a_version_that_left_the_pool_says_after_which_batch(
    mlma: Callable[..., Result], pooled: Path, state: Path
) -> None:
    history = ParquetHistory(state / "history")
    for batch in (3, 4, 5):
        history.append_pool(pool_block(batch, [row for row in ROWS if MEMBERS[row[2]] != "1-0-0"]))
    said = mlma("versions", "IAH").output
    assert line_of(said, "1-0-0   ").split()[1] == "retired"
    assert "1-0-0 retired: left the pool after batch 2: a newer version took its seat" in said


def test_the_newest_forecasts_say_who_weighs_what_now(as_json: Callable[..., object], pooled: Path) -> None:
    ParquetHistory(pooled / "history").append_members(1, members_block(6, weight=[0.1, 0.2, 0.3, 0.4]))
    rows = {row["member"]: row for row in as_json("versions", "IAH")["members"]}
    assert [rows[name]["weight"] for name in ("naive", "median", "1-0-0", "1-4-0")] == [0.1, 0.2, 0.3, 0.4]


def test_versions_as_json_hold_rows_records_and_ledger(as_json: Callable[..., object], pooled: Path) -> None:
    found = as_json("versions", "IAH")
    assert (found["serves"], [v["role"] for v in found["versions"]]) == ("1-4-0", ["former", "champion"])
    rows = {row["member"]: row for row in found["members"]}
    assert (rows["1-4-0"]["state"], rows["1-4-0"]["weight"]) == ("serving", 0.5)
    assert (rows["median"]["kind"], rows["median"]["state"]) == ("evergreen", None)
    assert [line["version_id"] for line in found["servings"]] == ["1-0-0", "1-4-0"]


def test_without_a_stream_the_fleet_is_counted(as_json: Callable[..., object], pooled: Path) -> None:
    found = as_json("versions")
    assert found["states"] == {
        "candidate": 1, "challenger": 0, "probation": 0, "serving": 4, "kept": 1, "retired": 0, "rejected": 1,
        "failed": 0,
    }  # fmt: skip
    kinds = {row["name"]: row for row in found["kinds"]}
    assert (kinds["versions"]["n_streams"], kinds["versions"]["n_members"]) == (4, 5)
    assert kinds["versions"]["weight"] == pytest.approx(0.35)  # of 0.4, 0.7, 0.3 and 0.2
    assert kinds["median"]["weight"] == pytest.approx(0.65)
    assert kinds["versions"]["recent"] == pytest.approx(1.2)  # of 1.1, 1.0, 1.3 and 1.5
    assert (found["n_in_use"], found["serve"], found["price"]) == (5, "blend", 0.3)


def test_the_fleet_is_counted_in_words(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("versions").output
    assert said.startswith("serve: blend; 4 streams, 5 trained versions in use\n")
    assert line_of(said, "serving").split() == ["serving", "4"]
    assert line_of(said, "median").split() == ["median", "evergreen", "4", "4", "0.650", "1.000"]


# ledger


def test_the_ledger_says_what_served_at_a_time_and_why(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("ledger", "IAH", "--at", "2001-03-06T12:30Z").output
    assert "2001-03-06 12:00 UTC, forecast at 2001-03-06 00:00" in said
    assert "1-4-0, since 2001-03-06 00:00, until now" in said
    assert "it beat the champion on the held-out recent targets (beat_champion)" in said
    assert "2001-03-06 00:00 by mlma" in said
    assert "candidate 2 against champion 3" in said
    assert "1-4-0 0.500, median 0.300, 1-0-0 0.200" in said
    assert "stood in" not in said


@pytest.mark.parametrize(
    ("time", "version", "since"),
    [
        ("2001-03-01T12:00Z", "naive", None),
        ("2001-03-02T00:00Z", "1-0-0", "2001-03-02T00:00:00+00:00"),
        ("2001-03-05T23:59Z", "1-0-0", "2001-03-02T00:00:00+00:00"),
        ("2001-03-06T00:00Z", "1-4-0", "2001-03-06T00:00:00+00:00"),
        ("1d", "1-4-0", "2001-03-06T00:00:00+00:00"),
        ("2d", "1-0-0", "2001-03-02T00:00:00+00:00"),
    ],
)
def test_the_ledger_counts_in_event_time(
    as_json: Callable[..., object], time: str, version: str, since: str | None
) -> None:
    line = as_json("ledger", "IAH", "--at", time)["line"]
    assert (line["version_id"], line["since"]) == (version, since)


def test_the_ledger_of_a_selection_at_a_time_has_a_line_a_stream(as_json: Callable[..., object]) -> None:
    found = as_json("ledger", "I*", "--at", "2001-03-06T12:00Z")
    assert [(line["stream"], line["version_id"]) for line in found] == [("IAH", "1-4-0"), ("IAD", "3-0-0")]


def test_the_ledger_lists_every_change_oldest_first(as_json: Callable[..., object]) -> None:
    assert [line["version_id"] for line in as_json("ledger")] == ["0-0-0", "1-0-0", "2-0-0", "3-0-0", "1-4-0"]
    assert [line["version_id"] for line in as_json("ledger", "--since", "2001-03-06", "IAH")] == ["1-4-0"]
    assert [line["version_id"] for line in as_json("ledger", "--since", "2001-03-05", "IAH")] == ["1-0-0", "1-4-0"]
    assert [line["version_id"] for line in as_json("ledger", "--limit", "1")] == ["1-4-0"]


def test_the_ledger_of_one_stream_reads_no_other(
    mlma: Callable[..., Result], pooled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **wanted: object) -> list[object]:
        assert wanted.get("stream_id") == 1, "the whole table was read"
        return []

    monkeypatch.setattr(SqlStore, "streams", lambda _: pytest.fail("all streams were read"))
    monkeypatch.setattr(SqlStore, "servings", refuse)
    monkeypatch.setattr(SqlStore, "versions", refuse)
    assert mlma("ledger", "IAH", "--at", "1d").exit_code == 0


def test_a_time_and_a_period_are_refused(mlma: Callable[..., Result]) -> None:
    result = mlma("ledger", "--at", "1d", "--since", "2d")
    assert (result.exit_code, "not both" in result.stderr) == (2, True)


# rollback to a time


def test_a_rollback_to_a_time_says_what_would_change(mlma: Callable[..., Result], state: Path) -> None:
    order = ["rollback", "I*", "--to", "2001-03-05T12:00Z", "--reason", "worse"]
    said = mlma(*order, "--dry-run").output
    assert "bring back what served IAH, IAD at 2001-03-05 12:00 UTC: 1 of 2 streams would change" in said
    assert "(IAH to 1-0-0), 1 served as now" in said
    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        assert len(store.requests()) == 1
    assert mlma(*order).exit_code == 0
    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        asked, audit = store.requests()[-1], store.audit()[0]
    assert (asked.kind, asked.selection) == (RequestKind.ROLLBACK, "I*")
    assert asked.back_to is not None
    assert asked.back_to.isoformat() == "2001-03-05T12:00:00+00:00"
    assert '"back_to": "2001-03-05T12:00:00+00:00"' in audit.after


def test_asking_for_the_same_time_again_adds_nothing_and_another_time_does(
    mlma: Callable[..., Result], state: Path
) -> None:
    order = ["rollback", "IAH", "--reason", "worse", "--to"]
    for time in ("2001-03-05T12:00Z", "2001-03-05T12:00Z", "2001-03-04"):
        said = mlma(*order, time).output
    assert "nothing was added" not in said
    assert "is open and asks for the same" in mlma(*order, "2001-03-04").output
    with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
        assert len(store.requests()) == 3


def test_a_rollback_to_a_time_that_lies_ahead_is_refused(mlma: Callable[..., Result]) -> None:
    result = mlma("rollback", "IAH", "--to", "2030-01-01", "--reason", "worse")
    assert (result.exit_code, "lies ahead" in result.stderr) == (2, True)


# explain


def test_explain_shows_the_pool_and_the_debt_against_the_price(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("explain", "IAH").output
    assert (
        "1-4-0 50 % (recent loss 1.000 of the best), median 30 % (1.250), 1-0-0 20 % (1.500), naive 0 % (2.000)" in said
    )
    assert "age has cost 0.12 of the 0.30 that a training costs" in said
    assert "age has cost 0.40, more than the 0.30 that a training costs: one pays" in mlma("explain", "New York").output


def test_explain_as_json_has_pool_debt_and_price(as_json: Callable[..., object], pooled: Path) -> None:
    found = as_json("explain", "IAH")
    assert (found["debt"], found["price"]) == (0.12, 0.3)
    assert found["pool"][0] == {"member": "1-4-0", "weight": 0.5, "recent": 1.0}


@pytest.mark.parametrize(
    ("serve", "words"), [("champion", "0.12 of the 0.60 that a training must save"), ("latest", "")]
)
def test_what_a_training_must_save_depends_on_who_serves(
    mlma: Callable[..., Result], pooled: Path, serve: str, words: str
) -> None:
    with SqlStore(f"sqlite:///{pooled / 'mlma.db'}") as store:
        store.set_meta({"serve": serve})
    said = mlma("explain", "IAH").output
    assert words in said
    assert ("age has cost" in said) == bool(words)


# digest


def test_the_digest_says_who_carries_the_pools(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("digest", "show", "--since", "7d").output
    assert line_of(said, "POOL") == "POOL      evergreens 65 %, versions 35 % (medians); 0.25 CPU-s a training"


# status


def test_status_says_who_serves_and_what_is_pending(
    mlma: Callable[..., Result], as_json: Callable[..., object], pooled: Path
) -> None:
    said = mlma("status").output
    assert line_of(said, "serving").split("  ")[-1].strip() == (
        "blend of the pool; 5 trained versions in use; median weight 35 % versions, 65 % evergreen members"
    )
    assert "6 trained; 1 training pending (1 requested), 1 waiting (1 frozen); price of one 0.30" in said
    found = as_json("status")["pools"]
    assert (found["n_in_use"], found["pending"], found["waiting"]) == (5, {"requested": 1}, {"frozen": 1})


def test_status_of_a_state_without_pools_says_no_word_about_them(mlma: Callable[..., Result]) -> None:
    said = mlma("status").output
    assert "blend" not in said
    assert "price" not in said


def test_a_champion_is_on_probation_until_its_deadline(as_json: Callable[..., object], pooled: Path) -> None:
    with SqlStore(f"sqlite:///{pooled / 'mlma.db'}") as store:
        store.set_meta({"serve": "champion"})
        states = [row["state"] for row in as_json("versions", "IAH")["members"] if row["serves"]]
        assert states == ["probation"]
        assert as_json("versions")["states"]["probation"] == 4


# the manual

PAGE = Path(__file__).parents[3] / "docs" / "manual" / "pool.md"
PRINTED = re.findall(r"```sh\n(mlma [^\n]+)\n```\n\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_manual_shows_every_command_of_the_pool() -> None:
    assert [command.split()[1] for command, _ in PRINTED] == ["versions", "versions", "ledger", "ledger", "rollback"]


@pytest.mark.parametrize(("command", "printed"), PRINTED, ids=[command for command, _ in PRINTED])
def test_the_manual_shows_what_a_command_prints(
    mlma: Callable[..., Result], pooled: Path, command: str, printed: str
) -> None:
    assert mlma(*shlex.split(command)[1:]).output == printed


def test_the_manual_shows_what_explain_says_about_a_pool(mlma: Callable[..., Result], pooled: Path) -> None:
    said = mlma("explain", "IAH").output.splitlines()
    lines = [line for line in said if line.startswith(("pool ", "debt "))]
    assert "\n".join(lines) in PAGE.read_text(encoding="utf-8")
    assert len(lines) == 2
