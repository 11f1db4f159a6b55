"""What is proposed for each stream after a batch was judged: the retraining policies, before any guard.

Triggers that remember something are in `mlma.core.triggers`.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import ACTION_CODE, REASON_CODE, Bools, Ints
from mlma.core.decisions import Action, Reason
from mlma.core.errors import ConfigError
from mlma.core.settings import LossTestName, Serve


class PolicyKind(StrEnum):
    """When a stream is retrained."""

    NEVER = "never"  # trained once
    ALWAYS = "always"  # at every batch
    CALENDAR = "calendar"  # at every k-th batch after its last training
    TEST = "test"  # when the loss test alarms, a version fails, or the test is not armed for too long
    MLMA = "mlma"  # when what age has cost exceeds the price of a training, or a version fails
    # for replays only: what they remember is kept by the replay
    RANDOM = "random"  # at random times, so often on average
    WELCH = "welch"  # when Welch's test alarms
    KS = "ks"  # when the test of Kolmogorov and Smirnov alarms
    ADWIN = "adwin"  # when ADWIN sees a rise of the loss
    PAGE_HINKLEY = "page-hinkley"  # when the test of Page and Hinkley sees a rise of the loss
    DEBT = "debt"  # when the accumulated excess loss exceeds the price of a training
    FRONTIER = "frontier"  # hindsight: the best sequence of single versions; computed, not run


DAEMON_KINDS = (PolicyKind.NEVER, PolicyKind.ALWAYS, PolicyKind.CALENDAR, PolicyKind.TEST, PolicyKind.MLMA)
"""What a daemon can follow; the others know the future, or keep a memory that does not survive a restart."""

MEMORY_KINDS = (PolicyKind.RANDOM, PolicyKind.ADWIN, PolicyKind.PAGE_HINKLEY, PolicyKind.DEBT)
"""Decided by a `Trigger`."""

TESTS = {PolicyKind.WELCH: LossTestName.WELCH, PolicyKind.KS: LossTestName.KOLMOGOROV_SMIRNOV}
"""Policies that follow another loss test than the one of the settings."""

ALARM_KINDS = (PolicyKind.TEST, *TESTS)
"""Policies that follow the alarms of a loss test and nothing else."""


class Trigger(Protocol):
    """What decides for a policy with memory; whoever owns it feeds it the batch before the proposal."""

    @property
    def due(self) -> Bools:
        """Streams that it wants retrained after the newest batch, shape (streams,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When streams are retrained, and which member of their pool serves then.

    Attributes
    ----------
    every
        Cadence of a calendar in batches; 0 stands for the best cadence in hindsight.
    expected
        Retrainings of a stream that a random policy makes over a replay, on average.
    serve
        Serving mode; None is the one of the settings.
    price
        Of a training, for the agent; None is the one of the settings.
    trigger
        What decides for the policies in `MEMORY_KINDS`; None before a replay gave them one.
    """

    kind: PolicyKind
    every: int = 0
    expected: int = 0
    serve: Serve | None = None
    price: float | None = None
    trigger: Trigger | None = field(default=None, compare=False, repr=False)

    @property
    def proves(self) -> bool:
        """Whether a candidate must beat the champion; the baselines promote the latest version."""
        return self.kind is PolicyKind.MLMA

    @property
    def is_agent(self) -> bool:
        """Whether it waits between two trainings of a stream, as the agent does."""
        return self.kind in {PolicyKind.MLMA, PolicyKind.TEST}

    @property
    def is_hindsight(self) -> bool:
        """Whether it is computed from other policies' runs instead of being run."""
        return self.kind is PolicyKind.FRONTIER or (self.kind is PolicyKind.CALENDAR and not self.every)

    @property
    def is_for_replays(self) -> bool:
        """Whether a daemon cannot follow it."""
        return self.kind not in DAEMON_KINDS or self.is_hindsight

    @property
    def test(self) -> LossTestName | None:
        """Loss test that it follows instead of the one of the settings."""
        return TESTS.get(self.kind)

    def __str__(self) -> str:
        name = str(self.kind)
        if self.kind is PolicyKind.CALENDAR:
            name = f"{name}:{self.every or 'best'}"
        elif self.kind is PolicyKind.RANDOM:
            name = f"{name}:{self.expected}"
        elif self.kind is PolicyKind.FRONTIER and self.every:
            name = f"{name}:{self.every}"
        if self.price is not None:
            return f"{name}{'' if self.serve is None else f'-{self.serve}'}@{self.price:g}"
        if self.serve is None or self.serve is Serve.LATEST:
            return name
        return f"{name}-{self.serve}" if self.kind is PolicyKind.MLMA else f"{name}+pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Codes of the proposed action and its reason, arrays of shape (streams,)."""

    action: NDArray[np.int8]
    reason: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What a policy looks at after a batch was judged; arrays of shape (streams,).

    A further signal is a further field with a default, so that who does not have it need not give it.

    Attributes
    ----------
    alarm, reason
        What the loss test said; codes of reasons.
    has_version
        The stream has a trained version.
    age
        Batches since the last training.
    failed
        The champion could not forecast in the batch.
    armed
        Whether the test's certificate lets its alarms lead to anything.
    fallback_every
        Cadence in batches of the calendar that decides under `test` while the test is not armed.
    pays
        What age has cost since the last training is worth another (`mlma.core.account`).
    """

    alarm: Bools
    reason: NDArray[np.int8]
    has_version: Bools
    age: Ints
    failed: Bools
    armed: bool = True
    fallback_every: int = 13
    pays: Bools | None = None


def propose(policy: Policy, signals: Signals) -> Proposal:
    """Action and reason for every stream."""
    has_version = signals.has_version
    due, reason = _due(policy, signals)
    action = np.where(due, ACTION_CODE[Action.RETRAIN], ACTION_CODE[Action.KEEP])
    return Proposal(
        action=np.where(has_version, action, ACTION_CODE[Action.TRAIN]).astype(np.int8),
        reason=np.where(has_version, reason, REASON_CODE[Reason.NO_VERSION]).astype(np.int8),
    )


def _due(policy: Policy, signals: Signals) -> tuple[Bools, NDArray[np.int8]]:
    """Streams to be retrained and the codes of the reasons of all, as if every stream had a version."""
    reason = signals.reason
    match policy.kind:
        case PolicyKind.NEVER:
            return np.zeros_like(signals.has_version), reason
        case PolicyKind.ALWAYS:
            return np.ones_like(signals.has_version), np.full_like(reason, REASON_CODE[Reason.ALWAYS])
        case PolicyKind.CALENDAR if policy.every:
            due = signals.age >= policy.every
            return due, np.where(due, REASON_CODE[Reason.CALENDAR], reason)
        case PolicyKind.TEST | PolicyKind.WELCH | PolicyKind.KS:
            return _tester(signals) if policy.kind is PolicyKind.TEST else (signals.alarm, reason)
        case PolicyKind.MLMA:
            return _agent(signals)
    if policy.trigger is None:
        raise ValueError(f"policy {policy}: it is decided by a replay, which has to give it a trigger")
    due = policy.trigger.due
    return due, np.where(due, REASON_CODE[Reason.TRIGGERED], reason)


def _agent(signals: Signals) -> tuple[Bools, NDArray[np.int8]]:
    """What the agent wants retrained, and why: what pays, and what cannot forecast."""
    pays = np.zeros_like(signals.failed) if signals.pays is None else signals.pays
    reason = np.where(pays, REASON_CODE[Reason.DEBT], signals.reason)
    reason = np.where(signals.failed & ~pays, REASON_CODE[Reason.MODEL_FAILED], reason)
    return pays | signals.failed, reason


def _tester(signals: Signals) -> tuple[Bools, NDArray[np.int8]]:
    """What a loss test wants retrained: its alarms, what cannot forecast, all in turn while it is not armed."""
    lapsed = np.bool_(not signals.armed) & (signals.age >= signals.fallback_every)
    reason = np.where(lapsed & ~signals.alarm, REASON_CODE[Reason.UNCERTIFIED], signals.reason)
    reason = np.where(signals.failed & ~signals.alarm, REASON_CODE[Reason.MODEL_FAILED], reason)
    return signals.alarm | signals.failed | lapsed, reason


AGENT_MODES = {"mlma": None, "mlma-champion": Serve.CHAMPION, "mlma-blend": Serve.BLEND}
"""How the agent is written, and the serving mode that goes with it."""

PLAIN_KINDS = tuple(
    kind for kind in PolicyKind if kind not in {PolicyKind.CALENDAR, PolicyKind.RANDOM, PolicyKind.MLMA}
)
"""Kinds that need no number."""

EXPECTED = (
    "expected never, always, calendar:K (K batches, K >= 1), calendar:best, random:N (N >= 1), test, welch, ks, adwin, "
    "page-hinkley or debt, each with or without +pool, or mlma, mlma-champion, mlma-blend (each with or "
    "without @PRICE) or frontier"
)


def parse(text: str) -> Policy:
    """Policy from its name, such as ``calendar:4``, ``test+pool`` or ``mlma-blend``.

    The baselines serve their latest version; ``+pool`` lets the whole pool serve instead, as a blend. ``frontier:G``
    looks at every G-th version only, and ``mlma@0.1`` is the agent that is told another price than the settings'.

    Raises
    ------
    ConfigError
        The text is none of these.

    Examples
    --------
    >>> str(parse("calendar:4")), parse("calendar:4+pool").serve.value, parse("mlma-champion").serve.value
    ('calendar:4', 'blend', 'champion')
    """
    agent, at, price = text.partition("@")
    if agent in AGENT_MODES and (not at or re.fullmatch(r"\d{1,4}(\.\d{1,6})?", price)):
        return Policy(kind=PolicyKind.MLMA, serve=AGENT_MODES[agent], price=float(price) if at else None)
    name, plus, suffix = text.partition("+")
    head, colon, number = name.partition(":")
    is_number = re.fullmatch(r"[1-9]\d{0,8}", number) is not None
    is_pooled = suffix == "pool"
    serve = Serve.BLEND if is_pooled else Serve.LATEST
    if plus and (not is_pooled or head == PolicyKind.FRONTIER):
        raise ConfigError(f"policy {text!r}: {EXPECTED}")
    if head == PolicyKind.CALENDAR and (is_number or number == "best"):
        return Policy(kind=PolicyKind.CALENDAR, every=int(number) if is_number else 0, serve=serve)
    if head == PolicyKind.RANDOM and is_number:
        return Policy(kind=PolicyKind.RANDOM, expected=int(number), serve=serve)
    if head == PolicyKind.FRONTIER and is_number:
        return Policy(kind=PolicyKind.FRONTIER, every=int(number), serve=serve)
    if not colon and head in PLAIN_KINDS:
        return Policy(kind=PolicyKind(head), serve=serve)
    raise ConfigError(f"policy {text!r}: {EXPECTED}")
