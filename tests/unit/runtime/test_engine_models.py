"""Models that fail, trainings that fail or are lost: only their stream is touched, it is named, and it heals."""

from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from mlma.core.decisions import Action, EffectStatus, Hold, Phase, Reason, RequestKind, Role
from mlma.core.records import NAIVE
from mlma.core.settings import Yardstick
from mlma.runtime.executors import InlineExecutor
from mlma.runtime.training import TrainingJob, TrainingOutcome, train
from tests.unit.runtime.memory_fleet import HOURS, ODD, WARM_DAYS, Life, demand, outcome, poisoned, settings_for

FIRST = WARM_DAYS - 1
DAYS = 50
SICK = slice(45 * HOURS, 46 * HOURS)
PREDICT = ["raise", "nan", "inf", "some", "short", "wide", "scalar", "text"]


def sick_fleet(mode: str, *, at: str = "predict", days: int = DAYS) -> Life:
    """Four streams; the model of s002 fails while it sees the large values of day 45."""
    y, limit = poisoned(demand(4, days), 2, SICK)
    params = {"mode": mode, "at": at, "above": limit}
    settings = settings_for(ODD, params=params, life={"cooldown": 0}, yardstick=Yardstick.NONE, effect_floor=1e6)
    return Life(y, settings)


@cache
def at_the_end(mode: str, at: str = "predict") -> Life:
    """Such a fleet after its last day; tests only look at it."""
    return sick_fleet(mode, at=at).until(DAYS)


@pytest.mark.parametrize("mode", PREDICT)
def test_a_model_that_fails_is_named_and_naive_serves(mode: str) -> None:
    life = sick_fleet(mode).until(47)
    assert set(life.open_findings("model_failed")) == {"s002"}
    message = life.open_findings("model_failed")["s002"].message
    assert message.startswith(f"2-{FIRST}-0: ")
    assert message.endswith("; seasonal naive serves")
    failed = life.batch("s002", 46)
    assert failed.n == HOURS
    assert (failed.proposed, failed.reason) == (Action.RETRAIN, Reason.MODEL_FAILED)
    if mode != "some":
        assert failed.mean_loss == failed.naive_loss


@pytest.mark.parametrize("mode", PREDICT)
def test_a_model_that_fails_takes_only_itself_out(mode: str) -> None:
    sick, healthy = at_the_end(mode), at_the_end("raise", at="nowhere")
    for name in ("s000", "s001", "s003"):
        one, other = sick.decisions(name, phase=Phase.BATCH), healthy.decisions(name, phase=Phase.BATCH)
        assert [(d.batch, d.n, d.mean_loss, d.action) for d in one] == [
            (d.batch, d.n, d.mean_loss, d.action) for d in other
        ]
    assert {d.reason for d in sick.decisions() if d.stream_id != 2}.isdisjoint({Reason.MODEL_FAILED})


def test_the_finding_of_a_failing_model_closes_when_it_forecasts_again() -> None:
    life = sick_fleet("raise", days=80).until(47)
    first = life.open_findings("model_failed")["s002"]
    life.until(49)
    again = life.open_findings("model_failed")["s002"]
    assert again.first_at == first.first_at
    assert again.count > first.count
    life.until(78)  # the large day has left all lags and levels
    assert not life.open_findings("model_failed")
    assert life.batch("s002", 77).reason is not Reason.MODEL_FAILED


def test_a_failing_champion_is_challenged_and_a_failing_challenger_never_serves() -> None:
    life = at_the_end("nan")
    compared = life.decisions("s002", phase=Phase.PROMOTION)[1:]
    assert compared
    assert {(d.action, d.reason) for d in compared} <= {
        (Action.REJECT, Reason.NOT_BETTER),
        (Action.REJECT, Reason.TRAINING_FAILED),
    }
    assert life.champion("s002") == f"2-{FIRST}-0"


@pytest.mark.parametrize("mode", ["short", "wide", "scalar", "text"])
def test_held_out_forecasts_of_a_wrong_shape_fail_one_training(mode: str) -> None:
    life = at_the_end(mode)
    (last, *_) = reversed(life.decisions("s002", phase=Phase.PROMOTION))
    assert last.reason is Reason.TRAINING_FAILED
    assert last.note.startswith("ModelError: forecasts ")


