"""What `benchmarks.detection` prints: cells won and lost, delay and misses, healthy rates, whole runs."""

import math
from collections.abc import Iterable, Sequence

from rich.table import Table

from benchmarks.detection_contests import Cell, Contest, Healthy
from benchmarks.detection_runs import RunLine


def text(value: float, digits: int = 2) -> str:
    """Number as text; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def peers_table(cells: Sequence[Cell], title: str) -> Table:
    """Ours against each peer over all cells: won, strictly better, and in which respect it was worse."""
    table = Table(title=f"Cells against each peer, {title}")
    for column in ("peer", "cells", "won", "of these better", "longer delay", "more misses"):
        table.add_column(column, justify="left" if column == "peer" else "right")
    by_peer: dict[str, list[Contest]] = {}
    for cell in cells:
        for contest in cell.contests:
            by_peer.setdefault(contest.peer, []).append(contest)
    for peer, contests in by_peer.items():
        table.add_row(
            peer,
            str(len(contests)),
            str(sum(c.is_won for c in contests)),
            str(sum(c.is_strictly_won for c in contests)),
            str(sum(c.is_later for c in contests)),
            str(sum(c.missed.is_worse for c in contests)),
        )
    return table


def lost_table(cells: Sequence[Cell], ours: str, title: str) -> Table:
    """Every lost cell and every peer that was better in it, with both figures of both."""
    table = Table(title=f"Lost cells, {title} (delay in batches / share missed; of a shock: share late / missed)")
    for column in ("process", "drift", "budget", ours, "peer", "its figures", "difference +- se"):
        table.add_column(column, justify="left" if column in ("process", "drift", "peer") else "right")
    for cell in cells:
        for c in (c for c in cell.contests if not c.is_won):
            table.add_row(
                cell.process,
                cell.drift,
                f"{cell.budget:g}",
                _figures(cell, ours),
                c.peer,
                _figures(cell, c.peer),
                f"{c.first.mean:+.2f} +- {c.first.error:.2f} / {c.missed.mean:+.3f} +- {c.missed.error:.3f}",
            )
    return table


def _figures(cell: Cell, detector: str) -> str:
    line = cell.line(detector)
    first = text(line.late) if math.isnan(line.delay) else text(line.delay)
    return f"{first} / {text(line.missed, 3)}"


def drift_table(cells: Sequence[Cell], budget: float, processes: Iterable[str], title: str) -> Table:
    """Delay and misses of every detector by drift, averaged over processes."""
    names = list(processes)
    chosen = [cell for cell in cells if cell.budget == budget and cell.process in names]
    drifts = list(dict.fromkeys(cell.drift for cell in chosen if cell.drift != "none"))
    detectors = list(dict.fromkeys(line.detector for cell in chosen for line in cell.lines))
    table = Table(title=f"Delay / share missed, {budget:g} false alarms a stream-batch, {title}, mean of {len(names)}")

    table.add_column("detector")
    for drift in drifts:
        table.add_column(drift, justify="right")
    for detector in detectors:
        row = []
        for drift in drifts:
            at = [c for c in chosen if c.drift == drift and any(x.detector == detector for x in c.lines)]
            lines = [cell.line(detector) for cell in at if cell.line(detector).streams]
            firsts = [x.late if math.isnan(x.delay) else x.delay for x in lines]
            missed = [x.missed for x in lines]
            row.append(f"{_mean(firsts)} / {_mean(missed)}")
        table.add_row(detector, *row)
    return table


def healthy_table(rates: Sequence[Healthy], budget: float, title: str = "") -> Table:
    """Realised false alarms per 1,000 stream-batches on fleets that no knob has seen."""
    chosen = [rate for rate in rates if rate.budget == budget]
    what = f"No drift: false alarms per 1,000 stream-batches at a budget of {1000 * budget:g}"
    table = Table(title=f"{what}, {title}" if title else what)
    table.add_column("detector")
    processes = list(dict.fromkeys(rate.process for rate in chosen))
    for process in processes:
        table.add_column(process, justify="right")
    for detector in dict.fromkeys(rate.detector for rate in chosen):
        found = {rate.process: rate.rate for rate in chosen if rate.detector == detector}
        table.add_row(detector, *(f"{1000 * found[p]:.1f}" if p in found else "-" for p in processes))
    return table


def runs_table(lines: Sequence[RunLine]) -> Table:
    """Whole runs with resets."""
    table = Table(title="Whole runs: a step of +50 % a stream, an alarm mends the stream and resets the detector")
    for column in ("process", "detector", "MTFA", "MTD", "MDR", "MTR", "false per 1,000", "precision"):
        table.add_column(column, justify="left" if column in ("process", "detector") else "right")
    for line in lines:
        s = line.score
        figures = (text(s.mtfa, 1), text(s.mtd), text(s.mdr, 3), text(s.mtr, 1), text(s.false_per_1000, 1))
        table.add_row(line.process, line.detector, *figures, text(s.precision, 3))
    return table


def _mean(values: Sequence[float]) -> str:
    return text(sum(values) / len(values)) if values else "-"
