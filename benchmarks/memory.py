"""Memory of one shard in bytes per stream.

Two fleets of different size close a few batches, each in a process of its own; the difference between them, divided
by the difference in streams, is what one more stream costs. What does not grow with the fleet cancels.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.measuring import significant
from benchmarks.workload import Workload
from mlma.core.judge import judge
from mlma.runtime.shard import RING_BATCHES

SIZES = (5_000, 20_000)
QUICK_SIZES = (500, 2_000)
BATCHES = (96, 24)
ROUNDS = 3  # batches that are closed while the peak is watched
LOSS_RINGS = ("mean_loss", "naive_loss")
BATCH_ARRAYS = ("last_forecast", "_forecast", "_naive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes of one shard, or of one of its streams."""

    outcomes: float  # ring of outcomes
    losses: float  # rings of the mean losses of closed batches
    batches: float  # forecasts of the open and of the last closed batch
    resident: float  # what is let go when the shard is, as Python's allocator counts it
    transient: float  # more that is held at the worst moment of taking in, scoring and testing one batch
    process: float  # largest size of the whole process, with the data that the benchmark makes

    @property
    def rest(self) -> float:
        """What is resident beside the arrays that are named."""
        return self.resident - self.outcomes - self.losses - self.batches

    @property
    def peak(self) -> float:
        """Resident and transient together."""
        return self.resident + self.transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes per stream of one kind of shard."""

    batch: int
    streams: tuple[int, int]
    slots: int  # in the ring of outcomes
    per_stream: Held


def _process_peak() -> int:
    """Largest resident size of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would also tell the size of the parent that a child was forked from
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _arrays(owner: object) -> Iterator[tuple[str, int]]:
    for name, value in vars(owner).items():
        if isinstance(value, np.ndarray):
            yield name, value.nbytes


def _close_one(workload: Workload) -> int:
    """Close one batch; returns the bytes that were held at the worst moment beyond what was held before."""
    workload.take_closed()
    workload.offer()
    nothing = np.zeros(workload.streams, dtype=np.bool_)
    gc.collect()
    before = _traced()
    tracemalloc.reset_peak()
    workload.take_in()
    judge(workload.score(), workload.testing, excluded=nothing)
    peak = tracemalloc.get_traced_memory()[1]
    workload.history.clear()
    return peak - before


def in_this_process(streams: int, batch: int) -> Held:
    """Bytes held by a shard of so many streams that was made in this process."""
    tracemalloc.start()
    try:
        workload = Workload(streams=streams, batch=batch)
        workload.warm_up()
        transient = max(_close_one(workload) for _ in range(ROUNDS))
        rings = workload.shard._rings
        named = dict(_arrays(rings))
        outcomes = sum(size for _, size in _arrays(rings.outcomes))
        del rings
        gc.collect()
        traced = _traced()
        del workload.shard
        gc.collect()
        return Held(
            outcomes=outcomes,
            losses=sum(named[name] for name in LOSS_RINGS),
            batches=sum(named[name] for name in BATCH_ARRAYS),
            resident=traced - _traced(),
            transient=transient,
            process=_process_peak(),
        )
    finally:
        tracemalloc.stop()


def in_another_process(streams: int, batch: int) -> Held:
    """The same in a fresh process, so that nothing measured before is in its memory."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(streams), str(batch)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return Held(**json.loads(done.stdout))


def one_batch_size(batch: int, streams: tuple[int, int]) -> Memory:
    """Bytes per stream, from two sizes of shard."""
    few, many = (asdict(in_another_process(size, batch)) for size in streams)
    per_stream = {name: (many[name] - few[name]) / (streams[1] - streams[0]) for name in few}
    return Memory(batch=batch, streams=streams, slots=round(per_stream["outcomes"] / 8), per_stream=Held(**per_stream))


def measure(*, quick: bool) -> list[Memory]:
    """Measure both lengths of batch."""
    return [one_batch_size(batch, QUICK_SIZES if quick else SIZES) for batch in BATCHES]


def tables(results: list[Memory]) -> list[Table]:
    """One table: what a stream costs, and what it consists of."""
    first = results[0]
    table = Table(
        title="One shard: bytes per stream, hourly, train window of 28 days",
        caption=f"Slope between shards of {first.streams[0]:,} and {first.streams[1]:,} streams, each in a process of "
        "its own.\npeak: while a batch is taken in, scored and tested; process: what the system counts, with the "
        "benchmark's own data.",
    )
    headings = (
        "batch", "outcomes", f"losses of {RING_BATCHES} batches", "forecasts of 2 batches", "rest", "resident", "peak",
        "peak / outcomes", "process",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for result in results:
        held = result.per_stream
        table.add_row(
            str(result.batch),
            f"{significant(held.outcomes)} ({result.slots:,} slots)",
            significant(held.losses),
            significant(held.batches),
            significant(held.rest),
            significant(held.resident),
            significant(held.peak),
            f"x{significant(held.peak / held.outcomes)}",
            significant(held.process),
        )
    return [table]


def main(argv: list[str] | None = None) -> int:
    """Print the bytes of one shard as JSON; what `in_another_process` runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("streams", type=int)
    parser.add_argument("batch", type=int)
    options = parser.parse_args(argv)
    print(json.dumps(asdict(in_this_process(options.streams, options.batch))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
