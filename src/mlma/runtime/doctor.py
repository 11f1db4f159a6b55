"""What can be wrong with an installation, a state or a machine, each with what to do. Reads only."""

import hashlib
import importlib
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

from mlma.core import selection
from mlma.core.decisions import Role
from mlma.core.errors import StoreError
from mlma.core.records import GroupTraining, Stream, Version
from mlma.core.schedule import Schedule
from mlma.core.settings import LifeSettings
from mlma.runtime.answers import listed
from mlma.runtime.explain import n_shards
from mlma.runtime.group_view import member_of, serving_of
from mlma.runtime.groups import groups_of
from mlma.runtime.overview import daemon_view
from mlma.runtime.ports import ControlStore, History

PYTHON = (3, 11)
FREE_BYTES = 1 << 30
"""A gibibyte: room for a day of history and artifacts of a large fleet, and for SQLite's write-ahead log."""

LIBRARIES = {
    "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "pyarrow": "pyarrow", "scikit-learn": "sklearn",
    "lightgbm": "lightgbm", "ray": "ray", "sqlmodel": "sqlmodel", "alembic": "alembic", "skops": "skops",
    "apprise": "apprise", "apscheduler": "apscheduler", "matplotlib": "matplotlib", "pydantic": "pydantic",
}  # fmt: skip
"""Distribution by the module that it brings."""

TEMPORARY = "mlma-ray-"
"""Start of the names of a local Ray's temporary folders; the process id follows (see the Ray executor)."""

ALL = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer; ``remedy`` says what to do when it is not ok."""

    name: str
    ok: bool
    message: str
    remedy: str = ""


def check_installation(load: Callable[[str], object] = importlib.import_module) -> list[Check]:
    """Python, and every library that mlma needs, by really importing it.

    Parameters
    ----------
    load
        Imports a module by name.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    found = [
        Check(
            name="python",
            ok=sys.version_info[:2] >= PYTHON,
            message=version,
            remedy=f"install Python {PYTHON[0]}.{PYTHON[1]} or later and make the virtual environment anew",
        )
    ]
    return found + [_library(distribution, module, load) for distribution, module in LIBRARIES.items()]


def _library(distribution: str, module: str, load: Callable[[str], object]) -> Check:
    name = f"library {distribution}"
    try:
        version = metadata.version(distribution)
        load(module)
    except metadata.PackageNotFoundError:
        return Check(name=name, ok=False, message="is not installed", remedy=f"pip install {distribution}")
    except (ImportError, OSError) as error:  # a shared library that is missing is an OSError
        remedy = "reinstall it: pip install --force-reinstall " + distribution
        if "libgomp" in str(error):
            remedy = "install OpenMP's runtime: apt-get install libgomp1, dnf install libgomp or brew install libomp"
        return Check(name=name, ok=False, message=f"cannot be imported: {error}", remedy=remedy)
    return Check(name=name, ok=True, message=version)


def missing_state(path: Path, message: str) -> Check:
    """A state that cannot be opened."""
    return Check(
        name="state",
        ok=False,
        message=message,
        remedy=f"name the state that you mean with --state, or make one at {path} with `mlma run` or `mlma demo`",
    )


def check_state(
    path: Path, store: ControlStore, history: History, schedule: Schedule | None, now: datetime
) -> list[Check]:
    """A state that could be opened: daemon, artifacts, history, findings.

    Parameters
    ----------
    path
        State directory.
    now
        Aware; ages the daemon's heartbeat.
    """
    n_streams = len(store.streams())
    return [
        Check(name="state", ok=True, message=f"{path}: {n_streams:,} streams, of this program's revision"),
        _lease(store, now),
        _artifacts(path / "artifacts", store.versions(), store.group_trainings()),
        _history(history, n_shards(store.meta()) if schedule else 0),
        _left_over(path),
        _findings(store),
    ]


def check_selections(streams: Sequence[Stream], life: LifeSettings) -> list[Check]:
    """Weights and groups of the settings that mean no stream of a state."""
    wanted = [("life.weights", rule.select) for rule in life.weights]
    wanted += [("life.groups", group.select) for group in groups_of(life)]
    remedy = "correct the selection; a label needs its column in source.label_columns before its stream is born"
    return [
        Check(name=key, ok=False, message=f"{text!r} matches none of {len(streams):,} streams", remedy=remedy)
        for key, text in wanted
        if streams and not selection.parse(text).select(streams)
    ]


