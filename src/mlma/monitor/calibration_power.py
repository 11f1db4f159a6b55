"""What a loss test finds: streams are drawn, their losses raised from an onset on, and the test runs anew."""

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.settings import FleetRule, TestingSettings
from mlma.monitor.calibration_figures import HEADLINE, Drift, Power, share_of
from mlma.monitor.calibration_runs import LossHistory, Run, alarms_under, new_monitor, watch
from mlma.monitor.sham import Sham, Tester

DEGRADED_SHARE = 0.1
"""Streams whose loss is raised at a time, as a share of those that can be tested."""

WITHIN = (1, 4, 13)
"""Batches after an onset within which alarms are counted: at once, a month and a quarter of weekly batches."""

FEWEST_ROUNDS, MOST_ROUNDS = 8, 40
"""Onsets; each one costs as many batches as are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Where drift is put in: rounds of one onset each, and the streams that it hits."""

    onset: Ints  # shape (rounds,), number of the first degraded batch
    streams: Bools  # shape (rounds, streams)
    follow: int  # batches from the onset on that are looked at


class NoSham(Sham):
    """Draws no sham streams: where drift was put in, nobody asks for a certificate, and they cost most of the time."""

    def run(self, tester: Tester, run: Ints, rng: np.random.Generator, *, alpha: float, floor: float, rise: float,
            least: int) -> None:  # fmt: skip
        """Do nothing."""


def draw_rounds(healthy: Run, n_rounds: int, follow: int, rng: np.random.Generator) -> Rounds | None:
    """Onsets at random batches, each in a random tenth of the streams (at least one).

    Only streams that were tested in the batch before and were not in alarm then are drawn. None when there is no
    such batch.
    """
    able = healthy.ready[:-1] & ~healthy.alarm[:-1] & healthy.ready[1:]  # row b: an onset at b + 1
    onsets = np.flatnonzero(able.any(axis=1)) + 1
    onsets = onsets[onsets <= len(healthy.ready) - follow]
    if follow < 1 or not len(onsets):
        return None
    onset = rng.choice(onsets, n_rounds)
    streams = np.zeros((n_rounds, able.shape[1]), dtype=np.bool_)
    lot = rng.random(streams.shape)  # of every stream, so that settings under comparison draw alike
    for made, at, drawn in zip(streams, onset, lot, strict=True):
        some = np.flatnonzero(able[at - 1])
        made[some[np.argsort(drawn[some])][: max(1, round(DEGRADED_SHARE * len(some)))]] = True
    return Rounds(onset=onset.astype(np.int64), streams=streams, follow=follow)


def degraded_runs(
    history: LossHistory,
    summaries: Sequence[BatchSummary],
    settings: TestingSettings,
    rounds: Rounds,
    drifts: Sequence[Drift],
    *,
    seed: int,
) -> Iterator[tuple[int, int, Run]]:
    """Every round with every drift: (position of the round, position of the drift, run from the onset on).

    The monitor goes through the healthy batches once; at an onset a copy of it sees the degraded ones.
    """
    monitor = new_monitor(history, settings, seed=seed)
    monitor.sham = NoSham()
    for at in range(int(rounds.onset.max()) + 1):
        for round_ in np.flatnonzero(rounds.onset == at).tolist():
            state = pickle.dumps(monitor)
            chosen = rounds.streams[round_]
            for position, drift in enumerate(drifts):
                factors = [drift.factor(k, history.batch) for k in range(rounds.follow)]
                degraded = [
                    raised(summary, np.where(chosen, factor, 1.0))
                    for summary, factor in zip(summaries[at : at + rounds.follow], factors, strict=True)
                ]
                yield round_, position, watch(pickle.loads(state), degraded)  # noqa: S301 - written above
        monitor.judge(summaries[at])


def raised(summary: BatchSummary, factor: Floats) -> BatchSummary:
    """A batch whose losses are multiplied, stream by stream; those of the yardsticks stay."""
    return replace(
        summary,
        mean_loss=summary.mean_loss * factor,
        event_size=summary.event_size * factor,
        moments=None if summary.moments is None else summary.moments.times(factor),
        single=None if summary.single is None else summary.single * factor[:, None],
    )


