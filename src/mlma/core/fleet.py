"""From the p-values of a fleet to its alarms: how many false alarms the whole fleet may raise.

Which comparison made the p-values is decided in `mlma.core.loss_tests`; common causes are not looked for here.
"""

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.core.settings import FleetRule


def alarms(p_value: Floats, *, ready: Bools, alpha: float, rule: FleetRule) -> Bools:
    """Streams whose test stays rejected under the fleet's rule.

    Parameters
    ----------
    p_value
        Shape (streams,), NaN where there was no test.
    ready
        Shape (streams,); only these streams count, as tests and as alarms.
    alpha
        In (0, 1). NONE: the false-alarm rate of each stream. BONFERRONI: the probability of any false alarm in
        the fleet, whatever the dependence between streams (Bonferroni, 1936). BH: the share of false ones
        among the alarms, for independent or positively dependent streams (Benjamini and Hochberg, 1995).
    rule
        How p-values become alarms.

    Returns
    -------
    Bools
        Shape (streams,).

    Examples
    --------
    >>> p = np.array([0.012, 0.02, 0.2, np.nan])
    >>> all_ready = np.ones(4, dtype=bool)
    >>> for rule in FleetRule:
    ...     print(rule, alarms(p, ready=all_ready, alpha=0.05, rule=rule).astype(int).tolist())
    none [1, 1, 0, 0]
    bonferroni [1, 0, 0, 0]
    bh [1, 1, 0, 0]
    """
    tested = ready & ~np.isnan(p_value)
    p = np.where(tested, p_value, np.inf)
    n = int(np.count_nonzero(tested))
    match rule:
        case FleetRule.NONE:
            return np.asarray(p <= alpha)
        case FleetRule.BONFERRONI:
            return np.asarray(p <= alpha / max(n, 1))
        case FleetRule.BH:
            ordered = np.sort(p)[:n]
            below = np.flatnonzero(ordered <= alpha * np.arange(1, n + 1) / max(n, 1))
            if below.size == 0:
                return np.zeros(p.shape, dtype=np.bool_)
            return np.asarray(p <= ordered[below[-1]])
