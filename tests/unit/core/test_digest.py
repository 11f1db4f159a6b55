"""The digest as values: what each section says, in which order, and never on more than one page."""

import json
import math
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
)
from mlma.core.digest import (
    MAX_LINES,
    SHOWN_BRIEFLY,
    WIDTH,
    DigestInputs,
    RejectedCount,
    losing_streaks,
    make_digest,
    render,
    to_json,
)
from mlma.core.digest_attention import attention
from mlma.core.digest_monitor import span
from mlma.core.digest_parts import PoolSummary
from mlma.core.incident_view import IncidentView, label_set
from mlma.core.records import Certificate, Decision, Effect, Finding, Override, Request

NOW = datetime(2001, 3, 6, 7, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=1)
NAMES = {0: "ATL", 1: "IAH", 2: "ORD", 3: "DFW"}


def inputs(**changes):
    base = DigestInputs(
        now=NOW,
        since=SINCE,
        until=NOW,
        n_streams=4,
        alpha=0.05,
        names=NAMES,
        n_batches=1,
        n_tested=4,
        n_streams_tested=4,
        last_batch=9,
        daemon_since=SINCE,
        last_tick_at=NOW,
        judged_until=NOW - timedelta(hours=1),
        n_files=12,
        n_rows=1000,
    )
    return replace(base, **changes)


def decision(stream_id=1, batch=9, **changes):
    base = Decision(
        stream_id=stream_id,
        batch=batch,
        phase=Phase.BATCH,
        action=Action.RETRAIN,
        proposed=Action.RETRAIN,
        reason=Reason.ALARM_BOTH,
        decided_at=NOW - timedelta(hours=2),
        p_value=0.001,
        effect=0.34,
    )
    return replace(base, **changes)


def promotion(stream_id=1, batch=9, *, reason=Reason.BEAT_CHAMPION, **changes):
    won = reason is Reason.BEAT_CHAMPION or reason is Reason.FIRST_VERSION
    action = Action.PROMOTE if won else Action.REJECT
    given = {"phase": Phase.PROMOTION, "action": action, "proposed": action, "effect": float("nan")}
    given["decided_at"] = NOW - timedelta(hours=1)
    return decision(stream_id, batch, reason=reason, **(given | changes))


def held_back(stream_id=1, batch=9, by=Hold.FROZEN, **changes):
    return decision(stream_id, batch, action=Action.KEEP, held_by=by, **changes)


def effect(stream_id=1, **changes):
    base = Effect(
        id=f"train-{stream_id}-9-0",
        kind=EffectKind.TRAIN,
        stream_id=stream_id,
        batch=9,
        reason=Reason.ALARM_BOTH,
        ordered_at=NOW - timedelta(minutes=10),
        deadline_at=NOW + timedelta(minutes=20),
    )
    return replace(base, **changes)


def finding(kind, subject="IAH", **changes):
    base = Finding(kind=kind, subject=subject, message="it broke", first_at=SINCE, last_at=NOW)
    return replace(base, **changes)


def override(identity=3, kind=OverrideKind.FREEZE):
    return Override(
        id=identity,
        kind=kind,
        selection="IAH",
        author="kim",
        comment="runway works",
        created_at=SINCE,
        starts_at=SINCE,
        ends_at=None,
    )


def certificate(**changes):
    base = Certificate(
        batch=9,
        test="moderated",
        status=CertificateStatus.CERTIFIED,
        promised=0.05,
        level=0.0463,
        level_low=0.0412,
        level_high=0.0521,
        n_healthy=8412,
        rise=0.25,
        power=0.71,
        caught=0.97,
        delay=1.0,
        n_degraded=901,
    )
    return replace(base, **changes)


FAILED = {"status": CertificateStatus.FAILED, "level": 0.192, "level_low": 0.171, "level_high": 0.213}
PENDING = {"status": CertificateStatus.PENDING, "n_healthy": 120}


def incident(n_members=41, rise=0.63, *, first=7, last=9, goes_on=False, **labels):
    """An incident in days: batch 7 is 3 March."""
    midnight = datetime(2001, 2, 24, tzinfo=UTC)
    words = label_set(labels)
    return IncidentView(
        id=f"{first}-{words}",
        label_set=words,
        labels=labels,
        first_batch=first,
        last_batch=last,
        starts_at=midnight + timedelta(days=first),
        ends_at=midnight + timedelta(days=last + 1),
        goes_on=goes_on,
        n_members=n_members,
        rise=rise,
        p_value=1e-9,
    )


