"""Every row gets one verdict; nothing disappears; the order of rows never matters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.admission import NO_TIME, AdmissionState, Admitted, Rows, admit, robust_scale
from mlma.core.decisions import RejectReason
from mlma.core.robust import grouped_scale
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings

ANCHOR = datetime(2001, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
START_US = int(ANCHOR.timestamp()) * 1_000_000
SCHEDULE = Schedule(anchor=ANCHOR, frequency=timedelta(hours=1), horizon=24, batch=24, train_window=24)
NOW = ANCHOR + timedelta(hours=1000)


def make_rows(*cells, **more):
    """Rows from (stream, hours after the anchor, y); None for a cell that could not be read."""
    names = tuple(dict.fromkeys(name for name, _, _ in cells if name is not None))
    y = [np.nan if isinstance(value, str) or value is None else value for _, _, value in cells]
    return Rows(
        stream_code=np.array([-1 if n is None else names.index(n) for n, _, _ in cells], dtype=np.int64),
        stream_names=names,
        time_us=np.array([NO_TIME if h is None else START_US + int(h * HOUR_US) for _, h, _ in cells], dtype=np.int64),
        y=np.array(y, dtype=np.float64),
        row=np.arange(1, len(cells) + 1),
        time_text={i: "soon" for i, (_, h, _) in enumerate(cells) if h is None},
        y_text={i: v for i, (_, _, v) in enumerate(cells) if isinstance(v, str)},
        **more,
    )


def run(rows, *, streams=None, now=NOW, state=None, **changed) -> Admitted:
    return admit(
        rows,
        schedule=SCHEDULE,
        streams=streams or {},
        state=state or AdmissionState(),
        settings=replace(AdmissionSettings(), **changed),
        now=now,
        seq=3,
        path="in.csv",
    )


@pytest.mark.parametrize(
    ("cell", "reason", "field", "value", "expected"),
    [
        ((None, 1, 5.0), RejectReason.BAD_STREAM, "stream", "", "the name of a stream"),
        (("a", None, 5.0), RejectReason.BAD_TIME, "ts", "soon", "a time"),
        (("a", 1.5, 5.0), RejectReason.OFF_GRID, "ts", "2001-01-01T01:30:00Z", "nearest is 2001-01-01T02:00:00Z"),
        (("a", 1.4, 5.0), RejectReason.OFF_GRID, "ts", "2001-01-01T01:24:00Z", "nearest is 2001-01-01T01:00:00Z"),
        (("a", -1, 5.0), RejectReason.TOO_OLD, "ts", "2000-12-31T23:00:00Z", "2001-01-01T00:00:00Z or later"),
        (("a", 1001, 5.0), RejectReason.FUTURE, "ts", "2001-02-11T17:00:00Z", "2001-02-11T16:05:00Z or earlier"),
        (("a", 1, "n.v."), RejectReason.NOT_A_NUMBER, "y", "n.v.", "a number"),
        (("a", 1, np.inf), RejectReason.NOT_FINITE, "y", "inf", "a finite number"),
        (("a", 1, -np.inf), RejectReason.NOT_FINITE, "y", "-inf", "a finite number"),
        (("a", 0, 7.0), RejectReason.DUPLICATE, "y", "7", "row 1 has the same value and is kept"),
        (("a", 0, 8.0), RejectReason.DUPLICATE, "y", "8", "row 1 says 7 and is kept"),
    ],
)
def test_a_bad_row_is_rejected_alone_and_says_why(cell, reason, field, value, expected):
    found = run(make_rows(("a", 0, 7.0), cell, ("b", 0, 1.0)))
    assert found.n_admitted == 2
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.field, rejected.value, rejected.row) == (reason, field, value, 2)
    assert expected in rejected.expected
    assert (rejected.seq, rejected.path, rejected.count) == (3, "in.csv", 1)
    assert rejected.stream == (cell[0] or "")


def test_a_line_that_could_not_be_split_is_counted():
    found = run(make_rows(("a", 0, 7.0), (None, None, None), broken={1: "a,2001-01"}))
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.value) == (RejectReason.UNREADABLE, "a,2001-01")


def test_rejections_are_one_record_a_stream_and_reason_with_the_first_example():
    found = run(make_rows(("b", 0, "x"), ("a", 0, "y"), ("b", 1, "z"), ("b", 2, np.inf)))
    assert [(r.stream, r.reason.value, r.count, r.row, r.value) for r in found.rejected] == [
        ("a", "not_a_number", 1, 2, "y"),
        ("b", "not_a_number", 2, 1, "x"),
        ("b", "not_finite", 1, 4, "inf"),
    ]


def test_a_long_text_is_cut_in_the_example():
    (rejected,) = run(make_rows(("a", 0, "x" * 500))).rejected
    assert len(rejected.value) == 80
    assert rejected.value.endswith("…")


def test_a_missing_value_is_counted_and_neither_admitted_nor_rejected():
    found = run(make_rows(("a", 0, 1.0), ("a", 1, None), ("a", -5, None)))
    assert (found.n_admitted, found.n_missing, found.n_rejected) == (1, 2, 0)


def test_a_stream_that_never_had_data_is_born_by_name():
    found = run(make_rows(("empty", 2, None), ("a", 1, None), ("a", 3, 1.0)))
    assert [(s.id, s.name, s.first_slot) for s in found.births] == [(0, "empty", 2), (1, "a", 3)]


def test_a_stream_of_refused_rows_only_is_not_born():
    assert run(make_rows(("junk", 0, "x"), ("late", -3, None), ("ahead", 5000, 1.0))).births == ()


def test_ids_go_on_densely_in_order_of_first_slot_and_name():
    found = run(
        make_rows(("z", 1, 1.0), ("old", 0, 1.0), ("b", 1, 1.0), ("c", 0, 1.0), labels={"b": {"site": "lhr"}}),
        streams={"x": 0, "old": 1},
    )
    assert [(s.id, s.name, s.first_slot) for s in found.births] == [(2, "c", 0), (3, "b", 1), (4, "z", 1)]
    assert found.births[1].labels == {"site": "lhr"}
    assert found.block.stream_id.tolist() == [1, 2, 3, 4]


def test_a_block_is_sorted_by_slot_then_stream():
    found = run(make_rows(("b", 2, 1.0), ("a", 2, 2.0), ("b", 0, 3.0), ("a", 5, 4.0)))
    assert found.block.slot.tolist() == [0, 2, 2, 5]
    assert found.block.stream_id.tolist() == [0, 0, 1, 1]
    assert found.block.y.tolist() == [3.0, 1.0, 2.0, 4.0]


def test_known_slots_are_duplicates_and_new_ones_are_admitted():
    state = AdmissionState(known=lambda stream, slot: (stream == 0) & (slot < 2))
    found = run(make_rows(("a", 0, 1.0), ("a", 1, 2.0), ("a", 2, 3.0), ("b", 0, 4.0)), streams={"a": 0}, state=state)
    assert found.block.slot.tolist() == [0, 2]
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.count) == (RejectReason.DUPLICATE, 2)
    assert "known before" in rejected.expected


def test_a_valid_row_is_kept_when_its_twin_before_it_is_bad():
    found = run(make_rows(("a", 0, "x"), ("a", 0, np.inf), ("a", 0, 5.0)))
    assert found.block.y.tolist() == [5.0]


def test_rows_before_the_oldest_kept_slot_are_too_old():
    found = run(make_rows(("a", 99, 1.0), ("a", 100, 2.0)), state=AdmissionState(oldest_slot=100))
    assert found.block.slot.tolist() == [100]
    assert found.rejected[0].expected == "2001-01-05T04:00:00Z or later"


def test_a_replay_has_no_future():
    assert run(make_rows(("a", 10_000_000, 1.0)), now=None).n_admitted == 1


def test_the_clock_may_be_wrong_by_its_tolerance():
    found = run(make_rows(("a", 1001, 1.0)), future_tolerance=timedelta(hours=1))
    assert found.n_admitted == 1


def test_a_file_without_rows_brings_nothing():
    found = run(make_rows())
    assert (found.n_rows, len(found.block), found.births, found.rejected) == (0, 0, (), ())


def series(name, values):
    return make_rows(*[(name, i, float(v)) for i, v in enumerate(values)])


RNG = np.random.default_rng(20010608)
HUNDREDS = 300 + 100 * np.sin(np.arange(200) * 2 * np.pi / 24) + RNG.normal(0, 20, 200)
SPARSE = np.where(RNG.random(400) < 0.1, RNG.poisson(3, 400), 0).astype(float)


def with_values(values, at, wild):
    out = values.copy()
    out[at] = wild
    return out


@pytest.mark.parametrize(
    ("values", "absurd"),
    [
        pytest.param(with_values(HUNDREDS, [70], 1e9), 1, id="1e9 among hundreds"),
        pytest.param(with_values(HUNDREDS, [70], -1e9), 1, id="-1e9 among hundreds"),
        pytest.param(with_values(HUNDREDS, [5, 70, 71, 72, 130, 199], 1e9), 6, id="3 % of the rows are wild"),
        pytest.param(with_values(np.full(100, 500.0), [9], 1e9), 1, id="wild in a constant series"),
        pytest.param(with_values(SPARSE, [30], 1e9), 1, id="wild in sparse demand"),
        pytest.param(with_values(SPARSE, [30, 200, 210], 200), 0, id="bursts of 200 in sparse demand"),
        pytest.param(np.geomspace(100, 300, 200), 0, id="growth to three times"),
        pytest.param(np.r_[np.full(150, 100.0), np.full(50, 1000.0)], 0, id="level shift to ten times"),
        pytest.param(np.r_[HUNDREDS, 10 * HUNDREDS], 0, id="noisy level shift to ten times"),
        pytest.param(np.zeros(100), 0, id="all zero"),
        pytest.param(np.r_[np.zeros(90), np.full(10, 40.0)], 0, id="zero for long, then alive"),
        pytest.param(np.full(100, 7.0), 0, id="constant"),
        pytest.param(with_values(HUNDREDS, slice(50, 80), 0), 0, id="outage"),
        pytest.param(with_values(HUNDREDS[:40], [7], 1e9), 0, id="too few rows to say"),
    ],
)
def test_absurd_values_are_refused_and_odd_ones_are_not(values, absurd):
    found = run(series("a", values))
    assert found.n_rejected == absurd
    assert {r.reason for r in found.rejected} == ({RejectReason.ABSURD} if absurd else set())


def test_an_absurd_value_is_judged_by_the_known_history_even_alone_in_its_file():
    center, scale = robust_scale(np.vstack([HUNDREDS, np.full(200, np.nan)]))
    state = AdmissionState(center=center, scale=scale)
    known = {"a": 0, "new": 1}
    assert run(make_rows(("a", 300, 1e9), ("new", 300, 1e9)), streams=known, state=state).n_rejected == 1
    assert run(make_rows(("a", 300, 3000.0)), streams=known, state=state).n_rejected == 0
    assert run(make_rows(("a", 300, 1e9)), streams=known, state=state, absurd_factor=0.0).n_rejected == 0
    # a stream younger than the arrays of the state
    assert run(make_rows(("b", 300, 1e9)), streams={"a": 0, "b": 2}, state=state).n_rejected == 0


def test_an_absurd_value_says_what_is_usual():
    (rejected,) = run(series("a", with_values(HUNDREDS, [70], 1e9))).rejected
    assert (rejected.row, rejected.value) == (71, "1e+09")
    assert "100 times the stream's scale" in rejected.expected


def test_the_robust_scale_of_a_normal_series_is_about_its_standard_deviation():
    center, scale = robust_scale(np.random.default_rng(0).normal(0, 5, (50, 2000)))
    assert np.abs(center).max() < 1
    assert scale.min() > 4
    assert scale.max() < 8


def test_the_robust_scale_is_unknown_without_values_or_level():
    y = np.vstack([np.full(60, np.nan), np.zeros(60), np.full(60, 3.0)])
    _, scale = robust_scale(y)
    assert np.isnan(scale).tolist() == [True, True, False]
    assert np.isnan(robust_scale(y, min_rows=61)[1]).all()


CELLS = st.tuples(
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from([None, 0, 1, 2, 3, 1.5, -1, 5000]),
    st.sampled_from([1.0, 2.0, None, np.inf, "text"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CELLS, max_size=30), st.integers(0, 2**31 - 1))
def test_nothing_disappears_and_row_order_never_matters(cells, seed):
    # rows of the same stream and time that contradict each other are kept by position: leave them out
    said: dict[object, object] = {}
    cells = [c for c in cells if not isinstance(c[2], float) or said.setdefault(c[:2], c[2]) == c[2]]
    shuffled = [cells[i] for i in np.random.default_rng(seed).permutation(len(cells))]
    state = AdmissionState(known=lambda stream, slot: slot == 2)
    one, two = (run(make_rows(*rows), streams={"c": 0}, state=state) for rows in (cells, shuffled))
    for found in (one, two):
        assert found.n_admitted + found.n_rejected + found.n_missing == found.n_rows == len(cells)
        assert sum(r.count for r in found.rejected) == found.n_rejected
        assert len(found.block) == found.n_admitted
        assert np.isfinite(found.block.y).all()
        assert len(set(zip(found.block.stream_id, found.block.slot, strict=True))) == len(found.block)
    assert one.births == two.births
    for column in ("stream_id", "slot", "y"):
        np.testing.assert_array_equal(getattr(one.block, column), getattr(two.block, column))
    counts = [[(r.stream, r.reason, r.count) for r in found.rejected] for found in (one, two)]
    assert counts[0] == counts[1]


def test_admission_changes_none_of_its_arguments():
    rows = make_rows(("a", 0, 1.0), ("a", 0, "x"), ("b", 1, np.inf))
    before = (rows.stream_code.copy(), rows.time_us.copy(), rows.y.copy())
    run(rows)
    for now, then in zip((rows.stream_code, rows.time_us, rows.y), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_scale_of_rows_is_the_scale_of_the_same_values_in_long_form():
    rng = np.random.default_rng(5)
    for y in (rng.normal(500, 20, (90, 900)), rng.poisson(0.3, (90, 900)).astype(float), rng.standard_t(1, (90, 900))):
        y[rng.random(y.shape) < 0.3] = np.nan
        y[:5] = np.nan
        stream, slot = np.nonzero(np.isfinite(y))
        shuffled = rng.permutation(len(stream))
        in_long_form = grouped_scale(y[stream, slot][shuffled], stream[shuffled], len(y), min_rows=3)
        np.testing.assert_array_equal(robust_scale(y, min_rows=3), in_long_form)
