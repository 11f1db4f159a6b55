"""Hindsight: which version of a stream had best served when, if every switch had cost a training."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

CELLS_AT_ONCE = 1 << 21
"""Losses that are worked on at once (16 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """What would have been best; arrays of shape (streams, batches)."""

    served: Ints  # position of the version
    loss: Floats
    switched: Bools  # another version than in the batch before; the first batch counts


def best_in_hindsight(loss: Floats, price: float) -> Hindsight:
    """Cheapest sequence of single versions of every stream.

    Parameters
    ----------
    loss
        Shape (streams, versions, batches), >= 0; infinite where a version did not exist yet. Every stream and
        batch has a finite one; a batch that does not count is 0 throughout.
    price
        Of one training, in the unit of the losses.

    Examples
    --------
    >>> loss = np.array([[[1.0, 5.0, 1.0], [np.inf, 1.0, 5.0]]])
    >>> made = best_in_hindsight(loss, 1.0)
    >>> made.served.tolist(), made.switched.tolist()
    ([[0, 1, 0]], [[True, True, True]])
    """
    n_streams, n_versions, n_batches = loss.shape
    size = max(1, CELLS_AT_ONCE // max(1, n_versions * n_batches))
    parts = [np.zeros((0, n_batches), dtype=np.int64)]
    for at in range(0, n_streams, size):
        parts.append(cheapest_sequence(np.asarray(loss[at : at + size], dtype=np.float64), price))
    served = np.concatenate(parts)
    switched = np.ones(served.shape, dtype=np.bool_)
    switched[:, 1:] = served[:, 1:] != served[:, :-1]
    return Hindsight(served=served, loss=np.take_along_axis(loss, served[:, None, :], axis=1)[:, 0], switched=switched)


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
