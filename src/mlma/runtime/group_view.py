"""What is recorded about the models that serve groups of streams, for status pages and the ledger. Pure reading."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlma.core.blocks import Floats, PoolBlock
from mlma.core.decisions import EffectStatus, Reason
from mlma.core.records import GroupTraining

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One group.

    Attributes
    ----------
    version
        Id of the training whose model forecasts; empty while there is none.
    age
        Closed batches since then.
    debt
        What age has cost since the last training, as a mean over its streams; NaN when it is not known.
    price
        Debt at which a training paid when the last one was ordered.
    n_trainings
        That were ordered.
    open
        Status of the training that is under way or waits; empty without one.
    error
        Why the last training failed; empty when it did not.
    """

    member: str
    version: str
    n_streams: int
    reason: Reason
    batch: int
    age: int | None
    n_rows: int
    cpu_s: float
    debt: float
    price: float
    n_trainings: int
    open: str
    error: str


def member_of(training: GroupTraining) -> str:
    """Name of the group's member in the pools."""
    return training.id.rsplit("-", 1)[0]


def serving_of(trainings: Sequence[GroupTraining], member: str, *, origin: int | None = None) -> GroupTraining | None:
    """Training whose model forecasts as a member of the pools.

    Parameters
    ----------
    trainings
        Of all groups, in order of batch.
    origin
        Of the forecast, a slot; None: the newest one.
    """
    mine = [one for one in trainings if one.status is EffectStatus.DONE and member_of(one) == member]
    known = [one for one in mine if origin is None or (one.origin is not None and one.origin <= origin)]
    return known[-1] if known else None


def group_rows(trainings: Sequence[GroupTraining], block: PoolBlock | None, cursor: int | None) -> tuple[GroupRow, ...]:
    """All groups that were ever trained, in the order of their first training."""
    by_member: dict[str, list[GroupTraining]] = {}
    for training in trainings:
        by_member.setdefault(member_of(training), []).append(training)
    account = {} if block is None else block.account
    return tuple(_row(member, mine, account, cursor) for member, mine in by_member.items())


def _row(member: str, mine: Sequence[GroupTraining], account: Mapping[str, Floats], cursor: int | None) -> GroupRow:
    serving, last = serving_of(mine, member), mine[-1]
    debt = account.get(f"{member}:debt")
    shown = serving or last
    return GroupRow(
        member=member,
        version="" if serving is None else serving.id,
        n_streams=last.n_streams,
        reason=shown.reason,
        batch=shown.batch,
        age=None if cursor is None or serving is None else cursor - serving.batch,
        n_rows=shown.n_rows,
        cpu_s=math.fsum(one.cpu_s or 0.0 for one in mine),
        debt=NAN if debt is None or not len(debt) else float(debt[0]),
        price=last.price,
        n_trainings=sum(one.status is not EffectStatus.LAPSED for one in mine),
        open=str(last.status) if last.status in (EffectStatus.PENDING, EffectStatus.WAITING) else "",
        error=last.error if last.status is EffectStatus.FAILED else "",
    )


def group_words(row: GroupRow) -> str:
    """One group in one line.

    Examples
    --------
    >>> row = GroupRow(member="group:all", version="group:all-41", n_streams=113, reason=Reason.NO_VERSION, batch=41,
    ...                age=9, n_rows=30000, cpu_s=0.8, debt=0.003, price=0.3, n_trainings=1, open="", error="")
    >>> for part in group_words(row).split("; "):
    ...     print(part)
    group:all: 113 streams
    trained after batch 41 on 30,000 rows (no_version), 9 batches ago
    age has cost 0.003 of 0.300
    1 training, 0.80 CPU-s
    """
    words = f"{row.member}: {row.n_streams:,} streams"
    if row.version:
        words += f"; trained after batch {row.batch} on {row.n_rows:,} rows ({row.reason})"
        words += "" if row.age is None else f", {row.age:,} batches ago"
        words += "" if math.isnan(row.debt) else f"; age has cost {row.debt:.3f} of {row.price:.3f}"
    words += f"; {row.n_trainings:,} training{'' if row.n_trainings == 1 else 's'}, {row.cpu_s:.2f} CPU-s"
    if row.open:
        words += f"; one is {row.open}"
    return words + (f"; the last one failed: {row.error}" if row.error else "")
