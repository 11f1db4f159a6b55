"""The loss monitor of a fleet in the loop: opened where the store stands, fed batch by batch, never behind it.

Its state is a function of what is recorded: the losses of the batches, when which version came to serve, and what
was declared bad data. A checkpoint of every batch spares the way; without it, the batches are judged once more.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import structlog

from mlma.core import overrides
from mlma.core.blocks import Bools, Floats, Ints, LossBlock
from mlma.core.decisions import OverrideKind, Phase
from mlma.core.errors import StoreError
from mlma.core.recalibration import N_SUMS
from mlma.core.records import Stream
from mlma.monitor.monitor import LossMonitor
from mlma.monitor.verdicts import Verdicts
from mlma.runtime.control import Control
from mlma.runtime.scoring import BatchScores, gather, looked_at, summarise

log = structlog.get_logger(__name__)


def labels_of(streams: Sequence[Stream]) -> dict[str, list[str]]:
    """Label key to the value of each stream, "" where a stream has none."""
    keys = sorted({key for stream in streams for key in stream.labels})
    return {key: [stream.labels.get(key, "") for stream in streams] for key in keys}


def opened(control: Control) -> LossMonitor:
    """Monitor as it was after the last closed batch."""
    cursor = control.store.cursor()
    if cursor is None:
        return _fresh(control, 0)
    arrays = control.checkpoints.load_monitor(cursor)
    if arrays is not None:
        try:
            monitor = _fresh(control, arrays["loss"].shape[1])
            monitor.restore(arrays)
        except (KeyError, ValueError):  # saved by another version or with other settings
            return _rebuilt(control, cursor)
        return monitor
    return _rebuilt(control, cursor)


def judge(control: Control, scores: BatchScores, batch: int) -> tuple[Verdicts, tuple[Floats, Floats]]:
    """Judge a batch of the fleet, and write the checkpoint that belongs to it.

    Returns
    -------
    tuple
        The verdicts, and the mean losses over both references for people.
    """
    monitor = control.monitor
    made = _judge(control, monitor, scores, batch, control.clock.now())
    try:
        control.checkpoints.save_monitor(batch, monitor.arrays())
    except StoreError as error:  # it costs a restart time, and nothing else
        log.warning("checkpoint_failed", error=str(error))
    return made


def _judge(
    control: Control, monitor: LossMonitor, scores: BatchScores, batch: int, now: datetime
) -> tuple[Verdicts, tuple[Floats, Floats]]:
    streams = control.fleet.streams[: len(scores.n)]
    if len(streams) > monitor.n_streams:
        monitor.grow(labels_of(streams[monitor.n_streams :]), len(streams) - monitor.n_streams)
    monitor.reset(control.fleet.began(batch)[: len(streams)])
    bad = _exclude(control, monitor, streams, batch, now)
    means = monitor.reference_losses(batch)
    settings = control.settings
    summary = scores.summary(settings.testing, settings.schedule.batch)
    return monitor.judge(summary, batch=batch, bad=bad), means


def _exclude(
    control: Control, monitor: LossMonitor, streams: Sequence[Stream], batch: int, now: datetime
) -> Bools | None:
    """Leave bad data out of the references; says which streams have it in this very batch."""
    exclusions = (order for order in control.store.overrides() if order.kind is OverrideKind.EXCLUDE)
    orders = [order for order in exclusions if order.created_at <= now]
    batches = np.append(monitor.remembered(), batch)
    if not orders:
        monitor.exclude(batches, np.zeros((len(streams), len(batches)), dtype=np.bool_))
        return None
    mask = overrides.excluded_batches(orders, streams, control.settings.schedule, batches, now)
    monitor.exclude(batches, mask)
    return np.asarray(mask[:, -1])


def _fresh(control: Control, n_streams: int) -> LossMonitor:
    streams = control.fleet.streams[:n_streams]
    return LossMonitor.from_settings(
        control.settings.testing, n_streams, labels=labels_of(streams), seed=control.settings.model.seed
    )


def _rebuilt(control: Control, cursor: int) -> LossMonitor:
    """Judge all recorded batches once more, each as it was known then."""
    monitor = _fresh(control, 0)
    for batch in range(cursor + 1):
        blocks = [
            block
            for shard in range(control.executor.n_shards)
            for block in control.history.losses(shard, first_batch=batch, last_batch=batch)
        ]
        decided = control.store.decisions(batch=batch, phase=Phase.BATCH, limit=1)
        if blocks and decided:
            _judge(control, monitor, _scores(control, blocks), batch, decided[0].decided_at)
    return monitor


def _scores(control: Control, blocks: Sequence[LossBlock]) -> BatchScores:
    """Scores of recorded blocks; what only the loop needs is left empty."""
    parts = []
    for block in blocks:
        made = summarise(block, control.settings.testing)
        nothing: Ints = np.zeros(len(block.stream_ids), dtype=np.int64)
        parts.append(
            BatchScores(
                stream_id=block.stream_ids, n=made.n, mean_loss=made.mean_loss, naive_loss=made.yardsticks[0],
                zero_share=made.zero_share, event_size=made.event_size, **looked_at(made), n_rows=nothing,
                odd_share=np.zeros(len(nothing)), odd_limit=np.zeros(len(nothing)),
                after_fault=nothing.astype(np.bool_),
                last_slot=nothing, fallback=nothing.astype(np.bool_), members=np.empty((len(nothing), 0)),
                groups=np.empty((len(nothing), 2)),
                recalibration=np.empty((len(nothing), 0, N_SUMS)), impression=np.full(len(nothing), np.nan),
            )
        )  # fmt: skip
    return gather(parts, sum(len(part.n) for part in parts))
