"""Labels of streams from the columns of a file."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from mlma.adapters.sources.cells import parse_names
from mlma.core.blocks import Ints


def labels_by_stream(
    columns: Mapping[str, pa.ChunkedArray], code: Ints, names: tuple[str, ...], time_us: Ints
) -> dict[str, dict[str, str]]:
    """Labels of each stream: the value at its earliest time, so that the order of rows never matters.

    Parameters
    ----------
    columns
        Label columns by name, each of n cells.
    code
        Shape (n,), position of each row's stream in ``names``; -1 for none.
    names
        Names of the streams.
    time_us
        Shape (n,), microseconds.
    """
    labels: dict[str, dict[str, str]] = {}
    for label, column in columns.items():
        cells = parse_names(column, where=f"label {label!r}")
        rank = np.argsort(np.argsort(np.array(cells.names, dtype=np.str_)))  # ties go to the first in the alphabet
        at = np.nonzero((cells.code >= 0) & (code >= 0))[0]
        if not len(at):
            continue
        order = at[np.lexsort((rank[cells.code[at]], time_us[at], code[at]))]
        streams, first = np.unique(code[order], return_index=True)
        for stream, cell in zip(streams.tolist(), cells.code[order[first]].tolist(), strict=True):
            labels.setdefault(names[stream], {})[label] = cells.names[cell]
    return labels
