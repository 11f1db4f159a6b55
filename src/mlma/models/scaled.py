"""Features of many streams on one scale, for a model that learns from all of them.

Every value is divided by the mean size of its stream's values (`Features.sizes`), so that what one stream teaches
holds for a larger one.
"""

from collections.abc import Sequence

import numpy as np

from mlma.core.blocks import Floats

CALENDAR = frozenset({"lead", "slot_of_day", "weekday", "day_of_month"})


def scaled(X: Floats, names: Sequence[str], scale: Floats) -> Floats:
    """Features of which every value is divided by the scale, and the logarithm of the scale as one more feature.

    Parameters
    ----------
    X
        Shape (..., p), columns as in ``names``; those of the calendar stay as they are.
    scale
        Shape (...), at least 0 or NaN.

    Returns
    -------
    Floats
        Shape (..., p + 1).

    Examples
    --------
    >>> scaled(np.array([[8.0, 12.0, 5.0]]), ["lag_1", "lag_2", "weekday"], np.array([10.0])).round(2)
    array([[0.8, 1.2, 5. , 2.4]])
    """
    made = np.empty((*X.shape[:-1], X.shape[-1] + 1))
    made[..., :-1] = X
    values = [i for i, name in enumerate(names) if name not in CALENDAR]
    divisor = np.where(scale > 0.0, scale, 1.0)
    made[..., values] /= divisor[..., None]
    made[..., -1] = np.log1p(scale)
    return made
