"""What `make bench-detection` runs: who finds drifts sooner, and misses fewer, at the same budget of false alarms.

Prints the cells won and every cell lost, realised false alarms, whole runs with resets, and speed.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, before NumPy is imported

from rich.console import Console

from benchmarks import detection_driftfdr as driftfdr
from benchmarks import detection_real, detection_river, detection_runs, detection_speed, detection_tables, measuring
from benchmarks.detection_contests import Share
from benchmarks.detection_drifts import DRIFTS
from benchmarks.detection_measure import KEPT, ONE, OWN, POOL, Plan, Report, measure
from benchmarks.detection_ours import OURS, VARIANTS
from benchmarks.detection_processes import PROCESSES
from benchmarks.detection_runs import RunSizes
from benchmarks.detection_samples import Sizes
from benchmarks.detection_speed import SpeedSizes

SMALL = Sizes(streams=300, fleets=2, turns=1, every=10, calibration_fleets=2, budgets=(0.01,))
QUICK_PROCESSES = ("iid", "overlap h = 24", "counts, rate .1")
QUICK_DRIFTS = ("step +25 %", "step +100 %", "shock x2, 1 batch", "none")
QUICK = Sizes(
    fleets=2,
    calibration_fleets=1,
    long_horizon=12,
    budgets=(0.01,),
    drifts=tuple(drift for drift in DRIFTS if drift.name in QUICK_DRIFTS),
    slow={"KS": (200, 40), "KSWIN": (40, 20), "ADWIN": (100, 40), "driftfdr": (40, 20)},
)


def show(report: Report, plan: Plan, page: Console) -> None:
    """Print the tables."""
    synthetic_names = [process.name for process in plan.processes]
    real_names = [name for name in dict.fromkeys(c.process for c in report.cells) if name not in synthetic_names]
    for budget in plan.sizes.budgets:
        for names, title in ((synthetic_names, "synthetic"), (real_names, "real")):
            if any(cell.process in names and cell.budget == budget for cell in report.cells):
                page.print(detection_tables.drift_table(report.cells, budget, names, f"{title} losses, {OWN}"))
        page.print(detection_tables.healthy_table(report.healthy, budget))
    for found, title in ((report.cells_of_one_setting, ONE), (report.cells_of_pool, POOL)):
        for budget in plan.sizes.budgets if found else ():
            names = list(dict.fromkeys(cell.process for cell in found))
            page.print(detection_tables.drift_table(found, budget, names, title))
    for budget in plan.sizes.budgets if report.healthy_of_pool else ():
        page.print(detection_tables.healthy_table(report.healthy_of_pool, budget, title=POOL))
    judged = (report.cells, report.cells_of_one_setting, report.cells_of_pool, report.cells_of_kept)
    for found, title in zip(judged, (OWN, ONE, POOL, KEPT), strict=True):
        if any(cell.contests for cell in found):
            page.print(detection_tables.peers_table(found, title))
            page.print(detection_tables.lost_table(found, plan.ours, title))
    for share in report.shares:
        page.print(_said(share, "Cells won against every peer"))
    if report.runs:
        page.print(detection_tables.runs_table(report.runs))
    if report.speed is not None:
        page.print(detection_speed.table(report.speed))
    for line in report.left_out:
        page.print(f"Left out: {line}", highlight=False)


def show_all(reports: Sequence[Report], page: Console) -> None:
    """Print what was won over all seeds."""
    totals: dict[tuple[str, str], Share] = {}
    for share in (share for report in reports for share in report.shares):
        known = totals.get((share.variant, share.setting))
        totals[share.variant, share.setting] = share if known is None else known.and_of(share)
    for total in totals.values():
        page.print(_said(total, f"Cells won against every peer over {len(reports)} seeds"))


def _said(share: Share, what: str) -> str:
    return (
        f"{what}, {share.variant}, {share.setting}: {share.won} of {share.cells}, {share.won / share.cells:.1%}; "
        f"contests {share.contests_won} of {share.contests}"
    )


def _plan(options: argparse.Namespace, left_out: list[str]) -> Plan:
    sizes = replace(QUICK if options.quick else SMALL if options.small else Sizes(), seed=options.seeds[0])
    chosen = options.process or (QUICK_PROCESSES if options.quick else [process.name for process in PROCESSES])
    peers = None
    if options.no_driftfdr:
        left_out.append("driftfdr, as asked for")
    else:
        try:
            peers = driftfdr.interpreter(options.peers_dir)
        except driftfdr.UnavailableError as error:
            left_out.append(f"driftfdr cannot be installed: {error}")
    if not detection_river.is_installed():
        left_out.append("River's ADWIN and KSWIN: River is not installed")
    data = options.data
    if not detection_real.present(data):
        left_out.append("real losses: no --data directory with the files of docs/manual/detection.md")
    return Plan(
        sizes=sizes,
        processes=tuple(process for process in PROCESSES if process.name in chosen),
        data=data,
        peers=peers,
        runs=RunSizes(streams=40) if options.quick else RunSizes(),
        run_processes=() if options.small else detection_runs.NAMES,
        speed=None if options.small else SpeedSizes(streams=20_000, repeats=3) if options.quick else SpeedSizes(),
        ours=options.ours,
        without=tuple(options.without),
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    names = [process.name for process in PROCESSES]
    parser.add_argument("--quick", action="store_true", help="three processes, fewer drifts and streams: a minute")
    parser.add_argument("--small", action="store_true", help="fewer streams, one budget, neither whole runs nor speed")
    parser.add_argument("--ours", choices=VARIANTS, default=OURS, metavar="VARIANT", help=f"who competes: {VARIANTS}")
    parser.add_argument(
        "--without", action="append", default=[], metavar="PEER", help="leave a peer out, such as KSWIN"
    )
    parser.add_argument("--process", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of real streams' files")
    parser.add_argument(
        "--peers-dir", type=Path, default=driftfdr.DEFAULT_DIRECTORY, metavar="DIR", help="environments of peers"
    )
    parser.add_argument("--no-driftfdr", action="store_true", help="leave driftfdr out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument(
        "--seed", dest="seeds", type=int, action="append", metavar="N",
        help="of everything that is drawn, 0 by default; may be repeated: real losses, whole runs and speed come with "
        "the first one alone",
    )  # fmt: skip
    options = parser.parse_args(argv)
    options.seeds = options.seeds or [0]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0."""
    options = _options(argv)
    page = Console(width=None if sys.stdout.isatty() else 200)
    left_out: list[str] = []
    plan = _plan(options, left_out)
    began = time.monotonic()
    reports = []
    for seed in options.seeds:
        if reports:
            plan = replace(plan, sizes=replace(plan.sizes, seed=seed), data=None, run_processes=(), speed=None)
        report = measure(plan, page)
        reports.append(replace(report, left_out=(*left_out, *report.left_out)))
        page.print(f"Seed {seed}", highlight=False)
        show(reports[-1], plan, page)
    if len(reports) > 1:
        show_all(reports, page)
    page.print(f"{time.monotonic() - began:.0f} s", style="dim", highlight=False)
    if options.json is not None:
        each = [{"seed": seed, **asdict(report)} for seed, report in zip(options.seeds, reports, strict=True)]
        measuring.write_json(options.json, {"machine": measuring.machine(), **each[0], "further": each[1:]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