def first_alarms(alarm: Bools) -> Ints:
    """Number of the first batch with an alarm, from 1; 0 without any. Shape (batches, streams) to (streams,).

    Examples
    --------
    >>> first_alarms(np.array([[False, True, False], [True, True, False]])).tolist()
    [2, 1, 0]
    """
    return np.where(alarm.any(axis=0), alarm.argmax(axis=0) + 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of several drifts, what alarms without any, and the headline drift under each fleet rule."""

    chance: Power
    power: tuple[Power, ...]
    by_rule: dict[FleetRule, Power] = field(default_factory=dict)


def find(
    history: LossHistory,
    summaries: Sequence[BatchSummary],
    settings: TestingSettings,
    healthy: Run,
    rounds: Rounds,
    drifts: Sequence[Drift],
    *,
    seed: int,
    rules: bool = False,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Found:
    """Put drifts into the losses and see what alarms.

    Parameters
    ----------
    history, summaries
        The losses, and what a monitor looks at.
    healthy
        Run over them as they are.
    rounds
        Where drift is put in.
    drifts
        At least one.
    seed
        Of the monitor.
    rules
        Look at the headline drift under every fleet rule.
    tell
        Called with the runs done, and runs in all.
    """
    within = tuple(sorted({min(batches, rounds.follow) for batches in (*WITHIN, rounds.follow)}))
    shape = rounds.streams.shape
    alarmed = [np.zeros(shape, dtype=np.int64) for _ in drifts]
    ruled = {rule: np.zeros(shape, dtype=np.int64) for rule in FleetRule} if rules else {}
    headline = nearest(drifts)
    _, online = alarms_under(FleetRule.ONLINE, healthy, settings)
    runs = degraded_runs(history, summaries, settings, rounds, drifts, seed=seed)
    for done, (round_, at, run) in enumerate(runs):
        tell(done + 1, len(drifts) * len(rounds.onset))
        alarmed[at][round_] = first_alarms(run.alarm)
        if drifts[at] != headline:
            continue
        for rule, first in ruled.items():
            alarm, _ = alarms_under(rule, run, settings, online[rounds.onset[round_]])
            first[round_] = first_alarms(run.alarm if rule is settings.fleet else alarm)
    nothing = [first_alarms(healthy.alarm[onset : onset + rounds.follow]) for onset in rounds.onset]
    return Found(
        chance=_caught(Drift(), np.array(nothing), rounds.streams, within),
        power=tuple(_caught(*found, rounds.streams, within) for found in zip(drifts, alarmed, strict=True)),
        by_rule={rule: _caught(headline, first, rounds.streams, within) for rule, first in ruled.items()},
    )


def nearest(drifts: Sequence[Drift]) -> Drift:
    """The drift by which settings are compared."""
    return min(drifts, key=lambda drift: abs(drift.rise - HEADLINE))


def follow_of(healthy: Run) -> int:
    """Batches that streams are followed: at most half of those in which something was tested."""
    return min(WITHIN[-1], int(np.count_nonzero(healthy.ready.any(axis=1))) // 2)


def rounds_of(healthy: Run, trials: int) -> int:
    """Rounds that make so many degraded streams, within limits."""
    streams = max(1, round(DEGRADED_SHARE * int(healthy.ready.sum(axis=1).max(initial=0))))
    return int(np.clip(math.ceil(trials / streams), FEWEST_ROUNDS, MOST_ROUNDS))


def _caught(drift: Drift, first: Ints, counted: Bools, within: tuple[int, ...]) -> Power:
    """Shares caught, from the numbers of the first alarms (0: none), arrays of shape (rounds, streams)."""
    median = float(np.median(np.where(first > 0, first, np.inf)[counted]))
    return Power(
        drift=drift,
        within=within,
        caught=tuple(share_of((first > 0) & (first <= batches), counted) for batches in within),
        delay=median if math.isfinite(median) else float("nan"),
    )
