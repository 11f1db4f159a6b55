"""Level and power of the loss tests on healthy and degraded losses: the tables of docs/manual/loss-tests.md.

Run with ``python -m benchmarks.level_power [--streams 4000] [--seeds 5] [--json]``. Everything goes through
`mlma.LossMonitor`, batch by batch; every process and seed has a fleet of its own.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.level_processes import BATCH, PROCESSES, SHIFT, Process, simulate
from mlma import LossMonitor
from mlma.core.blocks import Floats
from mlma.core.loss_tests import hac_mean, kolmogorov_smirnov, mann_whitney, welch

SIZES = (2, 3, 5, 8)  # batches since the start
ALPHAS = (0.05, 0.01)
PROMISE = {0.05: (0.025, 0.06), 0.01: (0.004, 0.015)}  # what the realised level must stay within
MINORITY = 10  # one stream in so many is degraded
OTHERS = {"Welch": welch, "Mann-Whitney": mann_whitney, "KS": kolmogorov_smirnov, "HAC mean": hac_mean}
OTHERS_AT = 3  # reference batches

KINDS: dict[str, dict[str, bool]] = {
    "monitor": {},  # as it comes
    "whole fleet": {"common": False},  # nothing is taken out, so that a fault of the whole fleet is seen by stream
    "alone": {"common": False, "anchored": False},  # the test and the adaptive reference, nothing else
    "accumulating": {"accumulate": True},  # several batches together, against twelve frozen ones
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share over fleets, and the standard error of its mean."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Share":
        """Mean over fleets; with a single one, the error is unknown."""
        error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
        return cls(mean=float(np.mean(values)), error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One process: shares by kind of monitor and reference batches, and what is possible at all.

    ``level[kind][alpha][m]``; ``power`` at the first of `ALPHAS`: of a degraded minority for ``monitor``, of a
    degraded fleet for the others. ``oracle`` knows the exact quantile of the recent value less the mean of the
    reference on healthy streams. ``others`` are levels of the tests on single losses against `OTHERS_AT` batches.
    """

    losses: str
    has_own_level: bool
    level: dict[str, dict[float, dict[int, Share]]]
    power: dict[str, dict[int, Share]]
    oracle: dict[int, float]
    design: dict[int, float]
    others: dict[str, float]


