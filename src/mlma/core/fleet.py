"""From the p-values of a fleet to its alarms: how many false alarms the whole fleet may raise.

Which comparison made the p-values is decided in `mlma.core.loss_tests`; common causes are not looked for here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from scipy.special import digamma

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.settings import FleetRule

HALF_SPENT = 20.0
"""Batches after which `OnlineFdr` has handed out half of what it may ever spend. Chosen by measurement: a shorter
time helps fleets with much drift, a longer one fleets that were healthy for hundreds of batches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnlineFdr:
    """What the online rule remembers of a fleet's past batches; a new one stands before the first batch.

    With R_s alarms in batch s and R_s^+ >= R_s alarms had the least suspicious p-value been 0, a batch enters the
    rule only through its slack R_s^+ - R_s and its weight alpha_s R_s^+, and batches of one slack only through
    the sum of their weights. So this is the whole past, not an excerpt: two numbers for each slack that ever
    occurred. Nearly all batches have a slack of 0, 1 or 2; there are never more than streams + 1.

    Attributes
    ----------
    n_batches
        Batches with at least one test so far.
    n_alarms
        In all of them together.
    slack
        Shape (slacks,), ascending.
    weight
        Shape (slacks,), >= 0.
    """

    n_batches: int = 0
    n_alarms: int = 0
    slack: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    weight: Floats = field(default_factory=lambda: np.empty(0))

    def arrays(self) -> dict[str, Ints | Floats]:
        """All of the state, as arrays that `from_arrays` reads."""
        return {
            "counts": np.array([self.n_batches, self.n_alarms], dtype=np.int64),
            "slack": self.slack,
            "weight": self.weight,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Ints | Floats]) -> Self:
        """Read the state that `arrays` wrote.

        Raises
        ------
        KeyError
            If an array is missing.
        """
        n_batches, n_alarms = (int(count) for count in arrays["counts"])
        return cls(
            n_batches=n_batches,
            n_alarms=n_alarms,
            slack=np.asarray(arrays["slack"], dtype=np.int64),
            weight=np.asarray(arrays["weight"], dtype=np.float64),
        )


class OnlineStep(NamedTuple):
    """One batch through the online rule: its alarms, shape (streams,), and what is remembered after it."""

    alarms: Bools
    after: OnlineFdr


def alarms(
    p_value: Floats,
    *,
    ready: Bools,
    alpha: float,
    rule: FleetRule,
    log_e: Floats | None = None,
    online: OnlineFdr | None = None,
) -> Bools:
    """Streams whose test stays rejected under the fleet's rule.

    Parameters
    ----------
    p_value
        Shape (streams,), NaN where there was no test.
    ready
        Shape (streams,); only these streams count, as tests and as alarms.
    alpha
        In (0, 1). NONE: the false-alarm rate of each stream. BONFERRONI: the probability of any false alarm in
        the fleet, whatever the dependence between streams (Bonferroni, 1936). BH: the share of false ones among
        the alarms of a batch, for independent or positively dependent streams (Benjamini and Hochberg, 1995).
        BY: the same for any dependence, at alpha / (1 + 1/2 + ... + 1/n) (Benjamini and Yekutieli, 2001).
        E_BH: the same for any dependence, from e-values (Wang and Ramdas, 2022, False discovery rate control
        with e-values). ONLINE: the share among all alarms of the fleet's life, see `online_alarms`.
    rule
        How p-values become alarms.
    log_e
        Shape (streams,), natural logarithms of e-values, NaN where there was no test; for E_BH, which then
        ignores ``p_value``. None: the p-values are calibrated (`log_e_of`), at the cost given there.
    online
        What ONLINE remembers of the batches before; None before the first. `online_alarms` returns what it
        remembers after this one.

    Returns
    -------
    Bools
        Shape (streams,).

    Examples
    --------
    >>> p = np.array([0.00001, 0.02, 0.03, np.nan])
    >>> all_ready = np.ones(4, dtype=bool)
    >>> for rule in FleetRule:
    ...     print(rule, alarms(p, ready=all_ready, alpha=0.05, rule=rule).astype(int).tolist())
    none [1, 1, 1, 0]
    bonferroni [1, 0, 0, 0]
    bh [1, 1, 1, 0]
    by [1, 0, 0, 0]
    e_bh [1, 0, 0, 0]
    online [1, 0, 0, 0]
    """
    if rule is FleetRule.ONLINE:
        return online_alarms(p_value, ready=ready, alpha=alpha, online=online).alarms
    p = p_value
    if rule is FleetRule.E_BH:  # it is BH on 1 / e, which need not be below 1; exp(-709) is still a number
        p = np.exp(-np.clip(log_e_of(p_value) if log_e is None else log_e, -709.0, 709.0))
    tested = np.asarray(ready & ~np.isnan(p))
    n = int(np.count_nonzero(tested))
    match rule:
        case FleetRule.NONE:
            limit = alpha
        case FleetRule.BONFERRONI:
            limit = alpha / max(n, 1)
        case FleetRule.BY:
            level = alpha / float(digamma(max(n, 1) + 1) + np.euler_gamma)
            limit = _limit(_candidates(p, tested, level, n), level, n)
        case FleetRule.BH | FleetRule.E_BH:
            limit = _limit(_candidates(p, tested, alpha, n), alpha, n)
    return np.asarray(tested & (p <= limit)) if limit > -np.inf else np.zeros(len(p), dtype=np.bool_)