def page(**changes):
    return render(make_digest(inputs(**changes)))


def commands(**changes):
    return [entry.command for entry in make_digest(inputs(**changes)).needs_you.entries]


# --- an empty day -----------------------------------------------------------------------------------------


def test_silence_is_proven_to_be_health():
    digest = make_digest(inputs())
    assert digest.subject == "mlma: no news, all 4 streams within reference"
    assert digest.heartbeat[0] == "no news: all 4 streams within reference"
    assert digest.heartbeat[1] == "judged to 2001-03-06 06:00; last tick 2001-03-06 07:00; up 1 d"


def test_every_section_is_present_even_when_empty():
    text = page()
    for heading in ("HEALED", "PENDING", "NEEDS YOU", "INCIDENTS", "ORDERS", "LEFT OUT"):
        assert f"{heading:<10}none\n" in text
    for heading in ("COST", "HONESTY", "DATA", "HEARTBEAT"):
        assert f"\n{heading:<10}" in text


def test_untested_streams_are_not_called_healthy():
    digest = make_digest(inputs(n_streams_tested=1, n_tested=1))
    assert "no news" not in digest.subject + digest.heartbeat[0]
    assert digest.heartbeat[0] == "1 of 4 streams tested, 0 alarmed, 3 not tested"


def test_an_empty_fleet_is_not_called_healthy():
    digest = make_digest(inputs(n_streams=0, n_tested=0, n_streams_tested=0, n_batches=0))
    assert "no news" not in digest.subject + digest.heartbeat[0]
    assert digest.honesty[0] == "nothing was tested, so nothing was promised"


def test_a_stopped_daemon_is_news_even_when_all_tests_are_quiet():
    digest = make_digest(inputs(last_tick_at=NOW - timedelta(hours=3)))
    assert digest.needs_you.entries[0].text == "the daemon has been silent since 2001-03-06 04:00"
    assert digest.needs_you.entries[0].command == "mlma doctor"
    assert "no news" not in digest.subject + digest.heartbeat[0]


def test_a_replayed_state_misses_no_daemon():
    digest = make_digest(inputs(last_tick_at=None, daemon_since=None, expects_daemon=False))
    assert digest.needs_you.summary == "none"
    assert digest.heartbeat[1].endswith("replayed")


# --- healed -----------------------------------------------------------------------------------------------


def test_a_promotion_that_was_proven_is_healed_with_its_losses():
    proof = promotion(adaptive_mean=4.1, mean_loss=3.2, effect=-0.22, n=168)
    digest = make_digest(inputs(decisions=[decision(), proof]))
    assert digest.healed.summary == "1 proven better"
    assert digest.healed.entries[0].text == "IAH: loss 4.1 -> 3.2 on 168 held-out targets (-22 %)"


@pytest.mark.parametrize(
    ("decisions", "findings", "summary", "example"),
    [
        ([promotion(reason=Reason.NOT_BETTER)], [], "none", None),
        ([promotion(held_by=Hold.PINNED, action=Action.KEEP)], [], "none", None),
        ([promotion(reason=Reason.LATEST_SERVES, action=Action.PROMOTE)], [], "none", None),
        ([promotion()], [], "1 proven better", "IAH: challenger beat champion"),
        ([promotion(phase=Phase.RELEASE)], [], "1 proven better", "IAH: challenger beat champion"),
        (
            [decision(action=Action.ROLL_BACK, reason=Reason.REQUESTED, phase=Phase.REQUEST, note="request 2 by kim")],
            [],
            "1 rolled back",
            "IAH: former champion serves again (request 2 by kim)",
        ),
        (
            [decision(phase=Phase.RELEASE, note="was held: frozen")],
            [],
            "1 released",
            "IAH: retrain released (was held: frozen)",
        ),
        (
            [],
            [finding("model_failed", closed_at=NOW)],
            "1 fallback ended",
            "IAH: its model forecasts again, naive stood in",
        ),
        ([promotion(reason=Reason.FIRST_VERSION)], [], "1 first version", None),
    ],
    ids=["lost", "pinned", "unproven", "proven", "unpinned", "rolled back", "released", "fallback ended", "first"],
)
def test_only_what_was_mended_is_healed(decisions, findings, summary, example):
    healed = make_digest(inputs(decisions=decisions, findings=findings)).healed
    assert healed.summary == summary
    assert [entry.text for entry in healed.entries] == ([example] if example else [])


