"""A small real state: four streams, six daily batches, every kind of decision, made through the store and history."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mlma import bootstrap
from mlma.adapters.artifacts import FileArtifacts
from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.cli.main import app
from mlma.core.blocks import LossBlock
from mlma.core.commit import Commit
from mlma.core.decisions import (
    Action,
    CertificateStatus,
    EffectKind,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)
from mlma.core.records import (
    AuditRow,
    Certificate,
    Decision,
    Effect,
    Finding,
    Incident,
    Override,
    Rejected,
    Request,
    Serving,
    SourceFile,
    Stream,
    Version,
)
from mlma.runtime import doctor

ANCHOR = datetime(2001, 3, 1, tzinfo=UTC)
NOW = ANCHOR + timedelta(days=6, hours=1)
NAMES = ["ATL", "IAH", "New York", "IAD"]
META = {
    "anchor": ANCHOR.isoformat(), "frequency_s": "3600", "horizon": "24", "batch": "24", "train_window": "48",
    "n_shards": "2", "alpha": "0.05", "policy": "mlma", "fallback_every": "13",
}  # fmt: skip


class FixedClock:
    """Stands at NOW."""

    def now(self) -> datetime:
        return NOW


def ended(batch: int) -> datetime:
    return ANCHOR + timedelta(days=batch + 1)


def judged(stream_id: int, batch: int, **changes: object) -> Decision:
    values: dict[str, object] = {
        "stream_id": stream_id, "batch": batch, "phase": Phase.BATCH, "action": Action.KEEP, "proposed": Action.KEEP,
        "reason": Reason.WITHIN_REFERENCE, "decided_at": ended(batch), "n": 24, "mean_loss": 2.0 + 0.1 * batch,
        "naive_loss": 4.0, "p_value": 0.5, "effect": 0.01, "adaptive_mean": 2.0, "anchored_mean": 1.9,
        "n_reference": batch, "version_id": f"{stream_id}-0-0" if batch else "naive",
    }  # fmt: skip
    return Decision(**(values | changes))  # type: ignore[arg-type]


def alarm(stream_id: int, batch: int, **changes: object) -> Decision:
    values: dict[str, object] = {
        "action": Action.RETRAIN, "proposed": Action.RETRAIN, "reason": Reason.ALARM_BOTH, "p_value": 0.0012,
        "effect": 0.34, "mean_loss": 5.0,
    }  # fmt: skip
    return judged(stream_id, batch, **(values | changes))


def compared(stream_id: int, batch: int, action: Action, reason: Reason, **changes: object) -> Decision:
    values: dict[str, object] = {
        "phase": Phase.PROMOTION, "action": action, "proposed": action, "reason": reason, "n": 24,
        "version_id": f"{stream_id}-{batch}-0", "p_value": math.nan,
        "note": "candidate 2 against champion 3 on 24 held-out targets (-33.3%)",
    }  # fmt: skip
    return judged(stream_id, batch, **(values | changes))


def version(stream_id: int, batch: int, role: Role, sha256: str) -> Version:
    return Version(
        id=f"{stream_id}-{batch}-0", stream_id=stream_id, batch=batch, role=role, family="lightgbm", sha256=sha256,
        size_bytes=1234, n_rows=48, fit_cpu_s=0.25, trained_at=ended(batch),
    )  # fmt: skip


def decisions() -> list[Decision]:
    """IAH alarms after batch 4, its candidate wins; IAD is frozen and alarms after batch 5."""
    made = [judged(i, batch) for i in range(4) for batch in range(6)]
    special = [
        *(judged(i, 0, action=Action.TRAIN, proposed=Action.TRAIN, reason=Reason.NO_VERSION) for i in range(4)),
        *(compared(i, 0, Action.PROMOTE, Reason.FIRST_VERSION, n=0, note="") for i in range(4)),
        alarm(1, 4),
        compared(1, 4, Action.PROMOTE, Reason.BEAT_CHAMPION),
        alarm(0, 3),
        compared(0, 3, Action.REJECT, Reason.NOT_BETTER),
        alarm(3, 5, action=Action.KEEP, held_by=Hold.FROZEN),
        judged(2, 5, reason=Reason.INCIDENT),
    ]
    keyed = {(d.stream_id, d.batch, d.phase): d for d in [*made, *special]}
    return list(keyed.values())


def certificate(**changes: object) -> Certificate:
    values: dict[str, object] = {
        "batch": 5, "test": "moderated", "status": CertificateStatus.CERTIFIED, "promised": 0.05, "level": 0.0463,
        "level_low": 0.0412, "level_high": 0.0521, "n_healthy": 8412, "rise": 0.25, "power": 0.71, "caught": 0.97,
        "delay": 1.0, "n_degraded": 901,
    }  # fmt: skip
    return Certificate(**(values | changes))  # type: ignore[arg-type]


def incident(first: int, last: int, n_members: int = 3, **labels: str) -> Incident:
    words = ",".join(f"{key}={value}" for key, value in labels.items())
    return Incident(
        id=f"{first}-{words}", labels=labels, first_batch=first, last_batch=last, n_members=n_members, rise=0.63,
        p_value=0.00012,
    )  # fmt: skip


INCIDENTS = [incident(4, 5, site="us"), incident(2, 3, 1, site="tx")]
"""One that goes on, of ATL, New York and IAD; one that is over, of IAH."""


def fill(path: Path) -> None:
    artifacts, history = FileArtifacts(path / "artifacts"), ParquetHistory(path / "history")
    sha256 = artifacts.save(b"a model")
    roles = {(1, 0): Role.FORMER, (1, 4): Role.CHAMPION, (0, 3): Role.REJECTED}
    trained = [(0, 0), (1, 0), (2, 0), (3, 0), (1, 4), (0, 3)]
    versions = [version(i, b, roles.get((i, b), Role.CHAMPION), sha256) for i, b in trained]
    serving = [(i, 0, Reason.FIRST_VERSION) for i in range(4)] + [(1, 4, Reason.BEAT_CHAMPION)]
    with SqlStore(f"sqlite:///{path / 'mlma.db'}", create=True) as store:
        store.set_meta(META)
        store.record(
            Commit(
                cursor=5,
                streams=[
                    Stream(id=i, name=name, labels={"site": "tx" if name == "IAH" else "us"}, first_slot=0)
                    for i, name in enumerate(NAMES)
                ],
                file=SourceFile(
                    seq=1, path="day1.csv", fingerprint="f", n_rows=600, n_admitted=588, n_rejected=12, n_late=2,
                    taken_at=NOW,
                ),
                rejected=[
                    Rejected(
                        seq=1, path="day1.csv", stream="ATL", reason=RejectReason.NOT_A_NUMBER, count=12, row=7,
                        field="y", value="n/a", expected="a number",
                    )
                ],
                decisions=decisions(),
                versions=versions,
                servings=[
                    Serving(
                        stream_id=i, origin=24 * (b + 1), batch=b, version_id=f"{i}-{b}-0", reason=reason, at=ended(b)
                    )
                    for i, b, reason in serving
                ],
                effects=[
                    Effect(
                        id="train-0-5-0", kind=EffectKind.TRAIN, stream_id=0, batch=5, reason=Reason.REQUESTED,
                        ordered_at=NOW, deadline_at=NOW + timedelta(hours=1),
                    )
                ],
                findings=[
                    Finding(
                        kind="stream_silent", subject="New York", message="nothing since 2001-03-05", first_at=NOW,
                        last_at=NOW,
                    )
                ],
                certificate=certificate(),
                incidents=INCIDENTS,
            )
        )  # fmt: skip
        store.add_override(
            Override(
                kind=OverrideKind.FREEZE, selection="IAD", author="ada", comment="audit", created_at=NOW,
                starts_at=NOW - timedelta(days=2), ends_at=None,
            ),
            AuditRow(at=NOW, author="ada", operation="freeze", subject="IAD", before="null", after="{}"),
        )  # fmt: skip
        store.add_request(
            Request(kind=RequestKind.RETRAIN, selection="ATL", author="bob", comment="new runway", created_at=NOW),
            AuditRow(at=NOW, author="bob", operation="retrain", subject="ATL", before="null", after="{}"),
        )
    rng = np.random.default_rng(1)
    for shard, ids in enumerate(([0, 2], [1, 3])):
        for batch in range(6):
            y = 20 + 5 * np.sin(np.arange(24) / 24 * 2 * np.pi) + rng.normal(size=(2, 24))
            history.append_losses(
                shard,
                LossBlock(
                    batch=batch, stream_ids=np.array(ids), y=y, forecast=y + rng.normal(size=y.shape), naive=y + 3
                ),
            )


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "state"
    path.mkdir()
    fill(path)
    return path


@pytest.fixture
def state(filled: Path, tmp_path: Path) -> Path:
    """A copy of the small state that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "state"))


@pytest.fixture
def mlma(state: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command on the small state, at a fixed time and on a wide page."""
    monkeypatch.setattr(bootstrap, "clock", FixedClock)
    monkeypatch.setattr(doctor, "LIBRARIES", {"numpy": "numpy"})  # importing Ray and its like takes seconds
    monkeypatch.setattr(tempfile, "tempdir", str(state.parent))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("MLMA_STATE", str(state))
    monkeypatch.delenv("MLMA_DEBUG", raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


@pytest.fixture
def recorded(state: Path) -> Callable[[Commit], None]:
    """Records more in the small state."""

    def record(commit: Commit) -> None:
        with SqlStore(f"sqlite:///{state / 'mlma.db'}") as store:
            store.record(commit)

    return record


@pytest.fixture
def as_json(mlma: Callable[..., Result]) -> Callable[..., object]:
    """Runs a command with --json and reads what it printed."""

    def call(*arguments: str) -> object:
        result = mlma(*arguments, "--json")
        assert result.exit_code in {0, 1}, result.output
        return json.loads(result.stdout)

    return call
