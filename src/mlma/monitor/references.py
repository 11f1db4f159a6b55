"""What is remembered of past batches: a ring of the newest ones, and the first ones since the last reset, frozen.

Arrays are time-major, (rows, streams): a batch writes one row, and a fleet is predicted row by row. Values are
stored cleaned of what the fleet had in common, so a storm of the past does not disturb a later comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core import reference
from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.prediction import PARTS, Dependence, Prediction, lags_of, predict
from mlma.core.settings import ReferencePolicy, TestingSettings
from mlma.monitor.floors import Floors

NEVER = -(2**31)
"""Number of a batch that never was."""

RING = ("loss", "log_loss", "first_loss", "first_log_loss", "first_batch")
YARDS = ("log_yardsticks", "first_log_yardsticks")


def nothing(*shape: int) -> Floats:
    """Array of NaN."""
    return np.full(shape, np.nan)


@dataclass
class References:
    """Past batches of ``n_streams`` streams; ``batch`` is the number of the newest one."""

    settings: TestingSettings
    n_streams: int
    n_yardsticks: int
    batch: int = -1
    batches: Ints = field(init=False)  # shape (rows,)
    loss: Floats = field(init=False)  # mean losses, shape (rows, streams)
    log_loss: Floats = field(init=False)  # their logs, cleaned
    log_yardsticks: Floats = field(init=False)  # shape (k, rows, streams)
    first_batch: Ints = field(init=False)  # shape (frozen rows, streams)
    first_loss: Floats = field(init=False)
    first_log_loss: Floats = field(init=False)
    first_log_yardsticks: Floats = field(init=False)
    floors: Floors = field(init=False)
    excluded: Bools | None = None  # shape (rows, streams): batches that an engineer declared bad
    first_excluded: Bools | None = None

    def __post_init__(self) -> None:
        rows, frozen = self.n_rows, self.n_frozen
        self.batches = np.full(rows, NEVER, dtype=np.int64)
        self.loss, self.log_loss = nothing(rows, self.n_streams), nothing(rows, self.n_streams)
        self.log_yardsticks = nothing(self.n_yardsticks, rows, self.n_streams)
        self.first_batch = np.full((frozen, self.n_streams), NEVER, dtype=np.int64)
        self.first_loss, self.first_log_loss = nothing(frozen, self.n_streams), nothing(frozen, self.n_streams)
        self.first_log_yardsticks = nothing(self.n_yardsticks, frozen, self.n_streams)
        self.floors = Floors(self.n_streams)

    @property
    def n_rows(self) -> int:
        """Batches in the ring: the reference, and room for as many that are missing or excluded."""
        return 2 * max(4, self.size)

    @property
    def size(self) -> int:
        """Batches of the adaptive reference; two seasons at least, where there is one."""
        return max(self.settings.reference_size, 2 * self.settings.season if self.settings.season > 1 else 0)

    @property
    def n_frozen(self) -> int:
        """Batches that are frozen after a reset."""
        is_fixed = self.settings.reference is ReferencePolicy.FIXED
        return max(self.settings.anchored_size, self.settings.reference_size if is_fixed else 0)

    def newest(self) -> Ints:
        """Rows of the ring that hold a batch, newest first."""
        return np.argsort(-self.batches, kind="stable")[: np.count_nonzero(self.batches > NEVER)]

    # membership

    def predict_adaptive(self, at: int, beta: Floats, dependence: Dependence) -> Prediction:
        """Predict batch ``at`` from the adaptive reference."""
        settings = self.settings
        if settings.reference is ReferencePolicy.FIXED:
            return predict(self.frozen_values(beta), self._frozen_lags(at, settings.reference_size), dependence)
        rows = self.newest()
        if settings.reference is ReferencePolicy.BEST:
            return predict(self.values(rows, beta), self.adaptive_lags(at), dependence)
        # Most streams have all of the newest batches: all are predicted as if, and the others once more.
        newest = rows[: self._size()]
        values = self.values(newest, beta)
        complete = np.isfinite(values.sum(axis=0)) if len(newest) else np.ones(self.n_streams, dtype=np.bool_)
        if self.excluded is not None:
            complete &= ~self.excluded[newest].any(axis=0)
        made = predict(values, at - self.batches[newest], dependence)
        others = np.flatnonzero(~complete)
        if len(others):
            part = predict(self.values(rows, beta, others), self._ring_lags(at, rows, others), dependence)
            for name in PARTS:
                getattr(made, name)[others] = getattr(part, name)
        return made

    def predict_anchored(self, at: int, beta: Floats, dependence: Dependence) -> Prediction:
        """Predict batch ``at`` from the anchored reference."""
        return predict(self.frozen_values(beta), self.anchored_lags(at), dependence)

    def adaptive_lags(self, at: int) -> Ints:
        """How old the members of the adaptive reference of batch ``at`` are, newest first, 0 for no member."""
        settings = self.settings
        if settings.reference is ReferencePolicy.FIXED:
            return self._frozen_lags(at, settings.reference_size)
        rows = self.newest()
        everyone = np.arange(self.n_streams)
        if settings.reference is not ReferencePolicy.BEST:
            return self._ring_lags(at, rows, everyone)
        past = np.where(self._valid(rows, everyone), self.log_loss[rows], np.nan)[::-1].T
        since = np.full(self.n_streams, NEVER, dtype=np.int64)
        members = reference.membership(
            past, np.arange(len(rows)), since, policy=ReferencePolicy.BEST, size=settings.reference_size
        )
        return lags_of(self.batches[rows], at, members.T[::-1])

    def anchored_lags(self, at: int) -> Ints:
        """The same of the frozen batches."""
        return self._frozen_lags(at, self.settings.anchored_size)

    def nested(self, m: Ints) -> Bools:
        """Whether the anchored reference is part of the adaptive one, which has ``m`` batches; shape (streams,)."""
        policy = self.settings.reference
        if policy in (ReferencePolicy.FIXED, ReferencePolicy.BEST) or not len(self.first_batch):
            return np.full(self.n_streams, policy is ReferencePolicy.FIXED)
        newest = self.newest()[: self._size()]
        oldest = self.batches[newest[-1]] if len(newest) else NEVER
        return np.asarray((m < self._size()) | (self.first_batch[0] >= oldest))

    def _size(self) -> int:
        return max(2, self.size // 2) if self.settings.reference is ReferencePolicy.SLIDING else self.size

    def _valid(self, rows: Ints, streams: Ints) -> Bools:
        valid = np.isfinite(self.log_loss[np.ix_(rows, streams)])
        for yard in self.log_yardsticks:
            valid &= np.isfinite(yard[np.ix_(rows, streams)])
        if self.excluded is not None:
            valid &= ~self.excluded[np.ix_(rows, streams)]
        return valid

    def _ring_lags(self, at: int, rows: Ints, streams: Ints) -> Ints:
        valid = self._valid(rows, streams)
        return lags_of(self.batches[rows], at, valid & (np.cumsum(valid, axis=0, dtype=np.int16) <= self._size()))

    def _frozen_lags(self, at: int, size: int) -> Ints:
        if not len(self.first_batch) or self.n_streams == 0:
            return np.zeros((0, self.n_streams), dtype=np.int64)
        if self.first_excluded is None and bool((self.first_batch == self.first_batch[:, :1]).all()):
            column = self.first_batch[:, 0]
            lags = np.where(column > NEVER, at - column, 0)
            lags[size:] = 0
            return lags[::-1]
        members = self.first_batch > NEVER
        if self.first_excluded is not None:
            members &= ~self.first_excluded
        members[size:] = False
        return lags_of(self.first_batch, at, members)[::-1]

    def values(self, rows: Ints, beta: Floats, streams: Ints | slice | None = None) -> Floats:
        """Tested numbers of rows of the ring, shape (rows, streams), of some streams or of all."""
        pick = (rows, slice(None)) if streams is None else (rows[:, None], streams)
        if isinstance(streams, slice):
            pick = (rows, streams)
        made = self.log_loss[pick].copy()
        for coefficient, yard in zip(beta, self.log_yardsticks, strict=True):
            made -= coefficient * yard[pick]
        return made

    def frozen_values(self, beta: Floats) -> Floats:
        """Tested numbers of the frozen batches, newest first, shape (frozen rows, streams)."""
        if not len(self.log_yardsticks):
            return self.first_log_loss[::-1]
        made = self.first_log_loss[::-1].copy()
        for coefficient, yard in zip(beta, self.first_log_yardsticks, strict=True):
            made -= coefficient * yard[::-1]
        return made

    def mean_losses(self, at: int) -> tuple[Floats, Floats]:
        """Mean loss over the adaptive and over the anchored reference of batch ``at``, shape (streams,), for people."""
        is_fixed = self.settings.reference is ReferencePolicy.FIXED
        first = self.first_loss[::-1]
        adaptive = first if is_fixed else self.loss[self.newest()]
        return _mean(adaptive, self.adaptive_lags(at) > 0), _mean(first, self.anchored_lags(at) > 0)

    # change

    def push(self, summary: BatchSummary, log_loss: Floats, log_yardsticks: Floats, *, batch: int) -> None:
        """Remember a batch: its mean losses, and the cleaned logs of shape (streams,) and (k, streams)."""
        row = int(np.argmin(self.batches))
        self.batch, self.batches[row] = batch, batch
        self.loss[row], self.log_loss[row] = summary.mean_loss, log_loss
        self.log_yardsticks[:, row] = log_yardsticks
        if self.excluded is not None:
            self.excluded[row] = False
        free = self.first_batch == NEVER
        if not free.any():
            return
        streams = np.flatnonzero(free.any(axis=0) & np.isfinite(log_loss))
        at = np.argmax(free[:, streams], axis=0)
        self.first_batch[at, streams] = batch
        self.first_loss[at, streams], self.first_log_loss[at, streams] = summary.mean_loss[streams], log_loss[streams]
        self.first_log_yardsticks[:, at, streams] = log_yardsticks[:, streams]

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Leave batches out of every reference; ``mask`` is (streams, batches). Replaces what was said before."""
        order = np.argsort(batches)
        known = batches[order]

        def told(number: Ints) -> tuple[Ints, Bools]:
            at = np.minimum(np.searchsorted(known, number), len(known) - 1)
            return order[at], known[at] == number

        self.excluded = self.first_excluded = None
        if not mask.any():
            return
        column, is_known = told(self.batches)
        self.excluded = mask[:, column].T & is_known[:, None]
        column, is_known = told(self.first_batch)
        self.first_excluded = mask[np.arange(self.n_streams)[None, :], column] & is_known

    def remembered(self) -> Ints:
        """Numbers of all batches that some reference may hold, ascending."""
        found = np.union1d(self.batches, self.first_batch)
        return found[found > NEVER]

    def reset(self, mask: Bools) -> None:
        """Forget the past of streams, because another version serves from now on; mask of shape (streams,)."""
        for name in ("loss", "log_loss", "first_loss", "first_log_loss"):
            getattr(self, name)[:, mask] = np.nan
        self.first_batch[:, mask] = NEVER
        self.floors.reset(mask)

    def refloor(self, streams: Ints, old: Floats, new: Floats) -> None:
        """Take the logs of streams to other floors; what was cleaned away stays away."""
        for loss, log_loss in ((self.loss, self.log_loss), (self.first_loss, self.first_log_loss)):
            log_loss[:, streams] += np.log((loss[:, streams] + new) / (loss[:, streams] + old))
        for yards in (self.log_yardsticks, self.first_log_yardsticks):
            yards[:, :, streams] = np.log(np.exp(yards[:, :, streams]) - old + new)

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.n_streams += more
        for name in (*RING, *YARDS):
            old = getattr(self, name)
            fill = NEVER if name == "first_batch" else np.nan
            wider = np.full((*old.shape[:-1], more), fill, dtype=old.dtype)
            setattr(self, name, np.concatenate([old, wider], axis=-1))
        self.excluded = self.first_excluded = None
        self.floors.grow(more)

    # state

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that is remembered, by name."""
        made = {name: getattr(self, name) for name in (*RING, *YARDS, "batches")}
        return made | {"batch": np.asarray(self.batch)} | self.floors.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in (*RING, *YARDS, "batches"):
            setattr(self, name, arrays[name].copy())
        self.batch = int(arrays["batch"])
        self.n_streams = self.loss.shape[1]
        self.floors.restore(arrays)


def _mean(losses: Floats, members: Bools) -> Floats:
    """Mean over rows of the members, NaN without any."""
    members = members[:, None] if members.ndim == 1 else members
    members = np.broadcast_to(members, losses.shape)
    count = np.count_nonzero(members, axis=0)
    total = np.sum(losses, axis=0, where=members)
    made = np.full(losses.shape[1], np.nan)
    np.divide(total, count, out=made, where=count > 0)
    return made
