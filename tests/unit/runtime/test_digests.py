"""Digests of a running fleet: read from a real store, due on time, and delivered whatever the servers do."""

import json
import socket
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import numpy as np
import pytest
from aiosmtpd.controller import Controller

from mlma.adapters.notifier import AppriseNotifier
from mlma.adapters.store import SqlStore
from mlma.core.blocks import ACTION_CODE, HOLD_CODE, REASON_CODE, DecisionBlock
from mlma.core.decisions import (
    Action,
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
from mlma.core.digest import MAX_LINES, WIDTH, make_digest
from mlma.core.errors import ConfigError, RetryLaterError
from mlma.core.records import (
    AuditRow,
    Decision,
    Effect,
    Finding,
    Incident,
    Lease,
    Override,
    Rejected,
    Request,
    SourceFile,
    Stream,
    Version,
)
from mlma.core.schedule import Schedule
from mlma.runtime.digests import backoff, deliver_due, gather, issue, next_due
from mlma.runtime.ports import Commit

NOW = datetime(2001, 3, 6, 7, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECRET = "s3cr3t-t0ken"
AUDIT = AuditRow(at=SINCE, author="kim", operation="freeze", subject="*", before="", after="")


@pytest.fixture
def store():
    with SqlStore("sqlite://", create=True) as opened:
        yield opened


# --- when -------------------------------------------------------------------------------------------------


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "due"),
    [
        ("0 7 * * *", "UTC", "2001-03-05 07:00", "2001-03-06 07:00"),  # strictly later
        ("0 7 * * *", "UTC", "2001-03-05 06:59:59", "2001-03-05 07:00"),
        ("0 7 * * *", "America/New_York", "2001-03-05 07:00", "2001-03-05 12:00"),
        ("*/15 * * * *", "UTC", "2001-03-05 07:01", "2001-03-05 07:15"),
        ("0 7 * * 1", "UTC", "2001-03-06 00:00", "2001-03-12 07:00"),  # a Monday, as cron counts
        ("0 7 * * 0", "UTC", "2001-03-06 00:00", "2001-03-11 07:00"),  # a Sunday
        ("0 7 * * 7", "UTC", "2001-03-06 00:00", "2001-03-11 07:00"),
        ("0 7 * * SUN", "UTC", "2001-03-06 00:00", "2001-03-11 07:00"),
        ("0 7 * * 1-5", "UTC", "2001-03-09 08:00", "2001-03-12 07:00"),
        ("0 7 * * fri-mon", "UTC", "2001-03-06 00:00", "2001-03-09 07:00"),
        ("0 7 * * */3", "UTC", "2001-03-08 00:00", "2001-03-10 07:00"),  # Sunday, Wednesday, Saturday
        ("0 7 15 * 1", "UTC", "2001-03-06 00:00", "2001-03-12 07:00"),  # the 15th or a Monday
        ("0 7 1 * *", "UTC", "2001-03-06 00:00", "2001-04-01 07:00"),
        ("30 2 * * *", "Europe/Berlin", "2001-10-28 00:30", "2001-10-29 01:30"),  # once in the repeated hour
        ("0 * * * *", "Europe/Berlin", "2001-10-28 00:00", "2001-10-28 01:00"),  # every hour, repeated or not
    ],
)
def test_next_due_is_what_cron_means(cron, timezone, after, due):
    assert next_due(cron, timezone, at(after)) == at(due)


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("0 7 * *", "UTC", "expected five fields"),
        ("61 7 * * *", "UTC", "61"),
        ("0 7 * * 8", "UTC", "weekday '8'"),
        ("0 7 * * mon-", "UTC", "weekday 'mon-'"),
        ("0 7 * foo *", "UTC", "expected minute hour day month weekday"),
        ("0 7 31 2 *", "UTC", "never due"),
        ("0 7 * * *", "Mars/Olympus", "IANA name"),
        ("0 7 * * *", "", "IANA name"),
    ],
)
def test_a_wrong_cron_is_a_config_error(cron, timezone, message):
    with pytest.raises(ConfigError, match=message):
        next_due(cron, timezone, NOW)


