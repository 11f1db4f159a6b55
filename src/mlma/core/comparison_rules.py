"""The words of a paired comparison: how it is decided, and what it says after a batch."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints


class Rule(StrEnum):
    """When the evidence is enough."""

    LOOKS = "looks"  # moderated t, one level for each look until the deadline
    E_PROCESS = "e_process"  # anytime-valid: also without a deadline


class Outcome(StrEnum):
    """What a comparison says after a batch."""

    UNDECIDED = "undecided"
    BETTER = "better"
    NOT_BETTER = "not_better"


class Cause(StrEnum):
    """Why it says so."""

    WAITING = "waiting"  # more batches may decide
    SHOWN_BETTER = "shown_better"
    SHOWN_NOT_BETTER = "shown_not_better"  # evidence for the opposite
    NO_CHANCE = "no_chance"  # even good batches from now on would not be enough by the deadline
    DEADLINE = "deadline"  # time is over


OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
CAUSES: tuple[Cause, ...] = tuple(Cause)
OUTCOME_CODE = {member: code for code, member in enumerate(OUTCOMES)}
CAUSE_CODE = {member: code for code, member in enumerate(CAUSES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How comparisons are decided.

    Attributes
    ----------
    rule
        `looks` finds more, `e_process` needs no deadline; see `Comparisons`.
    alpha
        Promised probability that a challenger which is not better by the floor is ever promoted, in (0, 0.5).
    futility_alpha
        The same for giving up a challenger that is better, by evidence for the opposite; in (0, 0.5).
    floor
        Share of the champion's loss that the challenger must save, in [0, 1).
    deadline
        Batches, at least 1; those without evidence count.
    rho
        Correlation of the differences of neighbouring batches, in [0, 1). A larger one than the truth is safe but
        costs power, a smaller one costs the promise.
    optimism
        Standard errors that the true gain may lie above its estimate before a challenger has no chance, >= 0.
    """

    rule: Rule = Rule.LOOKS
    alpha: float = 0.05
    futility_alpha: float = 0.2
    floor: float = 0.0
    deadline: int = 8
    rho: float = 0.5
    optimism: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What each comparison says after a batch; arrays of shape (comparisons,).

    Attributes
    ----------
    outcome, cause
        Positions in `OUTCOMES` and `CAUSES`.
    gain
        Estimated share of the other's loss that is saved; negative when worse, NaN without evidence.
    p_value
        One-sided, of a gain above the floor, at this one look; NaN without evidence.
    log_e
        Log of the e-value for a gain above the floor; 0 without evidence.
    n_batches
        Batches with evidence.
    """

    outcome: NDArray[np.int8]
    cause: NDArray[np.int8]
    gain: Floats
    p_value: Floats
    log_e: Floats
    n_batches: Ints


OUTCOME_OF_CAUSE = np.array(
    [
        OUTCOME_CODE[
            {Cause.WAITING: Outcome.UNDECIDED, Cause.SHOWN_BETTER: Outcome.BETTER}.get(cause, Outcome.NOT_BETTER)
        ]
        for cause in CAUSES
    ],
    dtype=np.int8,
)
"""Shape (causes,), position of the outcome that a cause means."""
