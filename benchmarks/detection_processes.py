"""Synthetic losses of `benchmarks.detection`: healthy processes, and how the losses of each rise or spread.

Losses have shape (streams, batches, n): n targets to a batch. Every process has a mean loss near 1 for most streams;
streams differ in scale.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from mlma.core.blocks import Floats

WARM_UP = 200  # steps until an autoregression has forgotten its start
HORIZON = 24  # targets that a forecast is ahead, where horizons overlap
DAY = 24  # targets
RATE = 0.1  # of events and counts
SCALE_SD = 0.5  # of log scales of the streams of a fleet
BETWEEN_SD = 0.15  # of log batch levels that depend on each other
COMMON_SD = 0.094  # of the log common factor: .6 of the variance of an iid batch of 96
SPREAD_SD = 0.8  # of the log of the noise that widens losses; its mean is 1
WEEK = np.array([0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.4])  # log level of the days

Rng = np.random.Generator
Draw = Callable[[Rng, int, int, int], Floats]
Change = Callable[[Rng, Floats, Floats], Floats]


def multiplied(_rng: Rng, losses: Floats, factor: Floats) -> Floats:
    """Losses whose batches are multiplied by a factor, shape (batches,)."""
    return losses * factor[:, None]


def widened(rng: Rng, losses: Floats, factor: Floats) -> Floats:
    """Losses multiplied by a factor, shape (batches,), and by noise with mean 1."""
    noise = np.exp(SPREAD_SD * rng.standard_normal(losses.shape) - SPREAD_SD**2 / 2.0)
    return losses * noise * factor[:, None]


def more_events(rng: Rng, losses: Floats, factor: Floats) -> Floats:
    """0/1 losses whose rate is multiplied: some zeros become ones."""
    share = (RATE * factor - RATE) / (1.0 - RATE)
    return np.where(rng.random(losses.shape) < share[:, None], 1.0, losses)


def more_counts(rng: Rng, losses: Floats, factor: Floats) -> Floats:
    """Counts whose rate is multiplied: more are added."""
    return losses + rng.poisson(np.broadcast_to((RATE * (factor - 1.0))[:, None], losses.shape))


def burstier_counts(rng: Rng, losses: Floats, factor: Floats) -> Floats:
    """Counts drawn anew with the rate multiplied by a factor, shape (batches,), and mixed by a gamma of shape .25."""
    return rng.poisson(RATE * rng.gamma(0.25, 4.0, losses.shape) * factor[:, None]).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Healthy losses of one kind, and what a rise of their mean and of their spread does to them.

    Attributes
    ----------
    raised
        Losses of shape (streams, batches, n) whose mean is multiplied by a factor of shape (batches,).
    spread
        The same, and wider about that mean. None where the spread follows from the mean.
    warm_up
        Batches before the first one that is judged.
    season
        Batches to a cycle; 1 for none.
    moves_together
        Whether the streams of a fleet depend on each other.
    """

    name: str
    draw: Draw
    raised: Change = multiplied
    spread: Change | None = widened
    warm_up: int = 8
    season: int = 1
    moves_together: bool = False


def _iid(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    return np.abs(rng.standard_normal((streams, batches, n)))


def _autoregression(rho: float) -> Draw:
    def draw(rng: Rng, streams: int, batches: int, n: int) -> Floats:
        noise = rng.standard_normal((streams, batches * n + WARM_UP)) * math.sqrt(1.0 - rho**2)
        return np.abs(lfilter([1.0], [1.0, -rho], noise, axis=1)[:, WARM_UP:]).reshape(streams, batches, n)

    return draw


def _overlap(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    total = np.cumsum(rng.standard_normal((streams, batches * n + HORIZON)), axis=1)
    return np.abs(total[:, HORIZON:] - total[:, :-HORIZON]).reshape(streams, batches, n) / math.sqrt(HORIZON)


def _heavy(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    return np.abs(rng.standard_t(3.0, (streams, batches, n)))


def _daily_season(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    phase = np.arange(batches * n).reshape(batches, n)
    return _iid(rng, streams, batches, n) * (1.0 + 0.9 * np.sin(2.0 * np.pi * phase / DAY))


def _weekly_season(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    size = rng.uniform(0.5, 1.5, (streams, 1))
    level = np.exp(size * WEEK[np.arange(batches) % len(WEEK)])
    return _iid(rng, streams, batches, n) * level[:, :, None]


def _events(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    return (rng.random((streams, batches, n)) < RATE).astype(np.float64)


def _counts(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    return rng.poisson(RATE, (streams, batches, n)).astype(np.float64)


def _between(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    rho = 0.5
    noise = rng.standard_normal((streams, batches + WARM_UP)) * math.sqrt(1.0 - rho**2)
    level = np.exp(BETWEEN_SD * lfilter([1.0], [1.0, -rho], noise, axis=1)[:, WARM_UP:])
    return _iid(rng, streams, batches, n) * level[:, :, None]


def _common(rng: Rng, streams: int, batches: int, n: int) -> Floats:
    level = np.exp(COMMON_SD * rng.standard_normal(batches))
    return _iid(rng, streams, batches, n) * level[:, None]


PROCESSES = (
    Process(name="iid", draw=_iid),
    Process(name="AR(.5)", draw=_autoregression(0.5)),
    Process(name="AR(.8)", draw=_autoregression(0.8)),
    Process(name="overlap h = 24", draw=_overlap),
    Process(name="heavy tail t3", draw=_heavy),
    Process(name="daily scale season", draw=_daily_season),
    Process(name="weekly season", draw=_weekly_season, warm_up=14, season=7),
    Process(name="0/1, p = .1", draw=_events, raised=more_events, spread=None),
    Process(name="counts, rate .1", draw=_counts, raised=more_counts, spread=burstier_counts),
    Process(name="AR(.5) between batches", draw=_between),
    Process(name="common factor", draw=_common, moves_together=True),
)
"""Events and counts keep one scale; the losses of the others are scaled stream by stream (`healthy`)."""


def healthy(process: Process, rng: Rng, *, streams: int, batches: int, n: int) -> Floats:
    """Healthy losses of one fleet, shape (streams, batches, n), its streams of different scales."""
    losses = process.draw(rng, streams, batches, n)
    if process.raised is not multiplied:
        return losses
    return losses * np.exp(SCALE_SD * rng.standard_normal((streams, 1, 1)))
