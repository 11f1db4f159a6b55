"""A control store in memory that nobody else writes to, for replays: what every tick asks for is remembered."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar, cast

from mlma.adapters.store import SqlStore
from mlma.core.commit import Commit
from mlma.core.records import AuditRow, Certificate, Finding, Override, Request

R = TypeVar("R")


class PrivateStore(SqlStore):
    """Cursor, overrides, open requests and open findings are read again after they were written, not at every tick."""

    def __init__(self) -> None:
        super().__init__("sqlite://", create=True)
        self._read: dict[str, list[object]] = {}
        self._certificate: Certificate | None = None  # as recorded last

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

    def record(self, commit: Commit) -> None:
        """Make a commit true in one transaction. Raises StoreError."""
        for name, is_changed in ("requests", bool(commit.requests)), ("findings", bool(commit.findings)):
            if is_changed:
                self._read.pop(name, None)
        if commit.certificate is not None and commit.certificate == self._certificate:
            commit = replace(commit, certificate=None)  # who does not test has the same one at every batch
        self._certificate = commit.certificate or self._certificate
        super().record(commit)
        if commit.cursor is not None:
            self._read["cursor"] = [commit.cursor]

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
            self._read[name] = list(read())
        return cast("list[R]", self._read[name].copy())
