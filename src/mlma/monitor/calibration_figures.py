"""The figures of a calibration: shares with their intervals, what was found of a drift, what settings do."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from mlma.core.blocks import Bools
from mlma.core.records import Certificate
from mlma.core.settings import FleetRule, LossTestName, TestingSettings
from mlma.monitor.sham import interval

WEEK = timedelta(days=7)

RISES = (0.1, 0.25, 0.5, 1.0)
"""Relative rises of the loss that are put in, unless told otherwise."""

HEADLINE = 0.25
"""The rise that settings are compared by: the nearest one of those asked for."""

FACTORS = (2, 4)
"""Longer batches that are tried."""

TRIALS = 400
"""Degraded streams that are aimed at for every drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What is put into a stream from some batch on: a rise at once, or one that grows every week (both relative)."""

    rise: float = 0.0
    per_week: float = 0.0

    def factor(self, k: int, batch: timedelta) -> float:
        """What the losses of the k-th batch, from 0, are multiplied with; of a ramp, in the middle of the batch.

        Examples
        --------
        >>> Drift(rise=0.25).factor(3, WEEK), round(Drift(per_week=0.01).factor(3, WEEK), 4)
        (1.25, 1.0354)
        """
        return float((1.0 + self.rise) * (1.0 + self.per_week) ** ((k + 0.5) * (batch / WEEK)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with its 95 % interval (Wilson, 1927), from as many tests as count as independent."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What is found of one drift.

    Attributes
    ----------
    drift
        What was put in; nothing at all for what alarms by chance.
    within
        Batches after the onset, ascending; the last one is how far streams were followed.
    caught
        Share of the streams with an alarm within so many batches.
    delay
        Median batches to the first alarm, 1 for the first batch; NaN where fewer than half were caught.
    """

    drift: Drift
    within: tuple[int, ...]
    caught: tuple[Share, ...]
    delay: float

    @property
    def at_once(self) -> Share:
        """Caught at the first batch."""
        return self.caught[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """One fleet rule: alarms a batch on the losses as they are, and what it finds of the headline drift."""

    rule: FleetRule
    mean: float
    p99: float
    some: float  # share of the batches with any alarm
    power: Power | None  # None where no drift could be put in


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one choice of settings does on the losses.

    Attributes
    ----------
    level
        Share of p <= alpha on the streams as they are, true drift included; ``certificate`` has it on sham streams.
    alarms
        Mean alarms a batch, as they are.
    incidents
        Incidents in all batches, as they are.
    chance
        What alarms where nothing was put in, in the same streams and batches as ``power``; None where the losses
        are too few to put anything in.
    power
        By drift.
    rules
        Of the fleet; empty where they were not compared.
    """

    settings: TestingSettings
    batch: timedelta
    n_batches: int
    n_streams: int
    certificate: Certificate
    level: Share
    alarms: float
    incidents: int
    chance: Power | None = None
    power: tuple[Power, ...] = ()
    rules: tuple[RuleFigures, ...] = ()

    def headline(self) -> Power | None:
        """Power at the rise that settings are compared by; None where nothing could be put in."""
        steps = [one for one in self.power if not one.drift.per_week]
        return min(steps, key=lambda one: abs(one.drift.rise - HEADLINE), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Everything that was measured; ``main`` are the settings asked for.

    Attributes
    ----------
    n_targets
        Losses of a stream in a complete batch.
    missing
        Share of the losses that are not there.
    ramp, ramp_chance
        What is found of a ramp, and what alarms without it; None where none was asked for or the losses are few.
    alphas, tests, batches
        The same losses under other levels, loss tests, and lengths or seasons of a batch.
    """

    main: Measured
    n_targets: int
    missing: float
    ramp: Power | None = None
    ramp_chance: Power | None = None
    alphas: tuple[Measured, ...] = ()
    tests: tuple[Measured, ...] = ()
    batches: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be measured beside the settings themselves.

    Attributes
    ----------
    rises
        Relative rises of the loss that are put in.
    ramp
        Relative rise a week, 0 for none.
    alphas
        Other levels.
    tests
        Loss tests to compare; the one of the settings is always among them.
    factors
        Longer batches, as multiples.
    trials
        Degraded streams that are aimed at for every drift; the time that a calibration takes grows with them.
    """

    rises: tuple[float, ...] = RISES
    ramp: float = 0.0
    alphas: tuple[float, ...] = ()
    tests: tuple[LossTestName, ...] = tuple(LossTestName)
    factors: tuple[int, ...] = FACTORS
    trials: int = TRIALS


def share_of(hits: Bools, counted: Bools) -> Share:
    """Share of the counted cells that are hits, arrays of shape (batches or rounds, streams)."""
    n = int(np.count_nonzero(counted))
    share = float(np.count_nonzero(hits & counted) / n) if n else float("nan")
    low, high = interval(share, independent_tests(hits, counted), 0.95)
    return Share(share=share, low=low, high=high, n=n)


def independent_tests(hits: Bools, counted: Bools) -> float:
    """How many independent tests say as much as these do, which share batches and streams.

    Parameters
    ----------
    hits, counted
        Shape (batches or rounds, streams): alarms, and the cells that count.

    Returns
    -------
    float
        Number of the counted cells divided by their design effect, the larger one of taking rows and of taking
        columns as clusters (Kish, 1965, Survey Sampling, section 5.4), at least 1.

    Examples
    --------
    >>> same = np.repeat(np.eye(10, 1, dtype=bool), 20, axis=1)  # 20 streams that always alarm together
    >>> round(independent_tests(same, np.ones((10, 20), dtype=bool)))
    9
    """
    n = int(np.count_nonzero(counted))
    share = np.count_nonzero(hits & counted) / max(1, n)
    if share in (0.0, 1.0):
        return float(n)
    effect = 1.0
    for axis in (0, 1):
        total = counted.sum(axis=axis)
        some = total > 0
        clusters = int(np.count_nonzero(some))
        if clusters > 1:
            away = (hits & counted).sum(axis=axis)[some] - share * total[some]
            variance = float(np.sum(np.square(away))) * clusters / (clusters - 1)
            effect = max(effect, variance / (n * share * (1.0 - share)))
    return n / effect
