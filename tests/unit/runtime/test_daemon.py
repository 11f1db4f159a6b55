"""The long-lived process: files, digests, the lease and failures, with a source and a clock that a test turns."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from mlma.adapters.artifacts import MemoryArtifacts
from mlma.adapters.checkpoints import NoCheckpoints
from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.core.decisions import EffectStatus, RejectReason
from mlma.core.errors import RetryLaterError, SourceError, StopDaemonError, StoreError
from mlma.core.records import Lease
from mlma.core.rows import NO_TIME, Rows
from mlma.core.settings import Evergreen, GroupSettings, ModelSettings, Serve
from mlma.runtime.control import EngineSettings
from mlma.runtime.daemon import Daemon, DaemonSettings
from mlma.runtime.engine import Engine
from mlma.runtime.executors import InlineExecutor
from mlma.runtime.replay import VirtualClock
from mlma.runtime.training import GroupJob, TrainingJob, TrainingOutcome
from tests.unit.runtime.memory_fleet import (
    ANCHOR,
    DAY,
    HOURS,
    TINY,
    WARM_DAYS,
    demand,
    outcome,
    rows_of,
    settings_for,
)  # fmt: skip

DAYS = 46
START = ANCHOR + DAYS * DAY
SETTINGS = DaemonSettings(tick=timedelta(0), heartbeat=timedelta(hours=1), digest_cron="0 7 * * *")


@dataclass
class File:
    path: str
    fingerprint: str
    rows: Rows | str  # text: why it cannot be read


@dataclass
class FakeSource:
    """Files in a list, and what a look at them raises; ``looks`` counts the passes."""

    files: list[File] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)  # by number of the look, from 1
    looks: int = 0
    on_look: Callable[[int], None] = lambda _: None

    def new_files(self, known: Mapping[str, str]) -> Sequence[File]:
        self.looks += 1
        self.on_look(self.looks)
        if self.looks in self.errors:
            raise self.errors[self.looks]
        return [file for file in self.files if known.get(file.path) != file.fingerprint]

    def read(self, found: Any) -> Rows:
        if isinstance(found.rows, str):
            raise SourceError(found.rows)
        return found.rows


class FakeNotifier:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.broken = False

    def targets(self) -> Sequence[str]:
        return ["ops"]

    def send(self, target: str, *, subject: str, text: str) -> None:
        if self.broken:
            raise RetryLaterError("no answer")
        self.sent.append((target, subject))


class Failing:
    """A store whose chosen write fails some times, before or after it happened."""

    def __init__(self, inner: SqlStore) -> None:
        self._inner = inner
        self.failures: list[bool] = []  # one a failing record to come: whether it happens all the same
        self.wanted: Callable[[Any], bool] = lambda commit: True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def record(self, commit: Any) -> None:
        if not self.failures or not self.wanted(commit):
            self._inner.record(commit)
            return
        happens = self.failures.pop(0)
        if happens:
            self._inner.record(commit)
        raise StoreError("the database is locked")


@dataclass
class Stand:
    """A daemon and all that it stands on."""

    path: Path
    y: np.ndarray = field(default_factory=lambda: demand(4, DAYS))
    settings: EngineSettings = field(default_factory=settings_for)
    source: FakeSource = field(default_factory=FakeSource)
    notifier: FakeNotifier = field(default_factory=FakeNotifier)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    history: MemoryHistory = field(default_factory=MemoryHistory)
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    executor: Callable[[], InlineExecutor] = InlineExecutor
    engines: int = 0
    store: Any = field(init=False)

    def __post_init__(self) -> None:
        # A file: the heartbeat's thread needs a connection of its own.
        self.store = Failing(SqlStore(f"sqlite:///{self.path / 'mlma.db'}", create=True))

    def make_engine(self, waiting: Sequence[Rows]) -> Engine | None:
        """As the product does: event time is fixed by the first rows that hold a time."""
        knows = any((rows.time_us != NO_TIME).any() for rows in waiting)
        if "anchor" not in self.store.meta():
            if not knows:
                return None
            self.store.set_meta({"anchor": ANCHOR.isoformat()})
        self.engines += 1
        engine = Engine(
            settings=self.settings, store=self.store, history=self.history, artifacts=self.artifacts,
            executor=self.executor(), clock=self.clock, checkpoints=NoCheckpoints(),
        )  # fmt: skip
        engine.open()
        return engine

    def daemon(self, settings: DaemonSettings = SETTINGS) -> Daemon:
        return Daemon(
            store=self.store, source=self.source, clock=self.clock, notifier=self.notifier, settings=settings,
            make_engine=self.make_engine,
        )  # fmt: skip

    def drop(self, first_day: int, last_day: int, *, name: str = "") -> None:
        rows = rows_of(self.y, first_day * HOURS, last_day * HOURS)
        self.source.files.append(File(name or f"day-{first_day:03d}", "1", rows))

    def drop_all(self) -> None:
        for first, last in ((0, WARM_DAYS - 1), (WARM_DAYS - 1, 44), (44, DAYS)):
            self.drop(first, last)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def events(logged: list[Any], *names: str) -> list[str]:
    return [line["event"] for line in logged if line["event"] in names]


def headless(rows: Rows) -> Rows:
    """The same rows without a readable time."""
    return replace(rows, time_us=np.full(len(rows), NO_TIME), time_text=dict.fromkeys(range(len(rows)), "noon"))


# files


def test_what_arrives_is_taken_and_worked_through(stand: Stand, logged: list[Any]) -> None:
    stand.drop_all()
    stand.daemon().run(once=True)
    assert stand.store.cursor() == DAYS - 1
    assert [file.path for file in stand.store.files()] == ["day-000", "day-041", "day-044"]
    assert events(logged, "daemon_started", "daemon_stopped") == ["daemon_started", "daemon_stopped"]
    assert events(logged, "batch_closed") == ["batch_closed"] * 5


def test_a_restart_takes_no_file_twice(stand: Stand) -> None:
    stand.drop_all()
    stand.daemon().run(once=True)
    before = outcome(stand.store)
    stand.daemon().run(once=True)
    assert outcome(stand.store) == before


def test_a_changed_file_is_taken_again(stand: Stand) -> None:
    stand.drop_all()
    stand.daemon().run(once=True)
    stand.source.files[-1].fingerprint = "2"
    stand.daemon().run(once=True)
    assert [file.path for file in stand.store.files()].count("day-044") == 2


def test_a_backlog_of_files_is_judged_by_the_files_before(stand: Stand) -> None:
    stand.drop(0, WARM_DAYS - 1)
    stand.y = stand.y.copy()
    stand.y[1, (WARM_DAYS - 1) * HOURS + 2] = 1e9
    stand.drop(WARM_DAYS - 1, WARM_DAYS, name="bad")  # one day: too few rows to judge themselves
    stand.daemon().run(once=True)
    (refused,) = (one for one in stand.store.rejected() if one.path == "bad")
    assert (refused.stream, refused.reason, refused.count) == ("s001", RejectReason.ABSURD, 1)
    assert float(refused.value) == 1e9


class LateGroups(InlineExecutor):
    """A worker that answers about groups only when it is asked the fourth time."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[int, GroupJob]] = []

    def submit(self, job: TrainingJob | GroupJob) -> None:
        if isinstance(job, GroupJob):
            self._waiting.append((3, job))
        else:
            super().submit(job)

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        late, self._waiting = self._waiting, []
        for left, job in late:
            if left:
                self._waiting.append((left - 1, job))
            else:
                super().submit(job)
        return super().collect(wait=wait)


