"""Observations, forecasts and losses by shard as Parquet files.

One write is one file with a name that its key gives, so that writing twice changes nothing; a file is complete
or absent. Fulfils the History port and can be pickled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlma.adapters.durable import sync_directory
from mlma.adapters.parquet_files import (
    EVERYTHING,
    code_column,
    floats,
    ints,
    list_column,
    matrix,
    name_column,
    numbers,
    of_stream,
    read,
    write,
)
from mlma.core.blocks import (
    ArrivedBlock,
    Floats,
    ForecastBlock,
    Ints,
    LossBlock,
    MemberBlock,
    ObservationBlock,
    PoolBlock,
    RefitBlock,
)

OBSERVATIONS, FORECASTS, LOSSES = "observations", "forecasts", "losses"
MEMBERS, POOLS, ACCOUNTS, REFITS = "members", "pools", "accounts", "refits"
ARRIVED = "arrived"

REFITS_KEPT = 4
"""Newest batches whose refits are kept, of which a restart reads one: they are larger than all else that a batch
leaves behind."""

DIGITS = 12
"""Of the numbers in file names, so that names sort like numbers."""


@dataclass(frozen=True)
class ParquetHistory:
    """``root/<kind>/shard=K/<key>.parquet``, zstd, readable by any Parquet tool.

    Kinds are observations, arrived (forecasts made elsewhere), forecasts, losses, members, pools and accounts (all of
    them in shard 0) and refits.
    """

    root: Path

    def append_observations(self, seq: int, shard: int, block: ObservationBlock) -> None:
        """Store what file ``seq`` brought for a shard. Raises StoreError."""
        self._write(OBSERVATIONS, shard, seq, stream_id=block.stream_id, slot=block.slot, y=block.y)

    def observations(
        self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int, stream_id: int | None = None
    ) -> list[tuple[int, ObservationBlock]]:
        """Return (seq, block) in order of seq, without earlier slots and empty blocks. Raises StoreError."""
        found = []
        for (seq,), path in self._files(OBSERVATIONS, shard):
            if after_seq < seq <= up_to_seq:
                table = read(path, (pc.field("slot") >= first_slot) & of_stream(stream_id))
                if table.num_rows:
                    block = ObservationBlock(
                        stream_id=ints(table, "stream_id"), slot=ints(table, "slot"), y=floats(table, "y")
                    )
                    found.append((seq, block))
        return found

    def discard_observations_after(self, seq: int) -> None:
        """Remove what later files brought, in all shards, and what a crash left half written."""
        for folder in sorted(f for kind in (OBSERVATIONS, ARRIVED) for f in (self.root / kind).glob("shard=*")):
            for path in folder.iterdir():
                if path.name.endswith(".tmp") or (path.suffix == ".parquet" and numbers(path)[0] > seq):
                    path.unlink(missing_ok=True)
            sync_directory(folder)

    def append_arrived(self, seq: int, shard: int, block: ArrivedBlock) -> None:
        """Store the forecasts made elsewhere that file ``seq`` brought for a shard. Raises StoreError."""
        self._write(
            ARRIVED, shard, seq, int(block.slot.max(initial=0)), stream_id=block.stream_id, slot=block.slot,
            forecast=block.forecast, version=name_column(block.version, block.versions),
        )  # fmt: skip

    def arrived(self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int) -> list[tuple[int, ArrivedBlock]]:
        """Return (seq, block) in order of seq, without earlier slots and empty blocks. Raises StoreError."""
        found = []
        for (seq, last_slot), path in self._files(ARRIVED, shard):
            if after_seq < seq <= up_to_seq and last_slot >= first_slot:
                table = read(path, pc.field("slot") >= first_slot)
                version, versions = code_column(table, "version")
                block = ArrivedBlock(
                    stream_id=ints(table, "stream_id"),
                    slot=ints(table, "slot"),
                    forecast=floats(table, "forecast"),
                    version=version,
                    versions=versions,
                )
                found.append((seq, block))
        return found

    def append_forecasts(self, shard: int, block: ForecastBlock) -> None:
        """Store forecasts of a run of origins. Raises StoreError."""
        self._write(
            FORECASTS, shard, block.origin_first, block.origin_last, stream_id=block.stream_id, slot=block.slot,
            forecast=block.forecast, naive=block.naive, version=name_column(block.version, block.versions),
        )  # fmt: skip

    def forecasts(
        self,
        shard: int,
        *,
        first_slot: int,
        last_slot: int,
        first_origin: int | None = None,
        stream_id: int | None = None,
    ) -> list[ForecastBlock]:
        """Return blocks in order of origin, cut to the targets in [first_slot, last_slot]. Raises StoreError."""
        wanted = (pc.field("slot") >= first_slot) & (pc.field("slot") <= last_slot) & of_stream(stream_id)
        found = []
        for (origin_first, origin_last), path in self._files(FORECASTS, shard):
            if origin_first > last_slot:  # a target is never before its origin
                break
            if first_origin is not None and origin_last < first_origin:
                continue
            table = read(path, wanted)
            if table.num_rows:
                version, versions = code_column(table, "version")
                block = ForecastBlock(
                    origin_first=origin_first,
                    origin_last=origin_last,
                    stream_id=ints(table, "stream_id"),
                    slot=ints(table, "slot"),
                    forecast=floats(table, "forecast"),
                    naive=floats(table, "naive"),
                    version=version,
                    versions=versions,
                )
                found.append(block)
        return found

    def append_losses(self, shard: int, block: LossBlock) -> None:
        """Store one batch, in long form with the position in the batch. Raises StoreError."""
        n_streams, n_slots = block.y.shape
        table = pa.table(
            {
                "stream_id": np.repeat(block.stream_ids, n_slots),
                "position": np.tile(np.arange(n_slots, dtype=np.int32), n_streams),
                "y": block.y.ravel(),
                "forecast": block.forecast.ravel(),
                "naive": block.naive.ravel(),
            }
        ).replace_schema_metadata({"n_slots": str(n_slots)})
        write(self._path(LOSSES, shard, block.batch), table)

    def losses(self, shard: int, *, first_batch: int, last_batch: int, stream_id: int | None = None) -> list[LossBlock]:
        """Return the existing blocks of the batches in [first_batch, last_batch], in order. Raises StoreError."""
        found = []
        for (batch,), path in self._files(LOSSES, shard):
            if first_batch <= batch <= last_batch:
                table = read(path, of_stream(stream_id))
                n_slots = int(table.schema.metadata[b"n_slots"])
                shape = (table.num_rows // max(1, n_slots), n_slots)
                block = LossBlock(
                    batch=batch,
                    stream_ids=ints(table, "stream_id").reshape(shape)[:, 0],
                    y=floats(table, "y").reshape(shape),
                    forecast=floats(table, "forecast").reshape(shape),
                    naive=floats(table, "naive").reshape(shape),
                )
                if stream_id is None or len(block.stream_ids):
                    found.append(block)
        return found

    def append_members(self, shard: int, block: MemberBlock) -> None:
        """Store the forecasts of all members for a run of origins. Raises StoreError."""
        self._write(
            MEMBERS, shard, block.origin_first, block.origin_last, stream_id=block.stream_id, seat=block.seat,
            member=name_column(block.member, block.members), weight=block.weight, inner=block.inner,
            shift=block.shift, slope=block.slope, forecast=list_column(block.forecast),
        )  # fmt: skip

    def members(
        self, shard: int, *, first_origin: int, last_origin: int, stream_id: int | None = None
    ) -> list[MemberBlock]:
        """Return the blocks whose origins lie in [first_origin, last_origin], in order. Raises StoreError."""
        found = []
        for (origin_first, origin_last), path in self._files(MEMBERS, shard):
            if first_origin <= origin_first and origin_last <= last_origin:
                table = read(path, of_stream(stream_id))
                member, members = code_column(table, "member")
                block = MemberBlock(
                    origin_first=origin_first,
                    origin_last=origin_last,
                    stream_id=ints(table, "stream_id"),
                    seat=ints(table, "seat"),
                    member=member,
                    members=members,
                    weight=floats(table, "weight"),
                    inner=floats(table, "inner"),
                    shift=floats(table, "shift"),
                    slope=floats(table, "slope"),
                    forecast=matrix(table, "forecast"),
                )
                found.append(block)
        return found

    def append_pool(self, block: PoolBlock) -> None:
        """Store the pools of the fleet as they are after a batch. Raises StoreError."""
        columns = {
            "stream_id": block.stream_id,
            "seat": block.seat,
            "member": name_column(block.member, block.members),
            "loss": block.loss,
            "recent": block.recent,
            "mass": block.mass,
            "weight": block.weight,
            "recalibration": list_column(block.recalibration),
        }
        if block.comparison.shape[1]:  # a column of empty lists cannot be written
            columns["comparison"] = list_column(block.comparison)
        table = pa.table(columns)
        write(self._path(ACCOUNTS, 0, block.batch), pa.table(dict(block.account)))
        write(self._path(POOLS, 0, block.batch), table)

    def pool(self, batch: int, *, stream_id: int | None = None) -> PoolBlock | None:
        """Return the pools after a batch, None when there are none. Raises StoreError."""
        path = self._path(POOLS, 0, batch)
        if not path.exists():
            return None
        table = read(path, of_stream(stream_id))
        account = read(self._path(ACCOUNTS, 0, batch), EVERYTHING)
        member, members = code_column(table, "member")
        return PoolBlock(
            batch=batch,
            stream_id=ints(table, "stream_id"),
            seat=ints(table, "seat"),
            member=member,
            members=members,
            loss=floats(table, "loss"),
            recent=floats(table, "recent"),
            mass=floats(table, "mass"),
            weight=floats(table, "weight"),
            recalibration=matrix(table, "recalibration"),
            comparison=matrix(table, "comparison") if "comparison" in table.column_names else np.empty((len(table), 0)),
            account={name: floats(account, name) for name in account.column_names},
        )

    def append_refit(self, shard: int, block: RefitBlock) -> None:
        """Store what the evergreen members learned after a batch, and forget it of long ago. Raises StoreError."""
        table = pa.table({"stream_id": block.stream_ids, "parameters": list_column(block.parameters)})
        stamped = table.replace_schema_metadata({"families": "\n".join(block.families)})
        write(self._path(REFITS, shard, block.batch), stamped)
        for (batch,), path in self._files(REFITS, shard):
            if batch <= block.batch - REFITS_KEPT:
                path.unlink(missing_ok=True)

    def refit(self, shard: int, batch: int) -> RefitBlock | None:
        """Return what the evergreen members learned after a batch, None when nothing was. Raises StoreError."""
        path = self._path(REFITS, shard, batch)
        if not path.exists():
            return None
        table = read(path, EVERYTHING)
        families = tuple(table.schema.metadata[b"families"].decode().split("\n"))
        return RefitBlock(
            batch=batch,
            stream_ids=ints(table, "stream_id"),
            families=families,
            parameters=matrix(table, "parameters"),
        )

    def _path(self, kind: str, shard: int, *key: int) -> Path:
        name = "-".join(f"{number:0{DIGITS}d}" for number in key)
        return self.root / kind / f"shard={shard}" / f"{name}.parquet"

    def _write(self, kind: str, shard: int, *key: int, **columns: Ints | Floats | pa.Array) -> None:
        """Store columns as the file of a key. Raises StoreError."""
        write(self._path(kind, shard, *key), pa.table(columns))

    def _files(self, kind: str, shard: int) -> Iterator[tuple[tuple[int, ...], Path]]:
        """Complete files of a shard in order of their key."""
        for path in sorted((self.root / kind / f"shard={shard}").glob("[0-9]*.parquet")):
            yield numbers(path), path
