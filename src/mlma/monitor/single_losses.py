"""Tests on the losses of single targets: Mann-Whitney, Kolmogorov-Smirnov, HAC mean; Welch in `batch_moments`.

They see more of each batch than the moderated test, and what they see depends on itself, which none of them
allows for; the manual has the false-alarm rates. They are kept to compare with, and the certificate watches them.
"""

from typing import Protocol

import numpy as np

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Floats, Ints
from mlma.core.loss_tests import hac_mean, kolmogorov_smirnov, mann_whitney
from mlma.core.settings import LossTestName
from mlma.monitor.membership import Members
from mlma.monitor.past_rows import PastRows
from mlma.monitor.references import References
from mlma.monitor.sham import Segments

TESTS = {
    LossTestName.MANN_WHITNEY: mann_whitney,
    LossTestName.KOLMOGOROV_SMIRNOV: kolmogorov_smirnov,
    LossTestName.HAC_MEAN: hac_mean,
}

CELLS = 1 << 22
"""Losses of references that are laid side by side at once (32 MiB)."""


class SingleLossTest(Protocol):
    """A test that looks at more of past batches than their means, and remembers it."""

    past: PastRows

    def p_value(self, summary: BatchSummary, members: Members, *, least: int) -> Floats:
        """One-sided p-values of a batch against a reference of ``least`` batches, shape (streams,); else NaN."""
        ...

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember."""
        ...

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        ...


class SingleLosses:
    """Losses of past batches, rows of shape (streams, targets), divided by the mean yardstick; NaN where missing."""

    def __init__(self, name: LossTestName, references: References) -> None:
        self._test = TESTS[name]
        self.past = PastRows.empty("single", references, (references.n_streams, 0), axis=1, nothing=np.nan)

    def p_value(self, summary: BatchSummary, members: Members, *, least: int) -> Floats:
        """One-sided p-values of a batch against a reference, shape (streams,); NaN where not ready."""
        recent, kept = _relative(summary), self.past.of(members)
        p = np.full(len(recent), np.nan)
        step = max(1, CELLS // max(1, sum(row.shape[1] for row in kept)))
        for start in range(0, len(p), step) if kept else ():
            some = slice(start, start + step)
            past = [row[some] for row in kept]
            if members.which is not None:
                past = [
                    np.where(which[some, None], row, np.nan) for row, which in zip(past, members.which, strict=True)
                ]
            p[some] = self._tested(recent[some], past, least=least)
        return p

    def _tested(self, recent: Floats, past: list[Floats], *, least: int) -> Floats:
        """p-values against all losses of several batches; NaN where fewer than ``least`` of them have losses."""
        n_batches = np.sum([~np.isnan(row).all(axis=1) for row in past], axis=0)
        return np.where(n_batches >= least, self._test(recent, np.hstack(past)).p_value, np.nan)

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember."""
        losses = _relative(summary)
        width = self.past.ring.shape[2]
        if losses.shape[1] > width:
            self.past.grow(losses.shape[1] - width, axis=2)
        missing = np.full((len(losses), self.past.ring.shape[2] - losses.shape[1]), np.nan)
        self.past.remember(np.hstack([losses, missing]), references)

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        newest = references.newest()

        def losses(position: Ints) -> Floats:
            made = self.past.ring[newest[segments.age(position)], segments.stream]
            made[segments.backwards] = made[segments.backwards, ::-1]
            return np.asarray(made * np.where(position >= segments.raised_from, 1.0 + segments.rise, 1.0)[:, None])

        past = []
        for back in range(min(size, int((segments.at - segments.start).max())), 0, -1):
            position = segments.at - back
            made = losses(np.maximum(position, 0))
            past.append(np.where((position >= segments.start)[:, None], made, np.nan))
        return self._tested(losses(segments.at), past, least=1)


def _relative(summary: BatchSummary) -> Floats:
    """Single losses, shape (streams, targets), divided by the mean of the first yardstick where there is any."""
    losses = summary.single
    assert losses is not None
    if not len(summary.yardsticks):
        return losses
    naive = summary.yardsticks[0]
    return losses / np.where(naive > 0.0, naive, np.nan)[:, None]