def test_healed_examples_are_ranked_by_the_alarm_that_they_ended():
    alarms = [decision(0, effect=0.1), decision(1, effect=0.9), decision(2, effect=0.4)]
    digest = make_digest(inputs(decisions=[*alarms, promotion(0), promotion(1), promotion(2)]))
    assert [entry.text[:3] for entry in digest.healed.entries] == ["IAH", "ORD", "ATL"]


def test_a_rare_kind_of_healing_is_not_crowded_out_by_a_frequent_one():
    asked = {"phase": Phase.REQUEST, "action": Action.ROLL_BACK, "reason": Reason.REQUESTED, "note": "request 2 by kim"}
    digest = make_digest(inputs(decisions=[*(promotion(i) for i in range(3)), decision(3, **asked)]))
    assert [entry.text.split(":")[0] for entry in digest.healed.entries] == ["ATL", "DFW", "IAH"]


# --- pending ----------------------------------------------------------------------------------------------


def test_pending_lists_what_is_held_then_what_is_trained():
    request = Request(kind=RequestKind.RETRAIN, selection="*", author="kim", comment="", created_at=NOW)
    digest = make_digest(
        inputs(
            effects=[effect(0, attempts=1), effect(2), effect(3)],
            decisions=[held_back(1, by=Hold.COOLING_DOWN)],
            requests=[request],
        )
    )
    assert digest.pending.summary == "3 trainings under way, 1 proposal held, 1 request not yet obeyed"
    assert [entry.text for entry in digest.pending.entries] == [
        "IAH: retrain held: cooling_down (alarm_both +34 %)",
        "ATL: training since 2001-03-06 06:50 (alarm_both), try 2",
        "ORD: training since 2001-03-06 06:50 (alarm_both)",
    ]
    assert digest.pending.n_more == 1


@pytest.mark.parametrize(
    ("decisions", "holders", "n_held"),
    [
        ([held_back(by=Hold.COOLING_DOWN)], {}, 1),
        ([held_back(by=Hold.TOO_LITTLE_DATA)], {}, 1),
        ([held_back(by=Hold.COOLING_DOWN, batch=8)], {}, 0),  # not proposed again after the last batch
        ([held_back(by=Hold.COOLING_DOWN), decision(phase=Phase.RELEASE, decided_at=NOW)], {}, 0),  # carried out since
        ([held_back(by=Hold.FROZEN)], {1: 3}, 1),
        ([held_back(by=Hold.FROZEN, batch=8)], {1: 3}, 0),  # quiet again
        ([held_back(by=Hold.FROZEN)], {}, 0),  # lifted since
        ([held_back(by=Hold.FROZEN, phase=Phase.REQUEST, reason=Reason.REQUESTED)], {1: 3}, 0),  # was consumed
        ([promotion(held_by=Hold.PINNED, action=Action.KEEP)], {1: 3}, 1),
        ([held_back(by=Hold.IN_PROGRESS)], {}, 0),  # its training is listed itself
    ],
)
def test_only_what_is_still_held_is_pending(decisions, holders, n_held):
    digest = make_digest(inputs(decisions=decisions, holders=holders))
    assert len(digest.pending.entries) == n_held


def test_a_late_training_says_so():
    digest = make_digest(inputs(effects=[effect(attempts=1, deadline_at=SINCE)]))
    assert digest.pending.entries[0].text.endswith(", try 2, late")


