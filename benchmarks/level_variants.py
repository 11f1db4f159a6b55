"""Variants of the moderated test, losers too: the second set of tables of docs/manual/loss-tests.md.

Run with ``python -m benchmarks.level_variants [--streams 4000] [--seeds 3] [--json]``. Each variant differs from the
product in one point, and all see the same losses.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from benchmarks import level_priors, level_tail
from benchmarks.level_power import ALPHAS, PROMISE, SIZES
from benchmarks.level_processes import BATCH, PROCESSES, SPARSE, Process, simulate
from mlma.core.blocks import Floats
from mlma.core.judge import either
from mlma.core.loss_tests import fit_prior, moderated
from mlma.core.prediction import Dependence, Prediction, predict
from mlma.monitor.dependence import DependenceMemory
from mlma.monitor.kernel import correlation

ANCHORED = 4  # batches
FEWEST_EVENTS = 5.0  # of a stream that is tested
LEAST_READY = 0.25  # share of streams that makes a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The moderated test with one point changed; the defaults are the product (adaptive reference)."""

    topic: str
    name: str
    exponent: float = 0.0  # of the power that batch means are taken to; 0 is the log
    events: float = 8.0  # typical events that are added to a batch
    by_zeros: bool = True  # times the share of zeros
    dependence: str = "predicted"  # or "ignored", "inflated"
    fit: level_priors.Fit = fit_prior
    has_trend: bool = False
    references: str = "adaptive"  # or how the anchored one is combined with it


PRODUCT = Variant(topic="product", name="adaptive reference")
VARIANTS = (
    PRODUCT,
    *(
        Variant(topic="transformation", name=name, exponent=exponent, events=0.0)
        for name, exponent in (("power 1/3", 1 / 3), ("power 1/2", 1 / 2), ("power 2/3", 2 / 3), ("identity", 1.0))
    ),
    *(
        Variant(
            topic="floor", name=f"{events:.0f} events{', by zeros' if zeros else ''}", events=events, by_zeros=zeros
        )
        for zeros in (True, False)
        for events in (2.0, 4.0, 8.0)
        if not (zeros and events == PRODUCT.events)
    ),
    Variant(topic="dependence", name="ignored", dependence="ignored"),
    Variant(topic="dependence", name="variance inflated only", dependence="inflated"),
    Variant(topic="spread", name="plain t (no fleet)", fit=level_priors.no_prior),
    Variant(topic="spread", name="moments (Smyth)", fit=level_priors.by_moments),
    Variant(topic="spread", name="most likely d0 alone", fit=level_priors.best_guess),
    Variant(topic="spread", name="d0 at most 40", fit=level_priors.capped(40.0)),
    Variant(topic="spread", name="d0 at most 25", fit=level_priors.capped(25.0)),
    Variant(topic="spread", name="trend on within-batch spread", has_trend=True),
    Variant(topic="both references", name="product: what the second adds", references="product"),
    Variant(topic="both references", name="minimum, sharing the batch alone", references="batch"),
    Variant(topic="both references", name="Simes", references="simes"),
    Variant(topic="both references", name="Bonferroni", references="bonferroni"),
    Variant(topic="both references", name="minimum, nothing paid", references="free"),
)

MIXED = "mixed fleet"
DEPENDENT = ("AR(.5) between batches", "slow AR between losses", "weekly, of its own")


def tested(variant: Variant, reference: Floats, recent: Floats) -> Floats:
    """Numbers that are tested, shape (m + 1, streams), the recent one last; NaN for streams with too few events."""
    total, squares = reference.sum(axis=(0, 2)), np.square(reference).sum(axis=(0, 2))
    size = np.divide(squares, total, out=np.zeros_like(total), where=total > 0.0)
    zeros = (reference == 0.0).mean(axis=(0, 2)) if variant.by_zeros else 1.0
    means = np.vstack([reference.mean(axis=2), recent.mean(axis=1)[None]])
    if variant.exponent == 0.0:
        made = np.log(means + np.maximum(variant.events * zeros * size / BATCH, 1e-12))
    else:
        level = np.maximum(means[:-1].mean(axis=0), 1e-12)
        made = ((means / level) ** variant.exponent - 1.0) / variant.exponent
    return np.where(np.square(total) >= FEWEST_EVENTS * squares, made, np.nan) + np.where(total > 0.0, 0.0, np.nan)


