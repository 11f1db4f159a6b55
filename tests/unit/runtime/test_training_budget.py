"""The training budget in whole fleets: nothing beyond it starts, nothing that waits is lost or holds event time."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.cli.status import lines
from mlma.core.commit import Commit
from mlma.core.decisions import EffectStatus, Hold, OverrideKind, Phase, Reason, RequestKind
from mlma.core.records import Effect
from mlma.core.settings import Evergreen, Serve, StreamWeight
from mlma.runtime.executors import InlineExecutor
from mlma.runtime.explain import explain
from mlma.runtime.overview import overview
from mlma.runtime.training import TrainingOutcome
from mlma.runtime.waiting import waiting, waiting_words
from tests.unit.runtime.memory_fleet import HOURS, SCHEDULE, WARM_DAYS, Life, demand, outcome, settings_for

BATCH_S = 24.0
"""CPU seconds of a batch at one CPU second an hour."""


@dataclass
class CostlyExecutor(InlineExecutor):
    """Trainings that cost what a table says, so that runs can be compared."""

    costs: tuple[float, ...] = (10.0,)  # by stream, repeated
    starts: list[tuple[int, int]] = field(default_factory=list)  # (batch, stream)

    def __post_init__(self) -> None:
        super().__init__(1)

    def cost(self, stream_id: int) -> float:
        return self.costs[stream_id % len(self.costs)]

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        found = super().collect(wait=wait)
        self.starts += [(one.key[1], one.key[0]) for one in found]
        return [replace(one, cpu_s=self.cost(one.key[0])) for one in found]


def fleet(
    n_streams: int = 6,
    *,
    rate: float | None = 1.0,
    days: int = WARM_DAYS + 12,
    wanted: str = "always",
    costs: tuple[float, ...] = (10.0,),
    y: np.ndarray | None = None,
    store: object = None,
    **life: object,
) -> Life:
    """A fleet whose trainings have a budget; a day is a batch and earns ``24 * rate`` CPU seconds."""
    made = settings_for(wanted=wanted, life={"cooldown": 0, "budget_cpu_s_per_hour": rate, **life})
    ports = {} if store is None else {"store": store}
    return Life(demand(n_streams, days) if y is None else y, made, executor=CostlyExecutor(costs=costs), **ports)


def spent(life: Life) -> dict[int, float]:
    """CPU seconds of the trainings that started after each batch."""
    found: dict[int, float] = {}
    for effect in life.store.effects():
        if effect.status in (EffectStatus.DONE, EffectStatus.FAILED):
            found[effect.batch] = found.get(effect.batch, 0.0) + (effect.cpu_s or 0.0)
    return found


def effects(life: Life, status: EffectStatus) -> list[Effect]:
    return life.store.effects(status=status)


def test_without_a_budget_every_training_starts_at_once() -> None:
    life = fleet(rate=None).until(WARM_DAYS + 3)
    assert effects(life, EffectStatus.WAITING) == []
    assert all(effect.id.split("-")[2] == str(effect.batch) for effect in life.store.effects())
    assert life.store.bucket() is None


def test_first_versions_wait_for_the_budget_and_event_time_goes_on() -> None:
    life = fleet(rate=0.5, wanted="never").until(WARM_DAYS + 1)  # 12 s a batch, 10 s a training
    assert life.engine.batch == WARM_DAYS
    first = WARM_DAYS - 1
    assert spent(life) == {first: 10.0, first + 1: 10.0}
    assert len(effects(life, EffectStatus.WAITING)) == 4
    assert life.engine.issued_until > SCHEDULE.origin_after(life.engine.batch)  # forecasts of the next batch are out


def test_what_waited_is_trained_on_the_data_at_its_start_under_its_first_name() -> None:
    life = fleet(rate=0.5, wanted="never").until(WARM_DAYS + 6)
    (version,) = life.versions("s003")
    first = WARM_DAYS - 1
    assert version.id == f"3-{first}-0"
    assert version.batch == first + 3
    assert version.trained_at.date() == (SCHEDULE.time_of(SCHEDULE.origin_after(first + 3))).date()
    assert life.champion("s003") == version.id
    assert [s.batch for s in life.store.servings(stream_id=3)] == [first + 3]


def test_the_first_training_of_a_fleet_tells_what_the_others_cost() -> None:
    life = fleet(rate=2.0).until(WARM_DAYS)  # 48 s: four trainings of 10 s, although the first was taken to cost 48
    assert spent(life) == {WARM_DAYS - 1: 40.0}
    assert {effect.expected_cpu_s for effect in effects(life, EffectStatus.DONE)} == {48.0, 10.0}
    bucket = life.store.bucket()
    assert bucket is not None
    assert bucket.saved_s == pytest.approx(8.0)


def test_an_engineers_request_goes_first_and_is_not_ordered_twice() -> None:
    life = fleet(rate=0.5).until(WARM_DAYS + 1)
    life.request(RequestKind.RETRAIN, "s005")
    life.tick()
    assert len([effect for effect in life.store.effects() if effect.stream_id == 5]) == 1
    life.until(WARM_DAYS + 2)
    (asked,) = (effect for effect in life.store.effects() if effect.stream_id == 5)
    assert (asked.status, asked.reason, asked.batch) == (EffectStatus.DONE, Reason.REQUESTED, WARM_DAYS + 1)


def test_what_costs_more_than_can_be_saved_up_is_owed() -> None:
    life = fleet(2, rate=1.0, costs=(60.0,), wanted="never", days=WARM_DAYS + 8).until(WARM_DAYS + 5)
    first = WARM_DAYS - 1
    assert spent(life) == {first: 60.0, first + 3: 60.0}  # 24 - 60, then 24 a batch up to the limit of 24


def test_a_frozen_stream_waits_no_longer() -> None:
    life = fleet(rate=0.5).until(WARM_DAYS + 1)
    life.override(OverrideKind.FREEZE, "s005")
    life.until(WARM_DAYS + 2)
    (gone,) = (effect for effect in life.store.effects() if effect.stream_id == 5)
    assert (gone.status, gone.error) == (EffectStatus.LAPSED, "an override freezes the stream")
    (told,) = life.decisions("s005", phase=Phase.RELEASE)
    assert (told.held_by, told.reason) == (Hold.FROZEN, Reason.NO_VERSION)


def test_a_dead_stream_waits_no_longer() -> None:
    y = demand(6, WARM_DAYS + 8)
    y[5, WARM_DAYS * HOURS :] = np.nan
    life = fleet(rate=0.5, y=y).until(WARM_DAYS + 3)
    (gone,) = (effect for effect in life.store.effects() if effect.stream_id == 5)
    assert gone.status is EffectStatus.LAPSED
    assert life.decisions("s005", phase=Phase.RELEASE)[0].held_by is Hold.NO_NEW_DATA


def test_a_training_whose_reason_went_away_waits_no_longer() -> None:
    y = demand(6, WARM_DAYS + 14)
    storm = slice((WARM_DAYS + 8) * HOURS, (WARM_DAYS + 9) * HOURS)
    y[:, storm] = 3 * y[:, storm][:, ::-1]
    life = fleet(rate=5.0, wanted="test", y=y, serve="latest", proof=False).until(WARM_DAYS + 8)
    assert effects(life, EffectStatus.WAITING) == []
    life.settings = replace(life.settings, life=replace(life.settings.life, budget_cpu_s_per_hour=0.01))
    life.open()
    life.until(WARM_DAYS + 9)
    n_waiting = len(effects(life, EffectStatus.WAITING))
    assert n_waiting > 0
    life.until(WARM_DAYS + 14)
    settled = life.decisions(phase=Phase.RELEASE, held_by=Hold.SETTLED)
    assert len(settled) > 0
    assert len(effects(life, EffectStatus.LAPSED)) == len(settled)


def test_a_training_lapses_at_its_deadline() -> None:
    life = fleet(rate=0.01, budget_patience=2, wanted="always").until(WARM_DAYS + 4)
    lapsed = effects(life, EffectStatus.LAPSED)
    assert {effect.error for effect in lapsed} == {"waited for the budget for 3 batches"}
    assert {d.held_by for d in life.decisions(phase=Phase.RELEASE)} == {Hold.BUDGET}
    life.until(WARM_DAYS + 5)
    again = {effect.stream_id for effect in effects(life, EffectStatus.WAITING)}
    assert {effect.stream_id for effect in lapsed} == again  # still without a version, so it is ordered anew


def test_status_names_who_waits_and_until_when() -> None:
    life = fleet(rate=0.5).until(WARM_DAYS)
    found = waiting(life.store, SCHEDULE)
    now = SCHEDULE.time_of(SCHEDULE.origin_after(life.engine.batch))
    assert [one.name for one in found] == ["s001", "s002", "s003", "s004", "s005"]
    assert found[0].starts_at == now + timedelta(days=1)
    assert (found[0].since, found[0].reason) == (now, Reason.NO_VERSION)
    starts = [one.starts_at for one in found]
    assert starts == sorted(starts, key=str)
    shown = [text for _, text in lines(overview(life.store, SCHEDULE, life.clock.now())) if "waits since" in text]
    first = f"{now + timedelta(days=1):%Y-%m-%d %H:%M}"
    assert shown[0].startswith(f"s001: no_version after batch {life.engine.batch}, waits since {now:%Y-%m-%d %H:%M}")
    assert shown[0].endswith(f", expected to start {first} of event time")
    assert len(shown) == 3  # of five: the others are counted
    facts = {fact.label: fact.text for fact in explain(life.store, None, SCHEDULE, "s001", now=life.clock.now()).facts}
    assert "waits for the budget since" in facts["pending"]
    assert facts["pending"].endswith(f"expected to start {first} of event time")


def test_who_gives_up_before_its_turn_is_told_so() -> None:
    life = fleet(rate=0.01, budget_patience=2, wanted="always").until(WARM_DAYS)
    life.store.set_meta({"budget_patience": "2"})  # as the daemon writes it
    ordered = life.engine.batch
    gives_up = SCHEDULE.time_of(SCHEDULE.origin_after(ordered + 3))
    last = waiting(life.store, SCHEDULE)[-1]
    assert last.starts_at > last.lapses_at == gives_up
    assert waiting_words(last).endswith(f", gives up {gives_up:%Y-%m-%d %H:%M} of event time, before its turn")
    told = explain(life.store, None, SCHEDULE, last.name, now=life.clock.now())
    assert "gives up" in {fact.label: fact.text for fact in told.facts}["pending"]
    life.until(WARM_DAYS + 2)
    assert effects(life, EffectStatus.LAPSED) == []
    life.until(WARM_DAYS + 3)
    assert last.name in {life.store.streams()[effect.stream_id].name for effect in effects(life, EffectStatus.LAPSED)}


def test_the_budget_that_is_taken_away_lets_everything_start() -> None:
    life = fleet(rate=0.5).until(WARM_DAYS)
    life.settings = replace(life.settings, life=replace(life.settings.life, budget_cpu_s_per_hour=None))
    life.open()
    life.tick()
    assert effects(life, EffectStatus.WAITING) == []
    assert len(effects(life, EffectStatus.DONE)) == 6


def with_budget(life: Life, rate: float) -> Life:
    """The same fleet after the engineer has set a budget."""
    life.settings = replace(life.settings, life=replace(life.settings.life, budget_cpu_s_per_hour=rate))
    life.open()
    return life


def in_debt(life: Life, *debt: float) -> None:
    pools = life.engine.pools
    pools.account = replace(pools.account, debt=np.asarray(debt))


def test_the_largest_debt_for_its_cost_is_trained_first() -> None:
    life = with_budget(fleet(4, rate=None, costs=(10.0, 40.0)).until(WARM_DAYS + 1), 2.0)
    in_debt(life, 2.0, 6.0, 4.0, 5.0)  # 40 s each for the second and the last one
    life.until(WARM_DAYS + 2)
    now = life.engine.batch
    assert {e.stream_id for e in effects(life, EffectStatus.DONE) if e.batch == now} == {0, 2}
    assert [one.name for one in waiting(life.store, SCHEDULE)] == ["s001", "s003"]


def test_a_training_pays_the_debt_when_it_starts_and_not_before() -> None:
    life = fleet(4, rate=0.5, wanted="never").until(WARM_DAYS + 1)
    in_debt(life, 2.0, 2.0, 2.0, 2.0)
    life.until(WARM_DAYS + 2)
    (started,) = (e.stream_id for e in effects(life, EffectStatus.DONE) if e.batch == life.engine.batch)
    debt = life.engine.pools.account.debt
    assert (started, debt[started]) == (2, 0.0)
    assert debt[3] > 1.0
    life.open()
    assert life.engine.pools.account.debt.tolist() == debt.tolist()


# properties of whole lives

COSTS = st.lists(st.sampled_from([1.0, 4.0, 10.0, 30.0]), min_size=1, max_size=5).map(tuple)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from([0.2, 0.5, 1.0, 3.0]), burst=st.sampled_from([None, 5.0, 60.0]), costs=COSTS,
    wanted=st.sampled_from(["always", "calendar:3", "test"]), patience=st.sampled_from([1, 4, 13]),
)  # fmt: skip
def test_the_budget_is_never_exceeded_and_nothing_is_lost(
    rate: float, burst: float | None, costs: tuple[float, ...], wanted: str, patience: int
) -> None:
    life = fleet(
        5, rate=rate, costs=costs, wanted=wanted, days=WARM_DAYS + 9, budget_burst_s=burst, budget_patience=patience
    ).until(WARM_DAYS + 9)
    limit = BATCH_S * rate if burst is None else burst
    seconds = spent(life)
    batches = sorted(seconds)
    largest = max(costs)
    for i, first in enumerate(batches):
        for last in batches[i:]:
            used = sum(seconds[batch] for batch in batches if first <= batch <= last)
            # What a training costs beyond what was expected of it is owed, so it counts once.
            assert used <= max(limit, largest) + BATCH_S * rate * (last - first) + largest + 1e-6
    everything = life.store.effects()
    ordered = [d for d in life.decisions(phase=Phase.BATCH) if d.action in ("train", "retrain")]
    assert len(everything) == len(ordered)  # each order is one training
    assert {effect.status for effect in everything} <= {EffectStatus.DONE, EffectStatus.WAITING, EffectStatus.LAPSED}
    assert len({effect.stream_id for effect in effects(life, EffectStatus.WAITING)}) == len(
        effects(life, EffectStatus.WAITING)
    )
    assert all(life.engine.batch - effect.batch <= patience for effect in effects(life, EffectStatus.WAITING))
    done = effects(life, EffectStatus.DONE)
    assert {version.id for version in life.store.versions()} == {effect.id.removeprefix("train-") for effect in done}


class Crash(BaseException):
    """The process ends here: nothing may catch it."""


class CrashingStore:
    """A control store whose ``at``-th commit crashes, before or after it was made."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._inner = SqlStore("sqlite://", create=True)
        self._at = at
        self._after = after
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def record(self, commit: Commit) -> None:
        self.count += 1
        if self.count == self._at and not self._after:
            raise Crash
        self._inner.record(commit)
        if self.count == self._at:
            raise Crash


