"""Features of the targets of a whole shard at once; each uses only what was known at its forecast's origin.

Lags, levels and the calendar. What a model does with them belongs to its family.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from mlma.core.blocks import Floats, Ints
from mlma.core.schedule import DAY, WEEK, Schedule
from mlma.models.past import divided, padded, window_means

RECENT_DAYS = 7  # day lags in a row, and the days of their mean: one of each weekday
LEVEL_FACTORS = (7, 4)  # levels of a day, of 7 days, of 4 times 7 days
LEVEL_DAYS = (1, 7, 28)


@dataclass(frozen=True, slots=True)
class Features:
    """What a model may look at when it forecasts the targets of a schedule.

    A *day* is ``schedule.slots_per_day`` slots, so one slot when a slot is a day or longer. The features are

    - ``lag_L``: the value L slots before the target. L runs over seven days in a row, starting with the first
      one that every target of a forecast knows, and one that is a week older than the last of these; plus
      multiples of the season, so that the same weekday is there for long horizons too;
    - ``lag_mean``: the mean of the first seven;
    - ``last``, ``last_day_before`` (horizons shorter than a day): the last value before the origin, and the
      value a day before that one;
    - ``level_N``: mean of the N days before the origin, for 1, 7 and 28 days;
    - ``lead``: slots from the origin to the target, where the slot of the day does not tell it;
    - ``slot_of_day``, ``weekday`` (0 is Monday), ``day_of_month``, in UTC, where they vary.

    Means leave missing values out; a feature without any value is NaN.

    Attributes
    ----------
    schedule
        Frequency and horizon; the origin of target ``t`` is ``t // horizon * horizon``.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> daily = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(days=1),
    ...                  horizon=1, batch=7, train_window=140)
    >>> features = Features(daily)
    >>> X = features.build(np.arange(40.0)[None], start=0, first=38, last=40)
    >>> X.shape == (1, 2, len(features.names)), X[0, :, features.names.index("lag_7")].tolist()
    (True, [31.0, 32.0])
    """

    schedule: Schedule

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `build`, in order."""
        recent = ("last", "last_day_before") if self._is_intraday else ()
        levels = tuple(f"level_{days}" for days in LEVEL_DAYS)
        return (
            *(f"lag_{lag}" for lag in self._lags),
            "lag_mean",
            *recent,
            *levels,
            *self._calendar_names,
        )

    @property
    def lookback(self) -> int:
        """Slots before an origin that the features of its targets may need."""
        return max(*self._lags, LEVEL_DAYS[-1] * self.schedule.slots_per_day)

    def build(self, y: Floats, *, start: int, first: int, last: int) -> Floats:
        """Features of the targets ``first .. last - 1`` of every stream.

        Parameters
        ----------
        y
            Shape (S, T), values by slot; NaN means missing.
        start
            Slot of the first column of ``y``; slots outside ``y`` count as missing.
        first, last
            First target and end of the targets, slots.

        Returns
        -------
        Floats
            Shape (S, last - first, len(names)). A value depends only on slots before its target's origin, and
            not on ``start``, ``first`` and ``last``, to the last bit.
        """
        X = np.full((len(y), max(0, last - first), len(self.names)), np.nan)
        if last <= first:
            return X
        horizon, lookback = self.schedule.horizon, self.lookback
        lo = first // horizon * horizon - lookback
        past = padded(y, start=start, lo=lo, hi=(last - 1) // horizon * horizon)
        targets = np.arange(first, last)
        columns = [past[:, first - lag - lo : last - lag - lo] for lag in self._lags]
        columns.append(_mean_of(columns[:RECENT_DAYS]))
        origin_of_target = targets // horizon - first // horizon
        columns += [level[:, origin_of_target] for level in self._levels(past)]
        columns += [np.broadcast_to(values, X.shape[:2]) for values in self._calendar(targets)]
        for j, column in enumerate(columns):
            X[:, :, j] = column
        return X

    def chosen(self, y: Floats, *, start: int, row: Ints, slot: Ints) -> Floats:
        """Features of some targets: what `build` gives for them, to the last bit, without building the others.

        Parameters
        ----------
        y, start
            As for `build`.
        row, slot
            Stream (row of ``y``) and slot of each target, shape (n,).

        Returns
        -------
        Floats
            Shape (n, len(names)).

        Examples
        --------
        >>> from datetime import UTC, datetime, timedelta
        >>> daily = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(days=1),
        ...                  horizon=1, batch=7, train_window=140)
        >>> X = Features(daily).chosen(np.arange(40.0)[None], start=0, row=np.array([0]), slot=np.array([39]))
        >>> float(X[0, 0]), X.shape == (1, len(Features(daily).names))
        (38.0, True)
        """
        X = np.empty((len(slot), len(self.names)))
        if not len(slot):
            return X
        horizon = self.schedule.horizon
        first, last = int(slot.min()), int(slot.max()) + 1
        lo = first // horizon * horizon - self.lookback
        past = padded(y, start=start, lo=lo, hi=(last - 1) // horizon * horizon)
        columns = [past[row, slot - lag - lo] for lag in self._lags]
        columns.append(_mean_of(columns[:RECENT_DAYS]))
        origin = slot // horizon - first // horizon
        columns += [level[row, origin] for level in self._levels(past)]
        for j, column in enumerate([*columns, *self._calendar(slot)]):
            X[:, j] = column
        return X

    def sizes(self, y: Floats, *, start: int, first: int, last: int) -> Floats:
        """Mean size of the values in the four weeks before the origin of every target, missing ones left out.

        Parameters
        ----------
        y, start, first, last
            As for `build`.

        Returns
        -------
        Floats
            Shape (S, last - first), at least 0; NaN where no value is known. For values that are never negative it
            is the feature ``level_28``.

        Examples
        --------
        >>> from datetime import UTC, datetime, timedelta
        >>> daily = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(days=1),
        ...                  horizon=1, batch=7, train_window=140)
        >>> Features(daily).sizes(np.array([[-3.0, 1.0, np.nan]]), start=0, first=2, last=3)
        array([[2.]])
        """
        if last <= first:
            return np.empty((len(y), 0))
        horizon = self.schedule.horizon
        lo = first // horizon * horizon - self.lookback
        past = np.abs(padded(y, start=start, lo=lo, hi=(last - 1) // horizon * horizon))
        return self._levels(past)[-1][:, np.arange(first, last) // horizon - first // horizon]

    @property
    def _is_intraday(self) -> bool:
        return self.schedule.horizon < self.schedule.slots_per_day

    @property
    def _lags(self) -> tuple[int, ...]:
        day, horizon, season = self.schedule.slots_per_day, self.schedule.horizon, self.schedule.season
        d0 = -(-horizon // day)
        lags = [(d0 + i) * day for i in (*range(RECENT_DAYS), RECENT_DAYS + 6)]
        # The further ahead, the fewer of the recent days fall on the target's weekday: one season more.
        known = -(-horizon // season)
        seasons = [(known + i) * season for i in range(2 if d0 == 1 else 3)]
        return tuple(lags + [lag for lag in dict.fromkeys(seasons) if lag not in lags])

    @property
    def _calendar_names(self) -> tuple[str, ...]:
        schedule = self.schedule
        has_lead = schedule.horizon not in (1, schedule.slots_per_day)
        wanted = {
            "lead": has_lead,
            "slot_of_day": schedule.slots_per_day > 1,
            "weekday": schedule.frequency % WEEK != 0 * DAY,
            "day_of_month": schedule.frequency >= DAY,
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def _levels(self, past: Floats) -> list[Floats]:
        """Level features by origin, each of shape (S, origins); ``past`` ends at the last origin."""
        schedule, lookback = self.schedule, self.lookback
        day, horizon = schedule.slots_per_day, schedule.horizon
        levels = []
        if self._is_intraday:
            levels = [past[:, before::horizon] for before in (lookback - 1, lookback - 1 - day)]
        step = gcd(day, horizon)
        by_size = window_means(past, step=step, unit=day, factors=LEVEL_FACTORS)
        for days, means in zip(LEVEL_DAYS, by_size, strict=True):  # of all windows, those that end at an origin
            levels.append(means[:, (lookback - days * day) // step :: horizon // step])
        return levels

    def _calendar(self, targets: Ints) -> list[Floats]:
        """Calendar features in the order of their names, each of shape (targets,)."""
        schedule = self.schedule
        times = schedule.times_of(targets)
        days = times.astype("datetime64[D]")
        frequency = np.timedelta64(schedule.frequency)
        values = {
            "lead": targets % schedule.horizon,
            "slot_of_day": (times - days) // frequency,
            "weekday": (days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
            "day_of_month": (days - times.astype("datetime64[M]")).astype(np.int64) + 1,
        }
        return [values[name].astype(np.float64) for name in self._calendar_names]


def _mean_of(columns: list[Floats]) -> Floats:
    """Mean of the known values over columns of equal shape; NaN where all are missing."""
    total = np.zeros(columns[0].shape)
    count = np.zeros(columns[0].shape)
    with np.errstate(over="ignore"):
        for column in columns:
            known = np.isfinite(column)
            total += np.where(known, column, 0.0)
            count += known
    return divided(total, count)
