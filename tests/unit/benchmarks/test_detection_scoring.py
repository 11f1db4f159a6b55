"""The scoring of benchmarks.detection cannot be gamed, and says what its docstrings say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import detection_runs, detection_scoring
from benchmarks.detection_contests import contest, line
from benchmarks.detection_detectors import ALWAYS, NEVER, Periodic
from benchmarks.detection_drifts import DRIFTS
from benchmarks.detection_matched import Trial, strictest
from benchmarks.detection_scoring import Knob, false_alarm_rate, first_alarms, match, outcome, paired, score_run

SIZES = detection_runs.RunSizes(streams=40, drifts=3)
WARM_UP = 8


def run_of(period, rng=None):
    """Score of a calendar in the simulated world."""
    drift = detection_runs.schedule(rng or np.random.default_rng(1), SIZES, warm_up=WARM_UP)
    losses = np.ones((SIZES.streams, SIZES.batches, 2))
    alarms = detection_runs.simulate(Periodic(SIZES.streams, period), 1.0, losses, 2.0 * losses, drift, warm_up=WARM_UP)
    return score_run(alarms[:, WARM_UP:], drift[:, WARM_UP:])


class Oracle:
    """Alarms in the third batch of every drift and at no other time."""

    def __init__(self, streams):
        self.seen = np.zeros(streams)

    def update(self, losses):
        self.seen = np.where(losses.mean(axis=1) > 1.5, self.seen + 1, 0)
        return self.seen

    def reset(self, streams):
        self.seen[streams] = 0


def test_one_drift_can_be_found_once_and_every_other_alarm_is_false():
    drift = np.array([[-1, -1, 0, 0, 0, -1, 1, 1, -1, -1]])
    alarms = np.array([[True, False, False, True, True, True, False, False, False, False]])
    score = score_run(alarms, drift)
    assert score.mtd == 2.0  # the batch after the onset
    assert score.mdr == 0.5  # the second drift was missed
    assert score.precision == 0.25
    assert score.mtfa == 5 / 3  # before the onset, again within the drift, after it
    assert score.mtr == pytest.approx(5 / 3 / 2.0 * 0.5)
    assert score.false_per_1000 == 300.0


def test_firing_always_finds_everything_at_once_and_is_worthless():
    score = run_of(ALWAYS)
    assert (score.mdr, score.mtd) == (0.0, 1.0)
    assert score.mtfa < 1.0
    assert score.mtr < 1.0
    assert score.precision < 0.05


def test_firing_never_is_worthless_though_it_raises_no_false_alarm():
    score = run_of(NEVER)
    assert score.false_per_1000 == 0.0
    assert score.mtfa == math.inf
    assert score.mdr == 1.0
    assert score.mtr == 0.0
    assert math.isnan(score.mtd)


@pytest.mark.parametrize("period", [2.0, 5.0, 10.0, 30.0])
def test_a_calendar_looks_as_bad_as_it_is(period):
    drift = detection_runs.schedule(np.random.default_rng(1), SIZES, warm_up=WARM_UP)
    losses = np.ones((SIZES.streams, SIZES.batches, 2))
    alarms = detection_runs.simulate(Oracle(SIZES.streams), 3.0, losses, 2.0 * losses, drift, warm_up=WARM_UP)
    good = score_run(alarms[:, WARM_UP:], drift[:, WARM_UP:])
    calendar = run_of(period)
    assert (good.mdr, good.mtd, good.precision, good.mtr) == (0.0, 3.0, 1.0, math.inf)
    assert calendar.mtr < 10.0
    assert calendar.precision < 0.7


def test_many_drifts_do_not_make_a_calendar_look_better():
    # scorers that count every alarm inside a drift as a hit reward calendars when drifts are many
    few = detection_runs.RunSizes(streams=40, batches=140, drifts=1)
    many = detection_runs.RunSizes(streams=40, batches=140, drifts=5, horizon=10, gap=5)
    scores = []
    for sizes in (few, many):
        drift = detection_runs.schedule(np.random.default_rng(2), sizes, warm_up=WARM_UP)
        losses = np.ones((sizes.streams, sizes.batches, 1))
        alarms = detection_runs.simulate(Periodic(40, 5.0), 1.0, losses, losses, drift, warm_up=WARM_UP)
        scores.append(score_run(alarms[:, WARM_UP:], drift[:, WARM_UP:]))
    assert all(score.mtr < 3.0 for score in scores)
    assert all(score.precision < 0.35 for score in scores)


def test_every_drift_of_a_schedule_has_its_whole_horizon():
    drift = detection_runs.schedule(np.random.default_rng(3), SIZES, warm_up=WARM_UP)
    assert (drift[:, :WARM_UP] == -1).all()
    for number in range(SIZES.drifts):
        assert ((drift == number).sum(axis=1) == SIZES.horizon).all()


def test_an_alarm_mends_the_stream_and_resets_the_detector():
    seen, resets = [], []

    class Once:
        def update(self, losses):
            seen.append(losses[:, 0].copy())
            return losses[:, 0]

        def reset(self, streams):
            resets.append(streams.copy())

    drift = np.full((2, 8), -1)
    drift[:, 3:6] = 0
    losses = np.ones((2, 8, 1))
    worse = losses * np.array([2.0, 1.5])[:, None, None]
    alarms = detection_runs.simulate(Once(), 2.0, losses, worse, drift, warm_up=2)
    assert np.argwhere(alarms).tolist() == [[0, 3]]
    assert np.stack(seen, axis=1)[0].tolist() == [1, 1, 1, 2, 1, 1, 1, 1]  # mended by the alarm
    assert np.stack(seen, axis=1)[1].tolist() == [1, 1, 1, 1.5, 1.5, 1.5, 1, 1]  # mended by the calendar
    assert [r.tolist() for r in resets] == [[True, False], [False, True]]


evidences = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 8)),
    elements=st.sampled_from([-np.inf, 0.0, 0.5, 1.0, 2.0, 3.0, np.inf]),
)


@given(evidence=evidences, budget=st.floats(0.001, 1.0))
def test_the_knob_keeps_the_budget_and_no_more_sensitive_one_does(evidence, budget):
    knob = match(evidence, budget)
    batches = evidence.shape[1]
    assert knob.rate <= budget
    assert false_alarm_rate(first_alarms(evidence, knob.threshold), batches) == pytest.approx(knob.rate)
    highest = np.maximum.accumulate(evidence, axis=1)
    is_off = math.isnan(knob.threshold)
    lower = np.unique(highest[(highest > -np.inf) & ((highest < knob.threshold) | is_off)])
    assert all(false_alarm_rate(first_alarms(evidence, x), batches) > budget for x in lower)


def test_a_stream_that_alarmed_before_the_onset_says_nothing_about_delay():
    found = outcome(np.array([0, 3, 4, 6, 10]), onset=4, horizon=3, batches=10)
    assert found.at_risk.tolist() == [False, False, True, True, True]
    assert found.delay.tolist()[2:] == [1.0, 3.0, 3.0]
    assert found.missed.tolist()[2:] == [False, False, True]


def test_an_alarm_after_a_shock_is_late_and_the_shock_is_missed():
    found = outcome(np.array([4, 5, 10]), onset=4, horizon=1, batches=10)
    assert found.missed.tolist() == [False, True, True]
    assert found.late.tolist() == [False, True, False]


def test_clusters_widen_the_standard_error_of_streams_that_move_together():
    a = np.repeat([1.0, 0.0, 1.0, 0.0], 25)
    apart = paired(a, np.zeros(100), np.arange(100))
    together = paired(a, np.zeros(100), np.repeat(np.arange(4), 25))
    assert apart.mean == together.mean == 0.5
    assert together.error == pytest.approx(np.std([1, 0, 1, 0], ddof=1) / 2.0)
    assert together.error > 5.0 * apart.error


def test_a_single_cluster_has_no_standard_error():
    assert paired(np.ones(3), np.zeros(3), np.zeros(3, dtype=int)).error == math.inf


def trial(name, first, *, horizon=5):
    return Trial(
        detector=name, drift=DRIFTS[0], budget=0.01, knob=Knob(threshold=1.0, rate=0.01), first=np.array(first),
        streams=np.arange(len(first)), batches=9, onset=4, horizon=horizon,
    )  # fmt: skip


class Independent:
    cluster = np.arange(100)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_won", "is_strict"),
    [
        ([4] * 8, [4] * 8, True, False),  # equal
        ([4] * 8, [6] * 8, True, True),  # sooner
        ([6] * 8, [4] * 8, False, False),  # later
        ([4] * 6 + [9] * 2, [6] * 8, False, False),  # sooner on the whole, but misses two
        ([5, 4, 5, 4, 5, 4, 5, 5], [4, 5, 4, 5, 4, 5, 4, 4], True, False),  # within one standard error
    ],
)
def test_a_cell_is_won_with_delay_and_misses_no_worse(ours, theirs, is_won, is_strict):
    result = contest(trial("ours", ours), trial("theirs", theirs), Independent())
    assert (result.is_won, result.is_strictly_won) == (is_won, is_strict)


@pytest.mark.parametrize(
    ("ours", "is_won"),
    [
        ([4] * 4 + [6] * 4, True),  # finds half, and is late with the others
        ([6] * 8, True),  # finds none either
    ],
)
def test_who_is_blind_to_a_shock_does_not_win_by_never_being_late(ours, is_won):
    result = contest(trial("ours", ours, horizon=1), trial("blind", [9] * 8, horizon=1), Independent())
    assert result.first.is_worse
    assert result.is_won is is_won


def test_who_finds_fewer_shocks_loses():
    assert not contest(trial("ours", [9] * 8, horizon=1), trial("x", [4] * 8, horizon=1), Independent()).is_won


def test_streams_that_either_detector_alarmed_early_are_left_out_of_the_pair():
    result = contest(trial("ours", [0, 4, 4, 4]), trial("theirs", [4, 1, 5, 5]), Independent())
    assert result.streams == 2
    assert result.first.mean == -1.0


def test_one_setting_for_all_is_the_strictest_of_them():
    easy = {(0.01, False): Knob(threshold=2.0, rate=0.01), (0.001, False): Knob(threshold=3.0, rate=0.001)}
    hard = {(0.01, False): Knob(threshold=9.0, rate=0.01)}
    assert strictest([easy, hard]) == {(0.01, False): Knob(threshold=9.0, rate=0.01)}


def test_a_detector_that_is_off_in_one_process_is_off_in_all():
    off = {(0.01, False): Knob(threshold=math.nan, rate=0.0)}
    on = {(0.01, False): Knob(threshold=9.0, rate=0.01)}
    assert math.isnan(strictest([on, off])[0.01, False].threshold)


def test_a_shock_has_no_delay_but_late_alarms():
    found = line(trial("x", [4, 5, 9, 4], horizon=1))
    assert math.isnan(found.delay)
    assert (found.missed, found.late) == (0.5, 0.25)


def test_a_run_too_short_for_its_drifts_is_refused():
    with pytest.raises(ValueError, match="too few"):
        detection_runs.schedule(
            np.random.default_rng(0), detection_runs.RunSizes(batches=60, drifts=3), warm_up=WARM_UP
        )


def test_silence_is_below_every_threshold():
    assert first_alarms(np.full((2, 3), detection_scoring.SILENT), -1e300).tolist() == [3, 3]