# --- needs you --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text", "command"),
    [
        (
            {"decisions": [held_back()], "holders": {1: 3}, "overrides": [override()]},
            "IAH: frozen, but alarms: loss +34 %",
            "mlma lift 3",
        ),
        (
            {"decisions": [promotion(held_by=Hold.PINNED, action=Action.KEEP)], "holders": {1: 7}},
            "IAH: pinned, but a better challenger waits",
            "mlma lift 7",
        ),
        (
            {"decisions": [decision()], "losing_streaks": {1: 3}},
            "IAH: alarms (+34 %), yet 3 challengers in a row lost",
            "mlma explain IAH",
        ),
        (
            {"findings": [finding("model_failed")]},
            "IAH: its model failed, seasonal naive serves",
            "mlma retrain IAH --reason 'model failed'",
        ),
        ({"findings": [finding("training_failed")]}, "IAH: its training failed", "mlma explain IAH"),
        ({"decisions": [promotion(reason=Reason.TRAINING_FAILED)]}, "IAH: its training failed", "mlma explain IAH"),
        ({"effects": [effect(status=EffectStatus.FAILED)]}, "IAH: its training failed", "mlma explain IAH"),
        (
            {"decisions": [decision(action=Action.ESCALATE)]},
            "IAH: a person must look (alarm_both)",
            "mlma explain IAH",
        ),
        (
            {"findings": [finding("stream_silent")]},
            "IAH: it broke",
            "mlma explain IAH",
        ),
        (
            {"rejected": [RejectedCount(reason=RejectReason.ABSURD, count=23, worst_stream="IAH")]},
            "2.3 % of the rows quarantined, most absurd, worst stream IAH",
            "mlma status",
        ),
        ({"unreadable": ["inbox/march.parquet"]}, "1 file could not be read: march.parquet", "mlma doctor"),
        ({"findings": [finding("source_failed", "inbox")]}, "inbox: it broke", "mlma doctor"),
        (
            {"findings": [finding("delivery_failed", "mail")]},
            "mail: no digest arrives there since 2001-03-05 07:00",
            "mlma doctor",
        ),
        ({"last_tick_at": None}, "no daemon is running", "mlma doctor"),
        (
            {"certificate": certificate(**FAILED)},
            "loss test NOT ARMED: 19.2 % false alarms where 5 % are promised",
            "mlma status",
        ),
        ({"findings": [finding("clock_skew", "node-2")]}, "node-2: it broke", "mlma status"),
        (
            {"decisions": [held_back(phase=Phase.REQUEST, by=Hold.NO_FORMER_CHAMPION, proposed=Action.ROLL_BACK)]},
            "IAH: roll_back asked for, but held: no_former_champion",
            "mlma explain IAH",
        ),
    ],
)
def test_each_trouble_has_one_sentence_and_the_command_to_type(changes, text, command):
    digest = make_digest(inputs(**changes))
    assert [(entry.text, entry.command) for entry in digest.needs_you.entries] == [(text, command)]
    assert digest.subject.startswith("mlma: 1 needs you")


@pytest.mark.parametrize(
    "changes",
    [
        {"decisions": [decision()]},  # an alarm that mlma takes care of
        {"decisions": [decision()], "losing_streaks": {1: 1}},  # one lost comparison may be chance
        {"losing_streaks": {1: 5}},  # no alarm any more
        {"certificate": certificate()},
        {"certificate": certificate(**PENDING)},  # too few sham tests to say
        {"incidents": [incident(site="lhr")]},  # it has its own section
        {"findings": [finding("stream_silent", closed_at=NOW)]},
        {"findings": [finding("source_failed", last_at=SINCE - timedelta(days=3))]},  # told in its own digest
        {"rejected": [RejectedCount(reason=RejectReason.DUPLICATE, count=10, worst_stream="IAH")]},  # 1.0 %
        {"effects": [effect(status=EffectStatus.FAILED)], "decisions": [promotion()]},  # a later one worked
    ],
)
def test_what_mends_itself_needs_nobody(changes):
    assert make_digest(inputs(**changes)).needs_you.summary == "none"


def test_needs_are_ranked_by_severity_then_by_effect_times_streams():
    found = attention(
        inputs(
            decisions=[held_back(0, effect=0.2), held_back(1, effect=0.3), held_back(2, effect=0.4)],
            holders={0: 3, 1: 3, 2: 4},
            findings=[finding("stream_silent", "DFW"), finding("delivery_failed", "mail")],
        )
    )
    assert [item.command for item in found] == ["mlma doctor", "mlma lift 3", "mlma lift 4", "mlma explain DFW"]


def test_a_test_that_is_not_armed_comes_before_every_stream():
    troubles = {
        "decisions": [held_back(0), decision(2, action=Action.ESCALATE, effect=50.0)],
        "holders": {0: 3},
        "findings": [finding(kind, "DFW") for kind in ("model_failed", "delivery_failed")],
        "unreadable": ["inbox/march.parquet"],
    }
    found = attention(inputs(certificate=certificate(**FAILED), **troubles))
    assert found[0].command == "mlma status"
    assert found[0].severity > found[3].severity


