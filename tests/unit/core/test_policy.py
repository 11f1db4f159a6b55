from dataclasses import dataclass, replace

import numpy as np
import pytest

from mlma.core.blocks import ACTIONS, REASON_CODE, REASONS
from mlma.core.decisions import Action, Reason
from mlma.core.errors import ConfigError
from mlma.core.policy import Policy, PolicyKind, Signals, parse, propose
from mlma.core.settings import LossTestName, Serve

TESTED = (
    Reason.WITHIN_REFERENCE, Reason.NOT_READY, Reason.NO_OUTCOMES, Reason.BAD_DATA, Reason.ALARM_ADAPTIVE,
    Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.SMALL_EFFECT, Reason.INCIDENT,
)  # fmt: skip
ALARMS = {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH}


@dataclass(frozen=True)
class Said:
    """A trigger that says what it was told to."""

    due: np.ndarray


def proposed(
    text: str,
    reason: Reason,
    *,
    has_version: bool = True,
    age: int = 1,
    failed: bool = False,
    armed: bool = True,
    due: bool | None = None,
    pays: bool = False,
) -> tuple[Action, Reason]:
    signals = Signals(
        alarm=np.array([reason in ALARMS]),
        reason=np.array([REASON_CODE[reason]], dtype=np.int8),
        has_version=np.array([has_version]),
        age=np.array([age]),
        failed=np.array([failed]),
        armed=armed,
        fallback_every=5,
        pays=np.array([pays]),
    )
    trigger = None if due is None else Said(due=np.array([due]))
    made = propose(replace(parse(text), trigger=trigger), signals)
    return ACTIONS[made.action[0]], REASONS[made.reason[0]]


REMEMBER = ("random:3", "adwin", "page-hinkley+pool", "debt")
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
    *(("mlma", reason, {}, KEEP, reason) for reason in TESTED),
    *(("mlma", reason, {"pays": True}, RETRAIN, Reason.DEBT) for reason in TESTED),
    ("mlma", Reason.NOT_READY, {"failed": True, "pays": True}, RETRAIN, Reason.DEBT),
    ("mlma", Reason.ALARM_ANCHORED, {"failed": True}, RETRAIN, Reason.MODEL_FAILED),
    ("mlma", Reason.UNCERTIFIED, {"armed": False, "age": 99}, KEEP, Reason.UNCERTIFIED),
    *(("test", reason, {}, RETRAIN if reason in ALARMS else KEEP, reason) for reason in TESTED),
    ("mlma", Reason.WITHIN_REFERENCE, {"failed": True}, RETRAIN, Reason.MODEL_FAILED),
    ("mlma", Reason.NOT_READY, {"failed": True}, RETRAIN, Reason.MODEL_FAILED),
    ("test", Reason.ALARM_ANCHORED, {"failed": True}, RETRAIN, Reason.ALARM_ANCHORED),
    ("test", Reason.UNCERTIFIED, {"armed": False, "age": 4}, KEEP, Reason.UNCERTIFIED),
    ("test", Reason.UNCERTIFIED, {"armed": False, "age": 5}, RETRAIN, Reason.UNCERTIFIED),
    ("test", Reason.WITHIN_REFERENCE, {"armed": False, "age": 4}, KEEP, Reason.WITHIN_REFERENCE),
    ("test", Reason.WITHIN_REFERENCE, {"armed": False, "age": 5}, RETRAIN, Reason.UNCERTIFIED),
    ("test", Reason.WITHIN_REFERENCE, {"armed": True, "age": 99}, KEEP, Reason.WITHIN_REFERENCE),
    *((p, Reason.ALARM_BOTH, {"has_version": False}, TRAIN, Reason.NO_VERSION) for p in ("never", "always", "mlma")),
    *((p, Reason.ALARM_BOTH, {}, RETRAIN, Reason.ALARM_BOTH) for p in ("test", "test+pool", "welch", "ks")),
    *((p, Reason.NOT_READY, {"failed": True}, KEEP, Reason.NOT_READY) for p in ("welch", "ks")),
    *((p, Reason.ALARM_BOTH, {"due": False}, KEEP, Reason.ALARM_BOTH) for p in REMEMBER),
    *((p, Reason.WITHIN_REFERENCE, {"due": True}, RETRAIN, Reason.TRIGGERED) for p in REMEMBER),
    *((p, Reason.NOT_READY, {"due": False, "has_version": False}, TRAIN, Reason.NO_VERSION) for p in REMEMBER),
    ("calendar:2", Reason.NO_OUTCOMES, {"has_version": False, "age": 99}, TRAIN, Reason.NO_VERSION),
]


