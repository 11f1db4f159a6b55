"""What predicts a stream's next batch from ALL its values since the last reset, in a few sums.

Under an autoregression of order one, the generalised least squares mean, the variance around it and the next value
follow from sums over the values and over the products of neighbours, for any coefficient rho. So rho and the
coefficients of the yardsticks may be learned later and still hold for the whole past.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints
from mlma.core.prediction import Prediction

PREFIX = "all_"

LONGEST_GAP = 63
"""Batches without a value that count as that many: nothing reaches so far."""

STATE = ("n", "newest", "runs", "origin", "last", "total", "ends", "squares", "neighbours", "end_squares")


@dataclass
class AllValues:
    """Sums over the values of each stream, relative to its first one.

    A value is the log loss and the k log yardsticks of one batch; a run is an unbroken series of batches that have
    one. Values of different runs count as independent.

    Attributes
    ----------
    n, newest, runs
        Shape (streams,): values, number of the newest batch with one, and runs.
    origin, last, total, ends
        Shape (k + 1, streams): the first value, the newest one, the sum of all, and that of the first and the last
        value of each run (but not the last of the run that goes on).
    squares, neighbours, end_squares
        Shape (pairs, streams): sums over the products of each pair of the k + 1 numbers, within values, between
        neighbouring values (both ways), and within the values that ``ends`` sums over.
    """

    n_streams: int
    n_yardsticks: int
    n: Ints = field(init=False)
    newest: Ints = field(init=False)
    runs: Ints = field(init=False)
    origin: Floats = field(init=False)
    last: Floats = field(init=False)
    total: Floats = field(init=False)
    ends: Floats = field(init=False)
    squares: Floats = field(init=False)
    neighbours: Floats = field(init=False)
    end_squares: Floats = field(init=False)

    def __post_init__(self) -> None:
        for name in STATE:
            setattr(self, name, self._nothing(name, self.n_streams))

    def _nothing(self, name: str, n_streams: int) -> NDArray[Any]:
        if name in ("n", "newest", "runs"):
            return np.zeros(n_streams, dtype=np.int64)
        is_value = name in ("origin", "last", "total", "ends")
        rows = self.n_yardsticks + 1 if is_value else len(np.triu_indices(self.n_yardsticks + 1)[0])
        return np.zeros((rows, n_streams))

    def predict(self, at: int, beta: Floats, rho: float) -> Prediction:
        """Predict the tested number of batch ``at``, as `mlma.core.prediction.predict` would from all values.

        Parameters
        ----------
        at
            Later than every batch that was added.
        beta
            Shape (k,), coefficients of the yardsticks.
        rho
            Correlation of neighbouring batches, in [0, 1).

        Notes
        -----
        With u and v vectors of a run of m values and R the correlation matrix of an autoregression of order one,
        (1 - rho^2) u'R^-1 v = (1 + rho^2) sum u_t v_t - rho^2 (u_1 v_1 + u_m v_m) - rho sum (u_t v_t-1 + u_t-1 v_t):
        the inverse has three diagonals. Runs add up.
        """
        weight = np.concatenate([[1.0], -beta])
        first, second = np.triu_indices(len(weight))
        pairs = weight[first] * weight[second]
        last = weight @ self.last
        n, some = self.n.astype(np.float64), self.n > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = (n * (1.0 - rho) + 2.0 * rho * self.runs) / (1.0 + rho)
            mean = ((1.0 - rho) * (weight @ self.total) + rho * (weight @ self.ends + last)) / (1.0 + rho) / precision
            product = (
                (1.0 + rho**2) * (pairs @ self.squares)
                - rho**2 * (pairs @ self.end_squares + np.square(last))
                - 2.0 * rho * (pairs @ self.neighbours)
            ) / (1.0 - rho**2)
            variance = np.maximum(product - np.square(mean) * precision, 0.0) / (n - 1.0)
            reach = rho ** np.clip(at - self.newest, 1, LONGEST_GAP)
            left = 1.0 - reach
            return Prediction(
                mean=np.where(some, weight @ self.origin + mean, np.nan),
                expected=np.where(some, weight @ self.origin + left * mean + reach * last, np.nan),
                variance=np.where(self.n > 1, variance, np.nan),
                factor=np.where(some, 1.0 - np.square(reach) + np.square(left) / precision, np.nan),
                own=np.where(some, 1.0 - np.square(reach) - reach * left / precision, np.nan),
                m=self.n.copy(),
            )

    def add(self, log_loss: Floats, log_yardsticks: Floats, streams: Ints, *, batch: int) -> None:
        """Take in a batch of some streams: log losses of shape (streams,), log yardsticks of shape (k, streams)."""
        value = np.vstack([log_loss[None], log_yardsticks])[:, streams]
        is_first = self.n[streams] == 0
        self.origin[:, streams[is_first]] = value[:, is_first]
        value -= self.origin[:, streams]
        before = self.last[:, streams]
        continues = ~is_first & (self.newest[streams] == batch - 1)
        starts = ~continues
        first, second = np.triu_indices(len(value))
        both_ways = value[first] * before[second] + value[second] * before[first]
        both_ways[first == second] /= 2.0
        self.neighbours[:, streams] += np.where(continues, both_ways, 0.0)
        mixed = np.where(first == second, 1.0, 2.0)[:, None]
        self.squares[:, streams] += mixed * value[first] * value[second]
        self.total[:, streams] += value
        self.ends[:, streams] += np.where(starts, value + before, 0.0)
        end_squares = mixed * (value[first] * value[second] + before[first] * before[second])
        self.end_squares[:, streams] += np.where(starts, end_squares, 0.0)
        self.runs[streams] += starts
        self.last[:, streams] = value
        self.n[streams] += 1
        self.newest[streams] = batch

    def reset(self, streams: Ints) -> None:
        """Forget the values of streams."""
        for name in STATE:
            getattr(self, name)[..., streams] = 0

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.n_streams += more
        for name in STATE:
            setattr(self, name, np.concatenate([getattr(self, name), self._nothing(name, more)], axis=-1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {PREFIX + name: getattr(self, name) for name in STATE}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        for name in STATE:
            setattr(self, name, arrays[PREFIX + name].copy())
        self.n_yardsticks, self.n_streams = len(self.origin) - 1, len(self.n)
