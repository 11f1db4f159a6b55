"""Result of a replay as figures: every policy by itself, all beside each other, and what was skipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.decisions import RejectReason
from mlma.core.policy import Policy, PolicyKind
from mlma.core.policy_costs import MAIN_PRICE, PRICES
from mlma.core.records import Rejected
from mlma.core.settings import Serve
from mlma.runtime.replay_compare import (
    NOTHING,
    Comparison,
    Entry,
    comparison,
    figures,
    number,
    price_key,
    spread,
    summary,
)
from mlma.runtime.replay_frontier import Found
from mlma.runtime.replay_recorded import RECORDED, Recorded
from mlma.runtime.replay_tally import Tally
from mlma.runtime.replay_unwatched import asks_the_test

__all__ = ["ReplayReport", "Tally"]


@dataclass(frozen=True)
class ReplayReport:
    """Result of a replay.

    Attributes
    ----------
    wanted
        Policies as they were asked for.
    policies, tallies
        Those that were run, in the same order.
    twins
        Policies that were not run because they act as another one does, with its name.
    frontier
        What was found in hindsight, None when it was not asked for.
    recorded
        What the daemon of a state really did, None for a file of data.
    trained_elsewhere_s
        CPU seconds of trainings in other processes, each counted once.
    """

    wanted: Sequence[Policy]
    policies: Sequence[Policy]
    tallies: Sequence[Tally]
    streams: int
    batches: int
    seconds: float
    rejected: Sequence[Rejected]
    settings: dict[str, object]
    trained_elsewhere_s: float = 0.0
    twins: Mapping[str, str] = field(default_factory=dict)
    frontier: Found | None = None
    recorded: Recorded | None = None
    seed: int = 0

    @cached_property
    def compared(self) -> Comparison | None:
        """The policies beside always, None when that is not among them."""
        fleet = self.tallies[0].engine.fleet
        names = [stream.name for stream in fleet.streams][: self.tallies[0].n_streams]
        return comparison(self.policies, [tally.spent() for tally in self.tallies], names, seed=self.seed)

    def to_json(self) -> dict[str, object]:
        """Figures by policy, as `mlma replay --json` writes them."""
        return {
            "settings": self.settings,
            "streams": self.streams,
            "batches": self.batches,
            "seconds": round(self.seconds, 1),
            "cpu": self._cpu(),
            "skipped": self._skipped(),
            "policies": self._policies(),
        }

    def _policies(self) -> dict[str, object]:
        """Rows as asked for; what stands for others comes with them."""
        made: dict[str, dict[str, object]] = {
            str(policy): self._run(policy, tally) for policy, tally in zip(self.policies, self.tallies, strict=True)
        }
        made |= {twin: {**made[name], "policy": name} for twin, name in self.twins.items()}
        for policy in self.wanted:
            if policy.is_hindsight:
                made[str(policy)] = self._calendar(policy, made) if not self._is_frontier(policy) else self._frontier()
        order = [str(policy) for policy in self.wanted]
        made = {name: made[name] for name in [*order, *(name for name in made if name not in order)]}
        return dict(made) if self.recorded is None else self._with_recorded(made, self.recorded)

    def _with_recorded(self, made: Mapping[str, dict[str, object]], found: Recorded) -> dict[str, object]:
        """The same rows, each also beside what the daemon did, and the daemon's own row before them."""
        names = [stream.name for stream in self.tallies[0].engine.fleet.streams]
        theirs = found.means([*names])
        rows: dict[str, object] = {RECORDED: {**found.figures(), **NOTHING}}
        means = {
            tally.name: np.where(tally.n > 0, tally.loss / np.maximum(1, tally.n), np.nan) for tally in self.tallies
        }
        for name, row in made.items():
            mine = means.get(str(row.get("policy", name)))
            compared = None if mine is None else spread(_over(mine, theirs[: len(mine)]))
            rows[name] = {**row, "relative_loss_to_recorded": compared}
        return rows

    @staticmethod
    def _is_frontier(policy: Policy) -> bool:
        return policy.kind is PolicyKind.FRONTIER

    def _run(self, policy: Policy, tally: Tally) -> dict[str, object]:
        """Figures of a policy that was run."""
        costs, beside, n = tally.engine.costs, self.compared, tally.n
        own = {
            "mean_loss": number(tally.loss.sum() / n.sum()) if n.any() else None,
            "relative_loss_to_always": None,
            "relative_loss_to_naive": spread(tally.relative_to_naive()),
            "trainings": costs.trainings,
            "training_share_of_always": None,
            "training_cpu_share_of_always": None,
            "alarms": costs.alarms if asks_the_test(policy) else None,
            "cpu_s": {
                "train": round(costs.train_cpu_s, 2),
                "evergreen": round(costs.evergreen_cpu_s, 2),
                "predict": round(costs.predict_cpu_s, 2),
                "rest": round(tally.rest_s, 2),
            },
        }
        if beside is None:
            return {**own, **NOTHING}
        entry = beside.entries[str(policy)]
        return {**own, **_beside_always(entry), **figures(entry, beside, str(policy))}

    def _calendar(self, policy: Policy, made: Mapping[str, dict[str, object]]) -> dict[str, object]:
        """The best calendar in hindsight: which one it is depends on the price."""
        beside = self.compared
        assert beside is not None  # hindsight has always run
        names = [name for name in beside.calendars(_mode(policy)) if beside.entries[name].policy.every]
        best = {price: beside.best(names, price) for price in PRICES}
        main = best[MAIN_PRICE] or names[0]
        by_price = {
            price_key(price): {"policy": name, **summary(beside.entries[name].compared, price)}
            for price, name in best.items()
            if name is not None
        }
        costs = {price: by_price[price]["cost"] for price in by_price}
        return {**made[main], "total_cost": costs, "policy": main, "by_price": by_price}

    def _frontier(self) -> dict[str, object]:
        """The best sequence of single versions in hindsight, at every price."""
        beside, found, always = self.compared, self.frontier, self._tally(PolicyKind.ALWAYS)
        assert beside is not None
        assert found is not None
        policy = Policy(kind=PolicyKind.FRONTIER, serve=always[0].serve)
        entries = {point.price: beside.entry(policy, point.spent) for point in found.points}
        main, n = entries[MAIN_PRICE], always[1].n
        by_price = {price_key(price): summary(entry.compared, price) for price, entry in entries.items()}
        shown = figures(main, beside, str(PolicyKind.FRONTIER))
        return {
            "mean_loss": number(main.spent.loss.sum() / n.sum()) if n.any() else None,
            "relative_loss_to_naive": spread(_over(main.spent.loss, always[1].naive)),
            "trainings": int(main.spent.fits.sum()),
            "alarms": None,
            "cpu_s": {"train": round(float(main.spent.fit_cpu_s.sum()), 2), "evergreen": 0.0,
                      "predict": round(found.predict_cpu_s, 2), "rest": round(found.search_cpu_s, 2)},
            **_beside_always(main),
            **shown,
            "total_cost": {price_key(price): number(entries[price].compared.cost(price)) for price in PRICES},
            "by_price": by_price,
            "every": found.every,
            "predict_cpu_share_of_always": number(found.predict_cpu_s / max(1e-9, always[1].engine.costs.train_cpu_s)),
        }  # fmt: skip

    def _tally(self, kind: PolicyKind) -> tuple[Policy, Tally]:
        """The run of a policy, by its plain name."""
        return next(
            (policy, tally)
            for policy, tally in zip(self.policies, self.tallies, strict=True)
            if str(policy) == str(kind)
        )

    def _cpu(self) -> dict[str, object]:
        """CPU seconds of all policies together against those of always alone."""
        frontier = 0.0 if self.frontier is None else self.frontier.predict_cpu_s + self.frontier.search_cpu_s
        spent = sum(tally.cpu_s for tally in self.tallies) + self.trained_elsewhere_s + frontier
        rest = sum(tally.rest_s for tally in self.tallies)
        alone = next((tally.alone_s for tally in self.tallies if tally.name == PolicyKind.ALWAYS), None)
        return {
            "all_policies_s": round(spent, 2),
            "always_alone_s": None if alone is None else round(alone, 2),
            "ratio": None if not alone else number(spent / alone),
            "rest_s": round(rest, 2),
            "rest_share": number(rest / max(1e-9, spent)),
        }

    def _skipped(self) -> list[dict[str, object]]:
        skipped: list[dict[str, object]] = []
        engine, n = self.tallies[0].engine, self.tallies[0].n
        for stream in engine.fleet.streams:
            if stream.id >= len(n) or not n[stream.id]:
                reason = "no batch was scored under a trained version: too little data in the train window"
                if engine.fleet.champion(stream.id) is not None:
                    reason = "trained, but no batch after it had outcomes"
                skipped.append({"stream": stream.name, "reason": reason})
        skipped += [
            {
                "stream": entry.stream,
                "reason": str(entry.reason),
                "rows": entry.count,
                "first_row": entry.row,
                "column": entry.field,
                "value": entry.value,
                "expected": entry.expected,
            }
            for entry in _merged(self.rejected)
        ]
        return skipped


def _beside_always(entry: Entry) -> dict[str, object]:
    compared = entry.compared
    return {
        "relative_loss_to_always": spread(compared.relative),
        "training_share_of_always": number(compared.fits_share),
        "training_cpu_share_of_always": number(compared.cpu_share),
    }


def _mode(policy: Policy) -> Serve:
    assert policy.serve is not None  # only the agent leaves it to the settings
    return policy.serve


def _over(loss: Floats, other: Floats) -> Floats:
    """Loss over another on the same streams, NaN where that is zero or missing; shape (streams,)."""
    made = np.full(len(loss), np.nan)
    np.divide(loss, other, out=made, where=other > 0.0)
    return made


def _merged(rejected: Sequence[Rejected]) -> list[Rejected]:
    """One entry a stream and reason, with the first row as the example; a replay takes its file in by batches."""
    found: dict[tuple[str, RejectReason], Rejected] = {}
    for entry in rejected:
        known = found.get((entry.stream, entry.reason), entry)
        count = entry.count if known is entry else known.count + entry.count
        found[entry.stream, entry.reason] = replace(min(known, entry, key=lambda one: one.row), count=count)
    return list(found.values())
