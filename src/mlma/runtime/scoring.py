"""From the outcomes and forecasts of a closed batch to what the loss monitor judges, shard by shard."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from mlma.core import losses, pool
from mlma.core.batch_summary import BatchSummary, Detail, summarise_batch
from mlma.core.blocks import Bools, Floats, Ints, LossBlock
from mlma.core.moments import Moments
from mlma.core.recalibration import N_SUMS, recalibrated, sums
from mlma.core.settings import TestingSettings, Yardstick
from mlma.runtime.outcomes import row_blocks
from mlma.runtime.rings import OpenMembers


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScores:
    """What shards know about one closed batch; arrays of shape (streams,), NaN where a number is missing."""

    stream_id: Ints
    n: Ints  # scored targets
    mean_loss: Floats  # of the served forecasts
    naive_loss: Floats  # of seasonal naive on the same targets
    zero_share: Floats
    event_size: Floats
    moments: Floats  # shape (streams, 3), or (streams, 0) where the test does not look at them
    single: Floats  # shape (streams, targets of a batch), or (streams, 0) where the test does not look at them
    n_rows: Ints  # clean observations in the train window
    odd_share: Floats  # of the batch's values, see `mlma.core.suspicion`
    odd_limit: Floats
    after_fault: Bools  # the batch before looked like a fault: forecasts were made without its values
    last_slot: Ints  # newest observation; -1 when there is none
    fallback: Bools  # seasonal naive served at least one target
    members: Floats  # mean losses of the members of the pools, shape (streams, seats)
    groups: Floats  # of the trained versions and of the other members among themselves, shape (streams, 2)
    recalibration: Floats  # what the batch says about each member's, shape (streams, seats, sums)
    impression: Floats  # loss of the median to seasonal naive's on the past, where nobody has forecast yet; else NaN

    @property
    def suspicious(self) -> Bools:
        """Streams whose batch looks like a fault of the feed."""
        found: Bools = self.odd_share > self.odd_limit
        return found

    def summary(self, settings: TestingSettings, n_targets: int) -> BatchSummary:
        """What the monitor judges."""
        is_relative = settings.yardstick is Yardstick.NAIVE
        return BatchSummary(
            n=self.n,
            n_targets=n_targets,
            mean_loss=self.mean_loss,
            yardsticks=self.naive_loss[None] if is_relative else np.empty((0, len(self.n))),
            zero_share=self.zero_share,
            event_size=self.event_size,
            moments=Moments(*self.moments.T) if self.moments.shape[1] else None,
            single=self.single if self.single.shape[1] else None,
        )


def summarise(block: LossBlock, settings: TestingSettings) -> BatchSummary:
    """Losses of one batch, with those of seasonal naive as the yardstick; see `summarise_batch`."""
    made = [
        summarise_batch(
            losses.loss(settings.loss, block.y[rows], block.forecast[rows], quantile=settings.quantile),
            losses.loss(settings.loss, block.y[rows], block.naive[rows], quantile=settings.quantile)[None],
            min_share=settings.min_outcomes,
            detail=Detail.of(settings.name),
        )
        for rows in row_blocks(*block.y.shape)
    ]
    n_targets = block.y.shape[1]
    columns = {
        name: np.concatenate([getattr(part, name) for part in made] or [np.empty(0)])
        for name in ("n", "mean_loss", "zero_share", "event_size")
    }
    moments = [part.moments for part in made if part.moments is not None]
    single = [part.single for part in made if part.single is not None]
    return BatchSummary(
        n_targets=n_targets,
        yardsticks=np.concatenate([part.yardsticks for part in made] or [np.empty((1, 0))], axis=1),
        moments=Moments(*(np.concatenate(each) for each in zip(*moments, strict=True))) if moments else None,
        single=np.concatenate(single) if single else None,
        **{**columns, "n": columns["n"].astype(np.int64)},
    )


def looked_at(made: BatchSummary) -> dict[str, Floats]:
    """The columns of `BatchScores` with what the test looks at beside the mean losses."""
    nothing = np.empty((len(made.n), 0))
    return {
        "moments": nothing if made.moments is None else np.stack(made.moments, axis=1),
        "single": nothing if made.single is None else made.single,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLosses:
    """Mean losses over a batch; see `mlma.core.pool`."""

    members: Floats  # (streams, seats)
    groups: Floats  # (streams, 2)
    recalibration: Floats  # (streams, seats, sums)


def score_members(
    y: Floats,
    members: OpenMembers,
    n_scored: Ints,
    settings: TestingSettings,
    *,
    n_fixed: int,
    n_ageless: int,
    recalibrates: bool,
) -> PoolLosses:
    """Losses of the members of the pools over a batch.

    Parameters
    ----------
    y
        Outcomes, shape (streams, targets).
    n_scored
        Shape (streams,), targets with a loss of the served forecast.
    n_fixed
        Seats that no version takes.
    n_ageless
        Of these the first ones, of members that do not age.
    recalibrates
        Whether the versions' forecasts are recalibrated.
    """
    raw = members.forecast
    forecast = recalibrated(raw, members.shift, members.slope)
    made = PoolLosses(
        members=np.full(raw.shape[:2], np.nan),
        groups=np.full((len(y), 2), np.nan),
        recalibration=np.zeros((*raw.shape[:2], N_SUMS)),
    )
    for rows in row_blocks(len(y), forecast.shape[1] * forecast.shape[2]):
        losses_of = partial(losses.loss, settings.loss, y[rows], quantile=settings.quantile)
        each = losses.loss(settings.loss, y[rows, None, :], forecast[rows], quantile=settings.quantile)
        made.members[rows] = pool.member_losses(each, n_scored=n_scored[rows])
        if recalibrates:
            seats = (rows, slice(n_fixed, None))
            made.recalibration[seats] = sums(y[rows], raw[seats], members.shift[seats], members.slope[seats])
        made.groups[rows] = pool.group_losses(
            losses_of, forecast[rows], members.inner[rows], n_fixed=n_fixed, n_ageless=n_ageless
        )
    return made


def gather(parts: Sequence[BatchScores], n_streams: int) -> BatchScores:
    """Scores of all shards as one, in order of stream id; every id of 0 .. n_streams - 1 occurs once.

    Raises
    ------
    ValueError
        A stream is missing or occurs twice.
    """
    stream_id = np.concatenate([part.stream_id for part in parts])
    order = np.argsort(stream_id)
    if not np.array_equal(stream_id[order], np.arange(n_streams)):
        raise ValueError(f"scores of {len(order)} streams, expected each of {n_streams} once")
    return BatchScores(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])[order]
            for field in fields(BatchScores)
        }
    )
