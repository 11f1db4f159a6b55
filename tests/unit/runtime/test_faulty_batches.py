"""Faults of a feed: they train nothing, cost no model anything, are told, and are not looked at afterwards."""

from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.checkpoints import FileCheckpoints
from mlma.core.decisions import Action, Hold, Phase, RequestKind
from mlma.core.settings import Evergreen, Serve, Yardstick
from tests.unit.runtime.memory_fleet import HOURS, Life, demand, outcome, settings_for

DAYS, FAULT = 55, 48
POOL: dict[str, object] = {"proof": False, "evergreen": (Evergreen.MEDIAN, Evergreen.LAD), "price": 0.05, "cooldown": 1}


def with_fault(y: np.ndarray, stream: int, value: float | None = None, *, day: int = FAULT) -> np.ndarray:
    """The same data with one day of one stream stuck, at its last value or at a given one."""
    made = y.copy()
    made[stream, day * HOURS : (day + 1) * HOURS] = made[stream, day * HOURS - 1] if value is None else value
    return made


def of(life: Life, name: str, batch: int) -> tuple[Action, Hold]:
    (decision,) = [d for d in life.decisions(name, phase=Phase.BATCH) if d.batch == batch]
    return decision.proposed, decision.held_by


@pytest.mark.parametrize("value", [None, 0.0])
def test_a_fault_trains_nothing_and_is_told_until_it_is_over(value: float | None) -> None:
    # The reference of one policy that follows every alarm: a stuck day alarms, and only the guard holds it.
    settings = settings_for(wanted="test", life=POOL, yardstick=Yardstick.NONE, effect_floor=0.05)
    life = Life(with_fault(demand(2, DAYS), 1, value), settings).until(FAULT + 1)
    assert of(life, "s001", FAULT) == (Action.RETRAIN, Hold.SUSPICIOUS_DATA)
    (finding,) = [f for f in life.store.findings(open_only=True) if f.kind == "suspicious_data"]
    assert (finding.subject, finding.message.split(" of")[0]) == ("s001", "100%")
    life.until(FAULT + 2)
    assert not [f for f in life.store.findings(open_only=True) if f.kind == "suspicious_data"]


def test_an_engineer_may_train_on_it_all_the_same() -> None:
    life = Life(with_fault(demand(2, DAYS), 1), settings_for(wanted="mlma", life=POOL)).until(FAULT + 1)
    before = len(life.versions("s001"))
    life.request(RequestKind.RETRAIN, "s001")
    life.tick()
    assert len(life.versions("s001")) == before + 1


@pytest.mark.parametrize("serve", [Serve.CHAMPION, Serve.BLEND])
def test_a_fault_and_the_day_after_are_charged_to_nobody_and_add_to_no_record(serve: Serve) -> None:
    settings = settings_for(wanted="mlma", life=POOL | {"serve": serve})
    life = Life(with_fault(demand(2, DAYS), 1), settings).until(FAULT)
    charged, recent = life.engine.pools.account.loss_n[1], life.engine.pools.record.mean[1].copy()
    life.until(FAULT + 1)
    np.testing.assert_array_equal(life.engine.pools.record.mean[1], recent)
    life.until(FAULT + 2)
    assert life.engine.pools.account.loss_n[1] == charged
    life.until(FAULT + 3)
    assert life.engine.pools.account.loss_n[1] == charged + 1


def test_what_is_forecast_after_a_fault_looks_at_none_of_it() -> None:
    # Whether a day is stuck at one value or at another can then make no difference to any forecast.
    y = demand(2, DAYS)
    made = []
    for value in (7.0, 9_000.0):
        settings = settings_for(wanted="mlma", life=POOL | {"serve": Serve.BLEND})
        life = Life(with_fault(y, 1, value), settings).until(DAYS)
        first = (FAULT + 1) * HOURS
        made.append(
            [
                (block.stream_id.tolist(), block.slot.tolist(), block.forecast.tolist(), block.naive.tolist())
                for block in life.history.forecasts(0, first_slot=first, last_slot=DAYS * HOURS)
            ]
        )
    assert made[0] == made[1]


def test_a_training_after_a_fault_learns_nothing_from_it() -> None:
    y = demand(2, DAYS)
    models = []
    for value in (7.0, 9_000.0):
        life = Life(with_fault(y, 1, value), settings_for(wanted="calendar:3", life=POOL)).until(FAULT + 8)
        models.append([version.sha256 for version in life.versions("s001")])
    assert models[0] == models[1]
    assert len(models[0]) >= 2


@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_restart_after_a_fault_changes_nothing(tmp_path: Path, n_shards: int) -> None:
    y = with_fault(with_fault(demand(3, DAYS, breaks_on=FAULT - 4), 1), 2, 0.0, day=FAULT + 1)
    settings = settings_for(wanted="mlma", life=POOL)
    plain = Life(y, settings, n_shards=n_shards).until(DAYS)
    stopped = Life(y, settings, n_shards=n_shards, checkpoints=FileCheckpoints(tmp_path))
    for day in range(FAULT - 1, FAULT + 4):
        stopped.until(day).open()
    assert outcome(stopped.until(DAYS).store) == outcome(plain.store)


def test_nights_without_demand_are_no_faults() -> None:
    y = demand(2, DAYS)
    y[1].reshape(-1, HOURS)[:, :7] = 0.0
    life = Life(y, settings_for(wanted="mlma", life=POOL)).until(DAYS)
    assert not [f for f in life.store.findings() if f.kind == "suspicious_data"]
