"""Least squares from sums of products, which grow batch by batch and forget."""

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints

TINY_SD = 1e-7
"""Standard deviation below which a feature counts as constant."""

ROUNDINGS = 16
"""Last places of its mean square up to which a feature's variance may come from the rounding of the sums."""

RELATIVE_PENALTY = 1e-9
"""Of a standardised product; keeps a system of equal features solvable."""

SYSTEMS_AT_ONCE = 96
"""Systems that are added to, or solved, together: their numbers fit into the cache."""


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


def accumulated(total: NDArray[np.float32], rows: Floats, group: Ints, *, decay: float) -> NDArray[np.float32]:
    """Sums of products by group after some more rows, the sums before them forgotten at a rate.

    Parameters
    ----------
    total
        Shape (streams, groups, p + 2, p + 2).
    rows
        Shape (streams, n, p + 2), of `rows_of`.
    group
        Shape (n,), group of each row.
    decay
        Weight of ``total``.

    Returns
    -------
    NDArray[np.float32]
        Shape of ``total``.
    """
    made = np.empty_like(total)
    count = np.bincount(group, minlength=total.shape[1])
    begin, order = np.cumsum(count) - count, np.argsort(group, kind="stable")
    alike = [(int(n), np.flatnonzero(count == n)) for n in np.unique(count[count > 0])]
    narrow = rows.astype(np.float32)
    size = max(1, SYSTEMS_AT_ONCE // max(1, total.shape[1]))
    for at in range(0, len(total), size):
        part = slice(at, at + size)
        np.multiply(total[part], np.float32(decay), out=made[part])
        for n, groups in alike:  # all groups with as many rows at once
            mine = narrow[part][:, order[begin[groups][:, None] + np.arange(n)]]
            wide = mine.transpose(0, 1, 3, 2)
            made[part, groups if len(groups) < len(count) else slice(None)] += (
                wide * mine if n == 1 else np.matmul(wide, mine)
            )
    return made


def solved(total: Floats | NDArray[np.float32], *, penalty: float, n_rows: Floats) -> Floats:
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
    flat, rows = total.reshape(-1, p + 2, p + 2), n_rows.reshape(-1)
    made = np.empty((len(flat), p + 1))
    for at in range(0, len(flat), SYSTEMS_AT_ONCE):
        part = slice(at, at + SYSTEMS_AT_ONCE)
        made[part] = _solved(flat[part], penalty, rows[part])
    return made.reshape(*n_rows.shape, p + 1)


def _solved(total: Floats | NDArray[np.float32], penalty: float, n_rows: Floats) -> Floats:
    p = total.shape[-1] - 2
    mass = total[:, 0, 0].astype(np.float64)
    enough = (mass > 0) & (n_rows >= 2)
    share = 1.0 / np.where(enough, mass, 1.0)
    first = total[:, 0, 1:].astype(np.float64)
    mean = first * share[:, None]
    system = np.multiply(-mean[:, :p, None], first[:, None, :p])
    system += total[:, 1:-1, 1:-1]
    variance = np.einsum("nii->ni", system) * share[:, None]
    rounding = ROUNDINGS * float(np.finfo(total.dtype).eps) * mean[:, :p] ** 2  # what is left of a constant's variance
    usable = variance > np.maximum(rounding, TINY_SD**2)
    per_root = np.where(usable, np.sqrt(share[:, None] / np.where(usable, variance, 1.0)), 0.0)
    system *= per_root[:, :, None]  # in place: the numbers stay in the cache
    system *= per_root[:, None, :]
    np.einsum("nii->ni", system)[:] += (penalty / np.maximum(n_rows, 1.0) + RELATIVE_PENALTY)[:, None]
    target = (total[:, 1:-1, -1] - first[:, :p] * mean[:, p:]) * per_root
    beta = np.linalg.solve(system, target[:, :, None])[:, :, 0] * per_root
    intercept = mean[:, p] - (mean[:, :p] * beta).sum(axis=1)
    made = np.concatenate([intercept[:, None], beta], axis=1)
    return np.where(enough[:, None], made, np.nan)


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
