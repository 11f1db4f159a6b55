"""`mlma run` in processes of its own, on a directory with a configuration and an inbox.

The processes are forked from one that has imported the program: what is tested is what a daemon does, and a kill
hits its work or its start, not two seconds of imports.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.integration.fleet_data import ANCHOR, demand

DAYS = 44
DAYS_A_FILE = 2
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
IMPORTED = ("mlma.cli.main", "mlma.cli.run", "mlma.bootstrap.engine", "mlma.runtime.daemon", "mlma.adapters.store",
            "mlma.adapters.sources.directory", "mlma.config", "alembic.command")  # fmt: skip
"""What a daemon imports, as far as it takes long."""

_FORKED = multiprocessing.get_context("forkserver")


class Daemon:
    """`mlma run` in its own process."""

    def __init__(self, path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        _FORKED.set_forkserver_preload(list(IMPORTED))
        self._process = _FORKED.Process(
            target=_serve, args=(path, ["run", "--config", "mlma.yaml", *arguments], dict(environment or {})),
            daemon=True,
        )  # fmt: skip
        self._process.start()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float) -> int:
        """Exit code; minus the number of the signal that ended it."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"did not end within {timeout} s"
        return code


def _serve(path: Path, arguments: list[str], environment: dict[str, str]) -> None:
    os.chdir(path)
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # where the model's class is, for workers and commands
    os.environ.update(environment)
    with (path / "log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    from mlma.cli.main import run

    sys.argv = ["mlma", *arguments]
    run()


def prepare(path: Path, config: str = CONFIG) -> Path:
    """A directory with a configuration, its inbox still empty."""
    (path / "inbox").mkdir(parents=True)
    (path / "mlma.yaml").write_text(config)
    return path


def drop(path: Path, first_day: int) -> None:
    """Drop one file the way a careful producer does: write beside, then rename."""
    y = demand(5, DAYS, breaks_on=36)
    hours = np.arange(first_day * 24, (first_day + DAYS_A_FILE) * 24)
    stamps = np.datetime64(ANCHOR.replace(tzinfo=None), "s") + hours.astype("timedelta64[h]")
    lines = ["stream,ts,y"]
    lines += [
        f"s{i},{stamp},{float(y[i, hour])!r}" for i in range(5) for hour, stamp in zip(hours, stamps, strict=True)
    ]
    target = path / "inbox" / f"day-{first_day:03d}.csv"
    temporary = target.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n")
    temporary.rename(target)


def await_work(path: Path, n_started: int) -> None:
    """Wait until the log says that the n-th daemon of this directory has started to work."""
    until = time.monotonic() + 60
    log = path / "log"
    while time.monotonic() < until:
        if log.exists() and log.read_bytes().count(b"daemon_started") >= n_started:
            return
        time.sleep(0.01)
    raise AssertionError(log.read_text())
