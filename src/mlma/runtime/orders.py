"""What an engineer asked for, obeyed on the next tick: requests, and proposals that a lifted override releases."""

from dataclasses import replace
from datetime import datetime

import numpy as np

from mlma.core import selection
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind, Role
from mlma.core.errors import OperationError
from mlma.core.records import NAIVE, Decision, Request, Stream
from mlma.runtime import back_to, clean_rows
from mlma.runtime.control import Control, Results
from mlma.runtime.lookups import group_in
from mlma.runtime.trainings import Trainings


class Orders:
    """The orders of one fleet's engineer."""

    def __init__(self, control: Control, trainings: Trainings) -> None:
        self._control = control
        self._trainings = trainings

    def obey(self) -> None:
        """Consume open requests and release what is no longer held."""
        if not self._control.is_warm():
            return  # nothing was decided yet; requests wait
        for request in self._control.store.requests(open_only=True):
            self._consume(request)
        self._release()

    # requests

    def _consume(self, request: Request) -> None:
        name = group_in(request.selection)
        if name is not None and request.selection not in self._control.fleet.ids:
            self._consume_of_group(request, name)
            return
        results = Results()
        streams = self._selected(request)
        obeyed = 0
        is_rollback = request.kind is RequestKind.ROLLBACK
        past = None if request.back_to is None else self._past(streams, request.back_to)
        ids = np.asarray([] if is_rollback else [stream.id for stream in streams], dtype=np.int64)
        n_rows = dict(zip(ids.tolist(), clean_rows.count(self._control, ids).tolist(), strict=True))
        for stream in streams:
            if past is not None:
                decision = self._back_to(stream, request, past, results)
            elif is_rollback:
                decision = self._rollback(stream, request, results)
            else:
                decision = self._retrain(stream, request, results, n_rows[stream.id])
            obeyed += decision.held_by is Hold.NOTHING
            results.decisions.append(decision)
        outcome = f"{obeyed} of {len(streams)} streams"
        held = sorted({decision.held_by for decision in results.decisions} - {Hold.NOTHING})
        if held:
            outcome += f"; the others were held: {', '.join(held)}"
        consumed = replace(request, consumed_at=self._control.clock.now(), outcome=outcome)
        self._control.commit(results, requests=[consumed])

    def _consume_of_group(self, request: Request, name: str) -> None:
        """Order a training of a group's model; there is no former one to go back to."""
        control = self._control
        results, now = Results(), control.clock.now()
        group, outcome = control.pools.groups.named(name), f"there is no group {name} any more"
        if group is not None:
            members = np.flatnonzero(group.member)
            n_rows = np.zeros(control.fleet.n_streams, dtype=np.int64)
            n_rows[members] = clean_rows.count(control, members)
            order, held_by = control.pools.groups.requested(
                group, control.settings.life, frozen=control.held_by(OverrideKind.FREEZE), n_rows=n_rows,
                batch=control.batch, at=now,
            )  # fmt: skip
            results.groups += [] if order is None else [order]
            outcome = f"held: {held_by}" if order is None else f"{request.selection} is trained"
        control.commit(results, requests=[replace(request, consumed_at=now, outcome=outcome)])

    def _selected(self, request: Request) -> list[Stream]:
        try:
            return selection.parse(request.selection).select(self._control.fleet.streams)
        except OperationError:
            return []  # was checked when it was asked for; a selection that no longer parses selects nothing

    def _retrain(self, stream: Stream, request: Request, results: Results, n_rows: int) -> Decision:
        control = self._control
        has_version = control.fleet.champion(stream.id) is not None
        action = Action.RETRAIN if has_version else Action.TRAIN
        held_by = Hold.NOTHING
        if self._is_frozen(stream, results):
            held_by = Hold.FROZEN
        elif any(effect.stream_id == stream.id for effect in control.fleet.effects.values()):
            held_by = Hold.IN_PROGRESS
        elif n_rows < control.settings.life.min_rows:
            held_by = Hold.TOO_LITTLE_DATA
        if held_by is Hold.NOTHING:
            self._order(stream, Reason.REQUESTED, results)
        return self._decision(stream, action, Reason.REQUESTED, Phase.REQUEST, held_by, _words(request))

    def _is_frozen(self, stream: Stream, results: Results) -> bool:
        if results.frozen is None:
            results.frozen = self._control.held_by(OverrideKind.FREEZE)
        return bool(results.frozen[stream.id])

    def _rollback(self, stream: Stream, request: Request, results: Results) -> Decision:
        fleet = self._control.fleet
        former = fleet.former(stream.id)
        held_by = Hold.NOTHING
        if self._is_frozen(stream, results):
            held_by = Hold.FROZEN
        elif former is None:
            held_by = Hold.NO_FORMER_CHAMPION
        if held_by is Hold.NOTHING and former is not None:
            self._control.promote(former, Reason.REQUESTED, results)
        decision = self._decision(stream, Action.ROLL_BACK, Reason.REQUESTED, Phase.REQUEST, held_by, _words(request))
        return replace(decision, version_id=former.id if former else NAIVE)

    def _past(self, streams: list[Stream], time: datetime) -> back_to.Past:
        return back_to.Past.read(self._control.store, self._control.settings.schedule, streams, time)

    def _back_to(self, stream: Stream, request: Request, past: back_to.Past, results: Results) -> Decision:
        step = past.step(stream.id, self._control.fleet.champion(stream.id))
        held_by = Hold.FROZEN if self._is_frozen(stream, results) else step.held_by
        if held_by is Hold.NOTHING and step.target is not None:
            if step.is_change:
                self._control.promote(step.target, Reason.BACK_TO_TIME, results)
            results.versions += [replace(version, role=Role.TAKEN_BACK) for version in step.taken_back]
        decision = self._decision(
            stream, Action.ROLL_BACK, Reason.BACK_TO_TIME, Phase.REQUEST, held_by, _words(request)
        )
        return replace(decision, version_id=step.target.id if step.target else NAIVE)

    # releases

    def _release(self) -> None:
        control, fleet = self._control, self._control.fleet
        if not fleet.held and not fleet.waiting:
            return
        frozen, pinned = control.held_by(OverrideKind.FREEZE), control.held_by(OverrideKind.PIN)
        pinned &= fleet.has_version()  # a pin holds the version that serves; the first one it does not keep out
        results = Results()
        candidates = [d for d in fleet.waiting.values() if not (frozen[d.stream_id] or pinned[d.stream_id])]
        for decision in candidates:
            self._promote_challenger(decision, results)
            results.decisions.append(self._released(decision))
        answered = {decision.stream_id for decision in candidates}
        for decision in fleet.held.values():
            if not frozen[decision.stream_id] and decision.stream_id not in answered:
                self._order(fleet.streams[decision.stream_id], decision.reason, results)
                results.decisions.append(self._released(decision))
        if results.decisions:
            control.commit(results)

    def _released(self, decision: Decision) -> Decision:
        return replace(
            decision,
            phase=Phase.RELEASE,
            action=decision.proposed,
            held_by=Hold.NOTHING,
            decided_at=self._control.clock.now(),
            note=f"was held: {decision.held_by}",
        )

    def _promote_challenger(self, decision: Decision, results: Results) -> None:
        for version in self._control.store.versions(stream_id=decision.stream_id):
            if version.id == decision.version_id and version.role is Role.CHALLENGER:
                self._control.promote(version, decision.reason, results)

    def _order(self, stream: Stream, reason: Reason, results: Results) -> None:
        waits = self._control.fleet.queue.get(stream.id)
        if waits is not None:  # one training answers both orders; an engineer's goes ahead
            results.effects += [replace(waits, reason=reason)] if reason is Reason.REQUESTED else []
            return
        batch = self._control.batch
        n = self._control.fleet.ordered.get((stream.id, batch), 0)
        results.effects.append(self._control.order(stream.id, batch, reason, n=n))

    def _decision(
        self, stream: Stream, proposed: Action, reason: Reason, phase: Phase, held_by: Hold, note: str
    ) -> Decision:
        champion = self._control.fleet.champion(stream.id)
        return Decision(
            stream_id=stream.id,
            batch=self._control.batch,
            phase=phase,
            action=proposed if held_by is Hold.NOTHING else Action.KEEP,
            proposed=proposed,
            reason=reason,
            held_by=held_by,
            decided_at=self._control.clock.now(),
            version_id=champion.id if champion else NAIVE,
            note=note,
        )


def _words(request: Request) -> str:
    return f"request {request.id} by {request.author}: {request.comment}"
