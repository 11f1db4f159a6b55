"""Which of the ordered trainings start now, when the engineer has set a budget; the others wait.

What starts is planned in rounds. A round is planned after a batch was closed, and again when all trainings of the
round before are over and something still waits. Its time is event time, its money what is recorded; so a restart, a
slower machine or another number of workers starts the same trainings after the same batches.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np

from mlma.core import training_queue
from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase, Reason
from mlma.core.records import NAIVE, Decision, Effect, GroupTraining
from mlma.core.training_queue import WANT_CODE, Bucket, Plan, Want, Wanted
from mlma.runtime.control import Control, Results
from mlma.runtime.training_costs import PastCosts, budget_of

SILENT_BATCHES = 2
"""Batches without an observation after which the training of a stream does not wait any longer."""

RECURRING = frozenset(
    {
        Reason.DEBT, Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH, Reason.UNCERTIFIED,
        Reason.ALARM_ACCUMULATED, Reason.MODEL_FAILED,
    }
)  # fmt: skip
"""Reasons that the next batch gives again while they last; the others are given once, or hold until they are met."""

WANT_OF_GROUP = {Reason.NO_VERSION: Want.FIRST, Reason.REQUESTED: Want.REQUESTED}
"""What a group's training is to the queue, by its reason; any other is a retraining."""

UNKNOWING = frozenset({Reason.NOT_READY, Reason.NO_OUTCOMES, Reason.BAD_DATA})
"""What a batch says that cannot tell whether the reason of a training is gone."""

