"""Files that cannot be read as a whole: recorded, told, and not read again."""

from datetime import datetime

from mlma.core.decisions import RejectReason
from mlma.core.records import Finding, Rejected, SourceFile
from mlma.runtime.ports import Commit, ControlStore


def refuse(store: ControlStore, now: datetime, *, path: str, fingerprint: str, error: str) -> int:
    """Record a file that cannot be read as a whole; returns its number."""
    seq = last_seq(store) + 1
    file = SourceFile(
        seq=seq, path=path, fingerprint=fingerprint, n_rows=0, n_admitted=0, n_rejected=0, n_late=0, error=error,
        taken_at=now,
    )  # fmt: skip
    finding = Finding(kind="source_failed", subject=path, message=error, first_at=now, last_at=now)
    rejected = Rejected(
        seq=seq, path=path, stream="", reason=RejectReason.UNREADABLE, count=1, row=0, field="file", value="",
        expected=error,
    )  # fmt: skip
    store.record(Commit(file=file, rejected=[rejected], findings=[finding]))
    return seq


def last_seq(store: ControlStore) -> int:
    """Number of the last recorded file, 0 before the first."""
    files = store.files(limit=1)
    return files[-1].seq if files else 0
