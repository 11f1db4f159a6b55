"""Number, mean and spread of losses: all that Welch's test needs of a batch, and parts are put together exactly."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlma.core.blocks import Bools, Floats


class Moments(NamedTuple):
    """Of the losses that are known, arrays of one shape; all three are zero where none is.

    Attributes
    ----------
    n
        Number of losses.
    mean
        Units of the loss.
    squares
        Sum of the squared deviations from the mean.
    """

    n: Floats
    mean: Floats
    squares: Floats

    def times(self, factor: Floats | float) -> "Moments":
        """Those of losses that are multiplied; ``factor`` >= 0 of a shape that goes with theirs."""
        return Moments(self.n, self.mean * factor, self.squares * np.square(factor))

    def where(self, known: Bools) -> "Moments":
        """These where they are known, else none."""
        return Moments(*(np.where(known, part, 0.0) for part in self))


def moments_of(losses: Floats) -> Moments:
    """Moments of the rows of losses, shape (streams, n), NaN where missing.

    Losses are shifted by the first one of their stream, so that constant ones deviate by exactly zero.

    Examples
    --------
    >>> made = moments_of(np.array([[1.0, 3.0, np.nan], [0.1, 0.1, 0.1]]))
    >>> made.n.tolist(), made.mean.tolist(), made.squares.tolist()
    ([2.0, 3.0], [2.0, 0.1], [2.0, 0.0])
    """
    mean, deviations, n = centred(losses)
    return Moments(n, mean, np.einsum("st,st->s", deviations, deviations))


def centred(losses: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, deviations from it with zero where missing, shape (streams, n), and number; zero without any loss."""
    present = ~np.isnan(losses)
    n = np.count_nonzero(present, axis=1).astype(np.float64)
    if losses.shape[1] == 0:
        return np.zeros(len(losses)), losses, n
    first = np.take_along_axis(losses, np.argmax(present, axis=1)[:, None], axis=1)
    first = np.where(n[:, None] > 0.0, first, 0.0)
    shifted = np.where(present, losses - first, 0.0)
    centre = shifted.sum(axis=1) / np.maximum(n, 1.0)
    return first[:, 0] + centre, np.where(present, shifted - centre[:, None], 0.0), n


def pooled(parts: Sequence[Moments]) -> Moments:
    """Moments of all losses of several parts together, of at least one part.

    Notes
    -----
    Source: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance. Means are taken from the
    largest of them, so that nothing cancels: one of the differences is zero.

    Examples
    --------
    >>> whole = moments_of(np.array([[1.0, 2.0, 6.0, 7.0]]))
    >>> parts = [moments_of(np.array([[1.0, 2.0]])), moments_of(np.array([[6.0, 7.0]]))]
    >>> all(np.allclose(a, b) for a, b in zip(pooled(parts), whole, strict=True))
    True
    """
    shift = parts[0].mean
    for part in parts[1:]:
        shift = np.maximum(shift, part.mean)
    n, total, squares = (np.zeros(shift.shape) for _ in range(3))
    for part in parts:
        away = part.mean - shift
        weighted = part.n * away
        n += part.n
        total += weighted
        weighted *= away
        squares += part.squares
        squares += weighted
    centre = total / np.maximum(n, 1.0)
    squares -= total * centre
    return Moments(n, np.where(n > 0.0, shift + centre, 0.0), np.maximum(squares, 0.0, out=squares))