Started = TypeVar("Started", Effect, GroupTraining)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TrainingQueue:
    """The trainings of one fleet that wait."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._budget = budget_of(control.settings.life, control.settings.schedule)
        self._is_limited = control.settings.life.has_budget
        self._bucket = control.store.bucket() if self._is_limited else None
        self._costs = PastCosts(
            [*control.store.effects(), *control.store.group_trainings()] if self._is_limited else ()
        )
        self._planned: object = None  # what the last round that started nothing was planned on

    def settled(self, effects: Iterable[Effect | GroupTraining]) -> Bucket | None:
        """Budget after trainings ended, to be recorded with them; None when it stays.

        What was expected was charged when they started; the order in which they end does not matter.
        """
        bucket = self._bucket
        for effect in effects:
            if effect.status is EffectStatus.PENDING or not self._is_limited:
                continue
            self._costs.add(effect)
            if bucket is not None and effect.expected_cpu_s is not None and effect.cpu_s is not None:
                bucket = training_queue.settle(
                    bucket, self._budget, expected_s=effect.expected_cpu_s, actual_s=effect.cpu_s
                )
        changed = bucket is not self._bucket
        self._bucket = bucket
        return bucket if changed else None

    def admit(self) -> bool:
        """Plan a round while nothing is pending: record what starts, what waits and what waits no longer.

        Returns
        -------
        bool
            Whether anything starts.
        """
        control = self._control
        if not (control.fleet.queue or self._groups()) or self._planned == self._state():
            return False
        results = Results()
        self._lapse(results)
        self._lapse_groups(results)
        lapsed = {effect.stream_id for effect in results.effects}
        queue = [effect for stream_id, effect in sorted(control.fleet.queue.items()) if stream_id not in lapsed]
        given_up = {training.id for training in results.groups}
        groups = [training for training in self._groups() if training.id not in given_up]
        starting = self._plan(queue, groups, results) if queue or groups else []
        if results.effects or results.groups or results.bucket is not None:
            control.commit(results)
        self._bucket = results.bucket or self._bucket
        self._planned = None if starting else self._state()
        return bool(starting)

    def _state(self) -> object:
        """Everything that a round depends on and that may change between two of them."""
        waiting = {(e.id, str(e.reason)) for e in self._control.fleet.queue.values()}
        return self._control.batch, self._bucket, waiting | {(one.id, str(one.reason)) for one in self._groups()}

    def _groups(self) -> list[GroupTraining]:
        """Trainings of groups that wait, in the order of the groups."""
        opened = (group.open for group in self._control.pools.groups.each)
        return [one for one in opened if one is not None and one.status is EffectStatus.WAITING]

    @property
    def _now(self) -> datetime:
        schedule = self._control.settings.schedule
        return schedule.time_of(schedule.origin_after(self._control.batch))

    # who starts

    def _plan(
        self, queue: Sequence[Effect], groups: Sequence[GroupTraining], results: Results
    ) -> list[Effect | GroupTraining]:
        bucket = self._bucket or Bucket.full(self._budget, self._now)
        wanted = self._wanted(queue, groups)
        made = training_queue.plan(
            wanted,
            replace(bucket, saved_s=min(bucket.saved_s, self._budget.limit_s)),
            replace(self._budget, concurrent=len(wanted)),
            now=self._now,
            running=np.zeros(0, dtype=np.int64),
            left_s=np.zeros(0),
        )
        cost = wanted.cost_s.tolist()
        rows = made.starting.tolist()
        effects = [self._started(queue[row], cost[row]) for row in rows if row < len(queue)]
        of_groups = [self._started(groups[row - len(queue)], cost[row]) for row in rows if row >= len(queue)]
        results.effects += effects
        results.effects += self._waiting(queue, made)
        results.groups += of_groups
        if self._is_limited and made.bucket != self._bucket:
            results.bucket = made.bucket
        return [*effects, *of_groups]

    def _wanted(self, queue: Sequence[Effect], groups: Sequence[GroupTraining]) -> Wanted:
        """Trainings of streams, then those of groups; what one of a group saves is the sum over its streams."""
        streams = [effect.stream_id for effect in queue]
        names = [training.name for training in groups]
        unknown = self._budget.limit_s if self._is_limited else 1.0  # one at a time until something is known
        cost = np.asarray([*self._costs.expected(streams), *self._costs.of_groups(names)])
        wants = [self._want(effect) for effect in queue]
        wants += [WANT_OF_GROUP.get(training.reason, Want.RETRAINING) for training in groups]
        everyone: list[Effect | GroupTraining] = [*queue, *groups]
        since = [self._since(one) for one in everyone]
        debts = [training.debt * training.n_streams for training in groups]
        pools = self._control.pools
        worth = {group.settings.name: group.worth for group in pools.groups.each}
        return Wanted(
            stream_id=np.asarray([*streams, *range(-len(groups), 0)], dtype=np.int64),
            want=np.asarray([WANT_CODE[want] for want in wants], dtype=np.int8),
            saving=np.concatenate([pools.account.debt[streams], debts]),
            weight=np.concatenate([pools.worth[streams], [worth[name] for name in names]]),
            cost_s=np.where(np.isfinite(cost), cost, unknown),
            since_us=np.asarray([(at - _EPOCH) // timedelta(microseconds=1) for at in since]),
        )

    def _want(self, effect: Effect) -> Want:
        if effect.reason is Reason.REQUESTED:
            return Want.REQUESTED
        return Want.FIRST if self._control.fleet.champion(effect.stream_id) is None else Want.RETRAINING

    def _since(self, effect: Effect | GroupTraining) -> datetime:
        schedule = self._control.settings.schedule
        return schedule.time_of(schedule.origin_after(effect.batch))

    def _started(self, effect: Started, cost_s: float) -> Started:
        control = self._control
        started = replace(
            effect,
            status=EffectStatus.PENDING,
            batch=control.batch,
            deadline_at=control.clock.now() + control.settings.life.training_deadline,
            expected_cpu_s=cost_s if self._is_limited else None,
        )
        return replace(started, starts_at=None) if isinstance(started, Effect) else started

    def _waiting(self, queue: Sequence[Effect], made: Plan) -> list[Effect]:
        """Those that wait and whose expected start has changed."""
        schedule = self._control.settings.schedule
        batch = schedule.batch * schedule.frequency
        changed = []
        for row, wait, in_s in zip(made.row.tolist(), made.wait.tolist(), made.starts_in_s.tolist(), strict=True):
            if not wait or row >= len(queue):
                continue
            # Budget is asked for when a batch was closed, and not in between.
            starts_at = self._now + max(1, math.ceil(in_s / batch.total_seconds())) * batch
            if queue[row].starts_at != starts_at:
                changed.append(replace(queue[row], starts_at=starts_at))
        return changed

    # who gives up

    def _lapse(self, results: Results) -> None:
        """Give up what has waited for too long or is not wanted any more."""
        control = self._control
        frozen = control.held_by(OverrideKind.FREEZE)
        newest: dict[int, Decision] = {}
        if any(effect.batch < control.batch for effect in control.fleet.queue.values()):
            found = control.store.decisions(batch=control.batch, phase=Phase.BATCH)
            newest = {decision.stream_id: decision for decision in found}
        for effect in sorted(control.fleet.queue.values(), key=lambda effect: effect.stream_id):
            held_by, why = self._given_up(effect, newest.get(effect.stream_id), is_frozen=frozen[effect.stream_id])
            if held_by is not Hold.NOTHING:
                results.decisions.append(self._decision(effect, held_by, why))
                results.effects.append(
                    replace(
                        effect, status=EffectStatus.LAPSED, error=why, finished_at=control.clock.now(), starts_at=None
                    )
                )

    def _lapse_groups(self, results: Results) -> None:
        """The same for groups: frozen as a whole, without a reason any more, or out of patience."""
        control = self._control
        frozen = control.held_by(OverrideKind.FREEZE)
        for group in control.pools.groups.each:
            training, why = group.open, ""
            if training is None or training.status is not EffectStatus.WAITING:
                continue
            waited = control.batch - training.batch
            if frozen[group.member].all():
                why = "an override freezes every stream of the group"
            elif training.reason is Reason.DEBT and waited and group.account.debt <= training.price:
                why = f"batch {control.batch} gives no reason for it"
            elif waited > control.settings.life.budget_patience:
                why = f"waited for the budget for {waited} batches"
            if why:
                results.groups.append(
                    replace(training, status=EffectStatus.LAPSED, error=why, finished_at=control.clock.now())
                )

    def _given_up(self, effect: Effect, newest: Decision | None, *, is_frozen: bool) -> tuple[Hold, str]:
        """What keeps a training from waiting any longer, and the same in words."""
        control, schedule = self._control, self._control.settings.schedule
        if is_frozen:
            return Hold.FROZEN, "an override freezes the stream"
        silent_since = schedule.first_slot(control.batch + 1 - SILENT_BATCHES)
        if effect.batch < control.batch and control.fleet.last_slot[effect.stream_id] < silent_since:
            return Hold.NO_NEW_DATA, f"no observation in the last {SILENT_BATCHES} batches"
        is_over = newest is not None and newest.proposed is Action.KEEP and newest.reason not in UNKNOWING
        if newest is not None and is_over and effect.reason in RECURRING:
            return Hold.SETTLED, f"batch {control.batch} gives no reason for it ({newest.reason})"
        waited = control.batch - effect.batch
        if waited > control.settings.life.budget_patience:
            return Hold.BUDGET, f"waited for the budget for {waited} batches"
        return Hold.NOTHING, ""

    def _decision(self, effect: Effect, held_by: Hold, why: str) -> Decision:
        champion = self._control.fleet.champion(effect.stream_id)
        return Decision(
            stream_id=effect.stream_id,
            batch=self._control.batch,
            phase=Phase.RELEASE,
            action=Action.KEEP,
            proposed=Action.TRAIN if champion is None else Action.RETRAIN,
            reason=effect.reason,
            held_by=held_by,
            decided_at=self._control.clock.now(),
            version_id=champion.id if champion else NAIVE,
            note=f"{effect.id}: {why}",
        )
