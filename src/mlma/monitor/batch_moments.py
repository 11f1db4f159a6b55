"""Welch's test on the losses of single targets, from three numbers a batch instead of all its losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Floats, Ints
from mlma.core.loss_tests import welch_of_moments
from mlma.core.moments import Moments, pooled
from mlma.monitor.membership import Members, adaptive_members, anchored_members
from mlma.monitor.references import References
from mlma.monitor.sham import Segments

BLOCK = 16_384
"""Streams that are tested at once, so that what is made on the way stays in the cache."""


@dataclass
class BatchMoments:
    """Moments of the losses of past batches, divided by the mean yardstick; the rows are those of `References`.

    Attributes
    ----------
    ring, first
        Shape (3, rows, streams) and (3, frozen rows, streams): number, mean and squares; zero where there is nothing.
    """

    ring: Floats
    first: Floats

    @classmethod
    def empty(cls, references: References) -> "BatchMoments":
        """Before the first batch."""
        n = references.n_streams
        return cls(np.zeros((3, references.n_rows, n)), np.zeros((3, references.n_frozen, n)))

    def p_values(self, summary: BatchSummary, references: References, at: int) -> tuple[Floats, Floats]:
        """One-sided p-values of batch ``at`` against both references, shape (streams,); NaN where not ready."""
        recent, least = _relative(summary), references.settings.min_reference
        return (
            self._p_value(recent, adaptive_members(references, at), least=least),
            self._p_value(recent, anchored_members(references), least=least),
        )

    def _p_value(self, recent: Moments, members: Members, *, least: int) -> Floats:
        kept = self.first if members.are_frozen else self.ring
        p = np.full(len(recent.n), np.nan)
        if not len(members.rows):
            return p
        for start in range(0, len(p), BLOCK):
            some = slice(start, start + BLOCK)
            past = [Moments(*kept[:, row, some]) for row in members.rows]
            if members.which is not None:
                past = [part.where(which[some]) for part, which in zip(past, members.which, strict=True)]
            p[some] = _tested(Moments(*(part[some] for part in recent)), past, least=least)
        return p

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember."""
        recent, at = _relative(summary), references.batch
        row = int(np.flatnonzero(references.batches == at)[0])
        for kept, part in zip(self.ring, recent, strict=True):
            kept[row] = part
        if int(references.first_batch.max(initial=at - 1)) < at:  # nobody's frozen rows have room
            return
        rows, streams = np.nonzero(references.first_batch == at)
        for kept, part in zip(self.first, recent, strict=True):
            kept[rows, streams] = part[streams]

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        newest = references.newest()

        def moments(position: Ints) -> Moments:
            made = Moments(*self.ring[:, newest[segments.age(position)], segments.stream])
            return made.times(np.where(position >= segments.raised_from, 1.0 + segments.rise, 1.0))

        past = []
        for back in range(1, min(size, int((segments.at - segments.start).max())) + 1):
            position = segments.at - back
            past.append(moments(np.maximum(position, 0)).where(position >= segments.start))
        return _tested(moments(segments.at), past, least=1)

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        self.ring[:, :, streams] = 0.0
        self.first[:, :, streams] = 0.0

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.ring, self.first = (
            np.concatenate([kept, np.zeros((*kept.shape[:2], more))], axis=2) for kept in (self.ring, self.first)
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {"moments": self.ring, "first_moments": self.first}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave.

        Raises
        ------
        ValueError
            They are missing, because a version saved them that kept single losses.
        """
        if "moments" not in arrays:
            raise ValueError("the state was saved by a version that kept single losses for Welch's test")
        self.ring, self.first = arrays["moments"].copy(), arrays["first_moments"].copy()


def _tested(recent: Moments, past: list[Moments], *, least: int) -> Floats:
    """p-values against all losses of several batches together; NaN where fewer than ``least`` of them have losses."""
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
