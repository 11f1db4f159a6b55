"""What the runtime needs from the outside, as protocols; adapters fulfil them, contract tests hold them to it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from numpy.typing import NDArray

from mlma.core.blocks import (
    ArrivedBlock,
    ForecastBlock,
    LossBlock,
    LossSums,
    MemberBlock,
    ObservationBlock,
    PeriodTotals,
    PoolBlock,
    RefitBlock,
)
from mlma.core.commit import Commit
from mlma.core.decisions import EffectStatus, Phase
from mlma.core.hooks import HookReply
from mlma.core.records import (
    AuditRow,
    Certificate,
    Decision,
    Delivery,
    Effect,
    Finding,
    GroupTraining,
    Incident,
    Lease,
    Override,
    Rejected,
    Request,
    Serving,
    SourceFile,
    StoredDigest,
    Stream,
    Version,
)
from mlma.core.training_queue import Bucket

__all__ = ["ArtifactStore", "Clock", "Commit", "ControlStore", "History", "Hook", "Notifier"]


class Clock(Protocol):
    """The time, real or virtual."""

    def now(self) -> datetime:
        """Current time, aware, UTC."""


class ControlStore(Protocol):
    """The control plane. The daemon alone calls `record`; the engineer's operations write orders and audit."""

    # machine state, written by the daemon
    def record(self, commit: Commit) -> None:
        """Make a commit true in one transaction. Raises StoreError."""

    def meta(self) -> Mapping[str, str]:
        """What was fixed when the state was made (anchor, frequency, shards ...)."""

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Add or replace entries of the meta table."""

    def cursor(self) -> int | None:
        """The last closed batch, None before the first."""

    def take_lease(self, lease: Lease, *, stale_before: datetime) -> Lease | None:
        """Take the lease unless another holder's heartbeat is fresh; that lease is then returned."""

    def beat(self, holder: str, now: datetime) -> bool:
        """Renew the heartbeat; False when another holder has taken over."""

    def release_lease(self, holder: str) -> None:
        """Give the lease back."""

    def add_digest(self, digest: StoredDigest, targets: Sequence[str], *, not_before: datetime | None = None) -> int:
        """Store a digest and one pending delivery a target, in one transaction; returns the digest's id.

        ``not_before`` is their first try; None: at once.
        """

    def update_delivery(self, delivery: Delivery) -> None:
        """Replace a delivery by its id."""

    # orders of an engineer, each with its audit row in the same transaction
    def add_override(self, override: Override, audit: AuditRow) -> int:
        """Store an override; returns its id."""

    def lift_override(self, override_id: int, *, by: str, at: datetime, audit: AuditRow) -> None:
        """End an override now. Raises OperationError when it does not exist or has ended."""

    def add_request(self, request: Request, audit: AuditRow) -> int:
        """Store a request; returns its id."""

    # reading
    def lease(self) -> Lease | None:
        """The lease as it was last written, None when nobody holds one."""

    def streams(self) -> list[Stream]:
        """All streams in order of id."""

    def stream(self, name: str) -> Stream | None:
        """The stream of a name, None when there is none."""

    def files(self, *, limit: int | None = None) -> list[SourceFile]:
        """Files in order of seq, or the last ``limit`` ones."""

    def rejected(self) -> list[Rejected]:
        """Rejected rows in order of seq."""

    def decisions(
        self,
        *,
        stream_id: int | None = None,
        batch: int | None = None,
        phase: Phase | None = None,
        since: datetime | None = None,
        exceptions_only: bool = False,
        limit: int | None = None,
    ) -> list[Decision]:
        """Decisions, newest first (by batch, then decided_at); ``exceptions_only`` leaves plain keeps out."""

    def totals(self, *, since: datetime, until: datetime) -> PeriodTotals:
        """Sums over the batch decisions decided, and the versions trained, in [since, until)."""

    def first_batch(self) -> int | None:
        """The first batch with a decision, None without any."""

    def loss_sums(self, *, first_batch: int, last_batch: int) -> LossSums:
        """Sums over the batch decisions of the batches in [first_batch, last_batch]."""

    def effects(self, *, status: EffectStatus | None = None) -> list[Effect]:
        """Effects in order of ordered_at, then id."""

    def group_trainings(self) -> list[GroupTraining]:
        """Trainings of models that serve groups of streams, in order of batch, then id."""

    def versions(self, *, stream_id: int | None = None) -> list[Version]:
        """Versions in order of stream and batch."""

    def servings(self, *, stream_id: int | None = None) -> list[Serving]:
        """The ledger in order of insertion."""

    def overrides(self) -> list[Override]:
        """All overrides in order of id, ended ones included."""

    def requests(self, *, open_only: bool = False) -> list[Request]:
        """Requests in order of id."""

    def audit(self, *, limit: int | None = None) -> list[AuditRow]:
        """Audit rows, newest first."""

    def findings(self, *, open_only: bool = True) -> list[Finding]:
        """Findings, newest first."""

    def certificate(self) -> Certificate | None:
        """The certificate of the newest batch that has one; those of long ago may be forgotten."""

    def bucket(self) -> Bucket | None:
        """State of the training budget, None before it was first used."""

    def incidents(self, *, since_batch: int | None = None, limit: int | None = None) -> list[Incident]:
        """Incidents, newest first (by last_batch, then first_batch); ``since_batch``: seen in it or later."""

    def digests(self, *, limit: int | None = None) -> list[StoredDigest]:
        """Digests, newest first."""

    def deliveries(self, *, digest_id: int | None = None, open_only: bool = False) -> list[Delivery]:
        """Deliveries in order of id; ``open_only`` leaves the delivered ones out."""

    def close(self) -> None:
        """Close the connection."""


