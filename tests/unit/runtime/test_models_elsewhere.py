"""Versions that are trained elsewhere, and those that forecast there as well: the same life, nothing invented."""

from dataclasses import replace

import numpy as np
import pytest

from mlma.adapters.hooks.making import hook_of
from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Phase, Reason, RejectReason, RequestKind, Role
from mlma.core.hooks import HookKind, HookSettings
from mlma.core.life_table import State
from mlma.core.rows import Rows
from mlma.core.settings import EXTERNAL, AdmissionSettings, Evergreen, Serve
from mlma.runtime.control import EngineSettings
from mlma.runtime.pool_view import StreamPool, stream_pool
from tests.unit.runtime import hook_functions
from tests.unit.runtime.memory_fleet import (
    ANCHOR,
    DAY,
    HOURS,
    TINY,
    WARM_DAYS,
    Life,
    demand,
    outcome,
    rows_of,
    settings_for,
)

FIRST = WARM_DAYS - 1  # the batch after which the first versions come


@pytest.fixture(autouse=True)
def _nobody_asked() -> None:
    hook_functions.ASKED.clear()


def hook(function: str) -> HookSettings:
    return HookSettings(
        kind=HookKind.ENTRY_POINT,
        entry_point=f"tests.unit.runtime.hook_functions:{function}",
        backoff=0 * DAY,
    )


def external(
    wanted: str = "calendar:3", *, serve: Serve = Serve.CHAMPION, wait: int = 1, **life: object
) -> EngineSettings:
    """Settings of a fleet that forecasts elsewhere."""
    made = settings_for(EXTERNAL, wanted=wanted, life={"serve": serve, "recalibrate": False, "proof": False, **life})
    return replace(made, admission=AdmissionSettings(absurd_factor=0.0, forecast_wait=wait))