def test_streams_under_one_override_are_one_item():
    digest = make_digest(inputs(decisions=[held_back(0, effect=0.2), held_back(1, effect=0.3)], holders={0: 3, 1: 3}))
    assert digest.needs_you.entries[0].text == "2 frozen streams alarm or wait: IAH, ATL"


def test_many_silent_streams_are_one_item():
    silent = [finding("stream_silent", f"stop-{i}") for i in range(5000)]
    entries = make_digest(inputs(findings=silent)).needs_you.entries
    assert len(entries) == 1
    assert entries[0].text.startswith("5,000 streams send nothing: stop-0, stop-1, ")
    assert entries[0].text.endswith(" more")
    assert entries[0].command == "mlma status"


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("IAH", "mlma explain IAH"),
        ("store 12", "mlma explain 'store 12'"),
        ("a;rm -rf", "mlma explain 'a;rm -rf'"),
        ("-x", "mlma explain -- -x"),
        ("x" * 200, "mlma digest show --json"),
        ("two\nlines", "mlma digest show --json"),
    ],
)
def test_a_command_can_be_typed_as_it_stands(name, typed):
    assert commands(findings=[finding("training_failed", name)]) == [typed]
    assert len(shlex.split(typed)) >= 3


# --- cost, honesty, data, orders, left out ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        (
            {"n_trainings": 12, "fit_cpu_s": 1340.4, "loss_ratio_mean": 0.712, "loss_ratio_median": 0.69},
            "12 trainings, 1,340 CPU-s; loss 0.71 of naive (median 0.69)",
        ),
        ({"n_trainings": 1}, "1 training, 0 CPU-s; nothing scored against naive"),
    ],
)
def test_cost_is_trainings_cpu_and_loss_against_naive(changes, cost):
    assert make_digest(inputs(**changes)).cost == cost


def test_promised_alarms_stand_beside_those_seen_and_confirmed():
    alarms = [decision(i) for i in range(4)]
    proofs = [promotion(0), promotion(1, reason=Reason.NOT_BETTER), promotion(2, batch=8)]
    digest = make_digest(inputs(decisions=alarms + proofs, n_tested=940, n_streams=94))
    assert digest.honesty == (
        "promised: at most 47 false on average (5 % of 940 tests)",
        "seen: 4 alarms (0.426 %), true ones among them",
        "confirmed by proof: 1; not: 3 (1 lost, 2 open)",
        "sham tests: none so far, 5 % promised: no certificate",
    )


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (None, "sham tests: none so far, 5 % promised: no certificate"),
        (certificate(), "sham tests: 5 % promised, 4.63 % [4.12, 5.21] measured: certified"),
        (certificate(**PENDING), "sham tests: 5 % promised, 120 do not say enough yet: pending"),
        (
            certificate(status=CertificateStatus.PENDING, n_healthy=0, level=float("nan")),
            "sham tests: 5 % promised, 0 do not say enough yet: pending",
        ),
        (certificate(**FAILED), "sham tests: 5 % promised, 19.2 % [17.1, 21.3] measured: FAILED"),
        (
            certificate(level_low=float("nan"), level_high=float("nan")),
            "sham tests: 5 % promised, 4.63 % measured: certified",
        ),
        (
            certificate(promised=0.0025, level=0.0021, level_low=0.00185, level_high=0.0024),
            "sham tests: 0.25 % promised, 0.21 % [0.18, 0.24] measured: certified",
        ),
    ],
)
@pytest.mark.parametrize("n_tested", [0, 4])
def test_what_was_promised_stands_beside_what_sham_streams_measured(made, line, n_tested):
    honesty = make_digest(inputs(certificate=made, n_tested=n_tested)).honesty
    assert len(honesty) == 4
    assert honesty[3] == line
    assert len(line) <= WIDTH - 10


