"""What a digest is made from and made of, with the small questions that its sections share.

No section is written here: `core.digest` makes them, `core.digest_attention` ranks what needs a person,
`core.digest_words` says it in a few columns, `core.digest_text` lays it out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from mlma.core.decisions import Action, Hold, Phase, Reason, RejectReason
from mlma.core.incident_view import IncidentView
from mlma.core.records import Certificate, Decision, Effect, Finding, Override, Request

SHOWN = 5
"""What needs a person, at most; the rest is counted."""
SHOWN_BRIEFLY = 3
"""Examples in every other section: what healed, waits or passed over the fleet leaves room for what needs someone."""

ALARMS = frozenset({Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.ALARM_ACCUMULATED})
ORDERS_HOLD = frozenset({Hold.FROZEN, Hold.PINNED})
"""Holds that an engineer's override causes, and that only a person ends."""

_PHASES = tuple(Phase)


class FindingKind(StrEnum):
    """Kinds of findings that a digest knows by name."""

    STREAM_SILENT = "stream_silent"
    SUSPICIOUS_DATA = "suspicious_data"
    TRAINING_IN_VAIN = "training_in_vain"
    MODEL_FAILED = "model_failed"
    TRAINING_FAILED = "training_failed"
    SOURCE_FAILED = "source_failed"
    DELIVERY_FAILED = "delivery_failed"


class Severity(IntEnum):
    """How urgently a person is needed; the first key of the ranking."""

    LOW = 1  # nothing gets worse by waiting
    MEDIUM = 2  # data or models slowly get worse
    HIGH = 3  # a stream is worse now, and mlma may not or cannot mend it
    CRITICAL = 4  # mlma itself is blind, mute or stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCount:
    """Rows of one reason that were not admitted in the period, and the stream with most of them."""

    reason: RejectReason
    count: int
    worst_stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSummary:
    """The pools of the fleet after the last batch; shares are medians over the streams, NaN where there is none.

    Attributes
    ----------
    is_blend
        All members serve, weighted; otherwise one version serves a stream.
    evergreen_share, versions_share, groups_share
        What all evergreen members, all trained versions, and all models of groups, carry of a stream together.
    n_in_use
        Versions that forecast.
    """

    is_blend: bool
    evergreen_share: float
    versions_share: float
    n_in_use: int
    groups_share: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestInputs:
    """Everything that a digest says, as plain values.

    Attributes
    ----------
    now, since, until
        When the digest is made, and its period (since, until].
    names
        Stream names by id; at least of the streams that occur in decisions and effects.
    decisions
        Of the period, without plain keeps, in any order.
    n_batches, n_tested, n_streams_tested
        Batches closed, (stream, batch) pairs tested, and streams tested at least once.
    last_batch
        The last closed batch; None before the first.
    alpha
        Promised false-alarm rate a test, in (0, 1).
    certificate
        The newest of the loss test; None before the first.
    incidents
        Seen in a batch of the period, in any order.
    effects
        Pending ones, and those that failed in the period.
    findings
        Open ones, and those closed in the period.
    overrides
        Active at ``now``.
    holders
        Active freeze or pin by stream id, as the override's id; at least for the streams held in ``decisions``.
    losing_streaks
        Comparisons in a row that a stream's candidates lost, by stream id; see `losing_streaks`.
    n_rows
        Rows that arrived in the period, rejected ones included.
    unreadable
        Files of the period that were refused as a whole.
    pool
        Of the last batch; None when none is recorded.
    loss_ratio_mean, loss_ratio_median
        Over streams: loss served / loss of seasonal naive on the same targets; NaN when nothing was scored.
    daemon_since, last_tick_at
        Start and last heartbeat of the daemon that holds the lease; None when none does.
    judged_until
        End of the last closed batch in event time; None before the first.
    tick_tolerance_s
        Seconds without a heartbeat after which the daemon counts as stopped.
    expects_daemon
        False for a state that a replay made: nobody is missed there.
    """

    now: datetime
    since: datetime
    until: datetime
    n_streams: int
    alpha: float
    names: Mapping[int, str] = field(default_factory=dict)
    decisions: Sequence[Decision] = ()
    n_batches: int = 0
    n_tested: int = 0
    n_streams_tested: int = 0
    last_batch: int | None = None
    certificate: Certificate | None = None
    incidents: Sequence[IncidentView] = ()
    effects: Sequence[Effect] = ()
    findings: Sequence[Finding] = ()
    overrides: Sequence[Override] = ()
    requests: Sequence[Request] = ()
    holders: Mapping[int, int] = field(default_factory=dict)
    losing_streaks: Mapping[int, int] = field(default_factory=dict)
    n_files: int = 0
    n_rows: int = 0
    rejected: Sequence[RejectedCount] = ()
    unreadable: Sequence[str] = ()
    n_trainings: int = 0
    fit_cpu_s: float = 0.0
    pool: PoolSummary | None = None
    loss_ratio_mean: float = math.nan
    loss_ratio_median: float = math.nan
    daemon_since: datetime | None = None
    last_tick_at: datetime | None = None
    judged_until: datetime | None = None
    tick_tolerance_s: float = 300.0
    expects_daemon: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a section, and the command to type where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A count of everything, the first examples, and how many more there are."""

    summary: str
    entries: tuple[Entry, ...] = ()
    n_more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What happened to the fleet in one period, on one page. Every string is one line."""

    subject: str
    made_at: datetime
    since: datetime
    until: datetime
    scope: str
    healed: Section
    pending: Section
    needs_you: Section
    incidents: Section
    pool: str
    cost: str
    honesty: tuple[str, str, str, str]
    files: str
    orders: str
    suppressed: str
    heartbeat: tuple[str, str]


