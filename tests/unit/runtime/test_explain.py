"""What an explanation and a fleet view hold, and that every code of a decision has its words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.core.blocks import LossBlock
from mlma.core.commit import Commit
from mlma.core.decisions import Action, CertificateStatus, Hold, OverrideKind, Phase, Reason, Role
from mlma.core.errors import UnknownStreamError
from mlma.core.explanation import MarkKind
from mlma.core.records import AuditRow, Certificate, Decision, Incident, Override, Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.runtime.explain import explain, fleet_view
from mlma.runtime.explain_words import ACTION_WORDS, HOLD_WORDS, REASON_WORDS

ANCHOR = datetime(2001, 3, 1, tzinfo=UTC)
NOW = ANCHOR + timedelta(days=5)
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=6), horizon=4, batch=4, train_window=8)
N_BATCHES = 4


def judged(stream_id: int, batch: int, **changes) -> Decision:
    decision = Decision(
        stream_id=stream_id, batch=batch, phase=Phase.BATCH, action=Action.KEEP, proposed=Action.KEEP,
        reason=Reason.WITHIN_REFERENCE, decided_at=ANCHOR + timedelta(days=batch + 1), n=4, mean_loss=1.0 + stream_id,
        naive_loss=4.0, p_value=0.5, effect=0.0, adaptive_mean=1.0, anchored_mean=1.0, n_reference=2,
        version_id=f"{stream_id}-0-0",
    )  # fmt: skip
    return replace(decision, **changes)


ALARM = {"reason": Reason.ALARM_BOTH, "p_value": 0.01, "effect": 0.5, "proposed": Action.RETRAIN}
EXCEPTIONS = [
    judged(0, 1, action=Action.RETRAIN, **ALARM),
    judged(0, 1, phase=Phase.PROMOTION, action=Action.PROMOTE, reason=Reason.BEAT_CHAMPION, version_id="0-1-0"),
    judged(0, 2, action=Action.RETRAIN, **ALARM),
    judged(0, 2, phase=Phase.PROMOTION, action=Action.REJECT, reason=Reason.NOT_BETTER, version_id="0-2-0"),
    judged(1, 3, held_by=Hold.FROZEN, **ALARM),
]


def version(stream_id: int, batch: int, role: Role) -> Version:
    return Version(
        id=f"{stream_id}-{batch}-0", stream_id=stream_id, batch=batch, role=role, family="ridge", sha256="",
        size_bytes=1, n_rows=8, fit_cpu_s=0.1, trained_at=ANCHOR + timedelta(days=batch + 1),
    )  # fmt: skip


def serving(stream_id: int, batch: int) -> Serving:
    return Serving(
        stream_id=stream_id, origin=4 * (batch + 1), batch=batch, version_id=f"{stream_id}-{batch}-0",
        reason=Reason.BEAT_CHAMPION, at=NOW,
    )  # fmt: skip


@pytest.fixture
def store():
    plain = {(d.stream_id, d.batch): d for d in (judged(i, b) for i in range(2) for b in range(N_BATCHES))}
    with SqlStore("sqlite://", create=True) as opened:
        opened.set_meta({"n_shards": "2"})
        special = {(d.stream_id, d.batch): d for d in EXCEPTIONS if d.phase is Phase.BATCH}
        opened.record(
            Commit(
                cursor=N_BATCHES - 1,
                streams=[Stream(id=0, name="IAH", first_slot=0), Stream(id=1, name="ATL", first_slot=0)],
                decisions=[*(plain | special).values(), *(d for d in EXCEPTIONS if d.phase is not Phase.BATCH)],
                versions=[
                    version(0, 0, Role.FORMER), version(0, 1, Role.CHAMPION), version(0, 2, Role.REJECTED),
                    version(1, 0, Role.CHAMPION),
                ],
                servings=[serving(0, 0), serving(1, 0), serving(0, 1)],
            )
        )  # fmt: skip
        yield opened


@pytest.fixture
def history():
    kept = MemoryHistory()
    for shard in range(2):
        for batch in (1, 2, 3):
            y = np.full((1, 4), 10.0 * shard + batch)
            kept.append_losses(
                shard, LossBlock(batch=batch, stream_ids=np.array([shard]), y=y, forecast=y + 1, naive=y + 2)
            )
    return kept


def test_an_explanation_joins_decision_versions_and_losses(store, history):
    made = explain(store, history, SCHEDULE, "IAH", now=NOW)
    assert made.decision == judged(0, 3)
    assert (made.batch_start, made.batch_end) == (ANCHOR + timedelta(days=3), ANCHOR + timedelta(days=4))
    assert made.champion is not None
    assert made.champion.id == "0-1-0"
    assert made.served is not None
    assert made.served.id == "0-0-0"
    assert made.candidate == EXCEPTIONS[3]
    assert made.losses.batch.tolist() == [0, 1, 2, 3]
    assert made.targets.y.tolist()[3:9] == pytest.approx([np.nan, 1, 1, 1, 1, 2], nan_ok=True)
    assert str(made.targets.time[-1]) == "2001-03-04T18:00:00.000000"


def test_the_stream_is_read_from_its_own_shard(store, history):
    assert np.nanmin(explain(store, history, SCHEDULE, "ATL", now=NOW).targets.y) == 11.0


def test_marks_are_of_the_shown_batches_only(store, history):
    kinds = [(mark.batch, mark.kind) for mark in explain(store, history, SCHEDULE, "IAH", now=NOW, last=2).marks]
    assert sorted(kinds) == [(2, MarkKind.REJECT), (2, MarkKind.RETRAIN)]
    assert [m.kind for m in explain(store, history, SCHEDULE, "ATL", now=NOW).marks] == [MarkKind.HELD]


def test_only_overrides_that_hold_now_are_named(store, history):
    for selection, end in (("ATL", NOW + timedelta(days=1)), ("IAH", None), ("ATL", NOW)):
        order = Override(
            kind=OverrideKind.FREEZE, selection=selection, author="ada", comment="c", created_at=ANCHOR,
            starts_at=ANCHOR, ends_at=end,
        )  # fmt: skip
        store.add_override(
            order, AuditRow(at=NOW, author="ada", operation="freeze", subject=selection, before="null", after="{}")
        )
    made = explain(store, history, SCHEDULE, "ATL", now=NOW)
    assert [order.id for order in made.overrides] == [1]
    assert any("mlma lift 1" in fact.text for fact in made.facts if fact.label == "held by")


def test_without_a_history_the_words_are_the_same(store, history):
    with_it, without = (explain(store, h, SCHEDULE, "IAH", now=NOW) for h in (history, None))
    assert with_it.facts == without.facts
    assert np.isnan(without.targets.y).all()


def test_a_stream_that_was_never_judged_is_explained(store, history):
    store.record(Commit(streams=[Stream(id=2, name="NEW", first_slot=9)]))
    made = explain(store, history, SCHEDULE, "NEW", now=NOW)
    assert made.decision is None
    assert "no batch of this stream was judged" in made.facts[0].text
    assert len(made.targets.y) == 0


@pytest.mark.parametrize(("name", "words"), [("iah", "IAH"), ("ATK", "ATL"), ("zzz", "lists all 2")])
def test_an_unknown_stream_is_refused_with_near_names(store, history, name, words):
    with pytest.raises(UnknownStreamError, match=words):
        explain(store, history, SCHEDULE, name, now=NOW)


def incident(first: int, last: int, n_members: int = 40, **labels: str) -> Incident:
    words = ",".join(f"{key}={value}" for key, value in labels.items())
    return Incident(
        id=f"{first}-{words}", labels=labels, first_batch=first, last_batch=last, n_members=n_members, rise=0.63,
        p_value=0.001,
    )  # fmt: skip


def fact(made, label: str) -> str:
    """Text of the line with this label; empty when there is none."""
    return "".join(fact.text for fact in made.facts if fact.label == label)


@pytest.mark.parametrize(
    ("recorded", "ids"),
    [
        pytest.param([], [], id="none"),
        pytest.param([incident(3, 3, site="tx")], ["3-site=tx"], id="of its label"),
        pytest.param([incident(3, 3, site="lhr")], [], id="of another label"),
        pytest.param([incident(3, 3, feed="a")], [], id="of a label that it does not have"),
        pytest.param([incident(1, 2, site="tx")], [], id="over"),
        pytest.param([incident(0, 3)], ["0-"], id="of the whole fleet"),
        pytest.param(
            [incident(2, 3), incident(3, 3, 30, site="tx"), incident(3, 3, 5, site="tx", product="oil")],
            ["3-site=tx,product=oil", "3-site=tx", "2-"],
            id="the smallest label set first",
        ),
    ],
)
def test_a_stream_belongs_to_the_incidents_of_its_labels_in_its_batch(store, recorded, ids):
    labels = {"site": "tx", "product": "oil"}
    store.record(Commit(streams=[Stream(id=0, name="IAH", labels=labels, first_slot=0)], incidents=recorded))
    made = explain(store, None, SCHEDULE, "IAH", now=NOW)
    assert [one.id for one in made.incidents] == ids
    assert [one.label_set in fact(made, "incident") for one in made.incidents] == [True] * len(ids)
    assert bool(fact(made, "incident")) is bool(ids)


def test_an_incident_that_is_not_on_record_is_not_made_up(store):
    store.record(Commit(decisions=[judged(0, 3, reason=Reason.INCIDENT)]))
    assert fact(explain(store, None, SCHEDULE, "IAH", now=NOW), "incident") == "no incident of this batch is on record"


@pytest.mark.parametrize(
    ("stream", "meta", "proposed", "words"),
    [
        pytest.param(
            "ATL", {"fallback_every": "13"}, Action.KEEP,
            "the calendar: the last training, after batch 0, was 3 batches old, due after 13", id="not due",
        ),
        pytest.param(
            "IAH", {"fallback_every": "1"}, Action.RETRAIN,
            "the calendar: the last training, after batch 2, was 1 batch old, due after 1", id="due",
        ),
        pytest.param(
            "IAH", {}, Action.RETRAIN,
            "the calendar: the last training, after batch 2, was 1 batch old, so it was due", id="unknown calendar",
        ),
        pytest.param(
            "IAH", {"fallback_every": "1", "policy": "mlma"}, Action.RETRAIN,
            "the calendar: the last training, after batch 2, was 1 batch old, due after 1", id="due, later mlma",
        ),
        pytest.param("NEW", {"fallback_every": "13"}, Action.KEEP, "the calendar, and it was not due", id="untrained"),
        pytest.param(
            "ATL", {"fallback_every": "1", "policy": "mlma"}, Action.KEEP,
            "the debt: what age has cost was not worth a training", id="mlma",
        ),
        pytest.param(
            "ATL", {"fallback_every": "1", "policy": "calendar:4"}, Action.KEEP,
            "the policy calendar:4, which does not ask the test", id="another policy",
        ),
    ],
)  # fmt: skip
def test_an_uncertified_decision_says_what_decided(store, stream, meta, proposed, words):
    stream_id = {"IAH": 0, "ATL": 1, "NEW": 2}[stream]
    uncertified = judged(stream_id, 3, reason=Reason.UNCERTIFIED, proposed=proposed, action=proposed)
    store.set_meta(meta)
    store.record(Commit(streams=[Stream(id=2, name="NEW", first_slot=0)], decisions=[uncertified]))
    assert fact(explain(store, None, SCHEDULE, stream, now=NOW), "decided by") == words


@pytest.mark.parametrize("status", [None, *CertificateStatus])
def test_the_certificate_is_explained_unless_it_is_certified(store, status):
    store.set_meta({"policy": "test"})
    if status is not None:
        store.record(Commit(certificate=certificate(status)))
    made = explain(store, None, SCHEDULE, "IAH", now=NOW)
    told = fact(made, "certificate")
    assert bool(told) is (status in {CertificateStatus.PENDING, CertificateStatus.FAILED})
    assert ("NOT ARMED" in told) is (status is CertificateStatus.FAILED)
    assert ("calendar" in told) is (status is CertificateStatus.FAILED)
    assert (made.certificate is None) is (status is None)


def certificate(status: CertificateStatus) -> Certificate:
    return Certificate(
        batch=3, test="moderated", status=status, promised=0.05, level=0.192, level_low=0.171, level_high=0.213,
        n_healthy=8412, rise=0.25, power=0.9, caught=1.0, delay=1.0, n_degraded=901,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "codes"), [(ACTION_WORDS, Action), (REASON_WORDS, Reason), (HOLD_WORDS, Hold)])
def test_every_code_has_its_words(words, codes):
    assert set(words) == set(codes)
    assert all(words.values())


def test_a_fleet_view_counts_shares_and_ratios_by_batch(store, history):
    view = fleet_view(store, history, SCHEDULE)
    assert view.batch.tolist() == [0, 1, 2, 3]
    assert view.alarm_share.tolist() == [0, 0.5, 0.5, 0.5]
    assert view.retrain_share.tolist() == [0, 0.5, 0.5, 0]
    assert view.trainings.tolist() == [2, 1, 1, 0]
    assert view.ratio_median.tolist() == pytest.approx([0.375] * 4)
    assert [(entry.name, entry.count) for entry in view.top_retrained] == [("IAH", 2)]
    assert (view.n_retrainings, view.n_promoted, view.n_rejected) == (2, 1, 1)


def test_a_fleet_without_decisions_has_an_empty_view(history):
    with SqlStore("sqlite://", create=True) as empty:
        assert len(fleet_view(empty, history, SCHEDULE).batch) == 0
