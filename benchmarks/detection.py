"""What `make bench-detection` runs: who finds drifts sooner, and misses fewer, at the same budget of false alarms.

Prints the cells won and every cell lost, realised false alarms, whole runs with resets, and speed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, before NumPy is imported

from rich.console import Console

from benchmarks import detection_driftfdr as driftfdr
from benchmarks import detection_real, detection_river, detection_runs, detection_speed, detection_tables, measuring
from benchmarks.detection_contests import Cell, Healthy, cells, healthy
from benchmarks.detection_detectors import BATCH_TESTS
from benchmarks.detection_drifts import DRIFTS
from benchmarks.detection_matched import Trial, peer_evidence, setting_trials, trials
from benchmarks.detection_ours import OURS, VARIANTS, our_evidence
from benchmarks.detection_processes import PROCESSES, Process
from benchmarks.detection_runs import RunLine, RunSizes
from benchmarks.detection_samples import Sample, Sizes, synthetic
from benchmarks.detection_speed import SpeedSizes

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one call of the benchmark does."""

    sizes: Sizes
    processes: tuple[Process, ...]
    data: Path | None
    peers: Path | None  # Python of driftfdr's environment
    runs: RunSizes
    run_processes: tuple[str, ...]
    speed: SpeedSizes | None


def samples(plan: Plan) -> Iterator[Sample]:
    """Synthetic samples, then real ones; made one at a time, for each is large."""
    for process in plan.processes:
        yield synthetic(process, plan.sizes)
    for source in detection_real.present(plan.data):
        assert plan.data is not None
        yield detection_real.real(source, plan.data, plan.sizes)


def trials_of(sample: Sample) -> list[Trial]:
    """Trials of every detector that is computed in this process."""
    found: list[Trial] = []
    for name, evidence in our_evidence(sample).items():
        found += trials(name, evidence, sample)
    for name, evidence in our_evidence(sample, test="e_process", turns=1).items():
        found += trials(name, evidence, sample)
    for name, build in BATCH_TESTS.items():
        found += trials(name, peer_evidence(name, build, sample), sample)
    if detection_river.is_installed():
        kswin = peer_evidence("KSWIN", lambda streams, _size, _least: detection_river.Kswin(streams), sample)
        found += trials("KSWIN", kswin, sample)
        found += setting_trials(
            "ADWIN", lambda s, delta: detection_river.Adwin(s, delta=delta), detection_river.DELTAS, sample
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was measured, and what was left out."""

    cells: tuple[Cell, ...]
    healthy: tuple[Healthy, ...]
    runs: tuple[RunLine, ...]
    speed: detection_speed.Speed | None
    left_out: tuple[str, ...]


class Collected:
    """What is gathered sample by sample."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.healthy: list[Healthy] = []
        self.runs: list[RunLine] = []
        self.left_out: list[str] = []

    def add(self, sample: Sample, group: list[Trial], job: driftfdr.Job | None) -> None:
        """Add what driftfdr found, and settle the sample's cells."""
        if job is not None:
            try:
                group = group + [t for name, e in job.evidence().items() for t in trials(name, e, sample)]
            except driftfdr.UnavailableError as error:
                self.left_out.append(f"driftfdr on {sample.process.name}: {error}")
        self.cells += cells(sample, OURS, VARIANTS, group)
        self.healthy += healthy(sample, group)


def measure(plan: Plan, page: Console) -> Report:
    """Run the plan; driftfdr works on a sample in a process of its own while this one works on the next."""
    collected = Collected()
    waiting: list[tuple[Sample, list[Trial], driftfdr.Job | None]] = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            for sample in samples(plan):
                began = time.monotonic()
                group = trials_of(sample)
                if sample.process.name in plan.run_processes:
                    knob = detection_runs.knobs(group, plan.sizes.budgets[0])
                    collected.runs += detection_runs.run_lines(
                        sample.process, knob, plan.runs, n=plan.sizes.n, seed=plan.sizes.seed
                    )
                while waiting:
                    collected.add(*waiting.pop())
                job = None if plan.peers is None else driftfdr.start(plan.peers, sample, Path(directory))
                waiting.append((sample, group, job))
                page.print(f"{sample.process.name}: {time.monotonic() - began:.0f} s", style="dim", highlight=False)
            while waiting:
                collected.add(*waiting.pop())
        finally:
            for _, _, job in waiting:
                if job is not None:
                    job.process.kill()
    return Report(
        cells=tuple(collected.cells),
        healthy=tuple(collected.healthy),
        runs=tuple(collected.runs),
        speed=None if plan.speed is None else detection_speed.measure(plan.speed, plan.peers),
        left_out=tuple(collected.left_out),
    )


def show(report: Report, plan: Plan, page: Console) -> None:
    """Print the tables."""
    won, contested = detection_tables.share_won(report.cells)
    synthetic_names = [process.name for process in plan.processes]
    real_names = [name for name in dict.fromkeys(c.process for c in report.cells) if name not in synthetic_names]
    for budget in plan.sizes.budgets:
        for names in (synthetic_names, real_names):
            if any(cell.process in names and cell.budget == budget for cell in report.cells):
                page.print(detection_tables.drift_table(report.cells, budget, names))
        page.print(detection_tables.healthy_table(report.healthy, budget))
    page.print(detection_tables.peers_table(report.cells))
    page.print(detection_tables.lost_table(report.cells, OURS))
    share = f"{won / contested:.1%}" if contested else "none contested"
    page.print(f"Cells won against every peer: {won} of {contested} ({share})", highlight=False)
    if report.runs:
        page.print(detection_tables.runs_table(report.runs))
    if report.speed is not None:
        page.print(detection_speed.table(report.speed))
    for line in report.left_out:
        page.print(f"Left out: {line}", highlight=False)


def _plan(options: argparse.Namespace, left_out: list[str]) -> Plan:
    sizes = replace(QUICK if options.quick else Sizes(), seed=options.seed)
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
        run_processes=detection_runs.NAMES,
        speed=SpeedSizes(streams=20_000, repeats=3) if options.quick else SpeedSizes(),
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    names = [process.name for process in PROCESSES]
    parser.add_argument("--quick", action="store_true", help="three processes, fewer drifts and streams: a minute")
    parser.add_argument("--process", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory with the files of real streams")
    parser.add_argument(
        "--peers-dir", type=Path, default=driftfdr.DEFAULT_DIRECTORY, metavar="DIR", help="environments of peers"
    )
    parser.add_argument("--no-driftfdr", action="store_true", help="leave driftfdr out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0."""
    options = _options(argv)
    page = Console(width=None if sys.stdout.isatty() else 200)
    left_out: list[str] = []
    plan = _plan(options, left_out)
    began = time.monotonic()
    report = measure(plan, page)
    report = replace(report, left_out=(*left_out, *report.left_out))
    show(report, plan, page)
    page.print(f"{time.monotonic() - began:.0f} s", style="dim", highlight=False)
    if options.json is not None:
        measuring.write_json(options.json, {"machine": measuring.machine(), "seed": options.seed, **asdict(report)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
