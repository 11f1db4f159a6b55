from dataclasses import fields, replace

import numpy as np
import pytest

from mlma.core.blocks import REASONS
from mlma.core.decisions import Reason
from mlma.core.judge import Evidence, Verdict, gather, judge, simes
from mlma.core.reference import Reference
from mlma.core.settings import FleetRule, LossTestName, TestingSettings

NAN = float("nan")
WELCH = TestingSettings(name=LossTestName.WELCH)
RISE = float(np.log(1.5))  # of the tested number: the loss is half as high again
SMALL = float(np.log(1.02))


def references(mean: list[float], variance: float = 0.01, m: int = 4) -> Reference:
    n = len(mean)
    return Reference(mean=np.array(mean), variance=np.full(n, variance), m=np.full(n, m))


def evidence(tested: list[float], adaptive_p: list[float], anchored_p: list[float], **more: object) -> Evidence:
    """Evidence of streams whose references have a tested mean of zero."""
    n = len(tested)
    made = Evidence(
        stream_id=np.arange(n), n=np.full(n, 24), mean_loss=np.ones(n), naive_loss=np.ones(n),
        tested=np.array(tested), adaptive=references([0.0] * n), anchored=references([0.0] * n),
        adaptive_loss=np.ones(n), anchored_loss=np.ones(n), adaptive_p=np.array(adaptive_p),
        anchored_p=np.array(anchored_p), n_rows=np.full(n, 300), last_slot=np.full(n, 400),
        fallback=np.zeros(n, dtype=np.bool_),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def verdict_of(tested: float, adaptive_p: float, anchored_p: float, *, excluded: bool = False) -> Verdict:
    return judge(evidence([tested], [adaptive_p], [anchored_p]), WELCH, excluded=np.array([excluded]))


TABLE = [
    # tested, adaptive p, anchored p, excluded -> reason, alarm
    pytest.param(RISE, 0.001, 0.001, True, Reason.BAD_DATA, False, id="bad_data"),
    pytest.param(NAN, 0.001, 0.001, False, Reason.NO_OUTCOMES, False, id="no_outcomes"),
    pytest.param(RISE, NAN, NAN, False, Reason.NOT_READY, False, id="not_ready"),
    pytest.param(RISE, 0.001, 0.002, False, Reason.ALARM_BOTH, True, id="alarm_both"),
    pytest.param(RISE, 0.9, 0.001, False, Reason.ALARM_ANCHORED, True, id="alarm_anchored"),
    pytest.param(RISE, NAN, 0.001, False, Reason.ALARM_ANCHORED, True, id="alarm_anchored_alone"),
    pytest.param(RISE, 0.001, 0.9, False, Reason.ALARM_ADAPTIVE, True, id="alarm_adaptive"),
    pytest.param(RISE, 0.001, NAN, False, Reason.ALARM_ADAPTIVE, True, id="alarm_adaptive_alone"),
    pytest.param(SMALL, 0.001, 0.001, False, Reason.SMALL_EFFECT, False, id="small_effect"),
    pytest.param(RISE, 0.9, 0.9, False, Reason.WITHIN_REFERENCE, False, id="within_reference"),
    pytest.param(RISE, 0.04, 0.9, False, Reason.WITHIN_REFERENCE, False, id="one of two rejects, Simes does not"),
]


@pytest.mark.parametrize(("tested", "adaptive_p", "anchored_p", "excluded", "reason", "alarm"), TABLE)
def test_the_first_reason_that_applies_is_named(
    tested: float, adaptive_p: float, anchored_p: float, excluded: bool, reason: Reason, alarm: bool
) -> None:
    found = verdict_of(tested, adaptive_p, anchored_p, excluded=excluded)
    assert REASONS[found.reason[0]] is reason
    assert bool(found.alarm[0]) is alarm


def test_the_table_has_a_row_for_every_reason_that_a_test_can_give() -> None:
    others = {
        Reason.NO_VERSION, Reason.CALENDAR, Reason.ALWAYS, Reason.MODEL_FAILED,  # policies
        Reason.REQUESTED,  # orders
        Reason.FIRST_VERSION, Reason.LATEST_SERVES, Reason.BEAT_CHAMPION, Reason.NOT_BETTER,  # trainings
        Reason.TRAINING_FAILED,
    }  # fmt: skip
    assert {row.values[4] for row in TABLE} == set(Reason) - others


def test_bad_data_has_no_p_value_but_keeps_its_effect() -> None:
    found = verdict_of(RISE, 0.001, 0.001, excluded=True)
    assert np.isnan(found.p_value[0])
    assert found.effect[0] == pytest.approx(0.5)


def test_effect_is_the_rise_over_the_reference_that_speaks() -> None:
    made = evidence([0.0, 0.0], [0.001, 0.2], [0.2, 0.001])
    made = replace(made, adaptive=references([-RISE] * 2), anchored=references([-2 * RISE] * 2))
    found = judge(made, WELCH, excluded=np.zeros(2, dtype=np.bool_))
    assert found.effect == pytest.approx([0.5, 1.25])


def test_an_effect_beyond_all_numbers_stays_finite() -> None:
    assert np.isfinite(verdict_of(900.0, 0.001, 0.001).effect).all()


@pytest.mark.parametrize(("effect", "alarms"), [(0.0499, False), (0.0501, True)])
def test_the_effect_floor_separates_significant_from_alarming(effect: float, alarms: bool) -> None:
    found = verdict_of(float(np.log1p(effect)), 1e-6, 1e-6)
    assert bool(found.alarm[0]) is alarms


@pytest.mark.parametrize(("rule", "expected"), [(FleetRule.NONE, 3), (FleetRule.BH, 2), (FleetRule.BONFERRONI, 1)])
def test_the_fleet_rule_decides_over_all_streams_together(rule: FleetRule, expected: int) -> None:
    p = [0.01, 0.02, 0.049, 0.9, NAN]
    made = evidence([RISE] * 5, p, [NAN] * 5)
    found = judge(made, replace(WELCH, fleet=rule), excluded=np.zeros(5, dtype=np.bool_))
    assert int(found.alarm.sum()) == expected


def test_an_excluded_stream_does_not_count_as_a_test_of_the_fleet() -> None:
    made = evidence([RISE] * 2, [0.03, 0.5], [NAN, NAN])
    bonferroni = replace(WELCH, fleet=FleetRule.BONFERRONI)
    both, alone = (judge(made, bonferroni, excluded=np.array([False, out])) for out in (False, True))
    assert not both.alarm[0]
    assert alone.alarm[0]


def test_the_moderated_test_needs_no_single_losses() -> None:
    n = 8
    made = evidence([RISE] + [0.0] * (n - 1), [NAN] * n, [NAN] * n)
    found = judge(made, TestingSettings(), excluded=np.zeros(n, dtype=np.bool_))
    assert REASONS[found.reason[0]] is Reason.ALARM_BOTH
    assert np.isfinite(found.p_value).all()
    assert not found.alarm[1:].any()


def test_fewer_reference_batches_than_asked_for_are_not_ready() -> None:
    made = replace(evidence([RISE], [NAN], [NAN]), adaptive=references([0.0], m=1), anchored=references([0.0], m=1))
    found = judge(made, TestingSettings(min_reference=2), excluded=np.zeros(1, dtype=np.bool_))
    assert REASONS[found.reason[0]] is Reason.NOT_READY


def test_an_empty_fleet_gives_an_empty_verdict() -> None:
    found = judge(evidence([], [], []), TestingSettings(), excluded=np.zeros(0, dtype=np.bool_))
    assert len(found.reason) == len(found.alarm) == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.01, 0.2, 0.02), (0.2, 0.01, 0.02), (0.03, 0.03, 0.03), (0.03, 0.05, 0.05), (NAN, 0.03, 0.03),
        (0.03, NAN, 0.03), (NAN, NAN, NAN), (0.9, 1.0, 1.0), (0.0, 0.5, 0.0),
    ],
)  # fmt: skip
def test_simes_takes_the_better_of_twice_the_low_and_the_high(first: float, second: float, expected: float) -> None:
    assert simes(np.array([first]), np.array([second])) == pytest.approx([expected], nan_ok=True)


