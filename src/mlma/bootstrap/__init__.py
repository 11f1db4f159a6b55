"""The only place where real things are joined. Everything heavy is imported inside the function that needs it."""

from mlma.bootstrap.calibrate import run_calibration
from mlma.bootstrap.daemon import configure_logging, run_daemon
from mlma.bootstrap.engine import make_engine
from mlma.bootstrap.plots import plot_fleet, plot_stream
from mlma.bootstrap.replay import DemoReport, demo_data, run_demo, run_replay
from mlma.bootstrap.replay_state import WhatIfRequest, run_what_if
from mlma.bootstrap.state import State, SystemClock, clock, load_settings, notifier, open_state, schedule_of

__all__ = [
    "DemoReport",
    "State",
    "SystemClock",
    "WhatIfRequest",
    "clock",
    "configure_logging",
    "demo_data",
    "load_settings",
    "make_engine",
    "notifier",
    "open_state",
    "plot_fleet",
    "plot_stream",
    "run_calibration",
    "run_daemon",
    "run_demo",
    "run_replay",
    "run_what_if",
    "schedule_of",
]
