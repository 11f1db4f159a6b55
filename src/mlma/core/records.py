"""Values that cross the ports: what is stored in the control plane, as frozen records.

A record says what is true; its table lives in the adapters. Times are aware and UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlma.core.decisions import (
    Action,
    CertificateStatus,
    EffectKind,
    EffectStatus,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)

NAIVE = "naive"
"""Version id of the seasonal naive fallback, which every stream has without training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of the fleet. ``id`` is dense from 0 in order of birth; ``shard = id % n_shards``."""

    id: int
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    first_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable trained model.

    ``id`` is ``"<stream id>-<batch>-<n>"``: the stream, the batch after which it was trained, and a count
    that starts at 0 (requests may train twice after one batch).
    """

    id: str
    stream_id: int
    batch: int
    role: Role
    family: str  # "lightgbm", "sklearn", ... : how the artifact is read
    sha256: str  # of the artifact; empty when the training failed
    size_bytes: int
    n_rows: int
    fit_cpu_s: float
    trained_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One line of the ledger: from ``origin`` on, ``version_id`` serves ``stream_id``."""

    stream_id: int
    origin: int  # slot
    batch: int  # the last batch closed at that moment; its successor is the first scored under this version
    version_id: str
    reason: Reason
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the fleet's loss test was seen to do on sham streams, up to and with a batch.

    Rates are shares of sham tests; NaN while there is none. The interval around ``level`` is a 95 % interval.
    """

    batch: int
    test: str  # name of the loss test
    status: CertificateStatus
    promised: float  # false-alarm rate a stream and batch
    level: float  # measured on healthy sham streams
    level_low: float
    level_high: float
    n_healthy: int  # sham tests behind the level
    rise: float  # relative rise of the loss of degraded sham streams
    power: float  # alarmed at the first batch after the rise
    caught: float  # alarmed within the batches that are followed
    delay: float  # median batches from the rise to the alarm, of those caught; 1 is the first batch
    n_degraded: int

    @property
    def is_armed(self) -> bool:
        """Whether alarms of the test may lead to anything."""
        return self.status is not CertificateStatus.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Streams that got worse together: one event, not as many alarms as it has members."""

    id: str  # "<first batch>-<labels>", such as "41-site=lhr"; stable while the incident lasts
    labels: Mapping[str, str]  # the smallest label set that explains it; empty for the whole fleet
    first_batch: int
    last_batch: int  # the newest batch in which it was seen
    n_members: int  # streams of the label set that were tested
    rise: float  # common relative rise of their loss over what was predicted
    p_value: float  # of the label set's common component against its own past


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision for one stream, with the numbers behind it (NaN where a number does not exist)."""

    stream_id: int
    batch: int
    phase: Phase
    action: Action  # what is carried out
    proposed: Action  # what was proposed before the guards
    reason: Reason
    held_by: Hold = Hold.NOTHING
    decided_at: datetime
    n: int = 0  # scored targets of the batch
    mean_loss: float = float("nan")  # of the served forecasts
    naive_loss: float = float("nan")  # of seasonal naive on the same targets
    p_value: float = float("nan")  # the smaller of the two references', one-sided
    effect: float = float("nan")  # relative rise of the tested loss over its reference; 0.1 = 10 % worse
    adaptive_mean: float = float("nan")  # adaptive reference, as mean loss
    anchored_mean: float = float("nan")  # anchored reference, as mean loss
    n_reference: int = 0  # batches in the adaptive reference
    version_id: str = NAIVE  # served during the batch; for promotions the candidate
    note: str = ""  # one sentence more, for explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Work that a decision ordered; idempotent, keyed by id, with a deadline."""

    id: str  # "<kind>-<stream id>-<batch>-<n>", with the batch after which it was ordered
    kind: EffectKind
    stream_id: int
    batch: int  # the last batch whose data the work may use: after which it started, or was ordered while it waits
    reason: Reason
    status: EffectStatus = EffectStatus.PENDING
    attempts: int = 0
    ordered_at: datetime
    deadline_at: datetime
    finished_at: datetime | None = None
    error: str = ""  # why it failed or lapsed
    expected_cpu_s: float | None = None  # charged to the budget when it started; None without a budget
    cpu_s: float | None = None  # spent; None while nobody knows
    starts_at: datetime | None = None  # event time at which the budget is expected to let it start, while it waits


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTraining:
    """One training of a model that serves a group of streams: the order, what came of it, and its line of the ledger.

    ``id`` is ``"group:<name>-<batch>"``, with the batch after which it was ordered.
    """

    id: str
    name: str  # of the group
    batch: int  # the last batch whose data it may use: after which it started, or was ordered while it waits
    reason: Reason
    status: EffectStatus = EffectStatus.PENDING
    attempts: int = 0
    n_streams: int  # that the group had
    debt: float = float("nan")  # what age had cost, as a mean over the streams
    price: float = float("nan")  # of a training, as a debt
    ordered_at: datetime
    deadline_at: datetime
    finished_at: datetime | None = None
    error: str = ""
    expected_cpu_s: float | None = None  # charged to the budget when it started
    cpu_s: float | None = None  # spent; None while nobody knows
    origin: int | None = None  # slot from which on the model forecasts; None while there is none
    family: str = ""
    sha256: str = ""
    size_bytes: int = 0
    n_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A standing order of an engineer over a selection of streams.

    ``starts_at`` and ``ends_at`` are wall time for freeze and pin, event time for exclude;
    ``ends_at`` None means for ever. ``id`` is 0 before it is stored.
    """

    id: int = 0
    kind: OverrideKind
    selection: str  # stream globs and label selectors, see core.selection
    author: str
    comment: str
    created_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    lifted_at: datetime | None = None
    lifted_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A one-shot order of an engineer. ``id`` is 0 before it is stored.

    ``back_to`` is the event time to which a rollback goes back; None brings the former champion.
    """

    id: int = 0
    kind: RequestKind
    selection: str
    author: str
    comment: str
    created_at: datetime
    back_to: datetime | None = None
    consumed_at: datetime | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who changed what, with the state before and after as JSON text."""

    id: int = 0
    at: datetime
    author: str
    operation: str  # the CLI's word: freeze, lift, retrain, ...
    subject: str  # the selection or the id
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file that a source took in. ``seq`` numbers the files in the order of admission, from 1."""

    seq: int
    path: str
    fingerprint: str  # size and SHA-256 of the content: a changed file is a new one
    n_rows: int
    n_admitted: int
    n_rejected: int
    n_late: int  # admitted after their batch was scored: for training only
    error: str = ""  # when the file as a whole was refused
    taken_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Rows of one file, stream and reason that were not admitted, with the first one as an example."""

    seq: int  # of the file
    path: str
    stream: str
    reason: RejectReason
    count: int
    row: int  # 1-based data row of the first one; 0 for the whole file
    field: str
    value: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a monitor saw and a person may want to know; open until ``closed_at``. Key: kind and subject."""

    kind: str  # one of `mlma.core.digest_parts.FindingKind`
    subject: str  # stream name, file or target
    message: str
    first_at: datetime
    last_at: datetime
    count: int = 1
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDigest:
    """A digest as it was made: its text is what was sent."""

    id: int = 0
    made_at: datetime
    since: datetime
    subject: str
    text: str
    body_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One digest to one target, at least once. ``target`` never holds a secret."""

    id: int = 0
    digest_id: int
    target: str  # name of the target in the configuration
    attempts: int = 0
    delivered_at: datetime | None = None
    next_try_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who keeps the state: a second daemon refuses to start while the heartbeat is fresh."""

    holder: str  # host, process id and a random word
    pid: int
    host: str
    started_at: datetime
    heartbeat_at: datetime
