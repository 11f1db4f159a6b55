"""What must hold for every fleet, every history and every engineer."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlma.core import guards, policy
from mlma.core.blocks import ACTION_CODE, ACTIONS, HOLD_CODE, REASON_CODE, REASONS
from mlma.core.decisions import Action, Hold, OverrideKind, Phase, Reason, RequestKind, Role
from mlma.core.fleet import alarms
from mlma.core.guards import Circumstances, Guarded, guard
from mlma.core.judge import Findings, either, verdict
from mlma.core.policy import Policy, PolicyKind, Proposal, Signals, propose
from mlma.core.promotion import prove
from mlma.core.records import NAIVE
from mlma.core.rows import Rows
from mlma.core.settings import FleetRule, TestingSettings, Yardstick
from mlma.runtime.scoring import BatchScores, gather
from tests.unit.runtime.memory_fleet import HOURS, ODD, WARM_DAYS, Life, demand, outcome, settings_for

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
FEW = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

maybe = st.floats(-5, 5) | st.just(float("nan"))
chance = st.floats(0, 1) | st.just(float("nan"))


ALARMS = {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH}

testings = st.builds(
    TestingSettings,
    fleet=st.sampled_from([rule for rule in FleetRule if rule is not FleetRule.ONLINE]),  # it remembers
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
    effect_floor=st.sampled_from([0.0, 0.05, 1.0]),
)
policies = st.builds(  # those with a memory are decided by what a replay remembers
    Policy,
    kind=st.sampled_from([kind for kind in PolicyKind if kind not in policy.MEMORY_KINDS]),
    every=st.integers(1, 5),
).filter(lambda wanted: not wanted.is_hindsight)


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], bool, TestingSettings, Policy]:
    """Everything that a decision may depend on, of one to twelve streams, with anything missing anywhere."""
    n = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy) -> np.ndarray:  # type: ignore[type-arg]
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    bits = (
        "has_value", "bad", "in_incident", "has_version", "failed", "pays", "frozen", "in_progress", "has_new",
        "suspicious", "backing_off",
    )  # fmt: skip
    now = {name: column(st.booleans()) for name in bits}
    numbers = {"p_adaptive": column(chance), "p_anchored": column(chance), "effect": column(maybe)}
    counts = {"age": column(st.integers(0, 20)), "n_rows": column(st.integers(0, 400))}
    return now | numbers | counts, draw(st.booleans()), draw(testings), draw(policies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the loss test says."""

    p_value: np.ndarray
    alarm: np.ndarray
    reason: np.ndarray


def judged(now: dict[str, np.ndarray], testing: TestingSettings, *, armed: bool) -> Judged:
    """From p-values to alarms, as `LossMonitor` strings it together."""
    usable = now["has_value"] & ~now["bad"]
    p_adaptive, p_anchored = (np.where(usable, now[name], np.nan) for name in ("p_adaptive", "p_anchored"))
    p_value = either(p_adaptive, p_anchored, np.full(len(usable), 0.5))
    ready = np.isfinite(p_value)
    found = Findings(
        p_adaptive=p_adaptive, p_anchored=p_anchored, effect=now["effect"], ready=ready,
        significant=alarms(p_value, ready=ready, alpha=testing.alpha, rule=testing.fleet),
        has_value=now["has_value"], bad=now["bad"], in_incident=now["in_incident"] & ready, armed=armed,
    )  # fmt: skip
    alarm, reason = verdict(found, alpha=testing.alpha, effect_floor=testing.effect_floor)
    return Judged(p_value=p_value, alarm=alarm, reason=reason)


def decide(
    now: dict[str, np.ndarray], armed: bool, testing: TestingSettings, wanted: Policy
) -> tuple[Judged, Proposal, Guarded]:
    """The pure middle of the loop, as `closing` strings it together."""
    made = judged(now, testing, armed=armed)
    signals = Signals(
        alarm=made.alarm, reason=made.reason, has_version=now["has_version"], age=now["age"], failed=now["failed"],
        armed=armed, fallback_every=13, pays=now["pays"],
    )  # fmt: skip
    proposal = propose(wanted, signals)
    circumstances = Circumstances(
        frozen=now["frozen"], in_progress=now["in_progress"], has_new=now["has_new"], n_rows=now["n_rows"],
        suspicious=now["suspicious"], backing_off=now["backing_off"], age=now["age"], min_rows=168, cooldown=2,
    )  # fmt: skip
    return made, proposal, guard(proposal, circumstances)


