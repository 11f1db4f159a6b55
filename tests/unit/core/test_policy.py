import numpy as np
import pytest

from mlma.core.blocks import ACTIONS, REASON_CODE, REASONS
from mlma.core.decisions import Action, Reason
from mlma.core.errors import ConfigError
from mlma.core.policy import Policy, PolicyKind, Signals, parse, propose

TESTED = (
    Reason.WITHIN_REFERENCE, Reason.NOT_READY, Reason.NO_OUTCOMES, Reason.BAD_DATA, Reason.ALARM_ADAPTIVE,
    Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.SMALL_EFFECT, Reason.INCIDENT,
)  # fmt: skip
ALARMS = {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH}


def proposed(
    text: str,
    reason: Reason,
    *,
    has_version: bool = True,
    age: int = 1,
    failed: bool = False,
    armed: bool = True,
) -> tuple[Action, Reason]:
    signals = Signals(
        alarm=np.array([reason in ALARMS]),
        reason=np.array([REASON_CODE[reason]], dtype=np.int8),
        has_version=np.array([has_version]),
        age=np.array([age]),
        failed=np.array([failed]),
        armed=armed,
        fallback_every=5,
    )
    made = propose(parse(text), signals)
    return ACTIONS[made.action[0]], REASONS[made.reason[0]]


KEEP, RETRAIN, TRAIN = Action.KEEP, Action.RETRAIN, Action.TRAIN
TABLE = [
    # policy, what the test says, circumstances -> action, reason
    ("never", Reason.ALARM_BOTH, {}, KEEP, Reason.ALARM_BOTH),
    ("never", Reason.WITHIN_REFERENCE, {"failed": True}, KEEP, Reason.WITHIN_REFERENCE),
    ("always", Reason.WITHIN_REFERENCE, {}, RETRAIN, Reason.ALWAYS),
    ("always", Reason.BAD_DATA, {"age": 0}, RETRAIN, Reason.ALWAYS),
    ("calendar:4", Reason.ALARM_BOTH, {"age": 3}, KEEP, Reason.ALARM_BOTH),
    ("calendar:4", Reason.WITHIN_REFERENCE, {"age": 4}, RETRAIN, Reason.CALENDAR),
    ("calendar:4", Reason.NOT_READY, {"age": 9}, RETRAIN, Reason.CALENDAR),
    ("calendar:1", Reason.NOT_READY, {"age": 1}, RETRAIN, Reason.CALENDAR),
    *(("mlma", reason, {}, RETRAIN if reason in ALARMS else KEEP, reason) for reason in TESTED),
    ("mlma", Reason.WITHIN_REFERENCE, {"failed": True}, RETRAIN, Reason.MODEL_FAILED),
    ("mlma", Reason.NOT_READY, {"failed": True}, RETRAIN, Reason.MODEL_FAILED),
    ("mlma", Reason.ALARM_ANCHORED, {"failed": True}, RETRAIN, Reason.ALARM_ANCHORED),
    ("mlma", Reason.UNCERTIFIED, {"armed": False, "age": 4}, KEEP, Reason.UNCERTIFIED),
    ("mlma", Reason.UNCERTIFIED, {"armed": False, "age": 5}, RETRAIN, Reason.UNCERTIFIED),
    ("mlma", Reason.WITHIN_REFERENCE, {"armed": False, "age": 4}, KEEP, Reason.WITHIN_REFERENCE),
    ("mlma", Reason.WITHIN_REFERENCE, {"armed": False, "age": 5}, RETRAIN, Reason.UNCERTIFIED),
    ("mlma", Reason.WITHIN_REFERENCE, {"armed": True, "age": 99}, KEEP, Reason.WITHIN_REFERENCE),
    *((p, Reason.ALARM_BOTH, {"has_version": False}, TRAIN, Reason.NO_VERSION) for p in ("never", "always", "mlma")),
    ("calendar:2", Reason.NO_OUTCOMES, {"has_version": False, "age": 99}, TRAIN, Reason.NO_VERSION),
]


@pytest.mark.parametrize(("policy", "says", "circumstances", "action", "reason"), TABLE)
def test_each_policy_proposes_with_its_reason(
    policy: str, says: Reason, circumstances: dict[str, object], action: Action, reason: Reason
) -> None:
    assert proposed(policy, says, **circumstances) == (action, reason)  # type: ignore[arg-type]


def test_the_table_has_a_row_for_every_reason_that_a_proposal_can_have() -> None:
    wanted = {*TESTED, Reason.UNCERTIFIED, Reason.NO_VERSION, Reason.CALENDAR, Reason.ALWAYS, Reason.MODEL_FAILED}
    assert {row[4] for row in TABLE} == wanted


def test_the_table_has_every_policy() -> None:
    assert {parse(row[0]).kind for row in TABLE} == set(PolicyKind)


@pytest.mark.parametrize("text", ["never", "always", "mlma", "calendar:1", "calendar:13"])
def test_a_policy_is_written_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["", "Always", "calendar", "calendar:", "calendar:0", "calendar:-1", "calendar:1.5",
                                  "calendar:04", " mlma", "mlma ", "calendar:4x", "sometimes"])  # fmt: skip
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match="expected never, always, calendar:K"):
        parse(text)


def test_only_the_agent_asks_for_a_proof() -> None:
    assert [kind for kind in PolicyKind if Policy(kind=kind, every=1).proves] == [PolicyKind.MLMA]
