"""What a shard takes up after a restart: a checkpoint where there is one, else what the history holds."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import LossBlock, MemberBlock
from mlma.runtime.rings import OpenMembers, Rings
from mlma.runtime.shard_parts import Position, ShardSpec

CHECKPOINT_FORMAT = 5
"""Raised whenever the arrays of a checkpoint change their meaning."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The rings of one shard, and what they are made again from."""

    spec: ShardSpec
    rings: Rings

    def write_down(self, seq: int) -> None:
        """Save the rings as they are after file ``seq``, once a batch was closed."""
        if self.rings.batch is not None:
            stamp = {"seq": np.asarray(seq), "made_for": np.asarray(self._made_for())}
            self.spec.checkpoints.save(self.spec.shard, {**self.rings.arrays(), **stamp})

    def _made_for(self) -> str:
        """What the arrays of a checkpoint depend on."""
        return f"{CHECKPOINT_FORMAT} {self.rings.lookback} {self.spec.n_shards} {self.spec.n_seats}"

    def restored(self, position: Position) -> int:
        """Take up a checkpoint that is not ahead of what is recorded; returns the last file that it has seen, or 0."""
        found = self.spec.checkpoints.load(self.spec.shard) or {}
        is_usable = str(found.get("made_for")) == self._made_for()
        if not is_usable:
            return 0
        is_ahead = int(found["batch"]) > position.batch or int(found["seq"]) > position.seq
        if is_ahead or len(found["y"]) > position.n_streams:
            return 0
        self.rings.restore(found)
        return int(found["seq"])

    def catch_up(self, batch: int) -> None:
        """Take up the last closed batch; the rings of a running shard are already there."""
        self.rings.advance(batch)
        for block in self.spec.history.losses(self.spec.shard, first_batch=max(0, batch), last_batch=batch):
            self.rings.close(block)

    def take_up_forecasts(self) -> None:
        """Forecasts of the open batch that were issued before."""
        spec, rings = self.spec, self.rings
        open_first = spec.schedule.first_slot(rings.open_batch)
        last = open_first + spec.schedule.batch - 1
        # a batch is a whole number of horizons, so that no earlier origin reaches into it
        for issued in spec.history.forecasts(
            spec.shard, first_slot=open_first, last_slot=last, first_origin=open_first
        ):
            rings.issue(issued, spec.n_shards)
        for members in self._recorded_members(rings.open_batch):
            rings.issue_members(members, spec.n_shards)

    def _recorded_members(self, batch: int) -> list[MemberBlock]:
        first = self.spec.schedule.first_slot(batch)
        return self.spec.history.members(
            self.spec.shard, first_origin=first, last_origin=first + self.spec.schedule.batch - 1
        )

    def members_again(self, block: LossBlock) -> OpenMembers:
        """Forecasts of the members for a batch that was closed before."""
        rings = Rings(schedule=self.spec.schedule, lookback=0, n_seats=self.spec.n_seats)
        rings.grow(len(block.stream_ids))
        rings.advance(block.batch - 1)
        for issued in self._recorded_members(block.batch):
            rings.issue_members(issued, self.spec.n_shards)
        return rings.open_members
