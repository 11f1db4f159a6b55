"""Memory of a fleet in bytes per stream: what its shard keeps, and what the driver's loss monitor keeps.

Two fleets of different size close a few batches, each in a process of its own; the difference between them, divided
by the difference in streams, is what one more stream costs. What does not grow with the fleet cancels. Everything is
counted twice: by adding up arrays (``nbytes``), and as what Python's allocator lets go with the object.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.measuring import significant
from benchmarks.workload import Workload

SIZES = (5_000, 20_000)
QUICK_SIZES = (500, 2_000)
BATCHES = (96, 24)
JUDGED = 4  # batches that are judged before; the monitor has all its arrays after the first
ROUNDS = 3  # batches that are closed while the peak is watched
OWN = ("mlma.", "benchmarks.")
"""Modules into whose objects the search for arrays goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes of one fleet, or of one of its streams."""

    outcomes: float  # ring of outcomes, nbytes
    forecasts: float  # of the open and of the last closed batch, nbytes
    scores: float  # of the last closed batch, and what else the shard keeps, nbytes
    shard: float  # what is let go when the shard is
    monitor_arrays: float  # of everything that the monitor knows, nbytes
    monitor_saved: float  # those among them that a checkpoint holds, nbytes
    monitor: float  # what is let go when the monitor is
    transient: float  # more that is held at the worst moment of taking in, scoring and testing one batch
    process: float  # largest size of the whole process, with the data that the benchmark makes

    @property
    def shard_arrays(self) -> float:
        """Arrays of the shard."""
        return self.outcomes + self.forecasts + self.scores

    @property
    def arrays(self) -> float:
        """Arrays of shard and monitor together."""
        return self.shard_arrays + self.monitor_arrays

    @property
    def resident(self) -> float:
        """What is let go with shard and monitor."""
        return self.shard + self.monitor

    @property
    def peak(self) -> float:
        """Resident and transient together."""
        return self.resident + self.transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes per stream of one kind of fleet."""

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


def _base(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The array that owns what this one shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_of(owner: object) -> Iterator[NDArray[np.generic]]:
    """Every array that an object of ours holds, through other objects of ours, dictionaries and lists; each once."""
    seen: set[int] = set()
    waiting: list[object] = [owner]
    while waiting:
        found = waiting.pop()
        found = _base(found) if isinstance(found, np.ndarray) else found
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, np.ndarray):
            yield found
        elif isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, list | tuple):
            waiting += [value for value in found if not isinstance(value, str | int | float)]
        elif type(found).__module__.startswith(OWN):
            names = [*getattr(found, "__dict__", ()), *getattr(type(found), "__slots__", ())]
            waiting += [getattr(found, name) for name in names]


def nbytes(owner: object) -> int:
    """Bytes of the arrays of an object."""
    return sum(array.nbytes for array in arrays_of(owner))


def _close_one(workload: Workload) -> int:
    """Close one batch; returns the bytes that were held at the worst moment beyond what was held before."""
    workload.take_closed()
    workload.serve_renewed(workload.offer())
    gc.collect()
    before = _traced()
    tracemalloc.reset_peak()
    workload.take_in()
    workload.judge(workload.score())
    peak = tracemalloc.get_traced_memory()[1]
    workload.history.clear()
    return peak - before


def in_this_process(streams: int, batch: int) -> Held:
    """Bytes held by a fleet of so many streams that was made in this process."""
    tracemalloc.start()
    try:
        workload = Workload(streams=streams, batch=batch)
        workload.warm_up(judged=JUDGED)
        transient = max(_close_one(workload) for _ in range(ROUNDS))
        shard, monitor = workload.executor._shards[0], workload.control.monitor
        rings = shard._rings
        outcomes, forecasts = nbytes(rings.outcomes), nbytes((rings.last_forecast, rings._forecast, rings._naive))
        scores = nbytes((rings, shard._summary)) - outcomes - forecasts
        monitor_arrays, monitor_saved = nbytes(monitor), sum(array.nbytes for array in monitor.arrays().values())
        del rings, shard
        gc.collect()
        traced = _traced()
        workload.executor.close()
        gc.collect()
        without_shard = _traced()
        del monitor, workload.control.monitor
        gc.collect()
        return Held(
            outcomes=outcomes,
            forecasts=forecasts,
            scores=scores,
            shard=traced - without_shard,
            monitor_arrays=monitor_arrays,
            monitor_saved=monitor_saved,
            monitor=without_shard - _traced(),
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
    """Bytes per stream, from two sizes of fleet."""
    few, many = (asdict(in_another_process(size, batch)) for size in streams)
    per_stream = {name: (many[name] - few[name]) / (streams[1] - streams[0]) for name in few}
    return Memory(batch=batch, streams=streams, slots=round(per_stream["outcomes"] / 8), per_stream=Held(**per_stream))


def measure(*, quick: bool) -> list[Memory]:
    """Measure both lengths of batch."""
    return [one_batch_size(batch, QUICK_SIZES if quick else SIZES) for batch in BATCHES]


def tables(results: list[Memory]) -> list[Table]:
    """Two tables: what a stream costs, counted in two ways, and what it consists of."""
    first = results[0]
    whole = Table(
        title="Bytes per stream, hourly, train window of 28 days",
        caption=f"Slope between fleets of {first.streams[0]:,} and {first.streams[1]:,} streams, each in a process of "
        "its own.\narrays: added up; let go: what Python's allocator gets back; peak: that, and more while a batch is "
        "taken in,\nscored and tested; process: what the system counts, with the benchmark's own data.",
    )
    headings = (
        "batch", "shard: arrays", "let go", "monitor: arrays", "let go", "monitor / shard", "both: arrays", "let go",
        "peak", "process",
    )  # fmt: skip
    for heading in headings:
        whole.add_column(heading, justify="right")
    parts = Table(title="Arrays by what they hold, bytes per stream")
    for heading in ("batch", "outcomes", "forecasts of 2 batches", "scores", "monitor", "in a checkpoint of it"):
        parts.add_column(heading, justify="right")
    for result in results:
        held = result.per_stream
        numbers = (
            held.shard_arrays, held.shard, held.monitor_arrays, held.monitor, held.monitor / held.shard, held.arrays,
            held.resident, held.peak, held.process,
        )  # fmt: skip
        whole.add_row(str(result.batch), *map(significant, numbers))
        parts.add_row(
            str(result.batch),
            f"{significant(held.outcomes)} ({result.slots:,} slots)",
            *map(significant, (held.forecasts, held.scores, held.monitor_arrays, held.monitor_saved)),
        )
    return [whole, parts]


def main(argv: list[str] | None = None) -> int:
    """Print the bytes of one fleet as JSON; what `in_another_process` runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("streams", type=int)
    parser.add_argument("batch", type=int)
    options = parser.parse_args(argv)
    print(json.dumps(asdict(in_this_process(options.streams, options.batch))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
