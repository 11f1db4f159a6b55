"""Parquet files that are complete or absent, and columns of arrays in them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlma.adapters.durable import sync_directory
from mlma.core.blocks import Floats, Ints
from mlma.core.errors import StoreError

T = TypeVar("T")

EVERYTHING: pc.Expression = pc.scalar(True)  # noqa: FBT003
"""Filter that keeps every row."""


def of_stream(stream_id: int | None) -> pc.Expression:
    """Filter that keeps the rows of one stream, or all of them."""
    return EVERYTHING if stream_id is None else pc.field("stream_id") == stream_id


def numbers(path: Path) -> tuple[int, ...]:
    """Key that a file's name gives. Raises StoreError."""
    try:
        return tuple(int(part) for part in path.stem.split("-"))
    except ValueError as error:
        raise StoreError(f"{path}: unexpected name; expected numbers, as mlma writes them") from error


def write(path: Path, table: pa.Table) -> None:
    """Write beside, flush to the disk, rename, flush the directory: complete or absent. Raises StoreError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def put() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)

    _named(put, path, "cannot be written")


def read(path: Path, wanted: pc.Expression) -> pa.Table:
    """Rows of a file that a filter keeps. Raises StoreError."""
    return _named(lambda: pq.read_table(path, filters=wanted, partitioning=None), path, "cannot be read")


def _named(work: Callable[[], T], path: Path, what: str) -> T:
    try:
        return work()
    except (pa.ArrowException, OSError, EOFError, KeyError) as error:
        text = str(error).strip().split("\n", maxsplit=1)[0]
        raise StoreError(f"{path}: {what}: {text}") from error


def name_column(code: Ints, names: tuple[str, ...]) -> pa.DictionaryArray:
    """Names as a column that stores each of them once."""
    return pa.DictionaryArray.from_arrays(code.astype(np.int32), pa.array(names, type=pa.string()))


def code_column(table: pa.Table, name: str) -> tuple[Ints, tuple[str, ...]]:
    """Codes of a column of names, and the names."""
    column = table.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
    return column.indices.to_numpy(zero_copy_only=False).astype(np.int64), tuple(column.dictionary.to_pylist())


def list_column(values: Floats) -> pa.FixedSizeListArray:
    """Rows of a matrix as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def matrix(table: pa.Table, name: str) -> Floats:
    """Column of lists of equal length as a matrix."""
    column = table.column(name).combine_chunks()
    width = column.type.list_size
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(len(column), width)


def ints(table: pa.Table, name: str) -> Ints:
    """Column of whole numbers."""
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def floats(table: pa.Table, name: str) -> Floats:
    """Column of numbers, NaN where missing."""
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)
