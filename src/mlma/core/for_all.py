"""One number that stands for all streams of a fleet, as an array that takes no memory."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=256, typed=True)
def for_all(value: float, n_streams: int) -> NDArray[Any]:
    """An array of shape (streams,) that holds one number everywhere: int64 for an int, float64 for a float.

    It cannot be written to and is made once, because most batches ask for the same ones.

    Examples
    --------
    >>> made = for_all(8, 3)
    >>> made.tolist(), made.strides, made.flags.writeable
    ([8, 8, 8], (0,), False)
    """
    return np.broadcast_to(np.asarray(value), n_streams)