def forecasts_of(y: np.ndarray, day: int, versions: dict[str, float], n_days: int = 1) -> Rows:
    """Forecasts of some days by versions whose relative errors are given."""
    first, last = day * HOURS, (day + n_days) * HOURS
    parts = [replace(rows_of(y * (1 + error), first, last)) for error in versions.values()]
    n = len(parts[0])
    return replace(
        parts[0],
        stream_code=np.concatenate([part.stream_code for part in parts]),
        time_us=np.concatenate([part.time_us for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        row=np.arange(1, n * len(parts) + 1),
        version_code=np.repeat(np.arange(len(parts)), n),
        version_names=tuple(versions),
        value_column="forecast",
    )


def day_by_day(life: Life, until: int, versions: dict[int, dict[str, float]]) -> Life:
    """Live on; before the outcomes of each day come the forecasts of who forecasts from a day on."""
    life.until(FIRST)
    for day in range(life.day, until):
        now = {
            name: error for first, found in sorted(versions.items()) if first <= day for name, error in found.items()
        }
        if now:
            life.take(forecasts_of(life.y, day, now), path=f"day-{day:03d}-forecasts")
        life.until(day + 1)
    return life


def pool_of(life: Life) -> StreamPool:
    """What `mlma versions s000` shows."""
    return stream_pool(life.store, life.history, life.settings.schedule, life.store.streams()[0], n_shards=1)


# trained elsewhere, forecast here


def test_a_hook_that_trains_the_same_model_on_the_rows_of_the_request_makes_the_same_fleet() -> None:
    y = demand(3, 48)
    here = Life(y, settings_for(TINY, wanted="calendar:2")).until(48)
    elsewhere = Life(y, settings_for(TINY, wanted="calendar:2"), hook=hook_of(hook("tiny"))).until(48)
    assert len(hook_functions.ASKED) == len(elsewhere.store.effects()) > 6
    ours, theirs = outcome(here.store), outcome(elsewhere.store)
    assert ours["versions"] == theirs["versions"]  # byte for byte, by their hashes
    assert ours == theirs


def test_a_request_says_what_is_to_be_learned_from_and_by_when() -> None:
    life = Life(demand(2, 46), settings_for(TINY), hook=hook_of(hook("tiny"))).until(WARM_DAYS)
    request = min(hook_functions.ASKED, key=lambda asked: str(asked["id"]))  # threads ask in any order
    assert (request["id"], request["version"], request["attempt"]) == (f"train-0-{FIRST}-0", f"0-{FIRST}-0", 1)
    assert (request["reason"], request["serving"], request["stream"]) == (
        "no_version",
        None,
        {"name": "s000", "labels": {}},
    )
    window = request["window"]
    assert window["end"] == window["last_origin"] == (ANCHOR + WARM_DAYS * DAY).isoformat()
    assert window["first_target"] == (ANCHOR + (WARM_DAYS - 14) * DAY).isoformat()
    assert window["start"] == ANCHOR.isoformat()
    assert window["values"][-14 * HOURS :] == life.y[0, (WARM_DAYS - 14) * HOURS : WARM_DAYS * HOURS].tolist()


def test_the_price_of_a_training_elsewhere_is_what_the_reply_says() -> None:
    life = Life(demand(1, 46), settings_for(TINY), hook=hook_of(hook("tiny"))).until(WARM_DAYS)
    assert life.versions("s000")[0].fit_cpu_s == 7.5
    assert life.store.effects()[0].cpu_s == 7.5


def test_excluded_and_wild_values_are_missing_in_a_request() -> None:
    y = demand(1, 46)
    y[0, 35 * HOURS] = 1e9
    settings = replace(settings_for(TINY), admission=AdmissionSettings(absurd_factor=0.0))
    life = Life(y, settings, hook=hook_of(hook("tiny")))
    life.until(WARM_DAYS - 1)
    life.override(OverrideKind.EXCLUDE, "s000", first_day=33, last_day=34)
    life.until(WARM_DAYS)
    values = min(hook_functions.ASKED, key=lambda asked: str(asked["id"]))["window"]["values"]
    missing = [at for at, value in enumerate(values) if value is None and at >= 30 * HOURS]
    assert missing == [*range(33 * HOURS, 34 * HOURS), 35 * HOURS]


def test_a_hook_that_fails_is_tried_again_and_then_its_stream_alone_is_named() -> None:
    life = Life(demand(3, 46), external("never", max_attempts=3), hook=hook_of(hook("broken"))).until(WARM_DAYS)
    tries = [request["attempt"] for request in hook_functions.ASKED if request["stream"]["name"] == "s001"]
    assert tries == [1, 2, 3]
    assert len({request["id"] for request in hook_functions.ASKED if request["stream"]["name"] == "s001"}) == 1
    (finding,) = life.open_findings("training_failed").values()
    assert (finding.subject, finding.message, finding.count) == ("s001", "RuntimeError: the GPU is on fire", 3)
    statuses = {effect.stream_id: effect.status for effect in life.store.effects()}
    assert statuses == {0: EffectStatus.DONE, 1: EffectStatus.FAILED, 2: EffectStatus.DONE}


def test_a_failed_training_elsewhere_is_ordered_again_and_its_finding_heals() -> None:
    life = Life(demand(1, 46), external("never", max_attempts=1), hook=hook_of(hook("healing"))).until(WARM_DAYS)
    assert life.open_findings("training_failed")
    life.engine.settings = life.settings = external("never", max_attempts=2)
    life.open()
    life.until(WARM_DAYS + 1)
    assert not life.open_findings("training_failed")
    assert [effect.status for effect in life.store.effects()] == [EffectStatus.FAILED, EffectStatus.DONE]


# forecast elsewhere


def test_a_version_that_forecasts_already_is_adopted_without_asking_for_a_training() -> None:
    life = day_by_day(Life(demand(2, 46), external(), hook=hook_of(hook("named"))), 44, {FIRST: {"prod-1": 0.1}})
    assert hook_functions.ASKED == []
    assert [version.family for version in life.versions("s000")] == ["external:prod-1"]
    judged = life.batch("s000", 43)
    y = life.y[0, 43 * HOURS : 44 * HOURS]
    assert judged.mean_loss == pytest.approx(0.1 * np.abs(y).mean())
    assert judged.n == HOURS


def test_the_new_version_shadows_the_champion_and_serves_once_it_did_better() -> None:
    versions = {FIRST: {"prod-1": 0.1}, 46: {"prod-0-44-0": 0.01, "prod-1-44-0": 0.3}}
    life = day_by_day(Life(demand(2, 50), external(), hook=hook_of(hook("named"))), 48, versions)
    assert {(r["id"], r["serving"], r["reason"]) for r in hook_functions.ASKED if "-44-" in r["id"]} == {
        ("train-0-44-0", "prod-1", "calendar"),
        ("train-1-44-0", "prod-1", "calendar"),
    }
    assert life.champion("s000") == "0-44-0"
    assert life.champion("s001") == f"1-{FIRST}-0"  # the new one is worse
    (promoted,) = life.decisions("s000", action=Action.PROMOTE, phase=Phase.COMPARISON)
    assert (promoted.batch, promoted.reason) == (46, Reason.DID_BETTER)


def test_when_only_the_new_version_goes_on_forecasting_it_serves_after_its_first_batch() -> None:
    life = day_by_day(Life(demand(1, 50), external(), hook=hook_of(hook("named"))), 46, {FIRST: {"prod-1": 0.1}})
    day_by_day(life, 47, {46: {"prod-0-44-0": 0.2}})
    assert life.champion("s000") == "0-44-0"
    day_by_day(life, 48, {46: {"prod-0-44-0": 0.2}})
    y = life.y[0, 47 * HOURS : 48 * HOURS]
    assert life.batch("s000", 47).mean_loss == pytest.approx(0.2 * y.mean())


def test_in_a_blend_what_arrives_takes_part_by_its_losses() -> None:
    settings = external("never", serve=Serve.BLEND)
    life = day_by_day(Life(demand(1, 52), settings, hook=hook_of(hook("named"))), 50, {FIRST: {"prod-1": 0.01}})
    block = life.history.pool(49)
    weights = {
        block.members[code]: weight for code, weight in zip(block.member.tolist(), block.weight.tolist(), strict=True)
    }
    assert weights[f"0-{FIRST}-0"] > 0.9


def test_missing_forecasts_are_not_invented_and_train_nobody() -> None:
    life = Life(demand(1, 50), external("test"), hook=hook_of(hook("named")))
    day_by_day(life, 46, {FIRST: {"prod-1": 0.01}})
    life.until(47)  # nothing was delivered for day 46
    (finding,) = life.open_findings("model_failed").values()
    assert (
        finding.message == f"0-{FIRST}-0: 24 of 24 forecasts of prod-1 had not arrived in time; seasonal naive serves"
    )
    judged = life.batch("s000", 46)
    assert judged.mean_loss == judged.naive_loss
    assert (judged.reason, judged.held_by) == (Reason.ALARM_BOTH, Hold.FORECASTS_MISSING)
    assert hook_functions.ASKED == []
    day_by_day(life, 49, {47: {"prod-1": 0.01}})
    assert not life.open_findings("model_failed")


def test_in_a_blend_missing_forecasts_leave_the_rest_of_the_pool_to_serve_and_train_nobody() -> None:
    settings = external("test", serve=Serve.BLEND, evergreen=(Evergreen.MEDIAN,))
    life = day_by_day(Life(demand(1, 50), settings, hook=hook_of(hook("named"))), 46, {FIRST: {"prod-1": 0.01}})
    life.until(48)
    (finding,) = life.open_findings("model_failed").values()
    assert finding.message.endswith("24 of 24 forecasts of prod-1 had not arrived in time; the rest of the pool serves")
    for batch in (46, 47):
        judged = life.batch("s000", batch)
        assert judged.mean_loss > 0.03 * life.y.mean()  # somebody has forecast, and worse than the one that is missing
        assert judged.held_by is (Hold.FORECASTS_MISSING if judged.proposed is Action.RETRAIN else Hold.NOTHING)
    assert not life.decisions("s000", action=Action.RETRAIN)
    assert hook_functions.ASKED == []


def test_forecasts_that_come_late_or_after_their_outcomes_are_refused_by_name() -> None:
    life = day_by_day(Life(demand(1, 50), external(), hook=hook_of(hook("named"))), 44, {FIRST: {"prod-1": 0.01}})
    life.later(2 * 3600).take(rows_of(life.y, 44 * HOURS, 44 * HOURS + 2), path="two-hours")
    taken = life.take(forecasts_of(life.y, 44, {"prod-1": 0.01}), path="too-late")
    assert (taken.n_rows, taken.n_admitted, taken.n_rejected) == (24, 18, 6)
    refused = {found.reason: found for found in life.store.rejected()}
    assert refused[RejectReason.LOOK_AHEAD].count == 2
    assert refused[RejectReason.LATE].count == 4  # of the same origin, whose first outcome has come
    assert refused[RejectReason.LATE].expected.startswith(
        "2024-02-14T06:00:00Z or later: earlier forecasts are settled"
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"stream_names": ("nobody",)}, RejectReason.UNKNOWN_STREAM),
        ({"y": np.full(24, np.nan)}, RejectReason.NOT_FINITE),
        ({"y": np.full(24, np.inf)}, RejectReason.NOT_FINITE),
        ({"version_names": ("../prod 1",)}, RejectReason.BAD_VERSION),
        ({"version_code": np.full(24, -1)}, RejectReason.BAD_VERSION),
        ({"stream_code": np.full(24, -1)}, RejectReason.BAD_STREAM),
    ],
    ids=["stream", "nan", "inf", "name", "no-name", "no-stream"],
)
def test_forecasts_that_cannot_be_used_are_refused_by_name(changed: dict[str, object], reason: RejectReason) -> None:
    life = Life(demand(1, 50), external(), hook=hook_of(hook("named"))).until(WARM_DAYS)
    taken = life.take(replace(forecasts_of(life.y, WARM_DAYS, {"prod-1": 0.1}), **changed), path="wrong")
    assert (taken.n_admitted, taken.n_rejected) == (0, 24)
    assert {found.reason for found in life.store.rejected() if found.path == "wrong"} == {reason}


