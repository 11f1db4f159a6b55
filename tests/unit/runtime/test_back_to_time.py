"""A rollback to a time brings back what served then, takes out what came later, and does so once."""

from datetime import datetime

import pytest

from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind, Role
from mlma.core.records import Request
from mlma.core.settings import Serve
from mlma.runtime import ledger
from tests.unit.runtime.memory_fleet import ANCHOR, DAY, SCHEDULE, WARM_DAYS, Life, demand, outcome, settings_for

FIRST = WARM_DAYS - 1  # the batch after which the first versions are trained
SECOND, THIRD = FIRST + 2, FIRST + 3


def fleet(serve: Serve = Serve.BLEND) -> Life:
    """Two streams with three versions each, trained after the batches FIRST, SECOND and THIRD."""
    life = Life(demand(2, 54), settings_for(wanted="never", life={"cooldown": 0, "serve": serve, "proof": False}))
    life.until(FIRST + 1)
    for batch in (SECOND, THIRD):
        life.until(batch + 1)
        life.request(RequestKind.RETRAIN, "*")
        life.tick()
    return life.until(THIRD + 2)


def back(life: Life, time: datetime, selection: str = "s000") -> str:
    """Ask for what served at a time, let the next tick obey; its outcome."""
    life.later()
    asked = Request(
        kind=RequestKind.ROLLBACK, selection=selection, author="ada", comment="a test",
        created_at=life.clock.now(), back_to=time,
    )  # fmt: skip
    life.store.add_request(asked, life._audit(RequestKind.ROLLBACK, selection))
    life.tick()
    return life.store.requests()[-1].outcome


def during(batch: int) -> datetime:
    """Some time within a batch."""
    return ANCHOR + batch * DAY + DAY / 2


def seated(life: Life, name: str = "s000") -> set[str]:
    return {sitting.version_id for sitting in life.engine.pools.seating.of(life.id(name)).values()}


def roles(life: Life, name: str = "s000") -> dict[str, Role]:
    return {version.id: version.role for version in life.versions(name)}


def test_in_a_blend_the_version_serves_that_joined_last_by_then_and_later_ones_leave_the_pool() -> None:
    life = fleet()
    first, second, third = (version.id for version in life.versions("s000"))
    assert seated(life) == {first, second, third}
    assert back(life, during(SECOND + 1)) == "1 of 1 streams"
    assert life.champion("s000") == second
    assert seated(life) == {first, second}
    assert roles(life) == {first: Role.FORMER, second: Role.CHAMPION, third: Role.TAKEN_BACK}
    assert len(seated(life, "s001")) == 3
    (decided,) = life.decisions("s000", phase=Phase.REQUEST, reason=Reason.BACK_TO_TIME)
    assert (decided.action, decided.version_id) == (Action.ROLL_BACK, second)
    assert decided.note == "request 3 by ada: a test"


def test_only_what_is_left_in_the_pool_forecasts_from_the_next_origin_on() -> None:
    life = fleet()
    first, second, _ = (version.id for version in life.versions("s000"))
    back(life, during(SECOND + 1))
    life.until(THIRD + 4)
    origin = (THIRD + 3) * 24
    (block,) = life.history.members(0, first_origin=origin, last_origin=origin, stream_id=0)
    assert {block.members[code] for code in block.member.tolist()} == {"naive", first, second}
    assert block.weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("serve", [Serve.BLEND, Serve.CHAMPION])
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_asking_twice_is_asking_once(serve: Serve, restarts: bool) -> None:
    life = fleet(serve)
    back(life, during(FIRST + 1))
    lines, pool = life.store.servings(), seated(life)
    if restarts:
        life.open()
        assert seated(life) == pool
    assert back(life, during(FIRST + 1)) == "0 of 1 streams; the others were held: nothing_to_change"
    assert (life.store.servings(), seated(life)) == (lines, pool)
    assert life.decisions("s000", held_by=Hold.NOTHING_TO_CHANGE)


