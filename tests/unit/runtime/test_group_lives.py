"""Lives of small fleets with a model that serves a group of streams: what is trained when, and what is recorded."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from mlma.core.decisions import EffectStatus, OverrideKind, Phase, Reason, RequestKind
from mlma.core.records import GroupTraining
from mlma.core.settings import Evergreen, GroupSettings, ModelSettings, Serve
from mlma.runtime.groups import groups_of
from tests.unit.runtime.memory_fleet import HOURS, TINY, WARM_DAYS, Life, demand, settings_for

GROUP = GroupSettings(min_streams=1, rows=300, model=ModelSettings(name=TINY))
TWO = GroupSettings(min_streams=1, name="two", select="s001,s002", rows=100, model=ModelSettings(name=TINY))
DAYS = 52


def settings_of(*groups: GroupSettings, wanted: str = "mlma", **life: object):  # type: ignore[no-untyped-def]
    """A blend with a cheap yardstick."""
    mine = {"serve": Serve.BLEND, "proof": False, "evergreen": (Evergreen.MEDIAN,), "pool_size": 2, "cooldown": 2}
    mine["price"] = 0.05
    return settings_for(wanted=wanted, life=mine | {"groups": groups} | life)


def lived(days: int = DAYS, *groups: GroupSettings, n_shards: int = 1, n_streams: int = 4, **life: object) -> Life:
    y = demand(n_streams, DAYS, breaks_on=47)
    return Life(y, settings_of(*(groups or (GROUP,)), **life), n_shards=n_shards).until(days)  # type: ignore[arg-type]


@cache
def undisturbed() -> Life:
    """One life that tests only look at."""
    return lived()


def plain(life: Life) -> list[GroupTraining]:
    """Trainings without what differs from run to run."""
    at = life.store.group_trainings()
    return [
        replace(one, ordered_at=None, deadline_at=None, finished_at=None, attempts=0, cpu_s=None)  # type: ignore[arg-type]
        for one in at
    ]


def pool_rows(life: Life, member: str = "group:all") -> dict[int, float]:
    """Weight of a member by stream, after the last batch."""
    block = life.history.pool(life.store.cursor() or 0)
    assert block is not None
    return {
        int(stream): float(weight)
        for stream, weight, code in zip(block.stream_id, block.weight, block.member, strict=True)
        if block.members[code] == member
    }


def test_one_model_is_trained_for_all_streams_and_recorded_once() -> None:
    life = lived(WARM_DAYS + 3)
    (training,) = life.store.group_trainings()
    assert (training.id, training.name, training.reason) == ("group:all-41", "all", Reason.NO_VERSION)
    assert (training.status, training.n_streams, training.n_rows) == (EffectStatus.DONE, 4, 300)
    assert training.origin == WARM_DAYS * HOURS
    weight = pool_rows(life)
    assert sorted(weight) == [0, 1, 2, 3]
    assert all(0.0 < share < 1.0 for share in weight.values())


def test_weights_of_every_stream_still_sum_to_one() -> None:
    life = lived(DAYS, GROUP, TWO)
    for batch in range(WARM_DAYS, DAYS - 1):
        block = life.history.pool(batch)
        assert block is not None
        total = np.zeros(4)
        np.add.at(total, block.stream_id, block.weight)
        assert total == pytest.approx(np.ones(4), abs=1e-12)
    assert sorted(pool_rows(life, "group:two")) == [1, 2]


@pytest.mark.parametrize("n_shards", [2, 3])
def test_shards_do_not_change_what_a_group_learns(n_shards: int) -> None:
    one, other = undisturbed(), lived(n_shards=n_shards)
    assert len(plain(one)) > 1
    assert plain(other) == plain(one)
    assert pool_rows(other) == pool_rows(one)


def test_a_restart_on_every_day_changes_nothing() -> None:
    expected, life = undisturbed(), lived(WARM_DAYS)
    for day in range(WARM_DAYS, DAYS):
        life.open()
        life.until(day + 1)
    assert plain(life) == plain(expected)
    assert pool_rows(life) == pool_rows(expected)


def test_a_break_is_answered_by_the_debt_of_the_group() -> None:
    life = undisturbed()
    first, *later = life.store.group_trainings()
    assert first.reason is Reason.NO_VERSION
    assert later
    assert later[0].reason is Reason.DEBT
    assert later[0].batch >= 47
    assert later[0].debt > later[0].price > 0.0
    for one, two in pairwise(later):
        assert two.batch - one.batch >= 2  # the cooldown


def test_a_price_that_nothing_is_worth_trains_once() -> None:
    assert [one.reason for one in lived(price=1e6).store.group_trainings()] == [Reason.NO_VERSION]


@pytest.mark.parametrize(
    ("wanted", "batches"), [("never", [41]), ("calendar:4", [41, 45, 49]), ("always", list(range(41, 52)))]
)
def test_a_policy_trains_the_group_as_it_trains_streams(wanted: str, batches: list[int]) -> None:
    y = demand(3, DAYS)
    life = Life(y, settings_of(GROUP, wanted=wanted)).until(DAYS)
    assert [one.batch for one in life.store.group_trainings()] == batches


def test_a_group_is_frozen_when_all_its_streams_are() -> None:
    few, every = lived(46, price=0.02), lived(46, price=0.02)
    few.override(OverrideKind.FREEZE, "s000,s001,s002")
    every.override(OverrideKind.FREEZE, "*")
    assert len(few.until(DAYS).store.group_trainings()) > 1
    assert len(every.until(DAYS).store.group_trainings()) == 1


def asked(life: Life, name: str = "group:all") -> str:
    """What came of an engineer's request."""
    wanted = life.request(RequestKind.RETRAIN, name)
    life.tick()
    return next(request.outcome for request in life.store.requests() if request.id == wanted)


