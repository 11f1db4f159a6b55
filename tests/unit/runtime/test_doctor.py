"""Each problem that the doctor knows is found, named and comes with what to do."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.artifacts import FileArtifacts
from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core.blocks import LossBlock
from mlma.core.commit import Commit
from mlma.core.decisions import Role
from mlma.core.records import Finding, Lease, Stream, Version
from mlma.core.schedule import Schedule
from mlma.core.settings import GroupSettings, LifeSettings, StreamWeight
from mlma.runtime.doctor import check_installation, check_machine, check_selections, check_state, missing_state

NOW = datetime(2001, 3, 6, tzinfo=UTC)
SCHEDULE = Schedule(anchor=NOW, frequency=timedelta(hours=1), horizon=24, batch=24, train_window=24)


def state(path: Path, prepare: Callable[[Path, SqlStore], None]) -> dict[str, tuple[bool, str]]:
    """Checks of a small state by name, after something was done to it."""
    sha256 = FileArtifacts(path / "artifacts").save(b"a model")
    array = np.ones((1, 24))
    ParquetHistory(path / "history").append_losses(
        0, LossBlock(batch=0, stream_ids=np.array([0]), y=array, forecast=array, naive=array)
    )
    with SqlStore("sqlite://", create=True) as store:
        store.record(
            Commit(
                versions=[
                    Version(
                        id="0-0-0", stream_id=0, batch=0, role=Role.CHAMPION, family="lightgbm", sha256=sha256,
                        size_bytes=7, n_rows=24, fit_cpu_s=0.1, trained_at=NOW,
                    )
                ]
            )
        )  # fmt: skip
        prepare(path, store)
        checks = check_state(path, store, ParquetHistory(path / "history"), SCHEDULE, NOW)
    assert all(check.ok or check.remedy for check in checks)
    return {check.name: (check.ok, check.message) for check in checks}


def nothing(path: Path, store: SqlStore) -> None:
    pass


def lose_artifact(path: Path, store: SqlStore) -> None:
    for file in (path / "artifacts").rglob("*.z"):
        file.unlink()


def damage_artifact(path: Path, store: SqlStore) -> None:
    for file in (path / "artifacts").rglob("*.z"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")


def truncate_history(path: Path, store: SqlStore) -> None:
    for file in (path / "history").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:40])


def leave_partial(path: Path, store: SqlStore) -> None:
    (path / "history" / ".x.parquet.7.tmp").touch()


def hold(age: timedelta) -> Callable[[Path, SqlStore], None]:
    def prepare(path: Path, store: SqlStore) -> None:
        at = NOW - age
        lease = Lease(holder="h", pid=42, host="box", started_at=at, heartbeat_at=at)
        store.take_lease(lease, stale_before=at - timedelta(days=1))

    return prepare


def fail_source(path: Path, store: SqlStore) -> None:
    finding = Finding(kind="source_failed", subject="a.csv", message="truncated", first_at=NOW, last_at=NOW)
    store.record(Commit(findings=[finding]))


@pytest.mark.parametrize(
    ("prepare", "name", "words"),
    [
        (lose_artifact, "artifacts", "0-0-0"),
        (damage_artifact, "artifacts", "0-0-0"),
        (truncate_history, "history", "cannot be read"),
        (leave_partial, "unfinished files", ".x.parquet.7.tmp"),
        (hold(timedelta(hours=1)), "daemon", "it was killed"),
        (fail_source, "findings", "a.csv: truncated"),
    ],
)
def test_one_problem_is_found_and_nothing_else(tmp_path, prepare, name, words):
    found = state(tmp_path, prepare)
    assert [check for check, (ok, _) in found.items() if not ok] == [name]
    assert words in found[name][1]


@pytest.mark.parametrize("prepare", [nothing, hold(timedelta(seconds=5))])
def test_a_healthy_state_has_no_problem(tmp_path, prepare):
    assert all(ok for ok, _ in state(tmp_path, prepare).values())


def test_a_library_without_its_shared_library_is_found():
    def load(module: str) -> object:
        if module == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return None

    (bad,) = [check for check in check_installation(load) if not check.ok]
    assert bad.name == "library lightgbm"
    assert "libgomp1" in bad.remedy


def test_a_missing_state_says_how_to_make_one(tmp_path):
    assert "mlma demo" in missing_state(tmp_path, "there is no state").remedy


def test_folders_of_dead_processes_are_left_over_and_those_of_living_ones_are_not(tmp_path):
    (tmp_path / f"mlma-ray-{os.getpid()}-a").mkdir()
    disk, folders = check_machine(tmp_path / "absent" / "state", tmp_path)
    assert disk.ok
    assert folders.ok
    (tmp_path / "mlma-ray-999999999-b").mkdir()
    _, folders = check_machine(tmp_path, tmp_path)
    assert not folders.ok
    assert "mlma-ray-999999999-b" in folders.remedy


@pytest.mark.parametrize(
    ("weights", "groups", "found"),
    [
        ((("a*", 2.0),), ("*",), []),
        ((("class=A", 2.0), ("a*", 2.0)), ("zz",), [("life.weights", "'class=A'"), ("life.groups", "'zz'")]),
    ],
)
def test_a_selection_of_the_settings_that_means_no_stream_is_told(weights, groups, found):
    life = LifeSettings(
        warmup=0, min_rows=1, weights=tuple(StreamWeight(select=s, weight=w) for s, w in weights),
        groups=tuple(GroupSettings(name=f"g{i}", select=s) for i, s in enumerate(groups)),
    )  # fmt: skip
    streams = [Stream(id=0, name="a1", first_slot=0)]
    made = check_selections(streams, life)
    assert [(check.name, check.ok, check.message.split(" matches")[0]) for check in made] == [
        (name, False, text) for name, text in found
    ]
    assert all(check.remedy for check in made)
    assert check_selections([], life) == []  # nobody can say yet
