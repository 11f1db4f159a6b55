"""Reads one CSV or Parquet file into columns; what cannot be read is refused or marked, never dropped.

A file that cannot be understood as a whole is a SourceError; a bad cell or line is marked in the rows and judged
by `mlma.core.admission`.
"""

import codecs
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlma.adapters.sources.cells import (
    TIME_EXPECTED,
    Names,
    parse_names,
    parse_times,
    parse_values,
    time_zone,
)
from mlma.adapters.sources.labels import labels_by_stream
from mlma.core.errors import SourceError
from mlma.core.rows import Rows
from mlma.models.external import UNNAMED

CHUNK_BYTES = 1 << 20

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""Files that can be read."""


@dataclass(frozen=True)
class ColumnMapping:
    """Which columns of a file hold what.

    Attributes
    ----------
    stream, time, value
        Column names.
    labels
        Columns whose values become labels of the stream: the first value in time.
    timezone
        Zone of times without an offset. Of a local time that occurs twice the first is meant; one that the
        clock skips does not exist and is rejected.
    forecast, version
        Columns of files with forecasts that were made elsewhere: such a file has the first and not ``value``. Without
        the second all are of one version. Empty: there are no such files.
    holds_forecasts
        Whether ``value`` is the forecast.

    Raises
    ------
    ConfigError
        When the time zone is unknown.
    """

    stream: str = "stream"
    time: str = "ts"
    value: str = "y"
    labels: tuple[str, ...] = ()
    timezone: str = "UTC"
    forecast: str = ""
    version: str = ""
    holds_forecasts: bool = False

    def __post_init__(self) -> None:
        time_zone(self.timezone)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a file must have, once."""
        more = (self.version,) if self.holds_forecasts and self.version else self.labels
        return tuple(dict.fromkeys((self.stream, self.time, self.value, *more)))

    def of(self, found: Collection[str]) -> "ColumnMapping":
        """Columns of one file, by the names that it has: of observations, or of forecasts.

        Examples
        --------
        >>> mapping = ColumnMapping(forecast="forecast", version="version")
        >>> mapping.of(["stream", "ts", "y"]).columns, mapping.of(["stream", "ts", "forecast"]).columns
        (('stream', 'ts', 'y'), ('stream', 'ts', 'forecast'))
        """
        if not self.forecast or self.forecast not in found or self.value in found:
            return self
        version = self.version if self.version in found else ""
        return replace(self, value=self.forecast, version=version, holds_forecasts=True)


@dataclass(frozen=True)
class _Table:
    """Columns as read, and the lines of a text file that could not be split."""

    columns: dict[str, pa.ChunkedArray]
    mapping: ColumnMapping
    n: int
    broken: dict[int, str]  # by 1-based data row


def read_file(path: Path, mapping: ColumnMapping) -> Rows:
    """Read a file by its suffix: ``.parquet``, ``.csv`` or ``.csv.gz``.

    Parameters
    ----------
    path
        The file.
    mapping
        Its columns; others are not read.

    Raises
    ------
    SourceError
        When the file as a whole cannot be understood: it is missing, a directory, empty, truncated, not UTF-8,
        of another kind, lacks a column, or a column has a type that cannot be what it is mapped to.
    """
    if not path.is_file():
        raise SourceError(f"{path}: {'is a directory' if path.is_dir() else 'does not exist'}; expected a file")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: is empty (0 bytes); expected the columns {', '.join(mapping.columns)}")
    if path.name.endswith(".parquet"):
        table = _read_parquet(path, mapping)
    elif path.name.endswith(SUFFIXES):
        table = _read_csv(path, mapping)
    else:
        raise SourceError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    try:
        return _rows(path, table)
    except UnicodeDecodeError as error:  # Parquet that claims to hold text
        raise SourceError(f"{path}: holds text that is not UTF-8: {error}") from error


