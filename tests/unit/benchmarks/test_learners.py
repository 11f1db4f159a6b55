"""Learners under policies in miniature: the yardstick is one, and spreads are what they say."""

import doctest

import numpy as np
import pandas as pd
import pytest

from benchmarks import learners
from benchmarks.learners import Learner, Outcome
from benchmarks.storms_scenarios import Scenario

SET = Scenario(name="made", dataset="made", streams=(), first="2001-01-01", last="2001-01-14", window="7d")


def outcome(learner, dataset, **loss):
    by_policy = {name: np.asarray(loss.get(name, loss["rest"])) for name in learners.POLICIES}
    return Outcome(learner=learner, dataset=dataset, loss=by_policy, trainings={"never": 2}, seconds=1.0)


MADE = [
    outcome("LightGBM", "a", rest=[2.0, 4.0], never=[3.0, 8.0]),
    outcome("ridge", "a", rest=[1.0, 4.0]),
    outcome("LightGBM", "b", rest=[10.0, np.nan]),
    outcome("ridge", "b", rest=[20.0, 1.0]),
]


def test_losses_are_relative_to_the_yardstick_stream_by_stream():
    cells = learners.relative(MADE[:2])
    assert cells["LightGBM"]["always"] == 1.0
    assert cells["LightGBM"]["never"] == pytest.approx((1.5 + 2.0) / 2)
    assert cells["ridge"]["never"] == pytest.approx((0.5 + 1.0) / 2)


def test_streams_of_all_sets_weigh_the_same_and_those_without_a_loss_nothing():
    assert learners.relative(MADE)["ridge"]["always"] == pytest.approx((0.5 + 1.0 + 2.0) / 3)


def test_there_is_a_table_for_each_set_and_one_for_all():
    assert [table.row_count for table in learners.tables(MADE)] == [3, 3, 3]
    assert len(learners.tables(MADE[:2])) == 1
    assert set(learners.document(MADE)) == {"a", "b", "all", "trainings"}


def test_spread_is_between_policies_for_a_learner_and_between_learners_for_a_policy():
    made = learners.spreads(learners.relative(MADE[:2]), learners.SINGLE)
    assert made.policies == pytest.approx({"LightGBM": 0.75, "ridge": 0.0})
    assert made.learners["never"] == pytest.approx(1.0)
    assert made.learners["always"] == pytest.approx(0.25)
    assert made.ratio == pytest.approx(np.mean([0.75, 0.0]) / np.mean([1.0, 0.25, 0.25, 0.25]))


def test_a_learner_is_replayed_under_all_policies(monkeypatch):
    monkeypatch.setattr(learners, "POLICIES", ("never", "always"))
    hours = pd.date_range("2001-01-01", "2001-01-14 23:00", freq="h")
    y = 50 + 20 * np.sin(2 * np.pi * hours.hour / 24) + np.random.default_rng(0).normal(0, 1, len(hours))
    rows = pd.DataFrame({"stream": "A", "ts": hours, "y": y})
    made = learners.replayed(rows, SET, Learner(name="ridge", model="ridge"), seed=0)
    assert made.trainings == {"never": 1, "always": 8}
    assert all(loss.shape == (1,) and 0.0 < loss[0] < 20.0 for loss in made.loss.values())


def test_examples_run():
    result = doctest.testmod(learners)
    assert result.attempted
    assert not result.failed
