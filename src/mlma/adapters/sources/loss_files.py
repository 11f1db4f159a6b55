"""Recorded losses: files with one loss a row, and perhaps the loss of a yardstick on the same target."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlma.adapters.sources.files import SUFFIXES, ColumnMapping, read_file
from mlma.core.errors import SourceError
from mlma.core.rows import Rows

NAIVE_COLUMN = "naive_loss"
"""Where the losses of the yardstick stand unless told otherwise."""


def files_in(path: Path) -> list[Path]:
    """The file itself, or the files of a directory that can be read, in order of name.

    Raises
    ------
    SourceError
        Nothing is there.
    """
    if not path.exists():
        raise SourceError(f"{path}: does not exist; expected a file, or a directory with files")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(SUFFIXES))
    found = [file for file in found if not file.name.startswith(".")]
    if not found:
        raise SourceError(f"{path}: holds no file whose name ends in {', '.join(SUFFIXES)}")
    return found


def read_losses(path: Path, mapping: ColumnMapping, yardstick: str | None) -> tuple[Rows, Rows | None]:
    """Read a file with losses, and those of a yardstick where there are any.

    Parameters
    ----------
    path, mapping
        The file, and its columns; ``value`` is the loss.
    yardstick
        Column with the losses of the yardstick; None takes `NAIVE_COLUMN` where the file has it.

    Returns
    -------
    tuple
        Rows whose ``y`` is the loss, and the same rows whose ``y`` is that of the yardstick.

    Raises
    ------
    SourceError
        As `read_file` does.
    """
    losses = read_file(path, mapping)
    if yardstick is None and NAIVE_COLUMN not in _columns(path):
        return losses, None
    return losses, read_file(path, replace(mapping, value=yardstick or NAIVE_COLUMN, labels=()))


def _columns(path: Path) -> list[str]:
    """Names of the columns of a file that was read before."""
    if path.name.endswith(".parquet"):
        return list(pq.read_schema(path).names)
    parse = pa_csv.ParseOptions(invalid_row_handler=lambda _: "skip")
    with pa.input_stream(str(path), compression="detect") as stream:
        return list(pa_csv.open_csv(stream, parse_options=parse).schema.names)
