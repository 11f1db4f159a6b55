"""The far tail: how often BH raises any false alarm in a healthy fleet, by what is assumed about its spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import level_priors
from mlma.core.blocks import Floats
from mlma.core.loss_tests import fit_prior, moderated
from mlma.core.prediction import predict

ALPHA = 0.05
SIZES = (2, 3, 8)
FLEETS = (200, 2000, 10_000)
RATES = (1e-3, 1e-4)
ALLOWED = 1.3  # times the promised rate

FITS: dict[str, level_priors.Fit] = {
    "product: averaged over d0": fit_prior,
    "most likely d0 alone": level_priors.best_guess,
    "moments (Smyth)": level_priors.by_moments,
    "d0 at most 40": level_priors.capped(40.0),
    "d0 at most 25": level_priors.capped(25.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Healthy fleets of one kind: ``d0`` is infinite where streams vary alike."""

    d0: float
    streams: int
    m: int
    any_alarm: dict[str, float]  # by fit: share of fleets with an alarm of BH
    rates: dict[str, dict[float, float]]  # realised over nominal


def measure(*, fleets: int) -> list[Tail]:
    """Every fit on the same healthy fleets; fewer of the large ones, where one fleet says more about rates."""
    return [
        _tail(d0, streams, m, max(1, fleets * FLEETS[0] // max(FLEETS[0], streams // 5)))
        for d0 in (float("inf"), 4.0)
        for streams in FLEETS
        for m in SIZES
    ]


def _tail(d0: float, streams: int, m: int, fleets: int) -> Tail:
    some = dict.fromkeys(FITS, 0)
    rates = {name: dict.fromkeys(RATES, 0.0) for name in FITS}
    for seed in range(fleets):
        x = healthy(np.random.default_rng([seed, streams, m]), d0=d0, streams=streams, m=m)
        made = predict(x[:-1][::-1], np.arange(1, m + 1))
        for name, fit in FITS.items():
            p = np.sort(moderated(x[-1], made, fit(made.variance, made.m - 1.0)).p_value)
            some[name] += bool(np.any(p <= ALPHA * np.arange(1, streams + 1) / streams))
            for rate in RATES:
                rates[name][rate] += float(np.mean(p <= rate)) / rate / fleets
    return Tail(d0=d0, streams=streams, m=m, any_alarm={k: n / fleets for k, n in some.items()}, rates=rates)


def healthy(rng: np.random.Generator, *, d0: float, streams: int, m: int) -> Floats:
    """Normal batch values, shape (m + 1, streams), whose variances differ as a scaled inverse chi-square."""
    variance = np.ones(streams) if np.isinf(d0) else d0 / rng.chisquare(d0, streams)
    return rng.standard_normal((m + 1, streams)) * np.sqrt(variance)


def render(tails: Sequence[Tail], *, fleets: int) -> str:
    """Table in Markdown."""
    head = ["streams vary", "streams", "m", *FITS]
    lines = [
        f"Share of healthy batches in which BH at {ALPHA:.0%} raises any alarm, in percent, and the realised over the",
        f"nominal rate at {' and '.join(f'{rate:g}' for rate in RATES)}; {fleets} fleets of 200, fewer large ones:",
        "",
        "| " + " | ".join(head) + " |",
        "| " + " | ".join(["---"] * len(head)) + " |",
    ]
    for tail in tails:
        cells = ["alike" if np.isinf(tail.d0) else f"d0 = {tail.d0:g}", f"{tail.streams:,}", str(tail.m)]
        for name in FITS:
            ratios = ", ".join(f"{ratio:.1f}" for ratio in tail.rates[name].values())
            cells.append(f"{100.0 * tail.any_alarm[name]:.1f} ({ratios})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
