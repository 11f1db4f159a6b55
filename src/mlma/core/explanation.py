"""What `mlma explain` and the plots show, as plain values: one stream's last decision, and a fleet by batch.

The runtime assembles them (`mlma.runtime.explain`), adapters draw them, the CLI prints them; nobody decides here.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints
from mlma.core.incident_view import IncidentView
from mlma.core.records import Certificate, Decision, Effect, Override, Request, Stream, Version

Times = NDArray[np.datetime64]


class MarkKind(StrEnum):
    """Decisions that a plot marks."""

    RETRAIN = "retrain"
    PROMOTE = "promote"
    REJECT = "reject"
    ROLL_BACK = "roll back"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A decision at the end of a batch."""

    kind: MarkKind
    batch: int
    at: datetime  # end of the batch, event time


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of an explanation: a label and a sentence."""

    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Outcomes and forecasts of one stream, slot by slot; arrays of shape (n,), NaN where missing."""

    time: Times  # starts of the slots, UTC
    y: Floats
    forecast: Floats  # as served
    naive: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLosses:
    """Mean losses of one stream, batch by batch; arrays of shape (batches,), NaN where missing."""

    batch: Ints
    time: Times  # ends of the batches, UTC
    mean_loss: Floats
    naive_loss: Floats
    adaptive_mean: Floats
    anchored_mean: Floats
    p_value: Floats
    effect: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShare:
    """A member of a pool: its weight, NaN while it has none, and its recent loss relative to the best member's."""

    member: str
    weight: float
    recent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One stream: its last batch, what was decided and why, and what led there.

    Attributes
    ----------
    decision
        Of the last closed batch; None while the stream was never judged.
    candidate
        The newest comparison of a candidate, or the newest training that failed.
    served, champion
        Version of the last batch, and the one that serves now; None means seasonal naive.
    certificate
        The newest of the fleet's test; None before the first.
    incidents
        Of the last batch whose label set is among the stream's labels, the smallest label set first.
    overrides, effects, requests
        That hold now, are pending, and wait for the next tick; of this stream.
    previous
        Decisions before the last batch that were not plain keeps, newest first.
    pool
        Members now, the heaviest first; empty when they were not asked for, or nothing is recorded.
    debt, price
        What age has cost since the last training, and what a training costs; NaN when it is not known.
    """

    stream: Stream
    now: datetime
    batch_start: datetime | None
    batch_end: datetime | None
    decision: Decision | None
    candidate: Decision | None
    served: Version | None
    champion: Version | None
    certificate: Certificate | None
    incidents: tuple[IncidentView, ...]
    overrides: tuple[Override, ...]
    effects: tuple[Effect, ...]
    requests: tuple[Request, ...]
    previous: tuple[Decision, ...]
    facts: tuple[Fact, ...]
    targets: Targets
    losses: BatchLosses
    marks: tuple[Mark, ...]
    pool: tuple[PoolShare, ...] = ()
    debt: float = float("nan")
    price: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCount:
    """A stream and how often something happened to it."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """A fleet batch by batch; arrays of shape (batches,).

    Attributes
    ----------
    alarm_share, retrain_share
        Share of the judged streams that alarmed, and whose model was ordered to be retrained.
    trainings
        Versions trained after the batch, first ones included.
    ratio_median, ratio_low, ratio_high
        Median, 10 % and 90 % quantile over streams of the served loss relative to seasonal naive on the same
        targets; of streams that a trained version served, NaN before there was one.
    top_retrained
        Streams with the most retrainings, the most first.
    """

    n_streams: int
    batch: Ints
    time: Times  # ends of the batches, UTC
    alarm_share: Floats
    retrain_share: Floats
    trainings: Ints
    ratio_median: Floats
    ratio_low: Floats
    ratio_high: Floats
    top_retrained: tuple[StreamCount, ...]
    n_retrainings: int
    n_promoted: int  # candidates that beat a champion
    n_rejected: int