@pytest.mark.parametrize(("policy", "says", "circumstances", "action", "reason"), TABLE)
def test_each_policy_proposes_with_its_reason(
    policy: str, says: Reason, circumstances: dict[str, object], action: Action, reason: Reason
) -> None:
    assert proposed(policy, says, **circumstances) == (action, reason)  # type: ignore[arg-type]


def test_the_table_has_a_row_for_every_reason_that_a_proposal_can_have() -> None:
    policies = {Reason.CALENDAR, Reason.ALWAYS, Reason.MODEL_FAILED, Reason.TRIGGERED, Reason.DEBT}
    wanted = {*TESTED, *policies, Reason.UNCERTIFIED, Reason.NO_VERSION}
    assert {row[4] for row in TABLE} == wanted


def test_the_table_has_every_policy_that_is_run() -> None:
    assert {parse(row[0]).kind for row in TABLE} == set(PolicyKind) - {PolicyKind.FRONTIER}


NAMES = [
    "never", "always", "calendar:1", "calendar:13", "calendar:best", "random:4", "test", "welch", "ks", "adwin",
    "page-hinkley", "debt",
]  # fmt: skip
AGENT = ["mlma", "mlma-champion", "mlma-blend", "mlma@1", "mlma-champion@0.1"]


@pytest.mark.parametrize("text", [*NAMES, *(f"{name}+pool" for name in NAMES), *AGENT, "frontier", "frontier:4"])
def test_a_policy_is_written_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


def test_the_suffix_pool_changes_what_serves_and_nothing_else() -> None:
    for name in NAMES:
        alone, pooled = parse(name), parse(f"{name}+pool")
        assert (alone.serve, pooled.serve) == (Serve.LATEST, Serve.BLEND)
        assert replace(pooled, serve=Serve.LATEST) == alone


def test_the_agent_serves_as_the_settings_say_unless_its_name_says_so() -> None:
    assert [parse(name).serve for name in AGENT] == [None, Serve.CHAMPION, Serve.BLEND, None, Serve.CHAMPION]
    assert [parse(name).price for name in AGENT] == [None, None, None, 1.0, 0.1]
    assert {parse(name).kind for name in AGENT} == {PolicyKind.MLMA}


@pytest.mark.parametrize("text", ["", "Always", "calendar", "calendar:", "calendar:0", "calendar:-1", "calendar:1.5",
                                  "calendar:04", " mlma", "mlma ", "calendar:4x", "sometimes", "mlma+pool", "never+",
                                  "frontier+pool", "random", "random:0", "random:best", "test:1", "mlma-latest",
                                  "never+pool+pool", "mlma@", "mlma@-1", "test@1", "frontier:0", "pool",
                                  "+pool"])  # fmt: skip
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match="expected never, always, calendar:K"):
        parse(text)


def test_only_the_agent_asks_for_a_proof() -> None:
    assert [kind for kind in PolicyKind if Policy(kind=kind, every=1).proves] == [PolicyKind.MLMA]


def test_a_daemon_follows_only_what_it_can_take_up_after_a_restart() -> None:
    able = {name for name in [*NAMES, *AGENT, "frontier"] if not parse(name).is_for_replays}
    assert able == {"never", "always", "calendar:1", "calendar:13", "test", *AGENT}


def test_a_policy_with_memory_that_nobody_keeps_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="debt: it is decided by a replay"):
        proposed("debt", Reason.WITHIN_REFERENCE)


def test_welch_and_ks_follow_their_own_test() -> None:
    assert [parse(name).test for name in ("welch", "ks", "test")] == [
        LossTestName.WELCH, LossTestName.KOLMOGOROV_SMIRNOV, None,
    ]  # fmt: skip
