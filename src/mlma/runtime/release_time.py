"""When a hold is expected to end: what `mlma explain` adds to the words for what kept a proposal back."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlma.core.decisions import Action, Hold, OverrideKind
from mlma.core.records import Decision, Override, Stream
from mlma.core.schedule import Schedule
from mlma.runtime.ports import History

ORDERS = {Hold.FROZEN: OverrideKind.FREEZE, Hold.PINNED: OverrideKind.PIN}
"""Holds that end with an order of an engineer."""

NEXT_BATCH = frozenset({Hold.NO_NEW_DATA, Hold.SUSPICIOUS_DATA, Hold.FORECASTS_MISSING, Hold.BACKING_OFF})
"""Holds that every batch looks at anew."""


def release_words(
    decision: Decision,
    schedule: Schedule,
    meta: Mapping[str, str],
    *,
    stream: Stream,
    overrides: Iterable[Override],
    exceptions: Sequence[Decision],
    history: History | None,
    shard: int,
) -> str:
    """When the hold of a decision is expected to end, in words; empty where nobody can say.

    Parameters
    ----------
    decision
        Of the newest batch.
    meta
        Of the state: ``cooldown`` in batches, ``min_rows`` in outcomes.
    overrides
        That hold now, for the stream.
    exceptions
        Decisions of the stream that are no plain keeps, newest first.
    history
        Counts the outcomes; None leaves the time of a lack of data open.
    """
    held_by = decision.held_by
    if held_by in ORDERS:
        ends = [order.ends_at for order in overrides if order.kind is ORDERS[held_by]]
        known = [end for end in ends if end is not None]
        if not ends:
            return "nothing holds it any more: the next batch decides"
        return f"until {max(known):%Y-%m-%d %H:%M}" if len(known) == len(ends) else "without an end"
    batch: int | None = None
    if held_by in NEXT_BATCH:
        batch = decision.batch + 1
    elif held_by is Hold.COOLING_DOWN:
        batch = _cooled_down(exceptions, meta)
    elif held_by is Hold.TOO_LITTLE_DATA and history is not None and "min_rows" in meta:
        missing = int(meta["min_rows"]) - _outcomes(history, schedule, stream, decision.batch, shard)
        batch = decision.batch + max(1, -(-missing // schedule.batch))
    if batch is None:
        return ""
    words = f"at the earliest after the batch that ends {schedule.time_of(schedule.origin_after(batch)):%Y-%m-%d %H:%M}"
    return f"{words}, if no value is missing until then" if held_by is Hold.TOO_LITTLE_DATA else words


def _cooled_down(exceptions: Sequence[Decision], meta: Mapping[str, str]) -> int | None:
    """The first batch that is no longer too soon after the last training; None where that is not known."""
    trained = [d.batch for d in exceptions if d.action in (Action.TRAIN, Action.RETRAIN)]
    return max(trained) + int(meta["cooldown"]) if trained and "cooldown" in meta else None


def _outcomes(history: History, schedule: Schedule, stream: Stream, batch: int, shard: int) -> int:
    """Outcomes in the train window after a batch; before the first recorded batch none is taken to be missing."""
    end = schedule.origin_after(batch)
    start = max(stream.first_slot, end - schedule.train_window, 0)
    blocks = history.losses(shard, first_batch=schedule.batch_of(start), last_batch=batch, stream_id=stream.id)
    here = [block for block in blocks if len(block.stream_ids)]
    n = 0
    for block in here:
        slots = schedule.first_slot(block.batch) + np.arange(schedule.batch)
        n += int(np.count_nonzero(np.isfinite(block.y[0]) & (slots >= start)))
    first = schedule.first_slot(here[0].batch) if here else end
    return n + max(0, first - start)
