"""A real daemon in its own process: killed at random moments it ends where an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlma.adapters.store import SqlStore
from tests.integration.daemon_process import DAYS, DAYS_A_FILE, REPOSITORY, Daemon, await_work, drop, prepare
from tests.integration.fleet_data import outcome

MLMA = Path(sys.executable).parent / "mlma"


def read(path: Path) -> dict[str, object]:
    store = SqlStore(f"sqlite:///{path / 'state' / 'mlma.db'}")
    try:
        return outcome(store)
    finally:
        store.close()


def logged(path: Path) -> int:
    """Daemons of a directory that have said that they work."""
    log = path / "log"
    return log.read_bytes().count(b"daemon_started") if log.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a daemon records that is left alone with all files."""
    path = prepare(tmp_path_factory.mktemp("undisturbed"))
    for day in range(0, DAYS, DAYS_A_FILE):
        drop(path, day)
    assert Daemon(path, "--once").wait(timeout=120) == 0
    return read(path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_a_daemon_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path: Path, undisturbed: dict[str, object], kills: int
) -> None:
    path, rng = prepare(tmp_path / "killed"), random.Random(11)
    days = list(range(0, DAYS, DAYS_A_FILE))
    n_started = 0
    for kill in range(kills):
        process = Daemon(path)
        for day in days[: rng.choice([0, 1, 1, 2])]:
            drop(path, day)
            days.remove(day)
        if kill % 4:  # most kills hit the work, some the start
            n_started += 1
            await_work(path, n_started)
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            time.sleep(rng.uniform(0.0, 0.3))
            n_started = logged(path)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=10) == -signal.SIGKILL
        n_started = max(n_started, logged(path))
    for day in days:
        drop(path, day)
    assert Daemon(path, "--once").wait(timeout=120) == 0
    assert len(undisturbed["versions"]) > 5  # type: ignore[arg-type]
    assert read(path) == undisturbed


def test_sigterm_ends_a_tick_and_the_process_in_order(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    path = prepare(tmp_path / "stopped")
    for day in range(0, DAYS, DAYS_A_FILE):
        drop(path, day)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}
    with (path / "log").open("ab") as log:  # the console script, as an engineer starts it
        process = subprocess.Popen(
            [MLMA, "run", "--config", "mlma.yaml"], cwd=path, env=environment, stdout=log, stderr=log
        )
    await_work(path, 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert Daemon(path, "--once").wait(timeout=120) == 0
    assert read(path) == undisturbed


def test_a_second_daemon_refuses_to_start(tmp_path: Path) -> None:
    path = prepare(tmp_path / "twice")
    drop(path, 0)
    first = Daemon(path)
    await_work(path, 1)
    second = Daemon(path, "--once")
    assert second.wait(timeout=30) == 3
    assert b"another daemon keeps this state" in (path / "log").read_bytes()
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 0
