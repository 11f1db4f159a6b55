"""Event time as integers: slots, forecast origins and batches of one fleet.

A *slot* is one observation period; slot 0 starts at the anchor. A forecast *origin* is a multiple of the
horizon; a forecast issued at origin ``o`` knows the slots before ``o`` and covers ``o .. o + horizon - 1``.
Batch ``b`` covers the slots ``b * batch .. (b + 1) * batch - 1`` and closes at origin ``(b + 1) * batch``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mlma.core.errors import ConfigError

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Frequency, horizon and batch of a fleet, anchored in time.

    Attributes
    ----------
    anchor
        Start of slot 0, aware, UTC.
    frequency
        Length of one slot; a fixed duration that divides a day or is a whole number of days.
    horizon
        Slots that one forecast covers, >= 1.
    batch
        Slots of one batch; a whole number of horizons.
    train_window
        Slots that a training may use, counted back from its origin.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> s = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1),
    ...              horizon=24, batch=168, train_window=56 * 24)
    >>> s.batch_of(170), s.origin_after(0), s.slots_per_day
    (1, 168, 24)
    """

    anchor: datetime
    frequency: timedelta
    horizon: int
    batch: int
    train_window: int

    def __post_init__(self) -> None:
        if self.frequency <= timedelta(0) or (DAY % self.frequency and self.frequency % DAY):
            raise ConfigError(
                f"frequency {self.frequency}: expected a duration that divides a day or is a whole number of days"
            )
        if self.horizon < 1:
            raise ConfigError(f"horizon {self.horizon} slots: expected at least 1")
        if self.batch < 1 or self.batch % self.horizon:
            raise ConfigError(
                f"batch of {self.batch} slots: expected a whole number of horizons ({self.horizon} slots each)"
            )
        if self.train_window < self.batch:
            raise ConfigError(
                f"train window of {self.train_window} slots: expected at least one batch ({self.batch} slots)"
            )

    @property
    def slots_per_day(self) -> int:
        """Slots in one day; 1 when a slot is a day or longer."""
        return max(1, DAY // self.frequency)

    @property
    def season(self) -> int:
        """Slots in the season of the naive forecast: one week (at least one slot)."""
        return max(1, WEEK // self.frequency)

    def time_of(self, slot: int) -> datetime:
        """Start of a slot, UTC."""
        return self.anchor + slot * self.frequency

    def slot_at(self, time: datetime) -> int:
        """Slot that contains an aware time; negative before the anchor."""
        return (time.astimezone(UTC) - self.anchor) // self.frequency

    def times_of(self, slots: NDArray[np.int64]) -> NDArray[np.datetime64]:
        """Starts of slots as UTC ``datetime64[us]``, same shape."""
        anchor = np.datetime64(self.anchor.astimezone(UTC).replace(tzinfo=None), "us")
        return anchor + slots * np.timedelta64(self.frequency // timedelta(microseconds=1), "us")

    def batch_of(self, slot: int) -> int:
        """Batch that contains a slot."""
        return slot // self.batch

    def origin_after(self, batch: int) -> int:
        """Slot at which a batch is closed: the first slot after it."""
        return (batch + 1) * self.batch

    def first_slot(self, batch: int) -> int:
        """First slot of a batch."""
        return batch * self.batch
