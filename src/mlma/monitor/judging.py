"""One batch through a monitor: predicted, separated from what is common, tested, put into words, remembered."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlma.core import fleet
from mlma.core.batch_summary import BatchSummary
from mlma.core.blocks import Bools, Floats
from mlma.core.for_all import for_all
from mlma.core.incidents import Separation
from mlma.core.judge import Findings, verdict
from mlma.core.settings import FleetRule
from mlma.monitor.accumulation import NORMAL, Added
from mlma.monitor.kernel import Comparison, Kernel, is_one_for_all
from mlma.monitor.membership import adaptive_members, anchored_members
from mlma.monitor.memory import Memory
from mlma.monitor.scores import Scored
from mlma.monitor.sham import Segments
from mlma.monitor.verdicts import Verdicts

SAMPLE = 2048
"""Streams that dependence is learned from; evenly spread over the fleet."""

CANDIDATES = 1024
"""Streams that a batch's sham streams are drawn from."""

RETURN = 0.5
"""Part of the way back to the anchored references that the middle of the fleet is brought at every batch."""

SD_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch on its way; arrays of shape (streams,) unless said otherwise.

    Attributes
    ----------
    at
        Its number.
    log_loss, log_yards
        Logs of the mean losses, and of the yardsticks, shape (k, streams).
    tested
        The tested number, before anything common is taken out.
    usable
        Whether it may be tested and learned from; ``bad`` says where it is known to be bad data.
    """

    at: int
    summary: BatchSummary
    log_loss: Floats
    log_yards: Floats
    tested: Floats
    usable: Bools
    bad: Bools


def judge(memory: Memory, summary: BatchSummary, *, at: int, bad: Bools | None = None) -> Verdicts:
    """Judge batch ``at`` of all streams, and remember it."""
    batch = _opened(memory, summary, at, bad)
    _learn_dependence(memory, batch)
    kernel = Kernel.make(memory.references, memory.coefficients.beta, memory.dependence.now, memory.priors, at)
    separation = _separated(memory, batch, kernel)
    cleaned = batch.tested - separation.shift
    newest, total = _added_up(memory, batch, kernel, cleaned)
    found, log_e = _compared(memory, batch, kernel, cleaned, total)
    verdicts = _verdicts(memory, batch, kernel, separation, cleaned, found, log_e)
    if len(batch.log_yards):
        _learn_coefficients(memory, batch, kernel, cleaned)
    log_loss = batch.log_loss - separation.shift if len(batch.log_yards) else cleaned
    if memory.accumulation is not None and newest is not None:
        memory.accumulation.add(newest, at)
    memory.references.push(summary, log_loss, batch.log_yards, batch=at)
    if memory.single is not None:
        memory.single.remember(summary, memory.references)
    if memory.evidence is not None:
        row = int(memory.references.newest()[0])
        memory.evidence.add(log_loss, batch.log_yards, batch.usable, batch=at, row=row)
    _run_sham(memory, kernel, at)
    return replace(verdicts, certificate=memory.certificate)


def _opened(memory: Memory, summary: BatchSummary, at: int, bad: Bools | None) -> Batch:
    """Take in the size of the losses, and take logs."""
    memory.fix_yardsticks(len(summary.yardsticks))
    references = memory.references
    changed = references.floors.update(summary)
    if changed is not None:
        references.refloor(*changed)
    log_loss = summary.mean_loss + references.floors.floor
    np.log(log_loss, out=log_loss)
    log_yards = np.log(summary.yardsticks + references.floors.floor)
    usable = references.floors.ready()
    return Batch(
        at=at, summary=summary, log_loss=log_loss, log_yards=log_yards,
        tested=log_loss - memory.coefficients.beta @ log_yards if len(log_yards) else log_loss,
        usable=usable if bad is None else usable & ~bad,
        bad=np.zeros(memory.n_streams, dtype=np.bool_) if bad is None else bad,
    )  # fmt: skip


def _learn_dependence(memory: Memory, batch: Batch) -> None:
    """Learn from the newest batches, this one included: what is common at a batch is taken out before."""
    if not memory.dependence.is_due(batch.at):
        return
    rows = memory.references.newest()[: memory.dependence.n_batches]
    some = slice(None, None, max(1, memory.n_streams // SAMPLE))  # spread evenly over the fleet
    past = memory.references.values(rows, memory.coefficients.beta, some)
    newest = np.where(batch.usable[some], batch.tested[some], np.nan)
    memory.dependence.learn(np.vstack([past[::-1], newest[None]]), memory.priors.prior)


def _separated(memory: Memory, batch: Batch, kernel: Kernel) -> Separation:
    """What the fleet and its label sets have in common in this batch."""
    if not memory.settings.common:
        return memory.common.nothing()
    deviation = batch.tested - kernel.adaptive.expected
    scale = kernel.scale
    ready = batch.usable & (scale > 0.0)
    if not ready.any():  # one batch of past: the spread over the fleet must do
        known = deviation[batch.usable & np.isfinite(deviation)]
        if len(known):
            scale = np.full(memory.n_streams, SD_OF_MAD * float(np.median(np.abs(known - np.median(known)))))
            ready = batch.usable & (scale > 0.0)
    found = memory.common.separate(deviation, scale, ready, batch=batch.at)
    if not memory.settings.subtract_common:
        return replace(found, shift=np.zeros_like(found.shift))
    return _brought_back(found, memory, batch, kernel)


def _brought_back(found: Separation, memory: Memory, batch: Batch, kernel: Kernel) -> Separation:
    """The same, and part of how far the middle of the fleet has strayed from the anchored references taken out too.

    Nothing else holds it there: every batch is brought to the middle of the recent ones, as a robust location sees
    it. Of skewed losses that is a little beside their mean, always to the same side, and adds up over the batches.
    """
    if not memory.settings.anchored_size:
        return found
    some = slice(None, None, max(1, memory.n_streams // SAMPLE))
    cleaned, scale = batch.tested[some] - found.shift[some], kernel.anchored_scale[some]
    ready = batch.usable[some] & (scale > 0.0)
    away = memory.common.middle((cleaned - kernel.anchored.expected[some])[ready], scale[ready])
    if away == 0.0:
        return found
    shift, back = found.shift, RETURN * away
    return replace(found, shift=for_all(float(shift[0]) + back, len(shift)) if is_one_for_all(shift) else shift + back)


def _compared(
    memory: Memory, batch: Batch, kernel: Kernel, cleaned: Floats, total: Added | None
) -> tuple[Comparison, Floats | None]:
    """Test the cleaned numbers; with the e-process, the logs of the e-values too."""
    tested = cleaned if batch.usable.all() else np.where(batch.usable, cleaned, np.nan)
    if memory.single is not None:
        references = adaptive_members(memory.references, batch.at), anchored_members(memory.references)
        p_adaptive, p_anchored = (
            np.where(
                batch.usable, memory.single.p_value(batch.summary, members, least=memory.settings.min_reference), np.nan
            )
            for members in references
        )
        return kernel.combine(tested, p_adaptive, p_anchored), None
    found = kernel.compare(tested, total)
    if memory.evidence is None:
        return found, None
    prediction = memory.evidence.past.predict(batch.at, memory.coefficients.beta, kernel.dependence.rho)
    p_value, log_e = memory.evidence.update(tested, prediction, least=memory.settings.min_reference)
    return found._replace(p_value=p_value), log_e


def _added_up(memory: Memory, batch: Batch, kernel: Kernel, cleaned: Floats) -> tuple[Scored | None, Added | None]:
    """The newest scores, and what they add up to with those of the batches before, where that is asked for."""
    if memory.accumulation is None:
        return None, None
    made = (memory.references, kernel.anchored, kernel.anchored_scale)
    tested = cleaned if batch.usable.all() else np.where(batch.usable, cleaned, np.nan)
    newest = memory.accumulation.score(tested, *made, kernel.prior, kernel.dependence, batch.at)
    return newest, memory.accumulation.test(newest.score, *made, kernel.dependence, batch.at)


def _verdicts(
    memory: Memory,
    batch: Batch,
    kernel: Kernel,
    separation: Separation,
    cleaned: Floats,
    found: Comparison,
    log_e: Floats | None,
) -> Verdicts:
    """Put into words what was found, for every stream."""
    settings = memory.settings
    ready = ~np.isnan(found.p_value)
    significant = _significant(memory, found.p_value, ready, log_e)
    in_incident = np.zeros(memory.n_streams, dtype=np.bool_)
    if separation.incidents:
        in_incident = separation.member >= 0
        in_incident &= (kernel.compare(batch.tested).p_value <= settings.alpha) & ~significant
    is_all = memory.single is None and bool(ready.all())
    findings = Findings(
        p_adaptive=found.p_adaptive, p_anchored=found.p_anchored, p_accumulated=found.p_accumulated,
        effect=found.effect, significant=significant, ready=ready,
        has_value=ready if is_all else np.isfinite(batch.tested), bad=batch.bad, in_incident=in_incident,
        armed=memory.certificate.is_armed,
    )  # fmt: skip
    alarm, reason = verdict(findings, alpha=settings.alpha, effect_floor=settings.effect_floor)
    return Verdicts(
        batch=batch.at, p_value=found.p_value, p_adaptive=found.p_adaptive, p_anchored=found.p_anchored,
        p_accumulated=found.p_accumulated,
        effect=found.effect, ready=ready, alarm=alarm, reason_code=reason, incident=separation.member,
        incidents=separation.incidents, certificate=memory.certificate, mean_loss=batch.summary.mean_loss,
        tested=cleaned, n=batch.summary.n, n_reference=kernel.adaptive.m,
    )  # fmt: skip


def _significant(memory: Memory, p_value: Floats, ready: Bools, log_e: Floats | None) -> Bools:
    """Streams whose test stays rejected under the fleet's rule."""
    settings = memory.settings
    if settings.fleet is FleetRule.ONLINE:
        step = fleet.online_alarms(p_value, ready=ready, alpha=settings.alpha, online=memory.online)
        memory.online = step.after
        return step.alarms
    return fleet.alarms(p_value, ready=ready, alpha=settings.alpha, rule=settings.fleet, log_e=log_e)


