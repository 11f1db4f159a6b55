"""The drifts that `benchmarks.detection` injects into healthy losses, and what counts as finding them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.detection_processes import Process, Rng
from mlma.core.blocks import Floats

RAMP = 1.01  # a batch
SHOCK = 2.0
WIDER = 1.25  # mean of losses that also spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One change of the losses.

    Attributes
    ----------
    factor
        Of the mean loss, from the numbers of the batches since the onset, shape (batches,).
    horizon
        Batches within which an alarm finds the drift; None for the horizon of the run.
    is_long
        Whether the run is the long one.
    spreads
        Whether losses also spread about their mean.
    is_contest
        Whether it counts among the cells that are won or lost: the mean loss rises.
    """

    name: str
    factor: Callable[[Floats], Floats]
    horizon: int | None = None
    is_long: bool = False
    spreads: bool = False
    is_contest: bool = True


def _step(factor: float) -> Callable[[Floats], Floats]:
    return lambda since: np.full(since.shape, factor)


NONE = Drift(name="none", factor=_step(1.0), is_long=True, is_contest=False)
DRIFTS = (
    Drift(name="step +10 %", factor=_step(1.10)),
    Drift(name="step +25 %", factor=_step(1.25)),
    Drift(name="step +50 %", factor=_step(1.50)),
    Drift(name="step +100 %", factor=_step(2.00)),
    Drift(name="ramp +1 % a batch", factor=lambda since: RAMP ** (since + 1.0), is_long=True),
    Drift(name="spread, mean +25 %", factor=_step(WIDER), spreads=True),
    Drift(name="shock x2, 1 batch", factor=lambda since: np.where(since == 0.0, SHOCK, 1.0), horizon=1),
    Drift(name="spread, mean equal", factor=_step(1.0), spreads=True, is_contest=False),
    NONE,
)


def possible(process: Process, drift: Drift) -> bool:
    """Whether losses of this kind can drift so: the spread of 0/1 losses follows from their mean."""
    return not drift.spreads or process.spread is not None


def injected(process: Process, drift: Drift, losses: Floats, *, onset: int, rng: Rng) -> Floats:
    """Losses with the drift from batch ``onset`` on.

    Parameters
    ----------
    losses
        Healthy, shape (streams, batches, n).
    onset
        First batch that is changed.
    rng
        For drifts that add chance.

    Returns
    -------
    Floats
        The same shape; batches before the onset are untouched.
    """
    if drift is NONE:
        return losses
    before, after = losses[:, :onset], losses[:, onset:]
    factor = drift.factor(np.arange(after.shape[1], dtype=np.float64))
    change = process.spread if drift.spreads else process.raised
    if change is None:
        raise ValueError(f"{process.name}: losses cannot drift by {drift.name}")
    return np.concatenate([before, change(rng, after, factor)], axis=1)
