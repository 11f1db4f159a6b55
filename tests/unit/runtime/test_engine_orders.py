"""What an engineer orders is obeyed on the next tick, and the record says what held what."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind, Role
from mlma.core.records import Decision
from mlma.core.settings import Yardstick
from tests.unit.runtime.memory_fleet import HOURS, WARM_DAYS, Life, demand, outcome, settings_for

FIRST = WARM_DAYS - 1  # the batch after which the first versions are trained
BREAK = 46  # the day, and so the batch, in which s000 and s002 change for good
PROVEN = 48  # the batch after which a candidate has seen enough of the change to beat the champion
FREEZE, PIN, EXCLUDE = OverrideKind.FREEZE, OverrideKind.PIN, OverrideKind.EXCLUDE


def fleet(days: int = 54, *, wanted: str = "test") -> Life:
    """Four streams that alarm when they change and only then; cooling down is switched off."""
    settings = settings_for(wanted=wanted, life={"cooldown": 0}, yardstick=Yardstick.NONE, effect_floor=1.0)
    return Life(demand(4, days, breaks_on=BREAK), settings)


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_freeze_holds_a_retraining_and_lifting_it_releases_it_on_the_next_tick(restarts: bool) -> None:
    life = fleet().until(BREAK)
    order, before = life.override(FREEZE, "s000"), life.champion("s000")
    life.until(PROVEN + 1)
    for batch in range(BREAK, PROVEN + 1):
        held = life.batch("s000", batch)
        assert (held.action, held.proposed, held.held_by) == (Action.KEEP, Action.RETRAIN, Hold.FROZEN)
    assert life.champion("s000") == before
    assert life.batch("s002", BREAK).action is Action.RETRAIN

    life.later().tick()
    assert not life.decisions("s000", phase=Phase.RELEASE)
    life.lift(order)
    if restarts:
        life.open()
    life.tick()
    (released,) = life.decisions("s000", phase=Phase.RELEASE)
    assert (released.action, released.reason, released.note) == (Action.RETRAIN, held.reason, "was held: frozen")
    assert life.champion("s000") == f"0-{PROVEN}-0"
    life.later().tick()
    assert len(life.decisions("s000", phase=Phase.RELEASE)) == 1


def test_a_frozen_stream_is_forecast_scored_and_tested_as_ever() -> None:
    life = fleet().until(BREAK)
    life.override(FREEZE, "*")
    versions, servings = len(life.store.versions()), len(life.store.servings())
    life.until(BREAK + 3)
    assert all(life.batch("s001", batch).n == HOURS for batch in range(BREAK, BREAK + 3))
    assert life.decisions("s000", held_by=Hold.FROZEN)
    assert (len(life.store.versions()), len(life.store.servings())) == (versions, servings)


def test_a_proposal_is_released_only_until_the_next_batch_is_judged() -> None:
    life = fleet().until(BREAK)
    order = life.override(FREEZE, "s000")
    life.until(BREAK + 1)
    life.y[0, (BREAK + 1) * HOURS :] = demand(4, 54)[0, (BREAK + 1) * HOURS :]
    life.until(BREAK + 5)
    assert life.batch("s000", BREAK).held_by is Hold.FROZEN
    assert life.batch("s000", BREAK + 4).proposed is Action.KEEP
    life.lift(order)
    life.tick()
    assert not life.decisions("s000", phase=Phase.RELEASE)


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_held_request_does_not_forget_the_proposal_that_it_met(restarts: bool) -> None:
    life = fleet().until(BREAK)
    order = life.override(FREEZE, "s000")
    life.until(PROVEN + 1)
    life.request(RequestKind.RETRAIN, "s000")
    life.tick()
    (asked,) = life.decisions("s000", phase=Phase.REQUEST)
    assert asked.held_by is Hold.FROZEN
    life.lift(order)
    if restarts:
        life.open()
    life.tick()
    assert life.champion("s000") == f"0-{PROVEN}-0"


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("days_pinned", [PROVEN + 1 - BREAK, PROVEN + 4 - BREAK])
def test_pin_keeps_the_champion_and_the_challenger_serves_when_it_is_lifted(days_pinned: int, restarts: bool) -> None:
    life = fleet().until(BREAK)
    order, before = life.override(PIN, "s000"), life.champion("s000")
    life.until(BREAK + days_pinned)
    assert life.champion("s000") == before
    challengers = [v for v in life.versions("s000") if v.role is Role.CHALLENGER]
    held = life.decisions("s000", phase=Phase.PROMOTION, held_by=Hold.PINNED)
    assert challengers
    assert {(d.action, d.proposed, d.reason) for d in held} == {(Action.KEEP, Action.PROMOTE, Reason.BEAT_CHAMPION)}

    if restarts:
        life.open()
    life.later().tick()
    assert life.champion("s000") == before
    life.lift(order)
    life.tick()
    assert life.champion("s000") == challengers[-1].id
    (released,) = life.decisions("s000", phase=Phase.RELEASE)
    assert (released.action, released.version_id) == (Action.PROMOTE, challengers[-1].id)
    roles = {version.id: version.role for version in life.versions("s000")}
    assert (roles[before], roles[challengers[-1].id]) == (Role.FORMER, Role.CHAMPION)


def test_a_challenger_whose_opponent_no_longer_serves_is_not_released() -> None:
    life = fleet().until(PROVEN + 1)
    first, second = (version.id for version in life.versions("s000") if version.role is not Role.REJECTED)
    assert life.champion("s000") == second
    order = life.override(PIN, "s000")
    life.engine.fleet.note_decision(
        _held_promotion(life, life.champion("s000"))
    )  # as if a candidate had beaten the champion of today
    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    life.lift(order)
    life.tick()
    assert life.champion("s000") == first
    assert not life.decisions("s000", phase=Phase.RELEASE)


def _held_promotion(life: Life, version_id: str) -> Decision:
    (found,) = life.decisions("s000", phase=Phase.PROMOTION, version_id=version_id)
    return replace(found, action=Action.KEEP, held_by=Hold.PINNED)


def test_a_pin_does_not_keep_the_first_version_out() -> None:
    life = fleet()
    life.override(PIN, "*")
    life.until(FIRST + 2)
    assert life.champion("s000") == f"0-{FIRST}-0"


def test_a_stream_that_is_frozen_before_its_first_version_stays_on_naive_and_is_trained_when_lifted() -> None:
    life = fleet()
    order = life.override(FREEZE, "*")
    life.until(FIRST + 3)
    assert [d.held_by for d in life.decisions("s000", phase=Phase.BATCH)] == [Hold.FROZEN] * 3
    assert life.champion("s000") == ""
    life.lift(order)
    life.tick()
    assert life.champion("s000") == f"0-{FIRST + 2}-0"


@pytest.mark.parametrize("retrospective", [False, True])
def test_an_excluded_storm_is_left_out_of_tests_references_and_trainings(retrospective: bool) -> None:
    life = fleet()
    life.y[1, 44 * HOURS : 46 * HOURS] *= 4.0
    life.until(46 if retrospective else 44)
    life.override(EXCLUDE, "s001", first_day=44, last_day=46)
    life.until(48)
    if not retrospective:
        for batch in (44, 45):
            stormy = life.batch("s001", batch)
            assert (stormy.reason, stormy.proposed, stormy.n) == (Reason.BAD_DATA, Action.KEEP, HOURS)
            assert math.isnan(stormy.p_value)
        assert life.batch("s001", 46).n_reference == life.batch("s003", 46).n_reference - 2
    calm = [life.batch("s001", batch).mean_loss for batch in (42, 43)]
    reference = life.batch("s001", 46).adaptive_mean
    assert math.isnan(reference) or reference == pytest.approx(sum(calm) / 2)
    life.request(RequestKind.RETRAIN, "s001 s003")
    life.tick()
    rows = {name: life.versions(name)[-1].n_rows for name in ("s001", "s003")}
    assert rows["s003"] - rows["s001"] == 2 * HOURS


def test_a_past_batch_that_is_excluded_afterwards_leaves_the_references() -> None:
    life = fleet().until(46)
    order = life.override(EXCLUDE, "s001", first_day=44, last_day=46)
    assert life.until(47).batch("s001", 46).n_reference == 2
    assert life.batch("s003", 46).n_reference == 4
    life.lift(order)
    assert life.until(48).batch("s001", 47).n_reference == 5


def test_a_training_with_hardly_any_clean_data_is_held_not_failed() -> None:
    life = fleet().until(44)
    life.override(EXCLUDE, "s001", first_day=0, last_day=40)
    life.request(RequestKind.RETRAIN, "s001")
    life.tick()
    (asked,) = life.decisions("s001", phase=Phase.REQUEST)
    assert asked.held_by is Hold.TOO_LITTLE_DATA


def test_a_proposed_training_counts_only_clean_rows() -> None:
    life = fleet(wanted="always").until(44)
    life.override(EXCLUDE, "s000", first_day=0, last_day=40)
    life.until(45)
    assert life.batch("s000", 44).held_by is Hold.TOO_LITTLE_DATA
    assert life.batch("s002", 44).held_by is Hold.NOTHING


def test_a_requested_training_makes_a_challenger_that_must_prove_itself() -> None:
    life = fleet().until(44)
    life.request(RequestKind.RETRAIN, "s001")
    assert life.tick()
    (asked,) = life.decisions("s001", phase=Phase.REQUEST)
    assert (asked.action, asked.reason, asked.held_by) == (Action.RETRAIN, Reason.REQUESTED, Hold.NOTHING)
    assert asked.note == "request 1 by ada: a test"
    (compared,) = life.decisions("s001", phase=Phase.PROMOTION, batch=43)
    assert compared.reason in {Reason.BEAT_CHAMPION, Reason.NOT_BETTER}
    assert compared.n == HOURS


def test_a_request_is_consumed_exactly_once() -> None:
    life = fleet().until(44)
    life.request(RequestKind.RETRAIN, "s001")
    life.tick()
    (request,) = life.store.requests()
    assert request.consumed_at is not None
    assert request.outcome == "1 of 1 streams"
    trained = len(life.versions("s001"))
    life.later().tick()
    life.open()
    life.later().tick()
    assert len(life.versions("s001")) == trained
    assert len(life.decisions("s001", phase=Phase.REQUEST)) == 1


def test_a_request_says_how_many_streams_obeyed_and_what_held_the_others() -> None:
    life = fleet().until(44)
    life.override(FREEZE, "s001")
    life.request(RequestKind.RETRAIN, "s00*")
    life.tick()
    assert life.store.requests()[0].outcome == "3 of 4 streams; the others were held: frozen"


def test_two_requests_for_one_stream_train_it_twice_after_one_another() -> None:
    life = fleet().until(44)
    for _ in range(2):
        life.request(RequestKind.RETRAIN, "s001")
        life.tick()
    assert [v.id for v in life.versions("s001")][-2:] == ["1-43-0", "1-43-1"]


def test_requests_wait_until_the_fleet_is_warm() -> None:
    life = fleet().until(5)
    life.request(RequestKind.RETRAIN, "s001")
    life.tick()
    assert life.store.requests(open_only=True)
    life.until(FIRST + 2).later().tick()
    assert not life.store.requests(open_only=True)


def test_a_rollback_brings_the_former_champion_back_on_the_next_tick_and_a_second_one_has_nothing_left() -> None:
    life = fleet().until(PROVEN + 1)
    first, second = f"0-{FIRST}-0", f"0-{PROVEN}-0"
    assert life.champion("s000") == second
    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    assert life.champion("s000") == first
    (back,) = life.decisions("s000", phase=Phase.REQUEST)
    assert (back.action, back.version_id) == (Action.ROLL_BACK, first)
    roles = {version.id: version.role for version in life.versions("s000")}
    assert (roles[first], roles[second]) == (Role.CHAMPION, Role.FORMER)

    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    again = life.decisions("s000", phase=Phase.REQUEST)[-1]
    assert (again.action, again.held_by) == (Action.KEEP, Hold.NO_FORMER_CHAMPION)
    assert life.champion("s000") == first
    life.open()
    assert life.champion("s000") == first
    assert life.engine.fleet.former(life.id("s000")) is None


def test_after_a_rollback_the_former_champion_issues_the_forecasts() -> None:
    life = fleet().until(PROVEN + 1)
    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    life.override(FREEZE, "s000")
    life.until(PROVEN + 3)
    last = (PROVEN + 2) * HOURS
    blocks = life.history.forecasts(0, first_slot=last, last_slot=last + HOURS - 1)
    served = {block.versions[code] for block in blocks for code in block.version[block.stream_id == 0].tolist()}
    assert served == {f"0-{FIRST}-0"} == {life.batch("s000", PROVEN + 2).version_id}


def test_freeze_holds_a_rollback_and_pin_does_not() -> None:
    life = fleet().until(PROVEN + 1)
    frozen = life.override(FREEZE, "s000")
    life.override(PIN, "s002")
    life.request(RequestKind.ROLLBACK, "*")
    life.tick()
    assert life.champion("s000") == f"0-{PROVEN}-0"
    assert life.champion("s002") == f"2-{FIRST}-0"
    assert life.decisions("s000", phase=Phase.REQUEST)[0].held_by is Hold.FROZEN
    life.lift(frozen)


def test_an_order_over_labels_or_globs_holds_streams_that_are_born_later() -> None:
    life = fleet()
    life.y[3, : 43 * HOURS] = np.nan
    life.override(FREEZE, "s003")
    life.until(54)
    holds = {d.held_by for d in life.decisions("s003", phase=Phase.BATCH, proposed=Action.TRAIN)}
    assert Hold.FROZEN in holds
    assert life.champion("s003") == ""


def test_a_restart_between_any_two_ticks_changes_no_decision() -> None:
    def lived(*, restarts: bool) -> dict[str, object]:
        life = fleet()
        for day in range(FIRST, 54):
            life.until(day)
            if day == BREAK - 1:
                order = life.override(PIN, "s000")
            if day == PROVEN + 2:
                life.lift(order)
            if day == PROVEN + 3:
                life.request(RequestKind.ROLLBACK, "s00[02]")
            if restarts:
                life.open()
        return outcome(life.store)

    assert lived(restarts=True) == lived(restarts=False)
