"""What evergreen members look at: the model's features of cleaned values, and the values just before the origin."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.schedule import Schedule
from mlma.models.features import Features

WEEKS = 8  # of the same slot, for the median
WEEKDAYS = 6  # that have an indicator; Monday is the rest
MAX_GROUPS = 24
ORIGIN_SHARE = 4
"""The means before an origin go over a quarter of a day."""

TAIL = 4.0
"""How far beyond its median a value may lie, in distances of the 1 % and 99 % quantiles from it."""

STRIDE = 5
MANY_VALUES = 2000
"""Of more values than these every fifth is looked at for the bounds: five shares no factor with 24 or 7."""

MIN_TAIL = 0.1
"""Smallest such distance, of the mean absolute value between the two quantiles."""

WILD = 5.0
"""How far beyond the bounds a value may lie, in distances of one bound from the other, and still be pulled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Features of the targets of every stream; all of shape (streams, targets, ...)."""

    numeric: Floats  # lags, means and levels, missing ones filled
    origin: Floats  # values and means just before the origin, a day and a week before that
    calendar: Floats  # (targets, columns) sine and cosine of the day, whether a weekend
    weekday: Floats  # (targets, WEEKDAYS)
    group: Ints  # (targets,) part of the day
    usable: Bools  # whether every feature is known


@dataclass(frozen=True, slots=True)
class Designer:
    """Makes the features of a schedule."""

    features: Features

    @property
    def schedule(self) -> Schedule:
        """Frequency and horizon."""
        return self.features.schedule

    @property
    def n_groups(self) -> int:
        """Parts of the day that have a model of their own."""
        return min(MAX_GROUPS, self.schedule.slots_per_day)

    @property
    def n_numeric(self) -> int:
        """Columns of `Design.numeric`."""
        return len(self._numeric)

    @property
    def n_calendar(self) -> int:
        """Columns of `Design.calendar`."""
        return 3 if self.schedule.slots_per_day > 1 else 1

    @property
    def lookback(self) -> int:
        """Slots before an origin that the features, and the median, may need."""
        schedule = self.schedule
        return max(self.features.lookback, WEEKS * schedule.season, schedule.season + self._n_origin + schedule.horizon)

    @property
    def _n_origin(self) -> int:
        return max(2, self.schedule.slots_per_day // ORIGIN_SHARE)

    @property
    def _numeric(self) -> list[int]:
        calendar = ("lead", "slot_of_day", "weekday", "day_of_month")
        return [j for j, name in enumerate(self.features.names) if name not in calendar]

    def build(self, y: Floats, *, start: int, first: int, last: int) -> Design:
        """Features of the targets ``first .. last - 1`` from values whose column ``j`` is slot ``start + j``."""
        X = self.features.build(y, start=start, first=first, last=last)
        names = self.features.names
        fill = X[:, :, names.index("lag_mean")]
        for days in (7, 28, 1):
            fill = np.where(np.isnan(fill), X[:, :, names.index(f"level_{days}")], fill)
        numeric = X[:, :, self._numeric]
        numeric = np.where(np.isnan(numeric), fill[:, :, None], numeric)
        origin = self._origin(y, start, first, last)
        origin = np.where(np.isnan(origin), fill[:, :, None], origin)
        times = self.schedule.times_of(np.arange(first, last))
        day = times.astype("datetime64[D]")
        weekday = (day.astype(np.int64) + 3) % 7
        per_day = self.schedule.slots_per_day
        slot = (
            ((times - day) // np.timedelta64(self.schedule.frequency)).astype(np.int64) if per_day > 1 else 0 * weekday
        )
        phase = 2.0 * np.pi * slot / per_day
        weekend = (weekday >= 5).astype(np.float64)
        return Design(
            numeric=np.nan_to_num(numeric),
            origin=np.nan_to_num(origin),
            calendar=np.stack([np.sin(phase), np.cos(phase), weekend] if per_day > 1 else [weekend], axis=1),
            weekday=(weekday[:, None] == np.arange(1, 1 + WEEKDAYS)).astype(np.float64),
            group=slot * self.n_groups // per_day,
            usable=np.isfinite(fill),
        )

    def _origin(self, y: Floats, start: int, first: int, last: int) -> Floats:
        """Value before the origin and mean before it, now, a day and a week earlier; (streams, targets, 6)."""
        horizon, per_day = self.schedule.horizon, self.schedule.slots_per_day
        origins = np.arange(first // horizon * horizon, last, horizon)
        n = self._n_origin
        columns = []
        for back in (0, per_day, self.schedule.season):
            at = origins[:, None] - back - np.arange(1, n + 1) - start
            inside = (at >= 0) & (at < y.shape[1])
            # laid out by row, so that a mean has the same last bit however many streams and origins there are
            values = np.ascontiguousarray(np.where(inside, y[:, np.clip(at, 0, y.shape[1] - 1)], np.nan))
            known = np.isfinite(values)
            count = known.sum(axis=2)
            mean = np.divide(
                np.where(known, values, 0.0).sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > 0
            )
            columns += [values[:, :, 0], mean]
        of_target = np.arange(first, last) // horizon - first // horizon
        return np.stack(columns, axis=2)[:, of_target]

    def same_slots(self, y: Floats, *, start: int, first: int, last: int) -> Floats:
        """Median of the same slot in the last weeks that are known, shape (streams, targets)."""
        season, horizon = self.schedule.season, self.schedule.horizon
        targets = np.arange(first, last)
        newest = targets % horizon // season + 1
        values = []
        for week in range(WEEKS):
            at = targets - (newest + week) * season - start
            inside = (at >= 0) & (at < y.shape[1])
            values.append(np.where(inside, y[:, np.clip(at, 0, y.shape[1] - 1)], np.nan))
        return median_of(np.sort(np.stack(values), axis=0))


def median_of(ordered: Floats) -> Floats:
    """Median along the first axis of sorted values, NaN last; NaN where there is none."""
    n = np.isfinite(ordered).sum(axis=0)
    low, high = np.maximum(n - 1, 0) // 2, np.minimum(n // 2, len(ordered) - 1)
    pair = [np.take_along_axis(ordered, at[None], axis=0)[0] for at in (low, high)]
    return np.where(n > 0, (pair[0] + pair[1]) / 2.0, np.nan)


def bounds(y: Floats) -> Floats:
    """Values beyond which a stream's values are pulled in, before anything is learned from them.

    Parameters
    ----------
    y
        Shape (streams, n), NaN for missing.

    Returns
    -------
    Floats
        Shape (streams, 2), lowest and highest; a stream that was never negative stays so. Infinite without values.
    """
    y = y[:, :: STRIDE if y.shape[1] > MANY_VALUES else 1]
    ordered = np.sort(y, axis=1)
    n = np.isfinite(y).sum(axis=1)

    def quantile(share: float, *, beyond: int = 0) -> Floats:
        """Value with this share below it, and at least so many of two or more."""
        at = np.floor(share * np.maximum(n - 1, 0)).astype(np.int64)
        at = np.maximum(at, np.minimum(beyond, np.maximum(n - 1, 0)))
        return ordered[np.arange(len(y)), at] if y.shape[1] else np.full(len(y), np.nan)

    middle, first, last = quantile(0.5), quantile(0.01, beyond=1), quantile(0.99)
    between = (y >= np.minimum(first, last)[:, None]) & (y <= np.maximum(first, last)[:, None])
    size = np.where(between, np.abs(y), 0.0).sum(axis=1) / np.maximum(between.sum(axis=1), 1)  # wild values left out
    low = middle - TAIL * np.maximum(middle - first, MIN_TAIL * size)
    high = middle + TAIL * np.maximum(last - middle, MIN_TAIL * size)
    wild = low - WILD * (high - low)
    lowest = np.where(y >= wild[:, None], y, np.inf).min(axis=1, initial=np.inf)
    low = np.where(lowest >= 0, np.maximum(low, 0.0), low)
    return np.stack([np.where(n > 0, low, -np.inf), np.where(n > 0, high, np.inf)], axis=1)


def cleaned(y: Floats, limits: Floats) -> Floats:
    """Values (streams, n) pulled in to the bounds (streams, 2); what lies far beyond these counts as missing.

    Examples
    --------
    >>> cleaned(np.array([[5.0, 30.0, 1e9]]), np.array([[0.0, 20.0]]))
    array([[ 5., 20., nan]])
    """
    low, high = limits[:, :1], limits[:, 1:]
    far = WILD * (high - low)
    return np.where((y < low - far) | (y > high + far), np.nan, np.clip(y, low, high))