def test_an_engineer_has_a_group_trained_anew() -> None:
    life = lived(46, price=9.0)
    assert asked(life) == "group:all is trained"
    life.until(48)
    first, second = life.store.group_trainings()
    assert (second.reason, second.batch, second.status) == (Reason.REQUESTED, 45, EffectStatus.DONE)
    assert life.engine.pools.groups.each[0].serving == second
    assert second.origin is not None
    assert second.origin > (first.origin or 0)
    assert life.decisions(phase=Phase.REQUEST) == []  # no stream's model was asked for


def test_what_was_trained_after_this_very_batch_is_not_trained_twice() -> None:
    life = lived(WARM_DAYS)
    assert len(life.store.group_trainings()) == 1
    assert asked(life) == "held: nothing_to_change"
    assert len(life.store.group_trainings()) == 1


def test_a_request_for_a_group_is_held_by_a_freeze_of_all_its_streams() -> None:
    life = lived(46, price=9.0)
    life.override(OverrideKind.FREEZE, "*")
    assert asked(life) == "held: frozen"
    assert len(life.store.group_trainings()) == 1


def test_a_request_moves_a_training_that_waits_for_the_budget_to_the_front() -> None:
    life = lived(WARM_DAYS + 1, GROUP, TWO, budget_cpu_s_per_hour=1e-9, budget_burst_s=1e-4)
    assert asked(life, "group:two") == "group:two is trained"
    waiting = life.store.group_trainings()[-1]
    assert (waiting.name, waiting.reason, waiting.status) == ("two", Reason.REQUESTED, EffectStatus.WAITING)


def test_a_request_for_a_group_that_is_no_more_says_so() -> None:
    assert asked(lived(46, price=9.0), "group:old") == "there is no group old any more"


def test_born_streams_are_forecast_by_the_group_at_once() -> None:
    y = demand(4, DAYS)
    y[3, : 46 * HOURS] = np.nan
    life = Life(y, settings_of(GROUP)).until(DAYS)
    assert [one.n_streams for one in life.store.group_trainings()] == [3]
    assert not life.versions("s003")
    assert sorted(pool_rows(life)) == [0, 1, 2, 3]
    blocks = life.history.members(0, first_origin=48 * HOURS, last_origin=DAYS * HOURS, stream_id=3)
    forecast = np.concatenate(
        [block.forecast[[block.members[code] == "group:all" for code in block.member]].ravel() for block in blocks]
    )
    assert np.isfinite(forecast).all()
    known = [block.members[code] for code in blocks[-1].member for block in blocks[-1:]]
    assert "group:all" in known


def test_a_group_of_one_stream_is_a_group() -> None:
    life = lived(WARM_DAYS + 2, GroupSettings(min_streams=1, select="s002", rows=50, model=ModelSettings(name=TINY)))
    (training,) = life.store.group_trainings()
    assert (training.n_streams, training.n_rows) == (1, 50)
    assert sorted(pool_rows(life)) == [2]


def test_a_group_without_a_stream_is_never_trained() -> None:
    life = lived(WARM_DAYS + 2, GroupSettings(min_streams=1, select="site=nowhere", model=ModelSettings(name=TINY)))
    assert not life.store.group_trainings()
    assert not pool_rows(life)


def test_a_training_that_fails_is_named_and_tried_again_after_the_cooldown() -> None:
    broken = GroupSettings(min_streams=1, model=ModelSettings(name="lightgbm", params={"num_trees": 0}))
    life = lived(WARM_DAYS + 5, broken)
    trainings = life.store.group_trainings()
    assert {one.status for one in trainings} == {EffectStatus.FAILED}
    assert [one.batch for one in trainings] == [41, 43, 45]
    assert "num_trees is 0" in life.open_findings("training_failed")["group:all"].message
    assert not pool_rows(life)
    life.settings = settings_of(GROUP)
    life.open()
    life.until(WARM_DAYS + 8)
    assert life.store.group_trainings()[-1].status is EffectStatus.DONE
    assert "group:all" not in life.open_findings("training_failed")


