"""A real daemon in its own process: killed at random moments it ends where an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.store import SqlStore
from tests.integration.fleet_data import ANCHOR, demand, outcome

DAYS = 44
DAYS_A_FILE = 2
MLMA = Path(sys.executable).parent / "mlma"
REPOSITORY = Path(__file__).parents[2]
CONFIG = """
state: {path: state}
source: {path: inbox}
schedule: {frequency: 1h, horizon: 24h, batch: 1d, train_window: 28d, warmup: 28d}
model: {name: "tests.integration.tiny_model:TinyLeastSquares"}
executor: {kind: inline, shards: 2}
policy: test
daemon: {tick_s: 0.05, settle_s: 0, heartbeat_s: 1}
"""


def prepare(path: Path) -> Path:
    """A directory with a configuration, its inbox still empty."""
    (path / "inbox").mkdir(parents=True)
    (path / "mlma.yaml").write_text(CONFIG)
    return path


def drop(path: Path, first_day: int) -> None:
    """Drop one file the way a careful producer does: write beside, then rename."""
    y = demand(5, DAYS, breaks_on=36)
    hours = np.arange(first_day * 24, (first_day + DAYS_A_FILE) * 24)
    stamps = np.datetime64(ANCHOR.replace(tzinfo=None), "s") + hours.astype("timedelta64[h]")
    lines = ["stream,ts,y"]
    lines += [f"s{i},{stamp},{y[i, hour]!r}" for i in range(5) for stamp, hour in zip(stamps, hours, strict=True)]
    target = path / "inbox" / f"day-{first_day:03d}.csv"
    temporary = target.with_suffix(".tmp")
    temporary.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    temporary.rename(target)


def start(path: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `mlma run` on a prepared directory."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with (path / "log").open("ab") as log:
        return subprocess.Popen(
            [MLMA, "run", "--config", "mlma.yaml", *arguments], cwd=path, env=environment, stdout=log, stderr=log
        )


def await_work(path: Path, n_started: int) -> None:
    """Wait until the log says that the n-th daemon of this directory has started to work."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (path / "log").read_bytes().count(b"daemon_started") >= n_started:
            return
        time.sleep(0.01)
    raise AssertionError((path / "log").read_text())


def read(path: Path) -> dict[str, object]:
    store = SqlStore(f"sqlite:///{path / 'state' / 'mlma.db'}")
    try:
        return outcome(store)
    finally:
        store.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a daemon records that is left alone with all files."""
    path = prepare(tmp_path_factory.mktemp("undisturbed"))
    for day in range(0, DAYS, DAYS_A_FILE):
        drop(path, day)
    assert start(path, "--once").wait(timeout=120) == 0
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
        process = start(path)
        for day in days[: rng.choice([0, 1, 1, 2])]:
            drop(path, day)
            days.remove(day)
        if kill % 4:  # most kills hit the work, some the start
            n_started += 1
            await_work(path, n_started)
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            time.sleep(rng.uniform(0.3, 1.0))
            n_started = (path / "log").read_bytes().count(b"daemon_started")
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=10) == -signal.SIGKILL
        n_started = max(n_started, (path / "log").read_bytes().count(b"daemon_started"))
    for day in days:
        drop(path, day)
    assert start(path, "--once").wait(timeout=120) == 0
    assert len(undisturbed["versions"]) > 5  # type: ignore[arg-type]
    assert read(path) == undisturbed


def test_sigterm_ends_a_tick_and_the_process_in_order(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    path = prepare(tmp_path / "stopped")
    for day in range(0, DAYS, DAYS_A_FILE):
        drop(path, day)
    process = start(path)
    await_work(path, 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert start(path, "--once").wait(timeout=120) == 0
    assert read(path) == undisturbed


def test_a_second_daemon_refuses_to_start(tmp_path: Path) -> None:
    path = prepare(tmp_path / "twice")
    drop(path, 0)
    first = start(path)
    await_work(path, 1)
    second = start(path, "--once")
    assert second.wait(timeout=30) == 3
    assert b"another daemon keeps this state" in (path / "log").read_bytes()
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 0
