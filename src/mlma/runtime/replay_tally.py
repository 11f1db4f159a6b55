"""What one policy's run leaves behind: losses by stream and batch, and every fit with its CPU time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.policy_costs import Spent
from mlma.runtime.closing import Closed
from mlma.runtime.engine import Engine
from mlma.runtime.training import TrainingOutcome

Cells = NDArray[np.float32]
"""Shape (streams, batches); single precision is enough for sums over the targets of one batch."""


@dataclass
class Tally:
    """Losses of one policy by stream and batch, summed over the targets that a trained version was responsible for.

    Streams that are born later have fewer entries in the columns of the batches before; `cells` fills them up.
    """

    name: str
    engine: Engine
    cpu_s: float = 0.0  # of take and tick in this process
    trained_here_s: float = 0.0  # part of it that trainings took
    spared_cpu_s: float = 0.0  # more that it would have taken alone, beside trainings, updates and forecasts
    observers: list[Callable[[Closed], None]] = field(default_factory=list)  # who else is shown each batch
    batches: list[int] = field(default_factory=list)
    _loss: list[Cells] = field(default_factory=list)  # one column a batch
    _naive: list[Cells] = field(default_factory=list)
    _n: list[NDArray[np.int32]] = field(default_factory=list)
    _fits: list[tuple[int, int, float]] = field(default_factory=list)  # stream, batch, CPU seconds

    def observe(self, closed: Closed) -> None:
        """Add one batch."""
        for observer in self.observers:
            observer(closed)
        scores = closed.scores
        counts = closed.has_version & np.isfinite(scores.mean_loss) & np.isfinite(scores.naive_loss)
        n = np.where(counts, scores.n, 0)
        self.batches.append(closed.batch)
        self._loss.append((np.where(counts, scores.mean_loss, 0.0) * n).astype(np.float32))
        self._naive.append((np.where(counts, scores.naive_loss, 0.0) * n).astype(np.float32))
        self._n.append(n.astype(np.int32))

    def took(self, outcome: TrainingOutcome) -> None:
        """Add one fit that the policy made use of."""
        stream_id, batch, _ = outcome.key
        self._fits.append((stream_id, batch, outcome.cpu_s))

    @property
    def n_streams(self) -> int:
        """Streams that were there in the last batch."""
        return len(self._n[-1]) if self._n else 0

    def losses(self) -> Cells:
        """Summed loss by stream and batch, shape (streams, batches); 0 where nothing was scored."""
        return cells(self._loss, self.n_streams)

    def counts(self) -> Cells:
        """Scored targets by stream and batch, shape (streams, batches)."""
        return cells([column.astype(np.float32) for column in self._n], self.n_streams)

    @property
    def loss(self) -> Floats:
        """Loss summed over all scored targets, shape (streams,)."""
        return _summed(self._loss, self.n_streams)

    @property
    def naive(self) -> Floats:
        """Loss of seasonal naive on the same targets, shape (streams,)."""
        return _summed(self._naive, self.n_streams)

    @property
    def n(self) -> Ints:
        """Scored targets, shape (streams,)."""
        return _summed(self._n, self.n_streams).astype(np.int64)

    def relative_to_naive(self) -> Floats:
        """Loss over the naive loss of each stream that was scored, shape (scored streams,)."""
        naive = self.naive
        usable: Bools = (self.n > 0) & (naive > 0)
        return self.loss[usable] / naive[usable]

    def fits(self) -> tuple[Floats, Floats]:
        """Fits and their CPU seconds by stream, each of shape (streams,)."""
        made = np.asarray(self._fits, dtype=np.float64).reshape(-1, 3)
        stream = made[:, 0].astype(np.int64)
        fits, cpu_s = np.zeros((2, self.n_streams))
        of_stream = stream >= 0
        np.add.at(fits, stream[of_stream], 1.0)
        np.add.at(cpu_s, stream[of_stream], made[of_stream, 2])
        n = max(1, self.n_streams)  # a training of a group is one training, that of nobody in particular
        return fits + (~of_stream).sum() / n, cpu_s + made[~of_stream, 2].sum() / n

    @property
    def rest_s(self) -> float:
        """CPU seconds of this process beyond fits, updates and forecasts."""
        costs = self.engine.costs
        worked = costs.predict_cpu_s + costs.evergreen_cpu_s - costs.spared_cpu_s
        return max(0.0, self.cpu_s - self.trained_here_s - worked)

    @property
    def alone_s(self) -> float:
        """CPU seconds that the policy would have taken by itself, trainings on workers included."""
        costs = self.engine.costs
        return costs.train_cpu_s + costs.evergreen_cpu_s + costs.predict_cpu_s + self.rest_s + self.spared_cpu_s

    def spent(self) -> Spent:
        """What the policy lost and spent on each stream."""
        fits, fit_cpu_s = self.fits()
        costs = self.engine.costs
        return Spent(
            loss=self.loss, scored=self.n > 0, fits=fits, fit_cpu_s=fit_cpu_s, update_cpu_s=costs.evergreen_cpu_s
        )


def cells(columns: list[Cells], n_streams: int) -> Cells:
    """Columns of growing length as one matrix, 0 where a stream was not born yet."""
    made = np.zeros((n_streams, len(columns)), dtype=np.float32)
    for j, column in enumerate(columns):
        made[: len(column), j] = column
    return made


def _summed(columns: list[Cells] | list[NDArray[np.int32]], n_streams: int) -> Floats:
    total = np.zeros(n_streams)
    for column in columns:
        total[: len(column)] += column
    return total
