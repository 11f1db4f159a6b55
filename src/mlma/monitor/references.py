"""What is remembered of past batches: a ring of the newest ones, and the first ones since the last reset, frozen.

Arrays are time-major, (rows, streams): a batch writes one row, and a fleet is predicted row by row. Values are
stored cleaned of what the fleet had in common, so a storm of the past does not disturb a later comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.loss_tests import Prior, predicted_sd
from mlma.core.prediction import PARTS, Dependence, Prediction
from mlma.core.settings import ReferencePolicy, TestingSettings
from mlma.monitor.floors import Floors

NEVER = -(2**31)
"""Number of a batch that never was."""

RING = ("loss", "log_loss", "first_loss", "first_log_loss", "first_batch")
YARDS = ("log_yardsticks", "first_log_yardsticks")

Floats32 = NDArray[np.float32]
Ints32 = NDArray[np.int32]


@dataclass(slots=True, kw_only=True)
class Kept:
    """A prediction from the frozen rows that holds for every later batch, as long as they and the rest stay.

    ``newest`` is the number of the newest batch in those rows; ``scale``, shape (streams,), is the standard deviation
    of the prediction's error under ``prior``.
    """

    prediction: Prediction
    newest: int
    beta: Floats
    dependence: Dependence
    prior: Prior | None = None
    scale: Floats = field(default_factory=lambda: np.empty(0))

    def scale_under(self, prior: Prior) -> Floats:
        """Standard deviation of the prediction's error, computed anew for another prior only."""
        if self.prior != prior:
            self.prior, self.scale = prior, predicted_sd(self.prediction, prior)
        return self.scale

    def is_for(self, beta: Floats, dependence: Dependence) -> bool:
        """Whether it was made with these coefficients and this dependence."""
        return self.dependence == dependence and np.array_equal(self.beta, beta)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays; one that stands for two, or a number that stands for all streams, counts once."""
        arrays = {id(array): array for array in (getattr(self.prediction, name) for name in PARTS)}
        each = (min(array.nbytes, array.strides[0] * len(array) or array.itemsize) for array in arrays.values())
        return int(self.scale.nbytes + sum(each))


@dataclass
class References:
    """Past batches of ``n_streams`` streams; ``batch`` is the number of the newest one.

    Attributes
    ----------
    batches
        Shape (rows,), numbers of the batches in the ring; `NEVER` where there is none.
    loss
        Shape (rows, streams), mean losses as they were: for people, and to move values to another floor.
    log_loss
        Shape (rows, streams), their logs, cleaned.
    log_yardsticks
        Shape (k, rows, streams).
    first_batch, first_loss, first_log_loss, first_log_yardsticks
        The same of the first batches after the last reset, shape (frozen rows, streams) each.
    n_first
        Shape (streams,), how many of the frozen rows are filled.
    kept
        What the frozen rows predict for every batch to come; None where that is not known or changes.
    excluded, first_excluded
        Shape (rows, streams) and (frozen rows, streams): batches that an engineer declared bad; None for none.
    is_complete
        Shape (rows,), rows of the ring that hold a value of every stream, as far as that is known.
    """

    settings: TestingSettings
    n_streams: int
    n_yardsticks: int
    batch: int = -1
    batches: Ints = field(init=False)
    loss: Floats32 = field(init=False)
    log_loss: Floats = field(init=False)
    log_yardsticks: Floats = field(init=False)
    first_batch: Ints32 = field(init=False)
    first_loss: Floats32 = field(init=False)
    first_log_loss: Floats = field(init=False)
    first_log_yardsticks: Floats = field(init=False)
    n_first: NDArray[np.int16] = field(init=False)
    floors: Floors = field(init=False)
    excluded: Bools | None = None
    first_excluded: Bools | None = None
    kept: Kept | None = None
    is_complete: Bools = field(init=False)

    def __post_init__(self) -> None:
        k, n = self.n_yardsticks, self.n_streams
        rows, frozen = self.n_rows, self.n_frozen
        self.batches = np.full(rows, NEVER, dtype=np.int64)
        self.is_complete = np.zeros(rows, dtype=np.bool_)
        self.loss = np.full((rows, n), np.nan, dtype=np.float32)
        self.log_loss = np.full((rows, n), np.nan)
        self.log_yardsticks = np.full((k, rows, n), np.nan)
        self.first_batch = np.full((frozen, n), NEVER, dtype=np.int32)
        self.first_loss = np.full((frozen, n), np.nan, dtype=np.float32)
        self.first_log_loss = np.full((frozen, n), np.nan)
        self.first_log_yardsticks = np.full((k, frozen, n), np.nan)
        self.n_first = np.zeros(n, dtype=np.int16)
        self.floors = Floors(n)

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

    def remembered(self) -> Ints:
        """Numbers of all batches that some reference may hold, ascending."""
        found = np.unique(np.append(self.batches, np.unique(self.first_batch)))
        return np.asarray(found[found > NEVER], dtype=np.int64)

    def values(self, rows: Ints, beta: Floats, streams: Ints | slice = slice(None)) -> Floats:
        """Tested numbers of rows of the ring, shape (rows, streams), of some streams or of all."""
        return values_of(self.log_loss, self.log_yardsticks, rows, beta, streams)

    def frozen_values(self, rows: Ints, beta: Floats, streams: Ints | slice = slice(None)) -> Floats:
        """The same of frozen rows."""
        return values_of(self.first_log_loss, self.first_log_yardsticks, rows, beta, streams)

    # change

    def push(self, summary: BatchSummary, log_loss: Floats, log_yardsticks: Floats, *, batch: int) -> None:
        """Remember a batch: its mean losses, and the cleaned logs of shape (streams,) and (k, streams)."""
        row = int(np.argmin(self.batches))
        self.batch, self.batches[row] = batch, batch
        with np.errstate(over="ignore"):  # losses beyond 1e38 are for nobody to read
            self.loss[row] = summary.mean_loss
        self.log_loss[row] = log_loss
        self.log_yardsticks[:, row] = log_yardsticks
        with np.errstate(over="ignore", invalid="ignore"):
            self.is_complete[row] = np.isfinite(log_loss.sum() + log_yardsticks.sum())
        if self.excluded is not None:
            self.excluded[row] = False
        streams = np.flatnonzero(self.n_first < self.n_frozen)
        streams = streams[np.isfinite(log_loss[streams] + log_yardsticks[:, streams].sum(axis=0))]
        if not len(streams):
            return
        self.kept = None
        at = self.n_first[streams]
        self.first_batch[at, streams] = batch
        self.first_loss[at, streams], self.first_log_loss[at, streams] = self.loss[row, streams], log_loss[streams]
        self.first_log_yardsticks[:, at, streams] = log_yardsticks[:, streams]
        self.n_first[streams] += 1

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Leave batches out of every reference; ``mask`` is (streams, batches). Replaces what was said before."""
        self.excluded = self.first_excluded = self.kept = None
        if not mask.any():
            return
        order = np.argsort(batches)
        known = batches[order]

        def told(number: Ints | Ints32) -> tuple[Ints, Bools]:
            at = np.minimum(np.searchsorted(known, number), len(known) - 1)
            return order[at], known[at] == number

        column, is_known = told(self.batches)
        self.excluded = mask[:, column].T & is_known[:, None]
        column, is_known = told(self.first_batch)
        self.first_excluded = mask[np.arange(self.n_streams)[None, :], column] & is_known

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams, because another version serves from now on."""
        self.kept = None
        self.is_complete[:] = False
        for rows in (self.loss, self.log_loss, self.first_loss, self.first_log_loss):
            for row in rows:
                row[streams] = np.nan
        self.first_batch[:, streams] = NEVER
        self.n_first[streams] = 0
        self.floors.reset(streams)

    def refloor(self, streams: Ints, old: Floats, new: Floats) -> None:
        """Take the logs of streams to other floors; what was cleaned away stays away."""
        self.kept = None
        self.is_complete[:] = False
        for loss, log_loss in ((self.loss, self.log_loss), (self.first_loss, self.first_log_loss)):
            finite = np.minimum(loss[:, streams], np.finfo(np.float32).max).astype(np.float64)
            log_loss[:, streams] += np.log((finite + new) / (finite + old))
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
        self.n_first = np.concatenate([self.n_first, np.zeros(more, dtype=np.int16)])
        self.is_complete[:] = False
        self.excluded = self.first_excluded = self.kept = None
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
        self.n_first = np.count_nonzero(self.first_batch > NEVER, axis=0).astype(np.int16)
        self.excluded = self.first_excluded = self.kept = None
        finite = np.isfinite(self.log_loss) & np.isfinite(self.log_yardsticks).all(axis=0)
        self.is_complete = np.asarray(finite.all(axis=1))
        self.floors.restore(arrays)


def values_of(logs: Floats, yards: Floats, rows: Ints, beta: Floats, streams: Ints | slice = slice(None)) -> Floats:
    """Tested numbers of rows, from the log losses (rows, streams) and the log yardsticks (k, rows, streams)."""
    made = _picked(logs, rows, streams)
    for coefficient, yard in zip(beta, yards, strict=True):
        made -= coefficient * _picked(yard, rows, streams)
    return made


def _picked(logs: Floats, rows: Ints, streams: Ints | slice) -> Floats:
    """Copy of rows of some streams; all rows first, which is faster where they are most of them."""
    return np.asarray(logs[rows, streams] if isinstance(streams, slice) else logs.take(streams, axis=1)[rows])
