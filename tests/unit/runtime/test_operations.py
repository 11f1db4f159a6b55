import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from mlma.adapters.store import SqlStore
from mlma.core.commit import Commit
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind
from mlma.core.errors import OperationError, UnknownStreamError
from mlma.core.records import Decision, Lease, Stream
from mlma.runtime import operations, requesting
from mlma.runtime.lookups import schedule_of

ANCHOR = datetime(2001, 1, 1, tzinfo=UTC)
NOW = datetime(2001, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)
META = {
    "anchor": ANCHOR.isoformat(), "frequency_s": "3600", "horizon": "24", "batch": "24", "train_window": "240",
}  # fmt: skip
SIGNED = {"author": "ada", "reason": "audit of the week"}
NAMES = ["ATL", "IAH", "JFK", "LHR", "ORD", "SFO"]


class FixedClock:
    """A clock that a test turns."""

    def __init__(self, now: datetime = NOW) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store() -> Iterator[SqlStore]:
    """Six streams, of which LHR is in another site, and daily batches 0-4; JFK was to be retrained in batch 2."""
    with SqlStore("sqlite://", create=True) as opened:
        opened.set_meta(META)
        opened.record(
            Commit(
                cursor=4,
                streams=[
                    Stream(id=i, name=name, labels={"site": "uk" if name == "LHR" else "us"}, first_slot=0)
                    for i, name in enumerate(NAMES)
                ],
                decisions=[decided(i, batch) for i in range(len(NAMES)) for batch in range(5)],
            )
        )
        yield opened


def decided(stream_id: int, batch: int) -> Decision:
    retrain = stream_id == 2 and batch == 2
    return Decision(
        stream_id=stream_id, batch=batch, phase=Phase.BATCH, action=Action.KEEP,
        proposed=Action.RETRAIN if retrain else Action.KEEP, held_by=Hold.FROZEN if retrain else Hold.NOTHING,
        reason=Reason.ALARM_BOTH if retrain else Reason.WITHIN_REFERENCE, decided_at=ANCHOR + (batch + 1) * DAY,
    )  # fmt: skip


Operation = Callable[..., operations.Outcome]
OPERATIONS: dict[str, Operation] = {
    "freeze": partial(operations.freeze, until=NOW + DAY),
    "pin": partial(operations.pin, until=NOW + DAY),
    "exclude": partial(operations.exclude, start=ANCHOR, end=ANCHOR + DAY),
    "retrain": requesting.retrain,
    "rollback": requesting.rollback,
}
EACH = pytest.mark.parametrize("name", list(OPERATIONS))


def written(store: SqlStore) -> list[Any]:
    return [store.overrides(), store.requests(), store.audit()]


# what is written


@pytest.mark.parametrize("kind", [OverrideKind.FREEZE, OverrideKind.PIN])
def test_override_is_written_with_its_audit_row(store: SqlStore, clock: FixedClock, kind: OverrideKind) -> None:
    outcome = OPERATIONS[kind](store, clock, selection=" IAH site=us ", **SIGNED)
    (order,) = store.overrides()
    (audit,) = store.audit()
    assert outcome.ids == (order.id,)
    assert outcome.streams == ("IAH",)
    assert (order.kind, order.selection, order.author, order.comment) == (kind, "IAH,site=us", "ada", SIGNED["reason"])
    assert (order.created_at, order.starts_at, order.ends_at, order.lifted_at) == (NOW, NOW, NOW + DAY, None)
    assert (audit.at, audit.author, audit.operation, audit.subject, audit.before) == (
        NOW, "ada", kind, "IAH,site=us", "null",
    )  # fmt: skip
    after = json.loads(audit.after)
    assert (after["comment"], after["ends_at"]) == (SIGNED["reason"], (NOW + DAY).isoformat())


def test_for_ever_has_no_end(store: SqlStore, clock: FixedClock) -> None:
    outcome = operations.freeze(store, clock, selection="*", until=None, forever=True, **SIGNED)
    assert store.overrides()[0].ends_at is None
    assert "ATL, IAH, JFK, LHR and 2 more changes for ever" in outcome.message


