"""How the blend fares beside LightGBM retrained at every batch on streams that change, without and with quick members.

Run with ``python -m benchmarks.regime_changes --data FOLDER``; the folder holds the sets as Parquet. Streams of real
data get one change each, at a time of their own, and are replayed. See docs/adr/0022-quick-members.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mlma.bootstrap.replay import run_replay
from mlma.core.blocks import Floats
from mlma.core.settings import QUICK, Evergreen
from mlma.runtime.replay_data import ReplayRequest

DAY = 24
LEARNING = tuple(family for family in Evergreen if family not in QUICK)
EARLIEST, LATEST = 0.25, 0.6
"""Share of the time after the warm-up at which a stream changes."""

KNOWN_SHARE, SMALLEST_MEDIAN = 0.7, 5.0
"""Streams with fewer values, or smaller ones, are left alone: what is done to them would not show."""


class Change(StrEnum):
    """What happens to a stream."""

    TIMES_3 = "times 3"  # the level, for good
    BY_3 = "by 3"
    SHAPE = "shape"  # the day is shifted by eight hours
    NOISE = "noise"  # half of the level is added as white noise
    CONSTANT = "constant"  # one value from now on
    WAKES = "wakes up"  # a fiftieth of it before
    ONE_DAY = "one day"  # a tenth of the level for a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set and how it is replayed."""

    dataset: str
    batch: str
    train_window_days: int


CASES = (
    Case(dataset="us_flights_2001_airport_15min", batch="1d", train_window_days=56),
    Case(dataset="eia930_us_demand_hourly_2018_2020", batch="7d", train_window_days=140),
)


def changed(y: Floats, change: Change, at: int, rng: np.random.Generator) -> Floats:
    """Values by the hour, shape (n,), that change at an index; what is missing stays so."""
    made, after, known = y.copy(), np.arange(len(y)) >= at, np.isfinite(y)
    level = float(np.nanmean(np.abs(y[max(0, at - 28 * DAY) : at])))
    match change:
        case Change.TIMES_3:
            made[after] *= 3.0
        case Change.BY_3:
            made[after] /= 3.0
        case Change.SHAPE:
            made = np.where(after, np.roll(y, 8), y)
        case Change.NOISE:
            made = made + np.where(after, 0.5 * level * rng.standard_normal(len(y)), 0.0)
        case Change.CONSTANT:
            made[after & known] = round(level)
        case Change.WAKES:
            made[~after] *= 0.02
        case Change.ONE_DAY:
            made[at : at + DAY] = np.where(known[at : at + DAY], 0.1 * level, np.nan)
    return made


def injected(folder: Path, case: Case, n_each: int, seed: int) -> pd.DataFrame:
    """Rows of streams with a change each, named by it."""
    rows = pd.read_parquet(folder / f"{case.dataset}.parquet")
    rows = rows.assign(ts=pd.to_datetime(rows["ts"]).dt.floor("1h"))
    if "y_cleaned" in rows:  # where the set says what a fault should have been
        rows = rows.assign(y=rows["y_cleaned"].fillna(rows["y"]))
    wide = rows.pivot_table(index="ts", columns="stream", values="y", aggfunc="sum", observed=True)
    wide = wide.reindex(pd.date_range(wide.index[0].normalize(), wide.index[-1], freq="1h"))
    usable = wide.columns[(wide.notna().mean() > KNOWN_SHARE) & (wide.median() > SMALLEST_MEDIAN)]
    rng = np.random.default_rng(seed)
    drawn = rng.choice(usable.to_numpy(), n_each * len(Change), replace=False)
    warm, parts = case.train_window_days * DAY, []
    for k, stream in enumerate(drawn):
        change = list(Change)[k % len(Change)]
        at = int(warm + rng.uniform(EARLIEST, LATEST) * (len(wide) - warm))
        y = changed(wide[stream].to_numpy(dtype=np.float64), change, at, rng)
        parts.append(pd.DataFrame({"stream": f"{change}/{stream}", "ts": wide.index, "y": y}).dropna())
    return pd.concat(parts, ignore_index=True)


def mean_losses(data: Path, case: Case, policy: str, evergreen: Sequence[Evergreen]) -> pd.Series:
    """Mean loss of every stream under a policy."""
    report = run_replay(
        ReplayRequest(
            data=data, frequency="1h", horizon="24h", batch=case.batch, train_window=f"{case.train_window_days}d",
            policies=(policy,), executor="inline", settings={"life.evergreen": [str(one) for one in evergreen]},
        )
    )  # fmt: skip
    (tally,) = report.tallies
    names = [stream.name for stream in tally.engine.fleet.streams][: tally.n_streams]
    return pd.Series(tally.loss / np.where(tally.n > 0, tally.n, np.nan), index=names)


def measured(folder: Path, case: Case, n_each: int, seed: int) -> pd.DataFrame:
    """Mean loss relative to ``always`` by change, without and with the quick members."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "changed.parquet"
        injected(folder, case, n_each, seed).to_parquet(data)
        always = mean_losses(data, case, "always", tuple(Evergreen))
        relative = pd.DataFrame(
            {
                name: mean_losses(data, case, "mlma-blend", evergreen) / always
                for name, evergreen in (("without", LEARNING), ("with", tuple(Evergreen)))
            }
        )
    return relative.groupby([name.split("/")[0] for name in relative.index], sort=False).mean()


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table a set; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regime_changes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the sets as Parquet")
    parser.add_argument("--each", type=int, default=4, metavar="N", help="streams with each change (default: 4)")
    parser.add_argument("--seed", type=int, default=1, help="of streams and times (default: 1)")
    options = parser.parse_args(argv)
    page = Console(width=None if sys.stdout.isatty() else 140)
    for case in CASES:
        found = measured(options.data, case, options.each, options.seed)
        table = Table(title=f"{case.dataset}, batches of {case.batch}", caption="mean loss of mlma-blend over always")
        for heading in ("change", "learning members", "and quick ones"):
            table.add_column(heading, justify="left" if heading == "change" else "right")
        for change, row in found.iterrows():
            table.add_row(str(change), f"{row['without']:.3f}", f"{row['with']:.3f}")
        table.add_row("all", f"{found['without'].mean():.3f}", f"{found['with'].mean():.3f}")
        page.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
