"""Seasonal naive: the forecast that needs no training and always stands by."""

from math import gcd

import numpy as np

from mlma.core.blocks import Floats, Ints
from mlma.core.schedule import Schedule
from mlma.models.past import padded, window_means

SEASONS = 4  # seasons (weeks) that are searched for the same slot, and averaged over when nothing else is known
DAYS = 7  # days that are searched for the same slot after that


def naive_lookback(schedule: Schedule) -> int:
    """Slots before an origin that `seasonal_naive` may need."""
    return max(SEASONS * schedule.season, DAYS * schedule.slots_per_day)


def seasonal_naive(y: Floats, *, start: int, first: int, last: int, schedule: Schedule) -> Floats:
    """Forecasts of the targets ``first .. last - 1``: the value of the same slot one season earlier.

    The season is a week; where the horizon is longer, the newest week that the origin knows. When that value
    is missing the next candidates are the same slot of the up to three weeks before, then of the seven newest
    days that the origin knows, then the mean of the four weeks before the origin.

    Parameters
    ----------
    y
        Shape (S, T), values by slot; NaN means missing.
    start
        Slot of the first column of ``y``; slots outside ``y`` count as missing.
    first, last
        First target and end of the targets, slots.
    schedule
        Frequency and horizon; the origin of target ``t`` is ``t // horizon * horizon``.

    Returns
    -------
    Floats
        Shape (S, last - first); uses only slots before each target's origin; NaN where all of these are
        missing.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> daily = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(days=1),
    ...                  horizon=1, batch=7, train_window=140)
    >>> seasonal_naive(np.arange(14.0)[None], start=0, first=13, last=16, schedule=daily)
    array([[6., 7., 8.]])
    """
    if last <= first:
        return np.full((len(y), 0), np.nan)
    horizon = schedule.horizon
    lo = first // horizon * horizon - naive_lookback(schedule)
    past = padded(y, start=start, lo=lo, hi=(last - 1) // horizon * horizon)
    targets = np.arange(first, last)
    forecast = np.full((len(y), last - first), np.nan)
    for source in _sources(targets, schedule):
        missing = np.isnan(forecast)
        if not missing.any():
            return forecast
        forecast = np.where(missing, past[:, source - lo], forecast)
    rows = np.isnan(forecast).any(axis=1)
    if rows.any():
        means = _recent_means(past[rows], schedule)[:, targets // horizon - first // horizon]
        forecast[rows] = np.where(np.isnan(forecast[rows]), means, forecast[rows])
    return forecast


def _sources(targets: Ints, schedule: Schedule) -> list[Ints]:
    """Slots to take each target's forecast from, best first, each of shape (targets,)."""
    lead = targets % schedule.horizon
    candidates = []
    for period, tries in ((schedule.season, SEASONS), (schedule.slots_per_day, DAYS)):
        newest = lead // period + 1  # periods back to the first one that lies before the origin
        candidates += [targets - (newest + i) * period for i in range(tries)]
    return candidates


def _recent_means(past: Floats, schedule: Schedule) -> Floats:
    """Mean of the seasons before each origin, shape (S, origins); ``past`` ends at the last origin."""
    day, season, horizon = schedule.slots_per_day, schedule.season, schedule.horizon
    step = gcd(day, horizon)
    means = window_means(past, step=step, unit=day, factors=(season // day, SEASONS))[-1]
    return means[:, (naive_lookback(schedule) - SEASONS * season) // step :: horizon // step]
