"""Rows finer than the wanted frequency, brought to it: demand adds up, levels are averaged."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from mlma.core.rows import NO_TIME, Rows

MIN_FINER = 0.1
"""Share of the rows that must lie between the wanted slots before a file counts as finer."""


def aggregated(rows: Rows, frequency: timedelta, how: str) -> tuple[Rows, str]:
    """Sum or average the rows of each stream and slot when the data is on a finer regular grid.

    Cells that could not be read, and rows that are on the grid already, are left for the admission to judge: a
    file is aggregated only when every step between the times of its streams divides the frequency.

    Parameters
    ----------
    rows
        Of one file.
    frequency
        Wanted length of a slot; slots start at multiples of it since 1970 UTC (days: at midnight UTC).
    how
        ``sum`` or ``mean``.

    Returns
    -------
    tuple
        Rows, and one sentence that says what was done (empty when nothing was).
    """
    wanted = frequency // timedelta(microseconds=1)
    readable = (rows.time_us != NO_TIME) & (rows.stream_code >= 0) & np.isfinite(rows.y)
    times = np.unique(rows.time_us[rows.time_us != NO_TIME])
    steps = np.unique(np.diff(times))
    if not len(steps) or steps[0] >= wanted or wanted % steps[0] or np.any(steps % steps[0]):
        return rows, ""
    if readable.any() and np.mean(rows.time_us[readable] % wanted != 0) < MIN_FINER:
        return rows, ""  # a few stray rows do not make a finer file; the admission refuses them by name
    step = int(steps[0])
    slot = rows.time_us // wanted
    keep = np.flatnonzero(readable)
    # A repeated stream and time is a duplicate, not demand: only the first one counts.
    order = keep[np.lexsort((keep, rows.time_us[keep], rows.stream_code[keep]))]
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[1:] = (np.diff(rows.stream_code[order]) == 0) & (np.diff(rows.time_us[order]) == 0)
    first = order[~repeated]
    is_new = np.ones(len(first), dtype=np.bool_)
    is_new[1:] = (np.diff(rows.stream_code[first]) != 0) | (np.diff(slot[first]) != 0)
    starts = np.flatnonzero(is_new)
    total = np.add.reduceat(rows.y[first], starts) if len(first) else rows.y[first]
    if how == "mean":
        total = total / np.diff(np.r_[starts, len(first)])
    # What could not be read, or holds no value, goes on as it came: the admission counts it and names its row.
    unread = np.flatnonzero(~readable)
    marked = {*rows.time_text, *rows.y_text, *rows.broken}
    rest = np.concatenate([np.union1d(unread, np.asarray(sorted(marked), dtype=np.int64)), order[repeated]])
    head = first[starts]
    position = {old: len(head) + i for i, old in enumerate(rest.tolist()) if old in marked}
    made = replace(
        rows,
        stream_code=np.concatenate([rows.stream_code[head], rows.stream_code[rest]]),
        time_us=np.concatenate(
            [slot[head] * wanted, np.where(rows.time_us[rest] == NO_TIME, NO_TIME, slot[rest] * wanted)]
        ),
        y=np.concatenate([total, rows.y[rest]]),
        row=np.concatenate([rows.row[head], rows.row[rest]]),
        time_text={position[i]: text for i, text in rows.time_text.items() if i in position},
        y_text={position[i]: text for i, text in rows.y_text.items() if i in position},
        broken={position[i]: text for i, text in rows.broken.items() if i in position},
    )
    said = f"{how} of up to {wanted // step} rows a slot: the data has a step of {timedelta(microseconds=step)}"
    return made, said
