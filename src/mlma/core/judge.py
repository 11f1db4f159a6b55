"""From p-values to a verdict for every stream of the fleet: what alarms, and why the others do not.

Everything here works on arrays of shape (streams,); nothing loops over streams.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, owens_t

from mlma.core.blocks import REASON_CODE, Bools, Floats
from mlma.core.decisions import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found out about each stream before it is put into words; all of shape (streams,)."""

    p_adaptive: Floats  # NaN when not ready
    p_anchored: Floats
    effect: Floats
    significant: Bools  # under the fleet's rule
    has_value: Bools  # there was something to test
    bad: Bools  # the batch lies in a period that was declared bad
    in_incident: Bools  # got worse only together with others
    armed: bool  # the test's certificate has not failed


def verdict(found: Findings, *, alpha: float, effect_floor: float) -> tuple[Bools, NDArray[np.int8]]:
    """Alarms and the codes of their reasons, arrays of shape (streams,)."""
    ready = np.isfinite(np.fmin(found.p_adaptive, found.p_anchored)) & ~found.bad
    significant = found.significant & ready
    reason = np.full(len(ready), REASON_CODE[Reason.WITHIN_REFERENCE], dtype=np.int8)
    reason[significant] = REASON_CODE[Reason.SMALL_EFFECT]
    reason[found.in_incident] = REASON_CODE[Reason.INCIDENT]
    reason[~ready] = REASON_CODE[Reason.NOT_READY]
    reason[~found.has_value] = REASON_CODE[Reason.NO_OUTCOMES]
    reason[found.bad] = REASON_CODE[Reason.BAD_DATA]
    streams = np.flatnonzero(significant)
    streams = streams[found.effect[streams] >= effect_floor]
    alarm = np.zeros(len(ready), dtype=np.bool_)
    if not found.armed:
        reason[streams] = REASON_CODE[Reason.UNCERTIFIED]
        return alarm, reason
    alarm[streams] = True
    p_adaptive, p_anchored = (np.nan_to_num(p[streams], nan=2.0) for p in (found.p_adaptive, found.p_anchored))
    speaks = np.where(p_anchored < p_adaptive, REASON_CODE[Reason.ALARM_ANCHORED], REASON_CODE[Reason.ALARM_ADAPTIVE])
    both = (p_adaptive <= alpha) & (p_anchored <= alpha)
    reason[streams] = np.where(both, REASON_CODE[Reason.ALARM_BOTH], speaks)
    return alarm, reason


def either(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """p-value of two correlated one-sided tests together, elementwise; NaN counts as absent.

    The probability that the smaller of the two is as small as it is, for normal scores with the given
    correlation: p + 2 T(z, sqrt((1 - c) / (1 + c))) with z the normal score of the smaller p and T Owen's
    function (Owen, 1956). Of two tests of one batch against two references, no more is paid than what the second
    one adds: nothing at c = 1, Bonferroni's price far out. Above p = .2, twice the smaller, at most 1.

    Parameters
    ----------
    first, second
        Shape (streams,), p-values.
    correlation
        Shape (streams,), of the two tests' statistics, in [0, 1]; too low a value costs power, not level.

    Examples
    --------
    >>> p, q = np.array([0.01, 0.01, np.nan]), np.array([0.3, 0.3, 0.03])
    >>> either(p, q, np.array([1.0, 0.0, 0.0])).round(4).tolist()
    [0.01, 0.0199, 0.03]
    """
    low = np.fmin(first, second)
    made = np.minimum(2.0 * low, 1.0)
    both = ~np.isnan(first + second)
    made[~both] = low[~both]
    matter = np.flatnonzero(both & (low < 0.2) & (low > 0.0))
    p, c = low[matter], np.clip(correlation[matter], 0.0, 1.0)
    made[matter] = p + 2.0 * owens_t(-ndtri(p), np.sqrt((1.0 - c) / (1.0 + c)))
    return made
