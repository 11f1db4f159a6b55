"""Level of `LossMonitor` long after a reset, one batch at a time and with evidence added up (``accumulate``).

Run with ``python -m benchmarks.level_sums [--streams 2000] [--seeds 2]``. The table of `benchmarks.level_power` ends
at eight batches; sums of scores are longest, and share most of the reference's error, after twenty.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.level_power import ALPHAS
from benchmarks.level_processes import PROCESSES, Process, simulate
from mlma import LossMonitor
from mlma.core.blocks import Floats

SPANS = ((8, 12), (12, 20), (20, 30), (30, 40))
"""Batches since the start, the first and the one after the last."""


def levels(process: Process, *, streams: int, seeds: int, accumulate: bool) -> Floats:
    """Share of p-values at or below each of `ALPHAS`, shape (alphas, spans)."""
    found = []
    for seed in range(seeds):
        healthy, _ = simulate(process, batches=SPANS[-1][1], streams=streams, seed=100 + seed)
        monitor = LossMonitor(
            streams, fleet="none", effect_floor=0.0, season=process.season, seed=seed, accumulate=accumulate
        )
        p_values = np.stack([monitor.update(batch).p_value for batch in healthy])
        found.append([[np.mean(p_values[a:b] <= alpha) for a, b in SPANS] for alpha in ALPHAS])
    return np.asarray(np.mean(found, axis=0))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_sums", description=__doc__)
    parser.add_argument("--streams", type=int, default=2000, help="streams a fleet")
    parser.add_argument("--seeds", type=int, default=2, help="fleets a cell")
    parser.add_argument("--only", action="append", metavar="PROCESS", choices=[p.name for p in PROCESSES])
    options = parser.parse_args(argv)
    print("Level in percent, one batch / added up:\n")
    head = [f"{alpha:.0%}, {a}-{b - 1}" for alpha in ALPHAS for a, b in SPANS]
    print("| losses | " + " | ".join(head) + " |\n| --- |" + " ---: |" * len(head), flush=True)
    for process in PROCESSES:
        if process.has_own_level and process.name in (options.only or [p.name for p in PROCESSES]):
            one, several = (
                100.0 * levels(process, streams=options.streams, seeds=options.seeds, accumulate=accumulate).ravel()
                for accumulate in (False, True)
            )
            print(
                f"| {process.name} | "
                + " | ".join(f"{a:.1f} / {b:.1f}" for a, b in zip(one, several, strict=True))
                + " |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