def test_next_due_moves_on_through_a_change_of_clocks():
    time = at("2001-10-27 00:00")
    for _ in range(60):
        later = next_due("30 * * * *", "Europe/Berlin", time)
        assert timedelta(0) < later - time <= timedelta(hours=1)
        time = later


# --- gathering --------------------------------------------------------------------------------------------


def fill(store, n=4, *, batch=9, alarms=(1,), held=()):
    """A fleet of n streams, one batch judged an hour ago; streams in ``alarms`` alarm, in ``held`` frozen."""
    born = [Stream(id=i, name=f"S{i}", first_slot=0) for i in range(n)]
    action = np.full(n, ACTION_CODE[Action.KEEP], dtype=np.int8)
    proposed, reason = action.copy(), np.full(n, REASON_CODE[Reason.WITHIN_REFERENCE], dtype=np.int8)
    held_by = np.full(n, HOLD_CODE[Hold.NOTHING], dtype=np.int8)
    proposed[list(alarms)] = action[list(alarms)] = ACTION_CODE[Action.RETRAIN]
    reason[list(alarms)] = REASON_CODE[Reason.ALARM_BOTH]
    action[list(held)], held_by[list(held)] = ACTION_CODE[Action.KEEP], HOLD_CODE[Hold.FROZEN]
    p_value = np.full(n, 0.5)
    p_value[-1] = np.nan  # not ready
    block = DecisionBlock(
        batch=batch, phase=Phase.BATCH, decided_at=NOW - timedelta(hours=1), stream_id=np.arange(n), action=action,
        proposed=proposed, reason=reason, held_by=held_by, n=np.full(n, 24), mean_loss=np.full(n, 1.0),
        naive_loss=np.linspace(1.0, 4.0, n), p_value=p_value, effect=np.full(n, 0.3), adaptive_mean=np.full(n, 1.0),
        anchored_mean=np.full(n, 1.0), n_reference=np.full(n, 8), version_id=("naive",) * n,
    )  # fmt: skip
    store.record(Commit(cursor=batch, streams=born, block=block))


def override(kind=OverrideKind.FREEZE, selection="S1", **changes):
    base = Override(
        kind=kind, selection=selection, author="kim", comment="c", created_at=SINCE, starts_at=SINCE, ends_at=None
    )
    return replace(base, **changes)


def read(store, **changes):
    return gather(store, now=NOW, since=SINCE, alpha=0.05, **changes)


def test_a_batch_is_gathered_as_sums_and_exceptions(store):
    fill(store)
    inputs = read(store)
    assert (inputs.n_streams, inputs.n_batches, inputs.n_tested, inputs.n_streams_tested) == (4, 1, 3, 3)
    assert [d.stream_id for d in inputs.decisions] == [1]
    assert inputs.loss_ratio_mean == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]))
    assert inputs.loss_ratio_median == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert inputs.last_batch == 9


def seen(first, last, **labels):
    words = ",".join(f"{key}={value}" for key, value in labels.items())
    return Incident(
        id=f"{first}-{words}", labels=labels, first_batch=first, last_batch=last, n_members=9, rise=0.5, p_value=0.001
    )


def test_incidents_are_those_of_the_batches_that_were_closed_in_the_period(store):
    fill(store)  # batch 9, the only one of the period
    store.record(Commit(incidents=[seen(7, 8, site="a"), seen(5, 9, site="b"), seen(9, 9)]))
    found = read(store)
    assert sorted(one.label_set for one in found.incidents) == ["site=b", "the whole fleet"]
    assert all(one.goes_on and one.starts_at is None for one in found.incidents)