def crashed(at: int, *, after: bool) -> tuple[dict[str, object], int]:
    """What a fleet with a budget has recorded in the end, and its number of commits."""
    store = CrashingStore(at, after=after)
    life = fleet(4, rate=0.8, costs=(3.0, 7.0, 11.0), days=WARM_DAYS + 4, store=store)
    while life.day < WARM_DAYS + 4:
        day = life.day
        try:
            life.until(day + 1 if day >= WARM_DAYS - 1 else WARM_DAYS - 1)
        except Crash:
            life.open()
            if f"day-{day:03d}" in {file.path for file in store.files()}:
                life.tick()
            else:
                life.day = day
    bucket = store.bucket()
    return {**outcome(store), "bucket": bucket, "starts": sorted(spent(life).items())}, store.count


def test_a_crash_at_any_commit_changes_nothing() -> None:
    expected, n_commits = crashed(0, after=False)
    assert n_commits > 20
    for at in range(3, n_commits, 3):
        found, _ = crashed(at, after=bool(at % 2))
        assert found == expected, f"after a crash at commit {at}"


End = tuple[dict[str, object], object, list[float]]


def ended(wanted: str, restarts: set[int]) -> End:
    """What a fleet with a budget has recorded and owes in the end."""
    life = fleet(5, rate=0.8, costs=(3.0, 7.0, 11.0), wanted=wanted, days=WARM_DAYS + 8, serve="blend", price=0.01)
    for day in range(WARM_DAYS, WARM_DAYS + 9):
        if day - 1 in restarts:
            life.open()
        life.until(day)
    assert isinstance(life.history, MemoryHistory)
    return outcome(life.store), life.store.bucket(), life.engine.pools.account.debt.tolist()


