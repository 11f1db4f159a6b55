"""How much more sums of scores vary over a fleet than independent scores would."""

import numpy as np
import pytest

from mlma.monitor.excess import Excess

STREAMS = 1500


def learned(rho=0.0, drifting=0, seed=0):
    rng = np.random.default_rng(seed)
    scores = [rng.standard_normal(STREAMS)]
    for _ in range(29):
        scores.append(rho * scores[-1] + np.sqrt(1.0 - rho**2) * rng.standard_normal(STREAMS))
    for score in scores[15:]:
        score[:drifting] += 1.5
    made = Excess()
    for at in range(8, 31):
        made.learn(scores[at - 8 : at], 0.0, 0)
    return made


def test_independent_scores_are_left_as_they_are():
    assert Excess().shrink == 1.0
    assert learned().shrink > 0.98


def test_scores_that_depend_on_each_other_are_shrunk_by_about_what_their_sums_are_too_wide():
    # eight steps of an autoregression with .3: the sum varies 1.75 times as much
    assert learned(rho=0.3).shrink == pytest.approx(1.75**-0.5, abs=0.06)


def test_a_tenth_of_the_fleet_that_got_worse_hardly_looks_like_dependence():
    assert learned(drifting=STREAMS // 10).shrink > 0.93


def test_few_streams_few_scores_and_scores_without_spread_teach_nothing():
    rng = np.random.default_rng(1)
    made = Excess()
    made.learn(list(rng.standard_normal((8, 20))), 0.0, 0)
    made.learn(list(rng.standard_normal((3, 500))), 0.0, 0)
    made.learn([np.zeros(500)] * 8, 0.0, 0)
    made.learn([np.full(500, np.nan)] * 8, 0.0, 0)
    assert made == Excess()