def arrays(*values: object) -> list[np.ndarray]:
    return [getattr(value, field.name) for value in values for field in fields(value)]  # type: ignore[arg-type]


@EXAMPLES
@given(snapshots())
def test_the_same_snapshot_gives_the_same_decision(snapshot: tuple) -> None:  # type: ignore[type-arg]
    for one, other in zip(arrays(*decide(*snapshot)), arrays(*decide(*snapshot)), strict=True):
        np.testing.assert_array_equal(one, other)


@EXAMPLES
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_streams_never_matters(snapshot: tuple, random) -> None:  # type: ignore[no-untyped-def,type-arg]
    now, *others = snapshot
    order = np.arange(len(now["age"]))
    random.shuffle(order)
    straight = decide(*snapshot)
    mixed = decide({name: value[order] for name, value in now.items()}, *others)
    for one, other in zip(arrays(*straight), arrays(*mixed), strict=True):
        np.testing.assert_allclose(one[order], other, rtol=1e-9, atol=1e-12)


@EXAMPLES
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 1000))
def test_gathering_is_the_inverse_of_sharding(n: int, n_shards: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {field.name: rng.normal(size=n) for field in fields(BatchScores)}
    tables = {name: rng.normal(size=(n, 3)) for name in ("moments", "single")}
    whole = BatchScores(**{**columns, **tables, "stream_id": np.arange(n)})  # type: ignore[arg-type]
    rows = [np.arange(shard, n, n_shards) for shard in range(n_shards)]
    parts = [
        BatchScores(**{field.name: getattr(whole, field.name)[row] for field in fields(BatchScores)}) for row in rows
    ]
    for one, other in zip(arrays(gather(parts[::-1], n)), arrays(whole), strict=True):
        np.testing.assert_array_equal(one, other)


@EXAMPLES
@given(snapshots())
def test_every_action_has_its_reason_and_every_hold_its_proposal(snapshot: tuple) -> None:  # type: ignore[type-arg]
    now, armed, _, wanted = snapshot
    made, proposal, guarded = decide(*snapshot)
    keep = ACTION_CODE[Action.KEEP]
    held = guarded.held_by != HOLD_CODE[Hold.NOTHING]
    np.testing.assert_array_equal(guarded.action, np.where(held, keep, proposal.action))
    assert not (held & (proposal.action == keep)).any()
    for i in range(len(now["age"])):
        reason, action = REASONS[proposal.reason[i]], ACTIONS[proposal.action[i]]
        assert (action is Action.TRAIN) == (not now["has_version"][i]) == (reason is Reason.NO_VERSION)
        if wanted.kind is PolicyKind.TEST and action is Action.RETRAIN:
            assert made.alarm[i] or now["failed"][i] or (not armed and now["age"][i] >= 13)
        if wanted.kind is PolicyKind.MLMA and action is Action.RETRAIN:
            assert now["pays"][i] or now["failed"][i]
            assert (reason is Reason.DEBT) == now["pays"][i]
        if wanted.kind is PolicyKind.NEVER:
            assert action is not Action.RETRAIN


@EXAMPLES
@given(snapshots())
def test_a_frozen_stream_is_never_trained_and_what_was_wanted_is_still_told(snapshot: tuple) -> None:  # type: ignore[type-arg]
    now, *others = snapshot
    _, proposal, guarded = decide({**now, "frozen": np.ones_like(now["frozen"])}, *others)
    _, free, _ = decide({**now, "frozen": np.zeros_like(now["frozen"])}, *others)
    assert (guarded.action == ACTION_CODE[Action.KEEP]).all()
    np.testing.assert_array_equal(proposal.action, free.action)
    np.testing.assert_array_equal(proposal.reason, free.reason)


@EXAMPLES
@given(snapshots())
def test_an_alarm_is_ready_significant_and_large(snapshot: tuple) -> None:  # type: ignore[type-arg]
    now, _, testing, _ = snapshot
    made = judged(now, testing, armed=True)
    alarm = made.alarm
    assert (made.p_value[alarm] <= testing.alpha).all()
    assert (now["effect"][alarm] >= testing.effect_floor).all()
    assert not (alarm & now["bad"]).any()
    assert not (alarm & ~now["has_value"]).any()
    said = np.isin(made.reason, [REASON_CODE[reason] for reason in ALARMS])
    np.testing.assert_array_equal(said, alarm)


@EXAMPLES
@given(snapshots())
def test_a_test_that_is_not_armed_alarms_nowhere_and_says_where_it_would_have(snapshot: tuple) -> None:  # type: ignore[type-arg]
    now, _, testing, _ = snapshot
    armed, disarmed = (judged(now, testing, armed=armed) for armed in (True, False))
    assert not disarmed.alarm.any()
    np.testing.assert_array_equal(disarmed.reason == REASON_CODE[Reason.UNCERTIFIED], armed.alarm)
    np.testing.assert_array_equal(disarmed.reason[~armed.alarm], armed.reason[~armed.alarm])


@EXAMPLES
@given(st.lists(st.tuples(maybe, maybe), max_size=30), st.floats(0, 0.5))
def test_nobody_beats_a_champion_without_being_better(pairs: list[tuple[float, float]], floor: float) -> None:
    losses = np.abs(np.array(pairs, dtype=np.float64).reshape(-1, 2))
    proof = prove(losses[:, 0], losses[:, 1], floor=floor)
    if proof.better:
        assert proof.n
        assert proof.candidate_loss < proof.champion_loss * (1 - floor) + 1e-12
        assert not prove(losses[:, 1], losses[:, 0], floor=floor).better


# whole lives

DAYS = 48
HEALTHY = settings_for(life={"cooldown": 0}, yardstick=Yardstick.NONE, effect_floor=1.0)


@FEW
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_the_order_of_rows_in_a_file_never_matters(seed: int, n_shards: int) -> None:
    rng = np.random.default_rng(seed)
    y = demand(3, DAYS, seed=seed, breaks_on=45)

    def lived(*, shuffled: bool) -> dict[str, object]:
        life = Life(y, HEALTHY, n_shards=n_shards)
        take = life.take

        def shuffle(rows: Rows, *, path: str):  # type: ignore[no-untyped-def]
            order = rng.permutation(len(rows))
            mixed = replace(rows, stream_code=rows.stream_code[order], time_us=rows.time_us[order], y=rows.y[order])
            return take(mixed, path=path)

        if shuffled:
            life.take = shuffle  # type: ignore[method-assign]
        return outcome(life.until(DAYS).store)

    one, other = lived(shuffled=False), lived(shuffled=True)
    one.pop("rejected"), other.pop("rejected")  # which row is named first is its place in the file
    assert one == other


@FEW
@given(st.permutations(range(4)))
def test_the_names_and_order_of_streams_never_matter(order: list[int]) -> None:
    y = demand(4, DAYS, breaks_on=45)
    straight, mixed = Life(y, HEALTHY).until(DAYS), Life(y[order], HEALTHY).until(DAYS)
    for new, old in enumerate(order):
        for one, other in zip(
            straight.decisions(f"s{old:03d}", phase=Phase.BATCH),
            mixed.decisions(f"s{new:03d}", phase=Phase.BATCH),
            strict=True,
        ):
            assert (one.action, one.reason, one.n) == (other.action, other.reason, other.n)
            assert one.mean_loss == pytest.approx(other.mean_loss, rel=1e-9, nan_ok=True)


@st.composite
def engineers(draw: st.DrawFn) -> list[tuple[int, str, str]]:
    """Orders on some days: kind and stream."""
    kinds = ["freeze", "pin", "lift", "retrain", "rollback", "exclude"]
    return draw(
        st.lists(
            st.tuples(
                st.integers(WARM_DAYS, DAYS - 1), st.sampled_from(kinds), st.sampled_from(["s000", "s001", "s00[02]"])
            ),
            max_size=8,
        )
    )


def lived_with(orders: list[tuple[int, str, str]], *, restarts: bool = False) -> Life:
    life = Life(demand(3, DAYS, breaks_on=44), HEALTHY)
    open_ones: list[int] = []
    for day in range(WARM_DAYS - 1, DAYS):
        life.until(day)
        for _, kind, selection in (order for order in sorted(orders) if order[0] == day):
            life.later()
            if kind == "lift":
                if open_ones:
                    life.lift(open_ones.pop())
            elif kind in ("retrain", "rollback"):
                life.request(RequestKind(kind), selection)
            else:
                made = life.override(OverrideKind(kind), selection, first_day=43, last_day=45)
                if kind != "exclude":
                    open_ones.append(made)
        if restarts:
            life.open()
    return life.until(DAYS)


@settings(FEW, max_examples=8)
@given(engineers())
def test_no_version_serves_beside_a_champion_without_a_proof_or_an_order(orders: list[tuple[int, str, str]]) -> None:
    life = lived_with(orders)
    for stream in life.store.streams():
        line = life.store.servings(stream_id=stream.id)
        compared = {d.version_id: d for d in life.decisions(stream.name, phase=Phase.PROMOTION)}
        for serving in line[1:]:
            assert serving.reason in {Reason.BEAT_CHAMPION, Reason.REQUESTED}
            if serving.reason is Reason.BEAT_CHAMPION:
                proof = compared[serving.version_id]
                assert proof.n > 0
                assert proof.mean_loss < proof.adaptive_mean
        champions = [v.id for v in life.versions(stream.name) if v.role is Role.CHAMPION]
        assert champions == [line[-1].version_id]
    assert not life.store.requests(open_only=True) or max(order[0] for order in orders) == DAYS - 1


@settings(FEW, max_examples=8)
@given(engineers())
def test_what_is_frozen_does_not_change(orders: list[tuple[int, str, str]]) -> None:
    life = Life(demand(3, DAYS, breaks_on=44), HEALTHY).until(43)
    life.override(OverrideKind.FREEZE, "s00[02]")
    before = (life.versions("s000"), life.store.servings(stream_id=0))
    for day in range(43, DAYS):
        for _, kind, selection in (order for order in orders if order[0] == day):
            if kind in ("retrain", "rollback"):
                life.request(RequestKind(kind), selection)
            elif kind == "pin":
                life.override(OverrideKind.PIN, selection)
        life.until(day + 1)
    assert (life.versions("s000"), life.store.servings(stream_id=0)) == before
    assert life.batch("s000", DAYS - 1).n == HOURS


@settings(FEW, max_examples=6)
@given(engineers())
def test_restarts_change_nothing_whatever_the_engineer_does(orders: list[tuple[int, str, str]]) -> None:
    assert outcome(lived_with(orders, restarts=True).store) == outcome(lived_with(orders).store)


@FEW
@given(st.integers(0, 10_000), st.sampled_from(["raise", "nan", "inf", "some", "short", "wide", "scalar", "text"]))
def test_a_forecast_always_exists_and_a_failing_model_takes_only_itself_out(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    y = demand(4, DAYS, seed=seed)
    y[:, 35 * HOURS :] = np.where(rng.random(y[:, 35 * HOURS :].shape) < 0.2, np.nan, y[:, 35 * HOURS :])
    poisoned = y.copy()
    poisoned[2, 44 * HOURS :: 5] = -9.0
    lives = [Life(data, settings_for(ODD, params={"mode": mode, "below": -1.0})).until(DAYS) for data in (y, poisoned)]
    for life in lives:
        blocks = life.history.forecasts(0, first_slot=WARM_DAYS * HOURS, last_slot=DAYS * HOURS - 1)
        assert (
            sum(len(block) if hasattr(block, "__len__") else len(block.slot) for block in blocks)
            == 4 * (DAYS - WARM_DAYS) * HOURS
        )
        assert all(np.isfinite(block.forecast).all() for block in blocks)
    assert set(lives[1].open_findings("model_failed")) == {"s002"}
    assert not lives[0].open_findings("model_failed")
    for name in ("s000", "s001", "s003"):
        for one, other in zip(*(life.decisions(name, phase=Phase.BATCH) for life in lives), strict=True):
            assert (one.n, one.naive_loss) == pytest.approx((other.n, other.naive_loss), nan_ok=True)
            assert one.mean_loss == pytest.approx(other.mean_loss, nan_ok=True) or one.version_id != other.version_id


@FEW
@given(st.integers(1, 60))
def test_a_stream_with_any_history_has_a_forecast(hours: int) -> None:
    y = demand(3, 46)
    y[1] = np.nan
    y[1, 43 * HOURS - hours : 43 * HOURS] = 5.0
    life = Life(y).until(44)
    blocks = life.history.forecasts(0, first_slot=43 * HOURS, last_slot=44 * HOURS - 1)
    mine = [
        (slot, value, block.versions[code])
        for block in blocks
        for stream, slot, value, code in zip(block.stream_id, block.slot, block.forecast, block.version, strict=True)
        if stream == life.id("s001")
    ]
    assert {slot for slot, *_ in mine} >= set(range(43 * HOURS, 44 * HOURS))
    assert {(value, version) for _, value, version in mine} == {(5.0, NAIVE)}


def test_the_modules_under_test_are_those_of_the_loop() -> None:
    from mlma.runtime import closing

    assert closing.guards is guards
    assert closing.policy is policy