def test_exclusion_keeps_event_time_and_lists_the_decisions_it_touches(store: SqlStore, clock: FixedClock) -> None:
    outcome = operations.exclude(
        store, clock, selection="IAH JFK", start=ANCHOR + 1.5 * DAY, end=ANCHOR + 3 * DAY, **SIGNED
    )
    (order,) = store.overrides()
    assert (order.starts_at, order.ends_at) == (ANCHOR + 1.5 * DAY, ANCHOR + 3 * DAY)
    assert [(d.batch, d.stream_id) for d in outcome.decisions] == [(2, 1), (2, 2), (1, 1), (1, 2)]
    assert "4 past decisions used it, 1 of them proposed a change" in outcome.message


@pytest.mark.parametrize(
    ("selection", "start", "end", "touched"),
    [
        ("*", 4, 99, 6),  # up to the last closed batch, asked batch by batch
        ("IAH", -99, 99, 5),
        ("IAH", 7, 8, 0),  # to come
        ("IAH", -9, 0, 0),  # before the first slot
    ],
)
def test_exclusion_may_lie_anywhere_in_event_time(
    store: SqlStore, clock: FixedClock, selection: str, start: int, end: int, touched: int
) -> None:
    outcome = operations.exclude(
        store, clock, selection=selection, start=ANCHOR + start * DAY, end=ANCHOR + end * DAY, **SIGNED
    )
    assert len(outcome.decisions) == touched


def test_exclusion_before_the_first_batch_touches_nothing(clock: FixedClock) -> None:
    with SqlStore("sqlite://", create=True) as young:
        young.set_meta(META)
        young.record(Commit(streams=[Stream(id=0, name="IAH", first_slot=0)]))
        assert OPERATIONS["exclude"](young, clock, selection="*", **SIGNED).decisions == ()


@pytest.mark.parametrize("kind", list(RequestKind))
def test_request_is_written_with_its_audit_row(store: SqlStore, clock: FixedClock, kind: RequestKind) -> None:
    outcome = OPERATIONS[kind](store, clock, selection="site=uk", **SIGNED)
    (asked,) = store.requests(open_only=True)
    assert outcome.ids == (asked.id,)
    assert outcome.streams == ("LHR",)
    assert (asked.kind, asked.selection, asked.author, asked.created_at) == (kind, "site=uk", "ada", NOW)
    assert [row.operation for row in store.audit()] == [kind]


def test_asking_twice_before_the_daemon_obeys_is_asking_once(store: SqlStore, clock: FixedClock) -> None:
    first = requesting.rollback(store, clock, selection="IAH, JFK", **SIGNED)
    clock.at = NOW + DAY
    second = requesting.rollback(store, clock, selection="IAH JFK", author="bob", reason="too")
    assert second.ids == first.ids
    assert "by ada at 2001-02-03 04:05 UTC is open and asks for the same, nothing was added" in second.message
    assert len(store.requests()) == len(store.audit()) == 1
    assert requesting.retrain(store, clock, selection="IAH JFK", **SIGNED).ids != first.ids
    assert requesting.rollback(store, clock, selection="IAH", **SIGNED).ids != first.ids


def test_asking_again_after_the_daemon_obeyed_is_a_new_request(store: SqlStore, clock: FixedClock) -> None:
    requesting.rollback(store, clock, selection="IAH", **SIGNED)
    (asked,) = store.requests()
    consumed = type(asked)(
        id=asked.id, kind=asked.kind, selection="IAH", author="", comment="", created_at=NOW, consumed_at=NOW
    )
    store.record(Commit(requests=[consumed]))
    assert requesting.rollback(store, clock, selection="IAH", **SIGNED).ids != (asked.id,)


@EACH
def test_dry_run_writes_nothing_and_says_what_it_would(store: SqlStore, clock: FixedClock, name: str) -> None:
    outcome = OPERATIONS[name](store, clock, selection="IAH", dry_run=True, **SIGNED)
    assert outcome.dry_run
    assert outcome.streams == ("IAH",)
    assert outcome.ids == ()
    assert outcome.message.startswith("Dry run, nothing was written. It would be: ")
    assert "IAH" in outcome.message
    assert written(store) == [[], [], []]


# what is refused


