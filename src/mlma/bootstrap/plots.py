"""Joining pictures: matplotlib is imported when something is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlma.bootstrap.state import State
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from mlma.runtime.explain import Explanation


def plot_stream(state: State, explanation: "Explanation", path: Path) -> None:  # noqa: ARG001  one signature for plots
    """Draw what explain says about one stream."""
    from mlma.adapters import plots

    plots.stream_png(explanation, path)


def plot_fleet(state: State, path: Path) -> None:
    """Draw the fleet by batch. Raises OperationError when nothing was decided yet."""
    from mlma.adapters import plots
    from mlma.runtime.explain import fleet_view

    schedule = state.schedule
    if schedule is None:
        raise OperationError(f"{state.path} holds no observation yet: nothing to draw")
    plots.fleet_png(fleet_view(state.store, state.history, schedule), path)
