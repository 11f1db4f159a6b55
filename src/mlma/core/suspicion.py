"""Batches whose outcomes look like a fault of the feed: stuck values, and values at or below zero where none were.

Such values are plausible one by one, so admission lets them in. What gives them away is that they come together:
a meter that repeats its last value, a feed that delivers zeros. What counts is how much more of this a batch holds
than the stream's own batches before it, so that nights without a departure or days without a sale mean nothing.
"""

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

LONGEST_RUN = 3
"""Equal values in a row that are no sign of anything; in hourly demand longer runs were labelled faults."""

SMALLEST_SHARE = 0.05
"""Share of a batch's values that may look odd; so may `LONGEST_RUN` values of a short batch."""

USUAL_BATCHES = 0.9
"""Quantile of the shares of the batches that say what is usual. What goes on in a row for more than the rest of all
batches is how the stream is now."""

OFTEN = 0.75
"""Quantile of the shares of all batches: what comes back in more than the rest of them is usual, faults or not."""

FACTOR = 2.0
"""Times what is usual that a batch must exceed, beside the smallest share."""

FEWEST_BATCHES = 4
"""Batches before that say what is usual."""


def odd_shares(y: Floats, *, batch: int) -> Floats:
    """Share of the values of each batch that look odd.

    Parameters
    ----------
    y
        Shape (streams, n), outcomes by slot up to the end of a batch; NaN for missing.
    batch
        Slots of a batch, from 1.

    Returns
    -------
    Floats
        Shape (streams, n // batch), NaN where a batch has no values. A share depends on its batch alone.

    Examples
    --------
    >>> odd_shares(np.array([[4.0, 5.0, 6.0, 7.0, 9.0, 8.0, 0.0, np.nan, 2.0, 2.0, 2.0, 2.0]]), batch=4).round(2)
    array([[0.  , 0.33, 1.  ]])
    """
    by_batch = _by_batch(y, batch)
    n_odd = _odd(by_batch).sum(axis=2, dtype=np.int32)
    n = np.isfinite(by_batch).sum(axis=2, dtype=np.int32)
    return np.where(n > 0, n_odd / np.maximum(n, 1), np.nan)


def newest_limit(shares: Floats, *, batch: int, season: int) -> Floats:
    """Largest share of the newest batch that would be nothing new, shape (streams,).

    Parameters
    ----------
    shares
        Shape (streams, batches), of `odd_shares`, the newest last.
    batch
        Slots of a batch, from 1.
    season
        Slots after which things repeat: a week. What the batch a season before held is usual too.

    Returns
    -------
    Floats
        Infinite where fewer than `FEWEST_BATCHES` batches before have values.

    Examples
    --------
    >>> newest_limit(np.array([[0.0, 0.0, 0.1, 0.0, 0.0, 1.0], [0.5] * 6]), batch=24, season=168).tolist()
    [0.125, 1.0]
    """
    before = shares[:, :-1]
    limit = np.where(np.isfinite(before).sum(axis=1) >= FEWEST_BATCHES, _few(batch), np.inf)
    rows = _uneasy(shares, batch) & np.isfinite(limit)
    if rows.any():
        before, season_before = before[rows], _a_season_before(shares[rows], batch=batch, season=season)[:, -1]
        largest = np.maximum(_usual(before, batch=batch, season=season), season_before)
        largest = np.maximum(largest, _in_a_row(before, _fewest(before))[:, -1])
        limit[rows] = np.maximum(limit[rows], FACTOR * largest)
    return limit


def suspicious(shares: Floats, *, batch: int, season: int) -> Bools:
    """Whether the newest batch looks like a fault, shape (streams,); see `newest_limit`."""
    if not shares.shape[1]:
        return np.zeros(len(shares), dtype=np.bool_)
    found: Bools = shares[:, -1] > newest_limit(shares, batch=batch, season=season)
    return found


def strange(shares: Floats, *, batch: int, season: int) -> Bools:
    """Which batches look like faults, each seen among all others, shape (streams, batches); see `newest_limit`."""
    found = np.zeros(shares.shape, dtype=np.bool_)
    rows = _uneasy(shares, batch) & (np.isfinite(shares).sum(axis=1) >= FEWEST_BATCHES)
    if shares.shape[1] > FEWEST_BATCHES and rows.any():
        share = shares[rows]
        usual = _usual(share, batch=batch, season=season)[:, None]
        largest = np.maximum(usual, _a_season_before(share, batch=batch, season=season))
        looks_so = share > np.maximum(_few(batch), FACTOR * largest)
        some = looks_so.any(axis=1)
        if some.any():
            looks_so[some] &= share[some] > FACTOR * _going_on(share[some])
        found[rows] = looks_so
    return found


def usual_batches(shares: Floats, *, batch: int, season: int) -> Bools:
    """Which batches say what is usual, shape (streams, batches): those that did not look like a fault when they came.

    A fault that comes again would otherwise be taken for how the stream is, as soon as it has been there a few times.
    What goes on in a row for more than a tenth of the batches before, or in more than a quarter of them, is usual all
    the same.

    Parameters
    ----------
    shares
        Shape (streams, batches), of `odd_shares`.
    batch, season
        As for `newest_limit`.

    Examples
    --------
    >>> usual_batches(np.array([[0.0] * 5 + [1.0, 1.0, 1.0, 0.0]]), batch=24, season=168).astype(int)
    array([[1, 1, 1, 1, 1, 0, 0, 1, 1]])
    """
    made = np.isfinite(shares)
    n = np.cumsum(made, axis=1)
    limit = np.maximum(_few(batch), FACTOR * _a_season_before(shares, batch=batch, season=season))
    looked_at = (shares > limit) & (n - made >= FEWEST_BATCHES)
    for at in np.flatnonzero(looked_at.any(axis=0)).tolist():
        rows = np.flatnonzero(looked_at[:, at])
        alike = FACTOR * shares[rows, :at] >= shares[rows, at, None]
        in_a_row = np.where(alike.all(axis=1), at, alike[:, ::-1].argmin(axis=1))
        said = made[rows, :at]
        looks_so = (alike & said).sum(axis=1) <= _above(USUAL_BATCHES, said.sum(axis=1))
        looks_so &= alike.sum(axis=1) <= _above(OFTEN, n[rows, at - 1])
        looks_so &= in_a_row <= _above(USUAL_BATCHES, n[rows, at - 1])
        made[rows[looks_so], at] = False
    return made


