"""Storms that pass and faults in real data, with dated events: who serves afterwards, and what learned from them.

Run with ``python -m benchmarks.storms --data FOLDER [--only NAME] [--json FILE]``; the folder holds the sets as
Parquet and `known_events.csv`. The replays are in `benchmarks.storms_scenarios`, the measures in
`benchmarks.storms_events`.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, before NumPy and LightGBM are imported

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import measuring
from benchmarks.storms_events import AfterEvent, Run, UnderFaults, after_event, hindsight, relative_loss, under_faults
from benchmarks.storms_scenarios import SCENARIOS, Frame, Scenario, flagged_times, listed_events, rows_of
from benchmarks.storms_versions import AgainstUnseen, Retrained, against_unseen, retrained
from mlma import bootstrap
from mlma.runtime.replay_data import ReplayRequest
from mlma.runtime.replay_report import ReplayReport

POLICIES = ("never", "always", "test", "test+pool", "mlma-champion", "mlma-blend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one scenario showed."""

    scenario: str
    streams: int
    batches: int
    seconds: float
    relative_loss: Mapping[str, float]  # to always, by policy
    trainings: Mapping[str, int]
    events: Sequence[AfterEvent]
    faults: Sequence[UnderFaults]
    unseen: Sequence[AgainstUnseen]
    retrained: Sequence[Retrained]


