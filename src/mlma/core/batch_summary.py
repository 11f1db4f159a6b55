"""What a loss test needs to know about one closed batch: a few numbers per stream instead of all its losses."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.for_all import for_all
from mlma.core.moments import Moments, moments_of
from mlma.core.settings import LossTestName

BLOCK_CELLS = 1 << 18
"""Losses that are worked on at once (2 MiB), so that what is looked at twice is still in the cache."""

CANCELLED = 1e-4
"""Share of the sum of squares that the squared deviations must be, or they are computed from the losses once more."""


class Detail(StrEnum):
    """What a test looks at beside the mean losses."""

    NOTHING = "nothing"
    MOMENTS = "moments"
    SINGLE = "single"

    @classmethod
    def of(cls, test: LossTestName) -> "Detail":
        """What a test of this name needs."""
        if test is LossTestName.WELCH:
            return cls.MOMENTS
        is_single = test in (LossTestName.MANN_WHITNEY, LossTestName.KOLMOGOROV_SMIRNOV, LossTestName.HAC_MEAN)
        return cls.SINGLE if is_single else cls.NOTHING


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
    moments: Moments | None = None  # of the losses that ``mean_loss`` counts, for Welch's test
    single: Floats | None = None  # the same losses, shape (streams, n_targets), for the other tests on single losses


def summarise_batch(
    losses: Floats,
    yardsticks: Floats | None = None,
    *,
    min_share: float = 0.0,
    describe: Bools | None = None,
    detail: Detail = Detail.NOTHING,
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
    detail
        What is kept beside the mean losses.

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
    yard_means = np.empty((len(yards), n_streams))
    squares = np.empty(n_streams) if detail is Detail.MOMENTS else None
    step = max(1, BLOCK_CELLS // max(1, n_targets))
    for values, into in zip((losses, *yards), (mean, *yard_means), strict=True):
        if not _add_up(values, into, step, squares if into is mean else None):
            _refuse(losses, yards)
    mean /= n_targets or np.nan
    yard_means /= n_targets or np.nan
    zero_share, event_size = _described(losses, describe, step)
    n, gaps = for_all(n_targets, n_streams), np.empty(0, dtype=np.int64)
    if not (np.isfinite(mean.max(initial=0.0)) and np.isfinite(yard_means.max(initial=0.0))):
        gaps = np.flatnonzero(np.isnan(mean + yard_means.sum(axis=0) if len(yards) else mean))
        if len(gaps):
            n = n.copy()
            mean[gaps], yard_means[:, gaps], n[gaps] = _with_gaps(losses[gaps], yards[:, gaps], min_share)
        if np.isinf(mean).any() or np.isinf(yard_means).any():
            _refuse(losses, yards)
    return BatchSummary(
        n=n, n_targets=n_targets, mean_loss=mean, yardsticks=yard_means, zero_share=zero_share,
        event_size=event_size,
        moments=None if squares is None else _moments(losses, yards, mean, squares, gaps),
        single=_counted(losses, yards, gaps) if detail is Detail.SINGLE else None,
    )  # fmt: skip


def _add_up(values: Floats, into: Floats, step: int, squares: Floats | None = None) -> bool:
    """Write the sums of the rows into an array of shape (streams,), so many at once; False where a loss is negative.

    Those of the squares too, where there is an array for them.
    """
    signs = values.view(np.int64)  # negative where the sign bit is set; whole numbers are compared faster, NaN or not
    for at in range(0, len(values), step):
        part = slice(at, at + step)
        np.einsum("st->s", values[part], out=into[part])
        if squares is not None:
            np.einsum("st,st->s", values[part], values[part], out=squares[part])
        if np.minimum.reduce(signs[part], axis=None, initial=0) < 0 and (values[part] < 0.0).any():  # or -0.0
            return False
    return True


def checked(losses: ArrayLike, yardsticks: ArrayLike | None, *, n_streams: int | None = None) -> tuple[Floats, Floats]:
    """Losses and yardsticks as float arrays of matching shapes, with so many streams if that is known.

    Raises
    ------
    ValueError
        Other shapes, or what is no real number, with the first stream that has such a thing.
    """
    made = _numbers(losses, "losses of stream {}")
    if made.ndim != 2 or len(made) != (len(made) if n_streams is None else n_streams):
        wanted = "streams" if n_streams is None else n_streams
        raise ValueError(f"losses have shape {made.shape}, expected ({wanted}, n)")
    if yardsticks is None:
        return made, np.empty((0, *made.shape))
    yards = _numbers(yardsticks, "yardstick {} of stream {}")
    if yards.ndim != 3 or yards.shape[1:] != made.shape:
        raise ValueError(f"yardsticks have shape {yards.shape}, expected (k, {made.shape[0]}, {made.shape[1]})")
    return made, yards


EXPECTED = "expected finite numbers >= 0, or NaN where missing"


def _numbers(values: ArrayLike, where: str) -> Floats:
    """An array of floats, or a ValueError that says where something else stands."""
    try:
        found = np.asarray(values)
        if not np.iscomplexobj(found):
            return np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.asarray(values, dtype=object)
    for place, value in np.ndenumerate(found):
        if len(place) == where.count("{}") + 1 and not _is_number(value):
            raise ValueError(f"{where.format(*place)}: {value!r}; {EXPECTED}")
    raise ValueError(f"{where.split(' ', maxsplit=1)[0]}: not a table of numbers; {EXPECTED}")


def _is_number(value: object) -> bool:
    if isinstance(value, complex | np.complexfloating):
        return False
    try:
        float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError):
        return False
    return True


def _refuse(losses: Floats, yards: Floats) -> None:
    """Infinite or negative losses are a mistake of the caller and would poison the fleet's statistics."""
    for number, values in enumerate((losses, *yards)):
        name = "losses" if number == 0 else f"yardstick {number - 1}"
        wrong = np.isinf(values) | (values < 0.0)
        if wrong.any():
            stream = int(np.argmax(wrong.any(axis=1)))
            raise ValueError(f"{name} of stream {stream}: {values[stream][wrong[stream]][0]:g}; {EXPECTED}")
    with np.errstate(over="ignore"):
        stream = int(np.argmax(np.isinf(np.nansum([losses, *yards], axis=2)).any(axis=0)))
    raise ValueError(f"losses of stream {stream}: a sum beyond the range of floating point; {EXPECTED}")


