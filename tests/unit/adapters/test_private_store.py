"""The store of a replay: what every tick asks for is read again after it was written, and only then."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from mlma.adapters.private_store import PrivateStore
from mlma.adapters.store import SqlStore
from mlma.core.commit import Commit
from mlma.core.decisions import Action, OverrideKind, Phase, Reason, RequestKind
from mlma.core.records import AuditRow, Decision, Finding, Override, Request

NOW = datetime(2001, 3, 4, tzinfo=UTC)
AUDIT = AuditRow(at=NOW, author="ada", operation="freeze", subject="IAH", before="null", after="{}")


def freeze(store: PrivateStore) -> None:
    order = Override(
        kind=OverrideKind.FREEZE, selection="IAH", author="ada", comment="-",
        created_at=NOW, starts_at=NOW, ends_at=None,
    )  # fmt: skip
    store.add_override(order, AUDIT)


def ask_to_retrain(store: PrivateStore) -> None:
    store.add_request(
        Request(kind=RequestKind.RETRAIN, selection="IAH", author="ada", comment="-", created_at=NOW), AUDIT
    )


def find(store: PrivateStore) -> None:
    store.record(
        Commit(findings=[Finding(kind="stream_silent", subject="IAH", message="-", first_at=NOW, last_at=NOW)])
    )


@pytest.mark.parametrize(
    ("read", "write"),
    [
        (lambda store: store.overrides(), freeze),
        (lambda store: store.requests(open_only=True), ask_to_retrain),
        (lambda store: store.findings(), find),
    ],
    ids=["overrides", "requests", "findings"],
)
def test_an_answer_is_remembered_until_it_changes(
    read: Callable[[PrivateStore], list[object]], write: Callable[[PrivateStore], None]
) -> None:
    with PrivateStore() as store:
        asked: list[str] = []
        event.listen(store._engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        assert read(store) == read(store) == []
        assert sum(statement.startswith("SELECT") for statement in asked) == 1
        write(store)
        assert len(read(store)) == 1


def test_the_cursor_is_read_again_after_a_batch_was_closed_and_only_then() -> None:
    with PrivateStore() as store:
        asked: list[str] = []
        event.listen(store._engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        assert store.cursor() is None
        find(store)
        assert store.cursor() is None
        assert sum("cursors" in statement for statement in asked) == 1
        store.record(Commit(cursor=3))
        assert store.cursor() == 3


def test_what_is_done_with_an_answer_does_not_change_the_next_one() -> None:
    with PrivateStore() as store:
        freeze(store)
        store.overrides().clear()
        assert len(store.overrides()) == 1


def test_a_lifted_override_is_read_again() -> None:
    with PrivateStore() as store:
        freeze(store)
        (before,) = store.overrides()
        store.lift_override(before.id, by="ada", at=NOW, audit=AUDIT)
        (after,) = store.overrides()
        assert after.lifted_by == "ada"


def decided(batch: int) -> Decision:
    return Decision(
        stream_id=0, batch=batch, phase=Phase.BATCH, action=Action.KEEP, proposed=Action.KEEP,
        reason=Reason.NOT_READY, decided_at=NOW,
    )  # fmt: skip


def test_decisions_are_written_with_the_first_question_that_needs_them_and_only_then() -> None:
    with PrivateStore() as store:
        asked: list[str] = []
        event.listen(store._engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        for batch in range(3):
            store.record(Commit(cursor=batch, decisions=[decided(batch)]))
        find(store)
        assert (store.cursor(), len(store.findings()), store.rejected()) == (2, 1, [])
        assert not any("decisions" in statement for statement in asked)
        assert [decision.batch for decision in store.decisions()] == [2, 1, 0]
        n_asked = len(asked)
        store.record(Commit(cursor=3, decisions=[decided(2), decided(3)]))  # one of them once more
        assert len(asked) == n_asked
        assert [decision.batch for decision in store.decisions()] == [3, 2, 1, 0]
        assert SqlStore.cursor(store) == 3


def test_open_findings_are_known_without_reading_and_as_they_are_read() -> None:
    def finding(kind: str, subject: str, hour: int, *, is_over: bool = False) -> Finding:
        at = NOW + timedelta(hours=hour)
        return Finding(
            kind=kind, subject=subject, message=f"{hour}", first_at=NOW, last_at=at, closed_at=at if is_over else None
        )  # fmt: skip

    commits = [
        [finding("stream_silent", "IAH", 1), finding("suspicious_data", "IAH", 1), finding("stream_silent", "ATL", 1)],
        [finding("suspicious_data", "IAH", 2, is_over=True), finding("stream_silent", "ATL", 2)],
        [finding("model_failed", "ORD", 2), finding("stream_silent", "DEN", 3), finding("stream_silent", "IAH", 3)],
        [finding("suspicious_data", "IAH", 4)],
    ]
    with PrivateStore() as store, SqlStore("sqlite://", create=True) as plain:
        for findings in commits:
            for each in (store, plain):
                each.record(Commit(findings=findings))
            assert store.findings() == plain.findings()
        assert store.findings(open_only=False) == plain.findings(open_only=False)
        assert store.findings() == plain.findings()
