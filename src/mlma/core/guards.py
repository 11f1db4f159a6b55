"""What keeps a proposed training from being carried out. The first guard that speaks is named."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import ACTION_CODE, HOLD_CODE, REASON_CODE, Bools, Ints
from mlma.core.decisions import Action, Hold, Reason
from mlma.core.policy import Proposal

JUDGES_FORECASTS = tuple(
    REASON_CODE[reason]
    for reason in (Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.MODEL_FAILED)
)
"""Codes of reasons that say something about the champion only as far as its forecasts were there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the guards look at; arrays of shape (streams,)."""

    frozen: Bools  # an override freezes the stream
    in_progress: Bools  # a training of the stream is under way
    has_new: Bools  # an observation arrived in the batch
    suspicious: Bools  # the batch looks like a fault of the feed
    n_rows: Ints  # clean observations in the train window
    age: Ints  # batches since the last training
    backing_off: Bools  # trainings were in vain lately, and this one is not worth so many times its price
    min_rows: int
    cooldown: int  # batches after a training before the next one
    missing: Bools | None = None  # forecasts that are made elsewhere did not arrive in the batch; None: none are


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """Codes of what is carried out and of what held the rest, arrays of shape (streams,)."""

    action: NDArray[np.int8]
    held_by: NDArray[np.int8]


def guard(proposal: Proposal, now: Circumstances) -> Guarded:
    """Hold what must not be carried out now; a held stream keeps what it has."""
    keep = ACTION_CODE[Action.KEEP]
    wants = proposal.action != keep
    first = proposal.action == ACTION_CODE[Action.TRAIN]
    missing = np.zeros_like(wants) if now.missing is None else now.missing
    held_by = np.select(
        [
            wants & now.frozen,
            wants & now.in_progress,
            wants & ~now.has_new,
            wants & now.suspicious,
            wants & missing & np.isin(proposal.reason, JUDGES_FORECASTS),
            wants & (now.n_rows < now.min_rows),
            wants & ~first & (now.age < now.cooldown),
            wants & ~first & now.backing_off,
        ],
        [
            HOLD_CODE[Hold.FROZEN],
            HOLD_CODE[Hold.IN_PROGRESS],
            HOLD_CODE[Hold.NO_NEW_DATA],
            HOLD_CODE[Hold.SUSPICIOUS_DATA],
            HOLD_CODE[Hold.FORECASTS_MISSING],
            HOLD_CODE[Hold.TOO_LITTLE_DATA],
            HOLD_CODE[Hold.COOLING_DOWN],
            HOLD_CODE[Hold.BACKING_OFF],
        ],
        default=HOLD_CODE[Hold.NOTHING],
    ).astype(np.int8)
    action = np.where(held_by == HOLD_CODE[Hold.NOTHING], proposal.action, keep).astype(np.int8)
    return Guarded(action=action, held_by=held_by)
