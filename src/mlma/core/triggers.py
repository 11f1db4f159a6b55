"""Triggers that remember something of every stream: what they remember as arrays, and one step per batch.

Every step is a pure function: state and losses in, new state and who is due out. A stream that was retrained is
forgotten (`forgotten`), so that the next batch is its first. Replays keep the states; see `mlma.core.policy`.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

DECAY = 0.5
"""Of the exponential mean by which debt judges the level of a stream: the newest batch counts half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerStream:
    """Arrays of shape (streams,) that start at zero."""

    @classmethod
    def empty(cls, n_streams: int) -> Self:
        """State of streams of which nothing was seen yet."""
        return cls(**{part.name: np.zeros(n_streams) for part in fields(cls)})

    def grown(self, n_streams: int) -> Self:
        """State with streams added at the end, so that there are ``n_streams``."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(
            self, **{name: np.concatenate([old, np.zeros(n_streams - len(old))]) for name, old in parts.items()}
        )

    def forgotten(self, mask: Bools) -> Self:
        """State in which the streams of ``mask``, shape (streams,), start over."""
        return replace(self, **{part.name: np.where(mask, 0.0, getattr(self, part.name)) for part in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHinkley(PerStream):
    """What the test of Page and Hinkley remembers of every stream since its last training."""

    n: Floats  # batches
    mean: Floats  # of the loss
    drift: Floats  # sum of the deviations from the mean, relative to it, each less the tolerance
    lowest: Floats  # that this sum has had

    def step(
        self, loss: Floats, *, tolerance: float = 0.05, threshold: float = 0.5, least: int = 4
    ) -> tuple[Self, Bools]:
        """Take in one batch; says where the loss has risen.

        Parameters
        ----------
        loss
            Shape (streams,), mean loss of the batch; a stream where it is NaN is passed over.
        tolerance
            Relative rise that is put up with in every batch.
        threshold
            Relative rise, summed over batches, that is one too many: 0.5 is 10 % over the tolerance for 5 batches.
        least
            Batches before a rise may be seen.

        Notes
        -----
        Page (1954), Continuous inspection schemes, Biometrika 41, with the running mean of Hinkley (1971) as Gama
        et al. (2014), A survey on concept drift adaptation, section 3.2, write it: m_t is the sum of
        x_i - mean_i - tolerance, and a rise is seen when m_t - min m_i > threshold. Here x is the loss relative to
        its mean, so that one threshold is right for streams of any size. It assumes independent batches.

        Examples
        --------
        >>> state = PageHinkley.empty(2)
        >>> for loss in ([1.0, 1.0], [1.1, 0.9], [0.9, 1.1], [1.0, 1.0], [2.0, 1.0], [2.0, 1.0]):
        ...     state, due = state.step(np.array(loss))
        >>> due.tolist()
        [True, False]
        """
        seen = np.isfinite(loss)
        n = self.n + seen
        mean = np.where(seen, self.mean + (loss - self.mean) / np.maximum(n, 1.0), self.mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = np.where(seen & (mean > 0.0), loss / mean - 1.0 - tolerance, 0.0)
        drift = self.drift + rise
        lowest = np.minimum(self.lowest, drift)
        state = replace(self, n=n, mean=mean, drift=drift, lowest=lowest)
        return state, seen & (n >= least) & (drift - lowest > threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt(PerStream):
    """The excess loss of every stream since its last training."""

    n: Floats  # batches
    total: Floats  # sum of their losses
    recent: Floats  # exponential mean of the loss
    best: Floats  # lowest that this mean has been

    def excess(self) -> Floats:
        """Loss above the best level since the last training, relative to it and summed over batches."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.best > 0.0, self.total / self.best - self.n, 0.0)

    def step(self, loss: Floats, *, price: float) -> tuple[Self, Bools]:
        """Take in one batch; says where the excess has come to exceed the price of a training.

        Parameters
        ----------
        loss
            Shape (streams,), mean loss of the batch; a stream where it is NaN is passed over.
        price
            Of a training, as relative loss summed over batches.

        Notes
        -----
        A rule of the kind "rent until the rent has come to the price, then buy" (the ski rental problem), which never
        pays more than twice what it had to if the excess only grows. The level is judged by an exponential mean with
        decay .5, because the lowest of single batches is mostly luck.

        Examples
        --------
        >>> state = Debt.empty(1)
        >>> for loss in (1.0, 1.0, 1.2, 1.2):
        ...     state, due = state.step(np.array([loss]), price=0.3)
        >>> state.excess().round(1).tolist(), due.tolist()
        ([0.4], [True])
        """
        seen = np.isfinite(loss)
        is_first = seen & (self.n == 0.0)
        blended = np.where(is_first, loss, DECAY * self.recent + (1.0 - DECAY) * loss)
        recent = np.where(seen, blended, self.recent)
        best = np.where(is_first, recent, np.where(seen, np.minimum(self.best, recent), self.best))
        total = self.total + np.where(seen, loss, 0.0)
        state = replace(self, n=self.n + seen, total=total, recent=recent, best=best)
        return state, seen & (state.excess() > price)


def drawn(seed: int, batch: int, n_streams: int, *, rate: float) -> Bools:
    """Streams that chance picks at a batch, each with probability ``rate``; shape (streams,).

    A pure function of seed, stream and batch, so that neither the order of calls nor the number of streams matters.

    Notes
    -----
    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators, figure 16)
    over the three numbers, taken for a number in [0, 1).

    Examples
    --------
    >>> drawn(1, 7, 3, rate=0.5).tolist() == drawn(1, 7, 5, rate=0.5)[:3].tolist()
    True
    """
    return _mixed(seed, batch, np.arange(n_streams)) < rate


def _mixed(seed: int, batch: int, streams: Ints) -> Floats:
    key = np.full(len(streams), seed, dtype=np.uint64)
    for part in (np.full(len(streams), batch), streams):
        key = _finalised(key + part.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15))
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _finalised(key: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