def log_e_of(p_value: Floats) -> Floats:
    """Calibrate p-values to e-values: log of 2 / (p log(p)^2) where p <= exp(-2), and of 0 above.

    Parameters
    ----------
    p_value
        Shape (streams,), NaN where there was no test.

    Returns
    -------
    Floats
        Shape (streams,), natural logarithms: inf where p is 0, -inf where p > exp(-2), NaN where NaN.

    Notes
    -----
    An admissible calibrator: it falls in p and integrates to 1 over [0, 1], so its mean is at most 1 when nothing
    changed. It is the member kappa = 1 of the second family of Vovk and Wang (2021), E-values: calibration,
    combination and applications, appendix B; for small p twice the mixture of all kappa p^(kappa - 1), which
    keeps half of its mass for large p, where e-BH has no use for it.

    What it costs: one test alone needs p <= 0.0029 instead of 0.05, and e-BH needs p smaller by log(p)^2 / 2 than
    BH does, that is 66 times at p = 0.00001. BY pays log(n) + 0.58 (9.8 times for 10,000 streams) for the same
    promise: without e-values of its own, a fleet is better served by BY.

    Examples
    --------
    >>> np.exp(log_e_of(np.array([0.0029, 0.05, 0.2]))).round(1).tolist()
    [20.2, 4.5, 0.0]
    """
    p = np.asarray(p_value, dtype=np.float64)
    log_p = np.log(np.where(p > 0.0, p, 1.0))
    small = (p > 0.0) & (log_p <= -2.0)
    log_e = np.full(p.shape, -np.inf)
    log_e[small] = np.log(2.0) - log_p[small] - 2.0 * np.log(-log_p[small])
    log_e[p == 0.0] = np.inf
    return np.where(np.isnan(p), np.nan, log_e)


