"""Which incoming rows become observations: a pure function over columns that gives every row one verdict.

Rows come from `mlma.adapters.sources`; what is admitted goes to the history, what is not is quarantined with a
reason. Nothing disappears: admitted + rejected + missing = rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints, ObservationBlock
from mlma.core.decisions import RejectReason
from mlma.core.quarantine import EPOCH, US, Quarantine
from mlma.core.records import Rejected, Stream
from mlma.core.robust import grouped_scale, robust_scale
from mlma.core.row_verdicts import ADMIT, MISSING, mark, place
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings

__all__ = ["NO_TIME", "AdmissionState", "Admitted", "Rows", "admit", "robust_scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionState:
    """What is already known of the fleet.

    Attributes
    ----------
    oldest_slot
        Rows before it are too old.
    center, scale
        Shape (streams,), by id, from `robust_scale` over each stream's history; NaN, or a missing tail of the
        array, for streams without enough history.
    known
        Says for stream ids and slots, both of shape (n,), which observations exist already.
    """

    oldest_slot: int = 0
    center: Floats = field(default_factory=lambda: np.empty(0))
    scale: Floats = field(default_factory=lambda: np.empty(0))
    known: Callable[[Ints, Ints], Bools] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What one file brought. ``n_rows = n_admitted + n_rejected + n_missing``."""

    births: tuple[Stream, ...]  # in order of id
    block: ObservationBlock
    rejected: tuple[Rejected, ...]  # one a stream and reason, in that order
    n_rows: int
    n_admitted: int
    n_rejected: int
    n_missing: int  # rows without a value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Rows with their verdicts, arrays of shape (n,); centre and scale by stream code."""

    verdict: NDArray[np.int8]
    slot: Ints
    placed: Bools  # the name and the time are acceptable
    kept: Ints  # position of the row of the same stream and time that was kept; -1 when it was known before
    center: Floats
    scale: Floats


def admit(
    rows: Rows,
    *,
    schedule: Schedule,
    streams: Mapping[str, int],
    state: AdmissionState,
    settings: AdmissionSettings,
    now: datetime | None,
    seq: int,
    path: str,
) -> Admitted:
    """Give every row one verdict and every new stream its id.

    The verdicts, the first that applies: the line cannot be split, no stream, no time, no value (missing), off
    the grid, too old, in the future, not a number, not finite, absurd, duplicate. Of rows with the same stream
    and time the first in the file is kept. Apart from that the order of rows never matters.

    A stream is born by its first row that is admitted, or missing at an acceptable time: a stream that never
    had a value is known by its name.

    Parameters
    ----------
    rows
        Columns of one file.
    schedule
        Frequency and anchor of the fleet.
    streams
        Ids of the known streams by name, dense from 0.
    state
        What is already known of them.
    settings
        Tolerance of the clock and of absurd values.
    now
        Time of arrival, aware; None switches the check for the future off (replay).
    seq, path
        Of the file, for the quarantine.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> schedule = Schedule(anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1),
    ...                     horizon=24, batch=24, train_window=24)
    >>> hour = 3_600_000_000
    >>> start = 978_307_200_000_000  # 2001-01-01 in microseconds
    >>> rows = Rows(stream_code=np.array([0, 0, 0]), stream_names=("IAH",), row=np.array([1, 2, 3]),
    ...             time_us=start + hour * np.array([1, 0, 1]), y=np.array([7.0, np.inf, 7.0]))
    >>> found = admit(rows, schedule=schedule, streams={}, state=AdmissionState(),
    ...               settings=AdmissionSettings(), now=None, seq=1, path="a.csv")
    >>> found.births[0].first_slot, found.block.y.tolist()
    (1, [7.0])
    >>> [(r.reason.value, r.row, r.expected) for r in found.rejected]
    [('not_finite', 2, 'a finite number'),
     ('duplicate', 3, 'one row a stream and time; row 1 has the same value and is kept')]
    """
    known_id = np.array([streams.get(name, -1) for name in rows.stream_names], dtype=np.int64)
    judged = _judge(rows, schedule=schedule, known_id=known_id, state=state, settings=settings, now=now)
    births = _births(rows, judged, known_id, n_known=len(streams))
    code_of = {name: code for code, name in enumerate(rows.stream_names)}
    stream_id = known_id.copy()
    for stream in births:
        stream_id[code_of[stream.name]] = stream.id
    chosen = np.nonzero(judged.verdict == ADMIT)[0]
    n_missing = int((judged.verdict == MISSING).sum())
    quarantine = Quarantine(
        rows=rows, schedule=schedule, oldest_slot=max(0, state.oldest_slot), now=now, settings=settings,
        kept=judged.kept, center=judged.center, scale=judged.scale, seq=seq, path=path,
    )  # fmt: skip
    return Admitted(
        births=births,
        block=_block(stream_id[rows.stream_code[chosen]], judged.slot[chosen], rows.y[chosen]),
        rejected=quarantine.records(judged.verdict),
        n_rows=len(rows),
        n_admitted=len(chosen),
        n_rejected=len(rows) - len(chosen) - n_missing,
        n_missing=n_missing,
    )


