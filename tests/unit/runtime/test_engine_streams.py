"""Born, dying, gapped, constant, all-zero and too-short streams, late rows and wrong clocks: the rest goes on."""

from dataclasses import asdict

import numpy as np
import pytest

from mlma.core.decisions import Action, Hold, Phase, Reason
from mlma.core.records import NAIVE, Decision
from mlma.core.rows import Rows
from tests.unit.runtime.memory_fleet import (
    ANCHOR,
    DAY,
    EPOCH,
    HOURS,
    WARM_DAYS,
    Life,
    demand,
    outcome,
    rows_of,
    settings_for,
)

FIRST = WARM_DAYS - 1
DAYS = 52


def one_row(stream: str, hour: int, y: float = 100.0) -> Rows:
    start = (ANCHOR - EPOCH) // (DAY / 86_400_000_000)
    return Rows(
        stream_code=np.array([0]), stream_names=(stream,), time_us=np.array([start + hour * 3_600_000_000]),
        y=np.array([y]), row=np.array([1]),
    )  # fmt: skip


def test_a_born_stream_starts_on_naive_and_earns_a_model_when_it_has_rows_enough() -> None:
    y = demand(4, DAYS)
    y[3, : 43 * HOURS] = np.nan
    life = Life(y).until(DAYS)
    assert life.engine.fleet.streams[3].first_slot == 43 * HOURS
    before = [life.batch("s003", batch) for batch in range(43, 49)]
    assert {(d.proposed, d.reason, d.held_by) for d in before} == {
        (Action.TRAIN, Reason.NO_VERSION, Hold.TOO_LITTLE_DATA)
    }
    assert {d.version_id for d in before} == {NAIVE}
    assert life.batch("s003", 44).n == HOURS  # seasonal naive forecasts from the second day on
    assert life.batch("s003", 49).action is Action.TRAIN
    assert life.champion("s003") == "3-49-0"
    assert life.batch("s003", 50).version_id == "3-49-0"


def test_a_birth_changes_no_loss_of_the_others() -> None:
    y = demand(4, DAYS)
    calendar = settings_for(wanted="calendar:3")  # the test itself learns from the whole fleet
    alone = Life(y[:3], calendar).until(DAYS)
    y[3, : 43 * HOURS] = np.nan
    together = Life(y, calendar).until(DAYS)
    for batch in range(FIRST, DAYS):
        for name in ("s000", "s001", "s002"):
            one, other = alone.batch(name, batch), together.batch(name, batch)
            assert (one.n, one.mean_loss, one.naive_loss) == (other.n, other.mean_loss, other.naive_loss)


def test_a_dying_stream_is_a_finding_that_closes_when_it_speaks_again() -> None:
    y = demand(4, DAYS)
    y[1, 45 * HOURS : 49 * HOURS] = np.nan
    life = Life(y).until(46)
    assert not life.open_findings("stream_silent")
    life.until(47)
    first = life.open_findings("stream_silent")["s001"]
    assert first.message == "no observation since 2024-02-14 23:00 UTC"
    life.until(48)
    again = life.open_findings("stream_silent")["s001"]
    assert (again.first_at, again.count) == (first.first_at, 2)
    assert again.last_at > again.first_at
    life.until(50)
    assert not life.open_findings("stream_silent")
    (closed,) = (f for f in life.store.findings(open_only=False) if f.kind == "stream_silent")
    assert closed.closed_at is not None


def test_a_silent_stream_is_not_trained_and_does_not_stop_the_others() -> None:
    y = demand(4, DAYS)
    y[1, 45 * HOURS :] = np.nan
    life = Life(y, settings_for(wanted="always")).until(DAYS)
    for batch in range(46, DAYS):
        silent = life.batch("s001", batch)
        assert (silent.n, silent.action, silent.held_by) == (0, Action.KEEP, Hold.NO_NEW_DATA)
        assert life.batch("s000", batch).action is Action.RETRAIN


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_stream_that_died_long_ago_stays_a_finding(restarts: bool) -> None:
    y = demand(3, 110)
    y[1, 42 * HOURS :] = np.nan
    life = Life(y).until(105)
    if restarts:
        life.open()
    life.until(110)
    assert life.open_findings("stream_silent")["s001"].message == "no observation since 2024-02-11 23:00 UTC"


def test_a_stream_that_never_had_a_value_is_known_and_reported() -> None:
    life = Life(demand(3, DAYS)).until(43)
    life.engine.take(one_row("ghost", 43 * HOURS - 1, float("nan")), path="ghost", fingerprint="1")
    life.until(47)
    assert life.batch("ghost", 45).held_by is Hold.NO_NEW_DATA
    assert life.open_findings("stream_silent")["ghost"].message == "no observation has arrived yet"


def test_a_gapped_stream_is_scored_on_what_arrived() -> None:
    y = demand(4, DAYS)
    y[2, 10::3] = np.nan
    life = Life(y).until(DAYS)
    assert life.champion("s002")
    assert {life.batch("s002", batch).n for batch in range(FIRST + 1, DAYS)} == {16}


def test_a_batch_with_too_few_outcomes_is_not_judged() -> None:
    y = demand(4, DAYS)
    y[2, 46 * HOURS + 5 : 47 * HOURS] = np.nan
    life = Life(y).until(DAYS)
    few = life.batch("s002", 46)
    assert (few.n, few.reason) == (5, Reason.NO_OUTCOMES)
    assert np.isnan(few.mean_loss)
    assert life.batch("s002", 47).n_reference == life.batch("s001", 47).n_reference - 1


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_stream_is_forecast_and_never_alarms(value: float) -> None:
    y = demand(6, DAYS)
    y[2] = value
    life = Life(y).until(DAYS)
    assert life.champion("s002") == f"2-{FIRST}-0"
    alarms = [d for d in life.decisions("s002", phase=Phase.BATCH) if d.proposed is Action.RETRAIN]
    assert not alarms
    assert life.batch("s002", DAYS - 1).mean_loss < 0.01 * max(value, 1.0)


