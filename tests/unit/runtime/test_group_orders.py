"""Which trainings of groups a batch orders, and what holds them."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from mlma.core import policy
from mlma.core.decisions import EffectStatus, Hold, Reason
from mlma.core.records import GroupTraining, Stream
from mlma.core.settings import GroupSettings, LifeSettings, Serve
from mlma.runtime.groups import Groups, GroupSignals

NOW = datetime(2024, 1, 1, tzinfo=UTC)
N = 6
LIFE = LifeSettings(warmup=0, min_rows=10, serve=Serve.BLEND, cooldown=2)
MLMA = policy.parse("mlma")
CALM = GroupSignals(
    batch=50,
    n_rows=np.full(N, 100),
    frozen=np.zeros(N, dtype=np.bool_),
    has_new=np.ones(N, dtype=np.bool_),
    suspicious=np.zeros(N, dtype=np.bool_),
    scored=np.ones(N, dtype=np.bool_),
    losses=np.ones((N, 1)),
)


def groups(*, trained: int | None = None, debt: float = 0.0, share: float = 0.5, min_streams: int = 2) -> Groups:
    """One group of all six streams, whose model was trained after a batch and carries a share of the blend."""
    made = Groups([GroupSettings(min_streams=min_streams)])
    made.grow([Stream(id=i, name=f"s{i}", first_slot=0) for i in range(N)])
    if trained is not None:
        made.note([training(trained)])
        group = made.each[0]
        sums = group.account.streams.arrays() | {"share_sum": np.full(N, 9 * share), "share_n": np.full(N, 9.0)}
        group.account = replace(group.account, streams=group.account.streams.of(sums), debt=debt)
    return made


def training(batch: int, status: EffectStatus = EffectStatus.DONE) -> GroupTraining:
    return GroupTraining(
        id=f"group:all-{batch}", name="all", batch=batch, reason=Reason.NO_VERSION, status=status, n_streams=N,
        ordered_at=NOW, deadline_at=NOW, origin=24 * (batch + 1),
    )  # fmt: skip


def due(made: Groups, now: GroupSignals = CALM, wanted: str = "mlma") -> tuple[list[str], dict[str, Hold]]:
    orders, held = made.due(now, policy.parse(wanted), LIFE, at=NOW)
    return [str(one.reason) for one in orders], held


def some(*streams: int) -> np.ndarray:
    return np.isin(np.arange(N), streams)


@pytest.mark.parametrize(
    ("now", "hold"),
    [
        (CALM, None),
        (replace(CALM, frozen=some(0, 1, 2, 3, 4)), None),
        (replace(CALM, frozen=some(*range(N))), Hold.FROZEN),
        (replace(CALM, has_new=some(5)), None),
        (replace(CALM, has_new=some()), Hold.NO_NEW_DATA),
        (replace(CALM, suspicious=some(0, 1)), None),
        (replace(CALM, suspicious=some(0, 1, 2)), Hold.SUSPICIOUS_DATA),
        (replace(CALM, n_rows=np.array([100, 100, 100, 9, 9, 9])), None),
        (replace(CALM, n_rows=np.array([100, 100, 9, 9, 9, 9])), Hold.TOO_LITTLE_DATA),
    ],
)
def test_what_holds_a_first_training(now: GroupSignals, hold: Hold | None) -> None:
    assert due(groups(), now) == ((["no_version"], {}) if hold is None else ([], {"all": hold}))


def test_faults_of_the_feed_hold_the_agent_and_not_the_baselines() -> None:
    faulty = replace(CALM, suspicious=some(*range(N)))
    assert due(groups(trained=40), faulty, "always") == (["always"], {})
    assert due(groups(trained=40, debt=1.0), faulty) == ([], {"all": Hold.SUSPICIOUS_DATA})


@pytest.mark.parametrize(
    ("wanted", "trained", "debt", "share", "ordered"),
    [
        ("mlma", 40, 0.31, 0.5, ["debt"]),
        ("mlma", 40, 0.29, 0.5, []),
        ("mlma", 40, 5.0, 0.1, []),
        ("test", 40, 5.0, 0.5, []),
        ("never", 40, 5.0, 0.5, []),
        ("calendar:10", 40, 0.0, 0.5, ["calendar"]),
        ("calendar:10", 41, 5.0, 0.5, []),
        ("always", 49, 0.0, 0.5, ["always"]),
    ],
)
def test_why_a_model_is_trained_again(wanted: str, trained: int, debt: float, share: float, ordered: list[str]) -> None:
    assert due(groups(trained=trained, debt=debt, share=share), wanted=wanted) == (ordered, {})


def test_the_cooldown_holds_the_agent() -> None:
    assert due(groups(trained=49, debt=1.0)) == ([], {"all": Hold.COOLING_DOWN})


def test_a_model_that_forecast_nothing_is_trained_again_whatever_it_carries() -> None:
    silent = replace(CALM, losses=np.full((N, 1), np.nan))
    assert due(groups(trained=40, share=0.0), silent) == (["model_failed"], {})
    assert due(groups(trained=40, share=0.0), replace(silent, scored=some())) == ([], {})  # nothing could be scored


def test_nothing_is_ordered_twice() -> None:
    made = groups()
    orders, _ = made.due(CALM, MLMA, LIFE, at=NOW)
    made.note(orders)
    assert due(made, replace(CALM, batch=51)) == ([], {})


def test_too_small_a_group_is_left_alone() -> None:
    assert due(groups(min_streams=7)) == ([], {})


def test_what_starts_is_paid_and_what_waits_is_not() -> None:
    made = groups(trained=40, debt=1.0)
    waiting = training(50, EffectStatus.WAITING)
    made.note([waiting])
    assert made.each[0].account.debt == 1.0
    made.note([replace(waiting, status=EffectStatus.PENDING)])
    assert made.each[0].account.debt == 0.0
    assert made.each[0].serving == training(40)
    made.note([replace(waiting, status=EffectStatus.FAILED)])
    assert made.each[0].open is None
    assert made.each[0].serving == training(40)


def test_a_budget_makes_it_wait() -> None:
    life = replace(LIFE, budget_cpu_s_per_hour=1.0)
    (order,), _ = groups().due(CALM, MLMA, life, at=NOW)
    assert order.status is EffectStatus.WAITING