def _judge(
    rows: Rows,
    *,
    schedule: Schedule,
    known_id: Ints,
    state: AdmissionState,
    settings: AdmissionSettings,
    now: datetime | None,
) -> _Judged:
    n, at = len(rows), place(rows, schedule)
    verdict, slot = at.verdict, at.slot
    too_old = slot < max(0, state.oldest_slot)
    future = np.zeros(n, dtype=np.bool_)
    if now is not None:
        future = rows.time_us > (now + settings.future_tolerance - EPOCH) // US

    placed = (verdict == ADMIT) & ~at.off_grid & ~too_old & ~future
    verdict[(verdict == ADMIT) & np.isnan(rows.y) & ~at.no_number] = MISSING
    mark(verdict, at.off_grid, RejectReason.OFF_GRID)
    mark(verdict, too_old, RejectReason.TOO_OLD)
    mark(verdict, future, RejectReason.FUTURE)
    mark(verdict, at.no_number, RejectReason.NOT_A_NUMBER)
    mark(verdict, np.isinf(rows.y), RejectReason.NOT_FINITE)
    center, scale = gate(rows, verdict == ADMIT, known_id, state, settings)
    mark(verdict, is_absurd(rows, verdict == ADMIT, center, scale, settings), RejectReason.ABSURD)
    known = _is_known(rows, verdict == ADMIT, slot, known_id, state)
    mark(verdict, known, RejectReason.DUPLICATE)
    kept = first_of(rows.stream_code, verdict == ADMIT, slot)
    mark(verdict, kept != np.arange(n), RejectReason.DUPLICATE)
    kept[known] = -1
    return _Judged(verdict=verdict, slot=slot, placed=placed, kept=kept, center=center, scale=scale)


def gate(
    rows: Rows, candidate: Bools, known_id: Ints, state: AdmissionState, settings: AdmissionSettings
) -> tuple[Floats, Floats]:
    """Centre and scale by stream code: of the known history, else of the file's own rows, else NaN."""
    n_codes = len(rows.stream_names)
    if settings.absurd_factor <= 0 or not n_codes:
        return np.full(n_codes, np.nan), np.full(n_codes, np.nan)
    usable = (known_id >= 0) & (known_id < min(len(state.center), len(state.scale)))
    center, scale = np.full(n_codes, np.nan), np.full(n_codes, np.nan)
    center[usable], scale[usable] = state.center[known_id[usable]], state.scale[known_id[usable]]
    unknown = np.isnan(center) | np.isnan(scale)
    own = candidate.copy()
    own[candidate] = unknown[rows.stream_code[candidate]]
    own_center, own_scale = grouped_scale(
        rows.y[own], rows.stream_code[own], n_codes, min_rows=settings.absurd_min_rows
    )
    return np.where(unknown, own_center, center), np.where(unknown, own_scale, scale)


def is_absurd(rows: Rows, candidate: Bools, center: Floats, scale: Floats, settings: AdmissionSettings) -> Bools:
    """Whether candidate rows are too far from the centre of their stream, shape (n,)."""
    absurd = np.zeros(len(rows), dtype=np.bool_)
    code = rows.stream_code[candidate]
    absurd[candidate] = np.abs(rows.y[candidate] - center[code]) > settings.absurd_factor * scale[code]
    return absurd


def _is_known(rows: Rows, candidate: Bools, slot: Ints, known_id: Ints, state: AdmissionState) -> Bools:
    mask = candidate.copy()
    mask[candidate] = known_id[rows.stream_code[candidate]] >= 0
    if state.known is None or not mask.any():
        return np.zeros(len(rows), dtype=np.bool_)
    mask[mask] = state.known(known_id[rows.stream_code[mask]], slot[mask])
    return mask


def first_of(codes: Ints, candidate: Bools, slot: Ints) -> Ints:
    """Position of the first candidate row of the same code and slot; its own position for all others."""
    kept = np.arange(len(codes))
    at = np.nonzero(candidate)[0]
    if not len(at):
        return kept
    code, when = codes[at], slot[at]
    order = np.lexsort((at, when, code))
    starts = np.ones(len(at), dtype=np.bool_)
    starts[1:] = (np.diff(code[order]) != 0) | (np.diff(when[order]) != 0)
    kept[at[order]] = at[order][np.nonzero(starts)[0][np.cumsum(starts) - 1]]
    return kept


def _births(rows: Rows, judged: _Judged, known_id: Ints, *, n_known: int) -> tuple[Stream, ...]:
    """Return the new streams, ids in order of first slot, then name; values go before missing ones."""
    never = np.iinfo(np.int64).max
    first = np.full(len(rows.stream_names), never)
    for verdict in (MISSING, ADMIT):
        mask = judged.placed & (judged.verdict == verdict)
        earliest = np.full(len(rows.stream_names), never)
        np.minimum.at(earliest, rows.stream_code[mask], judged.slot[mask])
        first = np.where(earliest != never, earliest, first)
    born = sorted(
        (int(first[code]), rows.stream_names[code]) for code in np.nonzero((known_id < 0) & (first != never))[0]
    )
    return tuple(
        Stream(id=n_known + i, name=name, labels=rows.labels.get(name, {}), first_slot=slot)
        for i, (slot, name) in enumerate(born)
    )


def _block(stream_id: Ints, slot: Ints, y: Floats) -> ObservationBlock:
    order = np.lexsort((stream_id, slot))
    return ObservationBlock(stream_id=stream_id[order], slot=slot[order], y=y[order])
