"""Tests on the losses of single targets: Mann-Whitney, Kolmogorov-Smirnov, HAC mean; Welch in `batch_moments`.

They see more of each batch than the moderated test, and what they see depends on itself, which none of them
allows for; the manual has the false-alarm rates. They are kept to compare with, and the certificate watches them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Floats, Ints
from mlma.core.loss_tests import hac_mean, kolmogorov_smirnov, mann_whitney
from mlma.core.settings import LossTestName
from mlma.monitor.membership import adaptive_lags, anchored_lags
from mlma.monitor.references import References
from mlma.monitor.sham import Segments

TESTS = {
    LossTestName.MANN_WHITNEY: mann_whitney,
    LossTestName.KOLMOGOROV_SMIRNOV: kolmogorov_smirnov,
    LossTestName.HAC_MEAN: hac_mean,
}

KEPT_BATCHES = 32
"""Batches whose single losses are kept; an anchored reference older than that is not ready."""


class SingleLossTest(Protocol):
    """A test that looks at more of past batches than their means, and remembers it."""

    def p_values(self, summary: BatchSummary, references: References, at: int) -> tuple[Floats, Floats]:
        """One-sided p-values of batch ``at`` against both references, shape (streams,); NaN where not ready."""
        ...

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember."""
        ...

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        ...

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        ...

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        ...


@dataclass
class SingleLosses:
    """Losses of the newest batches, one array of shape (streams, targets) each, divided by the mean yardstick."""

    name: LossTestName
    kept: dict[int, Floats] = field(default_factory=dict)

    def remember(self, summary: BatchSummary, references: References) -> None:
        """Keep the newest batch that the references remember, and none that is too old."""
        at = references.batch
        self.kept[at] = _relative(summary)
        for old in [number for number in self.kept if number <= at - KEPT_BATCHES]:
            del self.kept[old]

    def p_values(self, summary: BatchSummary, references: References, at: int) -> tuple[Floats, Floats]:
        """One-sided p-values of batch ``at`` against both references, shape (streams,); NaN where not ready."""
        recent, least = _relative(summary), references.settings.min_reference
        return (
            self.p_value(recent, at, adaptive_lags(references, at), least=least),
            self.p_value(recent, at, anchored_lags(references, at), least=least),
        )

    def p_value(self, recent: Floats, batch: int, lags: Ints, *, least: int) -> Floats:
        """One-sided p-values of a batch against the batches at ``lags`` (rows, streams) before it; NaN not ready."""
        n_streams = len(recent)
        if lags.ndim == 1:  # the same for all streams
            lags = np.repeat(lags[:, None], n_streams, axis=1)
        columns, count = [], np.zeros(n_streams, dtype=np.int64)
        for lag in sorted({int(lag) for lag in np.unique(lags)} - {0}, reverse=True):
            past = self.kept.get(batch - lag)
            members = (lags == lag).any(axis=0)
            if past is None:
                continue
            columns.append(np.where(members[:, None], _padded(past, n_streams), np.nan))
            count += members
        if not columns:
            return np.full(n_streams, np.nan)
        p = TESTS[self.name](recent, np.hstack(columns)).p_value
        return np.where(count >= least, p, np.nan)

    def p_sham(self, segments: Segments, references: References, *, size: int) -> Floats:
        """p-values of sham streams, against at most ``size`` batches before the tested one; shape (tests,)."""
        batch = references.batch
        recent = self._losses(segments, segments.at, batch)
        past = []
        for back in range(min(size, int((segments.at - segments.start).max())), 0, -1):
            position = segments.at - back
            values = self._losses(segments, np.maximum(position, 0), batch)
            past.append(np.where((position >= segments.start)[:, None], values, np.nan))
        return TESTS[self.name](recent, np.hstack(past)).p_value

    def _losses(self, segments: Segments, position: Ints, batch: int) -> Floats:
        age = segments.age(position)
        width = self.kept[batch].shape[1]
        made = np.full((len(position), width), np.nan)
        for old in np.unique(age).tolist():
            kept = self.kept.get(batch - old)
            rows = np.flatnonzero(age == old)
            rows = rows[segments.stream[rows] < len(kept)] if kept is not None else rows
            if kept is not None:
                made[rows] = kept[segments.stream[rows]]
        made[segments.backwards] = made[segments.backwards, ::-1]
        return made * np.where(position >= segments.raised_from, 1.0 + segments.rise, 1.0)[:, None]

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        for losses in self.kept.values():
            losses[streams[streams < len(losses)]] = np.nan

    def grow(self, more: int) -> None:
        """Nothing to do: streams that a batch was without have no losses in it."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {f"single_{batch}": losses for batch, losses in self.kept.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        names = [name for name in arrays if name.startswith("single_")]
        self.kept = {int(name.removeprefix("single_")): arrays[name].copy() for name in names}


def _relative(summary: BatchSummary) -> Floats:
    """Single losses, shape (streams, targets), divided by the mean of the first yardstick where there is any."""
    losses = summary.single
    assert losses is not None
    if not len(summary.yardsticks):
        return losses
    naive = summary.yardsticks[0]
    return losses / np.where(naive > 0.0, naive, np.nan)[:, None]


def _padded(losses: Floats, n_streams: int) -> Floats:
    if len(losses) == n_streams:
        return losses
    return np.vstack([losses, np.full((n_streams - len(losses), losses.shape[1]), np.nan)])
