"""Paired repeats, medians and ratios: how every figure of `make bench` is made.

Machines are noisy and differ, so seconds are shown but nothing is claimed about them. A claim is a ratio of two
things that were timed in turn, round by round; of the ratios of all rounds the median stands.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Work = Callable[[], object]
Seconds = Callable[[], float]

PACKAGES = ("numpy", "scipy", "river", "lightgbm", "pandas", "pyarrow")
"""Whose versions a report names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, smallest and largest of a few measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Spread of at least one value."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))


def timed(work: Work, clock: Seconds = time.process_time) -> float:
    """Seconds that a work takes: CPU seconds of this process, unless another clock is given."""
    began = clock()
    work()
    return clock() - began


def in_turn(works: Mapping[str, Work], *, repeats: int, clock: Seconds) -> dict[str, list[float]]:
    """Seconds of each work in each round, after one round that is not counted.

    Every second round runs in reverse order, so that what one work leaves behind (caches, heat) favours none.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        timed(work, clock)
    for repeat in range(repeats):
        for name in list(works) if repeat % 2 else list(works)[::-1]:
            seconds[name].append(timed(works[name], clock))
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread of the round-by-round ratios of two paired series."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if sys.platform == "linux" and cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def significant(value: float, digits: int = 3) -> str:
    """Number as text with so many significant digits, and a comma at every third place.

    Examples
    --------
    >>> significant(1234567.0), significant(0.012345), significant(12.3)
    ('1,230,000', '0.0123', '12.3')
    """
    if value == 0.0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    text = f"{rounded:,.10f}".rstrip("0").rstrip(".")
    return text or "0"


def ratio_text(spread: Spread) -> str:
    """Ratio with its range, as in ``x12.3 [11.0..13.1]``."""
    return f"x{significant(spread.median)} [{significant(spread.low)}..{significant(spread.high)}]"


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
