"""What keeping the present model of a group has cost its streams: the arithmetic of `mlma.core.account`, as one debt.

A group has one model and one decision. Its losses and those of the yardstick are added up over the streams before they
are compared, as if the group were one stream: the ratio of two sums over many streams is known well in every batch.
The mean of the streams' own ratios is not, and what is usual by it is too low where some streams lose next to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlma.core.account import FRESH_BATCHES, LARGEST_EXCESS, SLACK, SMALLEST_SHARE, Account
from mlma.core.blocks import Bools, Floats, Ints

LARGEST_LOSS = 3.0
"""Times its usual loss that a stream counts in one batch at most, so that a single wild one speaks for nobody else."""

USUAL = "usual_"
"""What the names of the columns of `Usual` begin with."""

ENOUGH = 5
"""Batches of which the lowest and the highest are left out; of fewer, too little would remain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """Losses of a group's model and of the yardstick in the batches in which its models were fresh.

    The batches with the lowest and the highest ratio of the two are kept apart: one of a few may be a holiday. The
    losses are kept by stream, since their units, what is usual for each stream, are known better later.
    """

    n: float = 0.0  # batches
    low: float = 0.0  # lowest and highest log ratio
    high: float = 0.0
    model: Floats  # (streams,) sums over all batches
    yardstick: Floats
    low_model: Floats  # (streams,) in the batch with the lowest ratio, and in that with the highest
    low_yardstick: Floats
    high_model: Floats
    high_yardstick: Floats

    @classmethod
    def empty(cls, n_streams: int) -> Self:
        """Nothing has been seen."""
        return cls.of({one.name: np.zeros(n_streams) for one in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, with an entry a stream each."""
        return {one.name: np.array(np.broadcast_to(getattr(self, one.name), self.model.shape)) for one in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave. Raises KeyError."""
        n, low, high = (float(arrays[name][0]) if arrays[name].size else 0.0 for name in ("n", "low", "high"))
        return cls(
            n=n, low=low, high=high, model=arrays["model"], yardstick=arrays["yardstick"],
            low_model=arrays["low_model"], low_yardstick=arrays["low_yardstick"],
            high_model=arrays["high_model"], high_yardstick=arrays["high_yardstick"],
        )  # fmt: skip

    def grown(self, n_streams: int) -> Self:
        """The same with born streams."""
        more = np.zeros(n_streams - len(self.model))
        made = self.of({name: np.concatenate([values, more]) for name, values in self.arrays().items()})
        return replace(made, n=self.n, low=self.low, high=self.high)

    def after(self, model: Floats, yardstick: Floats, ratio: float) -> Self:
        """The same after one more batch: losses of every stream, shape (streams,), and their log ratio as a group."""
        made = replace(self, n=self.n + 1.0, model=self.model + model, yardstick=self.yardstick + yardstick)
        if not self.n or ratio < self.low:
            made = replace(made, low=ratio, low_model=model, low_yardstick=yardstick)
        if not self.n or ratio > self.high:
            made = replace(made, high=ratio, high_model=model, high_yardstick=yardstick)
        return made

    def ratio(self, weight: Floats) -> float:
        """Loss of the model over that of the yardstick, losses weighted by stream; 1 where nothing is known."""
        model, yardstick = self.model, self.yardstick
        if self.n >= ENOUGH:
            model = model - self.low_model - self.high_model
            yardstick = yardstick - self.low_yardstick - self.high_yardstick
        lost, expected = float((weight * model).sum()), float((weight * yardstick).sum())
        return lost / expected if expected > 0 and lost > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAccount:
    """Sums of one group.

    Attributes
    ----------
    streams
        Of every stream of the fleet: the model's share in what is served, and the served losses. The debts and the
        usual losses of the streams themselves are not used.
    usual
        Of the group as a whole.
    debt
        Relative loss, the mean over the group's streams, summed over batches since the last training.
    """

    streams: Account = field(default_factory=lambda: Account.empty(0))
    usual: Usual = field(default_factory=lambda: Usual.empty(0))
    debt: float = 0.0

    def grown(self, n_streams: int) -> Self:
        """The same with born streams."""
        return type(self)(streams=self.streams.grown(n_streams), usual=self.usual.grown(n_streams), debt=self.debt)

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
        Every loss is counted in units of the stream's usual one and by the share that a fresh model has in what is
        served. The slack is that of one stream: what moves all streams together does not average out. The first batch
        of all says nothing of what is usual: the yardstick, a blend, knows nothing yet.
        """
        mine = np.where(member, model, np.nan)
        ages: Ints = np.full(len(mine), age, dtype=np.int64)
        streams = self.streams.after(mine, yardstick, served, share, ages, alone=False, fresh_for=fresh_for)
        known = np.isfinite(mine) & np.isfinite(yardstick) & np.isfinite(served) & (mine > 0) & (yardstick > 0)
        weight = np.where(known, streams.share(), 0.0)
        if not weight.any():
            return replace(self, streams=streams)
        level = np.where(streams.loss_sum > 0, streams.loss_sum / np.maximum(streams.loss_n, 1.0), 1.0)
        lost, expected = (np.where(known, np.minimum(one, LARGEST_LOSS * level), 0.0) for one in (mine, yardstick))
        usual, debt, each = self.usual, self.debt, weight / level
        if age > FRESH_BATCHES and usual.n >= FRESH_BATCHES:
            beyond = float((each * (lost - usual.ratio(streams.share() / level) * expected)).sum() / weight.sum())
            excess = min(max(beyond, -LARGEST_EXCESS), LARGEST_EXCESS)
            debt = max(0.0, debt + float(weight.sum() / known.sum()) * (excess - SLACK))
        is_fresh = age <= fresh_for or usual.n < FRESH_BATCHES  # of a model whose first batches were not seen, the next
        if is_fresh and self.streams.loss_n.any():
            usual = usual.after(lost, expected, float(np.log((each * lost).sum() / (each * expected).sum())))
        return type(self)(streams=streams, usual=usual, debt=debt)

    def pays(self, price: float, member: Bools) -> bool:
        """Whether a training is worth its price, by the rule for streams: in the mean over those of the group."""
        share = self.streams.share()[member]
        return self.debt > price and bool(len(share)) and float(share.mean()) > SMALLEST_SHARE

    def settled(self) -> Self:
        """Account after a training was ordered: the debt starts over."""
        return replace(self, debt=0.0)

    def columns(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Everything by name, one entry a stream each."""
        usual = {f"{USUAL}{name}": value for name, value in self.usual.arrays().items()}
        named = self.streams.arrays() | usual | {"debt": np.full(len(self.streams.debt), self.debt)}
        return {f"{prefix}{name}": value for name, value in named.items()}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], prefix: str) -> Self:
        """Take up what `columns` gave; an empty account where it is missing.

        A record that does not say what is usual is older than this rule, and its debt was of another measure: it
        starts over, and the next batches say what is usual.
        """
        mine = {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}
        if not mine:
            return cls()
        n = len(mine["debt"])
        streams = Account.of(mine | {"debt": np.zeros(n)})
        usual = {name.removeprefix(USUAL): value for name, value in mine.items() if name.startswith(USUAL)}
        if not usual or not n:
            return cls(streams=streams, usual=Usual.empty(n))
        return cls(streams=streams, usual=Usual.of(usual), debt=float(mine["debt"][0]))
