"""What level, power and delay a loss test has on given losses: measured before anything is switched on.

Arrays in, figures out; where the losses come from and how the figures are told is decided elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlma.core.errors import OperationError
from mlma.core.settings import FleetRule, LossTestName, TestingSettings
from mlma.monitor.calibration_figures import WEEK, Calibration, Drift, Measured, Power, RuleFigures, Wanted, share_of
from mlma.monitor.calibration_power import (
    FEWEST_ROUNDS,
    WITHIN,
    draw_rounds,
    find,
    follow_of,
    nearest,
    rounds_of,
)
from mlma.monitor.calibration_runs import LossHistory, Run, alarms_under, new_monitor, season_of, watch

FEWEST_TESTED = 4
"""Batches that must be left to test after the smallest reference."""

TABLE_STREAMS, TABLE_BATCHES = 100, 72
"""Streams and newest batches on which the loss tests are compared: two-sample tests sort every loss again."""

Tell = Callable[[str, int, int], None]
"""Called with what is measured, batches or runs done, and those in all."""


def calibrate(
    history: LossHistory,
    settings: TestingSettings,
    wanted: Wanted | None = None,
    *,
    rng: np.random.Generator,
    tell: Tell = lambda *_: None,
) -> Calibration:
    """Measure level, power, delay and alarms of loss tests on recorded losses.

    Parameters
    ----------
    history
        The losses; they are taken for healthy, so what drifts in them counts as false alarms.
    settings
        Of the test.
    wanted
        What else is measured.
    rng
        Draws streams and onsets.
    tell
        Called with what is measured, batches or runs done, and those in all.

    Raises
    ------
    OperationError
        Too few batches, or no stream that could be tested.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> losses = np.abs(rng.standard_normal((30, 24, 50)))  # 30 streams, 24 batches of 50 losses
    >>> history = LossHistory(losses=losses, yardsticks=np.empty((0, 30, 24, 50)), batch=WEEK, labels={})
    >>> wanted = Wanted(rises=(1.0,), tests=(), factors=(), trials=24)
    >>> made = calibrate(history, TestingSettings(), wanted, rng=rng).main
    >>> 0.025 < made.level.share < 0.06, made.power[0].at_once.share > 0.9
    (True, True)
    """
    wanted = Wanted() if wanted is None else wanted
    _check(history, settings)
    bench = _Bench(seed=int(rng.integers(2**32)), trials=wanted.trials, tell=tell)
    drifts = [Drift(rise=rise) for rise in dict.fromkeys(wanted.rises)]
    headline = [nearest(drifts)] if drifts else []
    ramp = Drift(per_week=wanted.ramp) if wanted.ramp else None
    main, ramps = bench.measure("your settings", history, settings, drifts, rules=True, ramp=ramp)
    return Calibration(
        main=main,
        n_targets=history.losses.shape[2],
        missing=float(np.isnan(history.losses).mean()),
        ramp=None if ramps is None else ramps[0],
        ramp_chance=None if ramps is None else ramps[1],
        alphas=tuple(
            bench.measure(f"alpha {alpha:g}", history, replace(settings, alpha=alpha), headline)[0]
            for alpha in dict.fromkeys(wanted.alphas)
            if alpha != settings.alpha
        ),
        tests=_tests(bench, history, settings, wanted.tests, headline),
        batches=_batches(bench, history, settings, wanted.factors, headline),
    )


def needed(settings: TestingSettings) -> int:
    """Batches without which nothing can be said."""
    return settings.min_reference + FEWEST_TESTED


def _check(history: LossHistory, settings: TestingSettings) -> None:
    least = needed(settings)
    words = (
        f"{settings.min_reference} for the smallest reference and {FEWEST_TESTED} to test): it takes more data, or "
        "shorter batches"
    )
    if history.n_batches < least:
        raise OperationError(
            f"too little data: {history.n_batches} closed batch{'' if history.n_batches == 1 else 'es'} with losses, "
            f"expected at least {least} ({words}"
        )
    scored = np.isfinite(history.losses).mean(axis=2) >= max(settings.min_outcomes, 1e-12)
    most = int(scored.sum(axis=1).max(initial=0))
    if most < least:
        raise OperationError(
            f"too little data: the best of {history.n_streams:,} streams has {most} batches of {history.n_batches} "
            f"with at least {settings.min_outcomes:.0%} of their losses (testing.min_outcomes), expected at least "
            f"{least} ({words}"
        )


def _tests(
    bench: "_Bench", history: LossHistory, settings: TestingSettings, tests: Sequence[LossTestName],
    drifts: Sequence[Drift],
) -> tuple[Measured, ...]:  # fmt: skip
    """The loss tests side by side, on the same streams and batches."""
    if not tests:
        return ()
    rng = np.random.default_rng(bench.seed)
    streams = np.sort(rng.permutation(history.n_streams)[:TABLE_STREAMS])
    part = history.part(streams, min(TABLE_BATCHES, history.n_batches))
    names = dict.fromkeys((settings.name, *tests))
    most = WITHIN[1]  # two-sample tests are slow
    return tuple(bench.measure(name, part, replace(settings, name=name), drifts, most=most)[0] for name in names)


def _batches(
    bench: "_Bench", history: LossHistory, settings: TestingSettings, factors: Sequence[int], drifts: Sequence[Drift]
) -> tuple[Measured, ...]:
    """Other lengths of a batch, and a weekly season where batches are parts of a week."""
    made = []
    a_week = WEEK // history.batch if not WEEK % history.batch else 0
    if factors and settings.season == 1 and 1 < a_week <= 60 and history.n_batches >= 4 * a_week:
        made.append(bench.measure("season", history, replace(settings, season=a_week), drifts)[0])
    whole_weeks = (a_week,) if factors and a_week > 1 else ()
    for factor in sorted({*factors, *whole_weeks}):
        longer = history.joined(factor)
        if longer.n_batches >= needed(settings) + FEWEST_TESTED:
            changed = replace(settings, season=season_of(settings.season, factor))
            made.append(bench.measure(f"batches x {factor}", longer, changed, drifts)[0])
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Measures one choice of settings after another, with the same draws."""

    seed: int
    trials: int
    tell: Tell

    def measure(
        self, what: str, history: LossHistory, settings: TestingSettings, drifts: Sequence[Drift],
        *, most: int = WITHIN[-1], rules: bool = False, ramp: Drift | None = None,
    ) -> tuple[Measured, tuple[Power, Power] | None]:  # fmt: skip
        """What settings do; with a ramp also what is found of it and what alarms without it."""
        summaries = history.summaries(settings)
        monitor = new_monitor(history, settings, seed=self.seed)
        healthy = watch(monitor, summaries, tell=lambda at: self.tell(what, at + 1, len(summaries)))
        made = _as_they_are(history, settings, healthy)
        rng = np.random.default_rng(self.seed)
        rounds = draw_rounds(healthy, rounds_of(healthy, self.trials), follow_of(healthy), rng)
        by_rule: dict[FleetRule, Power] = {}
        if rounds is not None and drifts:
            rounds = replace(rounds, follow=min(rounds.follow, most))
            found = find(
                history, summaries, settings, healthy, rounds, drifts, seed=self.seed, rules=rules,
                tell=lambda done, n: self.tell(f"{what}, rises put in", done, n),
            )  # fmt: skip
            made, by_rule = replace(made, chance=found.chance, power=found.power), found.by_rule
        if rules:
            made = replace(made, rules=_rules(healthy, settings, by_rule))
        if ramp is None:
            return made, None
        # a ramp needs time: it begins in the first quarter of what is tested
        follow = 3 * int(np.count_nonzero(healthy.ready.any(axis=1))) // 4
        n_rounds = max(FEWEST_ROUNDS, rounds_of(healthy, self.trials) // 2)
        rounds = draw_rounds(healthy, n_rounds, follow, np.random.default_rng(self.seed))
        if rounds is None:
            return made, None
        found = find(history, summaries, settings, healthy, rounds, [ramp], seed=self.seed)
        return made, (found.power[0], found.chance)


def _as_they_are(history: LossHistory, settings: TestingSettings, healthy: Run) -> Measured:
    tested = healthy.ready.any(axis=1)
    return Measured(
        settings=settings,
        batch=history.batch,
        n_batches=history.n_batches,
        n_streams=history.n_streams,
        certificate=healthy.certificate,
        level=share_of((healthy.p_value <= settings.alpha) & healthy.ready, healthy.ready),
        alarms=float(healthy.alarm[tested].sum(axis=1).mean()) if tested.any() else float("nan"),
        incidents=len(healthy.incidents),
    )


def _rules(healthy: Run, settings: TestingSettings, power: dict[FleetRule, Power]) -> tuple[RuleFigures, ...]:
    """Alarms a batch under each fleet rule, over the batches in which something was tested."""
    tested = healthy.ready.any(axis=1)
    made = []
    for rule in FleetRule:
        alarm = healthy.alarm if rule is settings.fleet else alarms_under(rule, healthy, settings)[0]
        counts = alarm[tested].sum(axis=1) if tested.any() else np.array([np.nan])
        made.append(
            RuleFigures(
                rule=rule,
                mean=float(counts.mean()),
                p99=float(np.quantile(counts, 0.99)),
                some=float(np.mean(counts > 0)) if tested.any() else float("nan"),
                power=power.get(rule),
            )
        )
    return tuple(made)
