"""From an ordered training of a group to the model that its streams are forecast with, each step recorded.

Like the trainings of streams it is found finished on a later tick, and done again after a crash with the same result.
There is no proof and no promotion: a group's model is a member of blends, and its weights follow its losses.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlma.core import overrides
from mlma.core.decisions import EffectStatus
from mlma.core.records import GroupTraining
from mlma.runtime.control import Control, Results
from mlma.runtime.findings import OpenFindings
from mlma.runtime.group_rows import GroupRequest
from mlma.runtime.groups import Group
from mlma.runtime.training import GroupJob, TrainingOutcome


class GroupTrainings:
    """The trainings of the groups of one fleet."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._underway: dict[int, GroupTraining] = {}  # by position of the group

    @property
    def is_pending(self) -> bool:
        """Whether a training has started and is not over."""
        return any(self._is_pending(group) for group in self._control.pools.groups.each)

    @staticmethod
    def _is_pending(group: Group) -> bool:
        return group.open is not None and group.open.status is EffectStatus.PENDING

    def start(self) -> None:
        """Submit what is pending and not under way."""
        for at, group in enumerate(self._control.pools.groups.each):
            if group.open is not None and self._is_pending(group) and at not in self._underway:
                self._underway[at] = group.open
                self._control.executor.submit(self._job(at, group, group.open))

    def _job(self, at: int, group: Group, training: GroupTraining) -> GroupJob:
        control, settings = self._control, group.settings
        rows = control.executor.group_rows(
            GroupRequest(
                group=settings.name,
                batch=training.batch,
                stream_ids=np.flatnonzero(group.member),
                per_stream=group.per_stream(control.settings.schedule.train_window),
                seed=settings.model.seed,
                unfit=overrides.excluded_spans(
                    control.store.overrides(), control.fleet.streams, control.settings.schedule
                ),
            )
        )
        return GroupJob(group=at, batch=training.batch, X=rows.X, y=rows.y, model=settings.model, rows_cpu_s=rows.cpu_s)

    def take(self, outcomes: Sequence[TrainingOutcome], results: Results) -> None:
        """Take in finished trainings, those of groups only."""
        for outcome in sorted(outcomes, key=lambda outcome: outcome.key):
            at = -1 - outcome.key[0]
            training = self._underway.get(at)
            if training is None or training.batch != outcome.key[1]:
                continue  # its deadline passed and it was given up; a late outcome changes nothing
            del self._underway[at]
            if outcome.error:
                self._failed(training, outcome.error, results, cpu_s=outcome.cpu_s)
            else:
                self._trained(training, outcome, results)

    def _trained(self, training: GroupTraining, outcome: TrainingOutcome, results: Results) -> None:
        control = self._control
        results.groups.append(
            replace(
                training,
                status=EffectStatus.DONE,
                attempts=training.attempts + 1,
                finished_at=control.clock.now(),
                cpu_s=outcome.cpu_s,
                origin=control.next_origin(),
                family=outcome.family,
                sha256=control.artifacts.save(outcome.blob),
                size_bytes=len(outcome.blob),
                n_rows=outcome.n_rows,
            )
        )
        results.findings += self._open_findings(results).healed("training_failed", self._member(training))

    def _failed(self, training: GroupTraining, error: str, results: Results, *, cpu_s: float | None) -> None:
        results.groups.append(
            replace(
                training,
                status=EffectStatus.FAILED,
                attempts=training.attempts + 1,
                finished_at=self._control.clock.now(),
                cpu_s=cpu_s,
                error=error,
            )
        )
        results.findings.append(self._open_findings(results).seen("training_failed", self._member(training), error))

    def expire(self, results: Results) -> None:
        """Order again what missed its deadline; give up what missed it too often."""
        now, life = self._control.clock.now(), self._control.settings.life
        for at, training in [entry for entry in self._underway.items() if entry[1].deadline_at < now]:
            del self._underway[at]
            if training.attempts + 1 >= life.max_attempts:
                error = f"no outcome by {training.deadline_at:%Y-%m-%d %H:%M:%S} UTC"
                self._failed(training, error, results, cpu_s=None)
                continue
            results.groups.append(
                replace(training, attempts=training.attempts + 1, deadline_at=now + life.training_deadline)
            )

    @staticmethod
    def _member(training: GroupTraining) -> str:
        return training.id.rsplit("-", 1)[0]

    def _open_findings(self, results: Results) -> OpenFindings:
        if results.known is None:
            results.known = OpenFindings(self._control.store, self._control.clock.now())
        return results.known