def test_a_group_waits_for_the_budget_and_goes_when_it_is_there() -> None:
    life = lived(WARM_DAYS + 1, GROUP, TWO, budget_cpu_s_per_hour=1e-9, budget_burst_s=1e-4)
    first, waiting = life.store.group_trainings()
    assert first.status is EffectStatus.DONE  # the first may always start, and is then owed for
    assert waiting.status is EffectStatus.WAITING
    life.settings = settings_of(GROUP, TWO, budget_cpu_s_per_hour=100.0)
    life.open()
    life.until(WARM_DAYS + 3)
    _, done = life.store.group_trainings()
    assert done.status is EffectStatus.DONE
    assert done.expected_cpu_s is not None
    assert done.batch > waiting.batch


def test_a_group_that_waited_too_long_lapses() -> None:
    life = lived(WARM_DAYS + 6, GROUP, TWO, budget_cpu_s_per_hour=1e-9, budget_burst_s=1e-4, budget_patience=2)
    assert EffectStatus.LAPSED in {one.status for one in life.store.group_trainings()}
    assert all(one.status is not EffectStatus.PENDING for one in life.store.group_trainings())


def test_excluded_periods_teach_a_group_nothing() -> None:
    y = demand(3, DAYS)
    clean = Life(y, settings_of(GROUP))
    spoiled = y.copy()
    spoiled[:, 30 * HOURS : 31 * HOURS] *= 1.7
    dirty = Life(spoiled, settings_of(GROUP))
    dirty.until(WARM_DAYS - 1)
    dirty.override(OverrideKind.EXCLUDE, "*", first_day=30, last_day=31)
    for life in (clean, dirty):
        life.until(WARM_DAYS + 1)
    assert [one.n_rows for one in dirty.store.group_trainings()] == [252]
    engine = dirty.engine
    group = engine.pools.groups.each[0]
    assert group.serving is not None


def test_a_model_that_never_forecasts_is_trained_again() -> None:
    life = lived(WARM_DAYS + 2)
    serving = life.engine.pools.groups.each[0].serving
    assert serving is not None
    life.engine.pools.groups.each[0].serving = replace(serving, sha256="0" * 64)
    life.until(WARM_DAYS + 5)
    trainings = life.store.group_trainings()
    assert [one.reason for one in trainings] == [Reason.NO_VERSION, Reason.MODEL_FAILED]
    assert "group:all" not in life.open_findings("model_failed")


def test_fewer_streams_than_a_group_needs_train_nothing() -> None:
    life = lived(WARM_DAYS + 2, GroupSettings(min_streams=5, model=ModelSettings(name=TINY)))
    assert not life.store.group_trainings()


def test_only_blends_have_groups() -> None:
    life = settings_of(GROUP).life
    assert groups_of(life) == (GROUP,)
    assert groups_of(replace(life, serve=Serve.CHAMPION)) == ()
    assert groups_of(replace(life, serve=Serve.LATEST)) == ()


def test_a_group_more_after_a_restart_leaves_the_records_of_the_others_alone() -> None:
    life = Life(demand(3, DAYS), settings_of()).until(WARM_DAYS + 4)
    before = life.engine.pools
    known = {name: pool_rows(life, name) for name in ("median", "0-41-0")}
    assert all(known.values())
    life.settings = settings_of(GROUP)
    life.open()
    after = life.engine.pools
    assert after.n_fixed == before.n_fixed + 1
    assert after.record.mean[:, :2] == pytest.approx(before.record.mean[:, :2])
    assert after.record.mean[:, 3:] == pytest.approx(before.record.mean[:, 2:], nan_ok=True)
    assert after.seating.of(0)[3].version_id == before.seating.of(0)[2].version_id
    life.until(WARM_DAYS + 6)
    assert [one.status for one in life.store.group_trainings()] == [EffectStatus.DONE]


def test_a_model_that_cannot_forecast_takes_only_itself_out() -> None:
    life = lived(WARM_DAYS + 2)
    serving = life.engine.pools.groups.each[0].serving
    assert serving is not None
    life.engine.pools.groups.each[0].serving = replace(serving, sha256="0" * 64)
    life.until(WARM_DAYS + 3)
    assert "group:all" in life.open_findings("model_failed")
    block = life.history.members(0, first_origin=0, last_origin=DAYS * HOURS)[-1]
    assert np.isfinite(block.forecast[[block.members[code] == "median" for code in block.member]]).all()


@pytest.mark.parametrize("group", [replace(GROUP, min_streams=20), replace(TWO, min_streams=1)])
def test_versions_keep_their_seats_at_a_restart_where_a_group_serves_nobody_or_only_others(
    group: GroupSettings,
) -> None:
    plain, stopped = (Life(demand(2, 47), settings_of(group)) for _ in range(2))
    for day in range(WARM_DAYS, 47):
        plain.until(day)
        stopped.until(day).open()
        assert stopped.engine.pools.seating.versions == plain.engine.pools.seating.versions
        np.testing.assert_array_equal(stopped.engine.pools.weights(), plain.engine.pools.weights())
    assert plain.engine.pools.seating.versions
