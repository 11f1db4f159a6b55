"""Joining the daemon: source, notifier, clock, logs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from mlma.bootstrap.engine import make_engine
from mlma.bootstrap.state import clock, notifier, open_state
from mlma.core.settings import EXTERNAL

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.core.rows import Rows
    from mlma.runtime.engine import Engine


def configure_logging(settings: "Settings") -> None:
    """Structured log lines on standard error, for people on a terminal and as JSON elsewhere."""
    import logging
    import sys

    import structlog

    wanted = settings.daemon.log_format
    is_console = wanted == "console" or (wanted == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.daemon.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def run_daemon(settings: "Settings", *, once: bool = False) -> int:
    """Keep a state until told to stop; with ``once`` until everything that is there was worked through."""
    from mlma.adapters.sources.directory import DirectorySource
    from mlma.adapters.sources.files import ColumnMapping
    from mlma.runtime.daemon import Daemon, DaemonSettings
    from mlma.runtime.replay_data import first_time

    configure_logging(settings)
    source = settings.source
    source.path.mkdir(parents=True, exist_ok=True)
    state = open_state(settings.state.path, create=True)
    used_clock = clock()

    def engine_for(waiting: "Sequence[Rows]") -> "Engine | None":
        # What was forecast elsewhere says nothing about when the observations begin.
        observed = [rows for rows in waiting if not rows.are_forecasts]
        times = [found for rows in observed if (found := first_time(rows, settings.schedule.train_window))]
        return make_engine(state, settings, min(times, default=None), used_clock)

    daemon = Daemon(
        store=state.store,
        source=DirectorySource(
            root=source.path,
            patterns=source.patterns,
            mapping=ColumnMapping(
                stream=source.stream_column,
                time=source.time_column,
                value=source.value_column,
                labels=source.label_columns,
                forecast=source.forecast_column if settings.model.name == EXTERNAL else "",
                version=source.version_column,
                timezone=source.timezone,
            ),
            settle_s=settings.daemon.settle_s,
        ),
        clock=used_clock,
        notifier=notifier(settings),
        settings=DaemonSettings(
            tick=timedelta(seconds=settings.daemon.tick_s),
            heartbeat=timedelta(seconds=settings.daemon.heartbeat_s),
            digest_cron=settings.digest.cron,
            digest_timezone=settings.digest.timezone,
        ),
        make_engine=engine_for,
    )
    try:
        daemon.run(once=once)
    finally:
        state.close()
    return 0
