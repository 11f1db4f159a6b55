"""Healthy losses with a known fault or none: what the level and power of the loss tests are measured on."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from mlma.core.blocks import Floats

BATCH = 96  # targets
SHIFT = 0.5  # standard deviations of the loss
WARM_UP = 200  # steps until an autoregression has forgotten its start
LONG_WARM_UP = 2000
HORIZON = 24
CYCLE = 24
RATE = 0.1
WEEK = 7
HALF_NORMAL_SD = math.sqrt(1.0 - 2.0 / math.pi)
T3_SD = math.sqrt(3.0 - 12.0 / math.pi**2)
SEASON_SD = math.sqrt(1.405 - 2.0 / math.pi)
EVENTS_SD = math.sqrt(RATE * (1.0 - RATE))
COUNTS_SD = math.sqrt(RATE)

Draw = Callable[[np.random.Generator, int, int], Floats]
Degrade = Callable[[np.random.Generator, Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Losses of healthy streams, and what becomes of a batch whose mean loss has risen.

    ``healthy`` makes losses of shape (streams, batches * BATCH); ``degrade`` takes a healthy batch (streams, BATCH)
    and returns a degraded one. ``season`` is what the engineer would set.
    """

    name: str
    healthy: Draw
    degrade: Degrade
    season: int = 1
    design: tuple[float, ...] = ()  # power that the design's table promises at 2, 3, 5, 8 reference batches
    has_own_level: bool = True  # False: the healthy losses are those of the row above


def _plus(sd: float) -> Degrade:
    return lambda _, losses: losses + SHIFT * sd


def _half_normal(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    return np.abs(rng.standard_normal((streams, targets)))


def _autoregression(rho: float, warm_up: int = WARM_UP) -> Draw:
    def draw(rng: np.random.Generator, streams: int, targets: int) -> Floats:
        noise = rng.standard_normal((streams, targets + warm_up)) * math.sqrt(1.0 - rho**2)
        return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=1)[:, warm_up:])

    return draw


def _errors_of(rho: float) -> Draw:
    return lambda rng, streams, targets: np.abs(_autoregression(rho)(rng, streams, targets))


def _overlap(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    total = np.cumsum(rng.standard_normal((streams, targets + HORIZON)), axis=1)
    return np.abs(total[:, HORIZON:] - total[:, :-HORIZON]) / math.sqrt(HORIZON)


def _cycle(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    return _half_normal(rng, streams, targets) * (1.0 + 0.9 * np.sin(2.0 * np.pi * np.arange(targets) / CYCLE))


def _events(rate: float) -> Draw:
    return lambda rng, streams, targets: (rng.random((streams, targets)) < rate).astype(np.float64)


def _counts(rate: float) -> Draw:
    return lambda rng, streams, targets: rng.poisson(rate, (streams, targets)).astype(np.float64)


def _anew(draw: Draw) -> Degrade:
    return lambda rng, losses: draw(rng, *losses.shape)


def _by_batch(rng: np.random.Generator, streams: int, targets: int, log_level: Floats) -> Floats:
    """Half-normal losses times a level that is constant in a batch; ``log_level`` has shape (streams, batches)."""
    return _half_normal(rng, streams, targets) * np.repeat(np.exp(log_level), BATCH, axis=1)


def _levels(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    log_level = 0.2 * _autoregression(0.5)(rng, streams, targets // BATCH)
    return _by_batch(rng, streams, targets, log_level)


def _slow(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    u = _autoregression(0.9928, LONG_WARM_UP)(rng, streams, targets)
    return _half_normal(rng, streams, targets) * np.exp(0.4 * u)


SHARED_WEEK = np.array([0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.4])
"""Log level by day of the week, the same in all streams."""


def _weekly(rng: np.random.Generator, streams: int, targets: int, profile: Floats) -> Floats:
    day = (np.arange(targets // BATCH) + rng.integers(WEEK)) % WEEK
    return _by_batch(rng, streams, targets, profile[:, day])


def _shared_week(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    return _weekly(rng, streams, targets, np.tile(SHARED_WEEK, (streams, 1)))


def _own_week(rng: np.random.Generator, streams: int, targets: int) -> Floats:
    return _weekly(rng, streams, targets, 0.3 * rng.standard_normal((streams, WEEK)))


HALF_NORMAL = _plus(HALF_NORMAL_SD)
PROCESSES = (
    Process(name="iid", healthy=_half_normal, degrade=HALF_NORMAL, design=(0.98, 1.0, 1.0, 1.0)),
    Process(name="AR(.5)", healthy=_errors_of(0.5), degrade=HALF_NORMAL, design=(0.92, 0.94, 0.97, 0.98)),
    Process(name="AR(.8)", healthy=_errors_of(0.8), degrade=HALF_NORMAL, design=(0.50, 0.57, 0.61, 0.66)),
    Process(name="overlap h = 24", healthy=_overlap, degrade=HALF_NORMAL, design=(0.16, 0.19, 0.20, 0.23)),
    Process(
        name="heavy tail t3", healthy=lambda rng, s, n: np.abs(rng.standard_t(3.0, (s, n))), degrade=_plus(T3_SD),
        design=(0.98, 0.99, 1.0, 1.0),
    ),
    Process(name="scale season", healthy=_cycle, degrade=_plus(SEASON_SD), design=(1.0, 1.0, 1.0, 1.0)),
    Process(
        name="0/1, p = .1", healthy=_events(RATE), degrade=_plus(EVENTS_SD), design=(0.46, 0.78, 0.98, 1.0)
    ),
    Process(
        name="0/1, more events", healthy=_events(RATE), degrade=_anew(_events(RATE + SHIFT * EVENTS_SD)),
        has_own_level=False,
    ),
    Process(name="counts, rate .1", healthy=_counts(RATE), degrade=_plus(COUNTS_SD), design=(0.64, 0.97, 1.0, 1.0)),
    Process(
        name="counts, higher rate", healthy=_counts(RATE), degrade=_anew(_counts(RATE + SHIFT * COUNTS_SD)),
        has_own_level=False,
    ),
    Process(name="AR(.5) between batches", healthy=_levels, degrade=HALF_NORMAL),
    Process(name="slow AR between losses", healthy=_slow, degrade=HALF_NORMAL),
    Process(name="weekly, shared", healthy=_shared_week, degrade=HALF_NORMAL, season=WEEK),
    Process(name="weekly, of its own", healthy=_own_week, degrade=HALF_NORMAL, season=WEEK),
)  # fmt: skip

SPARSE = tuple(
    Process(name=f"0/1, p = {rate:g}", healthy=_events(rate), degrade=_anew(_events(2.0 * rate)))
    for rate in (0.03, 0.01)
)
"""Three events and one event a batch."""


def simulate(process: Process, *, batches: int, streams: int, seed: int) -> tuple[Floats, Floats]:
    """Healthy and degraded losses, each of shape (batches, streams, BATCH); degraded batches replace healthy ones."""
    twin = next(i for i, other in enumerate((*PROCESSES, *SPARSE)) if other.name == process.name)
    rng = np.random.default_rng([seed, twin])
    losses = process.healthy(rng, streams, batches * BATCH).reshape(streams, batches, BATCH).transpose(1, 0, 2)
    return losses, np.stack([process.degrade(rng, batch) for batch in losses])
