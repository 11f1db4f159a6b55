"""A loss monitor that tests nothing, for policies of a replay that never ask: testing costs as much as the rest."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import REASON_CODE, Bools, Floats, Ints
from mlma.core.decisions import Reason
from mlma.core.policy import ALARM_KINDS, Policy, PolicyKind
from mlma.monitor.monitor import LossMonitor
from mlma.monitor.verdicts import Verdicts


def asks_the_test(policy: Policy) -> bool:
    """Whether alarms, or the test's certificate, can change what a policy does."""
    return policy.kind is PolicyKind.MLMA or policy.kind in ALARM_KINDS


class Unwatched(LossMonitor):
    """Says of every batch that there was not enough to test."""

    def judge(self, summary: BatchSummary, *, batch: int | None = None, bad: Bools | None = None) -> Verdicts:  # noqa: ARG002  nothing is looked at
        """Verdicts without a test."""
        n = len(summary.mean_loss)
        missing, no = np.full(n, np.nan), np.zeros(n, dtype=np.bool_)
        return Verdicts(
            batch=-1 if batch is None else batch, p_value=missing, p_adaptive=missing, p_anchored=missing,
            effect=missing, ready=no, alarm=no, reason_code=np.full(n, REASON_CODE[Reason.NOT_READY], dtype=np.int8),
            incident=np.full(n, -1, dtype=np.int64), incidents=(), certificate=self.certificate,
            mean_loss=summary.mean_loss, tested=missing, n=summary.n, n_reference=np.zeros(n, dtype=np.int64),
        )  # fmt: skip

    def reset(self, mask: ArrayLike) -> None:
        """Nothing is remembered."""

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Nothing is remembered."""

    def remembered(self) -> Ints:
        """No batch."""
        return np.zeros(0, dtype=np.int64)

    def reference_losses(self, batch: int) -> tuple[Floats, Floats]:  # noqa: ARG002  there is no reference
        """No number for any stream."""
        missing = np.full(self.n_streams, np.nan)
        return missing, missing

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing is remembered."""
        return {}