def measure(process: Process, *, streams: int, seeds: int) -> Row:
    """Level and power on ``seeds`` fleets of one process."""
    fleets = [_fleet(process, streams=streams, seed=seed) for seed in range(seeds)]
    return Row(
        losses=process.name,
        has_own_level=process.has_own_level,
        level={
            kind: {
                alpha: {m: Share.of([fleet.level(kind, m, alpha) for fleet in fleets]) for m in SIZES}
                for alpha in ALPHAS
            }
            for kind in KINDS
        },
        power={kind: {m: Share.of([fleet.power(kind, m) for fleet in fleets]) for m in SIZES} for kind in KINDS},
        oracle={m: _oracle([fleet.distance[m] for fleet in fleets]) for m in SIZES},
        design=dict(zip(SIZES, process.design, strict=False)),
        others={name: float(np.mean([fleet.others[name] for fleet in fleets])) for name in OTHERS},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """p-values of one fleet, by kind and reference batches; and distances from the reference, (2, streams)."""

    healthy: dict[tuple[str, int], Floats]
    degraded: dict[tuple[str, int], Floats]  # of the degraded streams alone
    distance: dict[int, Floats]
    others: dict[str, float]

    def level(self, kind: str, m: int, alpha: float) -> float:
        """Share of all streams: one that is not ready raises no false alarm."""
        return float(np.mean(self.healthy[kind, m] <= alpha))

    def power(self, kind: str, m: int) -> float:
        return float(np.mean(self.degraded[kind, m] <= ALPHAS[0]))


def _fleet(process: Process, *, streams: int, seed: int) -> _Fleet:
    healthy, degraded = simulate(process, batches=SIZES[-1] + 1, streams=streams, seed=seed)
    reference = np.concatenate(list(healthy[:OTHERS_AT]), axis=1)
    others = {
        name: float(np.mean(test(healthy[OTHERS_AT], reference).p_value <= ALPHAS[0])) for name, test in OTHERS.items()
    }
    made = _Fleet(healthy={}, degraded={}, distance={}, others=others)
    minority, everyone = np.arange(streams) % MINORITY == 0, np.ones(streams, dtype=np.bool_)
    for kind, options in KINDS.items():
        faulty = minority if kind in ("monitor", "accumulating") else everyone
        monitor = LossMonitor(streams, fleet="none", effect_floor=0.0, season=process.season, seed=seed, **options)
        for m, batch in enumerate(healthy):
            if m in SIZES:
                recent = np.where(faulty[:, None], degraded[m], batch)
                made.degraded[kind, m] = copy.deepcopy(monitor).update(recent).p_value[faulty]
            p_value = monitor.update(batch).p_value
            if m in SIZES:
                made.healthy[kind, m] = p_value
    floor = monitor.references.floors.floor
    for m in SIZES:
        made.distance[m] = np.stack([_distance(healthy[:m], recent, floor) for recent in (healthy[m], degraded[m])])
    return made


def _distance(reference: Floats, recent: Floats, floor: Floats) -> Floats:
    return np.asarray(np.log(recent.mean(axis=1) + floor) - np.log(reference.mean(axis=2) + floor).mean(axis=0))


def _oracle(distances: Sequence[Floats]) -> float:
    """Power of the test that knows the exact quantile of healthy streams, over all fleets together."""
    healthy, degraded = np.hstack(distances)
    return float(np.mean(degraded > np.quantile(healthy, 1.0 - ALPHAS[0])))


def promised(process: Row, kind: str) -> bool:
    """Whether the level of a row is a promise: a week that all streams share needs the common component."""
    return process.has_own_level and not (kind in ("whole fleet", "alone") and process.losses == "weekly, shared")


def misses(table: Sequence[Row]) -> list[str]:
    """Cells whose level lies outside `PROMISE`."""
    return [
        f"{row.losses}, {kind}, nominal {alpha:.0%}, m = {m}: {share.mean:.2%}"
        for row in table
        for kind in ("monitor", "alone", "accumulating")
        if promised(row, kind)
        for alpha, shares in row.level[kind].items()
        for m, share in shares.items()
        if not PROMISE[alpha][0] <= share.mean <= PROMISE[alpha][1]
    ]


def below_design(table: Sequence[Row], kinds: Sequence[str] = ("whole fleet", "alone")) -> list[str]:
    """Cells with less power than the design's table, by more than rounding and chance, and what was possible."""
    found = []
    for row in table:
        for m, design in row.design.items():
            best = max((row.power[kind][m] for kind in kinds), key=lambda share: share.mean)
            chance = 2.0 * best.error if np.isfinite(best.error) else 0.0
            if best.mean < design - 0.005 - chance:  # the design's table has two digits
                possible = "possible" if design <= row.oracle[m] + 0.005 else "beyond the oracle: sampling noise"
                found.append(f"{row.losses}, m = {m}: {best.mean:.3f} < {design:.2f}, {possible} ({row.oracle[m]:.3f})")
    return found


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _levels(table: Sequence[Row], kind: str) -> list[str]:
    head = ["losses", *(f"{alpha:.0%}, m = {m}" for alpha in ALPHAS for m in SIZES)]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in table:
        if row.has_own_level:
            shares = [row.level[kind][alpha][m].mean for alpha in ALPHAS for m in SIZES]
            lines.append(_line([row.losses, *(f"{100.0 * share:.2f}" for share in shares)]))
    return lines


def _others(table: Sequence[Row]) -> list[str]:
    lines = [_line(["losses", *OTHERS]), _line(["---", *["---:"] * len(OTHERS)])]
    for row in table:
        if row.has_own_level:
            lines.append(_line([row.losses, *(f"{100.0 * level:.1f}" for level in row.others.values())]))
    return lines


def _powers(table: Sequence[Row]) -> list[str]:
    head = ["losses", *(f"m = {m}" for m in SIZES)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in table:
        cells = []
        for m in SIZES:
            ours = " ".join(f"{row.power[kind][m].mean:.3f}" for kind in KINDS)
            design = f"{row.design[m]:.2f}" if m in row.design else "-"
            cells.append(f"{ours} / {design} / {row.oracle[m]:.3f}")
        lines.append(_line([row.losses, *cells]))
    return lines


def largest_error(table: Sequence[Row], alpha: float) -> float:
    """Largest standard error of a level."""
    return float(max(row.level["monitor"][alpha][m].error for row in table for m in SIZES))


def render(table: Sequence[Row], *, streams: int, seeds: int) -> str:
    """Tables in Markdown, as they stand in the manual."""
    errors = ", ".join(f"{100.0 * largest_error(table, alpha):.2f} at nominal {alpha:.0%}" for alpha in ALPHAS)
    found, lost, shared = misses(table), below_design(table), below_design(table, ("monitor",))
    return "\n".join(
        [
            f"Batches of {BATCH}, {streams} streams, mean of {seeds} fleets a cell; largest standard error of a level",
            f"(percentage points): {errors}.",
            "",
            "Level of the monitor in percent, by nominal rate and batches m since the start:",
            "",
            *_levels(table, "monitor"),
            "",
            "Level with ``accumulate`` in percent:",
            "",
            *_levels(table, "accumulating"),
            "",
            "Level of the test alone (adaptive reference, nothing taken out) in percent:",
            "",
            *_levels(table, "alone"),
            "",
            f"Level of tests on single losses at nominal {ALPHAS[0]:.0%}, m = {OTHERS_AT}, in percent:",
            "",
            *_others(table),
            "",
            f"Power at +{SHIFT} sd, nominal 5 %: monitor (one stream in {MINORITY} degraded), whole fleet degraded",
            "(nothing taken out), test alone, with ``accumulate`` (as the first) / the design's table / oracle:",
            "",
            *_powers(table),
            "",
            "Levels outside their promise: " + ("; ".join(found) if found else "none") + ".",
            "Less power than the design's table: " + ("; ".join(lost) if lost else "none") + ".",
            f"The same where one stream in {MINORITY} is degraded, which shifts what the fleet has in common: "
            + ("; ".join(shared) if shared else "none")
            + ".",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_power", description=__doc__)
    parser.add_argument("--streams", type=int, default=4000, help="streams a fleet")
    parser.add_argument("--seeds", type=int, default=5, help="fleets a cell")
    parser.add_argument("--only", action="append", metavar="PROCESS", choices=[p.name for p in PROCESSES])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    for name, value, least in (("streams", options.streams, 4 * MINORITY), ("seeds", options.seeds, 1)):
        if value < least:
            parser.error(f"--{name} {value}: expected {least} or more")
    chosen = [process for process in PROCESSES if process.name in (options.only or [p.name for p in PROCESSES])]
    table = [measure(process, streams=options.streams, seeds=options.seeds) for process in chosen]
    size = {"streams": options.streams, "seeds": options.seeds}
    if options.json:
        rows = [asdict(row) for row in table]
        print(json.dumps({**size, "rows": rows, "misses": misses(table), "lost": below_design(table)}, indent=2))
    else:
        print(render(table, **size))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