def test_incidents_have_their_place_in_event_time(store):
    fill(store)
    store.record(Commit(incidents=[seen(5, 9)]))
    hours = Schedule(anchor=SINCE, frequency=timedelta(hours=1), horizon=24, batch=24, train_window=48)
    (found,) = read(store, schedule=hours).incidents
    assert (found.starts_at, found.ends_at) == (SINCE + timedelta(days=5), SINCE + timedelta(days=10))


def test_a_period_without_a_batch_has_no_incident(store):
    fill(store)
    store.record(Commit(incidents=[seen(9, 9)]))
    assert gather(store, now=NOW, since=NOW - MINUTE, alpha=0.05).incidents == []
    assert read(store).certificate is None


def test_an_empty_store_makes_a_digest(store):
    digest = make_digest(read(store))
    assert digest.needs_you.entries[0].text == "no daemon is running"


def test_what_lies_outside_the_period_is_not_told(store):
    fill(store)
    before, after = Decision(
        stream_id=0, batch=3, phase=Phase.BATCH, action=Action.RETRAIN, proposed=Action.RETRAIN,
        reason=Reason.ALARM_BOTH, decided_at=SINCE,
    ), Decision(
        stream_id=2, batch=10, phase=Phase.BATCH, action=Action.RETRAIN, proposed=Action.RETRAIN,
        reason=Reason.ALARM_BOTH, decided_at=NOW + MINUTE,
    )  # fmt: skip
    store.record(Commit(decisions=[before, after]))
    assert [d.stream_id for d in read(store).decisions] == [1]


def test_periods_that_follow_each_other_tell_everything_once(store):
    fill(store)
    moments = [NOW - timedelta(hours=3), NOW - timedelta(hours=1), NOW]  # the batch was judged at the second one
    told = [gather(store, now=until, since=since, alpha=0.05) for since, until in pairwise(moments)]
    assert [(len(inputs.decisions), inputs.n_tested) for inputs in told] == [(1, 3), (0, 0)]


def test_the_override_that_holds_a_stream_is_found(store):
    fill(store, alarms=(1, 2), held=(1, 2))
    ids = [
        store.add_override(order, AUDIT)
        for order in (override(selection="S2", ends_at=NOW - MINUTE), override(selection="S1"))
    ]
    inputs = read(store)
    assert inputs.holders == {1: ids[1]}
    assert [o.id for o in inputs.overrides] == [ids[1]]
    needs = make_digest(inputs).needs_you.entries
    assert ("S1: frozen, but alarms: loss +30 %", f"mlma lift {ids[1]}") in [(e.text, e.command) for e in needs]


def test_lost_comparisons_are_counted_beyond_the_period(store):
    fill(store)
    lost = [
        Decision(
            stream_id=1, batch=batch, phase=Phase.PROMOTION, action=Action.REJECT, proposed=Action.REJECT,
            reason=Reason.NOT_BETTER, decided_at=NOW - timedelta(days=9 - batch, hours=1),
        )
        for batch in (5, 7, 9)
    ]  # fmt: skip
    store.record(Commit(decisions=lost))
    assert read(store).losing_streaks == {1: 3}
    assert "mlma explain S1" in [e.command for e in make_digest(read(store)).needs_you.entries]


def test_files_and_quarantine_are_those_of_the_period(store):
    for seq, taken_at in ((1, SINCE), (2, SINCE + MINUTE), (3, NOW)):
        file = SourceFile(
            seq=seq, path=f"{seq}.csv", fingerprint="f", n_rows=100, n_admitted=90, n_rejected=10, n_late=0,
            error="truncated" if seq == 3 else "", taken_at=taken_at,
        )  # fmt: skip
        rejected = [
            Rejected(
                seq=seq, path=file.path, stream=stream, reason=RejectReason.ABSURD, count=count, row=1,
                field="y", value="1e9", expected="less",
            )
            for stream, count in (("S0", 3), ("S1", 7))
        ]  # fmt: skip
        store.record(Commit(file=file, rejected=rejected))
    inputs = read(store)
    assert (inputs.n_files, inputs.n_rows, list(inputs.unreadable)) == (2, 200, ["3.csv"])
    (absurd,) = inputs.rejected
    assert (absurd.reason, absurd.count, absurd.worst_stream) == (RejectReason.ABSURD, 20, "S1")


