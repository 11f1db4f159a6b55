"""One run of the detection benchmark: evidence of every detector on every sample, and the cells by way of knobs."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import detection_driftfdr as driftfdr
from benchmarks import detection_real, detection_river, detection_runs, detection_speed
from benchmarks.detection_contests import Cell, Healthy, Share, cells, healthy, share_won
from benchmarks.detection_detectors import BATCH_TESTS
from benchmarks.detection_matched import Evidence, Trial, own_knobs, peer_evidence, pooled, strictest, that_keep, trials
from benchmarks.detection_ours import OURS, VARIANTS, our_evidence
from benchmarks.detection_processes import Process
from benchmarks.detection_runs import RunLine, RunSizes
from benchmarks.detection_samples import Sample, Sizes, synthetic
from benchmarks.detection_speed import SpeedSizes

OWN = "a setting for each process"
ONE = "one setting for all processes"
POOL = "one setting, budget kept over all processes together"
KEPT = "the same, against peers that keep 1.5 budgets in the process"


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
    ours: str = OURS  # the variant that competes
    without: tuple[str, ...] = ()  # peers


def samples(plan: Plan) -> Iterator[Sample]:
    """Synthetic samples, then real ones; made one at a time, for each is large."""
    for process in plan.processes:
        yield synthetic(process, plan.sizes)
    for source in detection_real.present(plan.data):
        assert plan.data is not None
        yield detection_real.real(source, plan.data, plan.sizes)


def evidence_of(sample: Sample, without: Sequence[str] = ()) -> dict[str, Evidence]:
    """Evidence of every detector that is computed in this process, but for some."""
    found = our_evidence(sample) | our_evidence(sample, accumulate=True)
    found |= our_evidence(sample, test="e_process", turns=1)
    for name, build in {**BATCH_TESTS, **detection_river.RIVER_TESTS}.items():
        if name not in without and (name in BATCH_TESTS or detection_river.is_installed()):
            found[name] = peer_evidence(name, build, sample)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was measured, and what was left out.

    ``cells`` have knobs of their own for every process, ``cells_of_one_setting`` one for all synthetic ones that keeps
    the budget in each, ``cells_of_pool`` one that keeps it over all of them together, ``cells_of_kept`` leaves out
    who does not keep it in the process. They let one variant compete; ``shares`` lets each compete alone.
    """

    cells: tuple[Cell, ...]
    cells_of_one_setting: tuple[Cell, ...]
    cells_of_pool: tuple[Cell, ...]
    cells_of_kept: tuple[Cell, ...]
    shares: tuple[Share, ...]
    healthy: tuple[Healthy, ...]
    healthy_of_pool: tuple[Healthy, ...]
    runs: tuple[RunLine, ...]
    speed: detection_speed.Speed | None
    left_out: tuple[str, ...]


class Collected:
    """Evidence by sample, whose losses are forgotten, and whole runs."""

    def __init__(self) -> None:
        self.samples: list[tuple[Sample, dict[str, Evidence]]] = []
        self.runs: list[RunLine] = []
        self.left_out: list[str] = []

    def add(self, sample: Sample, found: dict[str, Evidence], job: driftfdr.Job | None) -> str:
        """Add a sample, and what driftfdr has to say about it; a line for those who wait."""
        if job is not None:
            try:
                found = found | job.evidence()
            except driftfdr.UnavailableError as error:
                self.left_out.append(f"driftfdr on {sample.process.name}: {error}")
        self.samples.append((sample, found))
        settled = cells(sample, OURS, VARIANTS, [t for name, e in found.items() for t in trials(name, e, sample)])
        won, contested = share_won(settled)
        return f"{sample.process.name}: {won} of {contested} cells won against every peer, {OWN}"

    def trials(self) -> list[tuple[Sample, list[Trial]]]:
        """Trials by sample, with knobs of the sample's own."""
        return [(s, [t for name, e in found.items() for t in trials(name, e, s)]) for s, found in self.samples]

    def trials_of_one_setting(
        self, synthetic_names: Sequence[str], *, is_pooled: bool = False
    ) -> list[tuple[Sample, list[Trial]]]:
        """Trials by synthetic sample, each detector with the one setting that keeps the budget in all of them.

        With ``is_pooled``, over all of them together. The weekly season is left out: most peers have no word for it,
        and it alone would decide their setting.
        """
        pool = [(s, found) for s, found in self.samples if s.process.name in synthetic_names and s.process.season == 1]
        if len(pool) < 2:
            return []
        everywhere = [name for name in pool[0][1] if all(name in found for _, found in pool)]
        sizes = pool[0][0].sizes
        knobs = {
            name: pooled([found[name] for _, found in pool], sizes)
            if is_pooled
            else strictest([own_knobs(found[name], sizes) for _, found in pool])
            for name in everywhere
        }
        return [(s, [t for name in everywhere for t in trials(name, found[name], s, knobs[name])]) for s, found in pool]


def measure(plan: Plan, page: Console) -> Report:
    """Run the plan; driftfdr works on a sample in a process of its own while this one works on the next."""
    collected = Collected()
    waiting: list[tuple[Sample, dict[str, Evidence], driftfdr.Job | None]] = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            for sample in samples(plan):
                began = time.monotonic()
                found = evidence_of(sample, plan.without)
                if sample.process.name in plan.run_processes:
                    knob = detection_runs.knobs(found, plan.sizes)
                    collected.runs += detection_runs.run_lines(
                        sample.process, knob, plan.runs, n=plan.sizes.n, seed=plan.sizes.seed
                    )
                while waiting:
                    page.print(collected.add(*waiting.pop()), style="dim", highlight=False)
                job = None if plan.peers is None else driftfdr.start(plan.peers, sample, Path(directory))
                waiting.append((sample.described(), found, job))
                page.print(f"{sample.process.name}: {time.monotonic() - began:.0f} s", style="dim", highlight=False)
            while waiting:
                page.print(collected.add(*waiting.pop()), style="dim", highlight=False)
        finally:
            for _, _, job in waiting:
                if job is not None:
                    job.process.kill()
    own = collected.trials()
    names = [process.name for process in plan.processes]
    one = collected.trials_of_one_setting(names)
    pool = collected.trials_of_one_setting(names, is_pooled=True)

    kept = [(sample, that_keep(group, VARIANTS)) for sample, group in pool]

    def settled(groups: Sequence[tuple[Sample, list[Trial]]], variant: str = plan.ours) -> tuple[Cell, ...]:
        return tuple(cell for sample, group in groups for cell in cells(sample, variant, VARIANTS, group))

    settings = ((OWN, own), (ONE, one), (POOL, pool), (KEPT, kept))
    shares = [Share.of(v, title, settled(groups, v)) for v in VARIANTS for title, groups in settings]
    return Report(
        cells=settled(own),
        cells_of_one_setting=settled(one),
        cells_of_pool=settled(pool),
        cells_of_kept=settled(kept),
        shares=tuple(share for share in shares if share.cells),
        healthy=tuple(rate for sample, group in own for rate in healthy(sample, group)),
        healthy_of_pool=tuple(rate for sample, group in pool for rate in healthy(sample, group)),
        runs=tuple(collected.runs),
        speed=None if plan.speed is None else detection_speed.measure(plan.speed, plan.peers),
        left_out=tuple(collected.left_out),
    )
