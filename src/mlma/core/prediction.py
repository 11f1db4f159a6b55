"""What the next batch of a stream should look like, predicted from its reference batches.

Batch values may depend on each other: neighbours are taken to be correlated like an autoregression of order one
with a coefficient that the whole fleet shares (`mlma.core.correlation`). Without dependence this is the plain
mean of the reference and the variance around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

LONGEST_LAG = 63
"""Batches up to which distances are taken as they are."""

LONGEST_GAP = 15
"""Gap between neighbouring batches beyond which, in older references, more distance does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The next batch value of each stream, as its reference predicts it; arrays of shape (streams,).

    Attributes
    ----------
    mean
        Level of the reference (generalised least squares); NaN without a reference batch.
    expected
        The next value: the level, and what the newest reference batches say beyond it.
    variance
        Between batches, of a single batch value, divisor m - 1; NaN with fewer than two batches.
    factor
        Variance of the prediction error as a multiple of ``variance``: 1 + 1 / m without dependence.
    own
        Covariance of the prediction error with the predicted value itself, as a multiple of ``variance``: 1
        without dependence, less when the newest batches tell part of it.
    m
        Number of reference batches.
    """

    mean: Floats
    expected: Floats
    variance: Floats
    factor: Floats
    own: Floats
    m: Ints


PARTS = ("mean", "expected", "variance", "factor", "own", "m")


@dataclass(frozen=True, slots=True)
class _Weights:
    """Linear maps from the m values of a reference (newest first, less the newest) to what is predicted."""

    mean: Floats  # (m,)
    expected: Floats  # (m,)
    residual: Floats  # (m, m): whitened residuals
    factor: float
    own: float


@dataclass(frozen=True, slots=True)
class Dependence:
    """How the batches of a fleet's streams depend on each other, the same for all streams.

    Attributes
    ----------
    rho
        Correlation of neighbouring batches beyond the season, in [0, 1): corr = rho^|distance|.
    season
        Batches after which a season repeats, 1 for none.
    repeats
        Share of the variance that repeats one season later, in [0, 1); 0 without a season.
    """

    rho: float = 0.0
    season: int = 1
    repeats: float = 0.0

    def correlation(self, distance: Floats) -> Floats:
        """Correlation of batches at a distance, elementwise; positive definite."""
        own = (distance == 0.0).astype(np.float64) if self.rho == 0.0 else self.rho ** np.abs(distance)
        if self.repeats == 0.0:
            return own
        return np.asarray((1.0 - self.repeats) * own + self.repeats * (distance % self.season == 0.0))


INDEPENDENT = Dependence()


def predict(values: Floats, lags: Ints, dependence: Dependence = INDEPENDENT) -> Prediction:
    """Predict the next batch value of every stream from its reference.

    Parameters
    ----------
    values
        Shape (rows, streams): past batch values, newest first in the rows that belong to the reference.
    lags
        Shape (rows,) or (rows, streams): how many batches before the predicted one each value is, ascending; 0
        where the value does not belong to the reference (it is not looked at then).
    dependence
        How batches depend on each other.

    Returns
    -------
    Prediction
        Best linear unbiased prediction with unknown mean under that dependence (Goldberger, 1962; ordinary
        kriging); its variance is the generalised least squares one.

    Notes
    -----
    Streams with the same pattern of lags are predicted together by matrices that depend on the pattern alone;
    values are taken relative to the newest one, so that an offset far larger than the spread loses no digits.

    Examples
    --------
    >>> made = predict(np.array([[2.0], [4.0]]), np.array([1, 2]))
    >>> made.mean.tolist(), made.variance.tolist(), made.factor.tolist()
    ([3.0], [2.0], [1.5])
    >>> predict(np.array([[2.0], [4.0]]), np.array([1, 2]), Dependence(rho=0.5)).expected.tolist()
    [2.5]
    """
    n_streams = values.shape[1]
    if lags.ndim == 1:
        rows = np.flatnonzero(lags)
        members = values if len(rows) == len(lags) else values[rows]
        return _of_pattern(members, tuple(_clipped(lags[rows], dependence).tolist()), dependence)
    made = Prediction(
        mean=np.full(n_streams, np.nan), expected=np.full(n_streams, np.nan), variance=np.full(n_streams, np.nan),
        factor=np.full(n_streams, np.nan), own=np.full(n_streams, np.nan), m=np.zeros(n_streams, dtype=np.int64),
    )  # fmt: skip
    if n_streams == 0:
        return made
    for streams, pattern in _patterns(_clipped(lags, dependence)):
        rows = np.flatnonzero(pattern)
        part = _of_pattern(values[np.ix_(rows, streams)], tuple(pattern[rows].tolist()), dependence)
        for name in PARTS:
            getattr(made, name)[streams] = getattr(part, name)
    return made


def _clipped(lags: Ints, dependence: Dependence) -> Ints:
    """Lags in which gaps of more than `LONGEST_GAP` batches are shorter by whole seasons: nothing reaches so far."""
    if lags.size == 0 or lags.max() <= LONGEST_LAG:
        return lags
    made, before = lags.copy(), np.zeros(lags.shape[1:], dtype=np.int64)
    total = before.copy()
    for row, lag in enumerate(lags):  # newest first
        member = lag > 0
        gap = lag - before
        over = np.maximum(gap - LONGEST_GAP, 0)
        total = np.where(member, total + gap - dependence.season * -(-over // dependence.season), total)
        made[row] = np.where(member, total, 0)
        before = np.where(member, lag, before)
    return made


def _patterns(lags: Ints) -> Sequence[tuple[Ints, Ints]]:
    """Streams by pattern of lags: (indices of the streams, their common column of lags)."""
    key = _pattern_keys(lags)
    sample = np.unique(key[:: max(1, len(key) // 100)], return_counts=True)
    usual = sample[0][np.argmax(sample[1])]
    is_usual = key == usual
    streams = np.flatnonzero(is_usual)
    made = [(streams, lags[:, streams[0]])]
    others = np.flatnonzero(~is_usual)
    if len(others):
        _, start, inverse = np.unique(key[others], return_index=True, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(start) + 1))
        for i, first in enumerate(start):
            made.append((others[order[bounds[i] : bounds[i + 1]]], lags[:, others[first]]))
    return made


def _pattern_keys(lags: Ints) -> Ints:
    """One number for every pattern: bits where a row has one lag for all streams, else six bits a row."""
    bits = 1 if bool(((lags == 0) | (lags == lags.max(axis=1)[:, None])).all()) else 6
    if len(lags) * bits > LONGEST_LAG:
        return np.unique(lags, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
    key = np.zeros(lags.shape[1], dtype=np.int64)
    for row in lags:
        key <<= bits
        key |= (row > 0) if bits == 1 else row
    return key


def _of_pattern(values: Floats, lags: tuple[int, ...], dependence: Dependence) -> Prediction:
    m, n_streams = len(lags), values.shape[1]
    count = np.full(n_streams, m, dtype=np.int64)
    if m == 0:
        nothing = np.full(n_streams, np.nan)
        return Prediction(mean=nothing, expected=nothing, variance=nothing, factor=nothing, own=nothing, m=count)
    weights = _weights(lags, dependence)
    newest = values[0]
    shifted = values - newest
    residual = weights.residual @ shifted
    variance = np.einsum("ij,ij->j", residual, residual) / (m - 1) if m > 1 else np.full(n_streams, np.nan)
    return Prediction(
        mean=weights.mean @ shifted + newest,
        expected=weights.expected @ shifted + newest,
        variance=variance,
        factor=np.full(n_streams, weights.factor),
        own=np.full(n_streams, weights.own),
        m=count,
    )


@lru_cache(maxsize=4096)
def _weights(lags: tuple[int, ...], dependence: Dependence) -> _Weights:
    at = np.asarray(lags, dtype=np.float64)
    m = len(at)
    correlation, ahead = dependence.correlation(at[:, None] - at[None, :]), dependence.correlation(at)
    inverse = np.linalg.inv(correlation)
    ones = np.ones(m)
    precision = float(ones @ inverse @ ones)
    mean = inverse @ ones / precision
    gain = inverse @ ahead
    left = 1.0 - float(gain @ ones)
    expected = gain + left * mean
    whiten = np.linalg.cholesky(inverse).T
    return _Weights(
        mean=mean,
        expected=expected,
        residual=whiten @ (np.eye(m) - np.outer(ones, mean)),
        factor=1.0 - float(ahead @ gain) + left**2 / precision,
        own=1.0 - float(ahead @ expected),
    )


def lags_of(batches: Ints, at: int, members: Bools) -> Ints:
    """How many batches before ``at`` the members are, 0 for the others; as `predict` wants them.

    Parameters
    ----------
    batches
        Shape (rows,) or (rows, streams), batch numbers.
    at
        The batch that is predicted.
    members
        Shape (rows, streams).
    """
    distance = at - batches
    return np.where(members, distance[:, None] if distance.ndim == 1 else distance, 0)