def _learn_coefficients(memory: Memory, batch: Batch, kernel: Kernel, cleaned: Floats) -> None:
    """Learn how much of the losses the yardsticks explain; what is common is taken out on both sides."""
    if not memory.settings.learn_yardstick:
        return
    references = memory.references
    rows = references.newest()
    use = batch.usable & np.isfinite(cleaned - kernel.adaptive.expected) & (kernel.scale > 0.0)
    streams = np.flatnonzero(use & (kernel.adaptive.m >= memory.settings.min_reference))
    if not len(streams):
        return
    level = np.nanmean(references.log_loss[rows][:, streams], axis=0)
    yards = np.nanmean(references.log_yardsticks[:, rows][:, :, streams], axis=1)
    loss, yard = batch.log_loss[streams] - level, batch.log_yards[:, streams] - yards
    if memory.settings.common and len(streams) >= memory.common.rules.fewest_streams:
        loss, yard = loss - np.median(loss), yard - np.median(yard, axis=1)[:, None]
    memory.coefficients.learn(loss, yard, kernel.scale[streams], np.isfinite(loss + yard.sum(axis=0)))


def _run_sham(memory: Memory, kernel: Kernel, at: int) -> None:
    """Test parts of the past as if they were happening now, and renew the certificate."""
    settings, references = memory.settings, memory.references
    if not memory.sham.is_due():
        is_news = memory.sham.skip()
        memory.certificate = memory.certify(at) if is_news else replace(memory.certificate, batch=at)
        return
    rows = references.newest()
    rng = np.random.default_rng([memory.seed, max(at, 0)])
    some = np.arange(memory.n_streams)
    if memory.n_streams > CANDIDATES:
        some = np.sort(rng.choice(memory.n_streams, CANDIDATES, replace=False))
    newest = references.values(rows, memory.coefficients.beta, some)
    valid = np.isfinite(newest) & references.floors.ready()[some]
    if references.excluded is not None:
        valid &= ~references.excluded[np.ix_(rows, some)]
    run = np.where(valid.all(axis=0), len(rows), np.argmin(valid, axis=0))  # this batch was just pushed

    def single_tester(segments: Segments) -> tuple[Floats, Floats]:
        assert memory.single is not None
        _, effect = kernel.p_sham(segments, newest)
        original = replace(segments, stream=some[segments.stream])
        return memory.single.p_sham(original, references, size=settings.reference_size), effect

    def moderated_tester(segments: Segments) -> tuple[Floats, Floats]:
        shape = NORMAL if memory.accumulation is None else memory.accumulation.shape(kernel.dependence)
        return kernel.p_sham(segments, newest, shape)

    tester: Callable[[Segments], tuple[Floats, Floats]] = moderated_tester if memory.single is None else single_tester
    memory.sham.run(
        tester, run, rng, alpha=settings.alpha, floor=settings.effect_floor, rise=settings.sham_rise,
        least=settings.min_reference,
    )  # fmt: skip
    memory.certificate = memory.certify(at)