def test_of_two_forecasts_of_one_version_and_time_the_first_is_kept() -> None:
    life = Life(demand(1, 50), external(), hook=hook_of(hook("nothing"))).until(WARM_DAYS)
    version = f"0-{FIRST}-0"  # a reply without a name: the version goes by the id that was asked for
    assert life.take(forecasts_of(life.y, WARM_DAYS, {version: 0.1}), path="first").n_admitted == 24
    taken = life.take(forecasts_of(life.y, WARM_DAYS, {version: 0.2, "other": 0.3}), path="second")
    assert (taken.n_admitted, taken.n_rejected) == (24, 24)
    life.until(WARM_DAYS + 1)
    y = life.y[0, WARM_DAYS * HOURS : (WARM_DAYS + 1) * HOURS]
    assert life.batch("s000", WARM_DAYS).mean_loss == pytest.approx(0.1 * y.mean())


def test_a_candidate_whose_forecasts_never_come_is_given_up_at_its_deadline() -> None:
    life = Life(demand(1, 60), external("never"), hook=hook_of(hook("named")))
    day_by_day(life, 44, {FIRST: {"prod-1": 0.1}})
    life.request(RequestKind.RETRAIN, "s000")
    day_by_day(life, 56, {FIRST: {"prod-1": 0.1}})
    (asked,) = hook_functions.ASKED
    (version,) = [version for version in life.versions("s000") if version.id == asked["version"]]
    assert version.role is Role.REJECTED
    (rejected,) = life.decisions("s000", action=Action.REJECT)
    assert (rejected.batch, rejected.reason) == (52, Reason.NOT_BETTER)
    pool = {row.member: row for row in pool_of(life).rows}
    assert pool[version.id].state is State.REJECTED
    assert pool[version.id].came == "requested, in_shadow as prod-0-43-0"
    assert rejected.note == "none of its forecasts has arrived: after 8 batches it is given up (external:prod-0-43-0)"


