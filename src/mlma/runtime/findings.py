"""Findings that are open: seen again they go on, healed they are closed. Nothing is written here."""

from dataclasses import replace
from datetime import datetime
from functools import cached_property

from mlma.core.records import Finding
from mlma.runtime.ports import ControlStore


class OpenFindings:
    """What is open at one moment, read once and only when it is asked for.

    Parameters
    ----------
    store
        Where the findings are.
    now
        When something is seen or healed.
    """

    def __init__(self, store: ControlStore, now: datetime) -> None:
        self._store = store
        self._now = now

    @cached_property
    def _known(self) -> dict[tuple[str, str], Finding]:
        return {(finding.kind, finding.subject): finding for finding in self._store.findings(open_only=True)}

    def get(self, kind: str, subject: str) -> Finding | None:
        """The open finding of this kind and subject, None when there is none."""
        return self._known.get((kind, subject))

    def seen(self, kind: str, subject: str, message: str) -> Finding:
        """A finding of now; one that is open already goes on, with its first time and its count."""
        known = self.get(kind, subject)
        if known is None:
            return Finding(kind=kind, subject=subject, message=message, first_at=self._now, last_at=self._now)
        return replace(known, message=message, last_at=self._now, count=known.count + 1)

    def healed(self, kind: str, subject: str) -> list[Finding]:
        """The open finding, closed now; empty when there is none."""
        known = self.get(kind, subject)
        return [] if known is None else [replace(known, last_at=self._now, closed_at=self._now)]

    def subjects(self, kind: str) -> list[str]:
        """Subjects of the open findings of a kind."""
        return [subject for found, subject in self._known if found == kind]
