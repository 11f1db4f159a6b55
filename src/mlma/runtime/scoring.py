"""From the rings of one shard to what its newest batch is held against, block by block of streams.

Every step makes temporary arrays of all streams and batches; a block of rows at a time, they stay in the cache.
"""

from dataclasses import dataclass

import numpy as np

from mlma.core import losses, reference
from mlma.core.blocks import Bools, Floats, Ints, LossBlock
from mlma.core.reference import Reference
from mlma.core.settings import ReferencePolicy, TestingSettings, Yardstick
from mlma.runtime.outcomes import row_blocks

LOSS_FLOOR = 1e-3
"""Share of a stream's usual naive loss that is added before the logarithm, so that a perfect batch stays finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The newest batch of each stream and its references, arrays of shape (streams,)."""

    tested: Floats
    adaptive: Reference  # of the tested number
    anchored: Reference
    adaptive_loss: Floats  # mean loss over the same batches
    anchored_loss: Floats
    adaptive_members: Bools  # shape (streams, batches - 1)
    anchored_members: Bools


def mean_losses(block: LossBlock, settings: TestingSettings) -> tuple[Floats, Floats]:
    """Mean loss of the served and of the naive forecasts of one batch, each of shape (streams,)."""
    served, naive = np.empty(len(block.y)), np.empty(len(block.y))
    for rows in row_blocks(*block.y.shape):
        for mean, forecast in ((served, block.forecast), (naive, block.naive)):
            single = losses.loss(settings.loss, block.y[rows], forecast[rows], quantile=settings.quantile)
            mean[rows] = losses.batch_mean(single, min_share=settings.min_outcomes).mean
    return served, naive


def compare(
    mean_loss: Floats,
    naive_loss: Floats,
    *,
    batches: Ints,
    since: Ints,
    excluded: Bools | None,
    settings: TestingSettings,
) -> Comparison:
    """Hold the last column of the loss rings against the ones before it.

    Parameters
    ----------
    mean_loss, naive_loss
        Shape (streams, batches), mean losses of the served and of the naive forecasts; NaN where missing.
    batches
        Shape (batches,), their numbers.
    since
        Shape (streams,): only batches after this one belong to a reference.
    excluded
        Shape (streams, batches) of those that must not belong to a reference, or None.
    """
    parts = [
        _compare(
            mean_loss[rows],
            naive_loss[rows],
            batches=batches,
            since=since[rows],
            excluded=None if excluded is None else excluded[rows],
            settings=settings,
        )
        for rows in row_blocks(*mean_loss.shape)
    ]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _compare(mean_loss, naive_loss, batches=batches, since=since, excluded=excluded, settings=settings)
    return Comparison(
        tested=np.concatenate([part.tested for part in parts]),
        adaptive=reference.joined([part.adaptive for part in parts]),
        anchored=reference.joined([part.anchored for part in parts]),
        adaptive_loss=np.concatenate([part.adaptive_loss for part in parts]),
        anchored_loss=np.concatenate([part.anchored_loss for part in parts]),
        adaptive_members=np.concatenate([part.adaptive_members for part in parts]),
        anchored_members=np.concatenate([part.anchored_members for part in parts]),
    )


def _compare(
    mean_loss: Floats,
    naive_loss: Floats,
    *,
    batches: Ints,
    since: Ints,
    excluded: Bools | None,
    settings: TestingSettings,
) -> Comparison:
    usual = reference.means(naive_loss, np.isfinite(naive_loss))
    floor = np.where(usual > 0, LOSS_FLOOR * usual, 1e-12)
    yardstick = naive_loss if settings.yardstick is Yardstick.NAIVE else None
    if settings.reference is ReferencePolicy.BEST:
        known = losses.relative_log_loss(mean_loss, yardstick, floor)
    else:  # time alone chooses: this is finite where the tested number is, and costs no logarithm
        known = mean_loss if yardstick is None else mean_loss + yardstick
    past = known[:, :-1]
    if excluded is not None:
        past = np.where(excluded[:, :-1], np.nan, past)
    adaptive = reference.membership(past, batches[:-1], since, policy=settings.reference, size=settings.reference_size)
    anchored = reference.anchored_membership(past, batches[:-1], since, size=settings.anchored_size)
    wanted = np.ones(mean_loss.shape, dtype=np.bool_)
    wanted[:, :-1] = adaptive | anchored
    tested = np.full(mean_loss.shape, np.nan)
    tested[wanted] = losses.relative_log_loss(
        mean_loss[wanted],
        None if yardstick is None else yardstick[wanted],
        np.repeat(floor, np.count_nonzero(wanted, axis=1)),
    )
    return Comparison(
        tested=tested[:, -1].copy(),
        adaptive=reference.summarise(tested[:, :-1], adaptive),
        anchored=reference.summarise(tested[:, :-1], anchored),
        adaptive_loss=reference.means(mean_loss[:, :-1], adaptive),
        anchored_loss=reference.means(mean_loss[:, :-1], anchored),
        adaptive_members=adaptive,
        anchored_members=anchored,
    )
