"""How many batches of real data look like a fault of the feed, and how many of these hold labelled faults.

Run with ``python -m benchmarks.faulty_batches --data FOLDER``; the folder holds the sets as Parquet. Each batch is
judged as the daemon judges it, by what came up to its end; see `mlma.core.suspicion`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.storms_scenarios import SOUND
from mlma.core.suspicion import odd_shares, suspicious

FAULTY_SHARE = 0.05
"""Share of a batch's values with a label of a fault above which the batch counts as faulty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set cut into batches."""

    dataset: str
    frequency: str
    batch: int  # slots
    reach: int  # slots that say what is usual: a train window and what the features look back


DAY, WEEK = 24, 168
CASES = (
    Case(dataset="eia930_us_demand_hourly_2018_2020", frequency="1h", batch=WEEK, reach=168 * DAY),
    Case(dataset="eia930_us_demand_hourly_2018_2020", frequency="1h", batch=DAY, reach=168 * DAY),
    Case(dataset="us_flights_2001_airport_15min", frequency="1h", batch=DAY, reach=84 * DAY),
    Case(dataset="bayarea_bikeshare_2014_15min", frequency="1h", batch=WEEK, reach=168 * DAY),
    Case(dataset="uber_nyc_2015_borough_hourly", frequency="1h", batch=WEEK, reach=84 * DAY),
    Case(dataset="montevideo_bus_hourly", frequency="1h", batch=DAY, reach=42 * DAY),
    Case(dataset="m4_hourly", frequency="1h", batch=DAY, reach=42 * DAY),
    Case(dataset="online_retail_sku_daily", frequency="1D", batch=7, reach=392),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Batches with values of one case."""

    n: int
    suspicious: int
    faulty: int
    both: int


def counted(folder: Path, case: Case) -> Counted:
    """Judge every batch of a set."""
    rows = pd.read_parquet(folder / f"{case.dataset}.parquet")
    labelled = "category" in rows
    rows = rows.assign(
        ts=pd.to_datetime(rows["ts"], utc=True).dt.floor(case.frequency),
        fault=(~rows["category"].isin(SOUND) & rows["y"].notna()) if labelled else False,
    )
    by = rows.groupby(["stream", "ts"], observed=True)
    every = pd.date_range(rows["ts"].min().normalize(), rows["ts"].max(), freq=case.frequency)
    long = by[["y", "fault"]].sum(min_count=1).reset_index()
    wide = {name: long.pivot_table(index="ts", columns="stream", values=name, observed=True) for name in ("y", "fault")}
    y, fault = (made.reindex(every).to_numpy(dtype=np.float64).T for made in wide.values())
    fault = np.nan_to_num(fault)
    season = WEEK if case.frequency == "1h" else 7
    n = looks = faulty = both = 0
    for end in range(case.batch, y.shape[1] + 1, case.batch):
        shares = odd_shares(y[:, max(0, end - case.reach) : end], batch=case.batch)
        found = suspicious(shares, batch=case.batch, season=season)
        bad = fault[:, end - case.batch : end].mean(axis=1) > FAULTY_SHARE
        n += int(np.isfinite(shares[:, -1]).sum())
        looks += int(found.sum())
        faulty += int(bad.sum())
        both += int((found & bad).sum())
    return Counted(n=n, suspicious=looks, faulty=faulty, both=both)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faulty_batches", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the sets as Parquet")
    options = parser.parse_args(argv)
    table = Table(title="Batches that look like a fault", caption="faulty: more than 5 % of the values have a label")
    for heading in ("set", "batch", "batches", "look so", "share", "faulty", "both"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for case in CASES:
        found = counted(options.data, case)
        table.add_row(
            case.dataset, f"{case.batch} x {case.frequency}", f"{found.n:,}", str(found.suspicious),
            f"{found.suspicious / found.n:.2%}", str(found.faulty), str(found.both),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
