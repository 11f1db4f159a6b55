"""State directories, settings, clock and notifier: what every command may need, nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlma.core.schedule import Schedule
from mlma.runtime.ports import Clock, ControlStore, History, Notifier

if TYPE_CHECKING:
    from mlma.config import Settings

DATABASE = "mlma.db"


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)


def clock() -> Clock:
    """The real clock."""
    return SystemClock()


@dataclass(frozen=True)
class State:
    """One state directory, opened."""

    path: Path
    store: ControlStore

    @cached_property
    def history(self) -> "History":
        """Observations, forecasts and losses."""
        from mlma.adapters.history import ParquetHistory

        return ParquetHistory(self.path / "history")

    @property
    def schedule(self) -> Schedule | None:
        """Event time of the fleet, None before the first observation fixed it."""
        return schedule_of(self.store.meta())

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def open_state(path: Path, *, create: bool = False) -> State:
    """Open a state directory.

    Raises
    ------
    StoreError
        There is none, or it is of another revision.
    """
    from mlma.adapters.store import SqlStore

    if create:
        path.mkdir(parents=True, exist_ok=True)
    return State(path=path, store=SqlStore(f"sqlite:///{path / DATABASE}", create=create))


def schedule_of(meta: Mapping[str, str]) -> Schedule | None:
    """Schedule as the meta table has it, None when it holds none."""
    if "anchor" not in meta:
        return None
    return Schedule(
        anchor=datetime.fromisoformat(meta["anchor"]),
        frequency=timedelta(seconds=float(meta["frequency_s"])),
        horizon=int(meta["horizon"]),
        batch=int(meta["batch"]),
        train_window=int(meta["train_window"]),
    )


def load_settings(config: Path | None, overrides: Mapping[str, object] | None = None) -> "Settings":
    """Settings from a file, the environment and overrides. Raises ConfigError."""
    from mlma.config import load

    return load(config, overrides)


def notifier(settings: "Settings") -> Notifier:
    """The way to the engineer."""
    from mlma.adapters.notifier import AppriseNotifier

    return AppriseNotifier(settings.digest.urls())