def _with_gaps(losses: Floats, yards: Floats, min_share: float) -> tuple[Floats, Floats, Ints]:
    """Means over the targets that the losses and every yardstick have; the losses' own where there is none."""
    scored, shared = _scored(losses, yards)
    n = np.count_nonzero(scored, axis=1).astype(np.int64)
    # the tolerance keeps 0.07 * 100 = 7.000000000000001 from asking for an eighth target
    enough = n >= max(1.0, min_share * losses.shape[1] - 1e-9)
    n_shared = np.count_nonzero(shared, axis=1)
    use = np.where((n_shared > 0)[:, None], shared, scored)
    count = np.maximum(np.count_nonzero(use, axis=1), 1)
    mean = np.where(enough, np.sum(losses, axis=1, where=use) / count, np.nan)
    yard = np.sum(yards, axis=2, where=shared[None]) / np.maximum(n_shared, 1)
    return mean, np.where(enough & (n_shared > 0), yard, np.nan), n


def _scored(losses: Floats, yards: Floats) -> tuple[Bools, Bools]:
    """Which targets have a loss, and which of them have every yardstick."""
    scored = ~np.isnan(losses)
    return scored, np.asarray(scored & ~np.isnan(yards).any(axis=0))


def _counted(losses: Floats, yards: Floats, gaps: Ints) -> Floats:
    """The losses that a mean counts, NaN for the others; ``gaps`` are the streams that lack any."""
    if not len(gaps):
        return losses
    made = losses.copy()
    scored, shared = _scored(losses[gaps], yards[:, gaps])
    made[gaps] = np.where(np.where(shared.any(axis=1, keepdims=True), shared, scored), losses[gaps], np.nan)
    return made


def _moments(losses: Floats, yards: Floats, mean: Floats, squares: Floats, gaps: Ints) -> Moments:
    """Moments of the losses that the means count, from the sums of squares where these have the digits for it."""
    n, n_targets = np.full(len(mean), float(losses.shape[1])), losses.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        made = Moments(n, mean.copy(), squares - n_targets * np.square(mean))
        is_other = ~(made.squares > CANCELLED * squares)  # infinite ones among them
        is_other[gaps] = True
        others = np.flatnonzero(is_other)
        if len(others):
            counted = _counted(losses[others], yards[:, others], np.arange(len(others)))
            counted[np.isnan(mean[others])] = np.nan
            for into, part in zip(made, moments_of(counted), strict=True):
                into[others] = part
    return made


def _described(losses: Floats, describe: Bools | None, step: int) -> tuple[Floats, Floats]:
    """`_sparseness` of the streams that are asked for, so many at once; NaN for the others."""
    n_streams = len(losses)
    wanted = np.arange(n_streams) if describe is None else np.flatnonzero(describe)
    if not len(wanted):
        nobody = for_all(np.nan, n_streams)
        return nobody, nobody
    zero_share, event_size = np.full((2, n_streams), np.nan)
    for at in range(0, len(wanted), step):
        streams = wanted[at : at + step]
        zero_share[streams], event_size[streams] = _sparseness(losses[streams])
    return zero_share, event_size


def _sparseness(losses: Floats) -> tuple[Floats, Floats]:
    """Share of zeros, and mean size of a loss weighted by its size; arrays of shape (streams,)."""
    total, squares = np.einsum("st->s", losses), np.einsum("st,st->s", losses, losses)
    n = np.full(len(losses), losses.shape[1])
    gaps = np.flatnonzero(np.isnan(total))
    if len(gaps):
        scored = ~np.isnan(losses[gaps])
        n[gaps], known = np.count_nonzero(scored, axis=1), np.where(scored, losses[gaps], 0.0)
        total[gaps], squares[gaps] = known.sum(axis=1), np.square(known).sum(axis=1)
    zeros = np.count_nonzero(losses == 0.0, axis=1)
    size = np.zeros(len(losses))
    with np.errstate(invalid="ignore"):  # infinite losses are refused by the caller
        np.divide(squares, total, out=size, where=total > 0.0)
    return np.where(n > 0, zeros / np.maximum(n, 1), np.nan), np.where(n > 0, size, np.nan)