def test_a_too_short_stream_stays_on_naive() -> None:
    y = demand(4, DAYS)
    y[3] = np.nan
    y[3, 48 * HOURS : 50 * HOURS] = 5.0
    life = Life(y).until(DAYS)
    assert life.champion("s003") == ""
    assert {d.held_by for d in life.decisions("s003")} == {Hold.TOO_LITTLE_DATA, Hold.NO_NEW_DATA}


def test_late_rows_are_counted_and_kept_for_training_but_never_scored() -> None:
    y = demand(4, DAYS)
    full = y.copy()
    y[1, 44 * HOURS : 44 * HOURS + 6] = np.nan
    life = Life(y, settings_for(wanted="always")).until(46)
    assert life.batch("s001", 44).n == 18
    trained = life.versions("s001")[-1].n_rows
    losses = life.history.losses(0, first_batch=44, last_batch=44)
    file = life.engine.take(rows_of(full[[1]], 44 * HOURS, 45 * HOURS, names=["s001"]), path="late", fingerprint="1")
    assert (file.n_admitted, file.n_late, file.n_rejected) == (6, 6, 18)
    life.later().tick()
    assert life.batch("s001", 44).n == 18
    np.testing.assert_array_equal(life.history.losses(0, first_batch=44, last_batch=44)[0].y, losses[0].y)
    life.until(47)
    assert life.versions("s001")[-1].n_rows == trained + 6


def test_rows_before_the_kept_window_are_too_old() -> None:
    life = Life(demand(3, DAYS)).until(50)
    file = life.engine.take(one_row("s000", 10 * HOURS), path="old", fingerprint="1")
    assert (file.n_admitted, file.n_rejected) == (0, 1)
    assert life.store.rejected()[-1].reason.value == "too_old"


def test_one_wrong_clock_does_not_close_batches() -> None:
    life = Life(demand(4, DAYS)).until(44)
    before = life.store.cursor()
    life.engine.take(one_row("s002", 400 * HOURS), path="future", fingerprint="1", check_future=False)
    life.later().tick()
    assert life.store.cursor() == before
    life.until(47)
    assert life.store.cursor() == 46
    assert life.batch("s002", 46).n == HOURS


def test_a_clock_in_the_future_is_refused() -> None:
    life = Life(demand(4, DAYS)).until(44)
    file = life.engine.take(one_row("s002", 44 * HOURS + 1), path="future", fingerprint="1")
    assert file.n_rejected == 1
    assert life.store.rejected()[-1].reason.value == "future"


def test_a_dead_stream_does_not_hold_the_fleet() -> None:
    y = demand(5, DAYS)
    y[0, 30 * HOURS :] = np.nan
    y[1, 44 * HOURS :] = np.nan
    life = Life(y).until(DAYS)
    assert life.store.cursor() == DAYS - 1


def test_a_batch_waits_for_the_share_of_the_streams_that_is_asked_for() -> None:
    def cursor(share: float) -> int | None:
        life = Life(demand(4, DAYS), settings_for(admission={"watermark_share": share})).until(44)
        life.clock.set(ANCHOR + 45 * DAY)
        life.engine.take(rows_of(life.y[:2], 44 * HOURS, 45 * HOURS), path="half", fingerprint="1")
        life.tick()
        return life.store.cursor()

    assert (cursor(0.5), cursor(0.75)) == (44, 43)


def test_a_batch_is_held_open_for_late_rows_when_that_is_asked_for() -> None:
    life = Life(demand(4, DAYS), settings_for(admission={"lateness": 6})).until(45)
    assert life.store.cursor() == 43
    life.clock.set(ANCHOR + 46 * DAY)
    life.engine.take(rows_of(life.y, 45 * HOURS, 45 * HOURS + 6), path="quarter", fingerprint="1")
    life.tick()
    assert life.store.cursor() == 44


def test_the_same_file_again_changes_no_decision() -> None:
    once = Life(demand(4, DAYS)).until(DAYS)
    twice = Life(demand(4, DAYS)).until(45)
    file = twice.engine.take(rows_of(twice.y, 44 * HOURS, 45 * HOURS), path="again", fingerprint="1")
    assert (file.n_admitted, file.n_rejected) == (0, 4 * HOURS)
    twice.until(DAYS)
    assert outcome(twice.store)["decisions"] == outcome(once.store)["decisions"]


def test_files_of_many_days_give_the_decisions_of_files_of_one_day() -> None:
    daily, weekly = Life(demand(4, DAYS, breaks_on=46)).until(DAYS), Life(demand(4, DAYS, breaks_on=46)).until(43)
    weekly.clock.set(ANCHOR + DAYS * DAY)
    weekly.engine.take(rows_of(weekly.y, 43 * HOURS, DAYS * HOURS), path="rest", fingerprint="1")
    weekly.tick()
    pairs = zip(*(sorted(life.decisions(), key=_place) for life in (daily, weekly)), strict=True)
    for one, other in pairs:
        assert _plain(one) == _plain(other)  # to the last bit
    assert [v.id for v in daily.store.versions()] == [v.id for v in weekly.store.versions()]


def _place(decision: Decision) -> tuple[object, ...]:
    return decision.batch, decision.phase, decision.stream_id


def _plain(decision: Decision) -> str:
    return repr({**asdict(decision), "decided_at": None, "note": ""})
