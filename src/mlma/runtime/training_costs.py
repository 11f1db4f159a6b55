"""What trainings may cost, as the engineer has set it, and what those that are over have cost."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta

from mlma.core.decisions import EffectStatus
from mlma.core.records import Effect, GroupTraining
from mlma.core.schedule import Schedule
from mlma.core.settings import LifeSettings
from mlma.core.training_queue import Budget

AGEING_BATCHES = 4
"""Waiting time in batches after which what a retraining saves counts twice."""

_LEAST_S = 1e-6


def budget_of(life: LifeSettings, schedule: Schedule) -> Budget:
    """Budget as the engineer has set it; slots are not its matter, they change no outcome (see the executors)."""
    rate = math.inf if life.budget_cpu_s_per_hour is None else life.budget_cpu_s_per_hour
    batch = schedule.batch * schedule.frequency
    burst = rate * (batch / timedelta(hours=1)) if life.budget_burst_s is None else life.budget_burst_s
    return Budget(
        cpu_s_per_hour=rate,
        burst_s=math.inf if math.isinf(rate) else burst,
        ageing=AGEING_BATCHES * batch,
        patience=life.budget_patience * batch / 2,
    )


class PastCosts:
    """CPU seconds of the trainings of a fleet that succeeded."""

    def __init__(self, effects: Iterable[Effect | GroupTraining]) -> None:
        self._spent: defaultdict[int, list[float]] = defaultdict(list)
        self._of_groups: defaultdict[str, list[float]] = defaultdict(list)
        for effect in effects:
            self.add(effect)

    def add(self, effect: Effect | GroupTraining) -> None:
        """Take note of a training that is over."""
        if effect.status is not EffectStatus.DONE or effect.cpu_s is None:
            return
        if isinstance(effect, GroupTraining):
            self._of_groups[effect.name].append(effect.cpu_s)
        else:
            self._spent[effect.stream_id].append(effect.cpu_s)

    def of_groups(self, names: Sequence[str]) -> list[float]:
        """Mean of each group; NaN before its first training: those of streams say nothing about it."""
        costs = (self._of_groups.get(name) for name in names)
        return [max(math.fsum(known) / len(known), _LEAST_S) if known else math.nan for known in costs]

    def expected(self, stream_ids: Sequence[int]) -> list[float]:
        """Mean of each stream, else that of the fleet; NaN while nothing is known.

        Sums are exactly rounded, so that they do not depend on the order in which workers finished.
        """
        every = [cost for costs in self._spent.values() for cost in costs]
        fleet = math.fsum(every) / len(every) if every else math.nan
        own = (self._spent.get(stream_id) for stream_id in stream_ids)
        return [max(math.fsum(costs) / len(costs), _LEAST_S) if costs else fleet for costs in own]