def marked(y: Floats, which: Bools, *, batch: int) -> Bools:
    """Odd values of some batches, of the shape of ``y``.

    Parameters
    ----------
    y
        Shape (streams, n), outcomes up to the end of a batch.
    which
        Shape (streams, batches), of the newest batches, as from `strange`.
    batch
        Slots of a batch, from 1.
    """
    found = np.zeros(y.shape, dtype=np.bool_)
    by_batch = _by_batch(y, batch)[:, -which.shape[1] :] if which.shape[1] else _by_batch(y, batch)[:, :0]
    chosen = _odd(by_batch) & which[:, -by_batch.shape[1] :, None] if by_batch.shape[1] else by_batch > 0
    n = chosen.shape[1] * batch
    found[:, y.shape[1] - n :] = chosen.reshape(len(y), n)
    return found


def faults(y: Floats, *, batch: int, season: int) -> Bools:
    """Odd values of the batches of a training window that look like faults: no examples, and no features.

    Parameters
    ----------
    y
        Shape (streams, n), outcomes by slot up to the end of a batch; NaN for missing.
    batch, season
        As for `newest_limit`.

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
    return marked(y, strange(odd_shares(y, batch=batch), batch=batch, season=season), batch=batch)


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


def _by_batch(y: Floats, batch: int) -> Floats:
    """The whole batches at the end, shape (streams, batches, slots)."""
    n_batches = y.shape[1] // batch
    return y[:, y.shape[1] - n_batches * batch :].reshape(len(y), n_batches, batch)


def _odd(y: Floats) -> Bools:
    odd = stuck(y)
    odd |= y <= 0.0
    return odd


def _few(batch: int) -> float:
    return max(SMALLEST_SHARE, LONGEST_RUN / batch)


def _above(share: float, n: Ints) -> Ints:
    """How many of n values lie above their quantile, the lower one."""
    last = np.maximum(n - 1, 0)
    return np.asarray(last - np.floor(share * last).astype(np.int64))


def _fewest(shares: Floats) -> Ints:
    """Batches in a row from which on they are how the stream is, shape (streams,)."""
    return _above(USUAL_BATCHES, np.isfinite(shares).sum(axis=1)) + 1


def _in_a_row(shares: Floats, length: Ints) -> Floats:
    """Smallest share of so many batches up to each, shape (streams, batches); 0 where there are fewer, or a gap."""
    known = made = np.nan_to_num(shares)
    for back in range(1, int(length.max(initial=1))):
        before = np.zeros(known.shape)
        before[:, back:] = known[:, : known.shape[1] - back]
        made = np.where((back < length)[:, None], np.minimum(made, before), made)
    return made


def _going_on(shares: Floats) -> Floats:
    """Largest share that the `_fewest` batches in a row around each batch all reach, shape (streams, batches)."""
    length = _fewest(shares)
    ends = _in_a_row(shares, length)  # the row that ends in a batch; those that hold it end in it or later
    made = ends.copy()
    for later in range(1, int(length.max(initial=1))):
        moved = np.zeros(ends.shape)
        moved[:, : ends.shape[1] - later] = ends[:, later:]
        made = np.where((later < length)[:, None], np.maximum(made, moved), made)
    return made


def _uneasy(shares: Floats, batch: int) -> Bools:
    """Streams with a share that matters at all, shape (streams,): without one, the few are the limit."""
    return np.asarray((shares > _few(batch) / FACTOR).any(axis=1))


def _usual(shares: Floats, *, batch: int, season: int) -> Floats:
    """Largest share that batches say is usual, shape (streams,); see `usual_batches`."""
    said = usual_batches(shares, batch=batch, season=season)
    ordered = np.sort(shares, axis=1)  # missing ones come last
    n = np.isfinite(shares).sum(axis=1)
    often, usual = _quantile(ordered, n, OFTEN), _quantile(ordered, n, USUAL_BATCHES)
    rows = said.sum(axis=1) < n
    if rows.any():
        ordered = np.sort(np.where(said[rows], shares[rows], np.nan), axis=1)
        usual[rows] = _quantile(ordered, said[rows].sum(axis=1), USUAL_BATCHES)
    return np.maximum(often, usual)


def _quantile(ordered: Floats, n: Ints, share: float) -> Floats:
    """Lower quantile of the first n values of each row; 0 where there is none."""
    at = np.maximum(n - 1, 0) - _above(share, n)
    return np.where(n > 0, ordered[np.arange(len(ordered)), at], 0.0)


def _a_season_before(shares: Floats, *, batch: int, season: int) -> Floats:
    """Share of the batch a season before each, shape (streams, batches); 0 where that is unknown or the one before."""
    back = season // batch
    made = np.zeros(shares.shape)
    if 1 < back < shares.shape[1]:
        made[:, back:] = np.nan_to_num(shares[:, :-back])
    return made
