"""Columns that cross the ports in bulk: observations, forecasts, losses and decisions as parallel arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mlma.core.decisions import Action, Hold, Phase, Reason
from mlma.core.records import Decision

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ACTIONS: tuple[Action, ...] = tuple(Action)
REASONS: tuple[Reason, ...] = tuple(Reason)
HOLDS: tuple[Hold, ...] = tuple(Hold)
"""Arrays hold the position of a member in these tuples (int8 codes)."""

ACTION_CODE = {member: code for code, member in enumerate(ACTIONS)}
REASON_CODE = {member: code for code, member in enumerate(REASONS)}
HOLD_CODE = {member: code for code, member in enumerate(HOLDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationBlock:
    """Admitted observations in long form, all arrays of shape (n,); sorted by slot, then stream."""

    stream_id: Ints
    slot: Ints
    y: Floats  # finite

    def __len__(self) -> int:
        return len(self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedBlock:
    """Admitted forecasts of versions that forecast elsewhere, all arrays of shape (n,); sorted by slot, then stream.

    ``version`` indexes ``versions``.
    """

    stream_id: Ints
    slot: Ints  # of the target
    forecast: Floats  # finite
    version: Ints
    versions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.slot)

    def part(self, chosen: Bools | Ints) -> "ArrivedBlock":
        """Some of the forecasts, by mask or position."""
        return ArrivedBlock(
            stream_id=self.stream_id[chosen],
            slot=self.slot[chosen],
            forecast=self.forecast[chosen],
            version=self.version[chosen],
            versions=self.versions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBlock:
    """Forecasts as issued by one shard, all arrays of shape (n,).

    ``forecast`` is what was served; ``naive`` the seasonal naive forecast of the same target (NaN when the
    stream has no past). ``version`` indexes ``versions``.
    """

    origin_first: int  # first and last origin (slots) of the block
    origin_last: int
    stream_id: Ints
    slot: Ints  # of the target
    forecast: Floats
    naive: Floats
    version: Ints
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberBlock:
    """Forecasts of every member of the pools of one shard, with the weights they were served at; m rows.

    ``member`` indexes ``members``. The targets are those of the origins from the first to the last.
    """

    origin_first: int  # first and last origin (slots) of the block
    origin_last: int
    stream_id: Ints  # (m,)
    seat: Ints  # (m,) position in the stream's pool
    member: Ints  # (m,)
    members: tuple[str, ...]
    weight: Floats  # (m,) in what is served
    inner: Floats  # (m,) among the trained versions, or among the other members
    shift: Floats  # (m,) recalibration: shift + slope * forecast is what takes part
    slope: Floats  # (m,)
    forecast: Floats  # (m, targets); NaN where the member gave none


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBlock:
    """The pools of the fleet after a batch was scored: who sits where, with what losses; m rows.

    ``member`` indexes ``members``.
    """

    batch: int
    stream_id: Ints  # (m,)
    seat: Ints  # (m,) position in the stream's pool
    member: Ints  # (m,)
    members: tuple[str, ...]
    loss: Floats  # (m,) mean over the batch; NaN where it gave too few forecasts
    recent: Floats  # (m,) exponential mean of these over the batches
    mass: Floats  # (m,) how much past that mean stands for: 0 for none, towards 1
    weight: Floats  # (m,) from the next batch on
    recalibration: Floats  # (m, sums), see `mlma.core.recalibration`
    comparison: Floats  # (m, numbers), see `mlma.runtime.contests`
    account: Mapping[str, Floats]  # (streams,) each, see `mlma.core.account.Account`


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitBlock:
    """What the evergreen members of one shard learned after a batch."""

    batch: int
    stream_ids: Ints  # (streams,)
    families: tuple[str, ...]
    parameters: Floats  # (streams, parameters), of all families together


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBlock:
    """One batch of one shard, arrays of shape (streams, batch slots); NaN where outcome or forecast is missing."""

    batch: int
    stream_ids: Ints  # (streams,)
    y: Floats
    forecast: Floats
    naive: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionBlock:
    """Decisions of one batch and phase as columns, all arrays of shape (streams,); codes are int8."""

    batch: int
    phase: Phase
    decided_at: datetime
    stream_id: Ints
    action: NDArray[np.int8]
    proposed: NDArray[np.int8]
    reason: NDArray[np.int8]
    held_by: NDArray[np.int8]
    n: Ints
    mean_loss: Floats
    naive_loss: Floats
    p_value: Floats
    effect: Floats
    adaptive_mean: Floats
    anchored_mean: Floats
    n_reference: Ints
    version_id: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.stream_id)

    def decision(self, row: int) -> Decision:
        """One row of the block as a record."""
        return Decision(
            stream_id=int(self.stream_id[row]),
            batch=self.batch,
            phase=self.phase,
            action=ACTIONS[self.action[row]],
            proposed=ACTIONS[self.proposed[row]],
            reason=REASONS[self.reason[row]],
            held_by=HOLDS[self.held_by[row]],
            decided_at=self.decided_at,
            n=int(self.n[row]),
            mean_loss=float(self.mean_loss[row]),
            naive_loss=float(self.naive_loss[row]),
            p_value=float(self.p_value[row]),
            effect=float(self.effect[row]),
            adaptive_mean=float(self.adaptive_mean[row]),
            anchored_mean=float(self.anchored_mean[row]),
            n_reference=int(self.n_reference[row]),
            version_id=self.version_id[row],
        )

    def decisions(self) -> Iterator[Decision]:
        """Rows of the block as records, in order."""
        return (self.decision(row) for row in range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """Sums over the scored targets of the batches where both the served and the naive loss exist, shape (streams,).

    Of ``n * mean_loss`` and of ``n * naive_loss``, one entry for each stream with a decision in one of the batches.
    """

    loss: Floats
    naive_loss: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodTotals:
    """Sums over a period, so that a digest reads no routine decision one by one.

    Arrays have shape (streams,), one entry for each stream with a batch decision in the period. Losses are
    summed as in `LossSums`.
    """

    n_batches: int  # distinct batches that were closed
    n_trainings: int  # versions trained, failed ones included
    fit_cpu_s: float
    stream_id: Ints
    n_tested: Ints  # batches with a p-value
    loss: Floats
    naive_loss: Floats
