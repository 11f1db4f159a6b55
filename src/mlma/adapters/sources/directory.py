"""Watches a directory into which files are dropped: says what is new and complete, and reads it.

It keeps no durable state; which files were taken is the control plane's knowledge and comes as an argument.
"""

import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mlma.adapters.sources.files import ColumnMapping, read_file
from mlma.core.errors import SourceError
from mlma.core.rows import Rows

TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")
"""Endings of files that somebody is still writing."""

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A complete file that was not taken in yet, or was changed since."""

    path: str  # relative to the directory, with forward slashes
    fingerprint: str  # "<size in bytes>-<SHA-256 of the content>"
    size_bytes: int


class HasPath(Protocol):
    """What is needed to read a file that was found."""

    @property
    def path(self) -> str:
        """Relative to the directory."""


class _Stamp(NamedTuple):
    """What changes when a file is written to; ``changed_ns`` cannot be set back as ``modified_ns`` can."""

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass
class DirectorySource:
    """Files under a directory that match one of the patterns.

    Attributes
    ----------
    root
        The directory.
    patterns
        Globs relative to it, such as ``*.parquet`` or ``**/*.csv``. Hidden and temporary names (``.x``,
        ``x.tmp``, ``x.part`` ...) never match.
    mapping
        Columns of the files.
    settle_s
        A file modified longer ago than this (seconds) is complete at the first look; a younger one at the
        first look that finds it unchanged since the look before.
    now_s
        Seconds since 1970.
    """

    root: Path
    patterns: tuple[str, ...]
    mapping: ColumnMapping
    settle_s: float = 2.0
    now_s: Callable[[], float] = time.time
    _seen: dict[str, _Stamp] = field(default_factory=dict, repr=False)
    _fingerprints: dict[str, tuple[_Stamp, str]] = field(default_factory=dict, repr=False)

    def new_files(self, known: Mapping[str, str]) -> list[FoundFile]:
        """Return complete files whose fingerprint is not the known one, in order of path.

        Parameters
        ----------
        known
            Fingerprints of the files that were taken in (or refused), by relative path.

        Raises
        ------
        SourceError
            When the directory cannot be listed.
        """
        stamps = self._look()
        found = []
        for path in sorted(stamps):
            stamp = stamps[path]
            kept = self._fingerprints.get(path)
            if kept is not None and kept[0] == stamp and known.get(path) == kept[1]:
                continue
            if self._is_complete(path, stamp):
                fingerprint = self._fingerprint(path, stamp)
                if fingerprint and known.get(path) != fingerprint:
                    found.append(FoundFile(path=path, fingerprint=fingerprint, size_bytes=stamp.size_bytes))
        self._seen = stamps
        self._fingerprints = {path: kept for path, kept in self._fingerprints.items() if path in stamps}
        return found

    def read(self, found: HasPath) -> Rows:
        """Read a file that was found.

        Raises
        ------
        SourceError
            When the file as a whole cannot be understood.
        """
        return read_file(self.root / found.path, self.mapping)

    def _look(self) -> dict[str, _Stamp]:
        if not self.root.is_dir():
            raise SourceError(f"source directory {self.root}: does not exist or is not a directory")
        stamps: dict[str, _Stamp] = {}
        try:
            for path, stat in self._files():
                stamps[path] = _stamp(stat)
        except FileNotFoundError:  # a file went away while we looked: the next look is soon
            return self._look_again(stamps)
        except OSError as error:
            raise SourceError(f"source directory {self.root}: cannot be listed: {error}") from error
        return stamps

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Files that match, by relative path; names in the directory itself without a path object for each."""
        plain = [pattern for pattern in self.patterns if "/" not in pattern and "**" not in pattern]
        if plain:
            is_wanted = re.compile("|".join(map(fnmatch.translate, plain))).match
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if is_wanted(entry.name) and not _is_temporary(entry.name) and _is_file(entry):
                        with suppress(FileNotFoundError):  # moved away since it was listed
                            yield entry.name, entry.stat()
        for pattern in self.patterns:
            for file in () if pattern in plain else self.root.glob(pattern):
                path = file.relative_to(self.root)
                if not any(_is_temporary(part) for part in path.parts) and file.is_file():
                    yield path.as_posix(), file.stat()

    def _look_again(self, stamps: dict[str, _Stamp]) -> dict[str, _Stamp]:
        return {path: stamp for path, stamp in stamps.items() if (self.root / path).exists()}

    def _is_complete(self, path: str, stamp: _Stamp) -> bool:
        age_s = self.now_s() - stamp.modified_ns / 1e9
        return age_s > self.settle_s or self._seen.get(path) == stamp

    def _fingerprint(self, path: str, stamp: _Stamp) -> str:
        """Size and hash of the content, hashed once for each change; empty when the file has gone."""
        kept = self._fingerprints.get(path)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        digest = hashlib.sha256()
        size = 0
        try:
            with (self.root / path).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SourceError(f"{self.root / path}: cannot be read: {error}") from error
        fingerprint = f"{size}-{digest.hexdigest()}"
        self._fingerprints[path] = (stamp, fingerprint)
        return fingerprint


def _is_temporary(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(TEMPORARY)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, or a link to one; a link that leads nowhere or to itself is none."""
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _stamp(stat: os.stat_result) -> _Stamp:
    return _Stamp(
        size_bytes=stat.st_size, modified_ns=stat.st_mtime_ns, changed_ns=stat.st_ctime_ns, inode=stat.st_ino
    )  # fmt: skip
