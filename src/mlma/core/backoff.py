"""Which streams are retrained in vain: their newest versions are no better than an older one.

A stream whose trainings do not help is not trained again and again: each one in vain doubles what the next must be
worth, and a person is told.
"""

import numpy as np

from mlma.core.blocks import Floats, Ints

LARGEST = 6
"""Trainings in vain that count at most: the price is then 64 times that of a stream whose trainings help."""

TELL = 2
"""Trainings in vain in a row after which a person is told: one may be chance."""


def in_vain(recent: Floats, trained: Ints) -> Ints:
    """How many of each stream's newest versions in a row are no better than the best older one.

    Parameters
    ----------
    recent
        Shape (streams, seats), recent losses of the trained versions on the same targets; NaN on an empty seat and
        for a version without a loss, which is not judged yet.
    trained
        Shape (streams, seats), the batch that each was trained after; any number where ``recent`` is NaN.

    Returns
    -------
    Ints
        Shape (streams,), at most `LARGEST`; 0 with fewer than two judged versions.

    Examples
    --------
    >>> recent = np.array([[1.0, 1.2, 1.1], [1.0, 0.8, 0.9], [1.0, np.nan, 0.9]])
    >>> in_vain(recent, np.array([[3, 7, 9]] * 3)).tolist()
    [2, 1, 0]
    """
    known = np.isfinite(recent)
    order = np.argsort(np.where(known, trained, np.iinfo(np.int64).max), axis=1, kind="stable")
    loss = np.take_along_axis(np.where(known, recent, np.inf), order, axis=1)
    best_before = np.minimum.accumulate(loss, axis=1)[:, :-1]
    helped = loss[:, 1:] < best_before
    judged = np.isfinite(loss[:, 1:])
    at = np.arange(1, loss.shape[1])
    last_help = np.where(helped & judged, at, 0).max(axis=1, initial=0)
    made: Ints = np.clip(known.sum(axis=1) - 1 - last_help, 0, LARGEST)
    return made