@EACH
@pytest.mark.parametrize(
    ("selection", "error", "match"),
    [
        ("IHA", UnknownStreamError, "no stream matches 'IHA'; did you mean IAH"),
        ("iah", UnknownStreamError, "did you mean IAH"),
        ("IAH,Q*", UnknownStreamError, r"no stream matches 'Q\*'; `mlma streams` lists the 6"),
        ("site=ukk", UnknownStreamError, "no stream matches 'site=ukk'; did you mean site=uk"),
        ("IAH site=uk", UnknownStreamError, "no stream matches 'IAH site=uk'"),
        ("", OperationError, "selection is empty"),
        ("site=", OperationError, "cannot read 'site='"),
    ],
)
def test_selection_that_names_nothing_is_refused(
    store: SqlStore, clock: FixedClock, name: str, selection: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        OPERATIONS[name](store, clock, selection=selection, **SIGNED)
    assert written(store) == [[], [], []]


@EACH
@pytest.mark.parametrize(
    ("author", "reason", "match"), [("", "why", "needs an author"), (" ", "why", "author"), ("ada", "\n", "a reason")]
)
def test_order_without_author_or_reason_is_refused(
    store: SqlStore, clock: FixedClock, name: str, author: str, reason: str, match: str
) -> None:
    with pytest.raises(OperationError, match=match):
        OPERATIONS[name](store, clock, selection="*", author=author, reason=reason)
    assert written(store) == [[], [], []]


@EACH
def test_state_without_streams_says_so(clock: FixedClock, name: str) -> None:
    with SqlStore("sqlite://", create=True) as empty, pytest.raises(UnknownStreamError, match="no streams yet"):
        OPERATIONS[name](empty, clock, selection="IAH", **SIGNED)


@pytest.mark.parametrize("operation", [operations.freeze, operations.pin])
@pytest.mark.parametrize(
    ("until", "forever", "match"),
    [
        (None, False, "needs an end"),
        (NOW, False, "has passed, it is 2001-02-03 04:05 UTC"),
        (NOW + DAY, True, "leave one of the two out"),
        ((NOW + DAY).replace(tzinfo=None), False, "has no time zone"),
    ],
)
def test_freeze_and_pin_need_an_end(
    store: SqlStore, clock: FixedClock, operation: Operation, until: datetime | None, match: str, *, forever: bool
) -> None:
    with pytest.raises(OperationError, match=match):
        operation(store, clock, selection="*", until=until, forever=forever, **SIGNED)
    assert written(store) == [[], [], []]


@pytest.mark.parametrize(
    ("start", "end", "match"),
    [
        (NOW, NOW, "not after its start"),
        (NOW, NOW - DAY, "ends at 2001-02-02 04:05 UTC, not after its start at 2001-02-03 04:05 UTC"),
        (NOW.replace(tzinfo=None), NOW + DAY, "has no time zone"),
    ],
)
def test_exclusion_needs_a_period(
    store: SqlStore, clock: FixedClock, start: datetime, end: datetime, match: str
) -> None:
    with pytest.raises(OperationError, match=match):
        operations.exclude(store, clock, selection="*", start=start, end=end, **SIGNED)


# lift


def test_lift_ends_overrides_and_leaves_before_and_after(store: SqlStore, clock: FixedClock) -> None:
    frozen = OPERATIONS["freeze"](store, clock, selection="IAH", **SIGNED).ids
    bad = OPERATIONS["exclude"](store, clock, selection="JFK", **SIGNED).ids
    clock.at = NOW + timedelta(hours=1)
    outcome = operations.lift(store, clock, ids=[*frozen, *bad, *frozen], author="bob", reason="audit over")
    assert outcome.ids == (*frozen, *bad)
    assert outcome.streams == ("IAH", "JFK")
    assert [(o.lifted_at, o.lifted_by) for o in store.overrides()] == [(clock.at, "bob")] * 2
    row = store.audit()[1]
    assert (row.operation, row.subject, row.author) == ("lift", str(frozen[0]), "bob")
    assert json.loads(row.before)["lifted_at"] is None
    after = json.loads(row.after)
    assert (after["lifted_at"], after["reason"]) == (clock.at.isoformat(), "audit over")


def test_lift_names_what_still_holds(store: SqlStore, clock: FixedClock) -> None:
    one = OPERATIONS["freeze"](store, clock, selection="IAH", **SIGNED).ids
    OPERATIONS["pin"](store, clock, selection="site=us", **SIGNED)
    OPERATIONS["freeze"](store, clock, selection="LHR", **SIGNED)
    outcome = operations.lift(store, clock, ids=one, **SIGNED)
    assert outcome.message.endswith("Still in force there: override 2 (pin of site=us).")


def test_dry_lift_writes_nothing(store: SqlStore, clock: FixedClock) -> None:
    ids = OPERATIONS["freeze"](store, clock, selection="IAH", **SIGNED).ids
    before = written(store)
    outcome = operations.lift(store, clock, ids=ids, dry_run=True, **SIGNED)
    assert "It would be: lifted: override 1 (freeze of IAH)." in outcome.message
    assert written(store) == before


@pytest.mark.parametrize(("ids", "match"), [([1, 9], "no override 9"), ([], "name the overrides"), ([1, 2], "by ada")])
def test_lift_checks_every_id_before_it_lifts_one(
    store: SqlStore, clock: FixedClock, ids: list[int], match: str
) -> None:
    OPERATIONS["freeze"](store, clock, selection="IAH", **SIGNED)
    OPERATIONS["pin"](store, clock, selection="IAH", **SIGNED)
    operations.lift(store, clock, ids=[2], **SIGNED)
    before = written(store)
    with pytest.raises(OperationError, match=match):
        operations.lift(store, clock, ids=ids, **SIGNED)
    assert written(store) == before


@pytest.mark.parametrize(("author", "reason"), [("", "why"), ("ada", "")])
def test_lift_needs_author_and_reason(store: SqlStore, clock: FixedClock, author: str, reason: str) -> None:
    with pytest.raises(OperationError, match="an order needs"):
        operations.lift(store, clock, ids=[1], author=author, reason=reason)


# when it is obeyed


@pytest.mark.parametrize(
    ("age", "obeyed"),
    [
        (None, "No daemon is running"),
        (timedelta(seconds=30), "The daemon obeys on its next tick"),
        (timedelta(minutes=9), "No daemon is running"),
    ],
)
def test_answer_says_whether_a_daemon_will_obey(
    store: SqlStore, clock: FixedClock, age: timedelta | None, obeyed: str
) -> None:
    if age is not None:
        at = NOW - age
        lease = Lease(holder="a", pid=1, host="here", started_at=at, heartbeat_at=at)
        store.take_lease(lease, stale_before=at)
    outcome = OPERATIONS["retrain"](store, clock, selection="IAH", **SIGNED)
    assert outcome.message.startswith("Request 1: retrain IAH. ")
    assert obeyed in outcome.message


def test_schedule_is_read_from_the_state() -> None:
    schedule = schedule_of(META)
    assert (schedule.anchor, schedule.frequency, schedule.batch) == (ANCHOR, timedelta(hours=1), 24)


def test_state_without_a_schedule_says_so() -> None:
    with pytest.raises(OperationError, match="has no anchor yet"):
        schedule_of({})


def test_a_groups_model_is_trained_anew_by_its_name(store, clock):
    store.set_meta({"groups": '["all", "north"]'})
    made = requesting.retrain(store, clock, selection="group:north", **SIGNED)
    assert "retrain group:north" in made.message
    (request,) = store.requests(open_only=True)
    assert (request.selection, request.kind) == ("group:north", RequestKind.RETRAIN)
    assert requesting.retrain(store, clock, selection="group:north", **SIGNED).ids == made.ids


@pytest.mark.parametrize(
    ("groups", "words"),
    [('["all"]', "no group 'north'; those are: all"), ("[]", "the daemon of this state serves none")],
)
def test_a_group_that_nobody_knows_is_refused(store, clock, groups, words):
    store.set_meta({"groups": groups})
    with pytest.raises(UnknownStreamError, match=words):
        requesting.retrain(store, clock, selection="group:north", **SIGNED)


def test_a_groups_model_has_no_former_one(store, clock):
    store.set_meta({"groups": '["all"]'})
    with pytest.raises(OperationError, match="no former model to go back to; `mlma retrain group:all` trains it anew"):
        requesting.rollback(store, clock, selection="group:all", **SIGNED)


def test_a_stream_that_is_named_like_a_group_is_a_stream(store, clock):
    store.record(Commit(streams=[Stream(id=len(NAMES), name="group:x", first_slot=0)]))
    assert requesting.retrain(store, clock, selection="group:x", **SIGNED).streams == ("group:x",)
