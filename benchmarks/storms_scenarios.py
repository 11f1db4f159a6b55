"""Which streams and periods of which sets are replayed for which dated events, and which of their values are faults."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.storms_events import Event

SOUND = ("OKAY", "MISSING")
"""Values of `category` in the EIA set that are no fault of what is seen."""

HUGE = 1e9
"""Injected value that no stream can have."""

TIMES_LARGEST = 2.0
"""Injected values that a stream might have: so many times the largest that it has shown."""

ONE_ORDER = 50_000.0
"""Units a day above which retail demand is the one order that was cancelled the same day."""

Frame = pd.DataFrame
Flag = Callable[[Frame], Frame]
"""Adds a column `fault` to rows of stream, ts, y and the set's own columns; may change values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One replay: streams of a set over a period, and the events of the list that fall into it."""

    name: str
    dataset: str
    streams: tuple[str, ...]  # names; those of an event's patterns are among them
    first: str  # day
    last: str
    frequency: str = "1h"
    horizon: str = "24h"
    batch: str = "1d"
    window: str = "56d"
    events: tuple[str, ...] = ()  # how their descriptions in the list begin
    others: int = 0  # further streams, drawn by seed
    flag: Flag | None = None


def by_category(rows: Frame) -> Frame:
    """Faults as the EIA set labels them; hours without a value are none."""
    return rows.assign(fault=~rows["category"].isin(SOUND) & rows["y"].notna())


def the_one_order(rows: Frame) -> Frame:
    """The largest order of the retail set."""
    return rows.assign(fault=rows["y"] > ONE_ORDER)


def injected(rows: Frame) -> Frame:
    """Put faults into the last third of a copy: single values and a day of `HUGE`, half a day of merely too large ones.

    The first stream by name gets single values, the second a whole day, the third 12 hours of values of
    `TIMES_LARGEST` times its largest; the others stay as they are.
    """
    rows = rows.reset_index(drop=True).assign(fault=False)
    for stream, at, value in _injections(rows):
        rows.loc[at, "y"] = HUGE if value is None else value * rows.loc[rows["stream"] == stream, "y"].max()
        rows.loc[at, "fault"] = True
    return rows


def _injections(rows: Frame) -> list[tuple[str, pd.Index, float | None]]:
    names = sorted(rows["stream"].unique())[:3]
    start = (rows["ts"].min() + (rows["ts"].max() - rows["ts"].min()) * 2 / 3).normalize()
    made: list[tuple[str, pd.Index, float | None]] = []
    for name, hours, value in zip(
        names, (range(12, 12 + 7 * 24, 24), range(24), range(8, 20)), (None, None, TIMES_LARGEST), strict=False
    ):
        times = [start + pd.Timedelta(hours=hour) for hour in hours]
        made.append((name, rows.index[(rows["stream"] == name) & rows["ts"].isin(times)], value))
    return made


FLIGHTS = "us_flights_2001_airport_15min"
EIA = "eia930_us_demand_hourly_2018_2020"
UBER = "uber_nyc_2015_borough_hourly"
RETAIL = "online_retail_sku_daily"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="flights", dataset=FLIGHTS, first="2001-01-01", last="2001-06-30",
        streams=("IAH", "HOU", "BOS", "LGA", "PWM", "DEN", "COS", "ATL", "LAX", "MSP"),
        events=("north-east snow storm", "Colorado blizzard", "tropical storm Allison"),
    ),
    Scenario(
        name="uber", dataset=UBER, first="2015-01-01", last="2015-03-15", window="21d", events=("snow storm Juno",),
        streams=("ALL", "Bronx", "Brooklyn", "Manhattan", "Queens", "Staten Island"),
    ),
    Scenario(
        name="eia, hurricane Michael", dataset=EIA, first="2018-10-01", last="2019-04-30", batch="7d", window="140d",
        streams=("TAL", "SOCO", "FPC", "JEA", "TVA", "SCL"), events=("hurricane Michael",),
    ),
    Scenario(
        name="eia, COVID", dataset=EIA, first="2019-09-01", last="2020-07-31", batch="7d", window="140d",
        streams=("NYIS-ZONJ", "NYIS-ZONA", "ISNE-4001", "PJM-PS", "CISO-PGAE", "MISO-0001", "ERCO", "TVA"),
        events=("COVID-19",),
    ),
    *(
        Scenario(
            name=f"eia, summer 2020, {name}", dataset=EIA, first="2020-02-01", last="2020-09-30", batch=batch,
            window="140d", streams=("PJM-JC", "PJM-AE", "PJM-PS", "NYIS-ZONK", "MISO-8910", "TVA", "SCL"),
            events=("tropical storm Isaias", "hurricane Laura"),
        )
        for name, batch in (("weekly batches", "7d"), ("daily batches", "1d"))
    ),
    Scenario(
        name="eia, faults", dataset=EIA, first="2018-10-01", last="2020-09-30", batch="7d", window="140d",
        streams=("CISO-VEA", "SWPP-WR", "SWPP-INDN", "BANC", "IID", "PACE", "TIDC", "AZPS"), flag=by_category,
    ),
    Scenario(
        name="retail, one order", dataset=RETAIL, first="2009-12-01", last="2011-12-09", frequency="1d",
        horizon="7d", batch="7d", window="364d", streams=("23166",), others=30, flag=the_one_order,
    ),
    Scenario(
        name="flights, injected", dataset=FLIGHTS, first="2001-01-01", last="2001-05-10",
        streams=("ATL", "DFW", "ORD", "PHX", "STL"), flag=injected,
    ),
)  # fmt: skip


