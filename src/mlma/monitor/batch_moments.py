"""Welch's test on the losses of single targets, from three numbers a batch instead of all its losses."""

import numpy as np

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Floats, Ints
from mlma.core.loss_tests import welch_of_moments
from mlma.core.moments import Moments, pooled
from mlma.monitor.membership import Members
from mlma.monitor.past_rows import PastRows
from mlma.monitor.references import References
from mlma.monitor.sham import Segments

BLOCK = 16_384
"""Streams that are tested at once, so that what is made on the way stays in the cache."""


class BatchMoments:
    """Moments of the losses of past batches, rows of shape (3, streams), divided by the mean yardstick."""

    def __init__(self, references: References) -> None:
        self.past = PastRows.empty("moments", references, (3, references.n_streams), axis=2, nothing=0.0)

    def p_value(self, summary: BatchSummary, members: Members, *, least: int) -> Floats:
        """One-sided p-values of a batch against a reference, shape (streams,); NaN where not ready."""
        recent, kept = _relative(summary), self.past.of(members)
        p = np.full(len(recent.n), np.nan)
        for start in range(0, len(p), BLOCK) if kept else ():
            some = slice(start, start + BLOCK)
            past = [Moments(*row[:, some]) for row in kept]
            if members.which is not None:
                past = [part.where(which[some]) for part, which in zip(past, members.which, strict=True)]
            p[some] = _tested(Moments(*(part[some] for part in recent)), past, least=least)
        return p

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember."""
        self.past.remember(np.stack(_relative(summary)), references)

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        newest = references.newest()

        def moments(position: Ints) -> Moments:
            made = Moments(*self.past.ring[newest[segments.age(position)], :, segments.stream].T)
            return made.times(np.where(position >= segments.raised_from, 1.0 + segments.rise, 1.0))

        past = []
        for back in range(1, min(size, int((segments.at - segments.start).max())) + 1):
            position = segments.at - back
            past.append(moments(np.maximum(position, 0)).where(position >= segments.start))
        return _tested(moments(segments.at), past, least=1)


def _tested(recent: Moments, past: list[Moments], *, least: int) -> Floats:
    """p-values against all losses of several batches together; NaN where fewer than ``least`` of them have losses.

    NaN too where squares of the losses are beyond the range of floating point.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        p = welch_of_moments(recent, pooled(past)).p_value
    n_batches = np.zeros(len(p), dtype=np.int64)
    for part in past:
        n_batches += part.n > 0.0
    return p if (n_batches >= least).all() else np.where(n_batches >= least, p, np.nan)


def _relative(summary: BatchSummary) -> Moments:
    """Moments divided by the mean of the first yardstick where there is any; nothing where that is zero."""
    made = summary.moments
    assert made is not None
    if not len(summary.yardsticks):
        return made
    naive = summary.yardsticks[0]
    known = naive > 0.0
    return made.times(1.0 / np.where(known, naive, 1.0)).where(known)
