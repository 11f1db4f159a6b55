"""What `make bench` runs: every benchmark in turn, as tables for people and as JSON for machines."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, before NumPy and LightGBM are imported

from rich.console import Console

from benchmarks import measuring, memory, overhead, restart, start_time, throughput, trainings_queue

BENCHMARKS: dict[str, ModuleType] = {
    "throughput": throughput,
    "memory": memory,
    "restart": restart,
    "start_time": start_time,
    "overhead": overhead,
    "queue": trainings_queue,
}
ELSEWHERE = (
    "Measured elsewhere: what the tests find, python -m benchmarks.level_power, .detection and .incidents; "
    "the blend on streams that change, .regime_changes"
)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, epilog=ELSEWHERE)
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--quick", action="store_true", help="smaller fleets and fewer repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks; returns 0."""
    options = _options(argv)
    page = Console(width=None if sys.stdout.isatty() else 140)
    machine = measuring.machine()
    page.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim", highlight=False)
    document: dict[str, object] = {"machine": machine, "quick": options.quick}
    for name in options.only or BENCHMARKS:
        began = time.monotonic()
        results = BENCHMARKS[name].measure(quick=options.quick)
        document[name] = [asdict(result) for result in results]
        for table in BENCHMARKS[name].tables(results):
            page.print()
            page.print(table)
        page.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim", highlight=False)
    page.print(ELSEWHERE, style="dim", highlight=False)
    if options.json is not None:
        measuring.write_json(options.json, document)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
