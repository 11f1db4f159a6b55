"""One shared shock is one incident with the right labels; healthy common movement makes no noise."""

import pickle
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy.special import stdtr

from benchmarks import shared_shocks as bench
from benchmarks.shared_shocks import ALPHA, SD, WARM_UP, Monitor, World, bh, healthy, healthy_fleet, shock
from mlma.core.common_movement import Scene, spread_evenly
from mlma.core.component_memory import PAST, ComponentMemory, empty_memory, expected
from mlma.core.incident_scan import DEFAULT_RULES, Judge, search
from mlma.core.incidents import Separation, SeparationRules, _Closing, separate
from mlma.core.label_sets import FLEET, MOST_SETS, LabelSets, build
from mlma.core.robust_location import group_locations, location, median, medians

SITES = 10


def sited(streams: int = 200) -> LabelSets:
    return build({"site": [f"s{i % SITES}" for i in range(streams)]}, streams)


class Fleet:
    """Deviations of a quiet fleet with 10 sites, one call a batch; a rise may be put on some streams."""

    def __init__(self, sets: LabelSets, *, seed: int = 0, rules: SeparationRules | None = None) -> None:
        self.sets, self.rng = sets, np.random.default_rng(seed)
        self.rules = rules or SeparationRules()
        self.memory, self.batch = empty_memory(sets.n_sets), 0

    def look(self, rise: float = 0.0, members: np.ndarray | None = None, ready: np.ndarray | None = None) -> Separation:
        n = self.sets.n_streams
        deviation = SD * self.rng.standard_normal(n)
        deviation[np.arange(n) if members is None else members] += rise
        found = separate(
            deviation,
            np.full(n, SD),
            np.ones(n, dtype=np.bool_) if ready is None else ready,
            batch=self.batch,
            sets=self.sets,
            memory=self.memory,
            rules=self.rules,
        )
        self.memory, self.batch = found.memory, self.batch + 1
        return found

    def settle_in(self, batches: int = 8) -> None:
        for _ in range(batches):
            self.look()

    def site(self, value: int) -> np.ndarray:
        return np.flatnonzero(np.arange(self.sets.n_streams) % SITES == value)


def names(found: Separation) -> list[str]:
    return [incident.id.partition("-")[2] for incident in found.incidents]


# What the candidate sets are


def test_sets_are_the_fleet_each_label_and_each_conjunction():
    sets = build({"site": ["a", "b"] * 4, "feed": ["x"] * 4 + ["y"] * 4}, 8, fewest=2)
    assert [sets.name_of(i) for i in range(sets.n_sets)] == [
        "fleet", "feed=x", "feed=y", "site=a", "site=b",
        "feed=x,site=a", "feed=x,site=b", "feed=y,site=a", "feed=y,site=b",
    ]  # fmt: skip
    assert sets.members(5).tolist() == [0, 2]
    assert sets.size.tolist() == [8, 4, 4, 4, 4, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("labels", "expected_names"),
    [
        ({"site": ["a"] * 6}, ["fleet"]),  # everyone
        ({"site": [""] * 6}, ["fleet"]),
        ({"site": ["a"] * 3 + [""] * 3}, ["fleet", "site=a"]),
        ({"site": ["a"] * 5 + ["b"]}, ["fleet", "site=a"]),  # b is too small
        ({"site": ["a"] * 3 + ["b"] * 3, "zone": ["p"] * 3 + ["q"] * 3}, ["fleet", "site=a", "site=b"]),
        ({}, ["fleet"]),
    ],
)
def test_of_sets_with_the_same_members_the_one_with_fewest_labels_stays(labels, expected_names):
    sets = build(labels, 6, fewest=2)
    assert [sets.name_of(i) for i in range(sets.n_sets)] == expected_names


def test_members_and_codes_agree_with_a_plain_loop_over_labels():
    rng = np.random.default_rng(3)
    labels = {key: [("", "u", "v", "w")[i] for i in rng.integers(0, 4, 300)] for key in ("a", "b", "c")}
    sets = build(labels, 300)
    for number in range(sets.n_sets):
        wanted = sets.labels_of(number)
        by_hand = [i for i in range(300) if all(labels[key][i] == value for key, value in wanted.items())]
        assert sets.members(number).tolist() == by_hand
        assert sets.size[number] == len(by_hand) >= 5
    tuples = Counter(
        tuple((key, labels[key][i]) for key in keys)
        for n in (1, 2, 3)
        for keys in combinations("abc", n)
        for i in range(300)
        if all(labels[key][i] for key in keys)
    )
    assert sets.n_sets == 1 + sum(count >= 5 for count in tuples.values())


