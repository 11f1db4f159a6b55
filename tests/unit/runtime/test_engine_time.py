"""Forecasts never see their outcomes; tests, references and shards go through the same tick."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mlma.adapters.checkpoints import FileCheckpoints
from mlma.core.decisions import Action, Phase, Reason
from mlma.core.settings import Evergreen, FleetRule, LossName, LossTestName, ReferencePolicy, Serve, Yardstick
from tests.unit.runtime.memory_fleet import ANCHOR, DAY, HOURS, WARM_DAYS, Life, demand, outcome, rows_of, settings_for

FIRST = WARM_DAYS - 1
DAYS, BREAK = 52, 47


def forecasts(life: Life, until_hour: int) -> list[tuple[int, int, float, float, str]]:
    """Everything forecast for the slots before an hour, as it was stored."""
    found = []
    for shard in range(life.n_shards):
        for block in life.history.forecasts(shard, first_slot=0, last_slot=until_hour - 1):
            versions = [block.versions[code] for code in block.version]
            found += list(
                zip(block.stream_id.tolist(), block.slot.tolist(), block.forecast.tolist(), block.naive.tolist(),
                    versions, strict=True)
            )  # fmt: skip
    return sorted(found)


@pytest.mark.parametrize("changed_from", [44 * HOURS, 44 * HOURS + 6, 46 * HOURS + 18])
def test_forecasts_use_nothing_at_or_after_their_origin(changed_from: int) -> None:
    y = demand(3, 49)
    other = y.copy()
    other[:, changed_from:] *= np.random.default_rng(3).uniform(0.2, 5.0, other[:, changed_from:].shape)
    lives = [Life(data, settings_for(wanted="always")).until(49) for data in (y, other)]
    # The origin at the change knows nothing of it, so its whole horizon is as it was.
    horizon_end = changed_from + 6
    one, changed = (forecasts(life, horizon_end) for life in lives)
    assert one == changed
    assert len(one) > 3 * HOURS
    assert forecasts(lives[0], horizon_end + 6) != forecasts(lives[1], horizon_end + 6)


def test_every_slot_after_the_first_version_is_forecast_once() -> None:
    life = Life(demand(3, 48)).until(48)
    slots = [(stream, slot) for stream, slot, *_ in forecasts(life, 48 * HOURS)]
    assert len(slots) == len(set(slots)) == 3 * (48 - WARM_DAYS) * HOURS


def test_a_version_forecasts_from_the_origin_of_its_ledger_line_on() -> None:
    life = Life(demand(3, 48), settings_for(wanted="always")).until(48)
    begins = {serving.version_id: serving.origin for serving in life.store.servings()}
    for _, slot, _, _, version in forecasts(life, 48 * HOURS):
        assert slot >= begins[version]
    assert all(origin == (int(version.split("-")[1]) + 1) * HOURS for version, origin in begins.items())


@cache
def decided_by(n_shards: int) -> dict[str, object]:
    """What a fleet decides whose streams are kept in so many shards."""
    y = demand(5, DAYS, breaks_on=BREAK)
    y[4, : 44 * HOURS] = np.nan
    return outcome(Life(y, settings_for(effect_floor=0.2), n_shards=n_shards).until(DAYS).store)


@pytest.mark.parametrize("n_shards", [2, 3, 5, 8])
def test_shards_decide_as_one_would(n_shards: int) -> None:
    assert decided_by(n_shards) == decided_by(1)


@pytest.mark.parametrize("test", list(LossTestName))
def test_every_loss_test_runs_through_the_loop_and_finds_the_break(test: LossTestName) -> None:
    settings = settings_for(name=test, yardstick=Yardstick.NONE, effect_floor=1.0)
    life = Life(demand(6, DAYS, breaks_on=BREAK), settings).until(DAYS)
    if test is LossTestName.E_PROCESS:  # it has to win its bets first, and a fleet of six lets nobody bet high
        assert all(0.0 <= life.batch(name, BREAK).p_value <= 1.0 for name in ("s000", "s001"))
        assert life.batch("s000", BREAK).p_value < life.batch("s001", BREAK).p_value
        return
    found = {name: life.batch(name, BREAK) for name in ("s000", "s001", "s002", "s003", "s004", "s005")}
    for name in ("s000", "s002", "s004"):
        assert found[name].proposed is Action.RETRAIN, name
        assert found[name].reason in {Reason.ALARM_BOTH, Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED}
    for name in ("s001", "s003", "s005"):
        assert found[name].action is Action.KEEP
        assert 0.0 <= found[name].p_value <= 1.0


@pytest.mark.parametrize("test", [name for name in LossTestName if name is not LossTestName.MODERATED])
def test_a_restart_brings_the_single_losses_back(test: LossTestName) -> None:
    settings = settings_for(name=test)
    straight, stopped = (Life(demand(4, DAYS, breaks_on=BREAK), settings) for _ in range(2))
    straight.until(DAYS)
    stopped.until(BREAK)
    stopped.open()
    stopped.until(DAYS)
    assert outcome(stopped.store) == outcome(straight.store)


@pytest.mark.parametrize("reference", list(ReferencePolicy))
def test_every_reference_policy_runs_through_the_loop(reference: ReferencePolicy) -> None:
    settings = settings_for(reference=reference, reference_size=4, yardstick=Yardstick.NONE, effect_floor=1.0)
    life = Life(demand(4, DAYS, breaks_on=BREAK), settings).until(DAYS)
    assert life.batch("s000", BREAK).proposed is Action.RETRAIN
    sizes = [life.batch("s001", batch).n_reference for batch in range(WARM_DAYS, DAYS)]
    most = {ReferencePolicy.FIXED: 4, ReferencePolicy.POOLED: 4, ReferencePolicy.SLIDING: 2, ReferencePolicy.BEST: 2}
    assert sizes == [min(i, most[reference]) for i in range(len(sizes))]


@pytest.mark.parametrize("rule", list(FleetRule))
@pytest.mark.parametrize("loss", list(LossName))
def test_every_loss_and_fleet_rule_runs_through_the_loop(loss: LossName, rule: FleetRule) -> None:
    life = Life(demand(4, 46), settings_for(loss=loss, fleet=rule, quantile=0.9, effect_floor=1e6)).until(46)
    judged = life.decisions(phase=Phase.BATCH, batch=45)
    assert len(judged) == 4
    assert all(np.isfinite([d.mean_loss, d.p_value, d.effect]).all() for d in judged)


def test_without_an_anchored_reference_only_the_adaptive_one_speaks() -> None:
    settings = settings_for(anchored_size=0, yardstick=Yardstick.NONE, effect_floor=1.0)
    life = Life(demand(4, DAYS, breaks_on=BREAK), settings).until(BREAK + 1)
    assert life.batch("s000", BREAK).reason is Reason.ALARM_ADAPTIVE
    assert np.isnan(life.batch("s000", BREAK).anchored_mean)


@pytest.mark.parametrize("every", [1, 3, 4])
def test_the_calendar_retrains_at_every_kth_batch(every: int) -> None:
    life = Life(demand(2, DAYS), settings_for(wanted=f"calendar:{every}")).until(DAYS)
    trained = [version.batch for version in life.versions("s000")]
    assert trained == list(range(FIRST, DAYS, every))
    assert life.champion("s000") == f"0-{trained[-1]}-0"


def test_cooling_down_holds_the_next_training_of_the_agent_only() -> None:
    life_settings: dict[str, object] = {"cooldown": 3, "promotion_floor": 0.99}  # no challenger ends the alarms
    settings = settings_for(life=life_settings, yardstick=Yardstick.NONE, effect_floor=1.0)
    life = Life(demand(4, DAYS, breaks_on=BREAK), settings).until(DAYS)
    trained = [version.batch for version in life.versions("s000")]
    assert all(later - sooner >= 3 for sooner, later in pairwise(trained))
    held = [str(d.held_by) for d in life.decisions("s000", phase=Phase.BATCH) if d.proposed is Action.RETRAIN]
    assert "cooling_down" in held


@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_restart_from_checkpoints_decides_like_one_from_the_history(tmp_path: Path, n_shards: int) -> None:
    y = demand(5, 64, breaks_on=BREAK)
    plain = Life(y, n_shards=n_shards).until(64)
    kept = Life(y, n_shards=n_shards, checkpoints=FileCheckpoints(tmp_path)).until(50)
    kept.engine.close()
    kept.open()
    kept.until(53).open()  # as after a kill: the checkpoint is three batches old
    kept.until(64)
    assert outcome(kept.store) == outcome(plain.store)


def test_a_checkpoint_of_other_loss_settings_is_not_taken_up(tmp_path: Path) -> None:
    y = demand(3, 52)
    kept, plain = (Life(y, checkpoints=FileCheckpoints(tmp_path / name)) for name in ("kept", "plain"))
    for life in (kept, plain):
        life.until(48)
        life.settings = settings_for(loss=LossName.SQUARED)
    kept.engine.close()
    kept.open()
    plain.open()  # nothing was written down
    assert outcome(kept.until(52).store) == outcome(plain.until(52).store)


def test_a_checkpoint_that_is_ahead_of_the_record_is_not_taken_up(tmp_path: Path) -> None:
    y = demand(3, 52)
    ahead = Life(y, checkpoints=FileCheckpoints(tmp_path)).until(50)
    ahead.engine.close()
    behind = Life(y, checkpoints=FileCheckpoints(tmp_path)).until(52)
    plain = Life(y).until(52)
    assert outcome(behind.store) == outcome(plain.store)


@cache
def as_a_replay(*, ahead: bool) -> tuple[dict[str, object], list[tuple[int, int, float, float, str]]]:
    """What a fleet with a pool of every kind of member decides and forecasts, one tick a day; one stream comes late."""
    y = demand(5, DAYS, breaks_on=BREAK)
    y[3, : 45 * HOURS + 9] = np.nan
    settings = settings_for(wanted="mlma", life={"serve": Serve.BLEND, "proof": False, "evergreen": tuple(Evergreen)})
    life = Life(y, settings)
    for day in range(WARM_DAYS - 1, DAYS):
        life.clock.set(ANCHOR + (day + 1) * DAY)
        life.take(rows_of(y, 0 if day < WARM_DAYS else day * HOURS, (day + 1) * HOURS), path=f"day-{day}")
        life.engine.tick(complete_until=(day + 1) * HOURS, wait=True, ahead=ahead)
    return outcome(life.store), forecasts(life, DAYS * HOURS)


def test_forecasts_that_wait_for_the_next_tick_are_the_same() -> None:
    (early, forecast_early), (late, forecast_late) = as_a_replay(ahead=True), as_a_replay(ahead=False)
    assert forecast_early == forecast_late
    assert early == late
    assert len({version for *_, version in forecast_late}) > 3  # the pool has several members


def test_a_tick_that_does_not_look_ahead_leaves_the_next_batch_to_the_next_one() -> None:
    lives = [Life(demand(2, WARM_DAYS)), Life(demand(2, WARM_DAYS))]
    for life, ahead in zip(lives, (True, False), strict=True):
        life.clock.set(ANCHOR + WARM_DAYS * DAY)
        life.take(rows_of(life.y, 0, WARM_DAYS * HOURS), path="all")
        life.engine.tick(complete_until=WARM_DAYS * HOURS, wait=True, ahead=ahead)
    assert [life.engine.issued_until - life.engine.open_first() for life in lives] == [6, 0]
