"""What the next batch of a stream should look like, predicted from its reference batches.

Without dependence between batches (`mlma.core.dependence`) this is the plain mean of the reference and the
variance around it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.dependence import INDEPENDENT, Ahead, Dependence, Pattern, pattern_of
from mlma.core.for_all import for_all

__all__ = ["INDEPENDENT", "PARTS", "Dependence", "Prediction", "lags_of", "predict"]

LONGEST_LAG = 63
"""Batches up to which distances are taken as they are."""

LONGEST_GAP = 15
"""Gap between neighbouring batches of a longer reference beyond which more distance does not count."""

KEY_BITS = 63
"""Bits of a whole number."""

BLOCK = 12_288
"""Streams that are predicted at once (measured): their rows stay in the cache."""

PARTS = ("mean", "expected", "variance", "factor", "own", "m")


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

    @classmethod
    def nothing(cls, n_streams: int) -> "Prediction":
        """Without any reference."""
        mean, expected, variance, factor, own = np.full((5, n_streams), np.nan)
        m = np.zeros(n_streams, dtype=np.int64)
        return cls(mean=mean, expected=expected, variance=variance, factor=factor, own=own, m=m)

    @property
    def sizes(self) -> tuple[int, int]:
        """Fewest and most reference batches of a stream; (0, 0) without streams."""
        if not len(self.m):
            return 0, 0
        if self.m.strides == (0,):  # one number stands for all
            return int(self.m[0]), int(self.m[0])
        return int(self.m.min()), int(self.m.max())

    def replaced(self, streams: Ints, part: "Prediction") -> "Prediction":
        """The same with other predictions for some streams; takes over the arrays of this one."""
        made: dict[str, NDArray[Any]] = {}
        for name in PARTS:
            old = getattr(self, name)
            made[name] = old if old.flags.writeable and old is not made.get("mean") else old.copy()
            made[name][streams] = getattr(part, name)
        return Prediction(**made)


def predict(
    values: Floats | Sequence[Floats],
    lags: Ints,
    dependence: Dependence = INDEPENDENT,
    *,
    further: Ints | None = None,
) -> Prediction:
    """Predict the next batch value of every stream from its reference.

    Parameters
    ----------
    values
        Shape (rows, streams), or rows of shape (streams,): past batch values, newest first in the rows that belong
        to the reference.
    lags
        Shape (rows,) or (rows, streams): how many batches before the predicted one each value is, ascending; 0
        where the value does not belong to the reference (it is not looked at then).
    dependence
        How batches depend on each other.
    further
        Shape (streams,), with ``lags`` of shape (rows,): how much longer ago the whole reference of a stream is.

    Returns
    -------
    Prediction
        Best linear unbiased prediction with unknown mean under that dependence (Goldberger, 1962; ordinary
        kriging); its variance is the generalised least squares one.

    Notes
    -----
    Streams whose references look alike are predicted together, by matrices that depend on the distances between
    their batches alone. Values are taken relative to the newest one, so that an offset far larger than the spread
    loses no digits. A newest value from more than `LONGEST_LAG` batches ago counts as that old (in its season).

    Examples
    --------
    >>> made = predict(np.array([[2.0], [4.0]]), np.array([1, 2]))
    >>> made.mean.tolist(), made.variance.round(9).tolist(), made.factor.tolist()
    ([3.0], [2.0], [1.5])
    >>> predict(np.array([[2.0], [4.0]]), np.array([1, 2]), Dependence(rho=0.5)).expected.tolist()
    [2.5]
    """
    if lags.ndim == 1:
        rows = np.flatnonzero(lags)
        if not len(rows):
            return Prediction.nothing(_n_streams(values))
        near = _clipped(lags[rows] - lags[rows[0]] + 1, dependence)
        gap = lags[rows[:1]] if further is None else lags[rows[0]] + further
        return _alike([values[row] for row in rows.tolist()], pattern_of(tuple((near - 1).tolist()), dependence), gap)
    values = np.asarray(values)
    made = Prediction.nothing(values.shape[1])
    for streams, near, gap in _groups(lags, dependence):
        rows = np.flatnonzero(near)
        pattern = pattern_of(tuple((near[rows] - 1).tolist()), dependence)
        made = made.replaced(streams, _alike(values[rows[:, None], streams], pattern, gap))
    return made


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


def _n_streams(values: Floats | Sequence[Floats]) -> int:
    return int(values.shape[1]) if isinstance(values, np.ndarray) else len(values[0])


def _groups(lags: Ints, dependence: Dependence) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Streams whose references look alike: their indices, the lags right after the newest batch, and its own lag."""
    is_member = lags > 0
    streams = np.flatnonzero(is_member.any(axis=0))
    if not len(streams):
        return
    lags, is_member = lags[:, streams], is_member[:, streams]
    gap = lags[np.argmax(is_member, axis=0), np.arange(len(streams))]
    near = _clipped(np.where(is_member, lags - gap + 1, 0), dependence)
    _, first, which = np.unique(_keys(lags, near), return_index=True, return_inverse=True)
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(first) + 1))
    for i, example in enumerate(first):
        some = order[bounds[i] : bounds[i + 1]]
        yield streams[some], near[:, example], gap[some]