def test_simes_holds_the_level_of_independent_p_values() -> None:
    first, second = np.random.default_rng(7).uniform(size=(2, 200_000))
    assert np.mean(simes(first, second) <= 0.05) == pytest.approx(0.05, abs=0.002)


def numbered(ids: list[int]) -> Evidence:
    """Evidence whose every number tells its stream."""
    at = np.array(ids, dtype=np.float64)
    made = evidence(at.tolist(), (at / 100).tolist(), (at / 200).tolist())
    parts = Reference(mean=at, variance=at, m=np.array(ids))
    return replace(made, stream_id=np.array(ids), n=np.array(ids), adaptive=parts, anchored=parts, mean_loss=at)


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[0, 2], [1, 3]], [[1, 3], [0, 2]], [[3], [], [0, 1], [2]]])
def test_gathered_evidence_is_in_order_of_stream_whatever_the_shards(parts: list[list[int]]) -> None:
    made = gather([numbered(part) for part in parts], 4)
    expected = numbered([0, 1, 2, 3])
    for field in fields(Evidence):
        found, wanted = getattr(made, field.name), getattr(expected, field.name)
        pairs = (
            [(found, wanted)]
            if isinstance(found, np.ndarray)
            else [(getattr(found, part.name), getattr(wanted, part.name)) for part in fields(Reference)]
        )
        for got, want in pairs:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("parts", [[[0, 1], [1, 2]], [[0, 2]], [[0, 1, 3]], [[0, 1]]])
def test_a_stream_that_is_missing_or_twice_there_is_refused(parts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="expected each of 3 once"):
        gather([numbered(part) for part in parts], 3)