def p_values(variant: Variant, reference: Floats, recent: Floats, season: int) -> Floats:
    """One-sided p-values of one batch, shape (streams,).

    Parameters
    ----------
    variant
        What is tested how.
    reference
        Shape (m, streams, BATCH), oldest first.
    recent
        Shape (streams, BATCH).
    season
        Batches after which a season repeats.
    """
    values = tested(variant, reference, recent)
    usable = np.isfinite(values).all(axis=0)
    values = values[:, usable]
    made = np.full(len(usable), np.nan)
    m = len(reference)
    if variant.has_trend:
        values = values / np.sqrt(level_priors.trend(reference[:, usable], values[:-1].var(axis=0, ddof=1), m - 1.0))
    dependence = Dependence() if variant.dependence == "ignored" else _dependence(values, season)
    past, lags = values[:-1][::-1], np.arange(1, m + 1)
    how = _inflated if variant.dependence == "inflated" else predict
    wide = how(past, lags, dependence)
    prior = variant.fit(wide.variance, wide.m - 1.0)
    p = moderated(values[-1], wide, prior).p_value
    if variant.references != "adaptive" and m > ANCHORED:
        narrow = how(past[-ANCHORED:], lags[-ANCHORED:], dependence)
        p_anchored = moderated(values[-1], narrow, prior).p_value
        p = _together(variant.references, (p, p_anchored), (wide, narrow), prior.df)
    made[usable] = p
    return made


def _dependence(values: Floats, season: int) -> Dependence:
    memory = DependenceMemory(season)
    for n in range(3, len(values) + 1):
        memory.learn(values[max(0, n - 1 - memory.n_batches) : n])
    return memory.now


def _inflated(values: Floats, lags: np.ndarray, dependence: Dependence) -> Prediction:
    """The plain mean as prediction, and its variance under dependence."""
    made, m = predict(values, lags), len(lags)
    at = np.append(0, lags).astype(np.float64)
    covariance = dependence.correlation(at[:, None] - at[None, :])
    weights = np.append(1.0, np.full(m, -1.0 / m))
    centre = np.eye(m) - 1.0 / m
    seen = np.trace(centre @ covariance[1:, 1:]) / (m - 1)
    factor = np.full(values.shape[1], weights @ covariance @ weights)
    return replace(made, factor=factor, variance=made.variance / seen)