class History(Protocol):
    """Durable columns by shard. Every write is atomic and idempotent: the same key replaces the same content."""

    def append_observations(self, seq: int, shard: int, block: ObservationBlock) -> None:
        """Store what file ``seq`` brought for a shard."""

    def observations(
        self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int
    ) -> list[tuple[int, ObservationBlock]]:
        """(seq, block) in order of seq, without slots before ``first_slot``."""

    def discard_observations_after(self, seq: int) -> None:
        """Remove what was stored for files that were never recorded in the control plane."""

    def append_arrived(self, seq: int, shard: int, block: ArrivedBlock) -> None:
        """Store the forecasts made elsewhere that file ``seq`` brought for a shard."""

    def arrived(self, shard: int, *, after_seq: int, up_to_seq: int, first_slot: int) -> list[tuple[int, ArrivedBlock]]:
        """(seq, block) in order of seq, without slots before ``first_slot``; those of long ago may be forgotten."""

    def append_forecasts(self, shard: int, block: ForecastBlock) -> None:
        """Store forecasts as they were issued."""

    def forecasts(
        self,
        shard: int,
        *,
        first_slot: int,
        last_slot: int,
        first_origin: int | None = None,
        stream_id: int | None = None,
    ) -> list[ForecastBlock]:
        """Blocks in order of origin with the targets in [first_slot, last_slot], of one stream or of all.

        With ``first_origin``, blocks of earlier origins alone are not looked at: a state of years holds many.
        """

    def append_losses(self, shard: int, block: LossBlock) -> None:
        """Store the outcomes and forecasts of a closed batch."""

    def losses(self, shard: int, *, first_batch: int, last_batch: int, stream_id: int | None = None) -> list[LossBlock]:
        """Blocks of the batches in [first_batch, last_batch] that exist, in order, of one stream or of all."""

    def append_members(self, shard: int, block: MemberBlock) -> None:
        """Store the forecasts of all members of the pools, with their weights."""

    def members(
        self, shard: int, *, first_origin: int, last_origin: int, stream_id: int | None = None
    ) -> list[MemberBlock]:
        """Blocks whose origins lie in [first_origin, last_origin], in order, of one stream or of all.

        Those of long ago may be forgotten.
        """

    def append_pool(self, block: PoolBlock) -> None:
        """Store the pools of the fleet as they are after a batch."""

    def pool(self, batch: int, *, stream_id: int | None = None) -> PoolBlock | None:
        """Pools after a batch, of one stream or of all; None when there are none."""

    def append_refit(self, shard: int, block: RefitBlock) -> None:
        """Store what the evergreen members learned after a batch."""

    def refit(self, shard: int, batch: int) -> RefitBlock | None:
        """What they learned after a batch, None when nothing was; that of long ago may be forgotten."""


class Checkpoints(Protocol):
    """Shortcuts for restarts; losing one costs time, never data."""

    def save(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the checkpoint of a shard. Raises StoreError when it cannot be written."""

    def load(self, shard: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of a shard's checkpoint, None when there is none that can be read."""

    def save_monitor(self, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store the loss monitor as it is after a batch; the one of the batch before stays. Raises StoreError."""

    def load_monitor(self, batch: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of the monitor after a batch, None when they cannot be read."""

    def save_evergreens(self, shard: int, batch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store what evergreen members know after a batch; that of the batch before stays. Raises StoreError."""

    def load_evergreens(self, shard: int, batch: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of the evergreen members after a batch, None when they cannot be read."""


class ArtifactStore(Protocol):
    """Model versions by content."""

    def save(self, blob: bytes) -> str:
        """Store durably; returns the SHA-256 in hex. Saving the same content again changes nothing."""

    def save_all(self, blobs: Sequence[bytes]) -> list[str]:
        """Store several durably; returns each SHA-256, in order. Raises RetryLaterError when one cannot be written."""

    def load(self, sha256: str) -> bytes:
        """Content whose hash was checked. Raises ArtifactError when missing or changed."""


class Notifier(Protocol):
    """The way to the engineer."""

    def targets(self) -> Sequence[str]:
        """Names of the configured targets."""

    def send(self, target: str, *, subject: str, text: str) -> None:
        """Deliver or raise RetryLaterError with a reason that holds no secret."""


class Hook(Protocol):
    """Where trainings elsewhere are ordered; picklable, and called on a worker."""

    def call(self, request: Mapping[str, object]) -> HookReply:
        """Order a training, or ask for one that was ordered under the same id before. Raises HookError."""

    def wait_before(self, attempt: int) -> float:
        """Seconds before a try, counted from 1."""
