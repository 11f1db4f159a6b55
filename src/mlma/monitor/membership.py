"""Which remembered batches a batch is compared with, and what they predict.

Most streams of a fleet are compared with the same batches. These are predicted all at once, row by row, as if every
stream were like them, and the others (retrained not long ago, batches missing or excluded) once more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlma.core import reference
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.prediction import LONGEST_LAG, Dependence, Prediction, lags_of, predict
from mlma.core.settings import ReferencePolicy, TestingSettings
from mlma.monitor.references import NEVER, Kept, References, values_of

EVERYONE = slice(None)

SAMPLE = 128
"""Streams that are looked at to find out which batches most streams have."""


def predict_adaptive(references: References, at: int, beta: Floats, dependence: Dependence) -> Prediction:
    """Predict batch ``at`` from the adaptive reference."""
    settings = references.settings
    if settings.reference is ReferencePolicy.FIXED:
        return _from_frozen(references, at, settings.reference_size, beta, dependence)
    if settings.reference is ReferencePolicy.BEST:
        return predict(references.values(references.newest(), beta), adaptive_lags(references, at), dependence)
    rows = references.newest()
    latest = rows[: _size(references)]
    if _have_all(references, latest):
        values = _rows(references.log_loss, references.log_yardsticks, latest, beta)
        return predict(values, at - references.batches[latest], dependence)
    usual = _usual(references, rows)
    values = _rows(references.log_loss, references.log_yardsticks, usual, beta)
    made = predict(values, at - references.batches[usual], dependence)
    is_other = np.isnan(made.mean)
    passed = rows[: int(np.flatnonzero(rows == usual[-1])[0])] if len(usual) == _size(references) else rows
    for row in np.setdiff1d(passed, usual) if len(passed) > len(usual) else ():  # what most streams lack, some have
        is_other |= _valid(references, row[None])[0]
    if references.excluded is not None:
        is_other |= references.excluded[usual].any(axis=0)
    others = np.flatnonzero(is_other)
    if len(others):
        part = references.values(rows, beta, others)
        valid = np.isfinite(part)
        if references.excluded is not None:
            valid &= ~references.excluded.take(others, axis=1)[rows]
        made = made.replaced(others, predict(part, _newest_lags(references, at, rows, valid), dependence))
    return made


def predict_anchored(references: References, at: int, beta: Floats, dependence: Dependence) -> Prediction:
    """Predict batch ``at`` from the anchored reference; what it said before is taken where nothing changed."""
    if references.kept is not None and references.kept.is_for(beta, dependence):
        return references.kept.prediction
    made = _from_frozen(references, at, references.settings.anchored_size, beta, dependence)
    newest = int(references.first_batch.max(initial=NEVER))
    is_for_ever = dependence.repeats == 0.0 and at - newest >= dependence.reach(LONGEST_LAG)
    references.kept = None
    if is_for_ever:
        references.kept = Kept(prediction=made, newest=newest, beta=beta.copy(), dependence=dependence)
    return made


def adaptive_lags(references: References, at: int) -> Ints:
    """How old the adaptive reference of batch ``at`` is, (rows, streams) from the newest row, 0 for no member."""
    settings = references.settings
    if settings.reference is ReferencePolicy.FIXED:
        return _frozen_lags(references, at, settings.reference_size)
    rows = references.newest()
    if settings.reference is not ReferencePolicy.BEST:
        return _newest_lags(references, at, rows, _valid(references, rows))
    past = np.where(_valid(references, rows), references.log_loss[rows], np.nan)[::-1].T
    since = np.full(references.n_streams, NEVER, dtype=np.int64)
    members = reference.membership(
        past, np.arange(len(rows)), since, policy=ReferencePolicy.BEST, size=settings.reference_size
    )
    return lags_of(references.batches[rows], at, members.T[::-1])


class Members(NamedTuple):
    """Rows that a reference is made of, the oldest first.

    Attributes
    ----------
    rows
        Of the frozen rows where ``are_frozen``, else of the ring.
    which
        Shape (rows, streams): for which streams; None for all that have something in them.
    """

    are_frozen: bool
    rows: Ints
    which: Bools | None


def adaptive_members(references: References, at: int) -> Members:
    """The rows of `adaptive_lags`."""
    settings = references.settings
    if settings.reference is ReferencePolicy.FIXED:
        return _frozen_members(references, settings.reference_size)
    rows = references.newest()
    latest = rows[: _size(references)]
    if settings.reference is not ReferencePolicy.BEST and _have_all(references, latest):
        return Members(are_frozen=False, rows=latest[::-1], which=None)
    which = adaptive_lags(references, at) > 0
    n_rows = int(np.flatnonzero(which.any(axis=1)).max(initial=-1)) + 1
    return Members(are_frozen=False, rows=rows[:n_rows][::-1], which=which[:n_rows][::-1])


def anchored_members(references: References) -> Members:
    """The rows of `anchored_lags`."""
    return _frozen_members(references, references.settings.anchored_size)


def _frozen_members(references: References, size: int) -> Members:
    excluded = references.first_excluded
    which = None if excluded is None else ~excluded[:size]
    return Members(are_frozen=True, rows=np.arange(size), which=which)


def _have_all(references: References, rows: Ints) -> bool:
    """Whether nobody lacks any of some rows."""
    return bool(len(rows) and references.excluded is None and references.is_complete[rows].all())


def anchored_lags(references: References, at: int) -> Ints:
    """The same of the anchored reference."""
    return _frozen_lags(references, at, references.settings.anchored_size)


def is_nested(references: References, adaptive: Prediction, streams: Ints) -> Bools:
    """Whether the anchored reference of streams is part of the adaptive one; (streams,)."""
    size, rows = _size(references), references.newest()
    oldest = references.batches[rows[:size][-1]] if len(rows) else NEVER
    first = references.first_batch[:1]
    is_full, kept = adaptive.sizes[0] >= size, references.kept
    is_old = (kept is not None and kept.newest < oldest) or int(first.max(initial=NEVER)) < oldest
    inside = np.zeros(len(streams), dtype=np.bool_) if is_full else adaptive.m[streams] < size
    if not is_old:
        inside |= first[0][streams] >= oldest
    return nested_by_policy(references.settings, inside)


def nested_by_policy(settings: TestingSettings, inside: Bools) -> Bools:
    """``inside``, unless the policy for the adaptive reference decides about it."""
    if settings.anchored_size and settings.reference not in (ReferencePolicy.FIXED, ReferencePolicy.BEST):
        return inside
    return np.full(inside.shape, settings.reference is ReferencePolicy.FIXED)


def mean_losses(references: References, at: int) -> tuple[Floats, Floats]:
    """Mean loss over the adaptive and over the anchored reference of batch ``at``, shape (streams,), for people."""
    settings = references.settings
    anchored = _mean(references.first_loss[: settings.anchored_size][::-1], anchored_lags(references, at) > 0)
    if settings.reference is ReferencePolicy.FIXED:
        rows = references.first_loss[: settings.reference_size][::-1]
    else:
        rows = references.loss[references.newest()]
    return _mean(rows, adaptive_lags(references, at) > 0), anchored


def _size(references: References) -> int:
    is_sliding = references.settings.reference is ReferencePolicy.SLIDING
    return max(2, references.size // 2) if is_sliding else references.size


def _usual(references: References, rows: Ints) -> Ints:
    """The rows that the reference of most streams consists of, newest first."""
    some = slice(None, None, max(1, references.n_streams // SAMPLE))
    has_most = np.count_nonzero(_valid(references, rows, some), axis=1) * 2 > len(range(references.n_streams)[some])
    return np.asarray(rows[has_most][: _size(references)], dtype=np.int64)


def _rows(logs: Floats, yards: Floats, rows: Ints, beta: Floats) -> Floats | Sequence[Floats]:
    """Tested numbers of some rows, without a copy where there is no yardstick."""
    if len(beta) or not len(rows):
        return values_of(logs, yards, rows, beta)
    return [logs[row] for row in rows]


def _valid(references: References, rows: Ints, streams: slice = EVERYONE) -> Bools:
    """Whether a row of the ring may be in a stream's reference, shape (rows, streams)."""
    valid = np.isfinite(references.log_loss[rows, streams])
    for yard in references.log_yardsticks:
        valid &= np.isfinite(yard[rows, streams])
    if references.excluded is not None:
        valid &= ~references.excluded[rows, streams]
    return valid


