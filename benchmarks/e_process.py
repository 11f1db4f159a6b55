"""The e-process: how often a healthy stream ever alarms, and how late a changed one does, by what it is predicted from.

Run with ``python -m benchmarks.e_process [--streams 2000] [--json]``. Tested numbers are normal, of standard deviation
1, and predicted with the product's own prediction, prior and p-value; ways to predict and to bet that the product does
not use are there to compare with.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from mlma.core.blocks import Floats
from mlma.core.e_process import RISES, EProcess
from mlma.core.loss_tests import moderated
from mlma.core.prediction import Dependence, Prediction, predict
from mlma.monitor.all_values import AllValues
from mlma.monitor.prior_memory import fleet_prior

UPDATES = 200
ALPHA = 0.05
ONSETS = (20, 100)  # updates before the change
STEPS = (1.0, 2.0, 3.0)  # standard deviations of a value
WARM_UP = 200  # updates until an autoregression has forgotten its start
NO_YARDSTICK = np.empty(0)


class Past(Protocol):
    """What the next value is predicted from."""

    def predict(self, at: int) -> Prediction:
        """Predict update ``at``."""

    def add(self, values: Floats, at: int) -> None:
        """Take in the values of an update, shape (streams,)."""


class Everything:
    """All values since the start, as the product has it."""

    def __init__(self, streams: int, rho: float) -> None:
        self._values, self._rho, self._streams = AllValues(streams, 0), rho, np.arange(streams)

    def predict(self, at: int) -> Prediction:
        """Predict update ``at``."""
        return self._values.predict(at, NO_YARDSTICK, self._rho)

    def add(self, values: Floats, at: int) -> None:
        """Take in the values of an update."""
        self._values.add(values, np.empty((0, len(values))), self._streams, batch=at)


class Some:
    """The newest values, or the first ones, frozen."""

    def __init__(self, streams: int, size: int, *, is_frozen: bool) -> None:
        self._streams, self._size, self._is_frozen = streams, size, is_frozen
        self._values: list[Floats] = []

    def predict(self, at: int) -> Prediction:
        """Predict update ``at``."""
        if not self._values:
            return Prediction.nothing(self._streams)
        lags = np.arange(1, len(self._values) + 1) + (at - len(self._values) if self._is_frozen else 0)
        return predict(np.stack(self._values[::-1]), lags, Dependence())

    def add(self, values: Floats, at: int) -> None:  # noqa: ARG002  as every past
        """Take in the values of an update."""
        if not self._is_frozen or len(self._values) < self._size:
            self._values = [*self._values, values][-self._size :]


def spread_bets(z: Floats) -> Floats:
    """Log of the wealth of the product's bets, whose starts are spread over time; for z and of (updates, streams)."""
    process = EProcess.fresh(z.shape[1])
    return np.stack([process.update(ndtr(-row)) for row in z])


def bets_at_once(z: Floats) -> Floats:
    """The same of bets that all start at the first update."""
    wealth = np.cumsum(np.nan_to_num(_log_ratio(z)), axis=1)
    return np.asarray(np.logaddexp.reduce(wealth, axis=0) - np.log(len(RISES)))


def restarted_bets(z: Floats) -> Floats:
    """The same of an e-detector (Shiryaev and Roberts): a whole bet starts at every update."""
    ratio = np.nan_to_num(_log_ratio(z))
    wealth, found = np.full(ratio.shape[::2], -np.inf), []
    for step in ratio.transpose(1, 0, 2):
        wealth = np.logaddexp(wealth, 0.0) + step
        found.append(np.logaddexp.reduce(wealth, axis=0) - np.log(len(RISES)))
    return np.stack(found)