# --- incidents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "summary", "entries"),
    [
        ([], "none", []),
        (
            [incident(site="lhr")],
            "1 incident, over: mlma incidents",
            ["site=lhr: 41 streams +63 % from 3 Mar to 5 Mar"],
        ),
        (
            [incident(site="lhr", goes_on=True)],
            "1 incident, 1 goes on: mlma incidents",
            ["site=lhr: 41 streams +63 % since 3 Mar"],
        ),
        (
            [incident(1, first=9, product="food", site="lhr")],
            "1 incident, over: mlma incidents",
            ["product=food,site=lhr: 1 stream +63 % on 5 Mar"],
        ),
        (
            [incident(10, 0.9, site="a"), incident(20, 0.5, site="b", goes_on=True), incident(9000, 0.2, goes_on=True)],
            "3 incidents, 2 go on: mlma incidents",
            [
                "the whole fleet: 9,000 streams +20 % since 3 Mar",
                "site=b: 20 streams +50 % since 3 Mar",
                "site=a: 10 streams +90 % from 3 Mar to 5 Mar",
            ],
        ),
        (
            [incident(rise=float("nan"))],
            "1 incident, over: mlma incidents",
            ["the whole fleet: 41 streams from 3 Mar to 5 Mar"],
        ),
    ],
    ids=["none", "over", "goes on", "one batch, two labels", "ranked", "unknown size"],
)  # fmt: skip
def test_incidents_are_ranked_by_members_times_rise(seen, summary, entries):
    section = make_digest(inputs(incidents=seen)).incidents
    assert section.summary == summary
    assert [entry.text for entry in section.entries] == entries


def test_few_of_many_incidents_are_told_and_the_others_counted():
    digest = make_digest(inputs(incidents=[incident(n, site=f"s{n}") for n in range(1, 42)]))
    assert [entry.text[:8] for entry in digest.incidents.entries] == ["site=s41", "site=s40", "site=s39"]
    assert digest.incidents.n_more == 41 - SHOWN_BRIEFLY
    assert digest.suppressed == "none"  # `mlma incidents` lists them, and the section says so


def test_an_incident_is_news_although_no_stream_alarmed():
    digest = make_digest(inputs(incidents=[incident(site="lhr")]))
    assert digest.subject == "mlma: 0 need you, 0 alarms, 1 incident, 4 streams"
    assert digest.heartbeat[0] == "4 of 4 streams tested, 0 alarmed"


def test_silence_of_a_test_that_is_not_armed_is_not_health():
    digest = make_digest(inputs(certificate=certificate(**FAILED)))
    assert "within reference" not in digest.subject + digest.heartbeat[0]


@pytest.mark.parametrize(
    ("hours", "words"),
    [(168, "from 3 Mar to 16 Mar"), (24, "from 3 Mar to 4 Mar"), (6, "from 3 Mar 00:00 to 3 Mar 12:00")],
)
def test_incidents_are_dated_in_days_unless_a_batch_is_shorter(hours, words):
    start = datetime(2001, 3, 3, tzinfo=UTC)
    seen = replace(incident(first=4, last=5), starts_at=start, ends_at=start + timedelta(hours=2 * hours))
    assert span(seen) == words
    assert span(replace(seen, starts_at=None, ends_at=None)) == "from batch 4 to batch 5"


def test_data_names_the_worst_reasons():
    rejected = [
        RejectedCount(reason=RejectReason.DUPLICATE, count=2, worst_stream="ATL"),
        RejectedCount(reason=RejectReason.ABSURD, count=5, worst_stream="IAH"),
    ]
    assert make_digest(inputs(rejected=rejected)).files == "12 files, 1,000 rows, 7 quarantined: absurd 5, duplicate 2"


def test_active_overrides_are_counted_by_kind():
    orders = [override(1), override(2), override(3, OverrideKind.PIN)]
    assert make_digest(inputs(overrides=orders)).orders == "3 overrides active (2 freeze, 1 pin): mlma overrides"


def test_what_is_left_out_is_counted_with_the_command_that_lists_it():
    decisions = [held_back(i, by=Hold.COOLING_DOWN) for i in range(8)] + [promotion(10 + i) for i in range(6)]
    digest = make_digest(inputs(decisions=decisions))
    assert digest.suppressed == "and 8 more: mlma decisions --since 2001-03-05T07:00:00Z"


def test_losing_streaks_end_with_a_win():
    lost = Reason.NOT_BETTER
    promotions = [
        promotion(1, 3, reason=lost),
        promotion(1, 4),
        promotion(1, 6, reason=lost),
        promotion(1, 5, reason=lost),
        promotion(1, 7, reason=Reason.TRAINING_FAILED, action=Action.REJECT),
        promotion(2, 5),
    ]
    assert losing_streaks(reversed(promotions)) == {1: 2}


# --- one page ---------------------------------------------------------------------------------------------


