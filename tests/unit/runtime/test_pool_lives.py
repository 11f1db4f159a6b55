"""Pools in whole lives: restarts change nothing, who fails takes only itself out, orders hold."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.checkpoints import FileCheckpoints
from mlma.adapters.history import ParquetHistory
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind
from mlma.core.records import NAIVE
from mlma.core.settings import QUICK, Evergreen, Serve
from mlma.runtime.control import EngineSettings
from tests.unit.runtime.memory_fleet import (
    DAY,
    HOURS,
    ODD,
    TINY,
    WARM_DAYS,
    Life,
    demand,
    outcome,
    poisoned,
    rows_of,
    settings_for,
)

FIRST, DAYS, BREAK = WARM_DAYS - 1, 49, 45
FIXED = (NAIVE, *Evergreen)


def blend(model: str = TINY, *, wanted: str = "always", **life: object) -> EngineSettings:
    """Every member of the pool serves; by default all streams are trained after every batch."""
    params = life.pop("params", None)
    settings: dict[str, object] = {"serve": Serve.BLEND, "proof": False, "evergreen": tuple(Evergreen), "cooldown": 0}
    return settings_for(model, wanted=wanted, params=params, life={**settings, "pool_size": 3, **life})  # type: ignore[arg-type]


def champion(model: str = TINY, *, wanted: str = "always", **life: object) -> EngineSettings:
    """One version serves, the others forecast in shadow."""
    return blend(model, wanted=wanted, serve=Serve.CHAMPION, **life)


MODES = {"blend": blend, "champion": champion}
modes = pytest.mark.parametrize("settings", [blend, champion], ids=["blend", "champion"])


@cache
def undisturbed(settings: Callable[..., EngineSettings], n_shards: int = 1) -> Life:
    """A fleet with a break that nobody disturbed; tests only look at it."""
    return Life(demand(3, DAYS, breaks_on=BREAK), settings(), n_shards=n_shards).until(DAYS)


def recorded(life: Life) -> dict[str, object]:
    """Everything that an undisturbed life must agree on: what the store has, and what was forecast and weighed."""
    forecasts, members = [], []
    for shard in range(life.n_shards):
        for block in life.history.forecasts(shard, first_slot=0, last_slot=10**6):
            versions = [block.versions[code] for code in block.version]
            forecasts += list(
                zip(block.stream_id.tolist(), block.slot.tolist(), block.forecast.tolist(), versions, strict=True)
            )
        for made in life.history.members(shard, first_origin=0, last_origin=10**6):
            for row in range(len(made.seat)):
                who = made.members[made.member[row]]
                values = (made.weight[row], made.inner[row], *made.forecast[row])
                members.append((made.origin_first, int(made.stream_id[row]), int(made.seat[row]), who, repr(values)))
    return outcome(life.store) | {"forecasts": sorted(forecasts), "members": sorted(members), "pools": pools(life)}


def pools(life: Life) -> list[tuple[object, ...]]:
    """Who sat where after every batch, with what record, weight and debt."""
    found: list[tuple[object, ...]] = []
    for batch in range(FIRST, DAYS):
        block = life.history.pool(batch)
        if block is None:
            continue
        for row in range(len(block.seat)):
            values = (block.loss[row], block.recent[row], block.mass[row], block.weight[row])
            who = block.members[block.member[row]]
            found.append((batch, int(block.stream_id[row]), int(block.seat[row]), who, repr(values)))
        found += [(batch, name, repr(value.tolist())) for name, value in sorted(block.account.items())]
    return found


def agree(one: Life, other: Life) -> None:
    expected = recorded(other)
    for key, value in recorded(one).items():
        assert value == expected[key], key


def weights(life: Life, name: str, batch: int) -> dict[str, float]:
    """Weights by member after a batch."""
    block = life.history.pool(batch)
    assert block is not None
    mine = block.stream_id == life.id(name)
    return {
        block.members[code]: float(weight) for code, weight in zip(block.member[mine], block.weight[mine], strict=True)
    }


def served(life: Life, name: str, first_day: int) -> dict[int, tuple[float, str]]:
    """What was served from a day on: forecast and leading member by slot."""
    found = {}
    for block in life.history.forecasts(0, first_slot=first_day * HOURS, last_slot=10**6):
        mine = block.stream_id == life.id(name)
        for slot, value, code in zip(block.slot[mine], block.forecast[mine], block.version[mine], strict=True):
            found[int(slot)] = (float(value), block.versions[code])
    return {slot: value for slot, value in found.items() if slot < life.day * HOURS}  # the next origin is due too


def test_the_median_is_not_trusted_where_the_past_shows_that_it_lags(tmp_path: Path) -> None:
    y = demand(3, WARM_DAYS + 3)
    y[1] += 20.0 * np.arange(y.shape[1]) / HOURS  # a level that moves
    settings = blend()
    settings = replace(settings, schedule=replace(settings.schedule, train_window=WARM_DAYS * HOURS))
    life = Life(y, settings, checkpoints=FileCheckpoints(tmp_path)).until(WARM_DAYS)
    usual, lagging = (weights(life, name, FIRST) for name in ("s000", "s001"))
    assert usual[Evergreen.MEDIAN] == pytest.approx(usual[Evergreen.LAD])
    assert lagging[Evergreen.MEDIAN] < 1e-3
    assert lagging[Evergreen.LAD] > 0.1
    before = life.engine.pools.weights()
    life.open()
    np.testing.assert_array_equal(life.engine.pools.weights(), before)  # known to a restart, too


def test_a_quick_member_is_listened_to_once_it_has_a_loss() -> None:
    life = undisturbed(blend)
    heard = {}
    for made in life.history.members(0, first_origin=0, last_origin=10**6):
        for row in range(len(made.seat)):
            member, batch = made.members[made.member[row]], made.origin_first // HOURS
            heard.setdefault((batch, member), []).append(float(made.weight[row]))
    for member in QUICK:
        assert max(heard[WARM_DAYS, member]) == 0.0
        assert min(heard[WARM_DAYS + 1, member]) > 0.0
    assert max(heard[BREAK + 1, Evergreen.YESTERDAY]) > 0.1  # the level and the shape of the day are new
    assert max(heard[BREAK, Evergreen.YESTERDAY]) < 0.01


def test_a_fleet_of_before_the_quick_members_goes_on_with_them(tmp_path: Path) -> None:
    learning = tuple(family for family in Evergreen if family not in QUICK)
    life = Life(demand(3, WARM_DAYS + 5), blend(evergreen=learning), checkpoints=FileCheckpoints(tmp_path))
    life.until(WARM_DAYS + 2)
    before, n_fixed = life.engine.pools.weights(), 1 + len(learning)
    life.settings = blend()
    life.open()
    after = life.engine.pools.weights()
    kept = np.delete(after, range(n_fixed, len(FIXED)), axis=1)
    np.testing.assert_allclose(kept, before, rtol=1e-14)  # the sum of more weights rounds anew
    np.testing.assert_array_equal(after[:, n_fixed : len(FIXED)], 0.0)
    life.until(WARM_DAYS + 4)
    heard = weights(life, "s000", WARM_DAYS + 3)
    assert min(heard[family] for family in QUICK) > 0.0
    assert sum(heard.values()) == pytest.approx(1.0)


# what is served


def test_a_blend_is_the_weighted_mean_of_the_members_that_were_recorded() -> None:
    life = undisturbed(blend)
    (shard,) = range(life.n_shards)
    by_origin = {}
    for block in life.history.forecasts(shard, first_slot=0, last_slot=10**6):
        for stream, slot, value in zip(block.stream_id, block.slot, block.forecast, strict=True):
            by_origin[int(stream), int(slot)] = value
    n_checked = 0
    for made in life.history.members(shard, first_origin=0, last_origin=10**6):
        for stream in np.unique(made.stream_id):
            mine = made.stream_id == stream
            np.testing.assert_allclose(made.weight[mine].sum(), 1.0)
            total = (made.weight[mine, None] * made.forecast[mine]).sum(axis=0)
            for k, value in enumerate(total):
                assert by_origin[int(stream), made.origin_first + k] == pytest.approx(value, rel=1e-12)
                n_checked += 1
    assert n_checked == 3 * (HOURS * (DAYS - WARM_DAYS) + 6)  # and the origin that is due at the end


def test_after_a_break_the_blend_listens_to_the_versions_of_the_new_regime() -> None:
    life = Life(demand(4, DAYS + 6, breaks_on=BREAK), blend(pool_size=8)).until(DAYS + 6)
    late = weights(life, "s000", DAYS + 4)
    old, new = (
        sum(
            weight
            for who, weight in late.items()
            if who not in FIXED and (int(who.split("-")[1]) > BREAK + 3) is is_new
        )
        for is_new in (False, True)
    )
    assert new > 2 * old
    judged = [life.batch("s000", batch) for batch in range(DAYS, DAYS + 6)]
    assert np.mean([one.mean_loss for one in judged]) < 0.9 * np.mean([one.naive_loss for one in judged])


@modes
def test_every_target_is_served_once_by_a_finite_forecast(settings: Callable[..., EngineSettings]) -> None:
    y = demand(3, DAYS)
    y[1, 43 * HOURS : 46 * HOURS] = np.nan
    life = Life(y, settings()).until(DAYS)
    for name in ("s000", "s001", "s002"):
        found = served(life, name, WARM_DAYS)
        assert sorted(found) == list(range(WARM_DAYS * HOURS, DAYS * HOURS))
        assert np.isfinite([value for value, _ in found.values()]).all()


def test_a_pool_is_never_larger_than_its_seats_and_the_worst_but_the_leader_makes_room() -> None:
    life = Life(demand(2, DAYS, breaks_on=BREAK), blend(pool_size=3)).until(DAYS)
    leads = {serving.batch: serving.version_id for serving in life.store.servings(stream_id=0)}
    for batch in range(FIRST + 3, DAYS - 1):
        before, after = (life.history.pool(at) for at in (batch, batch + 1))
        assert before is not None
        assert after is not None
        names = [{b.members[code] for code in b.member[b.stream_id == 0]} - set(FIXED) for b in (before, after)]
        assert len(names[0]) == len(names[1]) == 3
        (gone,) = names[0] - names[1]
        recent = {before.members[code]: loss for code, loss in zip(before.member, before.recent, strict=True)}
        newest = leads[batch - 1]  # the version that joined last leads the line of a blend
        assert recent[gone] == max(recent[name] for name in names[0] - {newest})


# restarts


@modes
@pytest.mark.parametrize("n_shards", [1, 2])
def test_a_restart_after_every_batch_changes_nothing(
    settings: Callable[..., EngineSettings], n_shards: int, tmp_path: Path
) -> None:
    straight, y = undisturbed(settings, n_shards), demand(3, DAYS, breaks_on=BREAK)
    stopped = Life(y, settings(), n_shards=n_shards, checkpoints=FileCheckpoints(tmp_path))
    for day in range(FIRST, DAYS + 1):
        stopped.until(day).open()
    agree(stopped, straight)


def by_hours(life: Life, step: int, *, restarts: bool) -> Life:
    """Live on from the first day of serving in pieces of a day, with a restart after each of them."""
    life.until(WARM_DAYS)
    for hour in range(WARM_DAYS * HOURS, (BREAK + 2) * HOURS, step):
        life.clock.set(life.clock.now() + step * DAY / HOURS)
        life.take(rows_of(life.y, hour, hour + step), path=f"hour-{hour}")
        life.tick()
        if restarts:
            life.open()
    return life


@modes
def test_a_restart_in_the_middle_of_a_batch_changes_nothing(
    settings: Callable[..., EngineSettings], tmp_path: Path
) -> None:
    y = demand(3, DAYS, breaks_on=BREAK)
    lives = []
    for restarts in (False, True):
        at = tmp_path / str(restarts)
        life = Life(y, settings(), history=ParquetHistory(at / "h"), checkpoints=FileCheckpoints(at / "c"))
        lives.append(by_hours(life, 8, restarts=restarts))
    agree(*lives)


@modes
def test_without_checkpoints_what_was_recorded_stays_and_what_comes_is_sane(
    settings: Callable[..., EngineSettings], tmp_path: Path
) -> None:
    straight, y = undisturbed(settings), demand(3, DAYS, breaks_on=BREAK)
    stopped = Life(y, settings(), checkpoints=FileCheckpoints(tmp_path)).until(46)
    before = recorded(stopped)
    for file in tmp_path.iterdir():
        file.unlink()
    stopped.open()
    stopped.until(47)
    after = recorded(stopped)
    assert set(before["forecasts"]) < set(after["forecasts"])  # type: ignore[call-overload]
    stopped.until(DAYS)
    for name in ("s000", "s001", "s002"):
        one, other = (np.array([value for value, _ in served(life, name, 46).values()]) for life in (stopped, straight))
        assert np.isfinite(one).all()
        assert np.abs(one - other).mean() < 0.1 * other.mean()


# who fails


@pytest.mark.parametrize("mode", ["raise", "nan", "inf", "short"])
def test_versions_that_fail_leave_the_rest_of_the_pool_serving(mode: str) -> None:
    sick, limit = poisoned(demand(3, DAYS), 2, slice(44 * HOURS, 47 * HOURS))
    settings = blend(ODD, params={"mode": mode, "above": limit})
    healthy, life = (Life(data, settings).until(47) for data in (demand(3, DAYS), sick))
    found = served(life, "s002", 45)
    assert {member for _, member in found.values()} <= set(Evergreen)
    assert sorted(found) == list(range(45 * HOURS, 47 * HOURS))
    assert np.isfinite([value for value, _ in found.values()]).all()
    assert set(life.open_findings("model_failed")) == {"s002"}
    assert "the rest of the pool serves" in life.open_findings("model_failed")["s002"].message
    assert not healthy.open_findings("model_failed")


def test_a_champion_that_fails_makes_room_for_a_version_that_does_not() -> None:
    hours = slice(44 * HOURS, 44 * HOURS + 6)  # the old version fails while it looks at these, a healthy one does not
    y, limit = poisoned(demand(2, DAYS + 4), 1, hours)
    life = Life(y, champion(ODD, params={"mode": "raise", "above": limit})).until(44)
    before = life.champion("s001")
    life.settings = champion(TINY)
    life.open()
    life.until(DAYS + 4)
    assert life.champion("s001") != before
    assert "tiny" in {version.family for version in life.versions("s001") if version.id == life.champion("s001")}


@modes
def test_a_stream_without_versions_is_served_by_the_others(settings: Callable[..., EngineSettings]) -> None:
    life = Life(demand(2, 46), settings(ODD, params={"at": "fit", "above": 0.0})).until(46)  # nothing can be learnt
    assert not life.versions("s000")
    leaders = {member for _, member in served(life, "s000", WARM_DAYS).values()}
    assert leaders <= (set(Evergreen) if settings is blend else {NAIVE})
    assert np.isfinite(life.batch("s000", 45).mean_loss)
    assert life.batch("s000", 45).action is Action.TRAIN


@modes
def test_a_born_stream_is_served_and_changes_nothing_for_the_others(settings: Callable[..., EngineSettings]) -> None:
    y = demand(3, DAYS)
    y[2, : 44 * HOURS + 7] = np.nan
    life, alone = (
        Life(y, settings(pool_shrinkage=0.0)).until(DAYS),
        Life(y[:2], settings(pool_shrinkage=0.0)).until(DAYS),
    )
    found = served(life, "s002", 45)
    assert sorted(found) == list(range(45 * HOURS, DAYS * HOURS))
    assert np.isfinite([value for value, _ in found.values()]).all()
    for name in ("s000", "s001"):
        one, other = (list(served(lived, name, WARM_DAYS).values()) for lived in (life, alone))
        assert [who for _, who in one] == [who for _, who in other]
        np.testing.assert_allclose([v for v, _ in one], [v for v, _ in other], rtol=1e-9)


def test_an_absurd_value_trains_nobody_and_is_not_served() -> None:
    y = demand(3, DAYS)
    wild = y.copy()
    wild[1, 44 * HOURS + 3] = 1e9
    plain, life = (Life(data, blend(wanted="mlma")).until(DAYS) for data in (y, wild))
    assert [v.id for v in life.versions("s001")] == [v.id for v in plain.versions("s001")]
    one, other = (np.array([v for v, _ in served(lived, "s001", 45).values()]) for lived in (life, plain))
    np.testing.assert_allclose(one, other, rtol=0.2)


# orders


@pytest.mark.parametrize("kind", [OverrideKind.PIN, OverrideKind.FREEZE])
def test_a_switch_of_the_champion_is_held_by(kind: OverrideKind) -> None:
    y = demand(2, DAYS, breaks_on=BREAK)
    free, held = (Life(y, champion()).until(44) for _ in range(2))
    before = held.champion("s000")
    number = held.override(kind, "s000")
    for life in (free, held):
        life.until(DAYS)
    assert free.champion("s000") != before
    assert held.champion("s000") == before
    if kind is OverrideKind.PIN:  # a frozen stream is not trained, so nobody comes to be better
        told = held.decisions("s000", phase=Phase.COMPARISON, held_by=Hold.PINNED)
        assert told
        assert all(decision.action is Action.KEEP for decision in told)
    held.lift(number)
    held.until(DAYS)
    assert held.champion("s001") == free.champion("s001")


@modes
def test_a_rollback_is_obeyed_once_and_takes_the_version_out_of_the_pool(
    settings: Callable[..., EngineSettings], tmp_path: Path
) -> None:
    life = Life(demand(2, DAYS, breaks_on=BREAK), settings(), checkpoints=FileCheckpoints(tmp_path)).until(DAYS - 1)
    line = [serving.version_id for serving in life.store.servings(stream_id=0)]
    assert len(line) > 1
    taken_back, back = line[-1], life.engine.fleet.former(0)
    assert back is not None
    life.request(RequestKind.ROLLBACK, "s000")
    life.tick()
    first = outcome(life.store)
    life.open()
    life.tick()
    assert outcome(life.store) == first  # a request is consumed once, restarts or not
    assert life.champion("s000") == back.id
    life.until(DAYS)
    block = life.history.members(0, first_origin=(DAYS - 1) * HOURS + 6, last_origin=10**6)
    for made in block:
        assert taken_back not in {made.members[code] for code in made.member[made.stream_id == 0]}


@modes
def test_a_rollback_without_a_former_champion_changes_nothing_however_often(
    settings: Callable[..., EngineSettings],
) -> None:
    life = Life(demand(1, 46), settings(wanted="never")).until(46)
    before = life.champion("s000")
    for _ in range(2):
        life.request(RequestKind.ROLLBACK, "s000")
        life.tick()
    held = life.decisions("s000", phase=Phase.REQUEST)
    assert [decision.held_by for decision in held] == [Hold.NO_FORMER_CHAMPION] * 2
    assert life.champion("s000") == before


def test_evergreen_members_learn_nothing_from_what_an_engineer_excludes() -> None:
    y = demand(2, DAYS)
    spoilt = y.copy()
    spoilt[0, 44 * HOURS : 45 * HOURS] *= 2.5  # not so wild that it would be left out by itself

    def lived(values: np.ndarray, *, excludes: str = "") -> Life:
        life = Life(values, blend(wanted="never", evergreen=(Evergreen.LAD, Evergreen.SLOT_RIDGE)))
        life.until(44)
        if excludes:
            life.override(OverrideKind.EXCLUDE, excludes, first_day=44, last_day=45)
        return life.until(46)

    def learned(life: Life, name: str) -> np.ndarray:
        known = life.engine.executor._shards[0]._evergreens._known
        assert known is not None
        return np.asarray(known.log_rows[life.id(name)])

    plain, told = lived(spoilt), lived(spoilt, excludes="s000")
    assert told.engine.lineup().unfit == {0: ((44 * HOURS, 45 * HOURS),)}
    assert plain.engine.lineup().unfit == {}
    assert learned(told, "s000") < learned(plain, "s000") - 15
    assert learned(told, "s001") == learned(plain, "s001")


def test_no_other_order_keeps_evergreen_members_from_learning() -> None:
    life = Life(demand(2, 44), blend(wanted="never")).until(43)
    life.override(OverrideKind.FREEZE, "s000")
    number = life.override(OverrideKind.EXCLUDE, "s001", first_day=42, last_day=43)
    assert life.engine.lineup().unfit == {1: ((42 * HOURS, 43 * HOURS),)}
    life.lift(number)
    assert life.engine.lineup().unfit == {}


# the champion


def test_every_switch_follows_a_batch_in_which_the_newcomer_forecast_and_did_better() -> None:
    life = Life(demand(4, DAYS + 4, breaks_on=BREAK), champion()).until(DAYS + 4)
    n_switches = 0
    for stream in life.store.streams():
        line = life.store.servings(stream_id=stream.id)
        assert line[0].reason is Reason.FIRST_VERSION
        for sooner, later in pairwise(line):
            n_switches += 1
            block = life.history.pool(later.batch)
            assert block is not None
            mine = block.stream_id == stream.id
            loss, recent = (
                {block.members[c]: float(v) for c, v in zip(block.member[mine], values[mine], strict=True)}
                for values in (block.loss, block.recent)
            )
            assert np.isfinite([loss[sooner.version_id], loss[later.version_id]]).all()
            assert recent[later.version_id] < recent[sooner.version_id]
    assert n_switches >= 2