def replayed(rows: Frame, scenario: Scenario, *, seed: int) -> ReplayReport:
    """Replay rows under all policies."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        rows[["stream", "ts", "y"]].to_parquet(path, index=False)
        asked = ReplayRequest(
            data=path,
            frequency=scenario.frequency,
            horizon=scenario.horizon,
            batch=scenario.batch,
            train_window=scenario.window,
            policies=POLICIES,
            aggregate="none",
            executor="inline",
            seed=seed,
        )
        return bootstrap.run_replay(asked)


def measured(scenario: Scenario, folder: Path, *, seed: int) -> Found:
    """Replay a scenario and look at its events and faults."""
    began = time.monotonic()
    rows = rows_of(scenario, folder, seed=seed)
    scenario = replace(scenario, streams=tuple(sorted(rows["stream"].unique())))
    events = listed_events(folder / "known_events.csv", scenario)
    report = replayed(rows, scenario, seed=seed)
    runs = [Run(tally) for tally in report.tallies]
    always = next(run for run in runs if run.tally.name == "always")
    best, flagged = hindsight(runs), flagged_times(rows)
    return Found(
        scenario=scenario.name,
        streams=report.streams,
        batches=report.batches,
        seconds=round(time.monotonic() - began, 1),
        relative_loss={run.tally.name: relative_loss(run, always) for run in runs},
        trainings={run.tally.name: len(run.trainings()) for run in runs},
        events=[after_event(run, event, best) for event in events for run in runs],
        faults=[under_faults(run, flagged, always) for run in runs] if scenario.flag else [],
        unseen=[against_unseen(run, event, runs) for event in events for run in runs],
        retrained=[made for event in events if (made := retrained(always, event)) is not None],
    )


def _event_table(found: Sequence[Found]) -> Table:
    table = Table(
        title="Events that pass: trainings in them and in the two batches after, and a fortnight later",
        caption="weight: of the versions of these trainings, mean over the streams struck; serve: streams where it is "
        "above one half; excess: days a stream and fortnight with served loss above 1.1 times that of the best version "
        "in the pools of all policies (-: nothing was scored, the event is part of the first train window).",
    )
    numbers = ("struck", "trained", "weight", "serve", "excess days after", "before", "loss / always")
    _add_columns(table, ("scenario", "event", "policy"), numbers)
    for scenario in found:
        for one in scenario.events:
            table.add_row(
                scenario.scenario, one.event, one.policy, str(one.streams), str(one.trainings),
                f"{one.storm_weight:.2f}", str(one.storm_serves), _days(one.excess_days_after),
                _days(one.excess_days_before), f"{scenario.relative_loss[one.policy]:.3f}",
            )  # fmt: skip
        table.add_section()
    return table


def _add_columns(table: Table, words: Sequence[str], numbers: Sequence[str]) -> None:
    for heading in words:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")


def _fault_table(found: Sequence[Found]) -> Table:
    table = Table(
        title="Flagged values: trainings ordered because of them, and what trainings learned from",
        caption="at: ordered after a batch in which more than 5 % of the stream's slots are flagged; next: after the "
        "batch that follows; learned: flagged values that were a target of some training (of how many, once each).",
    )
    numbers = (
        "flagged", "refused", "batches > 5 %", "trainings", "at", "next", "learned", "once each", "loss / always"
    )  # fmt: skip
    _add_columns(table, ("scenario", "policy"), numbers)
    for scenario in found:
        for one in scenario.faults:
            table.add_row(
                scenario.scenario, one.policy, str(one.flagged_rows), str(one.flagged_rows - one.admitted_rows),
                str(one.flagged_batches), str(one.trainings), _reasons(one.trainings_at), _reasons(one.trainings_next),
                str(one.learned_rows), str(one.learned_times), f"{one.relative_loss:.3f}",
            )  # fmt: skip
        table.add_section()
    return table


def _unseen_table(found: Sequence[Found]) -> Table:
    table = Table(
        title="Versions that learned from an event and serve a fortnight after it",
        caption="loss in the fortnight, of the version and of the best one in the pools of all policies that was "
        "trained before the event; ratio: mean over the streams.",
    )
    _add_columns(table, ("scenario", "event", "policy"), ("streams", "version / unseen", "ratio"))
    for scenario in found:
        for one in scenario.unseen:
            if one.streams:
                pairs = ", ".join(f"{a:.4g} / {b:.4g}" for a, b in zip(one.loss, one.unseen, strict=True))
                ratio = np.mean(np.asarray(one.loss) / np.asarray(one.unseen))
                table.add_row(
                    scenario.scenario, one.event, one.policy, str(len(one.streams)), pairs, f"{ratio:.3f}"
                )  # fmt: skip
    return table


def _retrained_table(found: Sequence[Found]) -> Table:
    table = Table(
        title="A training at the end of an event, with and without its rows",
        caption="loss in the fortnight after, relative to the training with all rows, mean over the streams struck "
        "(streams where it is smaller); before: of a training just before the event.",
    )
    _add_columns(table, ("scenario", "event"), ("struck", "without its rows", "before"))
    for scenario in found:
        for one in scenario.retrained:
            with_rows = np.asarray(one.with_rows)
            cells = []
            for losses in (one.without_rows, one.before):
                ratio = np.asarray(losses) / with_rows
                cells.append(f"{ratio.mean():.3f} ({np.count_nonzero(ratio < 1.0)})")
            table.add_row(scenario.scenario, one.event, str(len(one.streams)), *cells)
    return table


def _days(days: float) -> str:
    return f"{days:.1f}" if math.isfinite(days) else "-"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items())) or "0"


def tables(found: Sequence[Found]) -> list[Table]:
    """Events, the versions that learned from them, and faults."""
    with_events = [one for one in found if one.events]
    return [
        _event_table(with_events), _unseen_table(with_events), _retrained_table(with_events),
        _fault_table([one for one in found if one.faults]),
    ]  # fmt: skip


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storms", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the sets and known_events.csv")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--only", action="append", metavar="NAME", help="scenarios whose names begin so")
    parser.add_argument("--workers", type=int, default=2, help="scenarios at a time")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen scenarios; returns 0."""
    options = _options(argv)
    chosen = [one for one in SCENARIOS if not options.only or one.name.startswith(tuple(options.only))]
    page = Console(width=None if sys.stdout.isatty() else 180)
    began = time.monotonic()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        under_way = [workers.submit(measured, one, options.data, seed=options.seed) for one in chosen]
        found = [one.result() for one in under_way]
    for table in tables(found):
        if table.row_count:
            page.print()
            page.print(table)
    for one in found:
        page.print(
            f"{one.scenario}: {one.streams} streams, {one.batches} batches, {one.seconds:.0f} s, trainings "
            + ", ".join(f"{policy} {n}" for policy, n in one.trainings.items()),
            style="dim",
            highlight=False,
        )
    page.print(f"storms: {time.monotonic() - began:.0f} s", style="dim", highlight=False)
    if options.json is not None:
        document = {"machine": measuring.machine(), "seed": options.seed, "scenarios": [asdict(one) for one in found]}
        measuring.write_json(options.json, document)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
