"""Observations, forecasts and losses by shard as Parquet files.

One write is one file with a name that its key gives, so that writing twice changes nothing; a file is complete
or absent. Fulfils the History port and can be pickled.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlma.core.blocks import Floats, ForecastBlock, Ints, LossBlock, ObservationBlock
from mlma.core.errors import StoreError

OBSERVATIONS, FORECASTS, LOSSES = "observations", "forecasts", "losses"
T = TypeVar("T")

DIGITS = 12
"""Of the numbers in file names, so that names sort like numbers."""


@dataclass(frozen=True)
class ParquetHistory:
    """``root/{observations,forecasts,losses}/shard=K/<key>.parquet``, zstd, readable by any Parquet tool."""

    root: Path

    def append_observations(self, seq: int, shard: int, block: ObservationBlock) -> None:
        """Store what file ``seq`` brought for a shard. Raises StoreError."""
        table = pa.table({"stream_id": block.stream_id, "slot": block.slot, "y": block.y})
        _write(self._path(OBSERVATIONS, shard, seq), table)

    def observations(
        self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int, stream_id: int | None = None
    ) -> list[tuple[int, ObservationBlock]]:
        """Return (seq, block) in order of seq, without earlier slots and empty blocks. Raises StoreError."""
        found = []
        for (seq,), path in self._files(OBSERVATIONS, shard):
            if after_seq < seq <= up_to_seq:
                table = _read(path, (pc.field("slot") >= first_slot) & _of_stream(stream_id))
                if table.num_rows:
                    block = ObservationBlock(
                        stream_id=_ints(table, "stream_id"), slot=_ints(table, "slot"), y=_floats(table, "y")
                    )
                    found.append((seq, block))
        return found

    def discard_observations_after(self, seq: int) -> None:
        """Remove observations of later files, in all shards, and what a crash left half written."""
        for folder in sorted((self.root / OBSERVATIONS).glob("shard=*")):
            for path in folder.iterdir():
                if path.name.endswith(".tmp") or (path.suffix == ".parquet" and _numbers(path)[0] > seq):
                    path.unlink(missing_ok=True)
            _sync_directory(folder)

    def append_forecasts(self, shard: int, block: ForecastBlock) -> None:
        """Store forecasts of a run of origins. Raises StoreError."""
        version = pa.DictionaryArray.from_arrays(
            block.version.astype(np.int32), pa.array(block.versions, type=pa.string())
        )
        table = pa.table(
            {
                "stream_id": block.stream_id,
                "slot": block.slot,
                "forecast": block.forecast,
                "naive": block.naive,
                "version": version,
            }
        )
        _write(self._path(FORECASTS, shard, block.origin_first, block.origin_last), table)

    def forecasts(
        self, shard: int, *, first_slot: int, last_slot: int, stream_id: int | None = None
    ) -> list[ForecastBlock]:
        """Return blocks in order of origin, cut to the targets in [first_slot, last_slot]. Raises StoreError."""
        wanted = (pc.field("slot") >= first_slot) & (pc.field("slot") <= last_slot) & _of_stream(stream_id)
        found = []
        for (origin_first, origin_last), path in self._files(FORECASTS, shard):
            if origin_first > last_slot:  # a target is never before its origin
                break
            table = _read(path, wanted)
            if table.num_rows:
                version = table.column("version").cast(pa.string()).combine_chunks().dictionary_encode()
                block = ForecastBlock(
                    origin_first=origin_first,
                    origin_last=origin_last,
                    stream_id=_ints(table, "stream_id"),
                    slot=_ints(table, "slot"),
                    forecast=_floats(table, "forecast"),
                    naive=_floats(table, "naive"),
                    version=version.indices.to_numpy(zero_copy_only=False).astype(np.int64),
                    versions=tuple(version.dictionary.to_pylist()),
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
        _write(self._path(LOSSES, shard, block.batch), table)

    def losses(self, shard: int, *, first_batch: int, last_batch: int, stream_id: int | None = None) -> list[LossBlock]:
        """Return the existing blocks of the batches in [first_batch, last_batch], in order. Raises StoreError."""
        found = []
        for (batch,), path in self._files(LOSSES, shard):
            if first_batch <= batch <= last_batch:
                table = _read(path, _of_stream(stream_id))
                n_slots = int(table.schema.metadata[b"n_slots"])
                shape = (table.num_rows // max(1, n_slots), n_slots)
                block = LossBlock(
                    batch=batch,
                    stream_ids=_ints(table, "stream_id").reshape(shape)[:, 0],
                    y=_floats(table, "y").reshape(shape),
                    forecast=_floats(table, "forecast").reshape(shape),
                    naive=_floats(table, "naive").reshape(shape),
                )
                if stream_id is None or len(block.stream_ids):
                    found.append(block)
        return found

    def _path(self, kind: str, shard: int, *key: int) -> Path:
        name = "-".join(f"{number:0{DIGITS}d}" for number in key)
        return self.root / kind / f"shard={shard}" / f"{name}.parquet"

    def _files(self, kind: str, shard: int) -> Iterator[tuple[tuple[int, ...], Path]]:
        """Complete files of a shard in order of their key."""
        for path in sorted((self.root / kind / f"shard={shard}").glob("[0-9]*.parquet")):
            yield _numbers(path), path


def _of_stream(stream_id: int | None) -> pc.Expression:
    return pc.scalar(True) if stream_id is None else pc.field("stream_id") == stream_id  # noqa: FBT003


def _numbers(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in path.stem.split("-"))
    except ValueError as error:
        raise StoreError(f"{path}: unexpected name; expected numbers, as mlma writes them") from error


def _write(path: Path, table: pa.Table) -> None:
    """Write beside, flush to the disk, rename, flush the directory: complete or absent, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)

    _named(write, path, "cannot be written")


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, wanted: pc.Expression) -> pa.Table:
    return _named(lambda: pq.read_table(path, filters=wanted, partitioning=None), path, "cannot be read")


def _named(work: Callable[[], T], path: Path, what: str) -> T:
    try:
        return work()
    except (pa.ArrowException, OSError, EOFError, KeyError) as error:
        text = str(error).strip().split("\n", maxsplit=1)[0]
        raise StoreError(f"{path}: {what}: {text}") from error


def _ints(table: pa.Table, name: str) -> Ints:
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)
