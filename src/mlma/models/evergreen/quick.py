"""Quick members: they know nothing but the last day, and so know of a change a day after it.

The members that learn weigh a whole train window, and need days until a change shows. These say: as yesterday, as the
last day was in the middle, or as usual but as much higher as the last day was.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mlma.core.blocks import Floats, Ints
from mlma.core.schedule import Schedule
from mlma.core.settings import Evergreen
from mlma.models.evergreen.design import TAIL, WEEKS, median_of
from mlma.models.past import padded

LEVEL_SD = 0.2
"""Standard deviation of the logarithm by which a level moves: what is expected before a day was looked at."""

MIN_COMPARABLE = 0.5
"""Share of a day's values that must lie on the same side of zero as usual, for their ratio to say anything."""

SMALLEST_SPAN = 5
"""Slots that a last day has at least, where slots are weeks: a single wild value must not be its middle."""

EDGE = 0.1
"""Share of a day's values that are left out on either side before its spread is looked at."""

MAD_TO_SD, MEDIAN_VARIANCE = 1.4826, np.pi / 2.0
"""Of normal values: standard deviation over median absolute deviation, and variance of a median over that of a mean."""

REACH_SEASONS = 4
"""Seasons, or horizons, whose values say how far a regression may reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDay:
    """Values of the day, or of the horizon where that is longer, before every origin.

    Where a slot is a day or longer, a season takes the place of the day.
    """

    y: Floats  # (streams, origins, slots); NaN for missing
    ordered: Floats  # sorted, NaN last
    n: Ints  # (streams, origins), values that are known

    @classmethod
    def of(cls, y: Floats, schedule: Schedule, *, start: int, first: int, last: int) -> "LastDay":
        """Days before the origins of the targets ``first .. last - 1``; ``y`` of shape (streams, T) from ``start``."""
        at = _before(schedule, first, last)
        past = padded(y, start=start, lo=int(at[0, 0]), hi=int(at[-1, -1]) + 1)
        day = past[:, at - at[0, 0]]
        return cls(y=day, ordered=np.sort(day, axis=2), n=np.isfinite(day).sum(axis=2))

    def quantile(self, share: float) -> Floats:
        """Value with this share of those known below it, shape (streams, origins); NaN where none is."""
        at = np.floor(share * np.maximum(self.n - 1, 0)).astype(np.int64)
        made: Floats = np.take_along_axis(self.ordered, at[:, :, None], axis=2)[:, :, 0]
        return made

    def bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest value that such a day lets expect, each (streams, origins); NaN where nothing is known.

        As `mlma.models.evergreen.design.bounds`, but of one day: a few wild values are none of it.
        """
        middle, low, high = (self.quantile(share) for share in (0.5, EDGE, 1.0 - EDGE))
        return middle - TAIL * (middle - low), middle + TAIL * (high - middle)


