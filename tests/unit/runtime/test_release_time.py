"""When a hold is expected to end, as an explanation tells it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.adapters.memory_history import MemoryHistory
from mlma.core.blocks import LossBlock
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason
from mlma.core.records import Decision, Override, Stream
from mlma.core.schedule import Schedule
from mlma.runtime.explain_words import holding
from mlma.runtime.release_time import release_words

ANCHOR = datetime(2001, 3, 1, tzinfo=UTC)
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=6), horizon=4, batch=4, train_window=16)
STREAM = Stream(id=0, name="IAH", first_slot=0)
META = {"cooldown": "2", "min_rows": "12"}
DECISION = Decision(
    stream_id=0, batch=9, phase=Phase.BATCH, action=Action.KEEP, proposed=Action.RETRAIN, reason=Reason.DEBT,
    decided_at=ANCHOR, n=4, mean_loss=1.0, naive_loss=4.0, p_value=0.5, effect=0.0, adaptive_mean=1.0,
    anchored_mean=1.0, n_reference=2, version_id="0-0-0",
)  # fmt: skip


def freeze(ends_at):
    return Override(
        id=1, kind=OverrideKind.FREEZE, selection="IAH", author="ada", comment="c", created_at=ANCHOR,
        starts_at=ANCHOR, ends_at=ends_at,
    )  # fmt: skip


def history_of(known):
    """Outcomes of batches 6 to 9, ``known`` of the four in each."""
    made = MemoryHistory()
    for batch in range(6, 10):
        y = np.where(np.arange(4) < known, 1.0, np.nan)[None]
        made.append_losses(0, LossBlock(batch=batch, stream_ids=np.array([0]), y=y, forecast=y, naive=y))
    return made


def words(held_by, *, overrides=(), exceptions=(), history=None, stream=STREAM, meta=META):
    return release_words(
        replace(DECISION, held_by=held_by), SCHEDULE, meta, stream=stream, overrides=overrides, exceptions=exceptions,
        history=history, shard=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((datetime(2001, 3, 20, 8, tzinfo=UTC),), "until 2001-03-20 08:00"),
        ((datetime(2001, 3, 20, tzinfo=UTC), datetime(2001, 3, 22, tzinfo=UTC)), "until 2001-03-22 00:00"),
        ((datetime(2001, 3, 20, tzinfo=UTC), None), "without an end"),
        ((), "nothing holds it any more: the next batch decides"),
    ],
)
def test_an_order_ends_when_the_last_of_them_does(ends, expected):
    assert words(Hold.FROZEN, overrides=[freeze(end) for end in ends]) == expected


def test_a_cooldown_ends_so_many_batches_after_the_last_training():
    trained = replace(DECISION, batch=8, action=Action.RETRAIN)
    held = replace(DECISION, batch=9, held_by=Hold.COOLING_DOWN)
    assert words(Hold.COOLING_DOWN, exceptions=[held, trained]).endswith("the batch that ends 2001-03-12 00:00")


@pytest.mark.parametrize("held_by", [Hold.SUSPICIOUS_DATA, Hold.NO_NEW_DATA, Hold.BACKING_OFF])
def test_what_every_batch_looks_at_anew_may_end_with_the_next(held_by):
    assert words(held_by) == "at the earliest after the batch that ends 2001-03-12 00:00"


@pytest.mark.parametrize(
    ("known", "ends"),
    [(2, "2001-03-12"), (1, "2001-03-13")],  # 8 and 4 of the 12 outcomes: one batch, two batches
)
def test_a_lack_of_data_ends_when_enough_can_have_arrived(known, ends):
    found = words(Hold.TOO_LITTLE_DATA, history=history_of(known))
    assert found == f"at the earliest after the batch that ends {ends} 00:00, if no value is missing until then"


def test_a_young_stream_has_what_came_since_its_birth():
    young = replace(STREAM, first_slot=38)  # the second half of batch 9
    assert "2001-03-14" in words(Hold.TOO_LITTLE_DATA, history=history_of(4), stream=young)


@pytest.mark.parametrize(
    ("held_by", "meta"), [(Hold.IN_PROGRESS, META), (Hold.COOLING_DOWN, {}), (Hold.TOO_LITTLE_DATA, META)]
)
def test_where_nobody_can_say_there_are_no_words(held_by, meta):
    assert words(held_by, meta=meta) == ""


def test_the_time_stands_with_the_hold_and_the_way_out():
    held = replace(DECISION, held_by=Hold.FROZEN)
    assert holding(held, [freeze(None)], "without an end") == (
        "an override freezes the stream (frozen); without an end; to release it: mlma lift 1"
    )
