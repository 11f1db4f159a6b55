"""Whether versions that learned from an event are worse for it, once the event is over; see `benchmarks.storms`.

Two answers, each over the fortnight after an event: the versions of its trainings that serve then against the best one
that was trained before it, and a training at the end of the event with and without its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.storms_events import AFTER, LATER_BATCHES, Event, Run, is_version, observed
from mlma.core.blocks import Floats
from mlma.core.decisions import EffectKind
from mlma.models import registry
from mlma.models.features import Features
from mlma.runtime.training import TrainingJob, train


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstUnseen:
    """Versions of an event's trainings that weigh more than one half a fortnight later, for one policy.

    ``loss`` and ``unseen`` have one entry a stream: mean loss of that version, and of the best one of all pools that
    was trained before the event, over the batches after it that both forecast.
    """

    event: str
    policy: str
    streams: tuple[str, ...]
    loss: tuple[float, ...]
    unseen: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """Mean losses over the fortnight after an event, one entry a stream, without recalibration."""

    event: str
    streams: tuple[str, ...]
    before: tuple[float, ...]  # of a version trained just before the event
    with_rows: tuple[float, ...]  # of one trained after its last batch
    without_rows: tuple[float, ...]  # of the same without the values of the event


def against_unseen(run: Run, event: Event, runs: Sequence[Run]) -> AgainstUnseen:
    """How the versions that saw an event and serve after it compare with those that did not.

    Parameters
    ----------
    runs
        All policies: whose versions of before are looked at.
    """
    began, over, until = _batches(run, event)
    storm = {
        effect.id.removeprefix(f"{EffectKind.TRAIN}-")
        for effect in run.trainings()
        if began <= effect.batch <= over + LATER_BATCHES
    }
    found: list[tuple[str, float, float]] = []
    for name in event.streams:
        stream_id = run.ids[name]
        mine = [one for one, weight in run.weights(stream_id, until).items() if one in storm and weight > 0.5]
        losses = version_losses(run, stream_id, range(over + 1, until + 1))
        if not mine or mine[0] not in losses:
            continue
        loss = losses[mine[0]]
        known = np.isfinite(loss)
        others = [
            values[known].mean()
            for other in runs
            for member, values in version_losses(other, stream_id, range(over + 1, until + 1)).items()
            if int(member.split("-")[1]) < began and np.isfinite(values[known]).all()
        ]
        if others and known.any():
            found.append((name, float(loss[known].mean()), float(min(others))))
    names, loss, unseen = zip(*found, strict=True) if found else ((), (), ())
    return AgainstUnseen(event=event.name, policy=run.tally.name, streams=names, loss=loss, unseen=unseen)


def version_losses(run: Run, stream_id: int, batches: range) -> dict[str, Floats]:
    """Mean losses of the versions in a stream's pool by batch, NaN where one did not forecast."""
    made: dict[str, Floats] = {}
    for at, batch in enumerate(batches):
        block = run.tally.engine.history.pool(batch, stream_id=stream_id)
        if block is None:
            continue
        for member, loss in zip(block.member, block.loss, strict=True):
            if is_version(block.members[member]):
                made.setdefault(block.members[member], np.full(len(batches), np.nan))[at] = loss
    return made


def retrained(run: Run, event: Event) -> Retrained | None:
    """What leaving the rows of an event out of a training at its end would bring; None where nothing comes after."""
    began, over, until = _batches(run, event)
    if began <= run.first or until <= over:
        return None
    schedule = run.tally.engine.settings.schedule
    left_out = range(schedule.slot_at(event.start), schedule.slot_at(event.end) + 1)
    nothing, targets = range(0), range(schedule.origin_after(over), schedule.origin_after(until))
    columns = [
        [_loss_of(run, run.ids[name], batch, without, targets) for name in event.streams]
        for batch, without in ((began - 1, nothing), (over, nothing), (over, left_out))
    ]
    return Retrained(
        event=event.name, streams=event.streams, before=tuple(columns[0]), with_rows=tuple(columns[1]),
        without_rows=tuple(columns[2]),
    )  # fmt: skip


def _batches(run: Run, event: Event) -> tuple[int, int, int]:
    """First and last batch of an event, and the last of the fortnight after."""
    over = run.batch_at(event.end)
    return run.batch_at(event.start), over, min(run.last, run.batch_at(event.end + AFTER))


def _loss_of(run: Run, stream_id: int, batch: int, left_out: range, targets: range) -> float:
    """Mean absolute error over some targets of a version that is trained after a batch without some slots.

    Raises
    ------
    RuntimeError
        The training failed.
    """
    settings = run.tally.engine.settings
    schedule, features, y = settings.schedule, Features(settings.schedule), observed(run, stream_id)
    origin = schedule.origin_after(batch)
    start = origin - features.lookback - schedule.train_window
    window = np.concatenate([np.full(max(0, -start), np.nan), y[max(0, start) : origin]])
    window[max(0, left_out.start - start) : max(0, left_out.stop - start)] = np.nan
    job = TrainingJob(
        stream_id=stream_id, batch=batch, start=start, y=window, first=origin - schedule.train_window, last=origin,
        skipped=np.zeros(len(window), dtype=np.bool_), schedule=schedule, model=settings.model,
    )  # fmt: skip
    outcome = train(job)
    if outcome.error:
        raise RuntimeError(f"training of stream {stream_id} after batch {batch}: {outcome.error}")
    model = registry.load(outcome.family, outcome.blob, settings.model)
    past = max(0, targets.start - features.lookback)
    X = features.build(y[None, past : targets.stop], start=past, first=targets.start, last=targets.stop)[0]
    return float(np.nanmean(np.abs(model.predict(X) - y[targets.start : targets.stop])))
