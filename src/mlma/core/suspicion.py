"""Batches whose outcomes look like a fault of the feed: stuck values, and values at or below zero where none were.

Such values are plausible one by one, so admission lets them in. What gives them away is that they come together:
a meter that repeats its last value, a feed that delivers zeros. What counts is how much more of this a batch holds
than the stream's own batches before it, so that nights without a departure or days without a sale mean nothing.
"""

import numpy as np

from mlma.core.blocks import Bools, Floats

LONGEST_RUN = 3
"""Equal values in a row that are no sign of anything; in hourly demand longer runs were labelled faults."""

SMALLEST_SHARE = 0.05
"""Share of a batch's values that may look odd; so may `LONGEST_RUN` values of a short batch."""

USUAL_BATCHES = 0.9
"""Quantile of the shares of the batches before: a stream may have had some faulty ones already."""

FACTOR = 2.0
"""Times what is usual that a batch must exceed, beside the smallest share."""

FEWEST_BATCHES = 4
"""Batches before that say what is usual."""

BLOCK_CELLS = 1 << 18
"""Values that are looked at together: the temporary arrays are of one byte a value."""


def odd_share(y: Floats, *, batch: int, season: int) -> tuple[Floats, Floats]:
    """Share of the newest batch's values that look odd, and the largest share that would be nothing new.

    Parameters
    ----------
    y
        Shape (streams, n), outcomes by slot up to the end of the newest batch; NaN for missing.
    batch
        Slots of a batch, from 1.
    season
        Slots after which things repeat: a week. What the batch a season before held is usual too.

    Returns
    -------
    tuple
        Two arrays of shape (streams,). The share is NaN where the batch has no values; the limit is infinite where
        fewer than `FEWEST_BATCHES` batches before it have any.

    Examples
    --------
    >>> y = np.random.default_rng(1).normal(500, 20, (2, 8 * 24))
    >>> y[0, -12:] = y[0, -12]
    >>> share, limit = odd_share(y, batch=24, season=168)
    >>> share.tolist(), limit.tolist()
    ([0.5, 0.0], [0.125, 0.125])
    """
    share, limit = np.full(len(y), np.nan), np.full(len(y), np.inf)
    if y.shape[1] < batch:
        return share, limit
    for rows in _blocks(y):
        shares = _shares(y[rows], batch)
        share[rows] = shares[:, -1]
        limit[rows] = np.maximum(
            _limits(shares[:, :-1], batch), FACTOR * _a_season_before(shares, batch, season)[:, -1]
        )
    return share, limit


def suspicious(share: Floats, limit: Floats) -> Bools:
    """Whether a batch looks like a fault, of shape (streams,)."""
    found: Bools = share > limit
    return found


def faults(y: Floats, *, batch: int, season: int) -> Bools:
    """Odd values of the batches that look like faults, seen among all others: no examples, and no features.

    Parameters
    ----------
    y
        Shape (streams, n), outcomes by slot up to the end of a batch; NaN for missing.
    batch, season
        As for `odd_share`.

    Returns
    -------
    Bools
        Shape (streams, n); what comes before the first whole batch is not judged.

    Examples
    --------
    >>> y = np.random.default_rng(1).normal(500, 20, (1, 8 * 24))
    >>> y[0, 30:36] = 0.0
    >>> np.flatnonzero(faults(y, batch=24, season=168)).tolist()
    [30, 31, 32, 33, 34, 35]
    """
    found = np.zeros(y.shape, dtype=np.bool_)
    n_batches = y.shape[1] // batch
    if n_batches <= FEWEST_BATCHES:
        return found
    first = y.shape[1] - n_batches * batch
    for rows in _blocks(y):
        shares = _shares(y[rows], batch)
        limits = np.maximum(_limits(shares, batch)[:, None], FACTOR * _a_season_before(shares, batch, season))
        strange = shares > limits
        for row in np.flatnonzero(strange.any(axis=1)).tolist():
            at = rows.start + row
            found[at, first:] = _odd(y[at])[first:] & np.repeat(strange[row], batch)
    return found


def stuck(y: Floats) -> Bools:
    """Values that are one of more than `LONGEST_RUN` equal ones in a row; a missing one ends a row.

    Parameters
    ----------
    y
        Shape (..., n); NaN for missing.

    Examples
    --------
    >>> np.flatnonzero(stuck(np.array([3.0, 5.0, 5.0, 5.0, 5.0, 4.0, 4.0, 4.0])))
    array([1, 2, 3, 4])
    """
    found = np.zeros(y.shape, dtype=np.bool_)
    n = y.shape[-1]
    if n <= LONGEST_RUN:
        return found
    same = y[..., 1:] == y[..., :-1]
    ends = same[..., LONGEST_RUN - 1 :].copy()
    for back in range(1, LONGEST_RUN):
        ends &= same[..., LONGEST_RUN - 1 - back : n - 1 - back]
    for at in range(LONGEST_RUN + 1):
        found[..., at : n - LONGEST_RUN + at] |= ends
    return found


def _blocks(y: Floats) -> list[slice]:
    size = max(1, BLOCK_CELLS // max(1, y.shape[1]))
    return [slice(at, min(at + size, len(y))) for at in range(0, len(y), size)]


def _odd(y: Floats) -> Bools:
    odd = stuck(y)
    odd |= y <= 0.0
    return odd


def _shares(y: Floats, batch: int) -> Floats:
    """Share of odd values by batch, of shape (streams, batches), NaN without values; the last batch ends with y."""
    n_batches = y.shape[1] // batch
    by_batch = (len(y), n_batches, batch)
    whole = slice(y.shape[1] - n_batches * batch, None)
    n_odd = _odd(y)[:, whole].reshape(by_batch).sum(axis=2, dtype=np.int32)
    n = np.isfinite(y[:, whole]).reshape(by_batch).sum(axis=2, dtype=np.int32)
    return np.where(n > 0, n_odd / np.maximum(n, 1), np.nan)


def _limits(shares: Floats, batch: int) -> Floats:
    """Largest share that is nothing new beside those of some batches, shape (streams, batches)."""
    n = np.isfinite(shares).sum(axis=1)
    if not shares.shape[1]:
        return np.full(len(shares), np.inf)
    ordered = np.sort(shares, axis=1)  # missing ones come last
    at = np.floor(USUAL_BATCHES * np.maximum(n - 1, 0)).astype(np.int64)
    usual = ordered[np.arange(len(shares)), at]
    few = max(SMALLEST_SHARE, LONGEST_RUN / batch)
    return np.where(n >= FEWEST_BATCHES, np.maximum(few, FACTOR * usual), np.inf)


def _a_season_before(shares: Floats, batch: int, season: int) -> Floats:
    """Share of the batch a season before each, shape (streams, batches); 0 where that is unknown or the one before."""
    back = season // batch
    made = np.zeros(shares.shape)
    if 1 < back < shares.shape[1]:
        made[:, back:] = np.nan_to_num(shares[:, :-back])
    return made
