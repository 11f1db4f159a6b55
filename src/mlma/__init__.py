"""Keeps thousands of forecasting models healthy: tests losses, retrains, proves, reports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlma.monitor.monitor import LossMonitor

__version__ = "0.1.0"
__all__ = ["LossMonitor", "__version__"]


def __getattr__(name: str) -> Any:  # a module attribute may be anything
    """`LossMonitor`, imported when it is asked for: the CLI must start without NumPy."""
    if name == "LossMonitor":
        from mlma.monitor.monitor import LossMonitor  # noqa: PLC0415

        return LossMonitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
