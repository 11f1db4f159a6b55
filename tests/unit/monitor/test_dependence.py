"""Dependence between batches as a fleet learns it, batch by batch."""

import numpy as np
import pytest

from mlma.core.prediction import INDEPENDENT
from mlma.monitor.dependence import DependenceMemory


def learned(x, *, season=1):
    """Memory after batches of shape (batches, streams), as the monitor feeds it."""
    memory = DependenceMemory(season)
    for n in range(1, len(x) + 1):
        memory.learn(x[max(0, n - 1 - memory.n_batches) : n])
    return memory


def autoregression(seed, n, streams, rho):
    rng = np.random.default_rng(seed)
    x = np.zeros((n + 60, streams))
    for t in range(1, len(x)):
        x[t] = rho * x[t - 1] + np.sqrt(1.0 - rho**2) * rng.standard_normal(streams)
    return x[60:]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7])
def test_a_fleet_learns_how_its_batches_depend_on_each_other(rho):
    assert learned(autoregression(1, 20, 1000, rho)).now.rho == pytest.approx(rho, abs=0.06)


def test_streams_of_any_scale_are_heard_alike():
    x = autoregression(2, 20, 1000, 0.5)
    x[:, ::2] *= np.exp(np.random.default_rng(2).normal(0.0, 1.5, 500))
    assert learned(x).now.rho == pytest.approx(0.5, abs=0.08)


def test_a_single_stream_cannot_claim_dependence():
    assert learned(autoregression(3, 30, 1, 0.9)).now.rho <= 0.6
    assert learned(autoregression(3, 3, 1, 0.9)).now.rho <= 0.05


def test_nothing_is_known_before_the_third_batch():
    assert learned(autoregression(4, 2, 1000, 0.9)).now == INDEPENDENT
    assert learned(autoregression(4, 3, 1000, 0.9)).now.rho > 0.5


def test_a_season_is_learned_after_its_first_repetition():
    rng = np.random.default_rng(5)
    profile = 0.9 * rng.standard_normal((7, 1000))
    x = np.vstack([profile] * 4) + np.sqrt(1.0 - 0.81) * rng.standard_normal((28, 1000))
    assert learned(x[:7], season=7).now.repeats == 0.0
    assert learned(x[:8], season=7).now.repeats == pytest.approx(0.8, abs=0.1)
    late = learned(x, season=7).now
    assert late.repeats == pytest.approx(0.81, abs=0.06)
    assert late.rho <= 0.25
    assert learned(x, season=1).now.repeats == 0.0


def test_what_changed_is_learned_anew():
    x = np.vstack([autoregression(6, 30, 500, 0.0), autoregression(7, 60, 500, 0.7)])
    assert learned(x[:30]).now.rho < 0.1
    assert learned(x).now.rho > 0.55


def test_young_streams_are_used_as_far_as_they_go():
    x = autoregression(8, 12, 1000, 0.5)
    x[:8, 100:] = np.nan  # most were reset four batches ago
    x[11, 50] = np.nan
    memory = DependenceMemory()
    memory.learn(x[-9:])
    assert memory.lagged_weight >= 2 * 899
    assert memory.now.rho == pytest.approx(0.5, abs=0.15)


def test_a_fleet_of_constant_streams_is_independent():
    assert learned(np.ones((10, 50))).now == INDEPENDENT


def test_state_survives():
    one, other = learned(autoregression(9, 15, 300, 0.5), season=7), DependenceMemory(7)
    other.restore(one.arrays())
    assert other == one


def test_every_batch_is_looked_at_until_a_season_has_come_round_and_then_every_fourth():
    memory, x = DependenceMemory(7), autoregression(10, 9, 50, 0.3)
    due = []
    for at in range(24):
        due.append(memory.is_due(at))
        if due[-1]:
            memory.learn(x)
    assert all(due[:12])
    assert [at for at in range(12, 24) if due[at]] == [13, 17, 21]


def test_a_correlation_too_small_to_matter_is_none():
    memory = DependenceMemory(lagged=8.0, lagged_weight=1000.0, looks=20.0)
    assert memory.now == INDEPENDENT
    memory.lagged = 12.0
    assert memory.now.rho == pytest.approx(0.01)