def _keys(lags: Ints, near: Ints) -> Ints:
    """One number for every column of lags: a bit for each row that has one lag for all streams, else the lags."""
    is_bit = bool(((lags == 0) | (lags == lags.max(axis=1)[:, None])).all())
    bits = 1 if is_bit else int(near.max()).bit_length()
    if len(lags) * bits > KEY_BITS:
        return np.unique(near, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
    key = np.zeros(near.shape[1], dtype=np.int64)
    for row in near:
        key <<= bits
        key |= (row > 0) if is_bit else row
    return key


def _clipped(lags: Ints, dependence: Dependence) -> Ints:
    """Lags in which gaps of more than `LONGEST_GAP` batches are shorter by whole seasons: nothing reaches so far."""
    if lags.size == 0 or lags.max() <= LONGEST_LAG:
        return lags
    made, before = lags.copy(), np.zeros(lags.shape[1:], dtype=np.int64)
    total = before.copy()
    for row, lag in enumerate(lags):  # newest first
        member = lag > 0
        gap = lag - before
        total = np.where(member, total + dependence.shortened(gap, LONGEST_GAP), total)
        made[row] = np.where(member, total, 0)
        before = np.where(member, lag, before)
    return made


def _alike(values: Floats | Sequence[Floats], pattern: Pattern, gap: Ints) -> Prediction:
    """Predict streams with one pattern; ``gap`` (batches since the newest value) has shape (1,) or (streams,)."""
    m, n_streams = len(pattern.distances), _n_streams(values)
    nearest, farthest = (int(gap.min()), int(gap.max())) if n_streams else (1, 1)
    kinds, ahead = _ahead(pattern, nearest, farthest)
    if pattern.dependence.is_none and m > 1:
        return _independent(values, ahead)
    which = None if len(ahead.factor) == 1 else kinds.take(gap - nearest)
    linear = np.vstack([pattern.mean[1:], ahead.weights[0, 1:], pattern.residual / np.sqrt(max(m - 1, 1))])
    made = np.empty((3, n_streams))
    room, mapped_room = (np.empty((rows, min(n_streams, BLOCK))) for rows in (m - 1, m + 1))
    for start in range(0, n_streams, BLOCK):
        block = slice(start, start + BLOCK)
        newest = values[0][block]
        shifted = room[:, : len(newest)]
        for row, into in zip(values[1:], shifted, strict=True):
            np.subtract(row[block], newest, out=into)
        mapped = np.matmul(linear, shifted, out=mapped_room[:, : len(newest)])
        if which is not None:
            mapped[1] = _weighted(ahead.weights[:, 1:], which[block], shifted)
        np.add(mapped[:2], newest, out=made[:2, block])
        np.einsum("ms,ms->s", mapped[2:], mapped[2:], out=made[2, block])
    mean, expected, variance = made
    if m == 1:
        variance.fill(np.nan)
    factor, own = (  # where all streams are alike, one number stands for all
        for_all(float(part[0]), n_streams) if which is None else part.take(which) for part in (ahead.factor, ahead.own)
    )
    return Prediction(
        mean=mean, expected=expected, variance=variance, factor=factor, own=own,
        m=for_all(m, n_streams),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _ahead(pattern: Pattern, nearest: int, farthest: int) -> tuple[Ints, Ahead]:
    """What a pattern says so many batches after its newest one: the position of each gap in it, and what it says.

    Most batches come one batch after the newest, so that it is the same every time.
    """
    gaps = pattern.dependence.shortened(np.arange(nearest, farthest + 1), LONGEST_LAG)
    return gaps - gaps.min(), pattern.ahead(np.arange(gaps.min(), gaps.max() + 1))


def _independent(values: Floats | Sequence[Floats], ahead: Ahead) -> Prediction:
    """Predict streams by the mean of two or more independent batches; the sums of squares need no matrix."""
    m, n_streams = len(values), _n_streams(values)
    mean, variance = np.empty((2, n_streams))
    step = 2 * BLOCK  # a few lines are worked on, no matrix
    room = np.empty(min(n_streams, step))
    for start in range(0, n_streams, step):
        block = slice(start, start + step)
        newest, total, squares = values[0][block], mean[block], variance[block]
        shifted = room[: len(newest)]
        np.subtract(values[1][block], newest, out=total)
        np.multiply(total, total, out=squares)
        for row in values[2:]:
            np.subtract(row[block], newest, out=shifted)
            total += shifted
            shifted *= shifted
            squares += shifted
        np.multiply(total, total, out=shifted)
        shifted *= 1.0 / m
        squares -= shifted
        squares *= 1.0 / (m - 1)
        np.maximum(squares, 0.0, out=squares)  # of rounding
        total *= 1.0 / m
        total += newest
    return Prediction(
        mean=mean, expected=mean, variance=variance, factor=for_all(float(ahead.factor[0]), n_streams),
        own=for_all(float(ahead.own[0]), n_streams), m=for_all(m, n_streams),
    )  # fmt: skip


def _weighted(weights: Floats, which: Ints, values: Floats) -> Floats:
    """Sums of values of shape (m, streams) with weights of shape (kinds, m), each stream of its own kind."""
    made = np.zeros(len(which))
    for weight, row in zip(weights.T, values, strict=True):
        made += np.ascontiguousarray(weight).take(which) * row
    return made
