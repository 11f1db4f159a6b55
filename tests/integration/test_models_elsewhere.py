"""Real daemons whose models are trained, or forecast as well, by somebody else on this machine."""

import csv
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core.decisions import EffectStatus, Reason, RejectReason
from mlma.runtime.ports import ControlStore
from tests.integration.daemon_process import Daemon
from tests.integration.daemon_process import prepare as prepared
from tests.integration.fleet_data import ANCHOR, demand
from tests.integration.receiver import SECRET, Answer, Asked, receiving

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
    return prepared(path, CONFIG.format(more=more))


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


def run(path: Path) -> None:
    assert Daemon(path, "--once", environment={"RETRAIN_SECRET": SECRET}).wait(timeout=60) == 0, (
        path / "log"
    ).read_text()


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
    first = min((asked.json for asked in receiver.asked), key=lambda request: request["window"]["end"] + request["id"])
    # nobody was asked for the first version: it forecast already
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


COMMAND = """
model:
  name: "tests.integration.tiny_model:TinyLeastSquares"
  hook: {{kind: command, command: ["{python}", retrain.py], timeout: 1min, backoff: 0s}}
life: {{serve: champion}}
"""
RETRAIN = """
import json, sys, tempfile

from mlma.models.elsewhere import training_rows
from tests.integration.tiny_model import TinyLeastSquares

request = json.load(sys.stdin)
if request["stream"]["name"] == "s1":
    sys.exit("no GPU is free")
rows, model = training_rows(request), TinyLeastSquares()
model.fit(rows.X, rows.y)
with tempfile.NamedTemporaryFile(delete=False) as file:
    file.write(model.to_bytes())
print(file.name)
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_daemon_serves_what_a_command_has_trained_and_names_the_stream_whose_command_fails(
    tmp_path: Path, executor: str
) -> None:
    path = prepare(tmp_path / "fleet", COMMAND.format(python=sys.executable))
    config = path / "mlma.yaml"
    config.write_text(config.read_text().replace("kind: inline", f"kind: {executor}"))
    (path / "retrain.py").write_text(RETRAIN)
    outcomes(path, 0, WARM_DAYS)
    outcomes(path, WARM_DAYS, WARM_DAYS + 1)
    run(path)
    store = opened(path)
    status = {(effect.stream_id, effect.batch): effect.status for effect in store.effects()}
    assert status[0, 6] is status[2, 6] is EffectStatus.DONE
    assert status[1, 6] is EffectStatus.FAILED
    (finding,) = [finding for finding in store.findings() if finding.kind == "training_failed"]
    assert finding.subject == "s1"
    assert finding.message.endswith("ended with exit code 1; its standard error ends: no GPU is free")
    assert finding.count >= 3
    assert set(served(path, WARM_DAYS, 0)) == {"0-6-0"}
    assert set(served(path, WARM_DAYS, 1)) == {"naive"}
    store.close()


@pytest.mark.slow
def test_a_daemon_killed_while_it_waits_for_a_webhook_asks_again_under_the_same_id(tmp_path: Path) -> None:
    is_hanging = True

    def answer(asked: Asked) -> Answer:
        if is_hanging:
            return Answer(202, {"poll": "/later"}, headers={"Retry-After": "0"})
        return Answer(content={"version": f"gpu-{asked.headers['idempotency-key']}"})

    with receiving(answer) as receiver:
        path = prepare(tmp_path / "killed", EXTERNAL.format(url=receiver.url))
        outcomes(path, 0, WARM_DAYS)
        process = Daemon(path, environment={"RETRAIN_SECRET": SECRET})
        until = time.monotonic() + 60
        while not receiver.asked and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        before = {asked.headers["idempotency-key"] for asked in receiver.asked if asked.method == "POST"}
        is_hanging = False
        first = len(receiver.asked)
        run(path)
        after = [asked.headers["idempotency-key"] for asked in receiver.asked[first:]]
    assert before
    assert before <= set(after)
    assert sorted(after) == [f"train-{i}-6-0" for i in range(3)]
    store = opened(path)
    assert [version.family for version in store.versions()] == [f"external:gpu-train-{i}-6-0" for i in range(3)]
    store.close()


@pytest.mark.slow
def test_forecasts_that_come_before_any_observation_wait_for_them(tmp_path: Path) -> None:
    path = prepare(tmp_path / "early", "model: {name: external}")
    forecasts(path, 0, {"prod-1": 0.1})
    run(path)
    store = opened(path)
    assert store.files() == []
    store.close()
    outcomes(path, 0, 1)
    run(path)
    store = opened(path)
    assert [file.path for file in store.files()] == ["day-000-a-forecasts.csv", "day-000-b-outcomes.csv"]
    assert {found.reason for found in store.rejected()} == {RejectReason.UNKNOWN_STREAM}
    store.close()
