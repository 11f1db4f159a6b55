"""Level and power of the loss tests on healthy and degraded losses: the table of docs/manual/loss-tests.md.

Run with ``python -m benchmarks.level_power [--streams 4000] [--seed 0] [--json]``. Every cell has its own fleet
of streams and its own seed, so the table is the same whichever cells are computed.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy.signal import lfilter

from mlma.core.blocks import Bools, Floats
from mlma.core.loss_tests import (
    NO_PRIOR,
    LossTestResult,
    fit_prior,
    hac_mean,
    kolmogorov_smirnov,
    mann_whitney,
    moderated,
    welch,
)
from mlma.core.losses import log_floor, relative_log_loss
from mlma.core.reference import summarise

BATCH = 96  # targets
ALPHA = 0.05
SHIFT = 0.5  # standard deviations of the loss
SIZES = (2, 3, 5, 8)  # reference batches
PROMISE = (0.025, 0.06)  # what the realised level must stay within
WARM_UP = 200  # steps until an autoregression has forgotten its start
HORIZON = 24
CYCLE = 24
HALF_NORMAL_SD = math.sqrt(1.0 - 2.0 / math.pi)
T3_SD = math.sqrt(3.0 - 12.0 / math.pi**2)
SEASON_SD = math.sqrt(1.405 - 2.0 / math.pi)
RATE = 0.1

Draw = Callable[[np.random.Generator, int, int], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Losses of healthy streams, and the same streams when their mean loss has risen by a given amount.

    ``healthy`` and ``degraded`` make losses of shape (streams, targets); ``degraded`` is None where a constant
    is added to every healthy loss. ``sd`` is the standard deviation of a healthy loss.
    """

    name: str
    sd: float
    healthy: Draw
    degraded: Draw | None = None
    is_continuous: bool = True


def _autoregression(rho: float) -> Draw:
    def draw(rng: np.random.Generator, streams: int, targets: int) -> Floats:
        noise = rng.standard_normal((streams, targets + WARM_UP)) * math.sqrt(1.0 - rho**2)
        return np.abs(lfilter([1.0], [1.0, -rho], noise, axis=1)[:, WARM_UP:])

    return draw


