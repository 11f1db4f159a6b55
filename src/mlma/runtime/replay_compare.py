"""Policies of a replay beside each other: who costs what, how sure that is, and where the calendar wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.core.policy import Policy, PolicyKind
from mlma.core.policy_costs import (
    MAIN_PRICE,
    PRICES,
    Compared,
    Spent,
    compare,
    cost_by_stream,
    interval,
    samples,
)
from mlma.core.settings import Serve

LISTED = 50
"""Streams of a list in the JSON; the number of all of them stands beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the comparison: a policy that was run, or one computed in hindsight at one price."""

    policy: Policy
    spent: Spent
    compared: Compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All entries by name, with always and the streams' names."""

    streams: Sequence[str]
    entries: Mapping[str, Entry]
    always: Spent
    weights: Floats  # of the bootstrap samples, shape (draws, streams)

    def best(self, names: Sequence[str], price: float) -> str | None:
        """The cheapest of these at a price, the first of equal ones; None without any that can be compared."""
        known = [name for name in names if np.isfinite(self.entries[name].compared.cost(price))]
        return min(known, key=lambda name: self.entries[name].compared.cost(price), default=None)

    def calendars(self, serve: Serve) -> list[str]:
        """Calendars that were run in a serving mode."""
        return [
            name
            for name, entry in self.entries.items()
            if entry.policy.kind is PolicyKind.CALENDAR and entry.policy.serve is serve
        ]

    def opponent(self, price: float = MAIN_PRICE) -> str | None:
        """The best calendar in hindsight that serves its latest version; a pooled one if there is no other."""
        return self.best(self.calendars(Serve.LATEST) or self.calendars(Serve.BLEND), price)

    def entry(self, policy: Policy, spent: Spent) -> Entry:
        """A further entry, compared like the others."""
        return Entry(policy=policy, spent=spent, compared=compare(spent, self.always, self.weights))


def comparison(
    policies: Sequence[Policy], spent: Sequence[Spent], streams: Sequence[str], *, seed: int
) -> Comparison | None:
    """Compare what was run; None without always."""
    by_name = {str(policy): (policy, one) for policy, one in zip(policies, spent, strict=True)}
    if str(PolicyKind.ALWAYS) not in by_name:
        return None
    always = by_name[str(PolicyKind.ALWAYS)][1]
    weights = samples(np.random.default_rng(seed), len(streams))
    entries = {
        name: Entry(policy=policy, spent=one, compared=compare(one, always, weights))
        for name, (policy, one) in by_name.items()
    }
    return Comparison(streams=streams, entries=entries, always=always, weights=weights)


# as figures


def price_key(price: float) -> str:
    """A price as a key of the JSON."""
    return f"{price:g}"


def figures(entry: Entry, beside: Comparison, name: str) -> dict[str, object]:
    """What the comparison says about one policy, for the JSON."""
    compared = entry.compared
    known = np.isfinite(compared.relative)
    return {
        "relative_loss_interval": _pair(interval(compared.relative_draws)),
        "total_cost": {price_key(price): number(compared.cost(price)) for price in PRICES},
        "cost_difference": {
            other: _difference(compared, against.compared)
            for other, against in beside.entries.items()
            if other != name
        },
        "against_calendar": against_calendar(entry, beside),
        "streams_compared": int(known.sum()),
        "streams_left_out": int((~known).sum()),
    }  # fmt: skip


NOTHING: Mapping[str, object] = {
    "relative_loss_interval": None,
    "total_cost": None,
    "cost_difference": None,
    "against_calendar": None,
    "streams_compared": 0,
    "streams_left_out": None,
}
"""The same keys where always is not among the policies."""


def against_calendar(entry: Entry, beside: Comparison, price: float = MAIN_PRICE) -> dict[str, object] | None:
    """Wins and losses by stream against the best calendar in hindsight, by each stream's own cost."""
    name = beside.opponent(price)
    if name is None or entry.policy.kind is PolicyKind.CALENDAR:
        return None
    calendar = beside.entries[name]
    mine, theirs = (cost_by_stream(one, beside.always, price) for one in (entry.spent, calendar.spent))
    gap = mine - theirs
    known: Bools = np.isfinite(gap)
    lost = np.flatnonzero(known & (gap > 0.0))
    return {
        "calendar": name,
        "price": price,
        "wins": int((known & (gap < 0.0)).sum()),
        "ties": int((known & (gap == 0.0)).sum()),
        "losses": len(lost),
        "lost_streams": [
            {
                "stream": beside.streams[stream],
                "relative_loss": number(entry.compared.relative[stream]),
                "trainings": int(entry.spent.fits[stream]),
                "cost": number(mine[stream]),
                "calendar_relative_loss": number(calendar.compared.relative[stream]),
                "calendar_trainings": int(calendar.spent.fits[stream]),
                "calendar_cost": number(theirs[stream]),
            }
            for stream in lost[np.argsort(-gap[lost], kind="stable")][:LISTED].tolist()
        ],
    }


def _difference(mine: Compared, theirs: Compared) -> dict[str, object]:
    low, high = interval(mine.cost_draws(MAIN_PRICE) - theirs.cost_draws(MAIN_PRICE))
    return {
        "price": MAIN_PRICE,
        "difference": number(mine.cost(MAIN_PRICE) - theirs.cost(MAIN_PRICE)),
        "low": number(low),
        "high": number(high),
    }


def summary(compared: Compared, price: float) -> dict[str, object]:
    """One entry at one price in few figures, for what is computed in hindsight."""
    return {
        "relative_loss": number(compared.mean),
        "training_share": number(compared.fits_share),
        "training_cpu_share": number(compared.cpu_share),
        "cost": number(compared.cost(price)),
    }


def spread(values: Floats) -> dict[str, float | None]:
    """Mean, median and 90 % quantile; values that are not finite are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": None, "median": None, "p90": None}
    return {"mean": number(known.mean()), "median": number(np.median(known)), "p90": number(np.quantile(known, 0.9))}


def number(value: float) -> float | None:
    """Rounded for the JSON; None where there is none."""
    return round(float(value), 5) if np.isfinite(value) else None


def _pair(ends: tuple[float, float]) -> list[float | None] | None:
    return None if not np.isfinite(ends).all() else [number(end) for end in ends]
