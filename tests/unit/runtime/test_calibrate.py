"""Recorded losses become batches or are refused with counts, and advice is made from what was measured."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.decisions import CertificateStatus
from mlma.core.errors import OperationError, SourceError
from mlma.core.records import Certificate
from mlma.core.rows import NO_TIME, Rows
from mlma.core.settings import FleetRule, LossTestName, TestingSettings
from mlma.monitor.calibration_figures import Calibration, Drift, Measured, Power, RuleFigures, Share
from mlma.runtime.calibrate import from_losses, joined
from mlma.runtime.calibration_words import advice, delay_words

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, 6, tzinfo=UTC)
US = timedelta(microseconds=1)


def rows_of(n_streams=2, n_hours=66, **changes):
    hours = np.tile(np.arange(n_hours), n_streams)
    n = len(hours)
    start = (START - datetime(1970, 1, 1, tzinfo=UTC)) // US
    made = Rows(
        stream_code=np.repeat(np.arange(n_streams), n_hours), stream_names=tuple("ABCDEF"[:n_streams]),
        time_us=start + hours * (timedelta(hours=1) // US), y=np.arange(n, dtype=float), row=np.arange(1, n + 1),
        value_column="loss",
    )  # fmt: skip
    return replace(made, **changes)


def test_losses_stand_in_their_batches_in_order_of_time():
    rows = rows_of()
    shuffled = np.random.default_rng(0).permutation(len(rows))
    mixed = replace(rows, stream_code=rows.stream_code[shuffled], time_us=rows.time_us[shuffled], y=rows.y[shuffled])
    for given in (rows, mixed):
        made = from_losses(given, None, DAY)
        assert (made.first, made.last) == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC))
        assert made.history.losses.shape == (2, 3, 24)
        assert made.history.yardsticks.shape == (0, 2, 3, 24)
        np.testing.assert_array_equal(made.history.losses[0, 0, :18], np.arange(18))
        assert np.isnan(made.history.losses[0, 0, 18:]).all()
        np.testing.assert_array_equal(made.history.losses[1, 2], np.arange(66 + 42, 66 + 66))


def test_a_batch_that_the_data_does_not_fill_is_left_out_and_told():
    made = from_losses(rows_of(n_hours=70), None, DAY)
    assert made.history.n_batches == 3
    assert made.notes == ("8 of 140 losses lie outside whole batches and are left out",)


def test_the_yardstick_stands_beside_its_losses():
    rows = rows_of()
    made = from_losses(rows, replace(rows, y=rows.y + 1000.0, value_column="naive_loss"), DAY)
    np.testing.assert_array_equal(made.history.yardsticks[0], made.history.losses + 1000.0)


def test_labels_follow_their_streams():
    made = from_losses(rows_of(labels={"B": {"site": "lhr"}}), None, DAY)
    assert made.history.labels == {"site": ["", "lhr"]}


def test_a_clock_that_went_astray_does_not_stretch_the_batches():
    rows = rows_of()
    wrong = rows.time_us.copy()
    wrong[5] += timedelta(days=20_000) // US
    made = from_losses(replace(rows, time_us=wrong), None, DAY)
    assert made.history.n_batches == 3
    assert made.notes == ("1 of 132 losses lie outside whole batches and are left out",)


def changed(values, at, value):
    made = values.copy()
    made[at] = value
    return made


ROWS = rows_of()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_text": {3: "bad", 9: "x"}}, r"'loss': 2 of 132 rows hold text, first row 4: 'bad'"),
        ({"time_text": {0: "noon"}}, r"'ts': 1 of 132 rows hold no time, first row 1: 'noon'"),
        ({"broken": {2: "a,b,c,d"}}, r"1 of 132 rows cannot be split into columns, first row 3"),
        ({"y": changed(ROWS.y, [4, 5], -2.5)}, r"'loss': 2 of 132 rows hold a negative loss, first row 5: -2.5"),
        ({"y": changed(ROWS.y, 4, np.inf)}, r"'loss': 1 of 132 rows hold an infinite loss, first row 5: inf"),
        ({"y": np.full(132, np.nan)}, r"'loss': none of 132 rows holds a loss"),
        ({"stream_code": changed(ROWS.stream_code, 1, -1)}, r"'stream': 1 of 132 rows hold no stream, first row 2"),
        ({"time_us": changed(ROWS.time_us, 1, NO_TIME)}, r"'ts': 1 of 132 rows hold no time, first row 2"),
    ],
)  # fmt: skip
def test_what_is_no_loss_is_refused_with_its_number(changes, message):
    with pytest.raises(SourceError, match=message):
        from_losses(replace(ROWS, **changes), None, DAY)


def test_no_whole_batch_is_too_little_data():
    with pytest.raises(OperationError, match=r"reach from 2024-01-01 06:00 to 2024-01-03 23:00 UTC, .* of 7d"):
        from_losses(ROWS, None, 7 * DAY)


def test_files_are_joined_by_the_names_of_their_streams():
    first = rows_of(n_streams=2, n_hours=2, y_text={1: "x"})
    second = replace(rows_of(n_streams=2, n_hours=1, time_text={0: "t"}), stream_names=("B", "C"))
    made = joined([first, second])
    assert made.stream_names == ("A", "B", "C")
    assert made.stream_code.tolist() == [0, 0, 1, 1, 1, 2]
    assert made.row.tolist() == [1, 2, 3, 4, 5, 6]
    assert (made.y_text, made.time_text) == ({1: "x"}, {4: "t"})


# advice


def share(value, low=None, high=None):
    return Share(
        share=value, low=value - 0.01 if low is None else low, high=value + 0.01 if high is None else high, n=99
    )


def power(at_once, delay=2.0):
    within = (1, 4, 13)
    return Power(drift=Drift(rise=0.25), within=within, caught=(share(at_once), share(0.8), share(0.9)), delay=delay)


def measured(
    status=CertificateStatus.CERTIFIED, level=0.05, at_once=0.3, batch=DAY, delay=2.0, season=1, name="moderated",
    as_they_are=0.05,
):  # fmt: skip
    settings = TestingSettings(season=season, name=LossTestName(name))
    certificate = Certificate(
        batch=9, test=name, status=status, promised=0.05, level=level, level_low=level - 0.01, level_high=level + 0.01,
        n_healthy=5000, rise=0.25, power=0.3, caught=0.6, delay=2.0, n_degraded=100,
    )  # fmt: skip
    found = power(at_once, delay)
    return Measured(
        settings=settings, batch=batch, n_batches=60, n_streams=20, certificate=certificate, level=share(as_they_are),
        alarms=1.0, incidents=0, chance=found, power=(found,),
        rules=(
            RuleFigures(rule=FleetRule.NONE, mean=1.0, p99=3.0, some=0.6, power=found),
            RuleFigures(rule=FleetRule.BH, mean=0.05, p99=1.0, some=0.04, power=power(0.1)),
        ),
    )  # fmt: skip


def advised(main, **others):
    return advice(Calibration(main=main, n_targets=24, missing=0.0, **others))


def test_advice_on_a_sound_test_has_three_sentences():
    level, batches, rules = advised(measured(), batches=(measured(batch=7 * DAY, at_once=0.78, delay=1.0),))
    assert level == (
        "The test moderated keeps its promise on these losses: false alarms in 5 % of 5,000 sham tests "
        "(95 % interval 4 to 6 %) where 5 % are promised."
    )
    assert batches == (
        "Batches of 1d see a rise of 25 % at once in 30 % of the streams (half of them within 2d); batches of 7d in "
        "78 % (half of them within 7d), so they see more in a batch and not sooner."
    )
    assert rules == (
        "Expect 1 alarms a batch from 20 streams as they are, and 0.05 under the fleet rule bh, which sees a rise of "
        "25 % at once in 10 % of the streams instead of 30 %."
    )


def test_advice_names_the_strongest_test_that_keeps_its_promise():
    failed = {"status": CertificateStatus.FAILED, "level": 0.2, "name": "welch"}
    tests = (measured(**failed), measured(at_once=0.4), measured(at_once=0.35, name="hac_mean"))
    first = advised(measured(**failed), tests=tests)[0]
    assert first.startswith("The test welch would not be armed: false alarms in 20 % of 5,000 sham tests")
    assert first.endswith("; moderated keeps it and sees a rise of 25 % at once in 40 % of the streams.")


def test_advice_says_when_there_is_too_little_to_certify():
    assert advised(measured(status=CertificateStatus.PENDING))[0].startswith("The losses are too few to say whether")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"batch": 2 * DAY, "at_once": 0.9, "delay": 1.0}, "so they see more in a batch and not sooner."),
        ({"batch": DAY, "at_once": 0.305, "delay": 3.0, "season": 7}, "batch that was tried does clearly better."),
        ({"batch": DAY, "at_once": 0.6, "delay": 1.0, "season": 7}, "within 1d), the soonest of those tried."),
        ({"batch": 2 * DAY, "at_once": 0.2, "delay": np.nan}, "batch that was tried does clearly better."),
        ({"batch": DAY, "at_once": 0.9, "delay": 1.0, "status": CertificateStatus.FAILED}, "(half of them within 2d)."),
    ],
)  # fmt: skip
def test_advice_on_batches_follows_from_the_delay(other, words):
    assert advised(measured(), batches=(measured(**other),))[1].endswith(words)


def test_advice_tells_drift_in_the_data():
    said = advised(measured(as_they_are=0.12), batches=(measured(season=7, as_they_are=0.06),))
    assert said[2] == (
        "As they are, the streams are at p <= alpha in 12 % of the tests, beyond the 5 % of healthy ones: their losses "
        "drift or follow a season (testing.season=7: 6 %)."
    )


def test_a_delay_beyond_what_was_followed_is_said_so():
    assert delay_words(power(0.1, delay=float("nan")), measured()) == "> 13 batches (13d)"
    assert delay_words(power(0.1, delay=1.5), measured(batch=7 * DAY)) == "1.5 batches (10.5d)"
