"""Closing a batch: scores, verdict, proposal, guard, decision, record. One straight line."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import structlog

from mlma.core import guards, policy
from mlma.core.blocks import ACTION_CODE, REASONS, Bools, DecisionBlock
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


def close(control: Control, batch: int) -> tuple[Closed, list[Effect]]:
    """Judge a batch and record what was decided, with the trainings that it orders, in one transaction."""
    fleet, settings, now = control.fleet, control.settings, control.clock.now()
    scores = gather(control.executor.score(batch), fleet.n_streams)
    verdicts, (adaptive_mean, anchored_mean) = monitoring.judge(control, scores, batch)
    has_version = fleet.has_version()
    served = has_version & (fleet.since < batch)
    suspicious = scores.suspicious
    # A fault is charged to nobody, nor is the batch after it, which was forecast without the faulty values.
    groups = np.where((suspicious | scores.after_fault)[:, None], np.nan, scores.groups)
    control.pools.charge(groups, scores.mean_loss, batch - fleet.trained)
    control.pools.charge_groups(scores.members, groups[:, 1], scores.mean_loss, batch)
    pays, vain = control.pools.pays(), control.pools.in_vain()
    proposal = policy.propose(
        settings.policy,
        policy.Signals(
            alarm=verdicts.alarm,
            reason=verdicts.reason_code,
            has_version=has_version,
            age=batch - fleet.trained,
            failed=served & scores.fallback,
            armed=control.monitor.certificate.is_armed,
            fallback_every=settings.life.fallback_every,
            pays=pays,
        ),
    )
    backing_off = pays & ~control.pools.pays(vain=vain)
    n_rows = clean_rows.without_excluded(control, scores.n_rows, proposal.action != ACTION_CODE[Action.KEEP])
    failed = served & scores.fallback
    now_is = control.circumstances(
        n_rows, scores.last_slot, batch, suspicious=suspicious, backing_off=backing_off & ~failed
    )
    if settings.model.name == EXTERNAL:
        failed |= served & control.pools.leaderless(scores.members)  # in a blend the others serve
        now_is = replace(now_is, missing=failed)
    guarded = guards.guard(proposal, now_is)
    block = DecisionBlock(
        batch=batch, phase=Phase.BATCH, decided_at=now, stream_id=scores.stream_id, action=guarded.action,
        proposed=proposal.action, reason=proposal.reason, held_by=guarded.held_by, n=scores.n,
        mean_loss=scores.mean_loss, naive_loss=scores.naive_loss, p_value=verdicts.p_value,
        effect=verdicts.effect, adaptive_mean=adaptive_mean, anchored_mean=anchored_mean,
        n_reference=verdicts.n_reference, version_id=_serving_ids(control),
    )  # fmt: skip
    effects = [
        control.order(int(stream_id), batch, REASONS[block.reason[stream_id]], n=0)
        for stream_id in np.flatnonzero(guarded.action != ACTION_CODE[Action.KEEP])
    ]
    # What waits for the budget has not been paid for yet.
    trained = (guarded.action != ACTION_CODE[Action.KEEP]) & (not settings.life.has_budget)
    members = np.where(suspicious[:, None], np.nan, scores.members)
    learned = np.where(suspicious[:, None, None], 0.0, scores.recalibration)
    overdue = recalling.retire(control, scores.members, batch)
    of_groups = _group_trainings(control, scores, batch)
    control.pools.groups.note(of_groups)  # what starts now is paid for in what is recorded
    control.history.append_pool(control.pools.close(batch, members, learned, trained))
    findings = _findings(control, scores, served & ~failed, batch, now)
    findings += in_vain.findings(control, vain, backing_off, now)
    recalled = recalling.recall(control, scores, batch, overdue)
    control.store.record(
        Commit(
            cursor=batch, block=block, effects=effects, findings=findings, certificate=verdicts.certificate,
            incidents=verdicts.incidents, decisions=recalled.decisions, versions=recalled.versions,
            servings=recalled.servings, groups=of_groups,
        )
    )  # fmt: skip
    control.take_note(recalled)
    closed = Closed(batch=batch, scores=scores, verdicts=verdicts, decisions=block, has_version=served)
    return closed, effects


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
