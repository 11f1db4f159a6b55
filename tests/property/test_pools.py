"""Pools of every fleet and engineer: compared before serving alone, always somebody, one history in the ledger."""

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlma.core.decisions import OverrideKind, Reason, RequestKind
from mlma.core.records import NAIVE
from mlma.core.settings import Evergreen, Serve
from mlma.runtime import fleet as fleets
from tests.unit.runtime.memory_fleet import HOURS, ODD, WARM_DAYS, Life, demand, settings_for

FEW = settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
DAYS, BREAK = 48, 44
ORDERED = {Reason.REQUESTED, Reason.FIRST_VERSION}

orders = st.lists(
    st.tuples(
        st.integers(WARM_DAYS, DAYS - 1),
        st.sampled_from(["freeze", "pin", "lift", "retrain", "rollback"]),
        st.sampled_from(["s000", "s001", "s00[02]"]),
    ),
    max_size=6,
)


def lived(
    serve: Serve,
    asked: list[tuple[int, str, str]],
    *,
    seed: int = 1,
    fails_above: float = 1e300,
    wanted: str = "always",
) -> Life:
    """A fleet whose streams change, with trainings after every batch and an engineer."""
    life_settings: dict[str, object] = {
        "serve": serve, "proof": False, "cooldown": 0, "evergreen": tuple(Evergreen), "pool_size": 3,
    }  # fmt: skip
    made = settings_for(ODD, wanted=wanted, params={"mode": "raise", "above": fails_above}, life=life_settings)
    life, numbers = Life(demand(3, DAYS, seed=seed, breaks_on=BREAK), made), []
    for day in range(WARM_DAYS - 1, DAYS):
        life.until(day)
        for _, kind, selection in (order for order in sorted(asked) if order[0] == day):
            life.later()
            if kind == "lift":
                if numbers:
                    life.lift(numbers.pop())
            elif kind in ("retrain", "rollback"):
                life.request(RequestKind(kind), selection)
            else:
                numbers.append(life.override(OverrideKind(kind), selection))
    return life.until(DAYS)


@FEW
@given(orders, st.integers(0, 100))
def test_no_version_comes_to_serve_alone_without_a_comparison_or_an_order(
    asked: list[tuple[int, str, str]], seed: int
) -> None:
    life = lived(Serve.CHAMPION, asked, seed=seed)
    for stream in life.store.streams():
        line = life.store.servings(stream_id=stream.id)
        for sooner, later in pairwise(line):
            if later.reason in ORDERED:
                continue
            assert later.reason is Reason.DID_BETTER
            block = life.history.pool(later.batch)
            assert block is not None
            mine = block.stream_id == stream.id
            names = [block.members[code] for code in block.member[mine]]
            loss, recent = (dict(zip(names, values[mine], strict=True)) for values in (block.loss, block.recent))
            assert np.isfinite(loss[later.version_id])
            if np.isfinite(loss[sooner.version_id]):  # else it could not forecast, and the other stood in
                assert recent[later.version_id] < recent[sooner.version_id]


@FEW
@given(st.sampled_from([Serve.BLEND, Serve.CHAMPION]), orders, st.sampled_from([0.0, 150.0, 400.0, 1e300]))
def test_some_member_can_always_forecast(serve: Serve, asked: list[tuple[int, str, str]], fails_above: float) -> None:
    life = lived(serve, asked, fails_above=fails_above)
    found = {
        (stream, slot): value
        for block in life.history.forecasts(0, first_slot=0, last_slot=DAYS * HOURS - 1)
        for stream, slot, value in zip(block.stream_id.tolist(), block.slot.tolist(), block.forecast, strict=True)
    }
    assert set(found) >= {(i, slot) for i in range(3) for slot in range(WARM_DAYS * HOURS, DAYS * HOURS)}
    assert np.isfinite(list(found.values())).all()


@FEW
@given(st.sampled_from([Serve.BLEND, Serve.CHAMPION]), orders)
def test_the_ledger_replays_to_the_same_serving_history(serve: Serve, asked: list[tuple[int, str, str]]) -> None:
    life = lived(serve, asked)
    replayed, fleet = fleets.load(life.store), life.engine.fleet
    assert replayed.lines == fleet.lines
    np.testing.assert_array_equal(replayed.since, fleet.since)
    for stream in life.store.streams():
        assert replayed.champion(stream.id) == fleet.champion(stream.id)
    if serve is Serve.BLEND:
        return
    for stream in life.store.streams():  # whoever served a target is whom the ledger names at its origin
        line = life.store.servings(stream_id=stream.id)
        origins = [serving.origin for serving in line]
        assert origins == sorted(origins)
        for block in life.history.forecasts(0, first_slot=0, last_slot=DAYS * HOURS - 1):
            mine = block.stream_id == stream.id
            for slot, code in zip(block.slot[mine].tolist(), block.version[mine], strict=True):
                origin = slot // life.settings.schedule.horizon * life.settings.schedule.horizon
                named = line[bisect_right(origins, origin) - 1].version_id
                assert block.versions[code] in {named, NAIVE}


@pytest.mark.parametrize("serve", [Serve.BLEND, Serve.CHAMPION])
def test_the_properties_are_about_lives_in_which_something_happens(serve: Serve) -> None:
    life = lived(serve, [(45, "rollback", "s001"), (46, "freeze", "s000")])
    reasons = {serving.reason for serving in life.store.servings()}
    expected = {Reason.FIRST_VERSION, Reason.DID_BETTER if serve is Serve.CHAMPION else Reason.JOINED_POOL}
    assert reasons >= expected
