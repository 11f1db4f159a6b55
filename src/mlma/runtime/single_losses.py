"""The losses of single targets that the two-sample tests compare; the moderated test does not need them."""

from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_tests import hac_mean, welch
from mlma.core.rank_tests import kolmogorov_smirnov, mann_whitney
from mlma.core.settings import LossTestName, TestingSettings, Yardstick

TESTS = {
    LossTestName.WELCH: welch,
    LossTestName.MANN_WHITNEY: mann_whitney,
    LossTestName.KOLMOGOROV_SMIRNOV: kolmogorov_smirnov,
    LossTestName.HAC_MEAN: hac_mean,
}

KEPT_BATCHES = 32
"""Batches whose single losses are kept; an anchored reference older than that is not ready."""


@dataclass
class SingleLosses:
    """Losses of the newest batches, one array of shape (streams, batch) each."""

    settings: TestingSettings
    _kept: dict[int, Floats] = field(default_factory=dict)

    def add(self, batch: int, losses: Floats, naive_mean: Floats) -> None:
        """Keep the losses of a closed batch, relative to the naive loss when that is the yardstick."""
        if self.settings.name is LossTestName.MODERATED:
            return
        if self.settings.yardstick is Yardstick.NAIVE:
            losses = losses / np.where(naive_mean > 0, naive_mean, np.nan)[:, None]
        self._kept[batch] = losses
        for old in [kept for kept in self._kept if kept <= batch - KEPT_BATCHES]:
            del self._kept[old]

    def p_values(self, batches: Ints, adaptive: Bools, anchored: Bools) -> tuple[Floats, Floats]:
        """One-sided p-values of the newest batch against both references, shape (streams,); NaN when not ready.

        Parameters
        ----------
        batches
            Shape (M,): the past batches that the columns of the memberships stand for.
        adaptive, anchored
            Shape (streams, M).
        """
        n_streams = len(adaptive)
        absent = np.full(n_streams, np.nan)
        test = TESTS.get(self.settings.name)
        if test is None or not self._kept:
            return absent, absent
        recent = self._padded(max(self._kept), n_streams)
        made = []
        for members in (adaptive, anchored):
            columns = [i for i, batch in enumerate(batches.tolist()) if batch in self._kept and members[:, i].any()]
            enough = members[:, columns].sum(axis=1) >= self.settings.min_reference
            if not columns or not enough.any():
                made.append(absent)
                continue
            reference = np.hstack(
                [np.where(members[:, [i]], self._padded(int(batches[i]), n_streams), np.nan) for i in columns]
            )
            made.append(np.where(enough, test(recent, reference).p_value, np.nan))
        return made[0], made[1]

    def _padded(self, batch: int, n_streams: int) -> Floats:
        kept = self._kept[batch]
        if len(kept) == n_streams:
            return kept
        return np.vstack([kept, np.full((n_streams - len(kept), kept.shape[1]), np.nan)])
