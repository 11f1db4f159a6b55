"""How long a command takes to answer, as a ratio to Python doing nothing. Wall time of whole processes, in turn."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.measuring import Spread, in_turn, ratio, ratio_text, significant
from mlma import bootstrap
from mlma.core.blocks import ACTION_CODE, HOLD_CODE, REASON_CODE, DecisionBlock
from mlma.core.commit import Commit
from mlma.core.decisions import Action, Hold, Phase, Reason
from mlma.core.records import NAIVE, SourceFile, Stream

REPEATS = 9
QUICK_REPEATS = 3
STREAMS = 94
BATCHES = 20
MADE_AT = datetime(2001, 3, 1, tzinfo=UTC)
NOTHING = "python -c pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTime:
    """Wall time of one command."""

    command: str
    seconds: Spread
    ratio: Spread  # to Python doing nothing


def make_state(path: Path) -> None:
    """Write a small state: a fleet whose batches all stayed within their reference."""
    state = bootstrap.open_state(path, create=True)
    meta = {
        "anchor": datetime(2001, 1, 1, tzinfo=UTC).isoformat(), "frequency_s": "3600", "horizon": "24", "batch": "24",
        "train_window": "672", "n_shards": "1", "alpha": "0.05", "policy": "mlma", "model": "ridge", "loss": "absolute",
    }  # fmt: skip
    file = SourceFile(
        seq=1, path="made.parquet", fingerprint="1", n_rows=STREAMS, n_admitted=STREAMS, n_rejected=0, n_late=0,
        taken_at=MADE_AT,
    )  # fmt: skip
    state.store.set_meta(meta)
    state.store.record(Commit(file=file, streams=[Stream(id=i, name=f"s{i}", first_slot=0) for i in range(STREAMS)]))
    for batch in range(BATCHES):
        state.store.record(Commit(cursor=batch, block=_kept(batch)))
    state.close()


def _kept(batch: int) -> DecisionBlock:
    rng = np.random.default_rng(batch)
    keep, ones = np.full(STREAMS, ACTION_CODE[Action.KEEP], dtype=np.int8), np.ones(STREAMS)
    return DecisionBlock(
        batch=batch, phase=Phase.BATCH, decided_at=MADE_AT + timedelta(days=batch),
        stream_id=np.arange(STREAMS, dtype=np.int64), action=keep, proposed=keep,
        reason=np.full(STREAMS, REASON_CODE[Reason.WITHIN_REFERENCE], dtype=np.int8),
        held_by=np.full(STREAMS, HOLD_CODE[Hold.NOTHING], dtype=np.int8), n=np.full(STREAMS, 24, dtype=np.int64),
        mean_loss=rng.lognormal(size=STREAMS), naive_loss=rng.lognormal(size=STREAMS), p_value=rng.random(STREAMS),
        effect=rng.normal(0.0, 0.05, STREAMS), adaptive_mean=ones, anchored_mean=ones,
        n_reference=np.full(STREAMS, 8, dtype=np.int64), version_id=(NAIVE,) * STREAMS,
    )  # fmt: skip


@contextmanager
def commands() -> Iterator[dict[str, Sequence[str]]]:
    """What is timed, by the name that the table shows, over a state that exists as long as this context."""
    mlma = Path(sys.executable).with_name("mlma")
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        make_state(state)
        yield {
            NOTHING: [sys.executable, "-c", "pass"],
            "mlma --help": [str(mlma), "--help"],
            "mlma status": [str(mlma), "status", "--state", str(state)],
        }


def _run(command: Sequence[str]) -> Callable[[], None]:
    def work() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr.strip()}")

    return work


def measure(*, quick: bool) -> list[StartTime]:
    """Time the commands in turn."""
    with commands() as found:
        works = {name: _run(command) for name, command in found.items()}
        seconds = in_turn(works, repeats=QUICK_REPEATS if quick else REPEATS, clock=time.perf_counter)
    return [
        StartTime(command=name, seconds=Spread.of(values), ratio=ratio(values, seconds[NOTHING]))
        for name, values in seconds.items()
    ]


def tables(results: list[StartTime]) -> list[Table]:
    """One table: wall time of each command, and its ratio to Python doing nothing."""
    table = Table(title=f"Start time of the command line (state of {STREAMS} streams and {BATCHES} batches)")
    table.add_column("command")
    table.add_column("wall ms", justify="right")
    table.add_column(f"times {NOTHING}", justify="right")
    for result in results:
        table.add_row(result.command, significant(1e3 * result.seconds.median), ratio_text(result.ratio))
    return [table]
