"""Level of `LossMonitor` over hundreds of batches without a reset, and how far the middle of the fleet strays.

Run with ``python -m benchmarks.level_long [--streams 1000] [--batches 200]``. The anchored references are as old as
the run; what moves the cleaned numbers a little at every batch shows here, and nowhere else.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.level_power import ALPHAS
from benchmarks.level_processes import PROCESSES, Process, simulate
from mlma import LossMonitor
from mlma.core.blocks import Floats
from mlma.monitor import judging

NAMES = ("iid", "heavy tail t3", "0/1, p = .1")
SPAN = 20
"""Batches that are looked at together; every third such span is printed."""


def measured(process: Process, *, streams: int, batches: int) -> Floats:
    """Level, level of the anchored reference's own test, and stray in standard deviations; shape (3, spans)."""
    healthy, _ = simulate(process, batches=batches, streams=streams, seed=5)
    monitor = LossMonitor(streams, fleet="none", effect_floor=0.0, season=process.season)
    found = []
    for batch in healthy:
        verdicts = monitor.update(batch)
        logs = np.log(verdicts.mean_loss + monitor.references.floors.floor)
        shares = [np.mean(p <= ALPHAS[0]) for p in (verdicts.p_value, verdicts.p_anchored)]
        found.append([*shares, np.mean(verdicts.tested - logs) / np.std(logs)])
    spans = [slice(first, first + SPAN) for first in range(SPAN, batches - SPAN + 1, 3 * SPAN)]
    return np.stack([np.mean(found[span], axis=0) for span in spans], axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_long", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args(argv)
    print(
        f"Spans of {SPAN} batches, from batch {SPAN} on, every third. Levels at nominal {ALPHAS[0]:.0%}, in percent.\n"
    )
    print("| losses | brought back | level | anchored test | stray, sd |\n| --- | --- | --- | --- | --- |", flush=True)
    part = judging.RETURN
    for process in PROCESSES:
        for back in (0.0, part) if process.name in NAMES else ():
            judging.RETURN = back
            level, anchored, stray = measured(process, streams=options.streams, batches=options.batches)
            shares = (" ".join(f"{100.0 * share:.1f}" for share in row) for row in (level, anchored))
            cells = (process.name, f"{back:.1f}", *shares, " ".join(f"{way:+.2f}" for way in stray))
            print("| " + " | ".join(cells) + " |", flush=True)
    judging.RETURN = part
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
