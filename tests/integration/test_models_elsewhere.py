"""Real daemons whose models are trained, or forecast as well, by somebody else on this machine."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core.decisions import Reason
from mlma.runtime.ports import ControlStore
from tests.integration.fleet_data import ANCHOR, demand
from tests.integration.receiver import SECRET, Answer, receiving

MLMA = Path(sys.executable).parent / "mlma"
REPOSITORY = Path(__file__).parents[2]
SOURCES = str(REPOSITORY / "src")
DAYS, WARM_DAYS = 14, 7
CONFIG = """
state: {{path: state}}
source: {{path: inbox}}
schedule: {{frequency: 1h, horizon: 24h, batch: 1d, train_window: 7d, warmup: 7d}}
executor: {{kind: inline, shards: 2}}
daemon: {{tick_s: 0.02, settle_s: 0, heartbeat_s: 1}}
admission: {{absurd_factor: 0}}
policy: "calendar:2"
{more}
"""


def prepare(path: Path, more: str) -> Path:
    (path / "inbox").mkdir(parents=True)
    (path / "mlma.yaml").write_text(CONFIG.format(more=more))
    return path


def write(path: Path, name: str, columns: list[str], rows: list[list[object]]) -> None:
    """Drop one file the way a careful producer does: write beside, then rename."""
    temporary = path / "inbox" / f"{name}.tmp"
    with temporary.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    temporary.rename(path / "inbox" / f"{name}.csv")


def stamp(hour: int) -> str:
    return str(np.datetime64(ANCHOR.replace(tzinfo=None), "s") + np.timedelta64(hour, "h"))


Y = demand(3, DAYS)


def outcomes(path: Path, first_day: int, last_day: int) -> None:
    hours = range(first_day * 24, last_day * 24)
    rows: list[list[object]] = [[f"s{i}", stamp(hour), float(Y[i, hour])] for i in range(3) for hour in hours]
    write(path, f"day-{first_day:03d}-b-outcomes", ["stream", "ts", "y"], rows)


def forecasts(path: Path, day: int, versions: dict[str, float], streams: tuple[int, ...] = (0, 1, 2)) -> None:
    """Forecasts of one day by versions whose relative error is given."""
    rows: list[list[object]] = [
        [f"s{i}", stamp(hour), float(Y[i, hour] * (1 + error)), version]
        for version, error in versions.items()
        for i in streams
        for hour in range(day * 24, (day + 1) * 24)
    ]
    write(path, f"day-{day:03d}-a-forecasts", ["stream", "ts", "forecast", "version"], rows)


def start(path: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ, "PYTHONPATH": f"{SOURCES}:{REPOSITORY}", "OMP_NUM_THREADS": "1", "RETRAIN_SECRET": SECRET,
    }  # fmt: skip
    with (path / "log").open("ab") as log:
        return subprocess.Popen(
            [MLMA, "run", "--config", "mlma.yaml", *arguments], cwd=path, env=environment, stdout=log, stderr=log
        )


def run(path: Path) -> None:
    assert start(path, "--once").wait(timeout=60) == 0, (path / "log").read_text()


def opened(path: Path) -> ControlStore:
    return SqlStore(f"sqlite:///{path / 'state' / 'mlma.db'}")


def served(path: Path, day: int, stream_id: int) -> dict[str, list[float]]:
    """What was served on one day, by version."""
    history, found = ParquetHistory(path / "state" / "history"), {}
    for block in history.forecasts(stream_id % 2, first_slot=day * 24, last_slot=day * 24 + 23, stream_id=stream_id):
        for value, code in zip(block.forecast.tolist(), block.version.tolist(), strict=True):
            found.setdefault(block.versions[code], []).append(value)
    return found


EXTERNAL = """
model:
  name: external
  hook: {{kind: webhook, url: "{url}", secret_env: RETRAIN_SECRET, timeout: 5s, backoff: 0s}}
life: {{serve: champion, recalibrate: false}}
"""


def test_a_model_that_runs_elsewhere_is_scored_retrained_by_webhook_and_replaced_by_the_better_version(
    tmp_path: Path,
) -> None:
    with receiving(lambda asked: Answer(content={"version": f"gpu-{asked.json['version']}"})) as receiver:
        path = prepare(tmp_path / "fleet", EXTERNAL.format(url=receiver.url))
        outcomes(path, 0, WARM_DAYS - 1)
        for day in range(WARM_DAYS - 1, DAYS):
            new = {f"gpu-{i}-8-0": 0.02 for i in range(3)} if day > 9 else {}  # retraining takes a day
            forecasts(path, day, {"gpu-first": 0.2, **new})
            outcomes(path, day, day + 1)
        run(path)
    assert all(asked.is_signed for asked in receiver.asked)
    first = receiver.asked[0].json  # of the first version nobody was asked: it forecast already
    assert (first["stream"]["name"], first["serving"], first["id"]) == ("s0", "gpu-first", "train-0-8-0")
    assert len(first["window"]["values"]) == (28 + 7) * 24
    store = opened(path)
    versions = {version.id: version for version in store.versions(stream_id=0)}
    assert versions["0-6-0"].family == "external:gpu-first"
    assert versions["0-8-0"].family == "external:gpu-0-8-0"
    lines = [(line.version_id, line.reason, line.batch) for line in store.servings(stream_id=0)]
    assert lines == [("0-6-0", Reason.FIRST_VERSION, 6), ("0-8-0", Reason.DID_BETTER, 10)]
    store.close()
    today, last = slice(8 * 24, 9 * 24), slice((DAYS - 1) * 24, DAYS * 24)
    np.testing.assert_allclose(served(path, 8, 0)["0-6-0"], Y[0, today] * 1.2)
    np.testing.assert_allclose(served(path, DAYS - 1, 0)["0-8-0"], Y[0, last] * 1.02)
