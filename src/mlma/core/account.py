"""What keeping the present versions has cost each stream: the case for a training, in the unit of its price.

The forecasts of the trained versions are compared with those of a yardstick that does not age: the blend of the
evergreen members on the same targets. A hard day moves both. What the versions lose against the yardstick beyond
what they lose when they are fresh is what age costs; it adds up until it exceeds the price of a training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.schedule import Schedule

FRESH_BATCHES = 3
"""Batches after a training in which a version counts as fresh, at least (see `fresh_batches`), and owes nothing."""

FLEET_BATCHES = 3.0
"""Batches that the fleet's mean stands for in a stream's own means."""

SLACK = 0.03
"""Relative loss a batch that age may cost without being noted: noise would add up otherwise."""

LARGEST_EXCESS = 0.5
"""Relative loss that one batch may add, so that a single wild batch orders no training."""

LARGEST_LOG_RATIO = 2.0

ALONE_FACTOR = 2.0
"""Times its price that a training must be worth where one version serves: it is compared before it serves."""

SMALLEST_DEBT = 0.4
"""Debt at which a training may pay where one version serves, however cheap trainings are: less is noise."""

SMALLEST_SHARE = 0.3
"""Weight of fresh versions in a blend below which no training pays: the rest of the pool forecasts as well."""


def fresh_batches(schedule: Schedule) -> int:
    """Batches for which a version counts as fresh: whole weeks, since versions and yardstick differ by weekday.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> hourly = {"anchor": datetime(2001, 1, 1, tzinfo=UTC), "frequency": timedelta(hours=1), "horizon": 24}
    >>> [fresh_batches(Schedule(**hourly, batch=batch, train_window=672)) for batch in (24, 168)]
    [7, 3]
    """
    return max(FRESH_BATCHES, -(-schedule.season // schedule.batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Sums of every stream; all arrays of shape (streams,)."""

    debt: Floats  # relative loss summed over batches since the last training
    fresh_sum: Floats  # of log ratios of the versions' loss to the yardstick's, while fresh
    fresh_n: Floats
    share_sum: Floats  # of the versions' weight in what is served, while fresh
    share_n: Floats
    loss_sum: Floats  # of the served losses
    loss_n: Floats

    @classmethod
    def empty(cls, n_streams: int) -> Self:
        """Nothing has been seen."""
        return cls(**{field.name: np.zeros(n_streams) for field in fields(cls)})

    def grown(self, n_streams: int) -> Self:
        """The same with born streams."""
        more = n_streams - len(self.debt)
        return self.of({name: np.concatenate([value, np.zeros(more)]) for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave. Raises KeyError."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def after(
        self,
        versions: Floats,
        yardstick: Floats,
        served: Floats,
        share: Floats,
        age: Ints,
        *,
        alone: bool,
        fresh_for: int = FRESH_BATCHES,
    ) -> Self:
        """Account after one more batch.

        Parameters
        ----------
        versions
            Mean loss of the trained versions of each stream, shape (streams,); NaN without one.
        yardstick
            Mean loss of the blend of the evergreen members, shape (streams,).
        served
            Mean loss of what was served, shape (streams,).
        share
            Weight of the trained versions in what was served, in [0, 1], shape (streams,).
        age
            Batches since the last training, shape (streams,); 1 for the first batch under the new version.
        alone
            One version serves: what it loses counts in full, and from the first batch on. In a blend it counts by
            the versions' share, and only after some batches: their weight answers sooner.
        fresh_for
            Batches whose losses say what is usual, see `fresh_batches`.
        """
        excess = self.excess(versions, yardstick, served)
        known = np.isfinite(excess)
        ratio = np.log(np.where(known, versions, 1.0) / np.where(known, yardstick, 1.0))
        ratio = np.clip(ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
        fresh = known & (age <= fresh_for)
        weight = np.ones(len(age)) if alone else self.share()
        grown = self.debt + weight * (np.where(known, excess, 0.0) - SLACK)
        is_usual_known = bool(self.fresh_n.any())
        charged = known & (alone | (age > FRESH_BATCHES)) & is_usual_known
        return type(self)(
            debt=np.where(charged, np.maximum(grown, 0.0), self.debt),
            fresh_sum=self.fresh_sum + np.where(fresh, ratio, 0.0),
            fresh_n=self.fresh_n + fresh,
            share_sum=self.share_sum + np.where(fresh, share, 0.0),
            share_n=self.share_n + fresh,
            loss_sum=self.loss_sum + np.where(known, served, 0.0),
            loss_n=self.loss_n + known,
        )

    def excess(self, versions: Floats, yardstick: Floats, served: Floats) -> Floats:
        """What the versions lost in a batch beyond what they usually lose while fresh, in units of the usual loss.

        Returns
        -------
        Floats
            Shape (streams,), at most `LARGEST_EXCESS` on either side; NaN where something is missing.
        """
        known = np.isfinite(versions) & np.isfinite(yardstick) & np.isfinite(served)
        known &= (versions > 0) & (yardstick > 0)
        usual = np.exp(_mean(self.fresh_sum, self.fresh_n))
        loss_sum = self.loss_sum + np.where(known, served, 0.0)
        level = np.where(loss_sum > 0, loss_sum / np.maximum(self.loss_n + known, 1.0), 1.0)
        found = np.clip((versions - usual * yardstick) / level, -LARGEST_EXCESS, LARGEST_EXCESS)
        return np.where(known, found, np.nan)

    def share(self) -> Floats:
        """Weight of fresh versions in what is served, shape (streams,), drawn towards the fleet's."""
        return np.clip(_mean(self.share_sum, self.share_n), 0.0, 1.0)

    def pays(self, price: float | Floats, *, alone: bool) -> Bools:
        """Whether a training is worth its price, a number or of shape (streams,); shape (streams,)."""
        if alone:
            return self.debt > np.maximum(ALONE_FACTOR * price, SMALLEST_DEBT)
        return (self.debt > price) & (self.share() > SMALLEST_SHARE)

    def settled(self, trained: Bools) -> Self:
        """Account after trainings were ordered, shape (streams,): what they cost is paid, the debt starts over."""
        return self.of(self.arrays() | {"debt": np.where(trained, 0.0, self.debt)})


def _mean(total: Floats, n: Floats) -> Floats:
    """Means of the streams, drawn towards that of the fleet."""
    fleet = float(total.sum() / n.sum()) if n.sum() > 0 else 0.0
    mean: Floats = (total + FLEET_BATCHES * fleet) / (n + FLEET_BATCHES)
    return mean
