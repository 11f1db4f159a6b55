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
        path = self._path(shard)
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
        try:
            with np.load(self._path(shard), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def _path(self, shard: int) -> Path:
        return self._root / f"shard-{shard:04d}.npz"


class NoCheckpoints:
    """For replays and tests, whose history is in memory anyway."""

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep nothing."""

    def load(self, shard: int) -> None:
        """Nothing is kept."""
