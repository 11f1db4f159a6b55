"""Closing a batch: scores, verdict, proposal, guard, decision, record. One straight line."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import structlog

from mlma.core import guards, policy
from mlma.core.blocks import ACTION_CODE, REASONS, Bools, DecisionBlock, Floats, Ints
from mlma.core.decisions import Action, OverrideKind, Phase
from mlma.core.records import NAIVE, Effect, Finding, GroupTraining
from mlma.core.settings import EXTERNAL
from mlma.monitor.verdicts import Verdicts
from mlma.runtime import clean_rows, in_vain, monitoring, recalling
from mlma.runtime.control import Control
from mlma.runtime.findings import OpenFindings
from mlma.runtime.groups import GroupSignals
from mlma.runtime.ports import Commit
from mlma.runtime.scoring import BatchScores, gather

log = structlog.get_logger(__name__)

SILENT_BATCHES = 2
"""Batches without an observation after which a stream is reported silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """One closed batch, for whoever observes the tick; arrays of shape (streams,)."""

    batch: int
    scores: BatchScores
    verdicts: Verdicts
    decisions: DecisionBlock
    has_version: Bools  # a trained version was serving in the whole batch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    """What was proposed for each stream and what the guards made of it; arrays of shape (streams,)."""

    proposal: policy.Proposal
    guarded: guards.Guarded
    served: Bools  # a trained version was serving in the whole batch
    failed: Bools  # and could not forecast
    vain: Ints  # newest versions in a row that are no better than an older one
    backing_off: Bools  # a training was worth its price, but not what it must be after these

    @property
    def trains(self) -> Bools:
        """Streams that are trained now."""
        found: Bools = self.guarded.action != ACTION_CODE[Action.KEEP]
        return found


def close(control: Control, batch: int) -> tuple[Closed, list[Effect]]:
    """Judge a batch and record what was decided, with the trainings that it orders, in one transaction."""
    now = control.clock.now()
    scores = gather(control.executor.score(batch), control.fleet.n_streams)
    verdicts, reference_means = monitoring.judge(control, scores, batch)
    _charge(control, scores, batch)
    decided = _decide(control, scores, verdicts, batch)
    block = _block(control, scores, verdicts, decided, reference_means, batch)
    effects = [
        control.order(int(stream_id), batch, REASONS[block.reason[stream_id]], n=0)
        for stream_id in np.flatnonzero(decided.trains)
    ]
    overdue = recalling.retire(control, scores.members, batch)
    of_groups = _group_trainings(control, scores, batch)
    control.pools.groups.note(of_groups)  # what starts now is paid for in what is recorded
    control.pools.expect(scores.impression)
    _close_pools(control, scores, decided.trains, batch)
    findings = _findings(control, scores, decided.served & ~decided.failed, batch, now)
    findings += in_vain.findings(control, decided.vain, decided.backing_off, now)
    recalled = recalling.recall(control, scores, batch, overdue)
    control.store.record(
        Commit(
            cursor=batch, block=block, effects=effects, findings=findings, certificate=verdicts.certificate,
            incidents=verdicts.incidents, decisions=recalled.decisions, versions=recalled.versions,
            servings=recalled.servings, groups=of_groups,
        )
    )  # fmt: skip
    control.take_note(recalled)
    closed = Closed(batch=batch, scores=scores, verdicts=verdicts, decisions=block, has_version=decided.served)
    return closed, effects


def _charge(control: Control, scores: BatchScores, batch: int) -> None:
    """Note what age has cost: a fault is charged to nobody, nor is the batch after it, forecast without its values."""
    is_nobodys = scores.suspicious | scores.after_fault
    groups = np.where(is_nobodys[:, None], np.nan, scores.groups)
    control.pools.charge(groups, scores.mean_loss, batch - control.fleet.trained)
    control.pools.charge_groups(scores.members, groups[:, 1], scores.mean_loss, batch)


def _decide(control: Control, scores: BatchScores, verdicts: Verdicts, batch: int) -> _Decided:
    """Propose an action for each stream and let the guards speak."""
    fleet, settings = control.fleet, control.settings
    has_version = fleet.has_version()
    served = has_version & (fleet.since < batch)
    failed = served & scores.fallback
    pays, vain = control.pools.pays(), control.pools.in_vain()
    proposal = policy.propose(
        settings.policy,
        policy.Signals(
            alarm=verdicts.alarm,
            reason=verdicts.reason_code,
            has_version=has_version,
            age=batch - fleet.trained,
            failed=failed,
            armed=control.monitor.certificate.is_armed,
            fallback_every=settings.life.fallback_every,
            pays=pays,
        ),
    )
    backing_off = pays & ~control.pools.pays(vain=vain) & ~failed
    n_rows = clean_rows.without_excluded(control, scores.n_rows, proposal.action != ACTION_CODE[Action.KEEP])
    now_is = control.circumstances(
        n_rows, scores.last_slot, batch, suspicious=scores.suspicious, backing_off=backing_off
    )
    if settings.model.name == EXTERNAL:
        failed = failed | (served & control.pools.seating.leaderless(scores.members))  # in a blend the others serve
        now_is = replace(now_is, missing=failed)
    return _Decided(
        proposal=proposal, guarded=guards.guard(proposal, now_is), served=served, failed=failed, vain=vain,
        backing_off=backing_off,
    )  # fmt: skip