def _together(how: str, p: tuple[Floats, Floats], predictions: tuple[Prediction, Prediction], df: float) -> Floats:
    wide, narrow = predictions
    low, high = np.minimum(*p), np.maximum(*p)
    nested = np.ones(len(low), dtype=np.bool_)
    match how:
        case "product":
            return either(*p, correlation(wide, narrow, nested, df))
        case "batch":
            return either(*p, correlation(wide, narrow, ~nested, df))
        case "simes":
            return np.asarray(np.minimum(2.0 * low, high))
        case "bonferroni":
            return np.asarray(np.minimum(2.0 * low, 1.0))
        case _:
            return np.asarray(low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a variant came to: levels by alpha, process and m, and mean power by m over the design's processes.

    ``dependent_power`` is the same over the processes whose batches depend on each other. ``inside`` is the level at
    the first alpha of each process in the mixed fleet, by m: moderation shares out.
    """

    topic: str
    name: str
    level: dict[float, dict[str, dict[int, float]]]
    power: dict[int, float]
    dependent_power: dict[int, float]
    mixed_power: dict[int, float]
    inside: dict[int, list[float]]

    def outside(self, alpha: float) -> list[str]:
        """Cells whose level lies outside the promise."""
        low, high = PROMISE[alpha]
        cells = [(name, m, share) for name, by_m in self.level[alpha].items() for m, share in by_m.items()]
        return [f"{name}, m = {m}: {share:.1%}" for name, m, share in cells if not low <= share <= high]

    def range(self, alpha: float) -> tuple[float, float]:
        """Smallest and largest level."""
        shares = [share for by_m in self.level[alpha].values() for share in by_m.values()]
        return min(shares), max(shares)


def measure(variants: Sequence[Variant], *, streams: int, seeds: int) -> list[Outcome]:
    """Every variant on every process; the losses of a process are made once for all."""
    made = [
        Outcome(
            topic=v.topic,
            name=v.name,
            level={a: {} for a in ALPHAS},
            power={},
            dependent_power={},
            mixed_power={},
            inside={},
        )
        for v in variants
    ]
    power, dependent = ([{m: [] for m in SIZES} for _ in variants] for _ in range(2))
    for name, parts in _fleets():
        size = streams // len(parts)
        seen = [_simulated(parts, streams=size, seed=seed) for seed in range(seeds)]
        for variant, outcome, *powers in zip(variants, made, power, dependent, strict=True):
            for m in SIZES:
                pairs = [
                    tuple(p_values(variant, healthy[:m], recent, parts[0].season) for recent in (healthy[m], worse[m]))
                    for healthy, worse in seen
                ]
                healthy, degraded = (np.concatenate(column) for column in zip(*pairs, strict=True))
                ready = np.isfinite(healthy)
                if ready.mean() < LEAST_READY:
                    continue
                for alpha in ALPHAS:
                    outcome.level[alpha].setdefault(name, {})[m] = float(np.mean(healthy[ready] <= alpha))
                found = float(np.mean(degraded <= ALPHAS[0]))
                if name == MIXED:
                    outcome.mixed_power[m] = found
                    outcome.inside[m] = np.mean(
                        healthy.reshape(seeds, len(parts), -1) <= ALPHAS[0], axis=(0, 2)
                    ).tolist()
                elif parts[0].design or name in DEPENDENT:
                    powers[name in DEPENDENT][m].append(found)
    for outcome, plain, other in zip(made, power, dependent, strict=True):
        outcome.power.update({m: float(np.mean(shares)) for m, shares in plain.items()})
        outcome.dependent_power.update({m: float(np.mean(shares)) for m, shares in other.items()})
    return made


def _fleets() -> list[tuple[str, tuple[Process, ...]]]:
    """Processes on which the test alone keeps a level, sparser ones, and the design's eight in one fleet."""
    alone = [p for p in PROCESSES if p.has_own_level and p.name != "weekly, shared"]
    return [
        *((process.name, (process,)) for process in (*alone, *SPARSE)),
        (MIXED, tuple(process for process in PROCESSES if process.design)),
    ]


def _simulated(parts: Sequence[Process], *, streams: int, seed: int) -> tuple[Floats, Floats]:
    losses = [simulate(part, batches=SIZES[-1] + 1, streams=streams, seed=seed) for part in parts]
    healthy, degraded = (np.concatenate(column, axis=1) for column in zip(*losses, strict=True))
    return healthy, degraded


def render(outcomes: Sequence[Outcome]) -> str:
    """Table in Markdown."""
    head = ["", "variant", *(f"cells outside, {alpha:.0%}" for alpha in ALPHAS)]
    head += [*(f"levels at {alpha:.0%}, in %" for alpha in ALPHAS), *(f"power, m = {m}" for m in SIZES)]
    head += [f"power, dependent batches, m = {SIZES[-1]}"]
    head += [f"{what}, m = {m}" for m in SIZES[:2] for what in ("inside the mixed fleet, in %", "its power")]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for outcome in outcomes:
        n = sum(len(by_m) for by_m in outcome.level[ALPHAS[0]].values())
        cells = [outcome.topic, outcome.name, *(f"{len(outcome.outside(alpha))} of {n}" for alpha in ALPHAS)]
        cells += ["{:.1f}-{:.1f}".format(*(100.0 * share for share in outcome.range(alpha))) for alpha in ALPHAS]
        cells += [*(f"{outcome.power[m]:.3f}" for m in SIZES), f"{outcome.dependent_power[SIZES[-1]]:.3f}"]
        for m in SIZES[:2]:
            inside = [100.0 * share for share in outcome.inside[m]]
            cells += [f"{min(inside):.1f}-{max(inside):.1f}", f"{outcome.mixed_power[m]:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    product = outcomes[0]
    outside = "; ".join(text for alpha in ALPHAS for text in (f"({alpha:.0%})", *product.outside(alpha)))
    return "\n".join([*lines, "", f"Cells of the product outside: {outside}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.level_variants", description=__doc__)
    parser.add_argument("--streams", type=int, default=4000, help="streams a fleet, a multiple of 8")
    parser.add_argument("--seeds", type=int, default=3, help="fleets a cell")
    parser.add_argument("--fleets", type=int, default=400, help="healthy fleets a cell of the table of the far tail")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    if options.streams < 40 or options.streams % 8:
        parser.error(f"--streams {options.streams}: expected a multiple of 8, 40 or more")
    outcomes = measure(VARIANTS, streams=options.streams, seeds=options.seeds)
    tails = level_tail.measure(fleets=options.fleets)
    if options.json:
        print(
            json.dumps({"variants": [asdict(made) for made in outcomes], "tail": [asdict(t) for t in tails]}, indent=2)
        )
    else:
        print(render(outcomes), level_tail.render(tails, fleets=options.fleets), sep="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