def _rows(path: Path, table: _Table) -> Rows:
    mapping, n_all = table.mapping, table.n + len(table.broken)
    broken_rows = np.fromiter(table.broken, dtype=np.int64, count=len(table.broken))
    whole = np.ones(n_all, dtype=np.bool_)
    whole[broken_rows - 1] = False
    at = np.nonzero(whole)[0]  # position of each row that could be split

    def spread(values: np.ndarray, fill: float) -> np.ndarray:
        if not table.broken:
            return values
        wide = np.full(n_all, fill, dtype=values.dtype)
        wide[at] = values
        return wide

    where = f"{path}, column {{!r}}"
    names = parse_names(table.columns[mapping.stream], where=where.format(mapping.stream))
    times = parse_times(table.columns[mapping.time], zone=mapping.timezone, where=where.format(mapping.time))
    values = parse_values(table.columns[mapping.value], where=where.format(mapping.value))
    labels = {} if mapping.holds_forecasts else {name: table.columns[name] for name in mapping.labels}
    versions = _versions(table, where.format(mapping.version)) if mapping.holds_forecasts else None
    return Rows(
        stream_code=spread(names.code, -1),
        stream_names=names.names,
        time_us=spread(times.us, np.iinfo(np.int64).min),
        y=spread(values.y, np.nan),
        row=np.arange(1, n_all + 1),
        time_text={int(at[i]): text for i, text in times.text.items()},
        y_text={int(at[i]): text for i, text in values.text.items()},
        broken={row - 1: text for row, text in table.broken.items()},
        labels=labels_by_stream(labels, names.code, names.names, times.us),
        stream_column=mapping.stream,
        time_column=mapping.time,
        value_column=mapping.value,
        time_expected=TIME_EXPECTED.format(zone=mapping.timezone),
        version_code=None if versions is None else spread(versions.code, -1),
        version_names=() if versions is None else versions.names,
        version_column=mapping.version,
    )


def _versions(table: _Table, where: str) -> Names:
    """Versions of the rows of a file with forecasts."""
    if not table.mapping.version:
        return Names(np.zeros(table.n, dtype=np.int64), (UNNAMED,))
    return parse_names(table.columns[table.mapping.version], where=where)


def _read_parquet(path: Path, mapping: ColumnMapping) -> _Table:
    try:
        with pq.ParquetFile(path) as file:
            mapping = mapping.of(file.schema_arrow.names)
            _check_columns(path, mapping, file.schema_arrow.names)
            table = file.read(columns=list(mapping.columns))
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as Parquet, truncated or not Parquet: {_reason(error)}") from error
    return _Table({name: table.column(name) for name in mapping.columns}, mapping, table.num_rows, {})


def _read_csv(path: Path, mapping: ColumnMapping) -> _Table:
    broken: dict[int, str] = {}

    def keep_aside(row: pa_csv.InvalidRow) -> str:
        broken[row.number - 1] = row.text  # the header is row 1
        return "skip"

    parse = pa_csv.ParseOptions(invalid_row_handler=keep_aside)
    read = pa_csv.ReadOptions(use_threads=False)  # only then are row numbers known
    try:
        _check_encoding(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            names = pa_csv.open_csv(stream, read_options=read, parse_options=parse).schema.names
        mapping = mapping.of(names)
        _check_columns(path, mapping, names)
        broken.clear()
        convert = pa_csv.ConvertOptions(
            include_columns=list(mapping.columns),
            column_types=dict.fromkeys(mapping.columns, pa.string()),
            strings_can_be_null=False,
        )
        with pa.input_stream(str(path), compression="detect") as stream:
            table = pa_csv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(f"{path}: cannot be read as comma-separated text: {_reason(error)}") from error
    return _Table({name: table.column(name) for name in mapping.columns}, mapping, table.num_rows, broken)


def _check_encoding(path: Path) -> None:
    """Refuse text that is not UTF-8, with the line: the parser would lose lines that it can neither split nor show."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with pa.input_stream(str(path), compression="detect") as stream:
        while True:
            chunk = stream.read(CHUNK_BYTES)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise SourceError(
                    f"{path}, line {line}: is not UTF-8 text: byte 0x{error.object[error.start]:02x}; "
                    "expected a file saved as UTF-8"
                ) from None
            if not chunk:
                return
            line += chunk.count(b"\n")


def _check_columns(path: Path, mapping: ColumnMapping, found: list[str]) -> None:
    missing = [name for name in mapping.columns if name not in found]
    if missing:
        hint = "; other names: --stream-column, --time-column, --value-column, or source.stream_column and so on"
        if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
            hint = "; is the file separated by something else than commas?"
        raise SourceError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; expected the columns "
            f"{', '.join(map(repr, mapping.columns))}, found {', '.join(map(repr, found)) or 'none'}{hint}"
        )
    twice = [name for name in mapping.columns if found.count(name) > 1]
    if twice:
        raise SourceError(f"{path}: column {', '.join(map(repr, twice))} exists more than once; expected once")


def _reason(error: Exception) -> str:
    """Return the first line of a library's message."""
    return str(error).strip().split("\n", maxsplit=1)[0]
