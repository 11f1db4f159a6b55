"""Streams that move together: false alarms of healthy fleets, and shared shocks that must be one incident.

Run with ``python -m benchmarks.incidents [--scenarios 100] [--batches 200] [--seed 0] [--only NAME]``. The
scenarios are in `benchmarks.shared_shocks`.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.shared_shocks import (
    ALPHA,
    SHOCK,
    SIZES,
    VALUES,
    WORLDS,
    Count,
    Shock,
    few_broken,
    healthy_fleet,
    shock,
    speed,
)

HEALTHY = ((10_000, 0.6), (10_000, 0.0), (113, 0.6), (113, 0.0), (40, 0.6), (40, 0.0), (12, 0.6), (12, 0.0), (8, 0.6))
SPEEDS = (
    {"site": 100, "product": 80, "feed": 20},
    {"site": 20, "product": 25, "feed": 4},
    {"region": 8},
)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(cells: list[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _counts(count: Count) -> str:
    return f"{count.mean:.2f} ({count.p99:.0f})"


def healthy_table(*, batches: int, seed: int) -> Iterator[str]:
    yield from ("", f"Healthy fleets, {batches} batches: mean (99th percentile) per batch at {ALPHA:.0%}", "")
    yield from _head(
        [
            "streams",
            "rho",
            "p small before",
            "after",
            "BH alarms before",
            "after",
            "power before",
            "after",
            "new incidents",
        ]
    )
    for streams, rho in HEALTHY:
        found = healthy_fleet(streams=streams, rho=rho, batches=batches, seed=seed)
        counts = (found.before.small, found.after.small, found.before.alarms, found.after.alarms)
        cells = [str(streams), f"{rho:g}", *(_counts(count) for count in counts)]
        yield _line([*cells, f"{found.before.power:.2f}", f"{found.after.power:.2f}", f"{found.new_incidents:.3f}"])


def _shares(found: list[Shock]) -> list[str]:
    delays = [shock.delay for shock in found if shock.delay]
    return [
        str(len(found)),
        f"{np.mean([shock.is_right for shock in found]):.2f}",
        f"{np.mean([shock.delay > 0 for shock in found]):.2f}",
        f"{np.mean(delays):.2f}" if delays else "-",
        f"{np.mean([shock.n_others / SHOCK for shock in found]):.3f}",
        f"{np.mean([shock.members_alarmed for shock in found]):.4f}",
        f"{np.mean([shock.broken_alarmed for shock in found]):.2f}",
        f"{np.mean([shock.late > 0 for shock in found]):.2f}",
    ]


def shock_table(*, scenarios: int, seed: int) -> Iterator[str]:
    yield from ("", f"A shared shock of {SHOCK} batches on a random label set, {scenarios} scenarios a world", "")
    yield from _head(
        ["world", "size", "scenarios", "first seen as exactly it", "found", "mean delay", "batches with another",
         "members alarmed", "broken alarmed", "outlived"]
    )  # fmt: skip
    wrong: list[str] = []
    for world in WORLDS:
        found = [shock(world, seed=seed + k) for k in range(scenarios)]
        yield _line([world.name, "all", *_shares(found)])
        for size in SIZES:
            some = [one for one in found if one.size == size]
            if some:
                yield _line(["", f"{size:g} sd", *_shares(some)])
        wrong += [
            f"{world.name}, {one.size:g} sd, {one.labels} ({one.n_members}): {', '.join(n or '-' for n in one.found)}"
            for one in found
            if not one.is_right
        ]
    yield from ("", "Not seen as exactly one incident with the right labels:", "")
    yield from (f"- {line}" for line in wrong)


def few_table(*, scenarios: int, seed: int) -> Iterator[str]:
    found = [few_broken(streams=5000, seed=seed + k) for k in range(scenarios)]
    yield from ("", "Three of 50 streams of a label set are broken by 5 sd:", "")
    new = np.mean([one[0] for one in found])
    yield f"- an incident that is not there without them: {new:.2f} of {scenarios} scenarios"
    yield f"- alarmed by themselves: {np.mean([one[1] for one in found]):.2f} of them"


def speed_table(*, seed: int) -> Iterator[str]:
    yield from ("", "One call of `separate`:", "")
    yield from _head(["streams", "label sets", "healthy", "with a shock", "memory"])
    for streams, values in [(100_000, values) for values in SPEEDS] + [(10_000, VALUES)]:
        found = speed(streams=streams, values=values, seed=seed)
        times = [f"{found.healthy_ms:.1f} ms", f"{found.shock_ms:.1f} ms", f"{found.bytes_per_set:.0f} bytes a set"]
        yield _line([f"{streams:,}", str(found.n_sets), *times])


def main(argv: list[str] | None = None) -> int:
    """Print the tables as they are made; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incidents", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=100, help="a world")
    parser.add_argument("--batches", type=int, default=200, help="of a healthy fleet, after warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["healthy", "shocks", "few", "speed"])
    options = parser.parse_args(argv)
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "healthy": lambda: healthy_table(batches=options.batches, seed=options.seed),
        "shocks": lambda: shock_table(scenarios=options.scenarios, seed=options.seed),
        "few": lambda: few_table(scenarios=options.scenarios, seed=options.seed),
        "speed": lambda: speed_table(seed=options.seed),
    }
    for name, table in tables.items():
        if options.only in (None, name):
            for line in table():
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