def _overlap(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    total = np.cumsum(rng.standard_normal((streams, targets + HORIZON)), axis=1)
    return np.abs(total[:, HORIZON:] - total[:, :-HORIZON]) / math.sqrt(HORIZON)


def _season(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    scale = 1.0 + 0.9 * np.sin(2.0 * np.pi * np.arange(targets) / CYCLE)
    return np.abs(rng.standard_normal((streams, targets))) * scale


def _events(rate: float) -> Draw:
    return lambda rng, streams, targets: (rng.random((streams, targets)) < rate).astype(np.float64)


def _counts(rate: float) -> Draw:
    return lambda rng, streams, targets: rng.poisson(rate, (streams, targets)).astype(np.float64)


EVENTS_SD = math.sqrt(RATE * (1.0 - RATE))
COUNTS_SD = math.sqrt(RATE)
PROCESSES = (
    Process(name="iid", sd=HALF_NORMAL_SD, healthy=lambda rng, s, n: np.abs(rng.standard_normal((s, n)))),
    Process(name="AR(.5)", sd=HALF_NORMAL_SD, healthy=_autoregression(0.5)),
    Process(name="AR(.8)", sd=HALF_NORMAL_SD, healthy=_autoregression(0.8)),
    Process(name="overlap h = 24", sd=HALF_NORMAL_SD, healthy=_overlap),
    Process(name="heavy tail t3", sd=T3_SD, healthy=lambda rng, s, n: np.abs(rng.standard_t(3.0, (s, n)))),
    Process(name="scale season", sd=SEASON_SD, healthy=_season),
    Process(
        name="0/1, p = .1",
        sd=EVENTS_SD,
        healthy=_events(RATE),
        degraded=_events(RATE + SHIFT * EVENTS_SD),
        is_continuous=False,
    ),
    Process(
        name="counts, rate .1",
        sd=COUNTS_SD,
        healthy=_counts(RATE),
        degraded=_counts(RATE + SHIFT * COUNTS_SD),
        is_continuous=False,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One simulated fleet: reference losses (streams, m, BATCH), and recent ones (streams, BATCH)."""

    reference: Floats
    healthy: Floats
    degraded: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Share of alarms at nominal `ALPHA` on healthy recent batches (level) and on degraded ones (power)."""

    level: float
    power: float


def simulate(process: Process, *, m: int, streams: int, seed: int) -> Fleet:
    """Healthy reference batches followed by a healthy batch, and by a degraded one, for every stream."""
    rng = np.random.default_rng([seed, PROCESSES.index(process), m])
    losses = process.healthy(rng, streams, (m + 1) * BATCH).reshape(streams, m + 1, BATCH)
    healthy = losses[:, m]
    degraded = healthy + SHIFT * process.sd if process.degraded is None else process.degraded(rng, streams, BATCH)
    return Fleet(reference=losses[:, :m], healthy=healthy, degraded=degraded)


def mixed(*, m: int, streams: int, seed: int) -> Fleet:
    """One fleet with an equal share of streams of every process, in the order of `PROCESSES`."""
    parts = [simulate(p, m=m, streams=streams // len(PROCESSES), seed=seed + 1) for p in PROCESSES]
    return Fleet(
        reference=np.concatenate([part.reference for part in parts]),
        healthy=np.concatenate([part.healthy for part in parts]),
        degraded=np.concatenate([part.degraded for part in parts]),
    )


def batch_test(fleet: Fleet, recent: Floats, *, is_moderated: bool = True) -> Bools:
    """Alarms of the batch-means test at `ALPHA`, moderated across the fleet or alone. (streams,)."""
    streams = len(recent)
    floor = log_floor(fleet.reference.reshape(streams, -1), batch=BATCH)
    past = relative_log_loss(fleet.reference.mean(axis=2), None, floor)
    reference = summarise(past, np.ones(past.shape, dtype=np.bool_))
    prior = fit_prior(reference.variance, (reference.m - 1).astype(np.float64)) if is_moderated else NO_PRIOR
    return moderated(relative_log_loss(recent.mean(axis=1), None, floor), reference, prior).p_value <= ALPHA


def batch_cell(fleet: Fleet, *, is_moderated: bool = True) -> Cell:
    """Level and power of the batch-means test on one fleet."""
    return Cell(
        level=float(batch_test(fleet, fleet.healthy, is_moderated=is_moderated).mean()),
        power=float(batch_test(fleet, fleet.degraded, is_moderated=is_moderated).mean()),
    )


def single_loss_level(fleet: Fleet, test: Callable[[Floats, Floats], LossTestResult]) -> float:
    """Level of a test on single losses on one fleet."""
    result = test(fleet.healthy, fleet.reference.reshape(len(fleet.healthy), -1))
    return float((result.p_value <= ALPHA).mean())


SINGLE_LOSS_TESTS: dict[str, Callable[[Floats, Floats], LossTestResult]] = {
    "Welch": welch,
    "Mann-Whitney": mann_whitney,
    "KS": kolmogorov_smirnov,
    "HAC mean": hac_mean,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: cells by reference size, the plain prediction t at m = 2, other tests at m = 3."""

    losses: str
    moderated: dict[int, Cell]
    plain: Cell
    others: dict[str, float]


def rows(*, streams: int, seed: int) -> list[Row]:
    """Compute the table: a line for every process, and one for a fleet that mixes them."""
    table = []
    for process in (*PROCESSES, None):
        name = "mixed fleet" if process is None else process.name
        fleets = {
            m: mixed(m=m, streams=streams, seed=seed)
            if process is None
            else simulate(process, m=m, streams=streams, seed=seed)
            for m in SIZES
        }
        table.append(
            Row(
                losses=name,
                moderated={m: batch_cell(fleets[m]) for m in SIZES},
                plain=batch_cell(fleets[2], is_moderated=False),
                others={key: single_loss_level(fleets[3], test) for key, test in SINGLE_LOSS_TESTS.items()},
            )
        )
    return table


def within_mixed(*, streams: int, seed: int) -> dict[str, dict[int, Cell]]:
    """Level and power by process inside the mixed fleet: what moderation costs those who vary most."""
    each = streams // len(PROCESSES)
    shares: dict[str, dict[int, Cell]] = {p.name: {} for p in PROCESSES}
    for m in SIZES:
        fleet = mixed(m=m, streams=streams, seed=seed)
        level = batch_test(fleet, fleet.healthy).reshape(-1, each).mean(axis=1)
        power = batch_test(fleet, fleet.degraded).reshape(-1, each).mean(axis=1)
        for i, process in enumerate(PROCESSES):
            shares[process.name][m] = Cell(level=float(level[i]), power=float(power[i]))
    return shares


def misses(table: list[Row]) -> list[str]:
    """Cells of the moderated test whose level lies outside `PROMISE`."""
    return [
        f"{row.losses}, m = {m}: {cell.level:.3f}"
        for row in table
        for m, cell in row.moderated.items()
        if not PROMISE[0] <= cell.level <= PROMISE[1]
    ]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(cell: Cell) -> str:
    return f"{cell.level:.3f}/{cell.power:.2f}"


def render(table: list[Row], shares: dict[str, dict[int, Cell]], *, streams: int, seed: int) -> str:
    """Tables in Markdown, as they stand in the manual."""
    sizes = [f"m = {m}" for m in SIZES]
    head = ["losses", *sizes, "plain t, m = 2", *(f"{name}, m = 3" for name in SINGLE_LOSS_TESTS)]
    lines = [
        (
            f"Level/power at nominal {ALPHA:.0%}, shift +{SHIFT} sd, batches of {BATCH}, {streams} streams a cell, "
            f"seed {seed}; the last {len(SINGLE_LOSS_TESTS)} columns are levels."
        ),
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    for row in table:
        cells = [_text(cell) for cell in (*row.moderated.values(), row.plain)]
        lines.append(_line([row.losses, *cells, *(f"{level:.3f}" for level in row.others.values())]))
    lines += ["", "Inside the mixed fleet:", "", _line(["losses", *sizes]), _line(["---"] * 5)]
    lines += [_line([name, *(_text(cell) for cell in cells.values())]) for name, cells in shares.items()]
    found = misses(table)
    verdict = "; ".join(found) if found else "none"
    lines += ["", f"Cells of the first table outside [{PROMISE[0]:.1%}, {PROMISE[1]:.1%}]: {verdict}."]
    return "\n".join(lines)


def _document(table: list[Row], shares: dict[str, dict[int, Cell]], *, streams: int, seed: int) -> str:
    document = {
        "alpha": ALPHA,
        "shift_sd": SHIFT,
        "batch": BATCH,
        "streams": streams,
        "seed": seed,
        "rows": [asdict(row) for row in table],
        "within_mixed_fleet": {name: {m: asdict(cell) for m, cell in cells.items()} for name, cells in shares.items()},
        "misses": misses(table),
    }
    return json.dumps(document, indent=2)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_power", description=__doc__)
    parser.add_argument("--streams", type=int, default=4000, help="streams a cell, a multiple of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    if options.streams < len(PROCESSES) or options.streams % len(PROCESSES):
        parser.error(f"--streams {options.streams}: expected a positive multiple of {len(PROCESSES)}")
    size = {"streams": options.streams, "seed": options.seed}
    show = _document if options.json else render
    print(show(rows(**size), within_mixed(**size), **size))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