@cache
def ended_undisturbed(wanted: str) -> End:
    return ended(wanted, set())


@settings(max_examples=4, deadline=None, derandomize=True)
@given(restarts=st.sets(st.integers(WARM_DAYS, WARM_DAYS + 7), min_size=1), wanted=st.sampled_from(["always", "mlma"]))
def test_restarts_change_nothing(restarts: set[int], wanted: str) -> None:
    assert ended(wanted, restarts) == ended_undisturbed(wanted)


@pytest.mark.parametrize("heavy", ["s000", "s002"])
def test_of_trainings_that_save_the_same_the_one_of_the_heavier_stream_goes_first(heavy: str) -> None:
    life = fleet(
        3, rate=10.0 / HOURS, wanted="mlma", serve=Serve.CHAMPION, evergreen=(Evergreen.MEDIAN,), price=0.05,
        weights=(StreamWeight(select=heavy, weight=5.0),),
    ).until(WARM_DAYS + 6)  # fmt: skip
    before = len(life.executor.starts)
    life.engine.pools.account = replace(life.engine.pools.account, debt=np.full(3, 2.0))
    life.until(WARM_DAYS + 7)
    assert {f"s{stream:03d}" for _, stream in life.executor.starts[before:]} == {heavy}
    assert heavy not in {f"s{effect.stream_id:03d}" for effect in effects(life, EffectStatus.WAITING)}
    assert len(effects(life, EffectStatus.WAITING)) == 2