def test_a_kind_with_too_many_sets_is_left_out_and_named():
    n = 5 * 150 * 60
    labels = {"a": [str(i % 150) for i in range(n)], "b": [str(i // 150 % 60) for i in range(n)]}
    sets = build(labels, n)
    assert sets.left_out == (("a", "b"),)
    assert sets.n_sets == 1 + 150 + 60 < MOST_SETS


def test_memory_of_a_set_follows_its_labels_when_streams_are_born():
    before = build({"site": ["b"] * 6 + ["c"] * 6}, 12)
    after = build({"site": ["b"] * 6 + ["c"] * 6 + ["a"] * 6}, 18)
    memory = empty_memory(before.n_sets)
    memory.component[:, 0] = [1.0, 2.0, 3.0]
    grown = memory.grown(before, after)
    assert [after.name_of(i) for i in range(4)] == ["fleet", "site=a", "site=b", "site=c"]
    assert grown.component[:, 0].tolist() == [1.0, 0.0, 2.0, 3.0]


# Locations


def test_histogram_locations_agree_with_exact_ones():
    rng = np.random.default_rng(5)
    y, weight = rng.standard_normal(4000) + 0.7, rng.uniform(0.5, 2.0, 4000)
    code = rng.integers(0, 20, 4000)
    groups = group_locations(y, weight, code[None, :], 20)
    exact = [location(y[code == i], weight[code == i]) for i in range(20)]
    np.testing.assert_allclose(groups.location, exact, atol=0.015)  # a tenth of their standard error


@pytest.mark.parametrize("n", [65_536, 100_000, 1_000_003])
def test_those_who_are_asked_are_spread_over_the_fleet_and_over_any_pattern_in_it(n):
    asked = spread_evenly(n, 32_768)
    assert (np.diff(asked) > 0).all()
    assert asked[-1] < n
    assert asked[-1] > 0.6 * n
    for period in (2, 3, 5, 24):
        counts = np.bincount(asked % period, minlength=period)
        np.testing.assert_allclose(counts / len(asked), 1.0 / period, atol=0.2 / period)


def test_a_large_fleets_component_is_found_from_a_part_of_it():
    rng = np.random.default_rng(3)
    n = 80_000
    sets = build({}, n)
    found = separate(
        rng.normal(0.3, 0.1, n), np.full(n, 0.1), np.ones(n, dtype=bool), batch=0, sets=sets,
        memory=empty_memory(sets.n_sets),
    )  # fmt: skip
    assert found.shift.shape == (n,)
    np.testing.assert_allclose(found.shift, 0.3, atol=0.003)  # five standard errors


def test_a_fifth_of_the_members_broken_on_their_own_hardly_moves_the_location():
    y = np.random.default_rng(6).standard_normal(2000)
    y[:400] += 6.0
    ones = np.ones(2000)
    assert abs(location(y, ones)) < 0.12
    assert abs(group_locations(y, ones, np.zeros((1, 2000), dtype=np.int64), 1).location[0]) < 0.12


# What is removed


def test_the_common_component_of_a_healthy_fleet_is_removed():
    fleet = Fleet(sited())
    found = fleet.look(rise=0.4)
    np.testing.assert_allclose(found.shift, 0.4, atol=5.0 * SD / np.sqrt(200))
    assert found.incidents == ()


def test_streams_that_are_not_ready_get_the_common_part_too():
    fleet = Fleet(sited())
    ready = np.arange(200) >= 50
    found = fleet.look(rise=0.4, ready=ready)
    np.testing.assert_allclose(found.shift[:50], 0.4, atol=0.1)


def test_with_too_few_streams_ready_nothing_is_removed_or_remembered():
    fleet = Fleet(sited())
    found = fleet.look(rise=1.0, ready=np.arange(200) < 7)
    assert not found.shift.any()
    assert not found.memory.count.any()


def test_unready_and_missing_deviations_are_not_looked_at():
    sets = sited()
    deviation = np.zeros(200)
    deviation[:60], deviation[60:70] = 1e9, np.nan
    ready = np.arange(200) >= 60
    found = separate(deviation, np.full(200, SD), ready, batch=0, sets=sets, memory=empty_memory(sets.n_sets))
    assert not found.shift.any()


def test_inputs_and_memory_are_not_changed():
    fleet = Fleet(sited())
    fleet.settle_in()
    before = {name: array.copy() for name, array in fleet.memory.arrays().items()}
    memory = fleet.memory
    assert names(fleet.look(rise=0.8, members=fleet.site(2))) == ["site=s2"]
    for name, array in memory.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_order_of_the_streams_does_not_matter():
    rng = np.random.default_rng(9)
    order = rng.permutation(300)
    site = [f"s{i}" for i in rng.integers(0, 6, 300)]
    shuffled = build({"site": [site[i] for i in order]}, 300)
    sets, ready, scale = build({"site": site}, 300), np.ones(300, dtype=np.bool_), SD * np.exp(rng.normal(0, 0.4, 300))
    one, other = empty_memory(sets.n_sets), empty_memory(sets.n_sets)
    for batch in range(7):
        x = scale * rng.standard_normal(300) + 0.6 * (batch == 6) * (np.array(site) == "s3")
        a = separate(x, scale, ready, batch=batch, sets=sets, memory=one)
        b = separate(x[order], scale[order], ready, batch=batch, sets=shuffled, memory=other)
        one, other = a.memory, b.memory
        np.testing.assert_allclose(a.shift[order], b.shift, atol=1e-12)
        np.testing.assert_array_equal(a.member[order], b.member)
    assert names(a) == names(b) == ["site=s3"]


# Incidents in time


def test_an_incident_keeps_its_id_until_it_is_over_and_its_shift_is_removed_all_along():
    fleet = Fleet(sited())
    fleet.settle_in()
    members = fleet.site(4)
    for batch in range(8, 14):
        found = fleet.look(rise=0.5, members=members)
        (incident,) = found.incidents
        assert incident.id == "8-site=s4"
        assert (incident.first_batch, incident.last_batch, incident.n_members) == (8, batch, 20)
        assert incident.labels == {"site": "s4"}
        assert incident.rise == pytest.approx(np.expm1(0.5), abs=0.35)
        assert incident.p_value < 1e-3
        np.testing.assert_allclose(found.shift[members], 0.5, atol=0.2)
        np.testing.assert_array_equal(np.flatnonzero(found.member == 0), members)
        assert set(found.member.tolist()) == {-1, 0}
    over = fleet.look()
    assert over.incidents == ()
    assert (over.member == -1).all()


def test_a_common_improvement_is_removed_but_is_no_incident():
    fleet = Fleet(sited())
    fleet.settle_in()
    found = fleet.look(rise=-0.6, members=fleet.site(1))
    assert found.incidents == ()
    np.testing.assert_allclose(found.shift[fleet.site(1)], -0.6, atol=0.2)


def test_a_rise_below_the_least_one_is_removed_but_is_no_incident():
    fleet = Fleet(sited(), rules=SeparationRules(least_rise=1.0))
    fleet.settle_in()
    found = fleet.look(rise=0.5, members=fleet.site(1))
    assert found.incidents == ()
    np.testing.assert_allclose(found.shift[fleet.site(1)], 0.5, atol=0.2)


def test_after_long_enough_the_level_counts_as_normal_and_is_still_removed():
    fleet = Fleet(sited(), rules=SeparationRules(longest=5))
    fleet.settle_in()
    members = fleet.site(3)
    seen = [fleet.look(rise=0.6, members=members) for _ in range(12)]
    assert [names(found) for found in seen] == [["site=s3"]] * 5 + [[]] * 7
    np.testing.assert_allclose(seen[-1].shift[members], 0.6, atol=0.2)
    again = fleet.look(rise=1.4, members=members)
    assert [incident.id for incident in again.incidents] == ["20-site=s3"]


def test_a_settled_shift_that_is_gone_is_no_longer_removed():
    fleet = Fleet(sited(), rules=SeparationRules(longest=2))
    fleet.settle_in()
    for _ in range(4):
        fleet.look(rise=0.8, members=fleet.site(3))
    assert fleet.memory.settled.any()
    fleet.look()
    assert not fleet.memory.settled.any()


def test_an_incident_whose_members_are_missing_goes_on_when_they_are_back():
    fleet = Fleet(sited())
    fleet.settle_in()
    members = fleet.site(6)
    fleet.look(rise=0.8, members=members)
    unseen = fleet.look(ready=np.arange(200) % SITES != 6)
    assert unseen.incidents == ()
    assert [incident.id for incident in fleet.look(rise=0.8, members=members).incidents] == ["8-site=s6"]


def test_the_whole_fleet_getting_worse_is_one_incident_without_labels():
    fleet = Fleet(sited())
    fleet.settle_in()
    found = fleet.look(rise=0.3)
    assert [(incident.id, dict(incident.labels), incident.n_members) for incident in found.incidents] == [
        ("8-fleet", {}, 200)
    ]
    assert (found.member == 0).all()


def test_two_incidents_at_once_are_told_apart_and_the_smaller_one_names_its_members():
    fleet = Fleet(sited(400))
    fleet.settle_in()
    both = np.concatenate([fleet.site(1), fleet.site(7)])
    found = fleet.look(rise=0.7, members=both)
    assert sorted(names(found)) == ["site=s1", "site=s7"]
    assert found.incidents[found.member[1]].labels == {"site": "s1"}
    assert found.incidents[found.member[7]].labels == {"site": "s7"}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.8])
def test_a_set_with_most_of_the_fleet_is_named_and_the_rest_did_not_improve(share):
    rng = np.random.default_rng(11)
    large = rng.random(600) < share
    sets = build({"feed": np.where(large, "a", rng.choice(["b", "c"], 600)).tolist()}, 600)
    fleet = Fleet(sets)
    fleet.settle_in()
    found = fleet.look(rise=0.6, members=np.flatnonzero(large))
    assert names(found) == ["feed=a"]
    np.testing.assert_allclose(found.shift, np.where(large, 0.6, 0.0), atol=0.1)


def test_a_huge_shock_is_seen_with_two_past_batches():
    fleet = Fleet(sited())
    fleet.settle_in(2)
    assert names(fleet.look(rise=1.5, members=fleet.site(2))) == ["site=s2"]


def test_a_fleet_without_labels_keeps_the_id_of_its_incident():
    fleet = Fleet(build({}, 60))
    fleet.settle_in(3)
    ids = {incident.id for _ in range(4) for incident in fleet.look(rise=0.5).incidents}
    assert ids == {"3-fleet"}


def test_nothing_is_an_incident_before_there_is_a_past():
    fleet = Fleet(sited())
    assert fleet.look(rise=1.5, members=fleet.site(2)).incidents == ()
    assert fleet.look(rise=1.5, members=fleet.site(2)).incidents == ()


def test_three_broken_streams_of_twenty_are_no_incident_and_keep_their_deviation():
    fleet = Fleet(sited())
    fleet.settle_in()
    found = fleet.look(rise=1.0, members=fleet.site(2)[:3])
    assert found.incidents == ()
    np.testing.assert_allclose(found.shift, 0.0, atol=0.1)


# The memory


def test_memory_survives_arrays_and_pickle():
    fleet = Fleet(sited())
    fleet.settle_in()
    fleet.look(rise=0.6, members=fleet.site(2))
    copies = (ComponentMemory.from_arrays(fleet.memory.arrays()), pickle.loads(pickle.dumps(fleet.memory)))
    deviation = SD * np.random.default_rng(1).standard_normal(200) + 0.6 * (np.arange(200) % SITES == 2)
    for memory in copies:
        found = separate(
            deviation, np.full(200, SD), np.ones(200, dtype=np.bool_), batch=9, sets=fleet.sets, memory=memory
        )
        assert [incident.id for incident in found.incidents] == ["8-site=s2"]


@pytest.mark.parametrize("sets", [sited(), build({}, 200)], ids=["sites", "fleet"])
def test_a_quiet_batch_is_remembered_as_all_the_bookkeeping_would(sets):
    rng = np.random.default_rng(3)
    memory, n_quiet = empty_memory(sets.n_sets), 0
    for batch in range(40):
        storm = 0.8 * (np.arange(200) % SITES == 2) if 10 <= batch < 13 else 0.4 * (batch == 20)
        scene = Scene(
            SD * rng.standard_normal(200) + storm, np.full(200, SD), sets=sets, usable=np.ones(200, dtype=np.bool_)
        )
        judge = Judge(expected(memory, sets, scene.n_ready), sets, DEFAULT_RULES)
        movement = search(scene, memory, judge, DEFAULT_RULES)
        closing = _Closing(scene, movement, memory, judge, batch, DEFAULT_RULES)
        memory, in_full = closing.separation().memory, closing._state()
        n_quiet += closing._is_quiet()
        for name, array in in_full.arrays().items():
            np.testing.assert_array_equal(memory.arrays()[name], array)
    assert 20 < n_quiet < 38


@pytest.mark.parametrize("n", [1, 2, 7, 2048, 2083])
def test_medians_are_those_of_numpy(n):
    y = np.random.default_rng(n).standard_normal((3, n))
    np.testing.assert_array_equal(medians(y), np.median(y, axis=1))
    assert median(y[0]) == np.median(y[0])


def test_the_history_of_an_open_set_stands_still():
    fleet = Fleet(sited())
    fleet.settle_in()
    fleet.look(rise=0.6, members=fleet.site(2))
    (number,) = np.flatnonzero(fleet.memory.is_open)
    counts = []
    for _ in range(3):
        fleet.look(rise=0.6, members=fleet.site(2))
        counts.append(int(fleet.memory.count[number]))
    assert counts == [9, 9, 9]  # eight, and the batch that opened it, drawn in
    assert fleet.memory.count[FLEET] == 12


def test_the_prediction_of_the_fleet_is_the_prediction_t_of_its_own_past():
    sets = build({}, 400)
    past = np.random.default_rng(2).normal(0.1, 0.3, 20)
    memory = empty_memory(1)
    memory.component[0] = np.roll(past[-PAST:], 20 % PAST)
    memory.error[0], memory.count[0] = 1e-9, 20
    prediction = expected(memory, sets, sets.size)
    worse, _ = prediction.p_values(np.array([0.9]), np.array([1e-9]))
    newest = past[-PAST:]
    t = (0.9 - newest.mean()) / (newest.std(ddof=1) * np.sqrt(1.0 + 1.0 / PAST))
    assert worse[0] == pytest.approx(stdtr(PAST - 1, -t), rel=1e-6)


# The promises, on small fleets; the full figures come from benchmarks.incidents


def test_healthy_common_movement_makes_no_more_alarms_than_promised():
    found = healthy_fleet(streams=1000, rho=0.6, batches=80, seed=0)
    assert found.before.small.p99 > 400.0  # they move together
    assert 40.0 < found.after.small.mean < 60.0
    assert found.after.small.p99 < 80.0
    assert found.after.batches_with_alarm < ALPHA + 3.0 * np.sqrt(ALPHA / 80)
    assert found.new_incidents < ALPHA + 2.0 * np.sqrt(ALPHA / 80)
    assert found.after.power > found.before.power + 0.15


@pytest.mark.parametrize("streams", [12, 40])
def test_a_small_fleet_that_moves_together_gains_power_at_the_same_level(streams):
    found = healthy_fleet(streams=streams, rho=0.6, batches=150, seed=0)
    assert found.after.small.mean / streams < 0.065
    assert found.after.small.p99 < 0.5 * found.before.small.p99
    assert found.after.power > found.before.power + 0.15
    assert found.new_incidents < 0.08


def test_a_shared_shock_is_one_incident_with_the_right_labels(monkeypatch):
    world = World(name="small", streams=2000, n_labels=(0, 1, 2), broken=0.01)
    monkeypatch.setattr(bench, "WORLDS", (world,))
    monkeypatch.setattr(bench, "SIZES", (4.0,))
    found = [shock(world, seed=seed) for seed in range(8)]
    assert sum(one.is_right for one in found) >= 7
    assert all(one.delay == 1 for one in found if one.is_right)
    assert np.mean([one.members_alarmed for one in found]) <= 0.01
    assert np.mean([one.broken_alarmed for one in found]) > 0.6
    assert sum(one.late > 0 for one in found) <= 1


def test_without_removal_a_shared_shock_alarms_its_members_one_by_one():
    rng = np.random.default_rng(4)
    sets = sited(1000)
    plain, values = Monitor(sets, removes=False), healthy(1000, rng, rho=0.0)
    for _ in range(WARM_UP):
        plain.keep(plain.look(next(values)))
    shocked = next(values) + 5.0 * SD * (np.arange(1000) % SITES == 0)
    assert bh(plain.look(shocked).p).sum() > 80
