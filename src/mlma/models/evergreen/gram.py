"""Least squares from sums of products, which grow batch by batch and forget."""

import numpy as np

from mlma.core.blocks import Bools, Floats

TINY_SD = 1e-7
"""Standard deviation below which a feature counts as constant."""


def rows_of(features: Floats, y: Floats, usable: Bools) -> Floats:
    """Rows ``[1, features, outcome]`` with zeros where nothing can be learned.

    Parameters
    ----------
    features
        Shape (streams, rows, p), finite where usable.
    y
        Shape (streams, rows).
    usable
        Shape (streams, rows).

    Returns
    -------
    Floats
        Shape (streams, rows, p + 2).
    """
    made = np.empty((*y.shape, features.shape[2] + 2))
    made[:, :, 0] = 1.0
    made[:, :, 1:-1] = features
    made[:, :, -1] = y
    made[~usable] = 0.0
    return made


def sums(rows: Floats, weight: Floats) -> Floats:
    """Weighted sums of products, shape (streams, p + 2, p + 2), of rows (streams, n, p + 2), weights (streams, n)."""
    made: Floats = np.matmul((rows * weight[:, :, None]).transpose(0, 2, 1), rows)
    return made


def solved(total: Floats, *, penalty: float, n_rows: Floats) -> Floats:
    """Ridge regression on standardised features, from sums of products.

    Parameters
    ----------
    total
        Shape (..., p + 2, p + 2), of `sums`, perhaps of several batches.
    penalty
        Added to the diagonal of the standardised products, whose entries grow with the number of rows.
    n_rows
        Shape (...,), rows that the sums are taken to stand for: weighted sums are brought to this mass.

    Returns
    -------
    Floats
        Shape (..., p + 1), intercept and coefficients; NaN where there are fewer than two rows.
    """
    p = total.shape[-1] - 2
    mass = total[..., 0, 0]
    enough = (mass > 0) & (n_rows >= 2)
    share = np.where(enough, mass, 1.0)[..., None]
    mean = total[..., 0, 1:] / share
    spread = total[..., 1:, 1:] / share[..., None] - mean[..., :, None] * mean[..., None, :]
    variance = np.einsum("...ii->...i", spread)[..., :p]
    sd = np.sqrt(np.maximum(variance, 0.0))
    usable = sd > TINY_SD
    sd = np.where(usable, sd, 1.0)
    both = usable[..., :, None] & usable[..., None, :]
    correlation = np.where(both, spread[..., :p, :p] / (sd[..., :, None] * sd[..., None, :]), 0.0)
    target = np.where(usable, spread[..., :p, p] / sd, 0.0)
    ridge = penalty / np.maximum(n_rows, 1.0) + 1e-9
    system = correlation + np.eye(p) * ridge[..., None, None]
    beta = np.linalg.solve(system, target[..., None])[..., 0] / sd
    intercept = mean[..., p] - (mean[..., :p] * beta).sum(axis=-1)
    made = np.concatenate([intercept[..., None], beta], axis=-1)
    return np.where(enough[..., None], made, np.nan)


def applied(solution: Floats, features: Floats) -> Floats:
    """Intercept plus features times coefficients.

    Parameters
    ----------
    solution
        Shape (streams, p + 1), or (streams, rows, p + 1) where it differs from row to row.
    features
        Shape (streams, rows, p).

    Returns
    -------
    Floats
        Shape (streams, rows); added up in one order, so that a value has the same last bit however many are made.
    """
    wide = solution if solution.ndim == 3 else solution[:, None, :]
    total = np.broadcast_to(wide[..., 0], features.shape[:2]).copy()
    for j in range(features.shape[2]):
        total += features[:, :, j] * wide[..., j + 1]
    return total