def listed_events(path: Path, scenario: Scenario) -> list[Event]:
    """Dated events of a scenario, with the streams of it that they struck.

    Raises
    ------
    ValueError
        The list knows no event of that name, or it struck no stream of the scenario.
    """
    with path.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["dataset"] == scenario.dataset]
    made = []
    for name in scenario.events:
        line = next((line for line in lines if line["event"].startswith(name)), None)
        struck = () if line is None else named(line["streams"], scenario.streams)
        if line is None or not struck:
            raise ValueError(f"{path}: no event {name!r} of {scenario.dataset} that struck {scenario.streams}")
        made.append(Event(name=name, start=_time(line["start"]), end=_time(line["end"], is_end=True), streams=struck))
    return made


def named(patterns: str, streams: Sequence[str]) -> tuple[str, ...]:
    """Streams that a list of patterns names, in their order; words after a pattern are ignored.

    Examples
    --------
    >>> named("NYIS-*, MISO-* most streams", ("TVA", "MISO-0001", "NYIS-ZONJ"))
    ('MISO-0001', 'NYIS-ZONJ')
    """
    globs = [part.split()[0] for part in re.split(r"[,;]|\band\b", patterns) if part.strip()]
    return tuple(stream for stream in streams if any(fnmatchcase(stream, glob) for glob in globs))


def _time(text: str, *, is_end: bool = False) -> datetime:
    """Return a time of the list, UTC; an end without an hour is that of its day."""
    time = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return time + timedelta(hours=23, minutes=45) if is_end and len(text) == len("2001-01-01") else time


def rows_of(scenario: Scenario, folder: Path, *, seed: int) -> Frame:
    """Rows of a scenario at its frequency: stream, ts, y and, where it has faults, `fault`; sorted by stream and time.

    Raises
    ------
    OSError
        The set is not in the folder.
    """
    rows = pd.read_parquet(folder / f"{scenario.dataset}.parquet")
    rows["stream"] = rows["stream"].astype(str)
    chosen = set(scenario.streams)
    if scenario.others:
        rest = sorted(set(rows["stream"].unique()) - chosen)
        chosen.update(np.random.default_rng(seed).choice(rest, min(scenario.others, len(rest)), replace=False).tolist())
    last = pd.Timestamp(scenario.last) + pd.Timedelta(days=1)
    rows = rows[rows["stream"].isin(chosen) & (rows["ts"] >= pd.Timestamp(scenario.first)) & (rows["ts"] < last)]
    rows = _summed(rows, scenario.frequency)
    rows = rows.astype({"y": np.float64})
    rows = rows if scenario.flag is None else scenario.flag(rows)
    kept = [name for name in ("stream", "ts", "y", "fault") if name in rows]
    return rows[kept].sort_values(["stream", "ts"], ignore_index=True)


def _summed(rows: Frame, frequency: str) -> Frame:
    """Rows finer than the frequency, added up; others as they are."""
    slot = rows["ts"].dt.floor(frequency)
    if (slot == rows["ts"]).all():
        return rows
    return rows.assign(ts=slot).groupby(["stream", "ts"], as_index=False)["y"].sum(min_count=1)


def flagged_times(rows: Frame) -> dict[str, np.ndarray]:
    """Times of the faults of each stream that has some."""
    if "fault" not in rows:
        return {}
    faults = rows[rows["fault"]]
    return {str(name): part["ts"].to_numpy() for name, part in faults.groupby("stream")}
