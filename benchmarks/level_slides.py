"""A slow slide: what the anchored reference catches and the adaptive one alone misses.

Run with ``python -m benchmarks.level_slides [--streams 400] [--json]``. Half a year of daily batches; after the first
week, the loss rises by a given percentage a week.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.level_processes import BATCH, WEEK
from mlma import LossMonitor
from mlma.core.blocks import Floats

WEEKS = 26
RATES = (0.0, 0.005, 0.01, 0.02)
ALPHA = 0.001  # a rate a test, so that half a year of daily tests of a healthy stream mostly stays silent

REFERENCES = {"both references": True, "adaptive alone": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """What became of the streams of one fleet: share that alarmed, and weeks to the first alarm (median of those)."""

    weekly: float
    references: str
    caught: float
    median_weeks: float


def measure(*, streams: int) -> list[Slide]:
    """Every rate with and without the anchored reference, on the same losses."""
    return [
        _slide(weekly, name, anchored, streams=streams) for weekly in RATES for name, anchored in REFERENCES.items()
    ]


def losses(*, weekly: float, streams: int) -> Floats:
    """Half-normal losses whose level rises after a week, shape (batches, streams, BATCH)."""
    days = np.arange(WEEKS * WEEK + WEEK)
    rise = (1.0 + weekly) ** (np.maximum(days - WEEK + 1.0, 0.0) / WEEK)
    return np.abs(np.random.default_rng(1).standard_normal((len(days), streams, BATCH))) * rise[:, None, None]


def _slide(weekly: float, name: str, anchored: bool, *, streams: int) -> Slide:  # noqa: FBT001 - a column of the table
    monitor = LossMonitor(streams, alpha=ALPHA, fleet="none", common=False, anchored=anchored)
    first = np.full(streams, np.inf)
    for day, batch in enumerate(losses(weekly=weekly, streams=streams)):
        alarm = monitor.update(batch).alarm
        if day >= WEEK:
            first = np.where(alarm & np.isinf(first), (day - WEEK + 1) / WEEK, first)
    caught = np.isfinite(first)
    delay = float(np.median(first[caught])) if caught.any() else float("nan")
    return Slide(weekly=weekly, references=name, caught=float(caught.mean()), median_weeks=delay)


def render(slides: Sequence[Slide]) -> str:
    """Table in Markdown."""
    head = ["rise a week", *(f"{name}: {what}" for name in REFERENCES for what in ("caught", "median weeks"))]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---:"] * len(head)) + " |"]
    for weekly in RATES:
        row = [slide for slide in slides if slide.weekly == weekly]
        cells = [text for slide in row for text in (f"{slide.caught:.1%}", f"{slide.median_weeks:.0f}")]
        lines.append("| " + " | ".join([f"{weekly:.1%}", *cells]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_slides", description=__doc__)
    parser.add_argument("--streams", type=int, default=400, help="streams a fleet")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    slides = measure(streams=options.streams)
    print(json.dumps([asdict(slide) for slide in slides], indent=2) if options.json else render(slides))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
