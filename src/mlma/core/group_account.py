"""What keeping the present model of a group has cost its streams: the arithmetic of `mlma.core.account`, as one debt.

A group has one model and one decision: the excess of its losses is averaged over its streams.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlma.core.account import FRESH_BATCHES, SLACK, SMALLEST_SHARE, Account
from mlma.core.blocks import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAccount:
    """Sums of one group.

    Attributes
    ----------
    streams
        Of every stream of the fleet; its own debts are not used.
    debt
        Relative loss, the mean over the group's streams, summed over batches since the last training.
    """

    streams: Account = field(default_factory=lambda: Account.empty(0))
    debt: float = 0.0

    def grown(self, n_streams: int) -> Self:
        """The same with born streams."""
        return type(self)(streams=self.streams.grown(n_streams), debt=self.debt)

    def after(
        self,
        model: Floats,
        yardstick: Floats,
        served: Floats,
        share: Floats,
        member: Bools,
        *,
        age: int,
        fresh_for: int = FRESH_BATCHES,
    ) -> Self:
        """Account after one more batch.

        Parameters
        ----------
        model
            Mean loss of the group's model on each stream, shape (streams,); NaN without one.
        yardstick
            Mean loss of the blend of the members that do not age, shape (streams,).
        served
            Mean loss of what was served, shape (streams,).
        share
            Weight of the model in what was served, in [0, 1], shape (streams,).
        member
            Streams of the group, shape (streams,).
        age
            Batches since the model's training; 1 for the first batch under it.
        fresh_for
            Batches whose losses say what is usual, see `mlma.core.account.fresh_batches`.

        Notes
        -----
        The slack is that of one stream: what moves all streams together does not average out. The excess counts by
        the share that a fresh model has in what is served.
        """
        mine = np.where(member, model, np.nan)
        excess = self.streams.excess(mine, yardstick, served)
        known = np.isfinite(excess)
        debt = self.debt
        if age > FRESH_BATCHES and known.any() and bool(self.streams.fresh_n.any()):
            grown = np.where(known, self.streams.share() * (excess - SLACK), 0.0).sum() / known.sum()
            debt = max(0.0, debt + float(grown))
        ages: Ints = np.full(len(mine), age, dtype=np.int64)
        streams = self.streams.after(mine, yardstick, served, share, ages, alone=False, fresh_for=fresh_for)
        return type(self)(streams=streams, debt=debt)

    def pays(self, price: float, member: Bools) -> bool:
        """Whether a training is worth its price, by the rule for streams: in the mean over those of the group."""
        share = self.streams.share()[member]
        return self.debt > price and bool(len(share)) and float(share.mean()) > SMALLEST_SHARE

    def settled(self) -> Self:
        """Account after a training was ordered: the debt starts over."""
        return type(self)(streams=self.streams, debt=0.0)

    def columns(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Everything by name, one entry a stream each."""
        named = {f"{prefix}{name}": value for name, value in self.streams.arrays().items()}
        return named | {f"{prefix}debt": np.full(len(self.streams.debt), self.debt)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], prefix: str) -> Self:
        """Take up what `columns` gave; an empty account where it is missing."""
        mine = {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}
        if not mine:
            return cls()
        debt = float(mine["debt"][0]) if len(mine["debt"]) else 0.0
        return cls(streams=Account.of(mine | {"debt": np.zeros(len(mine["debt"]))}), debt=debt)
