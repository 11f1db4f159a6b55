"""The long-lived process: takes in what arrives, ticks, sends digests, keeps the lease, and stops when told to."""

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import FrameType
from typing import Protocol

import numpy as np
import structlog

from mlma.core.blocks import ACTION_CODE, ACTIONS, HOLD_CODE
from mlma.core.decisions import Action, Hold
from mlma.core.errors import RetryLaterError, SourceError, StopDaemonError, StoreError
from mlma.core.records import SourceFile
from mlma.core.rows import Rows
from mlma.runtime import digests
from mlma.runtime.closing import Closed
from mlma.runtime.engine import Engine
from mlma.runtime.findings import OpenFindings
from mlma.runtime.lease import LeaseKeeper
from mlma.runtime.ports import Clock, Commit, ControlStore, Notifier
from mlma.runtime.refusals import refuse

log = structlog.get_logger(__name__)

SOURCE = "the source"
"""Subject of the finding of a source that cannot be listed; a refused file is named by its path."""


class Found(Protocol):
    """A file that a source has found."""

    @property
    def path(self) -> str:
        """Path relative to the source."""

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""


class Source(Protocol):
    """Where files come from."""

    def new_files(self, known: Mapping[str, str]) -> Sequence[Found]:
        """Files that are complete and not in ``known`` (path to fingerprint), in the order to be taken."""

    def read(self, found: Found) -> Rows:
        """Rows of a file. Raises SourceError when it cannot be read as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """How often the daemon looks, and when it reports."""

    tick: timedelta = timedelta(seconds=5)
    heartbeat: timedelta = timedelta(seconds=5)
    digest_cron: str = "0 7 * * *"
    digest_timezone: str = "UTC"

    @property
    def lease_timeout(self) -> timedelta:
        """Age of a heartbeat after which its daemon is taken for dead."""
        return 6 * self.heartbeat


@dataclass
class Daemon:
    """Keeps one state. ``make_engine`` is called when the first rows fix the anchor, or a state exists already."""

    store: ControlStore
    source: Source
    clock: Clock
    notifier: Notifier
    settings: DaemonSettings
    make_engine: Callable[[Sequence[Rows]], Engine | None]
    _engine: Engine | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _failing: str = ""
    _source_error: str | None = None  # None before the first look
    _known: dict[str, str] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)  # paths whose last content could not be read
    _started: datetime | None = None  # when the state was begun; this daemon's start while it is empty

    def run(self, *, once: bool = False) -> None:
        """Work until SIGTERM or SIGINT; with ``once`` until nothing is left to do.

        Raises
        ------
        StopDaemonError
            Another daemon keeps the state, or the state contradicts the configuration.
        """
        lease = LeaseKeeper(self.store, self.clock, self.settings.heartbeat, self._stop)
        self._started = lease.take(timeout=self.settings.lease_timeout)
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        beating = threading.Thread(target=lease.beat_on, name="heartbeat", daemon=True)
        beating.start()
        log.info("daemon_started", holder=lease.holder)
        try:
            self._known = self._recorded()
            while not self._stop.is_set():
                moved = self._pass()
                if once and not moved and not self._is_training():
                    self._require_healthy()
                    break
                self._stop.wait(0 if moved else self.settings.tick.total_seconds())
        finally:
            self._stop.set()
            beating.join(timeout=10)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            try:
                if self._engine is not None:
                    self._engine.close()
            finally:
                lease.release()
                log.info("daemon_stopped", holder=lease.holder)

    def _is_training(self) -> bool:
        """Whether a training is under way, of a stream or a group, here or elsewhere."""
        return self._engine is not None and self._engine.trainings.is_pending

    def _require_healthy(self) -> None:
        if self._failing:
            raise StopDaemonError(f"the last pass failed, so not everything was worked through: {self._failing}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signature is given
        self._stop.set()

    # one pass

    def _pass(self) -> bool:
        try:
            moved = self._take_files()
            if self._engine is not None:
                moved |= self._engine.tick()
            self._report()
        except (RetryLaterError, StoreError) as error:
            if self._failing != str(error):
                log.warning("tick_failed", error=str(error))
            self._failing = str(error)
            self._drop_engine()
            return False
        if self._failing:
            log.info("tick_recovered", error=self._failing)
            self._failing = ""
        return moved

    def _drop_engine(self) -> None:
        """Forget what is in memory after a failure in the middle of a pass: the next one starts from the record."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.executor.close()

    def _open_engine(self, waiting: Sequence[Rows]) -> None:
        self._engine = self.make_engine(waiting)
        if self._engine is not None:
            self._engine.observe = log_batch
            self._known = self._recorded()

    def _recorded(self) -> dict[str, str]:
        taken = self.store.files()
        if taken and self._started is not None:
            # The first digest is due a period after the state began, however often the daemon was restarted since.
            self._started = min(self._started, taken[0].taken_at)
        files = {file.path: file for file in taken}
        self._refused = {path for path, file in files.items() if file.error}
        return {path: file.fingerprint for path, file in files.items()}

    def _take_files(self) -> bool:
        if self._engine is None:
            # Before anything is recorded: the engine of a state that exists first discards what a crash left over.
            self._open_engine(())
        moved = False
        waiting: list[tuple[Found, Rows]] = []
        for file in self._look():
            if self._stop.is_set() and self._engine is not None:
                break
            rows = self._read(file)
            if rows is None:
                moved = True
            elif self._engine is None:
                waiting.append((file, rows))
            else:
                self._take(file, rows)
                moved = True
        return self._take_first(waiting) or moved

    def _take_first(self, waiting: Sequence[tuple[Found, Rows]]) -> bool:
        """Take the files that fix event time; while none of them holds a time, there is nothing to keep."""
        if not waiting:
            return False
        self._open_engine([rows for _, rows in waiting])
        moved = False
        for file, rows in waiting:
            if self._engine is None and rows.are_forecasts:
                continue  # left where it is until observations have begun event time
            moved = True
            if self._engine is None:
                self._refuse(file, rows.timeless())
            else:
                self._take(file, rows)
        return moved

    def _look(self) -> Sequence[Found]:
        """New files; a source that cannot be listed is told once, and the rest of the pass goes on."""
        try:
            found = self.source.new_files(self._known)
        except SourceError as error:
            if not self._source_error:
                log.warning("source_failed", error=str(error))
                self._note(SOURCE, str(error))
            self._source_error = str(error)
            return ()
        if self._source_error:
            log.info("source_recovered", error=self._source_error)
        if self._source_error != "":
            self._note(SOURCE, "")
        self._source_error = ""
        return found

    def _note(self, subject: str, error: str) -> None:
        """Open the finding of a source or a file that fails, or close it."""
        known = OpenFindings(self.store, self.clock.now())
        findings = [known.seen("source_failed", subject, error)] if error else known.healed("source_failed", subject)
        if findings:
            self.store.record(Commit(findings=findings))

    def _read(self, file: Found) -> Rows | None:
        try:
            return self.source.read(file)
        except SourceError as error:
            self._refuse(file, str(error))
            return None

    def _refuse(self, file: Found, error: str) -> None:
        log.warning("file_refused", path=file.path, error=error)
        if self._engine is None:
            refuse(self.store, self.clock.now(), path=file.path, fingerprint=file.fingerprint, error=error)
        else:
            self._engine.refuse(path=file.path, fingerprint=file.fingerprint, error=error)
        self._known[file.path] = file.fingerprint
        self._refused.add(file.path)

    def _take(self, file: Found, rows: Rows) -> None:
        assert self._engine is not None
        taken: SourceFile = self._engine.take(rows, path=file.path, fingerprint=file.fingerprint)
        self._known[file.path] = file.fingerprint
        if file.path in self._refused:
            self._refused.discard(file.path)
            self._note(file.path, "")
        log.info(
            "file_taken", path=file.path, seq=taken.seq, rows=taken.n_rows, admitted=taken.n_admitted,
            rejected=taken.n_rejected, late=taken.n_late,
        )  # fmt: skip

    def _report(self) -> None:
        now = self.clock.now()
        last = self.store.digests(limit=1)
        since = last[0].made_at if last else self._started or now
        due = digests.next_due(self.settings.digest_cron, self.settings.digest_timezone, since)
        if due <= now and self._engine is not None:
            settings = self._engine.settings
            digest_id = digests.issue(
                self.store,
                now=now,
                since=since,
                targets=self.notifier.targets(),
                alpha=settings.testing.alpha,
                schedule=settings.schedule,
                history=self._engine.history,
            )
            log.info("digest_made", id=digest_id)
        digests.deliver_due(self.store, self.notifier, now)


def log_batch(closed: Closed) -> None:
    """One line a batch, however many streams; each decision that is not a plain keep at debug level."""
    block = closed.decisions
    actions = {action: int((block.action == code).sum()) for code, action in enumerate(ACTIONS)}
    log.info(
        "batch_closed",
        batch=closed.batch,
        streams=len(block),
        alarms=int(closed.verdicts.alarm.sum()),
        held=int((block.held_by != HOLD_CODE[Hold.NOTHING]).sum()),
        **{str(action): n for action, n in actions.items() if n},
    )
    for row in np.flatnonzero(block.proposed != ACTION_CODE[Action.KEEP]).tolist():
        decision = block.decision(row)
        log.debug(
            "decision",
            stream_id=decision.stream_id,
            batch=decision.batch,
            action=decision.action,
            proposed=decision.proposed,
            reason=decision.reason,
            held_by=decision.held_by,
        )