def _log_ratio(z: Floats) -> Floats:
    return RISES[:, None, None] * z - np.square(RISES)[:, None, None] / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One row: losses, what they are predicted from, and how is bet on it."""

    losses: str
    rho: float  # of the values
    reference: str
    past: Callable[[int], Past]
    bets: Callable[[Floats], Floats] = spread_bets


WAYS = (
    Way(losses="iid", rho=0.0, reference="all since the reset (the product)", past=lambda n: Everything(n, 0.0)),
    Way(losses="iid", rho=0.0, reference="newest 8", past=lambda n: Some(n, 8, is_frozen=False)),
    Way(losses="iid", rho=0.0, reference="first 4, frozen", past=lambda n: Some(n, 4, is_frozen=True)),
    Way(
        losses="iid", rho=0.0, reference="all, every bet from the first update on",
        past=lambda n: Everything(n, 0.0), bets=bets_at_once,
    ),
    Way(
        losses="iid", rho=0.0, reference="all, a whole bet from every update on (e-detector)",
        past=lambda n: Everything(n, 0.0), bets=restarted_bets,
    ),
    Way(losses="AR(.5)", rho=0.5, reference="all since the reset (the product)", past=lambda n: Everything(n, 0.5)),
    Way(losses="AR(.5)", rho=0.5, reference="all, dependence ignored", past=lambda n: Everything(n, 0.0)),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one way; delays are medians in updates by onset and step, infinite where half never alarm."""

    losses: str
    reference: str
    ever: float  # share of healthy streams that alarm within `UPDATES`
    delay: dict[int, dict[float, float]]


def values(rho: float, *, streams: int, seed: int) -> Floats:
    """Stationary values of standard deviation 1, shape (updates, streams)."""
    rng = np.random.default_rng([seed, round(1000 * rho)])
    made = np.empty((WARM_UP + UPDATES, streams))
    made[0] = rng.standard_normal(streams)
    for t in range(1, len(made)):
        made[t] = rho * made[t - 1] + np.sqrt(1.0 - rho**2) * rng.standard_normal(streams)
    return made[WARM_UP:]


def scores(tested: Floats, past: Past) -> Floats:
    """Normal scores of the p-values, shape (updates, streams); NaN where there is nothing to predict from."""
    found = []
    for at, row in enumerate(tested):
        prediction = past.predict(at)
        p = moderated(row, prediction, fleet_prior(prediction), min_reference=2).p_value
        found.append(-ndtri(np.maximum(p, np.finfo(float).tiny)))
        past.add(row, at)
    return np.stack(found)


def measure(way: Way, *, streams: int, seed: int = 1) -> Row:
    """Figures of one way, on the same values for all."""
    healthy = values(way.rho, streams=streams, seed=seed)

    def first(tested: Floats) -> Floats:
        alarm = way.bets(scores(tested, way.past(streams))) >= -np.log(ALPHA)
        return np.where(alarm.any(axis=0), alarm.argmax(axis=0) + 1.0, np.inf)

    delay: dict[int, dict[float, float]] = {}
    for onset in ONSETS:
        delay[onset] = {}
        for step in STEPS:
            found = first(healthy + step * (np.arange(UPDATES) >= onset)[:, None])
            at_risk = found > onset
            delay[onset][step] = float(np.median(found[at_risk] - onset)) if at_risk.any() else float("nan")
    return Row(
        losses=way.losses, reference=way.reference, ever=float(np.isfinite(first(healthy)).mean()), delay=delay
    )  # fmt: skip


def render(rows: Sequence[Row]) -> str:
    """Table in Markdown."""
    steps = " / ".join(f"{step:g}" for step in STEPS)
    head = ["losses", "predicted from", f"ever alarms in {UPDATES} healthy updates"]
    head += [f"median delay of {steps} sd, after {onset}" for onset in ONSETS]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | ---: |" + " ---: |" * len(ONSETS)]
    for row in rows:
        delays = [" / ".join(_updates(row.delay[onset][step]) for step in STEPS) for onset in ONSETS]
        lines.append("| " + " | ".join([row.losses, row.reference, f"{row.ever:.3f}", *delays]) + " |")
    return "\n".join(lines)


def _updates(delay: float) -> str:
    return f"{delay:.0f}" if np.isfinite(delay) else "-"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.e_process", description=__doc__)
    parser.add_argument("--streams", type=int, default=2000, help="streams a row")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    rows = [measure(way, streams=options.streams) for way in WAYS]
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else render(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
