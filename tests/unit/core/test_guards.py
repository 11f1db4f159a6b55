from dataclasses import replace

import numpy as np
import pytest

from mlma.core.blocks import ACTION_CODE, ACTIONS, HOLDS, REASON_CODE
from mlma.core.decisions import Action, Hold, Reason
from mlma.core.guards import Circumstances, guard
from mlma.core.policy import Proposal

NOTHING_SPEAKS = {"frozen": False, "in_progress": False, "has_new": True, "suspicious": False, "n_rows": 100,
                  "age": 10, "backing_off": False}  # fmt: skip
MIN_ROWS, COOLDOWN = 100, 2


def circumstances(**changed: object) -> Circumstances:
    values = {**NOTHING_SPEAKS, **changed}
    return Circumstances(
        min_rows=MIN_ROWS,
        cooldown=COOLDOWN,
        **{name: np.array([value]) for name, value in values.items()},  # type: ignore[arg-type]
    )


def guarded(action: Action, **changed: object) -> tuple[Action, Hold]:
    proposal = Proposal(
        action=np.array([ACTION_CODE[action]], dtype=np.int8),
        reason=np.array([REASON_CODE[Reason.ALARM_BOTH]], dtype=np.int8),
    )
    made = guard(proposal, circumstances(**changed))
    return ACTIONS[made.action[0]], HOLDS[made.held_by[0]]


TABLE = [
    # proposed, circumstances -> carried out, held by
    (Action.RETRAIN, {}, Action.RETRAIN, Hold.NOTHING),
    (Action.TRAIN, {}, Action.TRAIN, Hold.NOTHING),
    (Action.RETRAIN, {"frozen": True}, Action.KEEP, Hold.FROZEN),
    (Action.TRAIN, {"frozen": True}, Action.KEEP, Hold.FROZEN),
    (Action.RETRAIN, {"in_progress": True}, Action.KEEP, Hold.IN_PROGRESS),
    (Action.TRAIN, {"in_progress": True}, Action.KEEP, Hold.IN_PROGRESS),
    (Action.RETRAIN, {"has_new": False}, Action.KEEP, Hold.NO_NEW_DATA),
    (Action.TRAIN, {"has_new": False}, Action.KEEP, Hold.NO_NEW_DATA),
    (Action.RETRAIN, {"suspicious": True}, Action.KEEP, Hold.SUSPICIOUS_DATA),
    (Action.TRAIN, {"suspicious": True}, Action.KEEP, Hold.SUSPICIOUS_DATA),
    (Action.RETRAIN, {"missing": True}, Action.KEEP, Hold.FORECASTS_MISSING),
    (Action.RETRAIN, {"missing": False}, Action.RETRAIN, Hold.NOTHING),
    (Action.RETRAIN, {"n_rows": MIN_ROWS - 1}, Action.KEEP, Hold.TOO_LITTLE_DATA),
    (Action.TRAIN, {"n_rows": MIN_ROWS - 1}, Action.KEEP, Hold.TOO_LITTLE_DATA),
    (Action.RETRAIN, {"age": COOLDOWN - 1}, Action.KEEP, Hold.COOLING_DOWN),
    (Action.RETRAIN, {"age": COOLDOWN}, Action.RETRAIN, Hold.NOTHING),
    (Action.RETRAIN, {"backing_off": True}, Action.KEEP, Hold.BACKING_OFF),
    (Action.RETRAIN, {"backing_off": True, "age": 0}, Action.KEEP, Hold.COOLING_DOWN),
    (Action.TRAIN, {"backing_off": True}, Action.TRAIN, Hold.NOTHING),
    (Action.TRAIN, {"age": COOLDOWN - 1}, Action.TRAIN, Hold.NOTHING),
    (Action.KEEP, {"frozen": True, "in_progress": True, "has_new": False, "n_rows": 0, "age": 0},
     Action.KEEP, Hold.NOTHING),
    # several speak: the first is named
    (Action.RETRAIN, {"frozen": True, "in_progress": True, "has_new": False, "n_rows": 0, "age": 0},
     Action.KEEP, Hold.FROZEN),
    (Action.RETRAIN, {"in_progress": True, "has_new": False, "n_rows": 0, "age": 0}, Action.KEEP, Hold.IN_PROGRESS),
    (Action.RETRAIN, {"has_new": False, "n_rows": 0, "age": 0}, Action.KEEP, Hold.NO_NEW_DATA),
    (Action.RETRAIN, {"suspicious": True, "n_rows": 0, "age": 0}, Action.KEEP, Hold.SUSPICIOUS_DATA),
    (Action.RETRAIN, {"missing": True, "n_rows": 0, "age": 0}, Action.KEEP, Hold.FORECASTS_MISSING),
    (Action.RETRAIN, {"n_rows": 0, "age": 0}, Action.KEEP, Hold.TOO_LITTLE_DATA),
]  # fmt: skip


@pytest.mark.parametrize(("proposed", "changed", "action", "held_by"), TABLE)
def test_the_first_guard_that_speaks_is_named(
    proposed: Action, changed: dict[str, object], action: Action, held_by: Hold
) -> None:
    assert guarded(proposed, **changed) == (action, held_by)


def test_the_table_has_a_row_for_every_hold_that_a_guard_can_give() -> None:
    elsewhere = {Hold.PINNED, Hold.NO_FORMER_CHAMPION, Hold.NOTHING_TO_CHANGE}  # promotions and rollbacks
    elsewhere |= {Hold.BUDGET, Hold.SETTLED}  # trainings that lapse in the queue
    assert {row[3] for row in TABLE} == set(Hold) - elsewhere


@pytest.mark.parametrize("reason", Reason)
def test_missing_forecasts_hold_what_they_are_no_evidence_for_and_nothing_else(reason: Reason) -> None:
    proposal = Proposal(
        action=np.array([ACTION_CODE[Action.RETRAIN]], dtype=np.int8),
        reason=np.array([REASON_CODE[reason]], dtype=np.int8),
    )
    held_by = HOLDS[guard(proposal, circumstances(missing=True)).held_by[0]]
    judges = {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.MODEL_FAILED}
    assert held_by is (Hold.FORECASTS_MISSING if reason in judges else Hold.NOTHING)


def test_streams_are_held_one_by_one() -> None:
    proposal = Proposal(
        action=np.array([ACTION_CODE[a] for a in (Action.RETRAIN, Action.RETRAIN, Action.KEEP)], dtype=np.int8),
        reason=np.zeros(3, dtype=np.int8),
    )
    now = Circumstances(
        frozen=np.array([True, False, True]), in_progress=np.zeros(3, dtype=np.bool_),
        has_new=np.ones(3, dtype=np.bool_), suspicious=np.zeros(3, dtype=np.bool_), n_rows=np.full(3, 200),
        age=np.full(3, 5), backing_off=np.zeros(3, dtype=np.bool_), min_rows=100, cooldown=2,
    )  # fmt: skip
    made = guard(proposal, now)
    assert [HOLDS[code] for code in made.held_by] == [Hold.FROZEN, Hold.NOTHING, Hold.NOTHING]
    lifted = guard(proposal, replace(now, frozen=np.zeros(3, dtype=np.bool_)))
    assert [ACTIONS[code] for code in lifted.action] == [Action.RETRAIN, Action.RETRAIN, Action.KEEP]