def test_once_waits_for_the_training_of_a_group(tmp_path: Path) -> None:
    group = GroupSettings(min_streams=1, rows=300, model=ModelSettings(name=TINY))
    pool: dict[str, object] = {"serve": Serve.BLEND, "proof": False, "evergreen": (Evergreen.MEDIAN,)}
    settings = settings_for(wanted="calendar:2", life=pool | {"groups": (group,), "cooldown": 0})
    stand = Stand(tmp_path, settings=settings, executor=LateGroups)
    stand.drop_all()
    stand.daemon().run(once=True)
    assert stand.store.cursor() == DAYS - 1  # every batch was closed, though nobody but the group was trained in some
    assert {one.status for one in stand.store.group_trainings()} == {EffectStatus.DONE}
    assert len(stand.store.group_trainings()) > 1
    stand.store.close()


def test_an_unreadable_file_is_recorded_once_and_the_rest_goes_on(stand: Stand, logged: list[Any]) -> None:
    stand.drop_all()
    stand.source.files.insert(1, File("broken.csv", "1", "broken.csv: column 'y' is missing"))
    stand.daemon().run(once=True)
    stand.daemon().run(once=True)
    (refused,) = (file for file in stand.store.files() if file.error)
    assert (refused.path, refused.n_rows) == ("broken.csv", 0)
    (finding,) = stand.store.findings()
    assert (finding.kind, finding.subject) == ("source_failed", "broken.csv")
    assert finding.message == "broken.csv: column 'y' is missing"
    assert [entry.reason.value for entry in stand.store.rejected() if entry.path == "broken.csv"] == ["unreadable"]
    assert events(logged, "file_refused") == ["file_refused"]
    assert stand.store.cursor() == DAYS - 1