def test_a_first_version_that_cannot_forecast_leaves_naive_serving_and_is_reported() -> None:
    y = demand(3, DAYS)
    life = Life(y, settings_for(ODD, params={"mode": "inf", "above": -1e9})).until(44)
    assert set(life.open_findings("model_failed")) == {"s000", "s001", "s002"}
    blocks = life.history.forecasts(0, first_slot=43 * HOURS, last_slot=44 * HOURS - 1)
    assert {block.versions[code] for block in blocks for code in block.version.tolist()} == {NAIVE}


def test_a_training_that_fails_leaves_the_champion_and_is_a_finding_until_one_succeeds() -> None:
    y, limit = poisoned(demand(3, 66), 1, SICK)
    settings = settings_for(ODD, params={"at": "fit", "above": limit}, wanted="always")
    life = Life(y, settings).until(47)
    first = life.open_findings("training_failed")["s001"]
    assert first.message == "RuntimeError: this stream cannot be learnt"
    before = life.champion("s001")
    assert before == "1-44-0"
    assert life.champion("s000") == "0-46-0"
    (failed,) = life.decisions("s001", phase=Phase.PROMOTION, batch=46)
    assert (failed.action, failed.reason, failed.note) == (Action.REJECT, Reason.TRAINING_FAILED, first.message)
    life.until(48)
    assert life.open_findings("training_failed")["s001"].count == first.count + 1
    life.until(62)
    assert not life.open_findings("training_failed")
    assert life.champion("s001") == "1-61-0"
    assert {e.status for e in life.store.effects() if e.stream_id == 1} == {EffectStatus.DONE, EffectStatus.FAILED}


def test_a_training_that_fits_but_loses_also_ends_the_finding() -> None:
    y, limit = poisoned(demand(3, 64), 1, SICK)
    life = Life(y, settings_for(ODD, params={"at": "fit", "above": limit}, wanted="always")).until(47)
    assert life.open_findings("training_failed")
    life.settings = settings_for(
        ODD, params={"at": "fit", "above": limit}, wanted="always", life={"proof": True, "promotion_floor": 0.99}
    )
    life.open()
    life.until(63)
    assert life.decisions("s001", phase=Phase.PROMOTION)[-1].reason is Reason.NOT_BETTER
    assert not life.open_findings("training_failed")


# workers that are slow or lost


class SlowExecutor(InlineExecutor):
    """Trainings that finish when a test says so."""

    def __init__(self, n_shards: int = 1) -> None:
        super().__init__(n_shards)
        self.jobs: list[TrainingJob] = []
        self.is_slow = False

    def submit(self, job: TrainingJob) -> None:
        if self.is_slow:
            self.jobs.append(job)
        else:
            super().submit(job)

    def finish(self) -> None:
        for job in self.jobs:
            super().submit(job)
        self.jobs = []


def slow_fleet(deadline: timedelta = timedelta(minutes=30)) -> tuple[Life, SlowExecutor]:
    """A fleet whose s000 and s002 are retrained after batch 46, on a worker that has not answered."""
    executor = SlowExecutor()
    y = demand(4, DAYS, breaks_on=46)
    patience: dict[str, object] = {"cooldown": 0, "training_deadline": deadline}
    life = Life(y, settings_for(life=patience, yardstick=Yardstick.NONE, effect_floor=1.0), executor=executor)
    life.until(46)
    executor.is_slow = True
    life.tick_options = {"wait": False}
    life.until(47)
    assert {job.stream_id for job in executor.jobs} == {0, 2}
    return life, executor


def test_a_training_is_found_finished_on_a_later_tick_with_the_same_result() -> None:
    life, executor = slow_fleet(timedelta(days=9))
    assert {e.status for e in life.store.effects() if e.batch == 46} == {EffectStatus.PENDING}
    life.until(49)  # outcomes go on arriving
    executor.finish()
    executor.is_slow = False
    life.tick_options = {}
    life.until(DAYS)
    at_once = Life(life.y, life.settings).until(DAYS)
    for key in ("versions", "servings"):
        assert outcome(life.store)[key] == outcome(at_once.store)[key], key
    made, wanted = (
        sorted((d.batch, d.phase, d.stream_id, d.action, d.reason, round(d.mean_loss, 9)) for d in one.decisions())
        for one in (life, at_once)
    )
    assert repr(made) == repr(wanted)