@pytest.mark.parametrize("serve", [Serve.BLEND, Serve.CHAMPION])
def test_a_version_that_is_not_delivered_any_more_leaves_the_pool_and_a_restart_leaves_it_out(serve: Serve) -> None:
    def lived(*, restarts: bool) -> Life:
        life = Life(demand(1, 60), external("never", serve=serve), hook=hook_of(hook("named")))
        day_by_day(life, 44, {FIRST: {"prod-1": 0.1}})
        life.request(RequestKind.RETRAIN, "s000")
        for day in range(44, 55):
            day_by_day(life, day + 1, {44: {"prod-0-43-0": 0.01}})
            if restarts:
                life.open()
        return life

    life, again = lived(restarts=False), lived(restarts=True)
    assert outcome(again.store) == outcome(life.store)
    for batch in range(FIRST + 1, 55):
        one, other = (found.history.pool(batch) for found in (life, again))
        assert one is not None
        assert other is not None
        assert one.members == other.members
        np.testing.assert_array_equal(one.recent, other.recent)
        assert (f"0-{FIRST}-0" in one.members) == (batch < FIRST + 9)


def test_without_a_hook_an_engineer_brings_a_new_version_in() -> None:
    life = Life(demand(1, 60), external("never"))
    day_by_day(life, 44, {FIRST: {"prod-1": 0.1}})
    life.request(RequestKind.RETRAIN, "s000")
    life.tick()
    (finding,) = life.open_findings("training_failed").values()
    assert finding.message.startswith(
        "no hook is set (model.hook.kind) and forecasts have arrived of prod-1, known already"
    )
    day_by_day(life, 46, {FIRST: {"prod-1": 0.1}, 44: {"prod-2": 0.05}})
    life.request(RequestKind.RETRAIN, "s000")
    day_by_day(life, 48, {FIRST: {"prod-1": 0.1}, 44: {"prod-2": 0.05}})
    assert [version.family for version in life.versions("s000")] == ["external:prod-1", "external:prod-2"]
    assert life.champion("s000") == life.versions("s000")[-1].id
    assert not life.open_findings("training_failed")


