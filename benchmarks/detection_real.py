"""Healthy losses of real streams for `benchmarks.detection`: seasonal naive forecasts in calm stretches.

The stretches are left as they are ("untouched copies"); drifts are injected into some streams afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.detection_processes import Process
from benchmarks.detection_samples import Sample, Sizes, in_turn
from mlma.core.blocks import Floats

TURNS = 10  # one stream in ten drifts at a time, each once
LEAST_MEAN = 1e-9
QUIET = 0.1
"""Share of batches without any loss above which a stream is left out: nothing is forecast there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file: how its outcomes are read, targets of a week (the naive's lag) and of a batch, calm stretches."""

    name: str
    file: str
    lag: int
    n: int
    stretches: int
    read: Callable[[pd.DataFrame], pd.Series]


def _as_it_is(frame: pd.DataFrame) -> pd.Series:
    return frame["y"]


def _repaired(frame: pd.DataFrame) -> pd.Series:
    """Where a reporting fault is labelled, the repaired value: bad data is no drift."""
    return frame["y"].where(frame["category"] == "OKAY", frame["y_cleaned"])


EIA = "eia930_us_demand_hourly_2018_2020.parquet"
SOURCES = (
    Source(name="M4, days", file="m4_hourly.parquet", lag=168, n=24, stretches=1, read=_as_it_is),
    Source(name="US demand, days", file=EIA, lag=168, n=24, stretches=3, read=_repaired),
    Source(name="US demand, weeks", file=EIA, lag=168, n=168, stretches=1, read=_repaired),
    Source(
        name="US flights, days",
        file="us_flights_2001_airport_15min.parquet",
        lag=672,
        n=96,
        stretches=2,
        read=_as_it_is,
    ),
)


def present(directory: Path | None) -> list[Source]:
    """Sources whose file is there."""
    return [] if directory is None else [s for s in SOURCES if (directory / s.file).is_file()]


def naive_losses(source: Source, directory: Path) -> Floats:
    """Absolute losses of the forecast "as a week ago", shape (streams, batches, n), of whole batches.

    Streams are cut to the shortest one's length from their own beginning, so that all have every batch.
    """
    frame = pd.read_parquet(directory / source.file)
    y = source.read(frame)
    series = [part.to_numpy(dtype=np.float64) for _, part in y.groupby(frame["stream"], observed=True)]
    length = min(len(values) for values in series)
    outcomes = np.stack([values[:length] for values in series])
    losses = np.abs(outcomes[:, source.lag :] - outcomes[:, : -source.lag])
    batches = losses.shape[1] // source.n
    return losses[:, : batches * source.n].reshape(len(losses), batches, source.n)


def calm_stretches(losses: Floats, *, batches: int, wanted: int) -> Floats:
    """Calmest stretches of the fleet, shape (stretches, streams, batches, n).

    The record is cut into stretches of so many batches, one after the other. A stretch's unrest is the median over
    streams of the absolute log ratio of the mean losses of its second and first half; the stretches with the least
    are taken, in order of time. Streams with a missing loss in any of them, or with more than `QUIET` of their
    batches without loss, are left out. The choice is made for the fleet as a whole and before any detector runs.
    """
    count = losses.shape[1] // batches
    cut = losses[:, : count * batches].reshape(len(losses), count, batches, -1)
    half = batches // 2
    first, second = (np.nanmean(part, axis=(2, 3)) for part in (cut[:, :, :half], cut[:, :, half:]))
    unrest = np.nanmedian(np.abs(np.log((second + LEAST_MEAN) / (first + LEAST_MEAN))), axis=0)
    chosen = cut[:, np.sort(np.argsort(unrest)[:wanted])]
    silent = (chosen.sum(axis=3) == 0.0).mean(axis=(1, 2))
    kept = ~np.isnan(chosen).any(axis=(1, 2, 3)) & (silent <= QUIET)
    return np.moveaxis(chosen[kept], 1, 0)


def real(source: Source, directory: Path, sizes: Sizes) -> Sample:
    """Fleets of a source: one half of the streams finds the knobs, streams of the other half take turns in drifting.

    Each stretch is a fleet. Where the record is too short for the long run, the drifts that need it are left out.
    """
    turns = min(TURNS, sizes.every)
    sizes = replace(sizes, n=source.n, every=min(TURNS, sizes.every), turns=turns)
    process = Process(name=source.name, draw=_not_drawn)
    losses = naive_losses(source, directory)
    full = process.warm_up + sizes.judged(is_long=True)
    short = process.warm_up + sizes.judged(is_long=False)
    batches = full if losses.shape[1] >= full else short
    stretches = calm_stretches(losses, batches=batches, wanted=source.stretches)
    evaluation = stretches[:, 1::2]
    drifted = in_turn(len(evaluation), evaluation.shape[1], every=sizes.every, turns=turns)
    return Sample(
        process=process,
        calibration=stretches[:, 0::2],
        evaluation=evaluation,
        drifted=drifted,
        cluster=np.nonzero(drifted)[2],
        sizes=sizes,
    )


def _not_drawn(*_: object) -> Floats:
    raise NotImplementedError("real losses are read, not drawn")