def test_the_finding_of_a_file_closes_when_it_was_mended(stand: Stand) -> None:
    stand.drop_all()
    stand.source.files.append(File("broken.csv", "1", "truncated"))
    stand.daemon().run(once=True)
    stand.source.files[-1] = File("broken.csv", "2", rows_of(stand.y[:1], 0, 24))
    stand.daemon().run(once=True)
    assert not stand.store.findings()
    assert [file.error for file in stand.store.files() if file.path == "broken.csv"] == ["truncated", ""]


def test_an_unreadable_file_before_any_other_does_not_stop_the_first_rows(stand: Stand) -> None:
    stand.source.files.append(File("broken.csv", "1", "truncated"))
    stand.daemon().run(once=True)
    assert [file.error for file in stand.store.files()] == ["truncated"]
    stand.drop_all()
    stand.daemon().run(once=True)
    assert [file.seq for file in stand.store.files()] == [1, 2, 3, 4]
    assert stand.store.cursor() == DAYS - 1


def test_files_without_a_time_are_refused_once_and_do_not_keep_the_daemon_busy(stand: Stand) -> None:
    empty = rows_of(stand.y, 0, 0)
    stand.source.files += [File("empty.csv", "1", empty), File("bad.csv", "1", headless(rows_of(stand.y, 0, 3)))]
    stand.daemon().run(once=True)
    assert stand.engines == 0
    assert [file.path for file in stand.store.files()] == ["empty.csv", "bad.csv"]
    assert all("no row holds a time" in file.error for file in stand.store.files())
    stand.drop_all()
    stand.daemon().run(once=True)
    assert stand.store.cursor() == DAYS - 1


def test_a_bad_file_after_a_crash_does_not_take_the_number_of_what_was_left_over(stand: Stand) -> None:
    stand.drop(0, WARM_DAYS - 1)
    stand.daemon().run(once=True)
    engine = stand.make_engine(())
    assert engine is not None
    engine.store = Failing(stand.store)  # type: ignore[assignment]
    engine.store.failures = [False]  # type: ignore[attr-defined]
    with pytest.raises(StoreError):  # the history has the rows of file 2, the record has not
        engine.take(rows_of(stand.y, (WARM_DAYS - 1) * HOURS, 44 * HOURS), path="day-041", fingerprint="1")
    stand.source.files.append(File("a-bad.csv", "1", "truncated"))
    stand.drop(WARM_DAYS - 1, 44)
    stand.daemon().run(once=True)
    taken = {file.path: file for file in stand.store.files()}
    assert (taken["day-041"].n_admitted, taken["day-041"].n_rejected) == (4 * 3 * HOURS, 0)


# failures


@pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "wanted",
    [
        lambda commit: commit.file is not None,
        lambda commit: commit.cursor is not None,
        lambda commit: bool(commit.versions),
    ],
    ids=["file", "batch", "training"],
)
def test_a_store_that_fails_for_a_moment_changes_nothing(
    stand: Stand, tmp_path: Path, wanted: Callable[[Any], bool], happens: bool, logged: list[Any]
) -> None:
    (tmp_path / "calm").mkdir()
    calm = Stand(tmp_path / "calm")
    for one in (stand, calm):
        one.drop_all()
    calm.daemon().run(once=True)
    expected = outcome(calm.store)
    calm.store.close()

    stand.store.failures, stand.store.wanted = [happens, happens], wanted
    run_passes(stand, 8)
    assert outcome(stand.store) == expected
    told = events(logged, "tick_failed", "tick_recovered")
    assert told == ["tick_failed", "tick_recovered"] * (len(told) // 2)  # each trouble once, and its end once
    assert told


def run_passes(stand: Stand, n: int, settings: DaemonSettings = SETTINGS) -> None:
    """Run a daemon for some passes and stop it as SIGTERM does."""
    last = stand.source.looks + n

    def stop(look: int) -> None:
        if look >= last:
            os.kill(os.getpid(), signal.SIGTERM)

    stand.source.on_look = stop
    stand.daemon(settings).run()
    stand.source.on_look = lambda _: None


def test_once_says_so_when_the_last_pass_failed(stand: Stand) -> None:
    stand.drop_all()
    stand.store.failures = [False]
    with pytest.raises(StopDaemonError, match=r"the last pass failed.*the database is locked"):
        stand.daemon().run(once=True)
    assert stand.store.lease() is None


def test_a_failing_source_is_logged_once_and_once_when_it_recovers(stand: Stand, logged: list[Any]) -> None:
    stand.drop_all()
    gone = SourceError("source directory inbox: does not exist or is not a directory")
    stand.source.errors = {2: gone, 3: gone, 4: gone, 7: gone}
    found: list[int] = []
    stand.source.on_look = lambda look: found.append(len(stand.store.findings()))
    run_passes_counting(stand, 9, found)
    assert events(logged, "source_failed", "source_recovered") == [
        "source_failed", "source_recovered", "source_failed", "source_recovered",
    ]  # fmt: skip
    assert found == [0, 0, 1, 1, 1, 0, 0, 1, 0]
    assert not stand.store.findings()
    assert stand.store.cursor() == DAYS - 1


def run_passes_counting(stand: Stand, n: int, found: list[int]) -> None:
    def look(number: int) -> None:
        found.append(len(stand.store.findings()))
        if number >= n:
            os.kill(os.getpid(), signal.SIGTERM)

    stand.source.on_look = look
    stand.daemon().run()


def test_the_fleet_goes_on_while_the_source_fails(stand: Stand) -> None:
    stand.drop_all()
    stand.daemon().run(once=True)
    stand.source.errors = {stand.source.looks + 1: SourceError("gone")}
    stand.clock.set(START + DAY)
    stand.daemon().run(once=True)
    assert stand.notifier.sent
    (finding,) = stand.store.findings()
    assert (finding.kind, finding.message) == ("source_failed", "gone")


# digests


def test_a_digest_is_issued_when_it_is_due_and_only_then(stand: Stand) -> None:
    stand.drop_all()
    times: list[tuple[datetime, int]] = []

    def turn(look: int) -> None:
        times.append((stand.clock.now(), len(stand.store.digests())))
        stand.clock.set(stand.clock.now() + timedelta(hours=3))
        if look >= 20:
            os.kill(os.getpid(), signal.SIGTERM)

    stand.source.on_look = turn
    stand.daemon().run()
    made = sorted(digest.made_at for digest in stand.store.digests())
    assert [moment - START for moment in made] == [timedelta(hours=9), timedelta(hours=33), timedelta(hours=57)]
    assert len(stand.notifier.sent) == 3
    assert all(delivery.delivered_at is not None for delivery in stand.store.deliveries())


def test_no_digest_is_missed_or_doubled_by_a_restart(stand: Stand) -> None:
    stand.drop_all()
    stand.daemon().run(once=True)
    for hours in (8, 9, 10, 32, 33):
        stand.clock.set(START + timedelta(hours=hours))
        run_passes(stand, 2)
    made = sorted(digest.made_at - START for digest in stand.store.digests())
    assert made == [timedelta(hours=8), timedelta(hours=32)]
    stand.clock.set(START + timedelta(hours=120))
    run_passes(stand, 2)
    assert len(stand.store.digests()) == 3


def test_a_digest_that_cannot_be_sent_stops_nothing(stand: Stand) -> None:
    stand.drop_all()
    stand.notifier.broken = True
    stand.source.on_look = lambda look: stand.clock.set(START + timedelta(hours=12))
    stand.daemon().run(once=True)
    (delivery,) = stand.store.deliveries()
    assert (delivery.delivered_at, delivery.error) == (None, "no answer")
    assert stand.store.cursor() == DAYS - 1


# the lease


def other_lease(stand: Stand, *, age: timedelta, host: str = "elsewhere", pid: int = 1) -> Lease:
    beat = stand.clock.now() - age
    lease = Lease(holder="other", pid=pid, host=host, started_at=beat, heartbeat_at=beat)
    assert stand.store.take_lease(lease, stale_before=stand.clock.now() - DAY) is None
    return lease


def test_a_second_daemon_is_refused_while_the_first_ones_heartbeat_is_fresh(stand: Stand) -> None:
    other_lease(stand, age=timedelta(hours=1))
    stand.drop_all()
    with pytest.raises(StopDaemonError, match="another daemon keeps this state: process 1 on elsewhere"):
        stand.daemon().run(once=True)
    assert not stand.store.files()
    lease = stand.store.lease()
    assert lease is not None
    assert lease.holder == "other"


def test_a_stale_lease_is_taken_over(stand: Stand) -> None:
    other_lease(stand, age=SETTINGS.lease_timeout + timedelta(seconds=1))
    stand.drop_all()
    stand.daemon().run(once=True)
    assert stand.store.cursor() == DAYS - 1
    assert stand.store.lease() is None


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(stand: Stand) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    other_lease(stand, age=timedelta(0), host=socket.gethostname(), pid=pid)
    stand.daemon().run(once=True)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not say what state a process is in")
def test_the_lease_of_a_killed_process_that_nobody_has_waited_for_is_taken_over_at_once(stand: Stand) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        other_lease(stand, age=timedelta(0), host=socket.gethostname(), pid=pid)
        stand.daemon().run(once=True)
    finally:
        os.waitpid(pid, 0)


def test_a_living_process_of_this_machine_is_not_taken_for_dead(stand: Stand) -> None:
    other_lease(stand, age=timedelta(0), host=socket.gethostname(), pid=os.getpid())
    with pytest.raises(StopDaemonError):
        stand.daemon().run(once=True)


def test_a_lost_lease_stops_the_loop(stand: Stand, logged: list[Any]) -> None:
    stand.drop_all()
    beating = DaemonSettings(tick=timedelta(seconds=30), heartbeat=timedelta(milliseconds=20))

    def take_over(look: int) -> None:
        if look == 1:
            later = stand.clock.now() + DAY
            lease = Lease(holder="other", pid=1, host="elsewhere", started_at=later, heartbeat_at=later)
            assert stand.store.take_lease(lease, stale_before=later) is None

    stand.source.on_look = take_over
    stand.daemon(beating).run()
    assert events(logged, "lease_lost", "daemon_stopped") == ["lease_lost", "daemon_stopped"]
    lease = stand.store.lease()
    assert lease is not None
    assert lease.holder == "other"  # not released by the one that lost it


def test_a_heartbeat_that_fails_for_a_moment_is_logged_once_and_goes_on(stand: Stand, logged: list[Any]) -> None:
    beats: list[int] = []
    done = threading.Event()

    class Store(Failing):
        def beat(self, holder: str, now: datetime) -> bool:
            beats.append(1)
            if len(beats) >= 5:
                done.set()
            if len(beats) in (2, 3):
                raise StoreError("the database is locked")
            return True

    stand.store = Store(stand.store)

    def stop(look: int) -> None:
        assert done.wait(20)
        os.kill(os.getpid(), signal.SIGTERM)

    stand.source.on_look = stop
    stand.daemon(replace(SETTINGS, heartbeat=timedelta(milliseconds=5))).run()
    assert events(logged, "heartbeat_failed", "lease_lost") == ["heartbeat_failed"]


def test_sigterm_finishes_the_pass_and_gives_the_lease_back(stand: Stand) -> None:
    stand.drop_all()
    run_passes(stand, 1)
    assert stand.store.lease() is None
    stand.daemon().run(once=True)
    assert stand.store.cursor() == DAYS - 1


def test_signal_handlers_are_put_back(stand: Stand) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stand.daemon().run(once=True)
    assert signal.getsignal(signal.SIGTERM) is before
