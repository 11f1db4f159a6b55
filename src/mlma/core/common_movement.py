"""How far the fleet and some label sets moved together in one batch, and what is left for all other sets.

Estimation only: whether a movement is beyond the past is asked in `mlma.core.incidents`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.for_all import for_all
from mlma.core.label_sets import FEWEST_MEMBERS, FLEET, LabelSets
from mlma.core.robust_location import INEFFICIENCY, GroupLocations, group_locations, location, median, spread

MOST_WEIGHT = 4.0
"""Of a stream, times the usual one: a calm stream says more, but never outvotes a small set."""

OUTSIDE_SHARE = 0.1
"""Of the streams: with fewer outside all chosen sets, the fleet's component is looked for in what they leave."""

ENOUGH = 2048
"""Streams that the unit and a first location of a batch come from: neither need be exact, and sorting is slow."""

PLENTY = 32_768
"""Streams that say where the whole fleet is to 0.6 % of a stream's standard deviation: more are not asked where there
are no label sets to look at."""

MORE_STEPS = 2
"""Steps from a sample's location to that of all: the first one leaves a fifth of a distance that is 1/45 already."""

CYCLES = 2
"""Rounds of fitting sets that overlap; each is fitted to what the others leave."""

SPREADS = (0.5, 2.0)
"""Bounds of the fleet's own spread over the one that is promised by the scales of the streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Common components when the fleet and the chosen sets are removed; arrays of shape (sets,), log units.

    Attributes
    ----------
    chosen
        Sets that are removed besides the fleet, in the order of choice.
    component
        Of the fleet and the chosen sets what is removed for them, of the others what is left; NaN where
        unknown.
    error
        Standard error from sampling the members; NaN where unknown.
    gain
        Log-likelihood that removing the component of the set would win, at present.
    is_known
        Whether enough members are ready.
    shift
        Shape (streams,), what is removed from each stream.
    level_of
        Shape (ready streams,), the streams that the fleet's component was looked for in, None for all.
    """

    chosen: tuple[int, ...]
    component: Floats
    error: Floats
    gain: Floats
    is_known: Bools
    shift: Floats
    level_of: Bools | None


class Scene:
    """Deviations of the ready streams of one batch, in units of the fleet's usual scale.

    Parameters
    ----------
    deviation, scale
        Shape (ready streams,), log units.
    sets
        Candidate sets, over all streams.
    usable
        Shape (streams,), which streams are ready.
    """

    def __init__(self, deviation: Floats, scale: Floats, *, sets: LabelSets, usable: Bools) -> None:
        self.sets, self.usable = sets, usable
        some = slice(None, None, max(1, len(scale) // ENOUGH))
        positive = scale[some][scale[some] > 0.0]
        usual = median(positive if len(positive) else scale[scale > 0.0])
        if sets.n_sets == 1 and len(deviation) >= 2 * PLENTY:
            asked = spread_evenly(len(deviation), PLENTY)
            deviation, scale = deviation.take(asked), scale.take(asked)
            some = slice(None, None, PLENTY // ENOUGH)
        self.weight = np.square(usual / np.maximum(scale, usual / np.sqrt(MOST_WEIGHT)))
        level = location(deviation[some] / usual, self.weight[some])
        own = spread((deviation[some] - level * usual) * np.sqrt(self.weight[some])) / usual
        self.unit = usual * min(max(own, SPREADS[0]), SPREADS[1])
        self.y = deviation / self.unit
        self._start = level * usual / self.unit
        self.code: Ints = sets.code if usable.all() else sets.code[:, usable]
        self.n_ready = self._n_ready()
        self.is_known: Bools = self.n_ready >= FEWEST_MEMBERS

    def movement(self, chosen: Sequence[int], *, level_of: Bools | None = None) -> Movement:
        """Remove the fleet's component and those of the chosen sets, jointly.

        The fleet's component is that of the streams outside the chosen sets, of ``level_of`` (shape (ready
        streams,)) if given.
        """
        members = {number: np.flatnonzero(self.code[self.sets.kind[number]] == number) for number in chosen}
        level, shifts, residual = self._fitted(members, level_of)
        if self.sets.n_sets == 1:  # the fleet alone
            groups = GroupLocations(location=np.zeros(1), n=np.array([self.weight.sum()]), gain=np.zeros(1))
        else:
            groups = group_locations(residual, self.weight, self.code, self.sets.n_sets)
        component = np.where(self.is_known, groups.location, np.nan)
        component[FLEET] = level
        component[list(chosen)] = [shifts[number] for number in chosen]
        shift = for_all(level * self.unit, self.sets.n_streams)
        if chosen:
            shift = shift.copy()
        for number in chosen:
            shift[self.sets.members(number)] += shifts[number] * self.unit
        return Movement(
            chosen=tuple(chosen),
            component=component * self.unit,
            error=self.unit * np.sqrt(INEFFICIENCY / np.where(self.is_known, groups.n, np.nan)),
            gain=np.where(self.is_known, groups.gain, 0.0),
            is_known=self.is_known,
            shift=shift,
            level_of=level_of,
        )

    def _fitted(self, members: dict[int, Ints], level_of: Bools | None) -> tuple[float, dict[int, float], Floats]:
        """Level of the fleet, shift of each chosen set, and what is left, in units of the scene."""
        outside = np.ones(len(self.y), dtype=np.bool_) if level_of is None else level_of.copy()
        for rows in members.values():
            outside[rows] = False
        is_apart = np.count_nonzero(outside) >= max(FEWEST_MEMBERS, OUTSIDE_SHARE * len(self.y))
        if is_apart and not outside.all():
            level = location(self.y[outside], self.weight[outside])
        else:
            level = location(self.y, self.weight, start=self._start, steps=MORE_STEPS)
        residual = self.y - level if self.sets.n_sets > 1 else self.y  # nobody looks at it
        shifts = dict.fromkeys(members, 0.0)
        for _ in range(CYCLES if members else 0):
            for number, rows in members.items():
                more = location(residual[rows], self.weight[rows])
                shifts[number] += more
                residual[rows] -= more
            if not is_apart:
                more = location(residual, self.weight)
                level += more
                residual -= more
        return level, shifts, residual

    def _n_ready(self) -> Ints:
        if self.usable.all():
            return self.sets.size
        n_sets = self.sets.n_sets
        counts = [np.bincount(codes, minlength=n_sets + 1) for codes in self.code]
        return np.asarray(np.sum(counts, axis=0)[:n_sets])


@lru_cache(maxsize=8)
def spread_evenly(n: int, wanted: int) -> Ints:
    """So many of n positions, one of each part of the same length, at places that repeat nothing: a hash's.

    Streams often stand in an order, one site's every third for instance, that equal steps would fall in with.
    """
    step = n // wanted
    part = np.arange(wanted, dtype=np.int64)
    return np.asarray(part * step + (part * 2_654_435_761 >> 16) % step)
