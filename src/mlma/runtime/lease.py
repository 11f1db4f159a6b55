"""The lease of a state: one daemon keeps it, says so again and again, and stops when it has lost it."""

import os
import secrets
import socket
import threading
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from mlma.core.errors import StopDaemonError, StoreError
from mlma.core.records import Lease
from mlma.runtime.ports import Clock, ControlStore

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Takes the lease of a state for this process, and renews it.

    Parameters
    ----------
    heartbeat
        Time between two renewals.
    stop
        Ends the renewals; set when the lease is lost.
    """

    def __init__(self, store: ControlStore, clock: Clock, heartbeat: timedelta, stop: threading.Event) -> None:
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = store
        self._clock = clock
        self._heartbeat = heartbeat
        self._stop = stop

    def take(self, *, timeout: timedelta) -> datetime:
        """Take the lease.

        Parameters
        ----------
        timeout
            Age of a heartbeat after which its daemon is taken for dead.

        Returns
        -------
        datetime
            When it was taken.

        Raises
        ------
        StopDaemonError
            Another daemon keeps the state.
        """
        now = self._clock.now()
        lease = Lease(holder=self.holder, pid=os.getpid(), host=socket.gethostname(), started_at=now, heartbeat_at=now)
        other = self._store.take_lease(lease, stale_before=now - timeout)
        if other is not None and _is_dead(other):
            # A killed daemon of this machine left its lease behind; nobody has to wait for it to go stale.
            other = self._store.take_lease(lease, stale_before=now + timedelta(seconds=1))
        if other is not None:
            raise StopDaemonError(
                f"another daemon keeps this state: process {other.pid} on {other.host}, "
                f"heartbeat {other.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC; stop it first"
            )
        return now

    def beat_on(self) -> None:
        """Renew the lease while the loop works; a lost lease stops the daemon before it writes again."""
        is_failing = False
        while not self._stop.wait(self._heartbeat.total_seconds()):
            try:
                if not self._store.beat(self.holder, self._clock.now()):
                    log.error("lease_lost", holder=self.holder)
                    self._stop.set()
            except StoreError as error:
                if not is_failing:
                    log.warning("heartbeat_failed", error=str(error))
                is_failing = True
            else:
                is_failing = False

    def release(self) -> None:
        """Give the lease back."""
        self._store.release_lease(self.holder)


def _is_dead(lease: Lease) -> bool:
    if lease.host != socket.gethostname():
        return False
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(lease.pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked yet, as in containers whose first process never does."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # not Linux, or gone in between
        return False
    return state == "Z"