def _newest_lags(references: References, at: int, rows: Ints, valid: Bools) -> Ints:
    is_member = valid & (np.cumsum(valid, axis=0, dtype=np.int16) <= _size(references))
    return lags_of(references.batches[rows], at, is_member)


def _from_frozen(references: References, at: int, size: int, beta: Floats, dependence: Dependence) -> Prediction:
    """Predict batch ``at`` from the first ``size`` batches since the last reset."""
    n_first = np.minimum(references.n_first, size)
    some = n_first[:: max(1, references.n_streams // SAMPLE)]
    usual = int(np.argmax(np.bincount(some))) if len(some) else 0
    is_other = n_first != usual
    if not usual:
        made = Prediction.nothing(references.n_streams)
    else:  # most streams have so many batches, one right after the other
        first, last = references.first_batch[0], references.first_batch[usual - 1]
        is_other |= last - first != usual - 1
        if references.first_excluded is not None:
            is_other |= references.first_excluded[:usual].any(axis=0)
        further = at - 1 - last
        further[np.flatnonzero(is_other)] = 0
        values = _rows(references.first_log_loss, references.first_log_yardsticks, np.arange(usual)[::-1], beta)
        made = predict(values, np.arange(1, usual + 1), dependence, further=further)
    others = np.flatnonzero(is_other)
    if len(others):
        part = references.frozen_values(np.arange(size)[::-1], beta, others)
        made = made.replaced(others, predict(part, _frozen_lags(references, at, size, others), dependence))
    return made


def _frozen_lags(references: References, at: int, size: int, streams: Ints | slice = EVERYONE) -> Ints:
    batch = references.first_batch[:size][::-1, streams].astype(np.int64)
    members = batch > NEVER
    if references.first_excluded is not None:
        members &= ~references.first_excluded[:size][::-1, streams]
    return lags_of(batch, at, members)


def _mean(losses: NDArray[np.floating], members: Bools) -> Floats:
    """Mean over rows of the members, NaN without any."""
    count = np.count_nonzero(members, axis=0)
    total = np.sum(losses, axis=0, where=members, dtype=np.float64)
    made = np.full(losses.shape[1], np.nan)
    np.divide(total, count, out=made, where=count > 0)
    return made
