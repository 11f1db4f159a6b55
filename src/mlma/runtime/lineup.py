"""Who forecasts: the members of every stream's pool with their seats and weights, as a shard is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mlma.core.blocks import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A version that forecasts a stream, and how its artifact is read."""

    version_id: str
    family: str
    sha256: str
    batch: int = 0  # the last one whose outcomes it learned from


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeat:
    """A model that serves many streams, and the seat that it has in the pool of each."""

    seat: int
    member: str  # name in the pools
    model: Champion
    streams: Bools  # those that it serves, shape (streams,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """Pools of the streams of a fleet, or of one shard.

    Attributes
    ----------
    weight
        Shape (streams, seats), in what is served. The first seats are seasonal naive and the evergreen members.
    inner
        Shape (streams, seats), within the trained versions and within the other members; each group sums to 1.
    shift, slope
        Shape (streams, seats), recalibration of the forecasts.
    versions
        Seat to version, by stream id.
    groups
        Models that serve many streams.
    unfit
        Slots that nothing may be learned from, as (first, end), by stream id.
    """

    weight: Floats
    inner: Floats
    shift: Floats
    slope: Floats
    versions: Mapping[int, Mapping[int, Champion]]
    groups: tuple[GroupSeat, ...] = ()
    unfit: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def part(self, shard: int, n_shards: int) -> "Lineup":
        """What concerns one shard, whose rows are the streams ``shard, shard + n_shards, ...``."""
        return Lineup(
            weight=np.ascontiguousarray(self.weight[shard::n_shards]),
            inner=np.ascontiguousarray(self.inner[shard::n_shards]),
            shift=np.ascontiguousarray(self.shift[shard::n_shards]),
            slope=np.ascontiguousarray(self.slope[shard::n_shards]),
            versions={i: found for i, found in self.versions.items() if i % n_shards == shard},
            groups=tuple(replace(one, streams=one.streams[shard::n_shards]) for one in self.groups),
            unfit={i: found for i, found in self.unfit.items() if i % n_shards == shard},
        )
