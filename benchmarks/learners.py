"""Does the policy matter as much as the learner? Learners under policies on real data, each against LightGBM always.

Run with ``python -m benchmarks.learners --data FOLDER [--only SET] [--json FILE]``. The claim is that of the project's
predecessor; a figure is a mean over streams of the absolute loss relative to LightGBM retrained at every batch.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, before NumPy and LightGBM are imported

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import measuring
from benchmarks.storms_scenarios import EIA, FLIGHTS, UBER, Frame, Scenario, rows_of
from mlma import bootstrap
from mlma.core.blocks import Floats
from mlma.runtime.replay_data import ReplayRequest

SINGLE = ("never", "calendar:13", "test", "always")
"""Policies under which the newest version serves alone: what the claim was about."""

POOLED = ("mlma-champion", "mlma-blend")
POLICIES = (*SINGLE, *POOLED)
YARDSTICK = ("LightGBM", "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What a stream's versions are."""

    name: str
    model: str
    params: Mapping[str, object] = field(default_factory=dict)


LEARNERS = (
    Learner(
        name="random forest",
        model="sklearn.ensemble:RandomForestRegressor",
        params={"n_estimators": 10, "max_depth": 8, "min_samples_leaf": 5},
    ),
    Learner(name="LightGBM", model="lightgbm"),
    Learner(name="lasso", model="sklearn.linear_model:Lasso", params={"alpha": 0.1, "tol": 0.01}),
    Learner(name="ridge", model="ridge"),
)
"""The slowest first, so that nobody waits for it in the end; a forest is kept small to keep the run short."""

SETS = (
    Scenario(name="flights", dataset=FLIGHTS, first="2001-01-01", last="2001-06-30", streams=(), others=12),
    Scenario(
        name="eia", dataset=EIA, first="2018-10-01", last="2020-09-30", batch="7d", window="140d", streams=(), others=8
    ),
    Scenario(name="uber", dataset=UBER, first="2015-01-01", last="2015-06-30", batch="7d", streams=(), others=8),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One learner on one set: mean losses by policy, shape (streams,), NaN where a stream was not scored."""

    learner: str
    dataset: str
    loss: Mapping[str, Floats]
    trainings: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spreads:
    """Largest minus smallest relative loss: between policies for a learner, between learners for a policy."""

    policies: Mapping[str, float]  # by learner
    learners: Mapping[str, float]  # by policy

    @property
    def ratio(self) -> float:
        """Mean spread between policies over mean spread between learners."""
        return float(np.mean([*self.policies.values()]) / np.mean([*self.learners.values()]))


def replayed(rows: Frame, dataset: Scenario, learner: Learner, *, seed: int) -> Outcome:
    """Replay rows with one learner under all policies."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Objective did not converge")  # a lasso says it of thousands of fits
        path = Path(folder) / "rows.parquet"
        rows[["stream", "ts", "y"]].to_parquet(path, index=False)
        asked = ReplayRequest(
            data=path,
            frequency=dataset.frequency,
            horizon=dataset.horizon,
            batch=dataset.batch,
            train_window=dataset.window,
            model=learner.model,
            model_params=dict(learner.params),
            policies=POLICIES,
            aggregate="none",
            executor="inline",
            seed=seed,
        )
        report = bootstrap.run_replay(asked)
    return Outcome(
        learner=learner.name,
        dataset=dataset.name,
        loss={
            tally.name: np.where(tally.n > 0, tally.loss / np.maximum(tally.n, 1), np.nan) for tally in report.tallies
        },
        trainings={tally.name: tally.engine.costs.trainings for tally in report.tallies},
        seconds=round(time.monotonic() - began, 1),
    )


def measured(dataset: Scenario, learner: Learner, folder: Path, *, seed: int) -> Outcome:
    """Read a set and replay it with one learner."""
    return replayed(rows_of(dataset, folder, seed=seed), dataset, learner, seed=seed)


