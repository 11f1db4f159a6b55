"""Hindsight: which versions of a stream had best been trained, and which had best served when.

The cost of a choice is the loss of the best of the chosen versions in every batch plus a price for each distinct
version. Versions that were paid for may be recalled for free.
"""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

GAIN = 1e-12
"""Least gain of a step of the search, in the unit of the losses: below it is rounding."""

MOST = 1e100
"""Stands for an infinite loss where one has to be calculated with."""

SEARCH_CELLS = 1 << 21
"""Losses that are worked on at once (16 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What would have been best.

    Attributes
    ----------
    versions
        Shape (streams, versions), True for those that would have been trained.
    loss
        Shape (streams, batches), of the best of them in each batch.
    """

    versions: Bools
    loss: Floats

    def cost(self, price: float) -> Floats:
        """Loss plus price of the trainings, shape (streams,)."""
        return np.asarray(self.loss.sum(axis=1) + price * self.versions.sum(axis=1))


def best_in_hindsight(loss: Floats, price: float) -> Chosen:
    """Choose versions of every stream by dynamic programming, then improve the choice where recalls pay.

    Parameters
    ----------
    loss
        Shape (streams, versions, batches), >= 0; infinite where a version did not exist yet. Every stream and
        batch has a finite one; a batch that does not count is 0 throughout.
    price
        Of one training, in the unit of the losses.

    Notes
    -----
    `cheapest_sequence` is exact as long as no version is recalled. With free recalls the problem is that of
    uncapacitated facility location, which is hard; the sequence is then improved by adding, dropping and
    swapping versions while that helps (Kuehn and Hamburger 1963, A heuristic program for locating warehouses). The cost
    is then an upper bound of the least possible one, and never above that of the best sequence.

    Examples
    --------
    >>> loss = np.array([[[1.0, 5.0, 1.0], [np.inf, 1.0, 5.0]]])  # the first version is right again in the end
    >>> made = best_in_hindsight(loss, 1.0)
    >>> made.versions.tolist(), made.loss.tolist()
    ([[True, True]], [[1.0, 1.0, 1.0]])
    """
    n_streams, n_versions, n_batches = loss.shape
    chosen = np.zeros((n_streams, n_versions), dtype=np.bool_)
    size = max(1, SEARCH_CELLS // max(1, n_versions * n_batches))
    for at in range(0, n_streams, size):
        part = np.asarray(loss[at : at + size], dtype=np.float64)
        served = cheapest_sequence(part, price)
        first = np.zeros((len(part), n_versions), dtype=np.bool_)
        np.put_along_axis(first, served, values=True, axis=1)
        chosen[at : at + size] = _improved(part, first, price)
    return Chosen(versions=chosen, loss=_best_of(loss, chosen))


def cheapest_sequence(loss: Floats, price: float) -> Ints:
    """The version that serves in every batch where each switch, the first one included, costs the price.

    Parameters
    ----------
    loss
        Shape (streams, versions, batches), as in `best_in_hindsight`.

    Returns
    -------
    Ints
        Shape (streams, batches): position of the version.

    Notes
    -----
    Dynamic programme over (batch, serving version): staying costs the loss, switching the price more, and of all
    versions to switch from only the cheapest matters; so it takes versions x batches steps a stream (Viterbi 1967).

    Examples
    --------
    >>> loss = np.array([[[1.0, 1.0, 9.0, 9.0], [np.inf, 2.0, 1.0, 1.0]]])
    >>> cheapest_sequence(loss, 2.0).tolist(), cheapest_sequence(loss, 100.0).tolist()
    ([[0, 0, 1, 1]], [[0, 0, 0, 0]])
    """
    n_streams, n_versions, n_batches = loss.shape
    came_from = np.zeros((n_batches, n_streams, n_versions), dtype=np.int32)
    stay = np.arange(n_versions)[None]
    cost = np.full((n_streams, n_versions), np.inf)
    for batch in range(n_batches):
        cheapest = cost.argmin(axis=1)[:, None]
        switch = price + (np.take_along_axis(cost, cheapest, axis=1) if batch else 0.0)
        came_from[batch] = np.where(cost <= switch, stay, cheapest)
        cost = np.minimum(cost, switch) + loss[:, :, batch]
    served = np.zeros((n_streams, n_batches), dtype=np.int64)
    at = cost.argmin(axis=1)[:, None]
    for batch in reversed(range(n_batches)):
        served[:, batch] = at[:, 0]
        at = np.take_along_axis(came_from[batch], at, axis=1)
    return served


def _improved(loss: Floats, chosen: Bools, price: float) -> Bools:
    """Add or drop one version of each stream at a time while its cost falls; swap two where that does not help."""
    chosen = chosen.copy()
    rows = np.arange(len(loss))
    while len(rows):
        stuck = []
        while len(rows):
            state = _State(loss[rows], chosen[rows])
            gain = np.where(state.chosen, price - state.lost(), state.saved().sum(axis=2) - price)
            at = gain.argmax(axis=1)
            helps = gain[np.arange(len(rows)), at] > GAIN
            stuck.append(rows[~helps])
            rows, at = rows[helps], at[helps]
            chosen[rows, at] ^= True
        rows = np.concatenate(stuck)
        gain = _State(loss[rows], chosen[rows]).swapped().reshape(len(rows), -1)
        at = gain.argmax(axis=1)
        helps = gain[np.arange(len(rows)), at] > GAIN
        rows, at = rows[helps], at[helps]
        chosen[rows, at // loss.shape[1]] = True
        chosen[rows, at % loss.shape[1]] = False
    return chosen


class _State:
    """What a step of the search looks at: the best and the second-best chosen version in every batch."""

    def __init__(self, loss: Floats, chosen: Bools) -> None:
        self.loss, self.chosen = loss, chosen
        held = np.where(chosen[:, :, None], loss, np.inf)
        leader = held.argmin(axis=1)[:, None]
        self.best = np.take_along_axis(held, leader, axis=1)
        np.put_along_axis(held, leader, np.inf, axis=1)
        self.second = held.min(axis=1)[:, None]
        self.led = np.zeros(loss.shape)  # 1 where the version is the best chosen one
        np.put_along_axis(self.led, leader, 1.0, axis=1)

    def saved(self) -> Floats:
        """What each version would save in each batch if it were added, shape (streams, versions, batches)."""
        return np.maximum(self.best - self.loss, 0.0)

    def lost(self) -> Floats:
        """What dropping each version would cost, shape (streams, versions); infinite where no other could serve."""
        more = np.where(self.led > 0.0, self.second - self.best, 0.0)
        return np.asarray(more.sum(axis=2))

    def swapped(self) -> Floats:
        """What would be gained by taking one version in and another out, shape (streams, in, out)."""
        second = np.minimum(self.second, MOST)  # a number, so that it may be multiplied by zero
        more = np.minimum(self.loss, second) - np.minimum(self.loss, self.best)
        gain = self.saved().sum(axis=2)[:, :, None] - more @ self.led.transpose(0, 2, 1)
        is_swap = ~self.chosen[:, :, None] & self.chosen[:, None]
        return np.where(is_swap, gain, -np.inf)


def _best_of(loss: Floats, chosen: Bools) -> Floats:
    """Loss of the best chosen version by batch, shape (streams, batches)."""
    made = np.full((loss.shape[0], loss.shape[2]), np.inf)
    for version in range(loss.shape[1]):  # one at a time: no second array of the size of the losses
        np.minimum(made, loss[:, version], out=made, where=chosen[:, version, None])
    return made