def test_all_files_of_a_busy_period_are_counted(store):
    for seq in range(1, 601):
        store.record(
            Commit(
                file=SourceFile(
                    seq=seq, path=f"{seq}", fingerprint="f", n_rows=1, n_admitted=1, n_rejected=0, n_late=0,
                    taken_at=SINCE - MINUTE if seq <= 100 else SINCE + MINUTE,
                )
            )
        )  # fmt: skip
    assert read(store).n_files == 500


def test_work_findings_requests_and_the_daemon_are_gathered(store):
    fill(store)
    effect = Effect(
        id="train-1-9-0", kind=EffectKind.TRAIN, stream_id=1, batch=9, reason=Reason.ALARM_BOTH, ordered_at=SINCE,
        deadline_at=NOW,
    )  # fmt: skip
    failed = replace(effect, id="train-2-9-0", status=EffectStatus.FAILED, finished_at=NOW - MINUTE)
    old = replace(failed, id="train-3-1-0", finished_at=SINCE - MINUTE)
    version = Version(
        id="1-9-0", stream_id=1, batch=9, role=Role.CHAMPION, family="lightgbm", sha256="", size_bytes=0, n_rows=9,
        fit_cpu_s=2.5, trained_at=NOW - MINUTE,
    )  # fmt: skip
    findings = [
        Finding(kind="stream_silent", subject="S0", message="m", first_at=SINCE, last_at=NOW),
        Finding(kind="model_failed", subject="S1", message="m", first_at=SINCE, last_at=NOW, closed_at=NOW - MINUTE),
        Finding(kind="model_failed", subject="S2", message="m", first_at=SINCE, last_at=NOW, closed_at=SINCE - MINUTE),
    ]
    store.record(Commit(effects=[effect, failed, old], versions=[version], findings=findings))
    store.add_request(
        Request(kind=RequestKind.RETRAIN, selection="S1", author="kim", comment="", created_at=NOW), AUDIT
    )
    lease = Lease(holder="h", pid=1, host="h", started_at=SINCE, heartbeat_at=NOW - MINUTE)
    store.take_lease(lease, stale_before=SINCE)
    schedule = Schedule(
        anchor=datetime(2001, 2, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=24, batch=24, train_window=240
    )
    inputs = read(store, schedule=schedule)
    assert [e.id for e in inputs.effects] == ["train-1-9-0", "train-2-9-0"]
    assert sorted(f.subject for f in inputs.findings) == ["S0", "S1"]
    assert (inputs.n_trainings, inputs.fit_cpu_s, len(inputs.requests)) == (1, 2.5, 1)
    assert (inputs.daemon_since, inputs.last_tick_at) == (SINCE, NOW - MINUTE)
    assert inputs.judged_until == datetime(2001, 2, 11, tzinfo=UTC)


def test_a_digest_is_stored_as_it_is_sent_and_fits_one_page(store):
    fill(store, 94, alarms=range(40))
    digest_id = issue(store, now=NOW, since=SINCE, targets=["mail", "hook"], alpha=0.05)
    (stored,) = store.digests()
    assert stored.id == digest_id
    assert (stored.made_at, stored.since) == (NOW, SINCE)
    assert json.loads(stored.body_json)["subject"] == stored.subject
    assert len(stored.text.splitlines()) <= MAX_LINES
    assert max(map(len, stored.text.splitlines())) <= WIDTH
    assert [d.target for d in store.deliveries()] == ["mail", "hook"]


@pytest.mark.parametrize("n", [94, 1000])
def test_a_digest_of_many_streams_is_no_longer(store, n):
    fill(store, n, alarms=range(n // 2), held=range(n // 4))
    store.add_override(override(selection="*"), AUDIT)
    issue(store, now=NOW, since=SINCE, targets=(), alpha=0.05)
    (stored,) = store.digests()
    assert len(stored.text.splitlines()) == 28
    assert max(map(len, stored.text.splitlines())) <= WIDTH


# --- delivering -------------------------------------------------------------------------------------------


class Outside:
    """The outside of a notifier: targets that work or fail as told, and what they were asked to send."""

    def __init__(self, *names, down=()):
        self.names, self.down, self.sent = names, set(down), []

    def targets(self):
        return self.names

    def send(self, target, *, subject, text):
        self.sent.append(target)
        if target in self.down:
            raise RetryLaterError(f"target {target}: not delivered: 503")


def issued(store, *targets, now=NOW):
    return issue(store, now=now, since=SINCE, targets=targets, alpha=0.05)


def delivery_findings(store):
    return [(f.subject, f.count, f.closed_at) for f in store.findings(open_only=False) if f.kind == "delivery_failed"]


def test_a_new_digest_is_delivered_at_once_and_never_again(store):
    issued(store, "mail")
    outside = Outside("mail")
    for minutes in range(3):
        deliver_due(store, outside, NOW + minutes * MINUTE)
    (delivery,) = store.deliveries()
    assert outside.sent == ["mail"]
    assert (delivery.attempts, delivery.delivered_at, delivery.error) == (1, NOW, "")


def test_failure_of_one_target_does_not_hold_the_other(store):
    issued(store, "mail", "hook")
    deliver_due(store, Outside("mail", "hook", down=["mail"]), NOW)
    mail, hook = store.deliveries()
    assert hook.delivered_at == NOW
    assert (mail.attempts, mail.delivered_at, mail.next_try_at) == (1, None, NOW + MINUTE)
    assert mail.error == "target mail: not delivered: 503"


def test_pauses_grow_to_an_hour_and_trying_never_ends():
    assert [backoff(n) // MINUTE for n in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_failing_target_is_tried_only_when_due(store):
    issued(store, "mail")
    outside = Outside("mail", down=["mail"])
    for minute in range(60 * 6):
        deliver_due(store, outside, NOW + minute * MINUTE)
    assert len(outside.sent) == 7 + 4  # 0, 1, 3, 7, 15, 31, 63 minutes, then every hour
    assert store.deliveries()[0].attempts == len(outside.sent)


def test_three_failures_open_a_finding_and_success_closes_it(store):
    issued(store, "mail")
    outside = Outside("mail", down=["mail"])
    tries = [NOW, NOW + MINUTE, NOW + 3 * MINUTE, NOW + 7 * MINUTE]
    for n, now in enumerate(tries, start=1):
        deliver_due(store, outside, now)
        assert delivery_findings(store) == ([("mail", n - 2, None)] if n >= 3 else [])
    (finding,) = store.findings()
    assert (finding.first_at, finding.last_at) == (tries[2], tries[3])
    outside.down.clear()
    deliver_due(store, outside, NOW + 15 * MINUTE)
    assert delivery_findings(store) == [("mail", 2, NOW + 15 * MINUTE)]
    assert store.deliveries()[0].attempts == 5


def test_an_undelivered_digest_is_told_in_the_next_one(store):
    issued(store, "mail", "hook")
    outside = Outside("mail", "hook", down=["mail"])
    for minute in (0, 1, 3):
        deliver_due(store, outside, NOW + minute * MINUTE)
    digest = make_digest(gather(store, now=NOW + timedelta(days=1), since=NOW, alpha=0.05, expects_daemon=False))
    assert digest.needs_you.entries[0].text == "mail: no digest arrives there since 2001-03-06 07:03"


def test_a_hanging_target_costs_one_try_a_pass(store):
    for hours in range(3):
        issued(store, "mail", now=NOW - timedelta(hours=hours))
    outside = Outside("mail", down=["mail"])
    deliver_due(store, outside, NOW)
    assert outside.sent == ["mail"]
    outside.down.clear()
    deliver_due(store, outside, NOW + MINUTE)
    assert store.deliveries(open_only=True) == []
    assert len(outside.sent) == 4


def test_a_target_that_was_removed_is_not_tried_for_ever(store):
    issued(store, "mail")
    for minute in (0, 1, 3):
        deliver_due(store, Outside("mail", down=["mail"]), NOW + minute * MINUTE)
    outside = Outside("hook")
    for minute in (7, 8, 200):
        deliver_due(store, outside, NOW + minute * MINUTE)
    (delivery,) = store.deliveries()
    assert outside.sent == []
    assert (delivery.delivered_at, delivery.next_try_at) == (None, None)
    assert delivery.error == "the target was removed from the configuration"
    assert store.findings() == []


def test_a_crash_after_sending_sends_again(store, monkeypatch):
    issued(store, "mail")
    outside = Outside("mail")

    class CrashError(Exception):
        pass

    def crash(_):
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(store, "update_delivery", crash)
        with pytest.raises(CrashError):
            deliver_due(store, outside, NOW)
    deliver_due(store, outside, NOW)
    assert outside.sent == ["mail", "mail"]
    assert store.deliveries()[0].delivered_at == NOW


# --- to real servers --------------------------------------------------------------------------------------


class Inbox:
    def __init__(self):
        self.messages = []

    async def handle_DATA(self, server, session, envelope):
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 accepted"


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def smtp(port):
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield inbox.messages
    finally:
        controller.stop()


@contextmanager
def endpoint():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.posts = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_digest_reaches_the_hook_now_and_the_mail_server_when_it_is_up_again(store, capfd):
    fill(store, 94, alarms=range(40))
    port = free_port()
    with endpoint() as hook:
        notifier = AppriseNotifier(
            {
                "mail": f"mailto://127.0.0.1:{port}?from=mlma@example.org&to=ada@example.org&mode=insecure",
                "hook": f"json://127.0.0.1:{hook.server_address[1]}/{SECRET}",
            }
        )
        issued(store, *notifier.targets())
        for minute in (0, 1, 3):
            deliver_due(store, notifier, NOW + minute * MINUTE)
        (stored,) = store.digests()
        assert [(post["title"], post["message"].splitlines()) for post in hook.posts] == [
            (stored.subject, stored.text.splitlines())
        ]
        mail, _ = store.deliveries()
        assert (mail.attempts, mail.delivered_at) == (3, None)
        assert "Connection refused" in mail.error
        with smtp(port) as messages:
            deliver_due(store, notifier, NOW + 7 * MINUTE)
    (message,) = messages
    assert message["Subject"] == stored.subject
    assert message.get_content().splitlines() == stored.text.splitlines()
    assert [(d.target, d.attempts, d.delivered_at) for d in store.deliveries()] == [
        ("mail", 4, NOW + 7 * MINUTE),
        ("hook", 1, NOW),
    ]
    assert delivery_findings(store) == [("mail", 1, NOW + 7 * MINUTE)]
    assert SECRET not in "".join(capfd.readouterr())


def test_no_secret_reaches_a_record(store):
    notifier = AppriseNotifier({"hook": f"json://ada:{SECRET}@127.0.0.1:{free_port()}/{SECRET}"})
    issued(store, "hook")
    for minute in (0, 1, 3):
        deliver_due(store, notifier, NOW + minute * MINUTE)
    recorded = repr((store.deliveries(), store.findings(), store.digests()))
    assert "delivery_failed" in recorded
    assert SECRET not in recorded
    assert "127.0.0.1" not in recorded
