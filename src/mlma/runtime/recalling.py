"""Which version of a pool serves alone: the one with the lowest recent losses on the same targets.

A version that just joined starts with the record of the best one, so what decides is how it did on its own batches.
"""

from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason
from mlma.core.records import Decision
from mlma.core.settings import Serve
from mlma.runtime.control import Control, Results
from mlma.runtime.scoring import BatchScores


def recall(control: Control, scores: BatchScores, batch: int) -> Results:
    """Let the favourites of a closed batch serve where one version serves alone; what is to be recorded."""
    results, life = Results(), control.settings.life
    if life.serve is not Serve.CHAMPION or life.proof:
        return results
    favourites = control.pools.favourites()
    if not favourites:
        return results
    frozen, pinned = control.held_by(OverrideKind.FREEZE), control.held_by(OverrideKind.PIN)
    for stream_id, version_id in sorted(favourites.items()):
        held_by = Hold.FROZEN if frozen[stream_id] else Hold.PINNED if pinned[stream_id] else Hold.NOTHING
        version = control.fleet.versions[version_id]
        if held_by is Hold.NOTHING:
            control.promote(version, Reason.DID_BETTER, results)
        results.decisions.append(
            Decision(
                stream_id=stream_id,
                batch=batch,
                phase=Phase.COMPARISON,
                action=Action.KEEP if held_by else Action.PROMOTE,
                proposed=Action.PROMOTE,
                reason=Reason.DID_BETTER,
                held_by=held_by,
                decided_at=control.clock.now(),
                n=int(scores.n[stream_id]),
                mean_loss=control.pools.recent_loss(stream_id, version_id),
                adaptive_mean=control.pools.recent_loss(stream_id, None),
                version_id=version_id,
            )
        )
    return results
