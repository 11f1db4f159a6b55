"""What every control store must do, on SQLite in memory and on disk; on PostgreSQL where one is named.

``MLMA_TEST_POSTGRES=postgresql+psycopg://...`` adds a server; its public schema is emptied before each test.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from mlma.adapters.monitor_tables import CERTIFICATES_KEPT
from mlma.adapters.private_store import PrivateStore
from mlma.adapters.store import SqlStore
from mlma.core.blocks import ACTION_CODE, HOLD_CODE, REASON_CODE, DecisionBlock
from mlma.core.decisions import (
    Action,
    CertificateStatus,
    EffectKind,
    EffectStatus,
    Hold,
    OverrideKind,
    Phase,
    Reason,
    RejectReason,
    RequestKind,
    Role,
)
from mlma.core.errors import OperationError, StoreError
from mlma.core.records import (
    AuditRow,
    Certificate,
    Decision,
    Effect,
    Finding,
    GroupTraining,
    Incident,
    Lease,
    Override,
    Rejected,
    Request,
    Serving,
    SourceFile,
    StoredDigest,
    Stream,
    Version,
)
from mlma.runtime.overview import RECENT_BATCHES, overview
from mlma.runtime.ports import Commit, ControlStore

NOW = datetime(2001, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
DAY = timedelta(days=1)
POSTGRES = os.environ.get("MLMA_TEST_POSTGRES", "")
BACKENDS = ["memory", "disk", *(["postgres"] if POSTGRES else [])]


NOTHING = ["[]"] * 10 + ["[None]"] * 2
"""What `contents` says of a store that holds nothing."""


def emptied(url: str) -> str:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    if request.param == "memory":
        made: SqlStore = PrivateStore()
    else:
        disk = f"sqlite:///{tmp_path}/state/mlma.db"
        made = SqlStore(disk if request.param == "disk" else emptied(POSTGRES), create=True)
    with made as opened:
        yield opened


@pytest.fixture
def on_disk(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/mlma.db"
    SqlStore(url, create=True).close()
    return url


def stream(number: int = 0, name: str = "", **labels: str) -> Stream:
    return Stream(id=number, name=name or f"S{number}", labels=labels, first_slot=3 * number)


def decision(stream_id: int = 0, batch: int = 0, phase: Phase = Phase.BATCH, **more: Any) -> Decision:
    given = {"action": Action.KEEP, "proposed": Action.KEEP, "reason": Reason.WITHIN_REFERENCE, "decided_at": NOW}
    return Decision(stream_id=stream_id, batch=batch, phase=phase, **(given | more))


def block(batch: int = 0, phase: Phase = Phase.BATCH, streams: int = 3, at: datetime = NOW) -> DecisionBlock:
    """Stream 1 is retrained, the others kept; stream 2 has no numbers."""
    codes = np.zeros(streams, dtype=np.int8)
    action, reason = codes.copy(), codes.copy()
    action[1], reason[1] = ACTION_CODE[Action.RETRAIN], REASON_CODE[Reason.ALARM_BOTH]
    numbers = np.linspace(0.1, 0.3, streams)
    numbers[2:] = np.nan
    return DecisionBlock(
        batch=batch, phase=phase, decided_at=at, stream_id=np.arange(streams), action=action, proposed=action,
        reason=reason, held_by=codes + np.int8(HOLD_CODE[Hold.NOTHING]), n=np.full(streams, 168), mean_loss=numbers,
        naive_loss=2 * numbers, p_value=numbers / 10, effect=numbers, adaptive_mean=numbers, anchored_mean=numbers,
        n_reference=np.full(streams, 8), version_id=tuple(f"{i}-0-0" for i in range(streams)),
    )  # fmt: skip


def effect(number: int = 0, **more: Any) -> Effect:
    given = {"ordered_at": NOW, "deadline_at": NOW + DAY}
    return Effect(
        id=f"train-{number}-4-0", kind=EffectKind.TRAIN, stream_id=number, batch=4, reason=Reason.ALARM_BOTH,
        **(given | more),
    )  # fmt: skip


def group_training(name: str = "all", batch: int = 4, **more: Any) -> GroupTraining:
    given = {"reason": Reason.DEBT, "n_streams": 9, "ordered_at": NOW, "deadline_at": NOW + DAY}
    return GroupTraining(id=f"group:{name}-{batch}", name=name, batch=batch, **(given | more))


def version(stream_id: int = 0, batch: int = 4, n: int = 0, **more: Any) -> Version:
    given = {"role": Role.CHALLENGER, "fit_cpu_s": 0.25, "trained_at": NOW}
    return Version(
        id=f"{stream_id}-{batch}-{n}", stream_id=stream_id, batch=batch, family="lightgbm", sha256="ab" * 32,
        size_bytes=2**40, n_rows=999, **(given | more),
    )  # fmt: skip


def serving(version_id: str, origin: int, stream_id: int = 0) -> Serving:
    return Serving(
        stream_id=stream_id, origin=origin, batch=0, version_id=version_id, reason=Reason.BEAT_CHAMPION, at=NOW
    )


def file(seq: int) -> SourceFile:
    return SourceFile(
        seq=seq, path=f"in/{seq}.csv", fingerprint="9:ff", n_rows=9, n_admitted=7, n_rejected=2, n_late=0, taken_at=NOW
    )


def rejected(seq: int, name: str = "IAH", count: int = 1) -> Rejected:
    return Rejected(
        seq=seq, path=f"in/{seq}.csv", stream=name, reason=RejectReason.NOT_A_NUMBER, count=count, row=4, field="y",
        value="n/a ø", expected="a number",
    )  # fmt: skip


def finding(kind: str = "stream_silent", **more: Any) -> Finding:
    return Finding(**({"kind": kind, "subject": "IAH", "message": "silent", "first_at": NOW, "last_at": NOW} | more))


def certificate(batch: int = 4, **more: Any) -> Certificate:
    given = {
        "status": CertificateStatus.CERTIFIED, "level": 0.046, "level_low": 0.041, "level_high": 0.052,
        "n_healthy": 8412, "power": 0.71, "caught": 0.97, "delay": 1.0, "n_degraded": 901,
    }  # fmt: skip
    return Certificate(batch=batch, test="moderated", promised=0.05, rise=0.5, **(given | more))


def incident(first: int = 4, last: int = 4, **labels: str) -> Incident:
    words = ",".join(f"{key}={value}" for key, value in labels.items())
    return Incident(
        id=f"{first}-{words}", labels=labels, first_batch=first, last_batch=last, n_members=41, rise=0.63, p_value=1e-9
    )


def lease(holder: str, at: datetime = NOW) -> Lease:
    return Lease(holder=holder, pid=7, host="here", started_at=at, heartbeat_at=at)


def override(kind: OverrideKind = OverrideKind.FREEZE, **more: Any) -> Override:
    given = {"selection": "IAH", "created_at": NOW, "starts_at": NOW, "ends_at": NOW + DAY}
    return Override(kind=kind, author="ada", comment="audit", **(given | more))


def audit(operation: str = "freeze") -> AuditRow:
    return AuditRow(at=NOW, author="ada", operation=operation, subject="IAH", before="null", after='{"a": 1}')


def request_row(kind: RequestKind = RequestKind.RETRAIN, **more: Any) -> Request:
    return Request(**({"kind": kind, "selection": "IAH", "author": "ada", "comment": "try", "created_at": NOW} | more))


def same(a: object, b: object) -> bool:
    """Equal records, where NaN equals NaN."""
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]  # type: ignore[arg-type]
    return type(a) is type(b) and all(
        x == y or (isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y)) for x, y in pairs
    )


def everything() -> Commit:
    return Commit(
        cursor=4, file=file(1), rejected=[rejected(1)], streams=[stream(0), stream(1, site="lhr")],
        block=block(4), decisions=[decision(0, 4, Phase.PROMOTION, version_id="0-4-0", action=Action.PROMOTE)],
        effects=[effect()], versions=[version()], servings=[serving("0-4-0", 840)], findings=[finding()],
        certificate=certificate(), incidents=[incident(3, 4, site="lhr"), incident()],
    )  # fmt: skip


def contents(store: ControlStore) -> list[str]:
    """Everything that a commit may change; text, because NaN differs from itself."""
    tables = (
        store.files(), store.rejected(), store.streams(), store.decisions(), store.effects(), store.versions(),
        store.servings(), store.requests(), store.findings(open_only=False), store.incidents(), [store.cursor()],
        [store.certificate()],
    )  # fmt: skip
    return [repr(table) for table in tables]


# a new state


def test_new_state_is_empty(store: SqlStore) -> None:
    assert contents(store) == NOTHING
    assert store.meta() == {}
    assert store.lease() is None
    assert (store.overrides(), store.audit(), store.digests(), store.deliveries()) == ([], [], [], [])


def test_sql_store_is_a_control_store(store: SqlStore) -> None:
    port: ControlStore = store
    assert port.cursor() is None


def test_meta_entries_are_added_and_replaced(store: SqlStore) -> None:
    store.set_meta({"anchor": "2001-01-01T00:00:00+00:00", "shards": "2"})
    store.set_meta({"shards": "4"})
    store.set_meta({})
    assert store.meta() == {"anchor": "2001-01-01T00:00:00+00:00", "shards": "4"}


# record


def test_every_part_of_a_commit_comes_back_as_it_was(store: SqlStore) -> None:
    commit = everything()
    store.record(commit)
    assert store.cursor() == 4
    assert store.files() == [commit.file]
    assert store.rejected() == list(commit.rejected)
    assert store.streams() == list(commit.streams)
    assert store.effects() == list(commit.effects)
    assert store.versions() == list(commit.versions)
    assert store.servings() == list(commit.servings)
    assert store.findings() == list(commit.findings)
    assert store.certificate() == commit.certificate
    assert store.incidents() == list(commit.incidents)[::-1]
    read = {(d.stream_id, d.phase): d for d in store.decisions()}
    assert commit.block is not None
    for expected in [*commit.block.decisions(), *commit.decisions]:
        assert same(read.pop((expected.stream_id, expected.phase)), expected)
    assert not read


def test_empty_commit_changes_nothing(store: SqlStore) -> None:
    store.record(everything())
    before = contents(store)
    store.record(Commit())
    store.record(Commit(block=DecisionBlock(**_empty(block(5)))))
    assert contents(store) == before


def _empty(of: DecisionBlock) -> dict[str, Any]:
    values = {f.name: getattr(of, f.name) for f in fields(of)}
    return {k: v[:0] if isinstance(v, np.ndarray | tuple) else v for k, v in values.items()}


def test_repeated_commit_changes_nothing(store: SqlStore) -> None:
    store.record(everything())
    before = contents(store)
    store.record(everything())
    assert contents(store) == before


def test_error_in_the_middle_of_a_commit_leaves_nothing(store: SqlStore) -> None:
    # The unknown request is met after the decisions were written, and before the findings and incidents are.
    bad = replace(everything(), requests=[request_row(id=99, consumed_at=NOW)])
    with pytest.raises(StoreError, match="no such request"):
        store.record(bad)
    assert contents(store) == NOTHING
    store.record(everything())
    assert store.cursor() == 4


def test_a_stream_is_found_by_its_name(store: SqlStore) -> None:
    streams = everything().streams
    store.record(everything())
    assert [store.stream(stream.name) for stream in streams] == list(streams)
    assert store.stream("nobody") is None


def test_two_streams_of_one_name_are_refused(store: SqlStore) -> None:
    with pytest.raises(StoreError, match=r"(?i)unique"):
        store.record(Commit(streams=[stream(0, "IAH"), stream(1, "IAH")]))
    assert store.streams() == []


def test_naive_time_is_refused(store: SqlStore) -> None:
    def record_and_read(made: Decision) -> None:
        store.record(Commit(decisions=[made]))
        store.decisions()  # the store of a replay refuses it here

    with pytest.raises(StoreError, match="no time zone"):
        record_and_read(decision(decided_at=NOW.replace(tzinfo=None)))
    assert store.decisions() == []


def test_times_of_other_zones_come_back_in_utc(store: SqlStore) -> None:
    at = NOW.astimezone(timezone(timedelta(hours=-7)))
    store.record(Commit(decisions=[decision(decided_at=at)], block=block(1, at=at)))
    read = [d.decided_at for d in store.decisions()]
    assert set(read) == {NOW}
    assert {time.tzinfo for time in read} == {UTC}


def test_infinite_numbers_survive(store: SqlStore) -> None:
    store.record(Commit(decisions=[decision(effect=math.inf, p_value=5e-324)]))
    (read,) = store.decisions()
    assert (read.effect, read.p_value) == (math.inf, 5e-324)
    assert math.isnan(read.mean_loss)


def test_cursor_effects_versions_and_findings_are_replaced_by_key(store: SqlStore) -> None:
    store.record(everything())
    done = replace(effect(), status=EffectStatus.DONE, finished_at=NOW + DAY, attempts=1)
    champion = replace(version(), role=Role.CHAMPION)
    closed = replace(finding(), count=3, last_at=NOW + DAY, closed_at=NOW + DAY)
    store.record(Commit(cursor=5, effects=[done], versions=[champion], findings=[closed]))
    assert (store.cursor(), store.effects(), store.versions()) == (5, [done], [champion])
    assert store.findings() == []
    assert store.findings(open_only=False) == [closed]


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        pytest.param(decision(), decision(note="again", decided_at=NOW + DAY), 1, id="batch is judged once"),
        pytest.param(
            decision(phase=Phase.PROMOTION, version_id="0-0-0"),
            decision(phase=Phase.PROMOTION, version_id="0-0-0", decided_at=NOW + DAY),
            1,
            id="candidate is compared once",
        ),
        pytest.param(
            decision(phase=Phase.PROMOTION, version_id="0-0-0"),
            decision(phase=Phase.PROMOTION, version_id="0-0-1"),
            2,
            id="second candidate",
        ),
        pytest.param(decision(phase=Phase.REQUEST), decision(phase=Phase.REQUEST, note="again"), 1, id="same request"),
        pytest.param(
            decision(phase=Phase.REQUEST), decision(phase=Phase.REQUEST, decided_at=NOW + DAY), 2, id="later request"
        ),
        pytest.param(
            decision(phase=Phase.REQUEST, proposed=Action.RETRAIN),
            decision(phase=Phase.REQUEST, proposed=Action.ROLL_BACK),
            2,
            id="two requests of one tick",
        ),
        pytest.param(
            decision(phase=Phase.RELEASE), decision(phase=Phase.RELEASE, decided_at=NOW + DAY), 2, id="later release"
        ),
        pytest.param(decision(), decision(phase=Phase.PROMOTION), 2, id="other phase"),
        pytest.param(decision(), decision(batch=1), 2, id="other batch"),
    ],
)
def test_decision_of_the_same_key_is_replaced(store: SqlStore, first: Decision, second: Decision, rows: int) -> None:
    store.record(Commit(decisions=[first]))
    store.record(Commit(decisions=[second]))
    read = store.decisions()
    assert len(read) == rows
    assert any(same(row, second) for row in read)


@pytest.mark.parametrize("phase", list(Phase))
def test_block_and_decisions_have_the_same_key(store: SqlStore, phase: Phase) -> None:
    store.record(Commit(block=block(phase=phase)))
    store.record(Commit(decisions=list(block(phase=phase).decisions())))
    assert len(store.decisions()) == 3


def test_ledger_keeps_the_order_of_insertion(store: SqlStore) -> None:
    store.record(Commit(servings=[serving("0-0-0", 168), serving("0-1-0", 336), serving("0-0-0", 336)]))
    store.record(Commit(servings=[serving("1-1-0", 168, stream_id=1)]))
    assert [s.version_id for s in store.servings()] == ["0-0-0", "0-1-0", "0-0-0", "1-1-0"]
    assert [s.version_id for s in store.servings(stream_id=0)] == ["0-0-0", "0-1-0", "0-0-0"]


def test_line_of_the_ledger_that_comes_again_is_the_last_one(store: SqlStore) -> None:
    for version_id in ("0-0-0", "0-1-0", "0-0-0"):
        store.record(Commit(servings=[serving(version_id, 336)]))
    assert [s.version_id for s in store.servings()] == ["0-1-0", "0-0-0"]


def test_consumed_request_keeps_what_the_engineer_wrote(store: SqlStore) -> None:
    number = store.add_request(request_row(), audit("retrain"))
    consumed = request_row(id=number, consumed_at=NOW + DAY, outcome="1 of 1 streams", comment="overwritten?")
    store.record(Commit(requests=[consumed]))
    assert store.requests() == [replace(consumed, comment="try")]
    assert store.requests(open_only=True) == []


# certificates and incidents


def test_certificate_of_the_newest_batch_is_the_one_that_counts(store: SqlStore) -> None:
    for batch in (5, 4):
        store.record(Commit(certificate=certificate(batch)))
    assert store.certificate() == certificate(5)


def test_certificate_of_a_batch_replaces_the_one_before(store: SqlStore) -> None:
    failed = certificate(status=CertificateStatus.FAILED, level=0.19, level_low=0.17, level_high=0.21)
    store.record(Commit(certificate=certificate()))
    store.record(Commit(certificate=failed))
    assert store.certificate() == failed


def test_certificate_before_the_first_sham_test_comes_back_without_its_rates(store: SqlStore) -> None:
    missing = dict.fromkeys(("level", "level_low", "level_high", "power", "caught", "delay"), math.nan)
    young = certificate(status=CertificateStatus.PENDING, n_healthy=0, n_degraded=0, **missing)
    store.record(Commit(certificate=young))
    read = store.certificate()
    assert read is not None
    assert same(read, young)


def test_certificates_of_long_ago_are_forgotten(store: SqlStore) -> None:
    for batch in (0, 1, CERTIFICATES_KEPT):
        store.record(Commit(certificate=certificate(batch)))
    with store._engine.connect() as connection:
        kept = connection.execute(text("SELECT batch FROM certificates ORDER BY batch")).scalars().all()
    assert kept == [1, CERTIFICATES_KEPT]


def test_incident_that_goes_on_replaces_itself(store: SqlStore) -> None:
    begun = incident(site="lhr")
    grown = replace(begun, last_batch=6, n_members=44, rise=0.7)
    store.record(Commit(incidents=[begun]))
    store.record(Commit(incidents=[grown]))
    assert store.incidents() == [grown]


def test_incident_of_the_whole_fleet_has_no_labels(store: SqlStore) -> None:
    everyone = replace(incident(), p_value=math.nan)
    store.record(Commit(incidents=[everyone]))
    (read,) = store.incidents()
    assert read.labels == {}
    assert same(read, everyone)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param({}, ["5-", "3-feed=b", "3-site=lhr", "1-site=cdg"], id="newest first"),
        pytest.param({"limit": 2}, ["5-", "3-feed=b"], id="so many"),
        pytest.param({"since_batch": 5}, ["5-", "3-feed=b", "3-site=lhr"], id="seen in the batch or later"),
        pytest.param({"since_batch": 6}, ["5-"], id="seen later"),
        pytest.param({"since_batch": 7}, [], id="none"),
        pytest.param({"since_batch": 2, "limit": 1}, ["5-"], id="both"),
    ],
)
def test_incidents_come_newest_first(store: SqlStore, question: dict[str, int], expected: list[str]) -> None:
    found = [incident(3, 5, site="lhr"), incident(1, 2, site="cdg"), replace(incident(5, 6), n_members=900)]
    store.record(Commit(incidents=[*found, replace(incident(3, 5, feed="b"), n_members=50)]))
    assert [one.id for one in store.incidents(**question)] == expected


# the lease


def test_lease_is_free_at_first(store: SqlStore) -> None:
    assert store.take_lease(lease("a"), stale_before=NOW - DAY) is None
    assert store.lease() == lease("a")


def test_second_holder_is_refused_while_the_heartbeat_is_fresh(store: SqlStore) -> None:
    store.take_lease(lease("a"), stale_before=NOW - DAY)
    assert store.take_lease(lease("b", NOW + DAY), stale_before=NOW) == lease("a")
    assert store.lease() == lease("a")


def test_stale_lease_is_taken_over_and_the_old_holder_learns_it(store: SqlStore) -> None:
    store.take_lease(lease("a"), stale_before=NOW - DAY)
    assert store.beat("a", NOW + timedelta(seconds=1))
    taken = store.take_lease(lease("b", NOW + DAY), stale_before=NOW + timedelta(seconds=2))
    assert taken is None
    assert not store.beat("a", NOW + DAY)
    assert store.beat("b", NOW + 2 * DAY)
    assert store.lease() == replace(lease("b", NOW + DAY), heartbeat_at=NOW + 2 * DAY)


def test_holder_takes_its_own_lease_again(store: SqlStore) -> None:
    store.take_lease(lease("a"), stale_before=NOW - DAY)
    assert store.take_lease(lease("a", NOW + DAY), stale_before=NOW - DAY) is None


def test_only_the_holder_gives_the_lease_back(store: SqlStore) -> None:
    store.take_lease(lease("a"), stale_before=NOW - DAY)
    store.release_lease("b")
    assert store.lease() == lease("a")
    store.release_lease("a")
    assert store.lease() is None
    assert not store.beat("a", NOW)


# orders


def test_override_is_stored_with_its_audit_row(store: SqlStore) -> None:
    first = store.add_override(override(), audit())
    second = store.add_override(override(OverrideKind.EXCLUDE, ends_at=None), audit("exclude"))
    assert store.overrides() == [
        override(id=first),
        override(OverrideKind.EXCLUDE, ends_at=None, id=second),
    ]
    assert [row.operation for row in store.audit()] == ["exclude", "freeze"]
    assert replace(store.audit(limit=1)[0], id=0) == audit("exclude")


def test_lifted_override_says_by_whom_and_when(store: SqlStore) -> None:
    number = store.add_override(override(), audit())
    at = NOW + timedelta(hours=1)
    store.lift_override(number, by="bob", at=at, audit=audit("lift"))
    assert store.overrides() == [override(id=number, lifted_at=at, lifted_by="bob")]
    assert [row.operation for row in store.audit()] == ["lift", "freeze"]


@pytest.mark.parametrize(
    ("lifted_before", "at", "match"),
    [
        pytest.param(True, NOW + timedelta(hours=2), "was lifted by bob", id="lifted"),
        pytest.param(False, NOW + 2 * DAY, "ended by itself", id="ended"),
    ],
)
def test_override_that_has_ended_is_not_lifted(
    store: SqlStore, *, lifted_before: bool, at: datetime, match: str
) -> None:
    number = store.add_override(override(), audit())
    if lifted_before:
        store.lift_override(number, by="bob", at=NOW + timedelta(hours=1), audit=audit("lift"))
    rows = store.audit()
    with pytest.raises(OperationError, match=match):
        store.lift_override(number, by="eve", at=at, audit=audit("lift"))
    assert store.audit() == rows


def test_unknown_override_is_not_lifted(store: SqlStore) -> None:
    with pytest.raises(OperationError, match="no override 7"):
        store.lift_override(7, by="eve", at=NOW, audit=audit("lift"))
    assert store.audit() == []


def test_requests_come_in_order_and_open_ones_alone(store: SqlStore) -> None:
    first = store.add_request(request_row(), audit("retrain"))
    second = store.add_request(request_row(RequestKind.ROLLBACK), audit("rollback"))
    store.record(Commit(requests=[request_row(id=first, consumed_at=NOW)]))
    assert [r.id for r in store.requests()] == [first, second]
    assert [r.id for r in store.requests(open_only=True)] == [second]


# digests


def digest(subject: str = "all well") -> StoredDigest:
    return StoredDigest(made_at=NOW, since=NOW - DAY, subject=subject, text="line\nline", body_json="{}")


def test_digest_has_one_pending_delivery_a_target(store: SqlStore) -> None:
    first = store.add_digest(digest("first"), ["mail", "chat"])
    second = store.add_digest(digest("second"), [])
    assert [(d.id, d.subject) for d in store.digests()] == [(second, "second"), (first, "first")]
    assert [d.subject for d in store.digests(limit=1)] == ["second"]
    assert [(d.target, d.digest_id, d.delivered_at) for d in store.deliveries()] == [
        ("mail", first, None),
        ("chat", first, None),
    ]
    assert store.deliveries(digest_id=second) == []


def test_delivery_is_replaced_by_its_id(store: SqlStore) -> None:
    number = store.add_digest(digest(), ["mail", "chat"])
    mail, chat = store.deliveries()
    failed = replace(chat, attempts=1, next_try_at=NOW + DAY, error="refused")
    store.update_delivery(replace(mail, attempts=1, delivered_at=NOW))
    store.update_delivery(failed)
    assert store.deliveries(digest_id=number, open_only=True) == [failed]
    with pytest.raises(StoreError, match="no such delivery"):
        store.update_delivery(replace(mail, id=99))


# reading


@pytest.fixture
def told(store: SqlStore) -> SqlStore:
    """Two batches of three streams; stream 1 is retrained in both, and what held stream 0 in batch 1 is told."""
    store.record(Commit(block=block(0)))
    held = decision(0, 1, proposed=Action.RETRAIN, held_by=Hold.FROZEN, decided_at=NOW + DAY)
    store.record(Commit(block=block(1, at=NOW + DAY), decisions=[held]))
    promoted = decision(1, 1, Phase.PROMOTION, action=Action.PROMOTE, proposed=Action.PROMOTE, decided_at=NOW + DAY)
    store.record(Commit(decisions=[promoted]))
    return store


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, ["1:0", "1:1p", "1:1", "1:2", "0:0", "0:1", "0:2"]),
        ({"limit": 2}, ["1:0", "1:1p"]),
        ({"stream_id": 1}, ["1:1p", "1:1", "0:1"]),
        ({"batch": 0}, ["0:0", "0:1", "0:2"]),
        ({"phase": Phase.PROMOTION}, ["1:1p"]),
        ({"since": NOW + DAY}, ["1:0", "1:1p", "1:1", "1:2"]),
        ({"since": NOW + 2 * DAY}, []),
        ({"exceptions_only": True}, ["1:0", "1:1p", "1:1", "0:1"]),
        ({"exceptions_only": True, "stream_id": 0, "limit": 1}, ["1:0"]),
        ({"exceptions_only": True, "batch": 0, "phase": Phase.BATCH, "since": NOW}, ["0:1"]),
    ],
)
def test_decisions_are_filtered_and_come_newest_first(
    told: SqlStore, question: dict[str, Any], expected: list[str]
) -> None:
    found = told.decisions(**question)
    assert [f"{d.batch}:{d.stream_id}{'p' if d.phase is Phase.PROMOTION else ''}" for d in found] == expected


def test_totals_sum_what_was_decided_in_the_period(told: SqlStore) -> None:
    told.record(
        Commit(versions=[version(0), version(1, fit_cpu_s=math.nan), version(2, trained_at=NOW + DAY), version(3)])
    )
    totals = told.totals(since=NOW, until=NOW + DAY)
    assert (totals.n_batches, totals.n_trainings, totals.fit_cpu_s) == (1, 3, 0.5)
    assert totals.stream_id.tolist() == [0, 1, 2]
    assert totals.n_tested.tolist() == [1, 1, 0]
    np.testing.assert_allclose(totals.loss, [16.8, 33.6, 0.0])
    np.testing.assert_allclose(totals.naive_loss, [33.6, 67.2, 0.0])


def test_totals_leave_out_batches_where_one_of_the_losses_is_missing(store: SqlStore) -> None:
    store.record(
        Commit(decisions=[decision(n=10, mean_loss=1.0), decision(batch=1, n=10, mean_loss=2.0, naive_loss=3.0)])
    )
    totals = store.totals(since=NOW, until=NOW + DAY)
    assert (totals.loss.tolist(), totals.naive_loss.tolist(), totals.n_batches) == ([20.0], [30.0], 2)


def test_losses_are_summed_over_the_batches_that_are_asked_for(store: SqlStore) -> None:
    assert store.first_batch() is None
    assert store.loss_sums(first_batch=0, last_batch=9).loss.tolist() == []
    store.record(
        Commit(
            decisions=[
                *(decision(batch=b, n=10, mean_loss=float(b), naive_loss=2.0) for b in (3, 4, 5, 6)),
                decision(stream_id=1, batch=4, n=5, mean_loss=1.0),  # naive has no loss
                decision(batch=5, phase=Phase.PROMOTION, n=10, mean_loss=99.0, naive_loss=99.0),
            ]
        )
    )
    sums = store.loss_sums(first_batch=4, last_batch=5)
    assert (sums.loss.tolist(), sums.naive_loss.tolist()) == ([90.0, 0.0], [40.0, 0.0])
    assert store.first_batch() == 3


def test_the_recent_losses_are_those_of_the_newest_batches(store: SqlStore) -> None:
    n = RECENT_BATCHES + 10
    losses = [1.0 if batch < 10 else 0.5 for batch in range(n)]
    batches = [decision(batch=b, n=10, mean_loss=loss, naive_loss=1.0) for b, loss in enumerate(losses)]
    store.record(Commit(streams=[stream(0)], decisions=batches, cursor=n - 1))
    view = overview(store, None, NOW)
    assert view.n_batches == n
    assert (view.loss.recent_batches, view.loss.recent_median) == (RECENT_BATCHES, 0.5)


def test_totals_of_a_period_without_decisions_are_empty(store: SqlStore) -> None:
    totals = store.totals(since=NOW, until=NOW + DAY)
    assert (totals.n_batches, totals.n_trainings, totals.fit_cpu_s, len(totals.loss)) == (0, 0, 0.0, 0)


def test_files_and_rejected_rows_come_in_order(store: SqlStore) -> None:
    for seq in (2, 1, 3):
        store.record(Commit(file=file(seq), rejected=[rejected(seq, "B"), rejected(seq, "A")]))
    assert [f.seq for f in store.files()] == [1, 2, 3]
    assert [f.seq for f in store.files(limit=2)] == [2, 3]
    assert [(r.seq, r.stream) for r in store.rejected()] == [(s, n) for s in (1, 2, 3) for n in "AB"]


def test_effects_come_in_order_and_by_status(store: SqlStore) -> None:
    early, late = effect(2, status=EffectStatus.FAILED), effect(1, ordered_at=NOW + DAY)
    store.record(Commit(effects=[late, early, effect(0)]))
    assert [e.stream_id for e in store.effects()] == [0, 2, 1]
    assert [e.stream_id for e in store.effects(status=EffectStatus.PENDING)] == [0, 1]


def test_versions_come_in_order_of_stream_batch_and_count(store: SqlStore) -> None:
    store.record(Commit(versions=[version(1), version(0, 12), version(0, 4, 10), version(0, 4, 2)]))
    assert [v.id for v in store.versions()] == ["0-4-2", "0-4-10", "0-12-0", "1-4-0"]
    assert [v.id for v in store.versions(stream_id=1)] == ["1-4-0"]


def test_findings_come_newest_first(store: SqlStore) -> None:
    store.record(Commit(findings=[finding("a"), finding("b", last_at=NOW + DAY), finding("c", closed_at=NOW)]))
    assert [f.kind for f in store.findings()] == ["b", "a"]
    assert [f.kind for f in store.findings(open_only=False)] == ["b", "a", "c"]


# several processes at one state


def test_closed_state_is_found_again(on_disk: str) -> None:
    with SqlStore(on_disk) as first:
        first.record(everything())
        before = contents(first)
    with SqlStore(on_disk) as second:
        assert contents(second) == before


def test_decisions_survive_power_loss(on_disk: str) -> None:
    with SqlStore(on_disk) as store, store._engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]  # 2 is FULL


def test_reader_sees_whole_commits_while_another_writes(on_disk: str) -> None:
    with SqlStore(on_disk) as daemon, SqlStore(on_disk) as cli:
        with daemon._writing() as connection:
            connection.exec_driver_sql("INSERT INTO cursors VALUES ('fleet', 7)")
            assert cli.cursor() is None
        assert cli.cursor() == 7


def test_write_that_waits_too_long_says_that_the_state_is_locked(on_disk: str) -> None:
    with (
        SqlStore(on_disk) as daemon,
        SqlStore(on_disk, busy_timeout_s=0.05) as cli,
        daemon._writing(),
        pytest.raises(StoreError, match="another process has kept it locked"),
    ):
        cli.add_override(override(), audit())


OTHER_PROCESS = """
import sys
from datetime import UTC, datetime
from mlma.adapters.monitor_tables import CERTIFICATES_KEPT
from mlma.adapters.private_store import PrivateStore
from mlma.adapters.store import SqlStore
from mlma.core.decisions import OverrideKind
from mlma.core.records import AuditRow, Override
now = datetime(2001, 3, 4, tzinfo=UTC)
with SqlStore(sys.argv[1], create=True) as store:
    for i in range(40):
        row = Override(kind=OverrideKind.FREEZE, selection=f"S{i}", author=sys.argv[2], comment="-", created_at=now,
                       starts_at=now, ends_at=None)
        store.add_override(row, AuditRow(at=now, author="-", operation="freeze", subject="-", before="", after=""))