def _before(schedule: Schedule, first: int, last: int) -> Ints:
    """Slots of the last day before every origin, shape (origins, slots)."""
    origins = np.arange(first // schedule.horizon * schedule.horizon, last, schedule.horizon)
    return origins[:, None] + np.arange(-span(schedule), 0)


def span(schedule: Schedule) -> int:
    """Slots that quick members look back."""
    day = schedule.slots_per_day if schedule.slots_per_day > 1 else schedule.season
    return max(schedule.horizon, day, SMALLEST_SPAN)


def quick(
    family: Evergreen, y: Floats, usual: Floats, clean: Floats, limits: Floats, schedule: Schedule, *,
    start: int, first: int, last: int, day: LastDay,
) -> Floats:  # fmt: skip
    """Forecasts of a quick member for the targets ``first .. last - 1``.

    Parameters
    ----------
    family
        Which one.
    y, clean
        Shape (streams, T), values by slot from ``start``, as they came and pulled in to the bounds of the members
        that learn.
    usual
        Shape (streams, targets), median of the same slot of the last weeks.
    limits
        Shape (streams, 2), these bounds. What lies within them, or is near the last day, may be forecast.
    day
        Of the same values ``y`` and targets.

    Returns
    -------
    Floats
        Shape (streams, targets); NaN where nothing is known.
    """
    of_target = np.arange(first, last) // schedule.horizon - first // schedule.horizon
    if family is Evergreen.LEVEL:
        return _middle(day)[:, of_target]
    if family is Evergreen.YESTERDAY:
        made = _yesterday(y, schedule, start=start, first=first, last=last)
    else:
        seen = _usual_before(clean, schedule, start=start, first=first, last=last)
        made = usual * factor(day.y, seen)[:, of_target]
    low, high = day.bounds()
    low, high = np.fmin(low, limits[:, :1])[:, of_target], np.fmax(high, limits[:, 1:])[:, of_target]
    return np.clip(made, low, high)


def _middle(day: LastDay) -> Floats:
    """Median of every day, shape (streams, origins)."""
    found: Floats = (day.quantile(0.5) + _upper(day)) / 2.0
    return found


def _upper(day: LastDay) -> Floats:
    at = np.minimum(day.n // 2, day.ordered.shape[2] - 1)
    made: Floats = np.take_along_axis(day.ordered, at[:, :, None], axis=2)[:, :, 0]
    return made


def _yesterday(y: Floats, schedule: Schedule, *, start: int, first: int, last: int) -> Floats:
    """The same slot of the newest day that is known; NaN where slots are days or longer."""
    per_day = schedule.slots_per_day
    if per_day == 1:
        return np.full((len(y), last - first), np.nan)
    targets = np.arange(first, last)
    at = targets - (targets % schedule.horizon // per_day + 1) * per_day
    past = padded(y, start=start, lo=int(at.min()), hi=int(at.max()) + 1)
    return past[:, at - at.min()]


def _usual_before(clean: Floats, schedule: Schedule, *, start: int, first: int, last: int) -> Floats:
    """Median of the same slot of the weeks before, for the slots of the last days; (streams, origins, slots)."""
    at = _before(schedule, first, last)
    n_weeks = max(1, WEEKS - -(-at.shape[1] // schedule.season))  # no further back than the median of a target looks
    lo, hi = int(at[0, 0]), int(at[-1, -1]) + 1
    weeks = [
        padded(clean, start=start, lo=lo - back, hi=hi - back) for back in schedule.season * np.arange(1, n_weeks + 1)
    ]
    return median_of(np.sort(np.stack(weeks), axis=0))[:, at - lo]


def factor(day: Floats, usual: Floats) -> Floats:
    """How many times as high as usual a day was: the median ratio, drawn towards 1 by how little it says.

    The logarithm of the level is taken for normal with `LEVEL_SD` around the usual one, and its median for normal
    around it; the mean of what remains possible is their precision-weighted mean (Gelman et al. 2013, section 2.5).

    Parameters
    ----------
    day, usual
        Shape (streams, origins, slots); NaN for missing.

    Returns
    -------
    Floats
        Shape (streams, origins), above 0; 1 where fewer than half of the values can be compared.

    Examples
    --------
    >>> factor(np.array([[[2.0, 6.0, 4.0], [0.0, 0.0, 9.0]]]), np.array([[[1.0, 3.0, 2.0], [1.0, 1.0, 1.0]]]))
    array([[2., 1.]])
    """
    known, alike = np.isfinite(day) & np.isfinite(usual), day * usual > 0
    ratio = np.where(alike, np.log(np.divide(day, usual, out=np.ones_like(day), where=alike)), np.nan)
    middle = median_of(np.sort(np.moveaxis(ratio, 2, 0), axis=0))
    away = median_of(np.sort(np.moveaxis(np.abs(ratio - middle[:, :, None]), 2, 0), axis=0))
    n = alike.sum(axis=2)
    variance = MEDIAN_VARIANCE * (MAD_TO_SD * away) ** 2 / np.maximum(n, 1)
    enough = (n > 0) & (n >= MIN_COMPARABLE * known.sum(axis=2))
    drawn = np.where(enough, middle, 0.0) * LEVEL_SD**2 / (LEVEL_SD**2 + np.where(enough, variance, 0.0))
    made: Floats = np.exp(drawn)
    return made


def reach(clean: Floats, schedule: Schedule, *, start: int, first: int, last: int, lookback: int) -> Floats:
    """How far from what it saw of late a stream may be expected, for every target.

    A regression that meets features unlike any it learned from, as on the day after a fault or a break, may say
    anything. The values of the last four seasons, or horizons, say what to believe: their range, and on either side
    as much as a straight line through all of it gains within one horizon.

    Parameters
    ----------
    clean
        Shape (streams, T), values by slot from ``start``.
    lookback
        Slots before an origin that may be looked at.

    Returns
    -------
    Floats
        Shape (2, streams, targets), lowest and highest; infinite where nothing is known.
    """
    horizon = schedule.horizon
    n = max(1, min(lookback, REACH_SEASONS * max(schedule.season, horizon)) // horizon)
    begin = first // horizon * horizon
    n_origins = -(-(last - begin) // horizon)
    past = padded(clean, start=start, lo=begin - n * horizon, hi=begin + (n_origins - 1) * horizon)
    blocks = past.reshape(len(past), n + n_origins - 1, horizon)
    lowest = sliding_window_view(np.fmin.reduce(blocks, axis=2), n, axis=1)
    highest = sliding_window_view(np.fmax.reduce(blocks, axis=2), n, axis=1)
    low, high = np.fmin.reduce(lowest, axis=2), np.fmax.reduce(highest, axis=2)
    more = (high - low) / REACH_SEASONS
    known, of_target = np.isfinite(more), np.arange(first, last) // horizon - begin // horizon
    low, high = np.where(known, low - more, -np.inf), np.where(known, high + more, np.inf)
    return np.stack([low[:, of_target], high[:, of_target]])