def relative(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Loss relative to LightGBM always, mean over the streams of all sets, by learner and policy.

    A stream counts where every learner was scored under every policy, and the yardstick lost something.
    """
    total: dict[str, dict[str, list[Floats]]] = {}
    for dataset in dict.fromkeys(outcome.dataset for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.dataset == dataset]
        yardstick = next(one.loss[YARDSTICK[1]] for one in mine if one.learner == YARDSTICK[0])
        known = yardstick > 0
        for outcome in mine:
            for loss in outcome.loss.values():
                known &= np.isfinite(loss)
        for outcome in mine:
            for policy, loss in outcome.loss.items():
                row = total.setdefault(outcome.learner, {}).setdefault(policy, [])
                row.append(loss[known] / yardstick[known])
    return {
        learner: {policy: float(np.concatenate(parts).mean()) for policy, parts in row.items()}
        for learner, row in total.items()
    }


def spreads(cells: Mapping[str, Mapping[str, float]], policies: Sequence[str]) -> Spreads:
    """Spread between these policies and between the learners.

    Examples
    --------
    >>> made = spreads({"a": {"x": 1.0, "y": 1.5}, "b": {"x": 1.25, "y": 2.0}}, ["x", "y"])
    >>> made.policies, made.learners, round(made.ratio, 3)
    ({'a': 0.5, 'b': 0.75}, {'x': 0.25, 'y': 0.5}, 1.667)
    """
    return Spreads(
        policies={learner: _range([row[policy] for policy in policies]) for learner, row in cells.items()},
        learners={policy: _range([row[policy] for row in cells.values()]) for policy in policies},
    )


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def table(cells: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Losses with the spreads at their margins, and the ratio of the spreads at the foot."""
    alone, every = spreads(cells, SINGLE), spreads(cells, POLICIES)
    made = Table(
        title=f"{title}: absolute loss relative to LightGBM always, mean over streams",
        caption=f"Spread: largest minus smallest. Between policies over between learners: {alone.ratio:.2f} where the "
        f"newest version serves alone ({', '.join(SINGLE)}), {every.ratio:.2f} over all policies.",
    )
    made.add_column("learner")
    for policy in (*POLICIES, "spread, newest serves", "spread, all"):
        made.add_column(policy, justify="right")
    for learner, row in cells.items():
        margins = (alone.policies[learner], every.policies[learner])
        made.add_row(learner, *(f"{row[policy]:.3f}" for policy in POLICIES), *(f"{value:.3f}" for value in margins))
    made.add_section()
    between = [f"{every.learners[policy]:.3f}" for policy in POLICIES]
    means = [f"{np.mean([*kind.learners.values()]):.3f}" for kind in (alone, every)]
    made.add_row("spread between learners", *between, *means)
    return made


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """One table a set, then one over the streams of all sets."""
    names = list(dict.fromkeys(outcome.dataset for outcome in outcomes))
    made = [table(relative([one for one in outcomes if one.dataset == name]), name) for name in names]
    return made if len(names) == 1 else [*made, table(relative(outcomes), "all sets")]


def document(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Relative losses, spreads and what was trained, as plain values."""
    made: dict[str, object] = {}
    for name in [*dict.fromkeys(outcome.dataset for outcome in outcomes), "all"]:
        cells = relative([one for one in outcomes if name in {one.dataset, "all"}])
        made[name] = {
            "relative_loss": cells,
            **{
                key: {**asdict(found), "ratio": found.ratio}
                for key, found in (
                    ("newest_serves", spreads(cells, SINGLE)),
                    ("all_policies", spreads(cells, POLICIES)),
                )
            },
        }
    made["trainings"] = {f"{one.dataset}, {one.learner}": dict(one.trainings) for one in outcomes}
    return made


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learners", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the sets as Parquet")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--only", action="append", choices=[one.name for one in SETS], metavar="SET")
    parser.add_argument("--workers", type=int, default=2, help="replays at a time")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay every learner on the chosen sets; returns 0."""
    options = _options(argv)
    page = Console(width=None if sys.stdout.isatty() else 160)
    began = time.monotonic()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        under_way = [
            workers.submit(measured, dataset, learner, options.data, seed=options.seed)
            for learner in LEARNERS
            for dataset in SETS
            if not options.only or dataset.name in options.only
        ]
        outcomes = [one.result() for one in under_way]
    for made in tables(outcomes):
        page.print()
        page.print(made)
    for one in outcomes:
        counts = ", ".join(f"{policy} {n}" for policy, n in one.trainings.items())
        page.print(
            f"{one.dataset}, {one.learner}: {one.seconds:.0f} s, trainings {counts}", style="dim", highlight=False
        )
    page.print(f"learners: {time.monotonic() - began:.0f} s", style="dim", highlight=False)
    if options.json is not None:
        measuring.write_json(options.json, {"machine": measuring.machine(), "seed": options.seed, **document(outcomes)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