"""


def test_daemon_and_two_clis_write_at_the_same_time_and_nothing_is_lost(tmp_path: Path) -> None:
    # All three find no database: creating it is part of the race.
    url = f"sqlite:///{tmp_path}/mlma.db"
    command = [sys.executable, "-W", "error", "-c", OTHER_PROCESS, url]
    clis = [subprocess.Popen([*command, author], stderr=subprocess.PIPE, text=True) for author in ("a", "b")]
    with SqlStore(url, create=True) as daemon:
        batch = 0
        while any(cli.poll() is None for cli in clis):
            daemon.record(Commit(cursor=batch, block=block(batch, streams=500)))
            batch += 1
        errors = [cli.communicate()[1] for cli in clis]
        assert errors == ["", ""]
        assert daemon.cursor() == batch - 1
        assert len(daemon.decisions(stream_id=3)) == batch
        assert sorted(o.selection for o in daemon.overrides()) == sorted(2 * [f"S{i}" for i in range(40)])
        assert len(daemon.audit()) == 80


def test_full_disk_is_named_and_leaves_nothing(on_disk: str) -> None:
    with SqlStore(on_disk) as store:
        with store._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="disk is full"):
            store.record(Commit(cursor=1, block=block(streams=5000)))
        assert (store.cursor(), store.decisions()) == (None, [])


def test_bulk_block_of_a_large_fleet_is_stored_whole(store: SqlStore) -> None:
    store.record(Commit(cursor=0, block=block(streams=20_000)))
    totals = store.totals(since=NOW, until=NOW + DAY)
    assert len(totals.stream_id) == 20_000
    assert len(store.decisions(exceptions_only=True)) == 1


def test_trainings_of_groups_come_back_whole_and_a_later_one_replaces_its_id(store: SqlStore) -> None:
    waits = group_training(batch=7, status=EffectStatus.WAITING)
    done = group_training(
        status=EffectStatus.DONE, finished_at=NOW, cpu_s=2.5, expected_cpu_s=2.0, origin=840, sha256="ab" * 32,
        family="lightgbm", size_bytes=2**40, n_rows=999, debt=0.25, price=0.125, attempts=2,
    )  # fmt: skip
    store.record(Commit(groups=[waits, group_training()]))
    store.record(Commit(groups=[done]))
    first, second = store.group_trainings()
    assert first == done
    assert math.isnan(second.debt)
    assert replace(second, debt=0.0, price=0.0) == replace(waits, debt=0.0, price=0.0)


def test_totals_count_the_trainings_of_groups_that_succeeded(store: SqlStore) -> None:
    failed = group_training("two", status=EffectStatus.FAILED, finished_at=NOW, cpu_s=9.0, error="no rows")
    store.record(Commit(groups=[group_training(status=EffectStatus.DONE, finished_at=NOW, cpu_s=2.5), failed]))
    totals = store.totals(since=NOW - DAY, until=NOW + DAY)
    assert (totals.n_trainings, totals.fit_cpu_s) == (1, 2.5)
    assert store.totals(since=NOW + DAY, until=NOW + 2 * DAY).n_trainings == 0