def online_alarms(p_value: Floats, *, ready: Bools, alpha: float, online: OnlineFdr | None = None) -> OnlineStep:
    """Alarms of one batch when the share of false ones among all alarms of the fleet's life is promised.

    Each batch is tested by BH at a level alpha_t that the past leaves:
    alpha_t = (alpha G_t - sum_s alpha_s R_s^+ / (R_s^+ + sum_{r != s} R_r)) (n_t + sum_s R_s) / n_t, at most alpha,
    over the batches s before t, where n_t counts the tests, R_s the alarms, R_s^+ the alarms of batch s had one
    p-value been 0, and G_t = t / (t + `HALF_SPENT`) is the share of alpha handed out so far.

    Parameters
    ----------
    p_value, ready
        As in `alarms`.
    alpha
        In (0, 1), false share among all alarms; the same in every batch.
    online
        After the batch before; None before the first.

    Returns
    -------
    OnlineStep
        A batch without any test changes nothing.

    Notes
    -----
    Source: Zrnic, Jiang, Ramdas and Jordan (2020), The power of batching in multiple hypothesis testing, Batch-BH.
    Assumes p-values that are independent within and between batches. The cap at alpha is ours: without it, a fleet
    that alarmed often could raise any number of false alarms in one later batch (the share over its life would
    hold); with it, alarms are among those of BH in every batch, so that its promise for the batch holds too.
    The published proof asks that more evidence in the past never lowers alpha_t, which R_s^+ can break in rare
    cases; the unit tests measure the rate.

    A fleet that never alarmed has only alpha (G_t - G_{t-1}) for batch t: after 1,000 healthy batches 0.000001, which
    a rise of 6.1 standard deviations in one of 1,000 streams still passes, as does one of 5.5 in 20 of them. Each true
    alarm gives level back.

    Examples
    --------
    >>> p = np.array([0.00001, 0.0004, 0.4])
    >>> first = online_alarms(p, ready=np.ones(3, dtype=bool), alpha=0.05)
    >>> second = online_alarms(p, ready=np.ones(3, dtype=bool), alpha=0.05, online=first.after)
    >>> first.alarms.tolist(), second.after.n_batches, second.after.n_alarms
    ([True, True, False], 2, 4)
    """
    state = OnlineFdr() if online is None else online
    tested = np.asarray(ready & ~np.isnan(p_value))
    n = int(np.count_nonzero(tested))
    if n == 0:
        return OnlineStep(tested, state)
    batch = state.n_batches + 1
    spent = float(np.sum(state.weight / (state.n_alarms + state.slack)))
    left = alpha * batch / (batch + HALF_SPENT) - spent
    level = min(alpha, max(left, 0.0) * (n + state.n_alarms) / n)  # below 0 only where alpha was lowered
    ordered = np.sort(p_value[np.flatnonzero(tested & (p_value <= level))])
    n_alarms = _rejected(ordered, level, n)
    at_most = _rejected(np.concatenate([[0.0], ordered])[:n], level, n)  # the largest p-value would be 0
    slack, where = np.unique(np.append(state.slack, at_most - n_alarms), return_inverse=True)
    weight = np.bincount(where, weights=np.append(state.weight, level * at_most)).astype(np.float64)
    after = OnlineFdr(n_batches=batch, n_alarms=state.n_alarms + n_alarms, slack=slack, weight=weight)
    return OnlineStep(np.asarray(tested & (p_value <= _limit(ordered, level, n))), after)


def _candidates(p_value: Floats, tested: Bools, level: float, n: int) -> Floats:
    """The p-values that Benjamini-Hochberg can reject of n at a level, ascending: the others need not be sorted.

    Where so many are left, none is rejected above their share of the level, which leaves fewer, and so on.
    """
    left = p_value[np.flatnonzero(tested & (p_value <= level))]
    before = n + 1
    while 0 < len(left) < before:
        before = len(left)
        left = left[left <= level * before / n]
    return np.sort(left)


def _limit(ordered: Floats, level: float, n: int) -> float:
    """Largest p-value that Benjamini-Hochberg rejects; -inf where it rejects none.

    Parameters
    ----------
    ordered
        Shape (candidates,), ascending; all that are not above ``level``.
    level
        In (0, 1).
    n
        Number of tests, the candidates among them.
    """
    rejected = _rejected(ordered, level, n)
    return float(ordered[rejected - 1]) if rejected else -np.inf


def _rejected(ordered: Floats, level: float, n: int) -> int:
    """Number that Benjamini-Hochberg rejects of n p-values; the other parameters as for `_limit`."""
    below = np.flatnonzero(ordered <= level * np.arange(1, len(ordered) + 1) / n)
    return int(below[-1]) + 1 if below.size else 0
