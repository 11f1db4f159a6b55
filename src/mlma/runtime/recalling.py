"""Which version of a pool serves alone: the table of a version's life, applied to what the batch showed.

A version that just joined starts with the record of the best one, so what decides is how it did on its own batches.
"""

from collections.abc import Sequence
from dataclasses import replace

from mlma.core.blocks import Floats
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, Role
from mlma.core.life_cycle import Circumstances, Transition, advance
from mlma.core.life_table import DEADLINES, Event, State
from mlma.core.records import Decision, Version
from mlma.core.settings import EXTERNAL, Serve
from mlma.core.version_state import is_watched, state_of
from mlma.runtime.control import Control, Results
from mlma.runtime.scoring import BatchScores


def recall(control: Control, scores: BatchScores, batch: int, overdue: Sequence[Version] = ()) -> Results:
    """Let the favourites of a closed batch serve where one version serves alone; what is to be recorded.

    Parameters
    ----------
    overdue
        What `retire` returned.
    """
    results, life = Results(), control.settings.life
    if life.serve is not Serve.CHAMPION or life.proof:
        return results
    favourites, lost = control.pools.favourites(), control.pools.lost()
    if not favourites and not lost and not overdue:
        return results
    frozen, pinned = control.held_by(OverrideKind.FREEZE), control.held_by(OverrideKind.PIN)

    def now(version: Version) -> Circumstances:
        return Circumstances(
            serve=life.serve,
            frozen=bool(frozen[version.stream_id]),
            pinned=bool(pinned[version.stream_id]),
            has_served=version.id in control.fleet.lines.get(version.stream_id, []),
            is_useful=True,
        )

    for _, version_id in sorted(favourites.items()):
        version = control.fleet.versions[version_id]
        step = _told_better(control, version, batch, now(version))
        if step.held_by is Hold.NOTHING:
            control.promote(version, Reason.DID_BETTER, results)
        results.decisions.append(_decided(control, scores, version, batch, step))
    for stream_id, version_id, cause in lost:
        version = control.fleet.versions[version_id]
        state = _state(control, version, batch)
        step = advance(state, Event.NOT_BETTER, now(version))
        if step.state is State.REJECTED:
            results.versions.append(replace(version, role=Role.REJECTED))
            decision = _decided(control, scores, version, batch, step)
            results.decisions.append(
                replace(decision, action=Action.REJECT, proposed=Action.REJECT, reason=Reason.NOT_BETTER, note=cause)
            )
            control.pools.leave(stream_id, [version_id])
    for version in overdue:
        step = advance(State.CHALLENGER, Event.DEADLINE_PASSED, now(version))
        note = (
            f"none of its forecasts has arrived: after {DEADLINES.challenger} batches it is given up ({version.family})"
        )
        results.versions.append(replace(version, role=Role.REJECTED))
        decision = _decided(control, scores, version, batch, step)
        results.decisions.append(
            replace(decision, action=Action.REJECT, proposed=Action.REJECT, reason=Reason.NOT_BETTER, note=note)
        )
    return results


def retire(control: Control, loss: Floats, batch: int) -> list[Version]:
    """Take versions out of the pools whose forecasts are made elsewhere and do not arrive, while the champion's do.

    They would keep a seat for good, with the record of the days on which they forecast.

    Parameters
    ----------
    loss
        Shape (streams, seats), of a closed batch that the pools have not taken in yet.

    Returns
    -------
    list of Version
        Those that were in shadow, whose deadline has so passed.
    """
    if control.settings.model.name != EXTERNAL:
        return []
    gone = control.pools.seating.silent(loss, older_than=batch - DEADLINES.challenger)
    for stream_id, version_id in gone:
        control.pools.leave(stream_id, [version_id])
    found = [control.fleet.versions[version_id] for _, version_id in gone]
    return [version for version in found if version.role is Role.CHALLENGER]


def _state(control: Control, version: Version, batch: int) -> State:
    """State of a version of a pool, by what it was and how long it has served."""
    champion = control.fleet.champion(version.stream_id)
    return state_of(
        version,
        serves="" if champion is None else champion.id,
        seated=True,
        on_probation=is_watched(batch - int(control.fleet.since[version.stream_id])),
    )


def _told_better(control: Control, version: Version, batch: int, now: Circumstances) -> Transition:
    """Tell the table that a version did better than the champion.

    Against a champion on probation its former is reinstated; any other version of the pool is a challenger that won.
    """
    champion = control.fleet.champion(version.stream_id)
    former = control.fleet.former(version.stream_id)
    is_former = former is not None and former.id == version.id
    if champion is not None and is_former and _state(control, champion, batch) is State.PROBATION:
        return advance(State.PROBATION, Event.FORMER_BETTER, now)
    state = _state(control, version, batch)
    if state is State.KEPT:
        state = advance(state, Event.RECALLED, now).state
    return advance(state, Event.BETTER, now)


def _decided(control: Control, scores: BatchScores, version: Version, batch: int, step: Transition) -> Decision:
    held_by = step.held_by
    action = Action.ROLL_BACK if step.event is Event.FORMER_BETTER else Action.PROMOTE
    return Decision(
        stream_id=version.stream_id,
        batch=batch,
        phase=Phase.COMPARISON,
        action=action if held_by is Hold.NOTHING else Action.KEEP,
        proposed=action,
        reason=Reason.DID_BETTER,
        held_by=held_by,
        decided_at=control.clock.now(),
        n=int(scores.n[version.stream_id]),
        mean_loss=control.pools.recent_loss(version.stream_id, version.id),
        adaptive_mean=control.pools.recent_loss(version.stream_id, None),
        version_id=version.id,
        note=step.reason,
    )
