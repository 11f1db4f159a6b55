"""What it costs that the loss monitor survives a crash: a checkpoint at every batch, and judging all batches once more.

Wall time, because a checkpoint waits for the disk. State, history and checkpoints are those of a daemon, in a temporary
directory.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.measuring import Spread, Work, in_turn, ratio, ratio_text, significant, timed
from benchmarks.workload import NewestHistory, Workload, fleet_control
from mlma.adapters.checkpoints import FileCheckpoints, NoCheckpoints
from mlma.adapters.history import ParquetHistory
from mlma.adapters.store import SqlStore
from mlma.core.blocks import LossBlock
from mlma.monitor.monitor import LossMonitor
from mlma.runtime import closing, monitoring
from mlma.runtime.control import Control
from mlma.runtime.executors import InlineExecutor
from mlma.runtime.ports import Checkpoints

SIZES = (1_000, 10_000)
BATCH = 24  # a daily batch of an hourly fleet
BATCHES = 30  # recorded ones, which a rebuild goes through
REPEATS = 7  # batches whose checkpoint is timed, the last ones
REOPENED = 3  # times that the monitor is opened in each way


@dataclass(frozen=True)
class RecordedHistory(NewestHistory):
    """History of a workload that also writes losses to disk, as a daemon does."""

    on_disk: ParquetHistory = field(kw_only=True)

    def append_losses(self, shard: int, block: LossBlock) -> None:
        """Keep this block alone, and write it down."""
        super().append_losses(shard, block)
        self.on_disk.append_losses(shard, block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One size of fleet; milliseconds are of one batch, or of one opening."""

    streams: int
    batch: int
    batches: int
    judge_ms: Spread
    save_ms: Spread
    close_ms: Spread  # the driver's whole work on a batch, without checkpoint
    save_by_judge: Spread
    save_by_close: Spread
    bytes_per_stream: float  # of the file
    load_ms: Spread  # opening with a checkpoint
    rebuild_ms: Spread  # opening without
    rebuild_by_load: Spread
    rebuild_by_judge: float  # of one batch


class Life:
    """A fleet whose batches are closed and recorded one by one."""

    def __init__(self, root: Path, *, streams: int, batch: int) -> None:
        self.store = SqlStore(f"sqlite:///{root / 'mlma.db'}", create=True)
        self.on_disk = ParquetHistory(root / "history")
        self.files = FileCheckpoints(root / "checkpoints")
        history = RecordedHistory(on_disk=self.on_disk)
        self.workload = Workload(streams=streams, batch=batch, store=self.store, history=history)
        self.begins: dict[int, set[int]] = {}
        self.seconds: dict[str, list[float]] = {"judge": [], "save": [], "close": []}

    def close_one(self) -> None:
        """Close and record the next batch, and time the parts of it."""
        workload, monitor = self.workload, self.workload.control.monitor
        made = workload.take_closed(is_judged=False)
        workload.serve_renewed(made)
        self.begins |= workload.control.fleet.begins
        scores = workload.executor.score(made.number)
        born = monitor.n_streams == 0  # the monitor grows at its first batch, which cannot be taken back
        before = {name: array.copy() for name, array in monitor.arrays().items()}
        if not born:
            self._time("judge", lambda: workload.judge(scores))
            self._time("save", lambda: self.files.save_monitor(made.number, monitor.arrays()))
            monitor.restore(before)
        self._time("close", lambda: closing.close(workload.control, made.number))
        workload.history.clear()

    def _time(self, name: str, work: Work) -> None:
        self.seconds[name].append(timed(work, time.perf_counter))

    def next_start(self, checkpoints: Checkpoints) -> Control:
        """Control of the next start, before it has a monitor."""
        workload = self.workload
        control = fleet_control(
            streams=workload.streams, batch=workload.batch, store=self.store, history=self.on_disk,
            checkpoints=checkpoints, executor=InlineExecutor(1),
        )  # fmt: skip
        control.fleet.begins = self.begins
        return control


def one_size(streams: int, batch: int, *, batches: int, repeats: int, reopened: int) -> Restart:
    """Measure one size of fleet."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), streams=streams, batch=batch)
        for _ in range(batches):
            life.close_one()
        kept, lost = life.next_start(life.files), life.next_start(NoCheckpoints())
        _assert_equal(monitoring.opened(kept), monitoring.opened(lost))
        works = {"load": lambda: monitoring.opened(kept), "rebuild": lambda: monitoring.opened(lost)}
        opened = in_turn(works, repeats=reopened, clock=time.perf_counter)
        size = sum(path.stat().st_size for path in (Path(folder) / "checkpoints").iterdir()) / 2
        life.store.close()
    ms = {name: [1e3 * second for second in seconds] for name, seconds in {**life.seconds, **opened}.items()}
    judge, save, close = (ms[name][-repeats:] for name in ("judge", "save", "close"))
    rebuild = Spread.of(ms["rebuild"])
    return Restart(
        streams=streams,
        batch=batch,
        batches=batches,
        judge_ms=Spread.of(judge),
        save_ms=Spread.of(save),
        close_ms=Spread.of(close),
        save_by_judge=ratio(save, judge),
        save_by_close=ratio(save, close),
        bytes_per_stream=size / streams,
        load_ms=Spread.of(ms["load"]),
        rebuild_ms=rebuild,
        rebuild_by_load=ratio(ms["rebuild"], ms["load"]),
        rebuild_by_judge=rebuild.median / batches / Spread.of(judge).median,
    )


def _assert_equal(loaded: LossMonitor, rebuilt: LossMonitor) -> None:
    """What was rebuilt is what was saved, to the last bit."""
    a, b = loaded.arrays(), rebuilt.arrays()
    different = [name for name in a.keys() | b.keys() if not _is_equal(a[name], b[name])]
    assert not different, different


def _is_equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def measure(*, quick: bool) -> list[Restart]:
    """Measure both sizes; ``quick`` leaves the larger out."""
    sizes = SIZES[:1] if quick else SIZES
    return [one_size(size, BATCH, batches=BATCHES, repeats=REPEATS, reopened=REOPENED) for size in sizes]


def tables(results: list[Restart]) -> list[Table]:
    """Two tables: a checkpoint beside the batch that it belongs to, and a start with and without it."""
    saved = Table(
        title="Checkpoint of the loss monitor after every batch (medians of wall time)",
        caption="test: the driver, to the verdicts; close: test, proposals, decisions and their record, without a "
        "checkpoint.",
    )
    for heading in ("streams", "batch", "test ms", "checkpoint ms", "checkpoint / test", "checkpoint / close",
                    "file, bytes a stream"):  # fmt: skip
        saved.add_column(heading, justify="right")
    opened = Table(
        title="Opening the loss monitor (medians of wall time)",
        caption="rebuilt: the checkpoint is lost, and all recorded batches are read and judged once more; the result "
        "is the same to the last bit.",
    )
    for heading in ("streams", "batches", "loaded ms", "rebuilt ms", "rebuilt / loaded", "rebuilt / test, a batch"):
        opened.add_column(heading, justify="right")
    for result in results:
        saved.add_row(
            f"{result.streams:,}",
            str(result.batch),
            significant(result.judge_ms.median),
            significant(result.save_ms.median),
            ratio_text(result.save_by_judge),
            ratio_text(result.save_by_close),
            significant(result.bytes_per_stream),
        )
        opened.add_row(
            f"{result.streams:,}",
            str(result.batches),
            significant(result.load_ms.median),
            significant(result.rebuild_ms.median),
            ratio_text(result.rebuild_by_load),
            f"x{significant(result.rebuild_by_judge)}",
        )
    return [saved, opened]
