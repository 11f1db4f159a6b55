"""What warm starts are worth: more trees on the newest rows, or new leaf values, instead of a training from scratch.

Run with ``python -m benchmarks.warm_start --data FOLDER``. One LightGBM a stream, as the product trains it, whose
newest version serves alone. A figure is the mean over streams of the absolute loss relative to a training from scratch
at every batch, and the CPU time of all trainings as a share of its.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and LightGBM are imported

import lightgbm
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.storms_scenarios import EIA, FLIGHTS, UBER, Scenario, rows_of
from mlma.core.blocks import Floats
from mlma.core.durations import parse_duration
from mlma.core.schedule import Schedule
from mlma.models.features import Features
from mlma.models.lightgbm_model import DEFAULTS

SETS = (
    Scenario(
        name="eia", dataset=EIA, first="2018-10-01", last="2020-09-30", batch="7d", window="140d", streams=(), others=10
    ),
    Scenario(name="flights", dataset=FLIGHTS, first="2001-01-01", last="2001-06-30", streams=(), others=10),
    Scenario(name="uber", dataset=UBER, first="2015-01-01", last="2015-06-30", batch="7d", streams=(), others=8),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the model of a stream is renewed.

    Attributes
    ----------
    scratch
        Batches from one training from scratch to the next; 0 for the first one alone.
    warm
        Batches from one warm start to the next in between; 0 for none.
    trees
        That a warm start adds; 0 gives the trees that there are new leaf values.
    rows
        Of the newest rows of the window, the share that a warm start learns from.
    decay
        Of the old leaf values, where they are renewed.
    """

    name: str
    scratch: int = 0
    warm: int = 0
    trees: int = 0
    rows: float = 1.0
    decay: float = 0.5


WAYS = (
    Way(name="scratch at every batch", scratch=1),
    Way(name="scratch at every 4th", scratch=4),
    Way(name="scratch once"),
    Way(name="10 trees more at every batch, scratch at every 13th", scratch=13, warm=1, trees=10),
    Way(name="10 trees more at every 4th, scratch at every 13th", scratch=13, warm=4, trees=10),
    Way(name="20 trees more at every 4th on a quarter of the rows, once", warm=4, trees=20, rows=0.25),
    Way(name="new leaf values at every batch, scratch once", warm=1, decay=0.5),
    Way(name="new leaf values at every 4th, scratch once", warm=4, decay=0.1),
    Way(name="new leaf values at every 4th, scratch at every 13th", scratch=13, warm=4, decay=0.1),
)


@dataclass
class Renewed:
    """The model of one stream, renewed in one way; ``cpu_s`` adds up."""

    way: Way
    model: lightgbm.Booster | None = None
    cpu_s: float = 0.0
    offset: float = 0.0
    scale: float = 1.0

    def renew(self, batch: int, X: Floats, y: Floats) -> None:
        """Learn from a window, oldest row first, where it is time to."""
        began, way = time.process_time(), self.way
        if self.model is None or (way.scratch and batch % way.scratch == 0):
            self.offset, self.scale = float(y.mean()), float(y.std()) or 1.0
            self.model = lightgbm.train(_params(), self._rows(X, y), num_boost_round=_trees())
        elif way.warm and batch % way.warm == 0:
            newest = slice(len(y) - int(way.rows * len(y)), None)
            if way.trees:
                rows = self._rows(X[newest], y[newest])
                self.model = lightgbm.train(_params(), rows, num_boost_round=way.trees, init_model=self.model)
            else:
                label = (y[newest] - self.offset) / self.scale
                self.model = self.model.refit(X[newest], label, decay_rate=way.decay)
        self.cpu_s += time.process_time() - began

    def predict(self, X: Floats) -> Floats:
        """Forecasts, shape (n,)."""
        assert self.model is not None
        return self.offset + self.scale * np.asarray(self.model.predict(X, num_threads=1))

    def _rows(self, X: Floats, y: Floats) -> lightgbm.Dataset:
        label = (y - self.offset) / self.scale
        return lightgbm.Dataset(X, label=label, params=_params(), free_raw_data=False)


def _params() -> dict[str, object]:
    return {key: value for key, value in DEFAULTS.items() if key != "num_iterations"} | {"seed": 0}


def _trees() -> int:
    found = DEFAULTS["num_iterations"]
    assert isinstance(found, int)
    return found


def measured(scenario: Scenario, folder: Path, *, seed: int) -> tuple[Floats, Floats]:
    """Mean absolute losses, shape (ways, streams), and CPU seconds, shape (ways,)."""
    rows = rows_of(scenario, folder, seed=seed)
    frequency, horizon, batch, window = (
        parse_duration(text) for text in (scenario.frequency, scenario.horizon, scenario.batch, scenario.window)
    )
    wide = rows.pivot_table(index="ts", columns="stream", values="y").asfreq(pd.Timedelta(frequency))
    schedule = Schedule(
        anchor=wide.index[0].to_pydatetime().replace(tzinfo=UTC), frequency=frequency,
        horizon=horizon // frequency, batch=batch // frequency, train_window=window // frequency,
    )  # fmt: skip
    losses, spent = [], np.zeros(len(WAYS))
    for _, y in wide.items():
        made = [Renewed(way) for way in WAYS]
        losses.append(_lived(np.asarray(y, dtype=np.float64), schedule, made))
        spent += [one.cpu_s for one in made]
    return np.stack(losses, axis=1), spent


def _lived(y: Floats, schedule: Schedule, ways: Sequence[Renewed]) -> Floats:
    """Mean absolute loss of each way over the batches after the first window, shape (ways,)."""
    features = Features(schedule)
    X = features.build(y[None], start=0, first=0, last=len(y))[0]
    known = np.isfinite(y)
    first, end = schedule.train_window // schedule.batch, len(y) // schedule.batch
    total, n = np.zeros(len(ways)), 0
    for batch in range(first, end):
        origin = batch * schedule.batch
        window = np.flatnonzero(known[origin - schedule.train_window : origin]) + origin - schedule.train_window
        targets = np.flatnonzero(known[origin : origin + schedule.batch]) + origin
        if len(window) < schedule.train_window // 2 or not len(targets):
            continue
        for at, way in enumerate(ways):
            way.renew(batch - first, X[window], y[window])
            total[at] += np.abs(way.predict(X[targets]) - y[targets]).sum()
        n += len(targets)
    return total / max(n, 1)


def table(name: str, losses: Floats, spent: Floats) -> Table:
    """Losses and CPU time relative to the first way."""
    ratio = losses / losses[0]
    ratio = ratio[:, np.isfinite(ratio).all(axis=0)].mean(axis=1)
    made = Table(title=f"{name}: loss and CPU time relative to a training from scratch at every batch")
    for column in ("way", "loss", "CPU share", "cost at .3"):
        made.add_column(column, justify="left" if column == "way" else "right")
    for way, loss, share in zip(WAYS, ratio, spent / spent[0], strict=True):
        made.add_row(way.name, f"{loss:.3f}", f"{share:.3f}", f"{loss + 0.3 * share:.3f}")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table a set; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm_start", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="directory of the sets")
    parser.add_argument("--only", choices=[one.name for one in SETS], help="one set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    for scenario in SETS:
        if options.only in (None, scenario.name):
            losses, spent = measured(scenario, options.data, seed=options.seed)
            Console(width=110).print(table(scenario.name, losses, spent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
