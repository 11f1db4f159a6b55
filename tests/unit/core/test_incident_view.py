"""Incidents as people read them: label sets that can be typed back, members by label, order by size."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.incident_view import WHOLE_FLEET, by_size, concerns, label_set, view
from mlma.core.records import Incident
from mlma.core.schedule import Schedule
from mlma.core.selection import parse
from mlma.core.shares import interval, percentage, rate

HOURLY = Schedule(
    anchor=datetime(2001, 3, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=24, batch=24, train_window=48
)
STORM = Incident(
    id="2-site=lhr", labels={"site": "lhr"}, first_batch=2, last_batch=4, n_members=41, rise=0.63, p_value=1e-9
)


def test_an_incident_starts_with_its_first_batch_and_ends_with_its_last():
    seen = view(STORM, schedule=HOURLY, cursor=9)
    assert (seen.starts_at, seen.ends_at) == (datetime(2001, 3, 3, tzinfo=UTC), datetime(2001, 3, 6, tzinfo=UTC))
    assert (seen.label_set, seen.labels, seen.n_members) == ("site=lhr", {"site": "lhr"}, 41)


@pytest.mark.parametrize(("cursor", "goes_on"), [(None, False), (4, True), (5, False)])
def test_an_incident_goes_on_while_it_is_seen_in_the_last_closed_batch(cursor, goes_on):
    assert view(STORM, schedule=None, cursor=cursor).goes_on is goes_on


def test_an_incident_without_a_schedule_has_no_times():
    seen = view(STORM, schedule=None, cursor=4)
    assert (seen.starts_at, seen.ends_at) == (None, None)


@pytest.mark.parametrize(
    ("labels", "batch", "concerned"),
    [
        ({"site": "lhr"}, 2, True),
        ({"site": "lhr", "product": "food"}, 4, True),
        ({"site": "lhr"}, 1, False),
        ({"site": "lhr"}, 5, False),
        ({"site": "cdg"}, 3, False),
        ({}, 3, False),
    ],
)
def test_an_incident_concerns_the_streams_of_its_label_set_while_it_lasts(labels, batch, concerned):
    assert concerns(labels, STORM, batch) is concerned
    assert concerns(labels, view(STORM, schedule=None, cursor=4), batch) is concerned


def test_an_incident_of_the_whole_fleet_concerns_everyone():
    fleet = replace(STORM, labels={})
    assert concerns({}, fleet, 3)
    assert concerns({"site": "lhr"}, fleet, 3)
    assert view(fleet, schedule=None, cursor=4).label_set == WHOLE_FLEET


VALUES = st.text(st.characters(exclude_characters='"', exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(labels=st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True), VALUES, min_size=1))
def test_a_label_set_can_be_typed_as_a_selection(labels):
    assert {label.key: label.value for label in parse(label_set(labels)).labels} == labels


@given(sizes=st.lists(st.tuples(st.integers(1, 10**6), st.floats()), min_size=1, max_size=12))
def test_incidents_are_ranked_by_members_times_rise_whatever_their_order(sizes):
    views = [
        view(replace(STORM, id=str(i), n_members=n, rise=rise), schedule=None, cursor=4)
        for i, (n, rise) in enumerate(sizes)
    ]
    ranked = by_size(views)
    assert [one.size for one in ranked] == sorted((one.size for one in views), reverse=True)
    assert [one.id for one in ranked] == [one.id for one in by_size(reversed(views))]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0463, "4.63"), (0.05, "5"), (0.192, "19.2"), (1.0, "100"), (0.0, "0"), (0.0025, "0.25"), (0.00249, "0.25")],
)
def test_rates_have_three_digits_and_small_ones_two(share, words):
    assert rate(share) == words
    assert percentage(share) == f"{words} %"


def test_an_interval_without_a_bound_is_not_told():
    nan = float("nan")
    assert interval(0.0412, 0.0521) == "[4.12, 5.21]"
    assert (interval(nan, 0.1), interval(0.1, nan), percentage(nan)) == ("", "", "-")
