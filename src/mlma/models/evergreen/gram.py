"""Least squares from sums of products, which grow batch by batch and forget."""

from dataclasses import dataclass

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
"""Systems that are added to together: their numbers fit into the cache."""

SOLVED_AT_ONCE = 192
"""Systems that are solved together: more of them, since each takes many small steps."""


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


def accumulated(
    total: NDArray[np.float32], rows: Floats, group: Ints, *, decay: float, overwrite: bool = False
) -> NDArray[np.float32]:
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
    overwrite
        Write the sums over ``total``: they are the bulk of what members know, and fresh memory for them costs as
        much as the sums.

    Returns
    -------
    NDArray[np.float32]
        Shape of ``total``.
    """
    made = total if overwrite else np.empty_like(total)
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


def solved(total: Floats | NDArray[np.float32], *, penalty: float, n_rows: Floats, n_indicators: int = 0) -> Floats:
    """Ridge regression on standardised features, from sums of products.

    Parameters
    ----------
    total
        Shape (..., p + 2, p + 2), of `sums`, perhaps of several batches.
    penalty
        Added to the diagonal of the standardised products, whose entries grow with the number of rows.
    n_rows
        Shape (...,), rows that the sums are taken to stand for: weighted sums are brought to this mass.
    n_indicators
        The last so many features are 0 or 1 and exclude one another, such as weekdays. It changes no solution, but
        fewer equations are left to be solved: a third of the time less for 6 of 24 features.

    Returns
    -------
    Floats
        Shape (..., p + 1), intercept and coefficients; NaN where there are fewer than two rows.
    """
    p = total.shape[-1] - 2
    flat, rows = total.reshape(-1, p + 2, p + 2), n_rows.reshape(-1)
    made = np.empty((len(flat), p + 1))
    for at in range(0, len(flat), SOLVED_AT_ONCE):
        part = slice(at, at + SOLVED_AT_ONCE)
        made[part] = _solved(flat[part], penalty, rows[part], n_indicators)
    return made.reshape(*n_rows.shape, p + 1)


def _solved(total: Floats | NDArray[np.float32], penalty: float, n_rows: Floats, n_indicators: int) -> Floats:
    """Of the normal equations, eliminate the indicators and the intercept, solve the rest, and go back."""
    n = total.shape[-1] - 2 - n_indicators  # features that are no indicators
    mass = total[:, 0, 0].astype(np.float64)
    enough = (mass > 0) & (n_rows >= 2)
    mass_or_one = np.where(enough, mass, 1.0)
    share = 1.0 / mass_or_one
    ridge = penalty / np.maximum(n_rows, 1.0) + RELATIVE_PENALTY
    square = np.einsum("nii->ni", total)[:, 1:-1].astype(np.float64)
    variance, usable = _variance(square, total[:, 0, 1:-1].astype(np.float64), share, float(np.finfo(total.dtype).eps))
    penalised = square[:, n:] + (mass * ridge)[:, None] * variance[:, n:]
    pivots = _Pivots.of(total, n, np.divide(1.0, penalised, out=np.zeros_like(penalised), where=usable[:, n:]))
    divided = pivots.rows[:, :, :n] * pivots.inverse[:, :, None]
    system = np.matmul(divided.transpose(0, 2, 1), pivots.rows[:, :, :n])
    np.subtract(total[:, 1 : n + 1, 1 : n + 1], system, out=system)
    used = usable[:, :n]
    root = np.sqrt(np.where(used, variance[:, :n], 1.0) * mass_or_one[:, None])
    per_root = np.where(used, 1.0 / root, 0.0)
    system *= per_root[:, :, None]  # rows alone: columns decide neither on pivots nor on how sums are rounded
    np.einsum("nii->ni", system)[:] += np.where(used, ridge[:, None] * root, 1.0)
    target = (total[:, 1 : n + 1, -1] - np.matmul(pivots.rows[:, None, :, n], divided)[:, 0]) * per_root
    beta = np.linalg.solve(system, target[:, :, None])[:, :, 0]
    return np.where(enough[:, None], pivots.back(beta), np.nan)


def _variance(square: Floats, first: Floats, share: Floats, eps: float) -> tuple[Floats, Bools]:
    """Variance of every feature, shape (systems, p), and whether it is more than the rounding of a constant's sums."""
    mean = first * share[:, None]
    variance = (square - mean * first) * share[:, None]
    return variance, variance > np.maximum(ROUNDINGS * eps * mean**2, TINY_SD**2)


@dataclass(frozen=True, slots=True)
class _Pivots:
    """Equations of the intercept and of the indicators, each solved for its own coefficient."""

    rows: Floats  # (systems, 1 + indicators, n + 1): the other features and the outcome; the intercept's comes first
    inverse: Floats  # (systems, 1 + indicators) of the pivots
    slope: Floats  # (systems, indicators): what an indicator's coefficient loses with every unit of the intercept

    @classmethod
    def of(cls, total: Floats | NDArray[np.float32], n: int, inverse: Floats) -> "_Pivots":
        """Eliminate first the indicators, whose block is diagonal, then the intercept.

        Parameters
        ----------
        inverse
            Shape (systems, indicators), of the indicators' penalised squares; 0 leaves one out.
        """
        of = np.concatenate([total[:, :1], total[:, n + 1 : -1]], axis=1, dtype=np.float64)
        of[:, :, n + 1] = of[:, :, -1]
        slope = of[:, 1:, 0] * inverse
        of[:, 0] -= np.matmul(slope[:, None, :], of[:, 1:])[:, 0]
        mass = np.maximum(of[:, 0, 0], RELATIVE_PENALTY * total[:, 0, 0])  # rows that no indicator explains
        own = np.divide(1.0, mass, out=np.ones_like(mass), where=mass > 0)
        return cls(of[:, :, 1 : n + 2], np.concatenate([own[:, None], inverse], axis=1), slope)

    def back(self, beta: Floats) -> Floats:
        """Intercept and all coefficients, shape (systems, p + 1), from those of the other features."""
        left = self.rows[:, :, -1] - np.matmul(self.rows[:, :, :-1], beta[:, :, None])[:, :, 0]
        left *= self.inverse
        left[:, 1:] -= self.slope * left[:, :1]
        return np.concatenate([left[:, :1], beta, left[:, 1:]], axis=1)


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
