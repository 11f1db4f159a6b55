"""What a loss test needs to know about one closed batch: a few numbers per stream instead of all its losses."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

BLOCK_CELLS = 1 << 16
"""Losses that are worked on at once (512 KiB): temporary arrays of this size stay in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """One closed batch, arrays of shape (streams,); NaN where nothing was scored.

    ``zero_share`` and ``event_size`` describe sparse losses (0/1, counts) and are NaN where nobody asked for them.
    """

    n: Ints  # scored targets
    n_targets: int  # of a complete batch
    mean_loss: Floats
    yardsticks: Floats  # shape (k, streams): mean losses of k yardsticks on the same targets
    zero_share: Floats  # share of the scored losses that are exactly zero
    event_size: Floats  # size-weighted mean size of a loss, sum(l^2) / sum(l), units of the loss
    single: Floats | None = None  # shape (streams, n_targets), for tests on single losses


def summarise_batch(
    losses: Floats,
    yardsticks: Floats | None = None,
    *,
    min_share: float = 0.0,
    describe: Bools | None = None,
    keep_single: bool = False,
) -> BatchSummary:
    """Reduce the losses of a batch to what the tests look at.

    Parameters
    ----------
    losses
        Shape (streams, n), >= 0, NaN where missing.
    yardsticks
        Shape (k, streams, n), losses of yardsticks (a naive forecast, other versions) on the same targets; only
        targets that have all of them are counted where there is any.
    min_share
        Share of the n targets that must be scored for a mean, in [0, 1].
    describe
        Shape (streams,): streams whose sparseness is measured; None for all.
    keep_single
        Keep the losses themselves, for tests that need them.

    Raises
    ------
    ValueError
        Wrong shapes; a negative or infinite loss, with the first stream that has one.

    Examples
    --------
    >>> made = summarise_batch(np.array([[1.0, 3.0], [np.nan, 4.0], [0.0, 0.0]]))
    >>> made.mean_loss.tolist(), made.n.tolist(), made.zero_share.tolist()
    ([2.0, 4.0, 0.0], [2, 1, 2], [0.0, 0.0, 1.0])
    """
    losses, yards = checked(losses, yardsticks)
    n_streams, n_targets = losses.shape
    mean = np.empty(n_streams)
    n = np.full(n_streams, n_targets, dtype=np.int64)
    yard_means = np.empty((len(yards), n_streams))
    step = max(1, BLOCK_CELLS // max(1, n_targets))
    for at in range(0, n_streams, step):
        rows = slice(at, min(at + step, n_streams))
        mean[rows] = losses[rows].sum(axis=1)
        for yard, into in zip(yards, yard_means, strict=True):
            into[rows] = yard[rows].sum(axis=1)
    mean /= n_targets or np.nan
    yard_means /= n_targets or np.nan
    gaps = np.flatnonzero(np.isnan(mean + yard_means.sum(axis=0)))
    if len(gaps):
        mean[gaps], yard_means[:, gaps], n[gaps] = _with_gaps(losses[gaps], yards[:, gaps], min_share)
    _refuse_impossible(mean, losses)
    zero_share, event_size = np.full(n_streams, np.nan), np.full(n_streams, np.nan)
    wanted = np.arange(n_streams) if describe is None else np.flatnonzero(describe)
    if len(wanted):
        zero_share[wanted], event_size[wanted] = _sparseness(losses[wanted])
    return BatchSummary(
        n=n, n_targets=n_targets, mean_loss=mean, yardsticks=yard_means, zero_share=zero_share,
        event_size=event_size, single=losses if keep_single else None,
    )  # fmt: skip


def checked(losses: Floats, yardsticks: Floats | None) -> tuple[Floats, Floats]:
    """Losses and yardsticks as float arrays of matching shapes; ValueError otherwise."""
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2:
        raise ValueError(f"losses have shape {losses.shape}, expected (streams, n)")
    if yardsticks is None:
        return losses, np.empty((0, *losses.shape))
    yards = np.asarray(yardsticks, dtype=np.float64)
    if yards.ndim != 3 or yards.shape[1:] != losses.shape:
        raise ValueError(f"yardsticks have shape {yards.shape}, expected (k, {losses.shape[0]}, {losses.shape[1]})")
    return losses, yards


def _with_gaps(losses: Floats, yards: Floats, min_share: float) -> tuple[Floats, Floats, Ints]:
    """Means over the targets that the losses and every yardstick have; the losses' own where there is none."""
    scored = ~np.isnan(losses)
    shared = scored & ~np.isnan(yards).any(axis=0)
    n = np.count_nonzero(scored, axis=1).astype(np.int64)
    # the tolerance keeps 0.07 * 100 = 7.000000000000001 from asking for an eighth target
    enough = n >= max(1.0, min_share * losses.shape[1] - 1e-9)
    n_shared = np.count_nonzero(shared, axis=1)
    use = np.where((n_shared > 0)[:, None], shared, scored)
    count = np.maximum(np.count_nonzero(use, axis=1), 1)
    mean = np.where(enough, np.sum(losses, axis=1, where=use) / count, np.nan)
    yard = np.sum(yards, axis=2, where=shared[None]) / np.maximum(n_shared, 1)
    return mean, np.where(enough & (n_shared > 0), yard, np.nan), n


def _refuse_impossible(mean: Floats, losses: Floats) -> None:
    """Infinite or negative losses are a mistake of the caller and would poison the fleet's statistics."""
    if not (np.isinf(mean).any() or (mean < 0.0).any()):
        return
    row = int(np.flatnonzero(np.isinf(mean) | (mean < 0.0))[0])
    wrong = losses[row][np.isinf(losses[row]) | (losses[row] < 0.0)]
    shown = f"{wrong[0]:g}" if len(wrong) else "a sum beyond the range of floating point"
    raise ValueError(f"losses of stream {row}: {shown}; expected finite numbers >= 0, or NaN where missing")


def _sparseness(losses: Floats) -> tuple[Floats, Floats]:
    scored = ~np.isnan(losses)
    n = np.count_nonzero(scored, axis=1)
    zeros = np.count_nonzero(losses == 0.0, axis=1)
    total = np.sum(losses, axis=1, where=scored)
    squares = np.sum(np.square(losses, where=scored, out=np.zeros_like(losses)), axis=1)
    size = np.zeros(len(losses))
    np.divide(squares, total, out=size, where=total > 0.0)
    return np.where(n > 0, zeros / np.maximum(n, 1), np.nan), np.where(n > 0, size, np.nan)