def losing_streaks(promotions: Iterable[Decision]) -> dict[int, int]:
    """Comparisons in a row that the candidates of each stream lost, up to the newest one.

    Parameters
    ----------
    promotions
        Decisions of the promotion phase in any order; other phases and failed trainings are passed over.
    """
    streaks: dict[int, int] = {}
    for decision in sorted(promotions, key=age):
        if decision.phase is not Phase.PROMOTION:
            continue
        if decision.reason is Reason.NOT_BETTER:
            streaks[decision.stream_id] = streaks.get(decision.stream_id, 0) + 1
        elif decision.action is Action.PROMOTE or decision.reason is Reason.BEAT_CHAMPION:
            streaks.pop(decision.stream_id, None)
    return streaks


def age(decision: Decision) -> tuple[int, datetime, int]:
    """Sort key from the oldest to the newest decision; at one moment a step of the loop follows the one before."""
    return decision.batch, decision.decided_at, _PHASES.index(decision.phase)


def is_alarm(decision: Decision) -> bool:
    """Whether a batch was tested and alarmed."""
    return decision.phase is Phase.BATCH and decision.reason in ALARMS


def latest_alarms(inputs: DigestInputs) -> dict[int, Decision]:
    """Newest alarm of the period by stream id."""
    return {d.stream_id: d for d in sorted(inputs.decisions, key=age) if is_alarm(d)}


def held(inputs: DigestInputs) -> list[Decision]:
    """Proposals that are still held, at most one a stream, the largest effect first.

    A proposal lives until the next batch is judged. A request that was held is consumed and waits no longer.
    """
    newest = {d.stream_id: d for d in sorted(inputs.decisions, key=age) if d.phase is not Phase.REQUEST}
    still = [d for d in newest.values() if d.batch == inputs.last_batch and _still_held(d, inputs)]
    return sorted(still, key=lambda d: (-weight(d.effect), d.stream_id))


def _still_held(decision: Decision, inputs: DigestInputs) -> bool:
    if decision.held_by in ORDERS_HOLD:
        return decision.stream_id in inputs.holders
    return decision.held_by in {Hold.COOLING_DOWN, Hold.TOO_LITTLE_DATA, Hold.BACKING_OFF, Hold.SUSPICIOUS_DATA}


def weight(effect: float) -> float:
    """Size of an effect for ranking: infinite ones are large, missing ones nothing; a proof's gain is negative."""
    return 0.0 if math.isnan(effect) else min(abs(effect), 1e6)


def name_of(inputs: DigestInputs, stream_id: int) -> str:
    """Full name of a stream, as it must be typed."""
    return inputs.names.get(stream_id, f"stream {stream_id}")
