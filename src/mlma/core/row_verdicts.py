"""One verdict a row of a file, and where its time puts it: what observations and forecasts made elsewhere share."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Ints
from mlma.core.decisions import RejectReason
from mlma.core.quarantine import EPOCH, REASON_CODE, US
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule

ADMIT, MISSING = -1, -2
"""Verdicts beside the reason codes of `mlma.core.quarantine`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the rows of a file belong, arrays of shape (n,).

    Attributes
    ----------
    verdict
        Of lines that cannot be split, rows without a stream and rows without a time; of the others `ADMIT`. It is the
        caller's to go on with.
    slot
        Slot at or before the row's time; that of the anchor where there is no time.
    off_grid
        The time is not the start of a slot.
    no_number
        The value is text.
    """

    verdict: NDArray[np.int8]
    slot: Ints
    off_grid: Bools
    no_number: Bools


def place(rows: Rows, schedule: Schedule) -> Placement:
    """Look up the slots of rows and give those without a place their verdict."""
    n, frequency_us = len(rows), schedule.frequency // US
    timed = rows.time_us != NO_TIME
    since = np.where(timed, rows.time_us - (schedule.anchor - EPOCH) // US, 0)
    verdict = np.full(n, ADMIT, dtype=np.int8)
    mark(verdict, cells_at(rows.broken, n), RejectReason.UNREADABLE)
    mark(verdict, rows.stream_code < 0, RejectReason.BAD_STREAM)
    mark(verdict, ~timed, RejectReason.BAD_TIME)
    return Placement(
        verdict=verdict,
        slot=since // frequency_us,
        off_grid=since % frequency_us != 0,
        no_number=cells_at(rows.y_text, n),
    )


def mark(verdict: NDArray[np.int8], mask: Bools, reason: RejectReason) -> None:
    """Write a reason where no verdict was given before (into the caller's own array)."""
    verdict[(verdict == ADMIT) & mask] = REASON_CODE[reason]


def cells_at(cells: Mapping[int, str], n: int) -> Bools:
    """Whether each of n rows is among some cells."""
    mask = np.zeros(n, dtype=np.bool_)
    mask[np.fromiter(cells, dtype=np.int64, count=len(cells))] = True
    return mask
