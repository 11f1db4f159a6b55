"""Groups in replays: one training is one training, shared by the policies that order it, and paid by each."""

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlma import bootstrap
from mlma.runtime.replay_data import ReplayRequest
from tests.unit.runtime import odd_model
from tests.unit.runtime.memory_fleet import ANCHOR, ODD, demand

DAYS, WINDOW, STREAMS = 38, 28, 3
ROUNDS = DAYS - WINDOW + 1  # after the train window, and after each of the batches that are scored
GROUP = {"rows": 120, "min_streams": 2, "model": {"name": ODD}}
POLICIES = ("always", "never+pool", "always+pool", "mlma-blend")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "demand.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["stream", "ts", "y"])
        for i, values in enumerate(demand(STREAMS, DAYS)):
            for hour, value in enumerate(values.tolist()):
                stamp = ANCHOR + timedelta(hours=hour)
                out.writerow([f"s{i}", stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), repr(value)])
    return path


def figures(data: Path, *groups: dict[str, Any], policies: tuple[str, ...] = POLICIES) -> dict[str, Any]:
    settings = {"life.groups": list(groups), "life.evergreen": ["median"]}
    request = ReplayRequest(
        data=data, frequency="1h", horizon="6h", batch="1d", train_window=f"{WINDOW}d", model=ODD, executor="inline",
        policies=policies, settings=settings,
    )  # fmt: skip
    made: dict[str, Any] = bootstrap.run_replay(request).to_json()["policies"]  # type: ignore[assignment]
    return made


def test_a_training_of_a_group_is_one_training_beside_those_of_the_streams(data: Path) -> None:
    without, made = figures(data), figures(data, GROUP)
    assert made["always"]["trainings"] == without["always"]["trainings"]  # the newest version serves: no pool, no group
    assert made["never+pool"]["trainings"] == without["never+pool"]["trainings"] + 1 == STREAMS + 1
    assert made["always+pool"]["trainings"] == without["always+pool"]["trainings"] + ROUNDS
    share = made["never+pool"]["training_share_of_always"]
    assert share == pytest.approx((STREAMS + 1) / made["always"]["trainings"], abs=1e-4)


def test_policies_that_order_the_same_training_share_it(data: Path) -> None:
    odd_model.FITS.clear()
    made = figures(data, GROUP)
    assert odd_model.FITS.count(120) == ROUNDS  # for always+pool; the others need the first one
    alone = figures(data, GROUP, policies=("mlma-blend",))
    assert made["mlma-blend"]["trainings"] == alone["mlma-blend"]["trainings"] > STREAMS


def test_a_policy_alone_gives_what_it_gives_beside_others(data: Path) -> None:
    beside, alone = figures(data, GROUP), figures(data, GROUP, policies=("never+pool",))
    assert alone["never+pool"]["mean_loss"] == beside["never+pool"]["mean_loss"]
    assert alone["never+pool"]["trainings"] == beside["never+pool"]["trainings"]


def test_the_group_takes_part_in_what_is_served(data: Path) -> None:
    without, made = figures(data, policies=("never+pool",)), figures(data, GROUP, policies=("never+pool",))
    assert made["never+pool"]["mean_loss"] != without["never+pool"]["mean_loss"]
    assert np.isfinite(made["never+pool"]["mean_loss"])
