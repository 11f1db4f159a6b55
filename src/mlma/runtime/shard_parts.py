"""What a shard is made from, what it is told, and what it answers; all picklable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlma.core.blocks import Floats
from mlma.core.schedule import Schedule
from mlma.core.settings import Evergreen, GroupSettings, ModelSettings, TestingSettings
from mlma.runtime.ports import ArtifactStore, Checkpoints, History


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpec:
    """What a shard is made from."""

    shard: int
    n_shards: int
    schedule: Schedule
    testing: TestingSettings
    model: ModelSettings
    evergreen: tuple[Evergreen, ...]  # families of the pool members that are refitted after every batch
    groups: tuple[GroupSettings, ...] = ()  # whose models are members of pools
    n_seats: int  # of a pool: seasonal naive, the evergreen members, models of groups, trained versions
    recalibrates: bool = False  # the versions' forecasts
    history: History
    artifacts: ArtifactStore
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the fleet has come: what a shard must have taken in before it is asked anything."""

    seq: int  # the last recorded file
    n_streams: int  # of the fleet
    batch: int  # the last closed batch; warm-up ends before the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What came of one call to forecast."""

    until: int  # first slot without a forecast
    n_forecasts: int
    failed_groups: Mapping[str, str] = field(default_factory=dict)  # the same by member, for the models of groups
    failed: Mapping[int, str]  # stream id to what went wrong; the rest of the pool served instead
    cpu_s: float  # spent on forecasts
    spared_cpu_s: float = 0.0  # more that would have been spent without a memo
    evergreen_cpu_s: float = 0.0  # spent on refits of evergreen members
    spared_evergreen_cpu_s: float = 0.0  # more that would have been spent without a memo


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Outcomes of one stream up to an origin, and what was forecast in its last closed batch."""

    stream_id: int
    start: int  # slot of y[0]
    y: Floats
    forecast: Floats  # served in the last closed batch, shape (batch,)
    arrived: tuple[str, ...] = ()  # versions with forecasts, made elsewhere, of the last closed batch; newest first
