"""A day with a running daemon: a freeze, its lift, a rollback, and the digest of all three in a real mailbox."""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from typer.testing import CliRunner

from mlma.adapters.store import SqlStore
from mlma.cli.main import app
from mlma.core.decisions import Action, Hold, Phase
from mlma.core.records import Decision
from mlma.runtime.ports import ControlStore
from tests.integration.daemon_process import CONFIG, Daemon, await_work, drop, prepare

PATIENCE_S = 60.0


class Inbox:
    """What the mail server received."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.mails.append(envelope.content.decode("utf-8", "replace"))  # type: ignore[attr-defined]
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[Inbox, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield inbox, port
    controller.stop()


def mlma(path: Path, *arguments: str) -> str:
    """Run one command of the CLI in a prepared directory, beside the daemon; it must succeed."""
    with contextlib.chdir(path):
        done = CliRunner(env={"COLUMNS": "120"}).invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, f"not seen within {PATIENCE_S} s"
        time.sleep(0.1)


def wait_for(store: ControlStore, stream_id: int, wanted: Callable[[Decision], bool]) -> Decision:
    """The first decision about a stream that is as wanted."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for decision in store.decisions(stream_id=stream_id):
            if wanted(decision):
                return decision
        time.sleep(0.1)
    raise AssertionError(f"not seen within {PATIENCE_S} s: {store.decisions(stream_id=stream_id, limit=5)}")


@pytest.mark.timeout(300)
def test_a_freeze_its_lift_and_a_rollback_are_obeyed_and_reported(tmp_path: Path, mail: tuple[Inbox, int]) -> None:
    inbox, port = mail
    path = prepare(tmp_path / "day")
    target = f"mailto://127.0.0.1:{port}?from=mlma@example.org&to=ada@example.org&mode=insecure"
    slow = "life: {evergreen: [median, lad, slot_ridge]}\n"  # quick members answer the break before anybody alarms
    (path / "mlma.yaml").write_text(CONFIG + slow + f'digest: {{targets: [{{name: ada, url: "{target}"}}]}}\n')
    for day in range(0, 36, 2):
        drop(path, day)
    daemon = Daemon(path)
    try:
        await_work(path, 1)
        store = SqlStore(f"sqlite:///{path / 'state' / 'mlma.db'}")
        wait_until(lambda: (store.cursor() or 0) >= 34)
        options = ("--state", "state", "--author", "ada")

        champion = store.servings(stream_id=0)[-1].version_id
        mlma(path, "freeze", "s0", "--for", "3d", "--reason", "stocktaking", *options)
        for day in range(36, 44, 2):
            drop(path, day)
        held = wait_for(store, 0, lambda d: d.held_by is Hold.FROZEN)
        assert held.proposed is Action.RETRAIN
        assert held.action is Action.KEEP
        wait_until(lambda: (store.cursor() or 0) >= 43)
        assert store.servings(stream_id=0)[-1].version_id == champion
        assert "frozen" in mlma(path, "explain", "s0", "--state", "state")

        mlma(path, "lift", "1", "--reason", "done", *options)
        wait_for(store, 0, lambda d: d.phase is Phase.RELEASE and d.action is Action.RETRAIN)
        wait_for(store, 0, lambda d: d.phase is Phase.PROMOTION and d.batch >= held.batch)
        served = [serving.version_id for serving in store.servings(stream_id=0)]

        mlma(path, "rollback", "s0", "--reason", "prefer the old one", *options)
        back = wait_for(store, 0, lambda d: d.action is Action.ROLL_BACK)
        assert back.held_by is Hold.NOTHING
        assert back.version_id == served[-2]
        assert store.servings(stream_id=0)[-1].version_id == back.version_id

        page = mlma(path, "digest", "show", "--state", "state")
        mlma(path, "digest", "send", "--state", "state", "--config", "mlma.yaml")
        wait_until(lambda: bool(inbox.mails))
        assert len(inbox.mails) == 1
        for text in (page, inbox.mails[0]):
            assert "s0" in text
            assert "rolled back" in text.lower() or "rollback" in text.lower()
        assert [row.operation for row in store.audit()] == ["rollback", "lift", "freeze"]
        store.close()
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=30) == 0