def _block(
    control: Control,
    scores: BatchScores,
    verdicts: Verdicts,
    decided: _Decided,
    reference_means: tuple[Floats, Floats],
    batch: int,
) -> DecisionBlock:
    """What was decided, as it is recorded."""
    return DecisionBlock(
        batch=batch, phase=Phase.BATCH, decided_at=control.clock.now(), stream_id=scores.stream_id,
        action=decided.guarded.action, proposed=decided.proposal.action, reason=decided.proposal.reason,
        held_by=decided.guarded.held_by, n=scores.n, mean_loss=scores.mean_loss, naive_loss=scores.naive_loss,
        p_value=verdicts.p_value, effect=verdicts.effect, adaptive_mean=reference_means[0],
        anchored_mean=reference_means[1], n_reference=verdicts.n_reference, version_id=_serving_ids(control),
    )  # fmt: skip


def _close_pools(control: Control, scores: BatchScores, trains: Bools, batch: int) -> None:
    """Let the pools take in what their members lost; a fault says nothing of them."""
    suspicious = scores.suspicious
    members = np.where(suspicious[:, None], np.nan, scores.members)
    learned = np.where(suspicious[:, None, None], 0.0, scores.recalibration)
    paid = trains & (not control.settings.life.has_budget)  # what waits for the budget has not been paid for yet
    control.history.append_pool(control.pools.close(batch, members, learned, paid))


def _group_trainings(control: Control, scores: BatchScores, batch: int) -> list[GroupTraining]:
    """Trainings of groups that a batch orders."""
    settings = control.settings
    if not len(control.pools.groups):
        return []
    orders, held = control.pools.groups.due(
        GroupSignals(
            batch=batch,
            n_rows=scores.n_rows,
            frozen=control.held_by(OverrideKind.FREEZE),
            has_new=scores.last_slot >= settings.schedule.first_slot(batch),
            suspicious=scores.suspicious,
            scored=scores.n > 0,
            losses=scores.members[:, control.pools.n_ageless : control.pools.n_fixed],
        ),
        settings.policy,
        settings.life,
        at=control.clock.now(),
    )
    for name, hold in held.items():
        log.debug("group_training_held", group=name, batch=batch, held_by=str(hold))
    return orders


def _serving_ids(control: Control) -> tuple[str, ...]:
    lines = control.fleet.lines
    return tuple(line[-1] if (line := lines.get(i)) else NAIVE for i in range(control.fleet.n_streams))


def _findings(control: Control, scores: BatchScores, forecast: Bools, batch: int, now: datetime) -> list[Finding]:
    """Streams that fell silent or send faults, or no longer do, and champions that recovered.

    Parameters
    ----------
    forecast
        Shape (streams,), whether the champion forecast the batch.
    """
    fleet, schedule = control.fleet, control.settings.schedule
    known = OpenFindings(control.store, now)
    # The rings forget what is too old, so a stream that died long ago may look as if it had never spoken.
    last = np.maximum(scores.last_slot, fleet.last_slot)
    born = np.fromiter((stream.first_slot for stream in fleet.streams), dtype=np.int64, count=fleet.n_streams)
    age = schedule.first_slot(batch) - np.maximum(last, born)
    silent = age > (SILENT_BATCHES - 1) * schedule.batch
    found = []
    for stream_id in np.flatnonzero(silent).tolist():
        name = fleet.streams[stream_id].name
        message = f"no observation since {schedule.time_of(int(last[stream_id])):%Y-%m-%d %H:%M} UTC"
        before = known.get("stream_silent", name)
        if last[stream_id] < 0:
            message = before.message if before else "no observation has arrived yet"
        found.append(known.seen("stream_silent", name, message))
    for stream_id in np.flatnonzero(scores.suspicious).tolist():
        share, limit = scores.odd_share[stream_id], scores.odd_limit[stream_id]
        message = f"{share:.0%} of its newest batch repeat or are not positive, {limit:.0%} would be usual"
        found.append(known.seen("suspicious_data", fleet.streams[stream_id].name, message))
    is_sound = np.isfinite(scores.odd_share) & ~scores.suspicious
    for kind, is_over in (
        ("stream_silent", ~silent), ("model_failed", forecast), ("suspicious_data", is_sound),
    ):  # fmt: skip
        for name in known.subjects(kind):
            stream_id = fleet.ids.get(name, -1)
            if stream_id >= 0 and is_over[stream_id]:
                found += known.healed(kind, name)
    has_forecast: Bools = np.asarray(np.isfinite(scores.members).any(axis=0))
    for seat, group in enumerate(control.pools.groups.each, start=control.pools.n_ageless):
        if has_forecast[seat]:
            found += known.healed("model_failed", group.settings.member)
    return found
