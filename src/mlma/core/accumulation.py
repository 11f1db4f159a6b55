"""Evidence of several batches added up, as one p-value a batch: small rises that last are found sooner.

The sum is that of a CUSUM (Page, 1954) over the newest `WINDOW` normal scores, each less an allowance, and what it
comes to in a healthy stream is known exactly: the walk of Lindley (1952) after so many steps. Its tail gives a p-value
for this very batch, so that the promise is the same as that of a test of one batch.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, owens_t

from mlma.core.blocks import Floats, Ints

WINDOW = 8
"""Newest batches whose scores are added up."""

ALLOWANCE = 0.75
"""Standard deviations that a score must exceed to add to the sum: the best for lasting rises of 1.5 (measured:
docs/adr/0019)."""

HIGHEST = 2.5
"""Score beyond which one batch does not add more: a single wild batch is for its own test, and must not fill the sum
of the batches after it. Heavy tails keep their level by it (measured: docs/adr/0019)."""

SHARE, RECENT_SHARE = 0.5, 0.1
"""Levels of the newest batch's own tests over that of the sum: against the frozen batches, that the scores are made
with, and against the recent ones (measured: docs/adr/0019)."""

LIKENESS = np.array([1.0, 1.0, 0.88, 0.81, 0.76, 0.73, 0.705, 0.69, 0.68])
"""Correlation that the normal scores of the newest batch and of the sum of so many scores count with at `USUAL`: the
one at which `together` keeps the rate of simulated healthy scores."""

USUAL, FALL = 0.02, 0.27
"""Farther out than the first p-value, both are less alike: by so much of what lacks to 1 for every factor e."""

CAREFUL = 0.93
"""Of the likeness that a straight line through the scores would have, where neighbours depend on each other: with so
much of it, `together` exceeds the rate of simulated healthy scores by 7 % at most, up to a correlation of .95."""

STEP, STEPS = 0.05, 480
"""Grid of the sum: beyond 24, healthy streams are not told apart."""

FINE = 16
"""Entries of a table of p-values to a step of the grid."""

NODES = 9
"""Values of the error that all scores share."""

TAUS = 40
"""Shared errors are rounded up to one part in so many."""

LARGE, POINTS = 0.2, 256
"""Above the first, p-values are added; below it, prices are looked up in tables with so many entries."""

SMALLEST = 1e-15


def added(scores: list[Floats], start: Floats) -> Floats:
    """Sum of scores, the oldest first, that never falls below zero; each less `ALLOWANCE`.

    Parameters
    ----------
    scores
        Arrays of shape (streams,).
    start
        Room for the result, shape (streams,), zeros.

    Examples
    --------
    >>> added([np.array([1.0, -3.0]), np.array([2.0, 2.0])], np.zeros(2)).tolist()
    [1.5, 1.25]
    """
    for score in scores:
        start += score
        start -= ALLOWANCE
        np.maximum(start, 0.0, out=start)
    return start


def tail(total: Floats, length: Ints, shared: Floats) -> Floats:
    """p-value of sums of scores: how often the sum of a healthy stream comes out as large.

    Parameters
    ----------
    total
        Shape (streams,), from `added`.
    length
        Shape (streams,), how many scores were added, `WINDOW` at most; 0 for none.
    shared
        Shape (streams,), standard deviation of the error that the scores have in common, because they were made with
        one reference.

    Returns
    -------
    Floats
        Shape (streams,), NaN where nothing was added. Never smaller than `SMALLEST`.

    Notes
    -----
    Scores are taken as standard normal and independent but for the shared error, which is part of their variance.
    P(W > c) after n steps of W = max(0, W + score - allowance) is integrated on a grid, and over the shared error by
    Gauss and Hermite. Of a sum between two entries of the table, the larger p-value is taken.

    Examples
    --------
    >>> tail(np.array([0.895, 4.0]), np.array([1, 8]), np.zeros(2)).round(4).tolist()
    [0.0501, 0.0008]
    """
    made = np.full(total.shape, np.nan)
    place = np.minimum((total * (FINE / STEP)), STEPS * FINE - 1)
    if length.strides == (0,) and shared.strides == (0,) and len(length):
        if length[0] > 0:
            made = _table(int(length[0]), int(np.ceil(shared[0] * TAUS))).take(place.astype(np.int64), mode="clip")
        return made
    code = length * (2 * TAUS) + np.ceil(np.nan_to_num(shared) * TAUS).astype(np.int64)
    for group in np.unique(code):
        n, tau = divmod(int(group), 2 * TAUS)
        streams = np.flatnonzero(code == group)
        if n > 0:
            made[streams] = _table(n, tau).take(place[streams].astype(np.int64), mode="clip")
    return made


def together(
    total: Floats, frozen: Floats, recent: Floats, alike: Callable[[Ints], Floats], near: Callable[[Ints], Floats]
) -> Floats:
    """p-value of what several batches add up to and of the newest batch's own two tests, elementwise; NaN is absent.

    The own tests get `SHARE` and `RECENT_SHARE` of the level of the sum. What is paid for asking three times is a bound
    (Hunter, 1976; Worsley, 1982): all three levels, less the probabilities that the sum and the test against the
    frozen batches both reject, and that both own tests do. Those are of two correlated normal scores (Owen, 1956).

    Parameters
    ----------
    total
        Shape (streams,), p-values of the sums.
    frozen, recent
        Shape (streams,), p-values of the newest batch against the frozen and against the recent batches.
    alike
        Gives for some streams (indices) the correlation of the normal scores of the first two at `USUAL`, in [0, 1];
        too low a value costs power, not level. It matters for small p-values alone.
    near
        The same for the last two.

    Examples
    --------
    >>> total, frozen = np.array([0.01, 0.3, 0.3, np.nan]), np.array([0.3, 0.01, 0.3, np.nan])
    >>> made = together(total, frozen, np.array([0.3, 0.3, 0.01, 0.03]), np.ones_like, np.ones_like)
    >>> made.round(4).tolist()
    [0.01, 0.02, 0.1, 0.03]
    """
    low = np.fmin(np.fmin(frozen / SHARE, recent / RECENT_SHARE), total)
    made = np.minimum(low * (1.0 + SHARE + RECENT_SHARE), 1.0)
    matter = np.flatnonzero(low < LARGE)
    q = low[matter]
    span = np.log(LARGE / SMALLEST)
    place = (np.log(LARGE) - np.log(np.maximum(q, SMALLEST))) * (POINTS / span)
    at = np.minimum(place.astype(np.int64), POINTS - 1)
    at_most = [(np.clip(found, 0.0, 1.0) * 100.0).astype(np.int64) for found in (alike(matter), near(matter))]
    price = (1.0 + SHARE + RECENT_SHARE) - sum(
        table.take(step * POINTS + at) for table, step in zip(_both_reject(), at_most, strict=True)
    )
    made[matter] = q * np.maximum(price, 1.0)
    some = np.flatnonzero(np.isnan(total + frozen + recent))
    if len(some):
        three = np.stack([total[some], frozen[some], recent[some]])
        is_alone = np.count_nonzero(np.isnan(three), axis=0) >= 2
        made[some[is_alone]] = np.fmin.reduce(three[:, is_alone])
    return made


def likeness(length: Ints, frozen: Ints, rho: float) -> Floats:
    """Correlation of the normal scores of the newest batch's test against the frozen ones and of a sum, at least.

    Where neighbours depend on each other, the sum adds up what the batch before does not explain. The newest batch's
    own test has a part of that and parts of the older batches, back to the newest frozen one, which it knows.

    Parameters
    ----------
    length
        Shape (n,), how many scores were added.
    frozen
        Shape (n,), batches since the newest frozen one; 0 while batches are still being frozen.
    rho
        Correlation of neighbouring batches.
    """
    newest = LIKENESS[length]
    if rho <= 0.0:
        return np.asarray(newest)
    back = np.maximum(frozen, 1)
    part = np.sqrt((1.0 - rho**2) / (1.0 - rho ** (2.0 * back)))
    older = np.sqrt((1.0 - newest**2) / np.maximum(length - 1, 1))
    older *= rho * (1.0 - rho ** (np.minimum(back, np.maximum(length, 1)) - 1.0)) / (1.0 - rho)
    return np.asarray(part * np.maximum(newest, CAREFUL * (newest + older)))


def normal_score(t: Floats, df: Floats | float) -> Floats:
    """Normal score of Student's t, elementwise; a little too small far out, where too small is safe.

    Abramowitz and Stegun (1964), 26.7.8.

    Examples
    --------
    >>> normal_score(np.array([1.812, 2.764]), 10.0).round(2).tolist()  # 1.64 and 2.33
    [1.64, 2.29]
    """
    if np.ndim(df) == 0 and np.isinf(df):
        return t
    return np.asarray(t * (1.0 - 0.25 / df) / np.sqrt(1.0 + np.square(t) / (2.0 * df)))


@lru_cache(maxsize=256)
def _table(length: int, tau: int) -> Floats:
    """p-values at every `STEP` / `FINE` of the sum, for a shared error of ``tau`` / `TAUS`."""
    nodes, weights = hermegauss(NODES) if tau else (np.zeros(1), np.ones(1))
    spread = float(np.sqrt(max(1.0 - (tau / TAUS) ** 2, 0.1)))
    made = sum(
        w * _survival(length, float(x) * tau / TAUS, spread)
        for x, w in zip(nodes, weights / weights.sum(), strict=True)
    )
    logs = np.log(np.maximum(made, SMALLEST))
    at = np.arange(STEPS * FINE) / FINE
    return np.asarray(np.exp(np.interp(at, np.arange(STEPS), logs)))


@lru_cache(maxsize=512)
def _survival(length: int, shift: float, spread: float) -> Floats:
    """P(W > c) after ``length`` steps with mean ``shift`` less the allowance, for c = 0, STEP, ...; shape (STEPS,)."""
    beyond = _beyond(shift, spread)
    mass = np.zeros(STEPS)  # at 0, and in each cell between two points of the grid
    mass[0] = 1.0
    above = mass
    for _ in range(length):
        above = beyond @ mass
        mass[1:] = above[:-1] - above[1:]
        mass[0] = 1.0 - above[0]
    return above


@lru_cache(maxsize=32)
def _beyond(shift: float, spread: float) -> Floats:
    """P(w + step > c) for every c of the grid and every w: 0, and the middles of the cells; (STEPS, STEPS)."""
    c = STEP * np.arange(STEPS)
    w = np.append(0.0, c[1:] - STEP / 2.0)
    reach = np.arange(-STEPS, STEPS + 1) + 0.5
    by_distance = ndtr(-(STEP * reach - shift + ALLOWANCE) / spread)  # c - w = STEP * (i - j + 1 / 2)
    i, j = np.indices((STEPS, STEPS))
    made: NDArray[np.float64] = by_distance[i - j + STEPS]
    made[:, 0] = ndtr(-(c - w[0] - shift + ALLOWANCE) / spread)
    return made


@lru_cache(maxsize=1)
def _both_reject() -> tuple[Floats, Floats]:
    """How often two tests reject together over the level of the sum, flat tables of correlation in percent and level.

    Levels fall from `LARGE` to `SMALLEST`. The first is of the sum and the newest batch against the frozen ones, which
    are less alike farther out; the second of the newest batch against the frozen and the recent ones.
    """
    q = np.exp(np.log(LARGE) - np.arange(POINTS) / POINTS * np.log(LARGE / SMALLEST))
    least = np.arange(101)[:, None] / 100.0
    farther = np.minimum(least + FALL * (1.0 - least) * np.clip(np.log(q / USUAL), -1.5, 1.5), 0.9999)
    total, frozen, recent = -ndtri(q), -ndtri(SHARE * q), -ndtri(RECENT_SHARE * q)
    first = _both(total, frozen, farther) / q
    return first.ravel(), (_both(frozen, recent, np.minimum(least, 0.9999)) / q).ravel()


def _both(h: Floats, k: Floats, r: Floats) -> Floats:
    """Probability that two normal scores with correlation r are beyond h > 0 and k > 0."""
    root = np.sqrt(1.0 - r**2)
    made = (ndtr(-h) + ndtr(-k)) / 2.0 - owens_t(h, (k - r * h) / (h * root)) - owens_t(k, (h - r * k) / (k * root))
    return np.asarray(np.maximum(made, 0.0))
