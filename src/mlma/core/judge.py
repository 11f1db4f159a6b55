"""From the evidence of one closed batch to a verdict for every stream of the fleet.

Everything here works on arrays of shape (streams,); nothing loops over streams.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from mlma.core import fleet, loss_tests
from mlma.core.blocks import REASON_CODE, Bools, Floats, Ints
from mlma.core.decisions import Reason
from mlma.core.reference import Reference
from mlma.core.settings import LossTestName, TestingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the shards know about one closed batch; arrays of shape (streams,), NaN where a number is missing."""

    stream_id: Ints
    n: Ints  # scored targets
    mean_loss: Floats  # of the served forecasts
    naive_loss: Floats  # of seasonal naive on the same targets
    tested: Floats  # the tested number: log mean loss, relative to the yardstick
    adaptive: Reference  # of the tested number
    anchored: Reference
    adaptive_loss: Floats  # mean loss over the adaptive reference, for people
    anchored_loss: Floats
    adaptive_p: Floats  # of a test on single losses; NaN with the moderated test
    anchored_p: Floats
    n_rows: Ints  # clean observations in the train window
    last_slot: Ints  # newest observation; -1 when there is none
    fallback: Bools  # seasonal naive served at least one target


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the test says about one batch; arrays of shape (streams,)."""

    p_value: Floats  # Simes combination over the references, NaN when not ready
    effect: Floats  # relative rise of the tested loss over the speaking reference
    alarm: Bools
    reason: np.ndarray[tuple[int], np.dtype[np.int8]]  # codes into REASONS


def judge(evidence: Evidence, settings: TestingSettings, *, excluded: Bools) -> Verdict:
    """Test every stream's recent batch against its references and apply the fleet's rule.

    The two references give two p-values; they are combined by Simes' rule, which keeps the level for
    positively dependent tests (Sarkar 1998) and costs nothing while both references hold the same batches.

    Parameters
    ----------
    evidence
        Of all streams of the fleet.
    settings
        Test, level, rule and effect floor.
    excluded
        Shape (streams,): the batch lies in a period that an engineer declared bad data.
    """
    p_adaptive, p_anchored = _p_values(evidence, settings)
    p_value = simes(p_adaptive, p_anchored)
    p_value = np.where(excluded, np.nan, p_value)
    ready = np.isfinite(p_value)
    anchored_speaks = np.nan_to_num(p_anchored, nan=2.0) < np.nan_to_num(p_adaptive, nan=2.0)
    baseline = np.where(anchored_speaks, evidence.anchored.mean, evidence.adaptive.mean)
    effect = np.expm1(np.minimum(evidence.tested - baseline, 50.0))
    significant = fleet.alarms(p_value, ready=ready, alpha=settings.alpha, rule=settings.fleet)
    alarm = significant & (np.nan_to_num(effect, nan=-1.0) >= settings.effect_floor)

    rejects_adaptive = np.nan_to_num(p_adaptive, nan=2.0) <= settings.alpha
    rejects_anchored = np.nan_to_num(p_anchored, nan=2.0) <= settings.alpha
    reason = np.select(
        [
            excluded,
            ~np.isfinite(evidence.tested),
            ~ready,
            alarm & rejects_adaptive & rejects_anchored,
            alarm & anchored_speaks,
            alarm,
            significant,
        ],
        [
            REASON_CODE[Reason.BAD_DATA],
            REASON_CODE[Reason.NO_OUTCOMES],
            REASON_CODE[Reason.NOT_READY],
            REASON_CODE[Reason.ALARM_BOTH],
            REASON_CODE[Reason.ALARM_ANCHORED],
            REASON_CODE[Reason.ALARM_ADAPTIVE],
            REASON_CODE[Reason.SMALL_EFFECT],
        ],
        default=REASON_CODE[Reason.WITHIN_REFERENCE],
    ).astype(np.int8)
    return Verdict(p_value=p_value, effect=effect, alarm=alarm, reason=reason)


def simes(first: Floats, second: Floats) -> Floats:
    """Simes' combination of two p-values, elementwise; NaN counts as absent (Simes 1986).

    Examples
    --------
    >>> simes(np.array([0.01, 0.02, np.nan]), np.array([0.2, 0.02, 0.03]))
    array([0.02, 0.02, 0.03])
    """
    low, high = np.fmin(first, second), np.fmax(first, second)
    both = np.isfinite(first) & np.isfinite(second)
    return np.where(both, np.minimum(2.0 * low, high), low)


def _p_values(evidence: Evidence, settings: TestingSettings) -> tuple[Floats, Floats]:
    if settings.name is not LossTestName.MODERATED:
        return evidence.adaptive_p, evidence.anchored_p
    prior = loss_tests.fit_prior(evidence.adaptive.variance, (evidence.adaptive.m - 1).astype(np.float64))
    adaptive, anchored = (
        loss_tests.moderated(evidence.tested, reference, prior, min_reference=settings.min_reference).p_value
        for reference in (evidence.adaptive, evidence.anchored)
    )
    return adaptive, anchored


def gather(parts: Sequence[Evidence], n_streams: int) -> Evidence:
    """Evidence of all shards as one, in order of stream id; every id of 0 .. n_streams - 1 occurs once.

    Raises
    ------
    ValueError
        A stream is missing or occurs twice.
    """
    stream_id = np.concatenate([part.stream_id for part in parts])
    order = np.argsort(stream_id)
    if not np.array_equal(stream_id[order], np.arange(n_streams)):
        raise ValueError(f"evidence of {len(order)} streams, expected each of {n_streams} once")

    def reference(pick: Callable[[Evidence], Reference]) -> Reference:
        return Reference(
            mean=np.concatenate([pick(part).mean for part in parts])[order],
            variance=np.concatenate([pick(part).variance for part in parts])[order],
            m=np.concatenate([pick(part).m for part in parts])[order],
        )

    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in (field.name for field in fields(Evidence))
        if name not in {"adaptive", "anchored"}
    }
    return Evidence(
        adaptive=reference(lambda part: part.adaptive), anchored=reference(lambda part: part.anchored), **columns
    )
