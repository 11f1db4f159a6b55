"""What a source hands over: the rows of one file as columns, unreadable cells marked and nothing left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Floats, Ints

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands in ``Rows.time_us`` for a time that is missing or could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one file as columns, arrays of shape (n,) in file order; nothing is left out.

    Attributes
    ----------
    stream_code
        Position of the stream's name in ``stream_names``; -1 where the name is missing.
    stream_names
        Distinct names.
    time_us
        Microseconds since 1970 UTC; `NO_TIME` where missing or not a time.
    y
        NaN where missing or not a number.
    row
        1-based data row of the file.
    time_text, y_text
        By position: the text of cells that hold something that is not a time or not a number.
    broken
        By position: the text of lines that could not be split into columns.
    labels
        By stream name.
    version_code, version_names
        Of a file with forecasts made elsewhere, whose ``y`` is the forecast; position of each row's version in
        ``version_names``. None for a file with observations.
    """

    stream_code: Ints
    stream_names: tuple[str, ...]
    time_us: Ints
    y: Floats
    row: Ints
    time_text: Mapping[int, str] = field(default_factory=dict)
    y_text: Mapping[int, str] = field(default_factory=dict)
    broken: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stream_column: str = "stream"
    time_column: str = "ts"
    value_column: str = "y"
    time_expected: str = "a time"
    version_code: Ints | None = None
    version_names: tuple[str, ...] = ()
    version_column: str = "version"

    @property
    def are_forecasts(self) -> bool:
        """Whether the rows are forecasts made elsewhere, and not observations."""
        return self.version_code is not None

    def timeless(self) -> str:
        """Say that no row holds a time, and what the first one that holds anything there has instead.

        Examples
        --------
        >>> none = np.zeros(0, dtype=np.int64)
        >>> Rows(stream_code=none, stream_names=(), time_us=none, y=none.astype(float), row=none).timeless()
        "column 'ts': no row holds a time, there are no rows; expected a time"
        """
        found = "there are no rows" if not len(self) else "all are empty"
        if self.time_text:
            at = min(self.time_text)
            text = self.time_text[at].strip()
            number = " (a plain number: its unit would be a guess)" if text.replace(".", "", 1).isdigit() else ""
            found = f"row {self.row[at]} has {text[:80]!r}{number}"
        return f"column {self.time_column!r}: no row holds a time, {found}; expected {self.time_expected}"

    def __len__(self) -> int:
        return len(self.row)
