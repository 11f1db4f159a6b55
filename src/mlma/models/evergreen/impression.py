"""What can be said of a member before it has forecast anything: the median needs no training, so the past tells."""

from collections.abc import Callable

import numpy as np

from mlma.core.blocks import Floats
from mlma.models.evergreen.design import Designer, bounds, cleaned
from mlma.models.naive import seasonal_naive


def median_to_naive(
    designer: Designer, y: Floats, *, start: int, first: int, last: int, losses_of: Callable[[Floats, Floats], Floats]
) -> Floats:
    """Loss of the median of the same slots relative to that of seasonal naive, on targets of the past.

    A median looks eight weeks back: where the level moves, it lags behind whatever looks back one.

    Parameters
    ----------
    y
        Shape (S, T), values by slot from ``start`` up to ``last``; NaN for missing.
    first, last
        First target and end of the targets, slots.
    losses_of
        Losses from outcomes and forecasts, all of shape (S, targets).

    Returns
    -------
    Floats
        Shape (S,); NaN where the two have no target in common, or seasonal naive lost nothing.
    """
    target = y[:, first - start : last - start]
    median = designer.same_slots(cleaned(y, bounds(y)), start=start, first=first, last=last)
    naive = seasonal_naive(y, start=start, first=first, last=last, schedule=designer.schedule)
    each = np.stack([losses_of(target, median), losses_of(target, naive)])
    total = np.where(np.isfinite(each).all(axis=0), each, 0.0).sum(axis=2)
    made: Floats = np.divide(total[0], total[1], out=np.full(len(y), np.nan), where=total[1] > 0)
    return made
