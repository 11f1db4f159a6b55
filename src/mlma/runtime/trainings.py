"""From an ordered training to a version that serves, or does not: proof, full fit, promotion, each recorded.

A training runs for minutes on a worker and is found finished on a later tick. What is under way is kept in
memory only; after a crash the pending effects are done again and give the same versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlma.core import losses, overrides, promotion
from mlma.core.blocks import Bools
from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase, Reason, Role
from mlma.core.promotion import Proof
from mlma.core.records import Decision, Effect, Finding, Version
from mlma.core.settings import Serve
from mlma.runtime.control import Control, Results
from mlma.runtime.findings import OpenFindings
from mlma.runtime.group_trainings import GroupTrainings
from mlma.runtime.hook_orders import call_of, version_id
from mlma.runtime.shard_parts import Window
from mlma.runtime.training import TrainingJob, TrainingOutcome
from mlma.runtime.training_budget import TrainingQueue


@dataclass
class Underway:
    """One effect that is being carried out."""

    effect: Effect
    window: Window
    skipped: Bools  # shape (len(window.y),)
    proof: Proof | None = None
    cpu_s: float = 0.0
    came_back: bool = False  # whether ``cpu_s`` is what it has spent


class Trainings:
    """The trainings of one fleet."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._underway: dict[tuple[int, int], Underway] = {}
        self._queue = TrainingQueue(control)
        self._groups = GroupTrainings(control)
        self._saved: dict[tuple[int, int, int], str] = {}  # hashes of the artifacts of the outcomes at hand

    @property
    def is_pending(self) -> bool:
        """Whether a training has started and is not over."""
        return bool(self._control.fleet.effects) or self._groups.is_pending

    def settle(self, *, wait: bool) -> bool:
        """Start what may start, take in what has finished; with ``wait`` until nothing is pending.

        What waits for the budget is not pending, and nobody waits for it.

        Returns
        -------
        bool
            Whether anything finished.
        """
        moved = False
        while self.is_pending or self._queue.admit():
            self._start()
            self._groups.start()
            outcomes = self._control.executor.collect(wait=wait)
            for outcome in outcomes:
                self._control.costs.train_cpu_s += outcome.cpu_s
                self._control.costs.trainings += 1
            of_streams = [outcome for outcome in outcomes if outcome.key[0] >= 0]
            self._save(of_streams)
            results = Results()
            for outcome in sorted(of_streams, key=lambda outcome: outcome.key):
                self._take(outcome, results)
            self._groups.take([outcome for outcome in outcomes if outcome.key[0] < 0], results)
            self._expire(results)
            self._groups.expire(results)
            self._record(results)
            moved |= bool(outcomes)
            if not outcomes and not wait:
                return moved
        return moved

    # starting

    def _start(self) -> None:
        control = self._control
        waiting = [e for e in control.fleet.effects.values() if (e.stream_id, e.batch) not in self._underway]
        if not waiting:
            return
        by_stream = {effect.stream_id: effect for effect in waiting}
        orders = [order for order in control.store.overrides() if order.kind is OverrideKind.EXCLUDE]
        for window in control.executor.windows(np.asarray(sorted(by_stream), dtype=np.int64)):
            effect = by_stream[window.stream_id]
            skipped = overrides.excluded_slots(
                orders,
                control.fleet.streams[window.stream_id],
                control.settings.schedule,
                window.start,
                window.start + len(window.y),
            )
            under_way = Underway(effect=effect, window=window, skipped=skipped)
            self._underway[effect.stream_id, effect.batch] = under_way
            control.executor.submit(self._job(under_way, held_out=self._needs_proof(effect)))

    def _needs_proof(self, effect: Effect) -> bool:
        life = self._control.settings.life
        return (
            life.proof and life.serve is Serve.CHAMPION and self._control.fleet.champion(effect.stream_id) is not None
        )

    def _job(self, under_way: Underway, *, held_out: bool) -> TrainingJob:
        schedule, window = self._control.settings.schedule, under_way.window
        origin = window.start + len(window.y)
        last = origin - schedule.batch if held_out else origin
        return TrainingJob(
            stream_id=window.stream_id,
            batch=under_way.effect.batch,
            start=window.start,
            y=window.y,
            first=max(window.start, last - schedule.train_window),
            last=last,
            skipped=under_way.skipped,
            schedule=schedule,
            model=self._control.settings.model,
            call=call_of(self._control, under_way.effect, window) if self._control.trains_elsewhere else None,
        )

    # finishing

    def _save(self, outcomes: Sequence[TrainingOutcome]) -> None:
        """Store the artifacts of finished trainings."""
        known = [outcome for outcome in outcomes if outcome.blob and outcome.key[:2] in self._underway]
        hashes = self._control.artifacts.save_all([outcome.blob for outcome in known])
        self._saved = {outcome.key: sha256 for outcome, sha256 in zip(known, hashes, strict=True)}

    def _take(self, outcome: TrainingOutcome, results: Results) -> None:
        under_way = self._underway.get(outcome.key[:2])
        if under_way is None:
            return  # its deadline passed and it was given up; a late outcome changes nothing
        under_way.cpu_s += outcome.cpu_s
        under_way.came_back = True
        if outcome.error and outcome.may_succeed_later:
            self._tried(under_way, outcome.error, results)
        elif outcome.error:
            self._failed(under_way, outcome.error, results)
        elif outcome.held_out is not None:
            under_way.proof = self._prove(under_way, outcome)
            if under_way.proof.better:
                self._control.executor.submit(self._job(under_way, held_out=False))
            else:
                self._rejected(under_way, outcome, results)
        else:
            self._trained(under_way, outcome, results)

    def _prove(self, under_way: Underway, outcome: TrainingOutcome) -> Proof:
        settings, window = self._control.settings, under_way.window
        assert outcome.held_out is not None
        n = len(outcome.held_out)
        outcomes = np.where(under_way.skipped[-n:], np.nan, window.y[-n:])
        candidate, champion = (
            losses.loss(settings.testing.loss, outcomes, made, quantile=settings.testing.quantile)
            for made in (outcome.held_out, window.forecast[-n:])
        )
        return promotion.prove(candidate, champion, floor=settings.life.promotion_floor)

    def _version(self, under_way: Underway, outcome: TrainingOutcome, role: Role) -> Version:
        effect = under_way.effect
        return Version(
            id=version_id(effect),
            stream_id=effect.stream_id,
            batch=effect.batch,
            role=role,
            family=outcome.family,
            sha256=self._saved.get(outcome.key, ""),
            size_bytes=len(outcome.blob),
            n_rows=outcome.n_rows,
            fit_cpu_s=under_way.cpu_s,
            trained_at=self._control.clock.now(),
        )

    def _trained(self, under_way: Underway, outcome: TrainingOutcome, results: Results) -> None:
        effect, fleet = under_way.effect, self._control.fleet
        champion = fleet.champion(effect.stream_id)
        joins = self._control.settings.life.serve is Serve.BLEND
        reason = Reason.JOINED_POOL if joins else Reason.LATEST_SERVES
        if champion is None:
            reason = Reason.FIRST_VERSION
        if under_way.proof is not None:
            reason = Reason.BEAT_CHAMPION
        if self._shadows(champion):
            version = self._version(under_way, outcome, Role.CHALLENGER)
            results.versions.append(version)
            results.joined.append(version)
            results.decisions.append(self._decision(under_way, Action.KEEP, Reason.IN_SHADOW))
            self._finish(under_way, EffectStatus.DONE, "", results)
            self._healed(effect, results)
            return
        held_by = self._held(effect.stream_id, results)
        if held_by is not Hold.NOTHING:
            results.versions.append(self._version(under_way, outcome, Role.CHALLENGER))
            results.decisions.append(self._decision(under_way, Action.KEEP, reason, held_by=held_by))
        else:
            version = self._version(under_way, outcome, Role.CHAMPION)
            self._control.promote(version, reason, results)
            results.decisions.append(self._decision(under_way, Action.PROMOTE, reason))
        self._finish(under_way, EffectStatus.DONE, "", results)
        self._healed(effect, results)

    def _shadows(self, champion: Version | None) -> bool:
        """Whether a new version forecasts in shadow until its losses were compared with the champion's."""
        life = self._control.settings.life
        return champion is not None and life.serve is Serve.CHAMPION and not life.proof

    def _held(self, stream_id: int, results: Results) -> Hold:
        if results.frozen is None or results.pinned is None:
            results.frozen = self._control.held_by(OverrideKind.FREEZE)
            results.pinned = self._control.held_by(OverrideKind.PIN)
        if results.frozen[stream_id]:
            return Hold.FROZEN
        if self._control.fleet.champion(stream_id) is not None and results.pinned[stream_id]:
            return Hold.PINNED
        return Hold.NOTHING

    def _rejected(self, under_way: Underway, outcome: TrainingOutcome, results: Results) -> None:
        results.versions.append(self._version(under_way, outcome, Role.REJECTED))
        results.decisions.append(self._decision(under_way, Action.REJECT, Reason.NOT_BETTER))
        self._finish(under_way, EffectStatus.DONE, "", results)
        self._healed(under_way.effect, results)

    def _failed(self, under_way: Underway, error: str, results: Results) -> None:
        effect = under_way.effect
        results.decisions.append(self._decision(under_way, Action.REJECT, Reason.TRAINING_FAILED, note=error))
        results.findings.append(self._finding(effect, error, results))
        self._finish(under_way, EffectStatus.FAILED, error, results)

    def _finding(self, effect: Effect, error: str, results: Results) -> Finding:
        name = self._control.fleet.streams[effect.stream_id].name
        return self._open_findings(results).seen("training_failed", name, error)

    def _tried(self, under_way: Underway, error: str, results: Results) -> None:
        """Order again what has failed for now; give up what has failed too often."""
        effect, life = under_way.effect, self._control.settings.life
        if effect.attempts + 1 >= life.max_attempts:
            self._failed(under_way, error, results)
            return
        results.findings.append(self._finding(effect, f"try {effect.attempts + 1}: {error}", results))
        self._again(effect, results)

    def _again(self, effect: Effect, results: Results) -> None:
        deadline_at = self._control.clock.now() + self._control.settings.life.training_deadline
        results.effects.append(replace(effect, attempts=effect.attempts + 1, deadline_at=deadline_at))
        del self._underway[effect.stream_id, effect.batch]

    def _decision(
        self, under_way: Underway, action: Action, reason: Reason, *, held_by: Hold = Hold.NOTHING, note: str = ""
    ) -> Decision:
        effect, proof = under_way.effect, under_way.proof
        return Decision(
            stream_id=effect.stream_id,
            batch=effect.batch,
            phase=Phase.PROMOTION,
            action=action,
            proposed=Action.REJECT if action is Action.REJECT else Action.PROMOTE,
            reason=reason,
            held_by=held_by,
            decided_at=self._control.clock.now(),
            n=proof.n if proof else 0,
            mean_loss=proof.candidate_loss if proof else float("nan"),
            adaptive_mean=proof.champion_loss if proof else float("nan"),
            effect=-proof.gain if proof else float("nan"),
            version_id=version_id(effect),
            note=note or (str(proof) if proof else ""),
        )

    def _finish(self, under_way: Underway, status: EffectStatus, error: str, results: Results) -> None:
        effect = under_way.effect
        results.effects.append(
            replace(
                effect,
                status=status,
                attempts=effect.attempts + 1,
                finished_at=self._control.clock.now(),
                error=error,
                cpu_s=under_way.cpu_s if under_way.came_back else None,
            )
        )
        del self._underway[effect.stream_id, effect.batch]

    def _healed(self, effect: Effect, results: Results) -> None:
        """Close the finding of a stream whose trainings had failed."""
        name = self._control.fleet.streams[effect.stream_id].name
        results.findings += self._open_findings(results).healed("training_failed", name)

    def _open_findings(self, results: Results) -> OpenFindings:
        if results.known is None:
            results.known = OpenFindings(self._control.store, self._control.clock.now())
        return results.known

    def _expire(self, results: Results) -> None:
        """Order again what missed its deadline; give up what missed it too often."""
        now, life = self._control.clock.now(), self._control.settings.life
        for under_way in [entry for entry in self._underway.values() if entry.effect.deadline_at < now]:
            effect = under_way.effect
            if effect.attempts + 1 >= life.max_attempts:
                self._failed(under_way, f"no outcome by {effect.deadline_at:%Y-%m-%d %H:%M:%S} UTC", results)
                continue
            self._again(effect, results)

    def _record(self, results: Results) -> None:
        if not results.effects and not results.groups:
            return
        results.bucket = self._queue.settled([*results.effects, *results.groups])
        self._control.commit(results)