def test_beside_a_champion_later_challengers_leave_even_when_the_champion_stays() -> None:
    life = fleet(Serve.CHAMPION)
    first = life.versions("s000")[0].id
    back(life, during(FIRST + 1))
    assert life.champion("s000") == first
    assert seated(life) == {first}
    assert set(roles(life).values()) == {Role.CHAMPION, Role.TAKEN_BACK}
    life.until(THIRD + 5)
    assert life.champion("s000") == first


def test_one_may_go_forward_again() -> None:
    life = fleet()
    first, second, third = (version.id for version in life.versions("s000"))
    back(life, during(FIRST + 1))
    assert (life.champion("s000"), seated(life)) == (first, {first})
    back(life, during(THIRD + 1))
    assert life.champion("s000") == third
    assert roles(life)[third] is Role.CHAMPION
    life.open()
    assert (life.champion("s000"), seated(life)) == (third, {first, third})
    assert second not in life.engine.fleet.lines[0]


def test_a_version_that_was_taken_back_is_no_former_champion() -> None:
    life = fleet()
    back(life, during(FIRST + 1))
    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    assert life.decisions("s000", phase=Phase.REQUEST)[-1].held_by is Hold.NO_FORMER_CHAMPION


def test_a_freeze_holds_it_and_a_pin_does_not() -> None:
    life = fleet()
    life.override(OverrideKind.FREEZE, "s000")
    life.override(OverrideKind.PIN, "s001")
    assert back(life, during(FIRST + 1), "*") == "1 of 2 streams; the others were held: frozen"
    assert life.champion("s000") == f"0-{THIRD}-0"
    assert life.champion("s001") == f"1-{FIRST}-0"


def test_before_the_first_version_there_is_nothing_to_go_back_to() -> None:
    life = fleet()
    assert back(life, ANCHOR + DAY) == "0 of 1 streams; the others were held: no_former_champion"
    assert life.champion("s000") == f"0-{THIRD}-0"


@pytest.mark.parametrize("serve", [Serve.BLEND, Serve.CHAMPION])
def test_a_restart_between_any_two_ticks_changes_nothing(serve: Serve) -> None:
    def lived(*, restarts: bool) -> tuple[dict[str, object], list[set[str]]]:
        life, pools = fleet(serve), []
        for day in range(life.day, life.day + 4):
            life.until(day + 1)
            if day == THIRD + 3:
                back(life, during(SECOND + 1), "*")
            if day == THIRD + 4:
                life.request(RequestKind.RETRAIN, "s000")
                life.tick()
            if restarts:
                life.open()
            pools.append(seated(life))
        return outcome(life.store), pools

    assert lived(restarts=True) == lived(restarts=False)


def test_the_ledger_names_what_served_every_slot_and_who_decided() -> None:
    life = fleet()
    back(life, during(SECOND + 1))
    life.until(THIRD + 4)
    (stream,) = [stream for stream in life.store.streams() if stream.name == "s000"]
    for batch in range(FIRST, THIRD + 4):
        issued = life.history.forecasts(0, first_slot=batch * 24, last_slot=batch * 24 + 23, stream_id=0)
        naive = {block.versions[code] for block in issued for code in block.version.tolist()} <= {"naive"}
        (line,) = ledger.at(life.store, SCHEDULE, [stream], during(batch))
        assert naive == (line.version_id == "naive")
        assert naive or line.version_id == life.batch("s000", batch).version_id
    (line,) = ledger.at(life.store, SCHEDULE, [stream], during(THIRD + 3))
    assert (line.version_id, line.decided_by, line.reason) == (f"0-{SECOND}-0", "ada", Reason.BACK_TO_TIME)


def test_the_weights_of_a_slot_are_those_that_its_forecast_was_made_with() -> None:
    life = fleet()
    (stream,) = [stream for stream in life.store.streams() if stream.name == "s000"]
    found = ledger.served(life.store, life.history, SCHEDULE, stream, during(THIRD + 1), shard=0)
    assert found.issued_at == ANCHOR + (THIRD + 1) * DAY + DAY / 2
    weights = {one.member: one.weight for one in found.weights}
    assert sum(weights.values()) == pytest.approx(1.0)
    assert set(weights) - {"naive"} == {version.id for version in life.versions("s000")}
    assert not found.stood_in
