"""A loss monitor run over recorded losses: what goes in, and what it says."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from mlma.core import fleet
from mlma.core.batch_summary import BatchSummary, Detail, summarise_batch
from mlma.core.blocks import REASON_CODE, Bools, Floats, Ints
from mlma.core.decisions import Reason
from mlma.core.records import Certificate
from mlma.core.settings import FleetRule, TestingSettings
from mlma.monitor.monitor import LossMonitor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossHistory:
    """Losses of a fleet, cut into batches; NaN where there is none.

    Attributes
    ----------
    losses
        Shape (streams, batches, n), >= 0.
    yardsticks
        Shape (k, streams, batches, n): losses of yardsticks on the same targets; k may be 0.
    batch
        Event time of a batch.
    labels
        What is known about the streams, ``{"site": [value of each stream], ...}``.
    """

    losses: Floats
    yardsticks: Floats
    batch: timedelta
    labels: Mapping[str, Sequence[str]]

    @property
    def n_streams(self) -> int:
        """Streams."""
        return int(self.losses.shape[0])

    @property
    def n_batches(self) -> int:
        """Batches."""
        return int(self.losses.shape[1])

    def joined(self, factor: int) -> "LossHistory":
        """The same losses in batches that are ``factor`` times as long; the oldest batches that do not fill one go."""
        first = self.n_batches % factor
        shape = (self.n_streams, self.n_batches // factor, factor * self.losses.shape[2])
        return replace(
            self,
            losses=self.losses[:, first:].reshape(shape),
            yardsticks=self.yardsticks[:, :, first:].reshape((len(self.yardsticks), *shape)),
            batch=factor * self.batch,
        )

    def part(self, streams: Ints, newest: int) -> "LossHistory":
        """Some streams and the newest batches of it."""
        return replace(
            self,
            losses=self.losses[streams, -newest:],
            yardsticks=self.yardsticks[:, streams, -newest:],
            labels={key: [values[i] for i in streams] for key, values in self.labels.items()},
        )

    def summaries(self, settings: TestingSettings) -> list[BatchSummary]:
        """What a monitor looks at, batch by batch."""
        return [
            summarise_batch(
                self.losses[:, at],
                self.yardsticks[:, :, at],
                min_share=settings.min_outcomes,
                detail=Detail.of(settings.name),
            )
            for at in range(self.n_batches)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a monitor said about consecutive batches, arrays of shape (batches, streams).

    ``alarm`` is what the test says, also where its certificate failed and the daemon would not listen.
    """

    p_value: Floats
    effect: Floats
    ready: Bools
    alarm: Bools
    certificate: Certificate  # after the last batch
    incidents: frozenset[str]


def new_monitor(history: LossHistory, settings: TestingSettings, *, seed: int) -> LossMonitor:
    """Monitor of a fleet before its first batch."""
    return LossMonitor.from_settings(settings, history.n_streams, labels=history.labels, seed=seed)


def watch(
    monitor: LossMonitor,
    summaries: Sequence[BatchSummary],
    *,
    tell: Callable[[int], None] = lambda _: None,
) -> Run:
    """Let a monitor judge batches one after another; it is changed by it."""
    n_streams = monitor.n_streams
    shape = (len(summaries), n_streams)
    p_value, effect = np.full(shape, np.nan), np.full(shape, np.nan)
    ready, alarm = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    incidents: set[str] = set()
    for at, summary in enumerate(summaries):
        verdicts = monitor.judge(summary)
        p_value[at], effect[at], ready[at] = verdicts.p_value, verdicts.effect, verdicts.ready
        alarm[at] = verdicts.alarm | (verdicts.reason_code == REASON_CODE[Reason.UNCERTIFIED])
        incidents |= {incident.id for incident in verdicts.incidents}
        tell(at)
    return Run(
        p_value=p_value, effect=effect, ready=ready, alarm=alarm, certificate=monitor.certificate,
        incidents=frozenset(incidents),
    )  # fmt: skip


def alarms_under(
    rule: FleetRule, run: Run, settings: TestingSettings, online: fleet.OnlineFdr | None = None
) -> tuple[Bools, list[fleet.OnlineFdr]]:
    """Alarms of a run under another fleet rule than its own.

    Parameters
    ----------
    rule
        Of `mlma.core.fleet`; E_BH calibrates the p-values.
    run
        Its p-values do not depend on the rule: nothing is retrained.
    settings
        Level and effect floor.
    online
        What ONLINE remembers of the batches before the run.

    Returns
    -------
    tuple
        Alarms, shape (batches, streams), and what ONLINE remembered before each of the batches.
    """
    made = np.zeros(run.ready.shape, dtype=np.bool_)
    before = []
    state = fleet.OnlineFdr() if online is None else online
    for at, (p_value, ready) in enumerate(zip(run.p_value, run.ready, strict=True)):
        before.append(state)
        if rule is FleetRule.ONLINE:
            made[at], state = fleet.online_alarms(p_value, ready=ready, alpha=settings.alpha, online=state)
        else:
            made[at] = fleet.alarms(p_value, ready=ready, alpha=settings.alpha, rule=rule)
    return made & (np.nan_to_num(run.effect, nan=-1.0) >= settings.effect_floor), before


def season_of(season: int, factor: int) -> int:
    """Season in batches that are ``factor`` times as long.

    Examples
    --------
    >>> season_of(7, 2), season_of(7, 7), season_of(4, 2), season_of(1, 4)
    (7, 1, 2, 1)
    """
    return season // math.gcd(season, factor)
