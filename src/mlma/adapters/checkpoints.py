"""Checkpoints of shards: arrays in one file each, so that a restart reads a little history instead of all of it."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.errors import StoreError


class FileCheckpoints:
    """The newest checkpoint of each shard under a directory.

    A checkpoint is only a shortcut: one that is missing or damaged counts as absent, and the shard is rebuilt
    from the history.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()  # it travels to processes with other working directories

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the checkpoint of a shard. Raises StoreError when it cannot be written."""
        self._write(self._path(shard), arrays)

    def save_monitor(self, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store the loss monitor after a batch in one of two files, so that the batch before stays."""
        self._write(self._monitor_path(batch), {**arrays, "after_batch": np.asarray(batch)})

    def load_monitor(self, batch: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of the monitor after a batch, None when they cannot be read."""
        found = self._read(self._monitor_path(batch))
        return found if found is not None and int(found.get("after_batch", -1)) == batch else None

    def save_evergreens(self, shard: int, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store what the evergreen members of a shard know after a batch, beside that after the batch before."""
        self._write(self._evergreens_path(shard, batch), {**arrays, "after_batch": np.asarray(batch)})

    def load_evergreens(self, shard: int, batch: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of the evergreen members after a batch, None when they cannot be read."""
        found = self._read(self._evergreens_path(shard, batch))
        return found if found is not None and int(found.get("after_batch", -1)) == batch else None

    def _write(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # the stub reads every keyword as allow_pickle
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise StoreError(f"checkpoint {path}: cannot be written: {error.strerror or error}") from error

    def load(self, shard: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of a shard's checkpoint, None when there is none that can be read."""
        return self._read(self._path(shard))

    @staticmethod
    def _read(path: Path) -> dict[str, NDArray[Any]] | None:
        try:
            # NumPy leaves a file open that it opened itself and could not read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, RuntimeError):
            return None  # zipfile raises RuntimeError where damage looks like encryption or an unknown method

    def _path(self, shard: int) -> Path:
        return self._root / f"shard-{shard:04d}.npz"

    def _evergreens_path(self, shard: int, batch: int) -> Path:
        return self._root / f"evergreens-{shard:04d}-{batch % 2}.npz"

    def _monitor_path(self, batch: int) -> Path:
        return self._root / f"monitor-{batch % 2}.npz"


class NoCheckpoints:
    """For replays and tests, whose history is in memory anyway."""

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep nothing."""

    def load(self, shard: int) -> None:
        """Nothing is kept."""

    def save_monitor(self, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep nothing."""

    def load_monitor(self, batch: int) -> None:
        """Nothing is kept."""

    def save_evergreens(self, shard: int, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep nothing."""

    def load_evergreens(self, shard: int, batch: int) -> None:
        """Nothing is kept."""
