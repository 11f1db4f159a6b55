"""What is proposed for each stream after a batch was judged: the retraining policies, before any guard."""

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import ACTION_CODE, REASON_CODE, Bools, Ints
from mlma.core.decisions import Action, Reason
from mlma.core.errors import ConfigError


class PolicyKind(StrEnum):
    """When a stream is retrained."""

    NEVER = "never"  # trained once
    ALWAYS = "always"  # at every batch
    CALENDAR = "calendar"  # at every k-th batch after its last training
    MLMA = "mlma"  # when the loss test alarms


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy and its cadence in batches (calendar only)."""

    kind: PolicyKind
    every: int = 0

    @property
    def proves(self) -> bool:
        """Whether a candidate must beat the champion; the baselines promote the latest version."""
        return self.kind is PolicyKind.MLMA

    def __str__(self) -> str:
        return f"{self.kind}:{self.every}" if self.kind is PolicyKind.CALENDAR else str(self.kind)


def parse(text: str) -> Policy:
    """Policy from ``never``, ``always``, ``calendar:K`` or ``mlma``.

    Raises
    ------
    ConfigError
        The text is none of these.

    Examples
    --------
    >>> str(parse("calendar:4"))
    'calendar:4'
    """
    found = re.fullmatch(r"calendar:([1-9]\d*)", text)
    if found:
        return Policy(kind=PolicyKind.CALENDAR, every=int(found[1]))
    if text in {PolicyKind.NEVER, PolicyKind.ALWAYS, PolicyKind.MLMA}:
        return Policy(kind=PolicyKind(text))
    raise ConfigError(f"policy {text!r}: expected never, always, calendar:K (K batches, K >= 1) or mlma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Codes of the proposed action and its reason, arrays of shape (streams,)."""

    action: NDArray[np.int8]
    reason: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What a policy looks at after a batch was judged; arrays of shape (streams,).

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
        Cadence in batches of the calendar that decides while the test is not armed.
    """

    alarm: Bools
    reason: NDArray[np.int8]
    has_version: Bools
    age: Ints
    failed: Bools
    armed: bool = True
    fallback_every: int = 13


def propose(policy: Policy, signals: Signals) -> Proposal:
    """Action and reason for every stream."""
    has_version, failed = signals.has_version, signals.failed
    lapsed = np.bool_(not signals.armed) & (signals.age >= signals.fallback_every)
    due = {
        PolicyKind.NEVER: np.zeros_like(has_version),
        PolicyKind.ALWAYS: np.ones_like(has_version),
        PolicyKind.CALENDAR: signals.age >= policy.every,
        PolicyKind.MLMA: signals.alarm | failed | lapsed,
    }[policy.kind]
    reason = signals.reason
    if policy.kind is PolicyKind.ALWAYS:
        reason = np.full_like(reason, REASON_CODE[Reason.ALWAYS])
    elif policy.kind is PolicyKind.CALENDAR:
        reason = np.where(due, REASON_CODE[Reason.CALENDAR], reason)
    elif policy.kind is PolicyKind.MLMA:
        reason = np.where(lapsed & ~signals.alarm, REASON_CODE[Reason.UNCERTIFIED], reason)
        reason = np.where(failed & ~signals.alarm, REASON_CODE[Reason.MODEL_FAILED], reason)
    action = np.where(due, ACTION_CODE[Action.RETRAIN], ACTION_CODE[Action.KEEP])
    return Proposal(
        action=np.where(has_version, action, ACTION_CODE[Action.TRAIN]).astype(np.int8),
        reason=np.where(has_version, reason, REASON_CODE[Reason.NO_VERSION]).astype(np.int8),
    )