@cache
def crowded(n):
    """Everything happens at once in a fleet of n streams, and every stream has a long name."""
    return inputs(
        n_streams=n,
        names={i: f"region-{i % 7}/warehouse-{i}/product-group-{i}" for i in range(n)},
        n_tested=24 * n,
        n_streams_tested=n // 2,
        decisions=[
            decision(i, 9, effect=0.1 + i / n)
            if i % 5 == 0
            else promotion(i, 9)
            if i % 5 == 1
            else held_back(i, by=Hold.FROZEN)
            if i % 5 == 2
            else held_back(i, by=Hold.COOLING_DOWN)
            if i % 5 == 3
            else decision(i, 9, action=Action.ESCALATE)
            for i in range(n)
        ],
        holders={i: 1 + i % 9 for i in range(n)},
        losing_streaks=dict.fromkeys(range(n), 3),
        effects=[effect(i, id=f"train-{i}", attempts=i % 2) for i in range(0, n, 2)],
        findings=[finding(kind, f"stream-{i}") for i in range(0, n, 10) for kind in ("stream_silent", "model_failed")],
        overrides=[override(i) for i in range(1, 10)],
        n_files=n,
        n_rows=96 * n,
        rejected=[RejectedCount(reason=reason, count=10 * n, worst_stream="s" * 90) for reason in RejectReason],
        unreadable=[f"inbox/{'long' * 20}-{i}.parquet" for i in range(n // 10)],
        n_trainings=n,
        fit_cpu_s=275.0 * n,
        loss_ratio_mean=0.71,
        loss_ratio_median=0.69,
        certificate=certificate(**FAILED, n_healthy=1000 * n, n_degraded=100 * n),
        incidents=[
            incident(n // 2, 0.01 * i, site=f"region-{i}/warehouse-{i}/hall-{i}", feed="f" * 60, goes_on=i % 2 == 0)
            for i in range(n // 10)
        ],
    )


@cache
def crowded_digest(n):
    """The digest of such a fleet; the largest takes seconds to make."""
    return make_digest(crowded(n))


def size(text):
    lines = text.splitlines()
    return len(lines), max(map(len, lines)), len(text)


@pytest.mark.parametrize("n", [10, 94, 1000, 100_000])
def test_a_crowded_digest_fits_one_page(n):
    lines, columns, _ = size(render(crowded_digest(n)))
    assert lines <= MAX_LINES
    assert columns <= WIDTH


@pytest.mark.parametrize("n", [1000, 100_000])
def test_a_digest_is_no_longer_for_many_streams_than_for_94(n):
    small, large = (size(render(crowded_digest(streams))) for streams in (94, n))
    assert large[0] == small[0] == MAX_LINES
    assert large[1] <= WIDTH
    assert large[2] <= MAX_LINES * (WIDTH + 1)


def test_no_fixed_line_is_cut_in_a_large_fleet():
    digest = crowded_digest(100_000)
    lines = [digest.subject, digest.scope, digest.cost, digest.orders, digest.suppressed]
    lines += [*digest.honesty, *digest.heartbeat, digest.healed.summary, digest.pending.summary]
    lines += [digest.incidents.summary]
    for line in lines:
        assert len(line) <= WIDTH - 10, line
        assert not line.endswith("...")


def test_json_holds_the_same_content_and_is_bounded_too():
    digest = crowded_digest(1000)
    body = json.loads(to_json(digest))
    assert body["subject"] == digest.subject
    assert body["since"] == "2001-03-05T07:00:00+00:00"
    assert [e["command"] for e in body["needs_you"]["entries"]] == [e.command for e in digest.needs_you.entries]
    assert len(to_json(digest)) < 8000


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(max_size=120), min_size=8, max_size=8),
    note=st.text(max_size=300),
    effects=st.lists(st.floats(), min_size=8, max_size=8),
    labels=st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=3),
)
def test_no_name_number_or_note_breaks_the_page(names, note, effects, labels):
    holds = [Hold.FROZEN, Hold.COOLING_DOWN, Hold.NOTHING, Hold.NOTHING] * 2
    decisions = [
        decision(i, effect=effects[i], held_by=hold, action=Action.ESCALATE, note=note) for i, hold in enumerate(holds)
    ]
    decisions += [promotion(i, note=note) for i in range(8)]
    text = page(
        names=dict(enumerate(names)),
        decisions=decisions,
        holders={0: 1, 4: 2},
        certificate=certificate(**FAILED | {"level": effects[0], "level_low": effects[1], "level_high": effects[2]}),
        incidents=[incident(8, effect, **labels) for effect in effects],
        findings=[finding(note, name, message=note) for name in names] + [finding("source_failed", note, message=note)],
    )
    lines, columns, _ = size(text)
    assert lines <= MAX_LINES
    assert columns <= WIDTH
    assert all(line.isprintable() for line in text.splitlines())


@given(seed=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_of_the_inputs_never_matters(seed):
    given_inputs = crowded(30)
    shuffled = {name: list(getattr(given_inputs, name)) for name in ("decisions", "effects", "incidents")}
    for rows in shuffled.values():
        seed.shuffle(rows)
    assert render(make_digest(replace(given_inputs, **shuffled))) == render(make_digest(given_inputs))


# --- the manual -------------------------------------------------------------------------------------------


def blend(evergreens, versions):
    return PoolSummary(is_blend=True, evergreen_share=evergreens, versions_share=versions, n_in_use=188)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pool": None}, "nothing recorded"),
        ({"pool": None, "n_trainings": 4, "fit_cpu_s": 3.0}, "nothing recorded; 0.75 CPU-s a training"),
        (
            {"pool": blend(0.654, 0.3), "n_trainings": 3, "fit_cpu_s": 0.6},
            "evergreens 65 %, versions 30 % (medians); 0.2 CPU-s a training",
        ),
        ({"pool": blend(0.0, math.nan)}, "evergreens 0 %, versions nothing (medians)"),
        (
            {"pool": replace(blend(0.0, 0.0), is_blend=False), "n_trainings": 1, "fit_cpu_s": 1.0},
            "one version serves, 188 in use; 1 CPU-s a training",
        ),
    ],
)
def test_the_pool_is_told_on_one_line(changes, line):
    made = make_digest(inputs(**changes))
    assert made.pool == line
    assert f"POOL      {line}\n" in render(made)


