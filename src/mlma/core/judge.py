"""From p-values to a verdict for every stream of the fleet: what alarms, and why the others do not.

Everything here works on arrays of shape (streams,); nothing loops over streams.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, owens_t

from mlma.core.blocks import REASON_CODE, Bools, Floats, Ints
from mlma.core.decisions import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found out about each stream before it is put into words; all of shape (streams,)."""

    p_adaptive: Floats  # NaN when not ready
    p_anchored: Floats
    effect: Floats
    significant: Bools  # under the fleet's rule
    ready: Bools  # there was a test
    has_value: Bools  # there was something to test
    bad: Bools  # the batch lies in a period that was declared bad
    in_incident: Bools  # got worse only together with others
    armed: bool  # the test's certificate has not failed
    p_accumulated: Floats | None = None  # of several batches together; None where that is not asked for


def verdict(found: Findings, *, alpha: float, effect_floor: float) -> tuple[Bools, NDArray[np.int8]]:
    """Alarms and the codes of their reasons, arrays of shape (streams,)."""
    significant = found.significant & found.ready
    reason = np.full(len(significant), REASON_CODE[Reason.WITHIN_REFERENCE], dtype=np.int8)
    streams = np.flatnonzero(significant)
    reason[streams] = REASON_CODE[Reason.SMALL_EFFECT]
    for mask, why in (
        (found.in_incident, Reason.INCIDENT), (~found.ready, Reason.NOT_READY), (~found.has_value, Reason.NO_OUTCOMES),
        (found.bad, Reason.BAD_DATA),
    ):  # fmt: skip
        if mask.any():
            reason[mask] = REASON_CODE[why]
    streams = streams[found.effect[streams] >= effect_floor]
    alarm = np.zeros(len(significant), dtype=np.bool_)
    if not len(streams):
        return alarm, reason
    if not found.armed:
        reason[streams] = REASON_CODE[Reason.UNCERTIFIED]
        return alarm, reason
    alarm[streams] = True
    p_adaptive, p_anchored = (np.nan_to_num(p[streams], nan=2.0) for p in (found.p_adaptive, found.p_anchored))
    speaks = np.where(p_anchored < p_adaptive, REASON_CODE[Reason.ALARM_ANCHORED], REASON_CODE[Reason.ALARM_ADAPTIVE])
    both = (p_adaptive <= alpha) & (p_anchored <= alpha)
    reason[streams] = np.where(both, REASON_CODE[Reason.ALARM_BOTH], speaks)
    if found.p_accumulated is not None:  # several batches speak where none does by itself
        is_quiet = ~((p_adaptive <= alpha) | (p_anchored <= alpha)) & ~np.isnan(found.p_accumulated[streams])
        reason[streams[is_quiet]] = REASON_CODE[Reason.ALARM_ACCUMULATED]
    return alarm, reason


LARGE, SMALL = 0.2, 0.0001
"""Above the first, two p-values together count as twice the smaller one; below the second, they are computed."""

FEW = 1000
"""Values below which a table costs more than it saves."""


def either(first: Floats, second: Floats, correlation: Floats | Callable[[Ints], Floats]) -> Floats:
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
        Shape (streams,), of the two tests' statistics, in [0, 1]; too low a value costs power, not level. Or a
        function that gives it for some streams (indices): it matters for small p-values alone.

    Returns
    -------
    Floats
        Shape (streams,). Many between `SMALL` and `LARGE` are interpolated, within 2e-5 of the right ones, relative.

    Examples
    --------
    >>> p, q = np.array([0.01, 0.01, np.nan]), np.array([0.3, 0.3, 0.03])
    >>> either(p, q, np.array([1.0, 0.0, 0.0])).round(4).tolist()
    [0.01, 0.0199, 0.03]
    """
    low = np.minimum(first, second)
    made = low + low
    np.minimum(made, 1.0, out=made)
    if np.isnan(low.min(initial=1.0)):
        alone = np.flatnonzero(np.isnan(low))
        made[alone] = np.fmin(first[alone], second[alone])
    matter = np.flatnonzero(low < LARGE)
    p = low.take(matter)
    if not len(p):
        return made
    c = correlation(matter) if callable(correlation) else correlation[matter]
    c = np.clip(c[:1] if c.strides == (0,) else c, 0.0, 1.0)
    made[matter] = p * (_computed_price if len(p) < FEW else _price)(p, np.sqrt((1.0 - c) / (1.0 + c)))
    return made


def _price(p: Floats, a: Floats) -> Floats:
    """1 + 2 T(z(p), a) / p for p below `LARGE` and a in [0, 1]; of shape (n,), where a may be (1,), for all."""
    table = _prices()
    rows, columns = (size - 1 for size in table.shape)
    price: Floats
    far = np.maximum(p, SMALL)
    np.log(far, out=far)
    far -= np.log(SMALL)
    far *= rows / np.log(LARGE / SMALL)
    row = far.astype(np.int64)
    if len(a) == 1:
        line, slope = _lines(float(a[0]))
        price = slope.take(row, mode="clip")
        price *= far
        price += line.take(row, mode="clip")
    else:
        row, column = np.minimum(row, rows - 1), np.minimum((a * columns).astype(np.int64), columns - 1)
        right = a * columns - column
        at = row * (columns + 1) + column
        above, below = (
            table.take(at + first) * (1.0 - right) + table.take(at + first + 1) * right for first in (0, columns + 1)
        )
        price = above + (far - row) * (below - above)
    tiny = np.flatnonzero(p < SMALL)
    price[tiny] = _computed_price(p[tiny], a if len(a) == 1 else a[tiny])
    return price


def _computed_price(p: Floats, a: Floats) -> Floats:
    return np.asarray(1.0 + 2.0 * owens_t(-ndtri(p), a) / np.maximum(p, np.finfo(float).tiny))


@lru_cache(maxsize=1)
def _prices() -> Floats:
    """Table of prices: 265 values of log p from `SMALL` to `LARGE` by 257 values of a."""
    p = np.exp(np.linspace(np.log(SMALL), np.log(LARGE), 265))
    return _computed_price(p[:, None], np.linspace(0.0, 1.0, 257))


@lru_cache(maxsize=16)
def _lines(a: float) -> tuple[Floats, Floats]:
    """Lines through the prices at one value of a, by row of the table: their values at the first row, and slopes.

    Most batches of a fleet ask for the same one.
    """
    table = _prices()
    columns = table.shape[1] - 1
    column = min(int(a * columns), columns - 1)
    right = a * columns - column
    price = table[:, column] * (1.0 - right) + table[:, column + 1] * right
    slope = np.diff(price)
    return price[:-1] - np.arange(len(slope)) * slope, slope
