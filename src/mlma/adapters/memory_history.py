"""Observations, forecasts and losses by shard in memory: what a replay needs, gone with the process."""

from dataclasses import dataclass, field, replace

import numpy as np

from mlma.core.blocks import (
    ArrivedBlock,
    Bools,
    ForecastBlock,
    Ints,
    LossBlock,
    MemberBlock,
    ObservationBlock,
    PoolBlock,
    RefitBlock,
)

NEWEST = 64
"""Blocks of members and of refits that are kept; only a shard that was lost asks for them again."""


@dataclass(frozen=True)
class MemoryHistory:
    """Fulfils the History port; blocks are kept, not copied."""

    _observations: dict[int, dict[int, ObservationBlock]] = field(default_factory=dict)
    _arrived: dict[int, dict[int, ArrivedBlock]] = field(default_factory=dict)
    _forecasts: dict[int, dict[tuple[int, int], ForecastBlock]] = field(default_factory=dict)
    _losses: dict[int, dict[int, LossBlock]] = field(default_factory=dict)
    _members: dict[int, dict[tuple[int, int], MemberBlock]] = field(default_factory=dict)
    _refits: dict[int, dict[int, RefitBlock]] = field(default_factory=dict)
    _pools: dict[int, PoolBlock] = field(default_factory=dict)

    def append_observations(self, seq: int, shard: int, block: ObservationBlock) -> None:
        """Keep what file ``seq`` brought for a shard."""
        self._observations.setdefault(shard, {})[seq] = block

    def observations(
        self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int, stream_id: int | None = None
    ) -> list[tuple[int, ObservationBlock]]:
        """Return (seq, block) in order of seq, without earlier slots and empty blocks."""
        found = []
        for seq, block in sorted(self._observations.get(shard, {}).items()):
            if after_seq < seq <= up_to_seq:
                keep = (block.slot >= first_slot) & _is_stream(block.stream_id, stream_id)
                if keep.any():
                    cut = ObservationBlock(stream_id=block.stream_id[keep], slot=block.slot[keep], y=block.y[keep])
                    found.append((seq, block if keep.all() else cut))
        return found

    def discard_observations_after(self, seq: int) -> None:
        """Forget what later files brought, in all shards."""
        for shards in (self._observations, self._arrived):
            for blocks in shards.values():
                for later in [key for key in blocks if key > seq]:
                    del blocks[later]

    def append_arrived(self, seq: int, shard: int, block: ArrivedBlock) -> None:
        """Keep the forecasts made elsewhere that file ``seq`` brought for a shard."""
        self._arrived.setdefault(shard, {})[seq] = block

    def arrived(self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int) -> list[tuple[int, ArrivedBlock]]:
        """Return (seq, block) in order of seq, without earlier slots and empty blocks."""
        found = []
        for seq, block in sorted(self._arrived.get(shard, {}).items()):
            if after_seq < seq <= up_to_seq and (block.slot >= first_slot).any():
                found.append((seq, block.part(block.slot >= first_slot)))
        return found

    def append_forecasts(self, shard: int, block: ForecastBlock) -> None:
        """Keep forecasts of a run of origins."""
        self._forecasts.setdefault(shard, {})[block.origin_first, block.origin_last] = block

    def forecasts(
        self,
        shard: int,
        *,
        first_slot: int,
        last_slot: int,
        first_origin: int | None = None,
        stream_id: int | None = None,
    ) -> list[ForecastBlock]:
        """Return blocks in order of origin, cut to the targets in [first_slot, last_slot]."""
        found = []
        for (_, origin_last), block in sorted(self._forecasts.get(shard, {}).items(), key=lambda item: item[0]):
            if first_origin is not None and origin_last < first_origin:
                continue
            keep = (block.slot >= first_slot) & (block.slot <= last_slot)
            keep &= _is_stream(block.stream_id, stream_id)
            if keep.any():
                cut = ForecastBlock(
                    origin_first=block.origin_first,
                    origin_last=block.origin_last,
                    stream_id=block.stream_id[keep],
                    slot=block.slot[keep],
                    forecast=block.forecast[keep],
                    naive=block.naive[keep],
                    version=block.version[keep],
                    versions=block.versions,
                )
                found.append(block if keep.all() else cut)
        return found

    def append_losses(self, shard: int, block: LossBlock) -> None:
        """Keep one batch."""
        self._losses.setdefault(shard, {})[block.batch] = block

    def losses(self, shard: int, *, first_batch: int, last_batch: int, stream_id: int | None = None) -> list[LossBlock]:
        """Return the existing blocks of the batches in [first_batch, last_batch], in order."""
        found = []
        for batch, block in sorted(self._losses.get(shard, {}).items()):
            keep = _is_stream(block.stream_ids, stream_id)
            if first_batch <= batch <= last_batch and (stream_id is None or keep.any()):
                cut = LossBlock(
                    batch=batch,
                    stream_ids=block.stream_ids[keep],
                    y=block.y[keep],
                    forecast=block.forecast[keep],
                    naive=block.naive[keep],
                )
                found.append(block if stream_id is None else cut)
        return found

    def append_members(self, shard: int, block: MemberBlock) -> None:
        """Keep the forecasts of all members for a run of origins."""
        kept = self._members.setdefault(shard, {})
        kept[block.origin_first, block.origin_last] = block
        while len(kept) > NEWEST:
            del kept[min(kept)]

    def members(
        self, shard: int, *, first_origin: int, last_origin: int, stream_id: int | None = None
    ) -> list[MemberBlock]:
        """Return the blocks whose origins lie in [first_origin, last_origin], in order, of one stream or of all."""
        kept = sorted(self._members.get(shard, {}).items(), key=lambda item: item[0])
        found = [block for (first, last), block in kept if first_origin <= first and last <= last_origin]
        return found if stream_id is None else [_members_of(block, stream_id) for block in found]

    def append_pool(self, block: PoolBlock) -> None:
        """Keep the pools of the fleet as they are after a batch."""
        self._pools[block.batch] = block

    def pool(self, batch: int, *, stream_id: int | None = None) -> PoolBlock | None:
        """Return the pools after a batch, None when there are none."""
        block = self._pools.get(batch)
        if block is None or stream_id is None:
            return block
        keep = block.stream_id == stream_id
        return PoolBlock(
            batch=batch,
            stream_id=block.stream_id[keep],
            seat=block.seat[keep],
            member=block.member[keep],
            members=block.members,
            loss=block.loss[keep],
            recent=block.recent[keep],
            mass=block.mass[keep],
            weight=block.weight[keep],
            recalibration=block.recalibration[keep],
            comparison=block.comparison[keep],
            account=block.account,
        )

    def append_refit(self, shard: int, block: RefitBlock) -> None:
        """Keep what the evergreen members learned after a batch."""
        kept = self._refits.setdefault(shard, {})
        kept[block.batch] = block
        while len(kept) > NEWEST:
            del kept[min(kept)]

    def refit(self, shard: int, batch: int) -> RefitBlock | None:
        """Return what the evergreen members learned after a batch, None when nothing was."""
        return self._refits.get(shard, {}).get(batch)


def _members_of(block: MemberBlock, stream_id: int) -> MemberBlock:
    keep = block.stream_id == stream_id
    columns = ("stream_id", "seat", "member", "weight", "inner", "shift", "slope", "forecast")
    return replace(block, **{name: getattr(block, name)[keep] for name in columns})


def _is_stream(stream_ids: Ints, stream_id: int | None) -> Bools:
    return np.ones(len(stream_ids), dtype=np.bool_) if stream_id is None else stream_ids == stream_id