@pytest.mark.parametrize(
    "pool", [blend(1.0, 1.0), PoolSummary(is_blend=False, evergreen_share=1, versions_share=1, n_in_use=12_345_678)]
)
def test_the_line_on_the_pool_fits_the_page(pool):
    line = f"POOL      {make_digest(inputs(pool=pool, n_trainings=3, fit_cpu_s=370.2)).pool}"
    assert len(line) <= WIDTH
    assert "; 123 CPU-s" in line


def manual_example():
    """The day that the manual shows."""
    names = {0: "ATL", 1: "IAH", 2: "ORD", 3: "DFW", 4: "LAX", 5: "SFO", 6: "BOS"}
    proof = {"n": 168, "adaptive_mean": 4.1, "mean_loss": 3.2, "effect": -0.22}
    return inputs(
        n_streams=94,
        names=names,
        n_tested=92,
        n_streams_tested=92,
        decisions=[
            decision(0, effect=0.41),
            promotion(0, **proof),
            decision(
                6, phase=Phase.REQUEST, action=Action.ROLL_BACK, reason=Reason.REQUESTED, note="request 7 by kim: worse"
            ),
            held_back(1, effect=0.34),
            held_back(2, by=Hold.COOLING_DOWN, effect=0.12),
            decision(3, effect=0.25),
            decision(5, effect=0.19),
            promotion(5, reason=Reason.NOT_BETTER),
        ],
        holders={1: 3},
        losing_streaks={5: 3},
        overrides=[override()],
        effects=[effect(3)],
        findings=[finding("stream_silent", "LAX", message="no observation since 2001-03-03 21:00 UTC")],
        rejected=[RejectedCount(reason=RejectReason.DUPLICATE, count=4, worst_stream="ATL")],
        n_rows=2256,
        n_trainings=3,
        fit_cpu_s=1.4,
        pool=blend(0.65, 0.31),
        loss_ratio_mean=0.712,
        loss_ratio_median=0.69,
        certificate=certificate(),
        incidents=[incident(12, 0.41, site="ny", goes_on=True)],
        daemon_since=NOW - timedelta(days=41),
    )


def test_the_manual_shows_what_a_digest_looks_like():
    manual = Path(__file__).parents[3] / "docs" / "manual" / "digest.md"
    shown = manual.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert shown == render(make_digest(manual_example()))