def _lease(store: ControlStore, now: datetime) -> Check:
    daemon = daemon_view(store.lease(), now)
    lease = daemon.lease
    if lease is None:
        return Check(name="daemon", ok=True, message="none runs, none died")
    who = f"process {lease.pid} on {lease.host}"
    if daemon.is_up:
        return Check(name="daemon", ok=True, message=f"{who}, heartbeat {daemon.age_s:.0f} s ago")
    here = " (this machine)" if lease.host == socket.gethostname() else ""
    return Check(
        name="daemon",
        ok=False,
        message=f"{who}{here} gave its last heartbeat {daemon.age_s or 0:,.0f} s ago: it was killed",
        remedy="start `mlma run` again; it takes over and goes on where the old one stopped",
    )


def _artifacts(root: Path, versions: Sequence[Version], of_groups: Sequence[GroupTraining]) -> Check:
    champions = [version for version in versions if version.role in {Role.CHAMPION, Role.CHALLENGER, Role.FORMER}]
    bad: list[Version | GroupTraining] = [v for v in champions if v.sha256 and not _is_intact(root, v.sha256)]
    serving = [serving_of(of_groups, member) for member in sorted({member_of(one) for one in of_groups})]
    bad += [one for one in serving if one is not None and not _is_intact(root, one.sha256)]
    if not bad:
        return Check(
            name="artifacts",
            ok=True,
            message=f"{len(champions) + len(serving):,} versions that serve or may, all intact",
        )
    return Check(
        name="artifacts",
        ok=False,
        message=f"missing or changed: versions {listed([one.id for one in bad])}",
        remedy="restore artifacts/ from a backup, or order new versions: mlma retrain STREAM --reason 'artifact lost'; "
        "seasonal naive serves until then",
    )


def _is_intact(root: Path, sha256: str) -> bool:
    """Whether the content has the hash of its name; files are compressed, see the artifact adapter."""
    for path in root.glob(f"{sha256[:2]}/**/{sha256}*"):
        try:
            content = zlib.decompress(path.read_bytes())
        except (OSError, zlib.error):
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            return True
    return False


def _history(history: History, shards: int) -> Check:
    parts = 0
    try:
        for shard in range(shards):
            parts += len(history.observations(shard, after_seq=-1, up_to_seq=ALL, first_slot=-ALL))
            parts += len(history.arrived(shard, after_seq=-1, up_to_seq=ALL, first_slot=-ALL))
            parts += len(history.forecasts(shard, first_slot=-ALL, last_slot=ALL))
            parts += len(history.losses(shard, first_batch=-ALL, last_batch=ALL))
    except StoreError as error:
        return Check(
            name="history",
            ok=False,
            message=str(error),
            remedy="stop the daemon and restore this file from a backup of the state",
        )
    return Check(name="history", ok=True, message=f"{parts:,} parts readable")


def _left_over(path: Path) -> Check:
    found = [str(p.relative_to(path)) for pattern in ("*.tmp", "*.partial") for p in sorted(path.rglob(pattern))]
    if not found:
        return Check(name="unfinished files", ok=True, message="none")
    return Check(
        name="unfinished files",
        ok=False,
        message=f"a killed process left {listed(found)}",
        remedy="delete them while no daemon runs; they are never read",
    )


def _findings(store: ControlStore) -> Check:
    found = store.findings(open_only=True)
    serious = [f for f in found if f.kind in {"source_failed", "delivery_failed", "model_failed", "training_failed"}]
    if not serious:
        return Check(name="findings", ok=True, message=f"{len(found):,} open, none of them a failure")
    worst = serious[0]
    return Check(
        name="findings",
        ok=False,
        message=f"{len(serious):,} failures open, the newest: {worst.kind} of {worst.subject}: {worst.message}",
        remedy="mend its cause: the file (same name), the target's URL or the model; the finding then closes by itself",
    )


def check_machine(path: Path, temporary: Path | None = None) -> list[Check]:
    """Disk space for a state, and what killed daemons left in the temporary directory.

    Parameters
    ----------
    path
        State directory, which need not exist.
    temporary
        The machine's temporary directory unless given.
    """
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    folder = Path(tempfile.gettempdir()) if temporary is None else temporary
    left = [str(p) for p in sorted(folder.glob(f"{TEMPORARY}*")) if _is_abandoned(p.name.removeprefix(TEMPORARY))]
    return [
        Check(
            name="disk",
            ok=free >= FREE_BYTES,
            message=f"{free / (1 << 30):,.1f} GiB free at {existing}",
            remedy="free some space or move the state (cp -r of a stopped daemon's state is enough)",
        ),
        Check(
            name="temporary folders",
            ok=not left,
            message=listed(left) if left else "none left over",
            remedy=f"rm -r {' '.join(left)}; the next `mlma run` or `mlma demo` does so, too",
        ),
    ]


def _is_abandoned(name: str) -> bool:
    """Whether the process whose id starts the name has gone."""
    pid = name.split("-", maxsplit=1)[0]
    return pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists()