def test_a_missed_deadline_orders_again_and_gives_up_after_the_last_attempt() -> None:
    life, executor = slow_fleet()
    deadline = life.settings.life.training_deadline
    for attempt in (1, 2):
        life.clock.set(life.clock.now() + deadline + timedelta(seconds=1))
        life.tick()
        life.later().tick()
        (effect,) = (e for e in life.store.effects(status=EffectStatus.PENDING) if e.stream_id == 0)
        assert effect.attempts == attempt
        assert effect.deadline_at > life.clock.now()
        assert len([job for job in executor.jobs if job.stream_id == 0]) == attempt + 1
    life.clock.set(life.clock.now() + deadline + timedelta(seconds=2))
    life.tick()
    (failed,) = (e for e in life.store.effects(status=EffectStatus.FAILED) if e.stream_id == 0)
    assert failed.attempts == life.settings.life.max_attempts
    assert failed.error.startswith("no outcome by ")
    assert "s000" in life.open_findings("training_failed")
    (given_up,) = life.decisions("s000", phase=Phase.PROMOTION, batch=46)
    assert given_up.reason is Reason.TRAINING_FAILED
    assert life.champion("s000") == f"0-{FIRST}-0"


def test_an_outcome_after_giving_up_changes_nothing() -> None:
    life, executor = slow_fleet()
    for _ in range(3):
        life.clock.set(life.clock.now() + life.settings.life.training_deadline + timedelta(seconds=1))
        life.tick()
        life.later().tick()
    before = outcome(life.store)
    executor.finish()
    life.tick()
    assert outcome(life.store)["versions"] == before["versions"]
    assert life.champion("s000") == f"0-{FIRST}-0"


def test_an_outcome_of_the_first_attempt_counts_when_it_comes_during_the_second() -> None:
    life, executor = slow_fleet()
    life.clock.set(life.clock.now() + life.settings.life.training_deadline + timedelta(seconds=1))
    life.tick()
    life.later().tick()
    executor.jobs = executor.jobs[:2]  # the second attempts are lost
    for _ in range(2):  # the proof, and the fit that may follow it
        executor.finish()
        life.tick()
    assert {e.status for e in life.store.effects() if e.batch == 46} == {EffectStatus.DONE}


def test_no_batch_is_closed_and_no_request_is_doubled_while_a_training_is_under_way() -> None:
    life, _ = slow_fleet()
    life.until(48)
    assert life.store.cursor() == 46
    life.request(RequestKind.RETRAIN, "s000")
    life.tick()
    assert life.decisions("s000", phase=Phase.REQUEST)[0].held_by is Hold.IN_PROGRESS


def test_a_training_is_a_function_of_its_job() -> None:
    life, executor = slow_fleet()
    one, other = (train(executor.jobs[0]) for _ in range(2))
    assert isinstance(one, TrainingOutcome)
    assert one.held_out is not None
    assert other.held_out is not None
    np.testing.assert_array_equal(one.held_out, other.held_out)
    assert (one.key, one.n_rows, one.error) == (other.key, other.n_rows, "")
    assert life.champion("s000")


def test_roles_follow_what_became_of_a_version() -> None:
    life = Life(
        demand(4, 51, breaks_on=46), settings_for(life={"cooldown": 0}, yardstick=Yardstick.NONE, effect_floor=1.0)
    ).until(51)
    roles = {version.id: version.role for version in life.versions("s000")}
    compared = life.decisions("s000", phase=Phase.PROMOTION)
    promoted = [d.version_id for d in compared if d.action is Action.PROMOTE]
    rejected = [d.version_id for d in compared if d.action is Action.REJECT]
    assert len(promoted) > 1
    assert roles == {
        **dict.fromkeys(promoted[:-1], Role.FORMER),
        promoted[-1]: Role.CHAMPION,
        **dict.fromkeys(rejected, Role.REJECTED),
    }
