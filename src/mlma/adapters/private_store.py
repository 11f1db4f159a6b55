"""A control store in memory that nobody else writes to, for replays.

What every tick asks for is remembered; what hardly anybody asks for is kept as it came, and written when somebody does.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import datetime
from typing import TypeVar, cast

from sqlalchemy import Connection

from mlma.adapters.store import SqlStore
from mlma.core.commit import Commit
from mlma.core.records import AuditRow, Certificate, Finding, Override, Rejected, Request

R = TypeVar("R")


class PrivateStore(SqlStore):
    """Cursor, overrides, open requests and open findings are read again after they were written, not at every tick.

    Decisions, effects, versions, servings and findings are written with the first question that needs them, and a
    replay asks none. What a database refuses of them (a time without a zone) is refused then.
    """

    def __init__(self) -> None:
        self._read: dict[str, list[object]] = {}
        self._certificate: Certificate | None = None  # as recorded last
        self._unwritten: deque[Commit] = deque()
        super().__init__("sqlite://", create=True)

    def cursor(self) -> int | None:
        """The last closed batch, None before the first."""
        return self._remembered("cursor", lambda: [super(PrivateStore, self).cursor()])[0]

    def overrides(self) -> list[Override]:
        """All overrides in order of id, ended ones included."""
        return self._remembered("overrides", super().overrides)

    def requests(self, *, open_only: bool = False) -> list[Request]:
        """Requests in order of id; ``open_only`` leaves the consumed ones out."""
        if not open_only:
            return super().requests()
        read = super().requests
        return self._remembered("requests", lambda: read(open_only=True))

    def findings(self, *, open_only: bool = True) -> list[Finding]:
        """Findings, newest first (by last_at, then kind and subject)."""
        if not open_only:
            return super().findings(open_only=False)
        return self._remembered("findings", super().findings)

    def rejected(self) -> list[Rejected]:
        """Rejected rows in order of seq, then stream and reason."""
        return self._without_writing(super().rejected)

    def record(self, commit: Commit) -> None:
        """Make a commit true; the parts that no tick reads back are written later. Raises StoreError."""
        if commit.requests:
            self._read.pop("requests", None)
        if commit.certificate is not None and commit.certificate == self._certificate:
            commit = replace(commit, certificate=None)  # who does not test has the same one at every batch
        later = Commit(
            cursor=commit.cursor, file=commit.file, block=commit.block, decisions=commit.decisions,
            effects=commit.effects, versions=commit.versions, servings=commit.servings, findings=commit.findings,
        )  # fmt: skip
        now = replace(
            commit, cursor=None, file=None, block=None, decisions=(), effects=(), versions=(), servings=(), findings=()
        )
        if any(getattr(now, part.name) for part in fields(now)):
            super().record(now)
        self._certificate = commit.certificate or self._certificate
        self._unwritten.append(later)
        if commit.cursor is not None:
            self._read["cursor"] = [commit.cursor]
        if commit.findings:
            self._read["findings"] = list(_still_open([*self.findings(), *commit.findings]))

    def add_override(self, override: Override, audit: AuditRow) -> int:
        """Store an override with its audit row; returns its id."""
        self._read.pop("overrides", None)
        return super().add_override(override, audit)

    def lift_override(self, override_id: int, *, by: str, at: datetime, audit: AuditRow) -> None:
        """End an override now. Raises OperationError when it does not exist or has ended."""
        self._read.pop("overrides", None)
        super().lift_override(override_id, by=by, at=at, audit=audit)

    def add_request(self, request: Request, audit: AuditRow) -> int:
        """Store a request with its audit row; returns its id."""
        self._read.pop("requests", None)
        return super().add_request(request, audit)

    def _remembered(self, name: str, read: Callable[[], list[R]]) -> list[R]:
        if name not in self._read:
            found = self._without_writing(read)
            self._read[name] = list(found)
        return cast("list[R]", self._read[name].copy())

    def _without_writing(self, read: Callable[[], list[R]]) -> list[R]:
        """What a question gives that nothing unwritten has to do with."""
        unwritten, self._unwritten = self._unwritten, deque()
        try:
            return read()
        finally:
            self._unwritten = unwritten

    def _ask(self, question: Callable[[Connection], R]) -> R:
        while self._unwritten:
            super().record(self._unwritten.popleft())
        return super()._ask(question)


def _still_open(findings: Iterable[Finding]) -> list[Finding]:
    """Of findings in the order they were made, the last of each kind and subject, in the order of the question."""
    newest = {(finding.kind, finding.subject): finding for finding in findings}
    found = sorted(newest.values(), key=lambda finding: (finding.kind, finding.subject))
    found.sort(key=lambda finding: finding.last_at, reverse=True)
    return [finding for finding in found if finding.closed_at is None]
