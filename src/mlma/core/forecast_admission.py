"""Which incoming forecasts of versions that forecast elsewhere are taken: one verdict a row, as for observations.

A forecast is worth something only if it was there before its outcome. So what counts is when it came, by the order
of the files, and not what it says about itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlma.core.admission import AdmissionState, first_of, gate, is_absurd
from mlma.core.blocks import ArrivedBlock, Bools, Floats, Ints
from mlma.core.decisions import RejectReason
from mlma.core.hooks import VERSION_NAME
from mlma.core.quarantine import Quarantine
from mlma.core.records import Rejected
from mlma.core.row_verdicts import ADMIT, mark, place
from mlma.core.rows import Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastState:
    """What is already known of the fleet.

    Attributes
    ----------
    settled
        Forecasts of earlier slots come too late: what the pools forecast for them is settled.
    known
        Says for stream ids and slots, both of shape (n,), of which the outcome is known.
    arrived
        Says of which rows a forecast of the same stream, slot and version is there already.
    center, scale
        As in `mlma.core.admission.AdmissionState`.
    """

    settled: int
    known: Callable[[Ints, Ints], Bools]
    arrived: Callable[[ArrivedBlock], Bools]
    center: Floats = field(default_factory=lambda: np.empty(0))
    scale: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedForecasts:
    """What one file brought; every row is admitted or rejected."""

    block: ArrivedBlock
    rejected: tuple[Rejected, ...]  # one a stream and reason, in that order
    n_rows: int

    @property
    def n_rejected(self) -> int:
        """Rows that were not taken."""
        return self.n_rows - len(self.block)


def admit_forecasts(
    rows: Rows,
    *,
    schedule: Schedule,
    streams: Mapping[str, int],
    state: ForecastState,
    settings: AdmissionSettings,
    seq: int,
    path: str,
) -> AdmittedForecasts:
    """Give every row one verdict.

    The first that applies: the line cannot be split, no stream, no time, a stream without observations, no such
    version name, off the grid, before the anchor, not a number, no finite number, look-ahead (its outcome is known),
    late (its origin is settled), absurd, duplicate. Of rows with the same stream, time and version the first is kept.

    Parameters
    ----------
    rows
        Columns of one file; ``y`` is the forecast.
    schedule, streams, settings
        As for `mlma.core.admission.admit`.
    state
        What is already known.
    seq, path
        Of the file, for the quarantine.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> schedule = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1),
    ...                     horizon=24, batch=24, train_window=24)
    >>> hour, start = 3_600_000_000, 978_307_200_000_000  # 2001-01-01 in microseconds
    >>> rows = Rows(stream_code=np.array([0, 0]), stream_names=("IAH",), row=np.array([1, 2]),
    ...             time_us=start + hour * np.array([3, 24]), y=np.array([7.0, 8.0]),
    ...             version_code=np.array([0, 0]), version_names=("prod-8",))
    >>> state = ForecastState(settled=0, known=lambda stream_id, slot: slot < 4,
    ...                       arrived=lambda block: np.zeros(len(block), dtype=np.bool_))
    >>> found = admit_forecasts(rows, schedule=schedule, streams={"IAH": 0}, state=state,
    ...                         settings=AdmissionSettings(), seq=1, path="f.csv")
    >>> found.block.slot.tolist(), [(r.reason.value, r.expected) for r in found.rejected]
    ([24], [('look_ahead', 'a time whose outcome is not known yet: this one was')])
    """
    n = len(rows)
    assert rows.version_code is not None
    placed = place(rows, schedule)
    verdict, slot = placed.verdict, placed.slot
    version = rows.version_code
    known_id = np.array([*(streams.get(name, -1) for name in rows.stream_names), -1], dtype=np.int64)
    stream_id = known_id[rows.stream_code]  # -1 finds the last entry
    well_named = np.array([*(bool(VERSION_NAME.fullmatch(name)) for name in rows.version_names), False])

    mark(verdict, stream_id < 0, RejectReason.UNKNOWN_STREAM)
    mark(verdict, ~well_named[version], RejectReason.BAD_VERSION)
    mark(verdict, placed.off_grid, RejectReason.OFF_GRID)
    mark(verdict, slot < 0, RejectReason.TOO_OLD)
    mark(verdict, placed.no_number, RejectReason.NOT_A_NUMBER)
    mark(verdict, ~np.isfinite(rows.y), RejectReason.NOT_FINITE)
    _mark_where(verdict, lambda at: state.known(stream_id[at], slot[at]), RejectReason.LOOK_AHEAD)
    mark(verdict, slot < state.settled, RejectReason.LATE)
    admission = AdmissionState(center=state.center, scale=state.scale)
    center, scale = gate(rows, verdict == ADMIT, known_id[:-1], admission, settings)
    mark(verdict, is_absurd(rows, verdict == ADMIT, center, scale, settings), RejectReason.ABSURD)
    every = ArrivedBlock(stream_id=stream_id, slot=slot, forecast=rows.y, version=version, versions=rows.version_names)
    before = _mark_where(verdict, lambda at: state.arrived(every.part(at)), RejectReason.DUPLICATE)
    kept = first_of(rows.stream_code * (len(rows.version_names) + 1) + version, verdict == ADMIT, slot)
    mark(verdict, kept != np.arange(n), RejectReason.DUPLICATE)
    kept[before] = -1
    quarantine = Quarantine(
        rows=rows, schedule=schedule, oldest_slot=max(0, state.settled), now=None, settings=settings, kept=kept,
        center=center, scale=scale, seq=seq, path=path,
    )  # fmt: skip
    chosen = np.flatnonzero(verdict == ADMIT)
    order = chosen[np.lexsort((version[chosen], stream_id[chosen], slot[chosen]))]
    return AdmittedForecasts(block=every.part(order), rejected=quarantine.records(verdict), n_rows=n)


def _mark_where(verdict: NDArray[np.int8], ask: Callable[[Ints], Bools], reason: RejectReason) -> Ints:
    """Ask about the rows without a verdict, mark those of which it is true, and return their positions."""
    at = np.flatnonzero(verdict == ADMIT)
    found = at[ask(at)] if len(at) else at
    mask = np.zeros(len(verdict), dtype=np.bool_)
    mask[found] = True
    mark(verdict, mask, reason)
    return found
