"""Trainings that do not help: the next must be worth more, and a person is told once."""

from dataclasses import replace

import numpy as np
import pytest

from mlma.core.decisions import Action, Hold, Phase
from mlma.core.settings import Evergreen, Serve
from mlma.runtime import in_vain
from mlma.runtime.ports import Commit
from tests.unit.runtime.memory_fleet import ANCHOR, Life, demand, settings_for

DAYS, N = 50, 4
POOL: dict[str, object] = {"proof": False, "evergreen": (Evergreen.MEDIAN,), "price": 0.05, "cooldown": 1}
BY_CALENDAR, AGENT = (
    settings_for(wanted=wanted, life=POOL | {"serve": Serve.CHAMPION}) for wanted in ("calendar:1", "mlma")
)


@pytest.fixture
def life() -> Life:
    """Two streams with several versions each; of the first, the newest four are worse than the one before."""
    made = Life(demand(2, DAYS), BY_CALENDAR).until(DAYS - 2)
    made.settings = AGENT
    made.open()
    pools = made.engine.pools
    for stream_id, seats in pools.seating.versions.items():
        newest_first = sorted(seats, key=lambda seat: -seats[seat].batch)
        pools.record.mean[stream_id, newest_first] = 1.0
        pools.record.mean[stream_id, newest_first[N if stream_id == 0 else 0]] = 0.5
    return made


def owe(life: Life, debt: float) -> None:
    life.engine.pools.account = replace(life.engine.pools.account, debt=np.full(2, debt))


def proposed_and_held(life: Life) -> list[tuple[Action, Hold]]:
    newest = life.engine.batch
    found = [d for d in life.decisions(phase=Phase.BATCH) if d.batch == newest]
    return [(d.proposed, d.held_by) for d in sorted(found, key=lambda d: d.stream_id)]


def test_newest_versions_that_do_not_help_are_counted(life: Life) -> None:
    assert life.engine.pools.in_vain().tolist() == [N, 0]


def test_what_is_worth_its_price_but_not_so_many_times_is_held_and_told(life: Life) -> None:
    owe(life, 1.0)  # a training must save twice its price where one version serves: 16 times that is 1.6
    life.until(DAYS - 1)
    assert proposed_and_held(life) == [(Action.RETRAIN, Hold.BACKING_OFF), (Action.RETRAIN, Hold.NOTHING)]
    (told,) = life.open_findings(in_vain.KIND).values()
    assert (told.subject, "the last 4 versions are no better than an older one" in told.message) == ("s000", True)
    assert "must save 16 times its price" in told.message


def test_what_is_worth_that_many_times_its_price_is_trained(life: Life) -> None:
    owe(life, 5.0)
    life.until(DAYS - 1)
    assert proposed_and_held(life) == [(Action.RETRAIN, Hold.NOTHING)] * 2
    assert not life.open_findings(in_vain.KIND)


def test_the_finding_closes_when_a_version_helps(life: Life) -> None:
    now, backs_off = ANCHOR, np.array([True, False])
    opened = in_vain.findings(life.engine, np.array([2, 0]), backs_off, now)
    life.store.record(Commit(findings=opened))
    assert set(life.open_findings(in_vain.KIND)) == {"s000"}
    assert [f.count for f in in_vain.findings(life.engine, np.array([2, 0]), backs_off, now)] == [2]
    life.store.record(Commit(findings=in_vain.findings(life.engine, np.array([1, 0]), backs_off, now)))
    assert not life.open_findings(in_vain.KIND)


def test_one_in_vain_is_no_finding(life: Life) -> None:
    assert not in_vain.findings(life.engine, np.array([1, 1]), np.array([True, True]), ANCHOR)