def test_a_restart_after_every_day_and_a_backlog_in_one_pass_change_nothing() -> None:
    versions = {FIRST: {"prod-1": 0.1}, 46: {"prod-0-44-0": 0.01}}

    def undisturbed() -> Life:
        return Life(demand(2, 50), external(), n_shards=2, hook=hook_of(hook("named")))

    usual = day_by_day(undisturbed(), 49, versions)
    restarted = undisturbed()
    for day in range(FIRST, 49):
        day_by_day(restarted, day + 1, versions)
        restarted.open()
    at_once = undisturbed().until(FIRST)
    for day in range(FIRST, 49):
        now = {name: error for first, found in versions.items() if first <= day for name, error in found.items()}
        at_once.take(forecasts_of(at_once.y, day, now), path=f"day-{day:03d}-forecasts")
        at_once.clock.set(ANCHOR + (day + 1) * DAY)
        at_once.take(rows_of(at_once.y, day * HOURS, (day + 1) * HOURS), path=f"day-{day:03d}")
    at_once.tick()
    assert outcome(restarted.store) == outcome(usual.store)
    assert outcome(at_once.store) == outcome(usual.store)


def test_a_freeze_keeps_a_hook_from_being_called() -> None:
    life = Life(demand(2, 50), external(), hook=hook_of(hook("named")))
    day_by_day(life, 43, {FIRST: {"prod-1": 0.1}})
    life.override(OverrideKind.FREEZE, "s000")
    day_by_day(life, 47, {FIRST: {"prod-1": 0.1}})
    assert {request["stream"]["name"] for request in hook_functions.ASKED} == {"s001"}
