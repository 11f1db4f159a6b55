"""What a fleet shows about the skewness of its scores, and what comes of it."""

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.monitor.asymmetry import CALM, FEWEST, LARGEST, PRIOR, Asymmetry


def scores(rng: np.random.Generator, n: int, shape: float = 20.0) -> np.ndarray:
    """Scores with mean 0, variance 1 and the skewness 2 / sqrt(shape)."""
    return (rng.gamma(shape, size=n) - shape) / np.sqrt(shape)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_fleet_that_leans_is_seen(sign: float) -> None:
    rng, found = np.random.default_rng(0), Asymmetry()
    for _ in range(20):
        found.learn(sign * scores(rng, 400), [])
    assert found.skewness == pytest.approx(sign * 2.0 / np.sqrt(20.0), abs=0.08)


def test_a_few_streams_say_nothing_and_little_is_drawn_to_zero() -> None:
    rng, found = np.random.default_rng(0), Asymmetry()
    found.learn(scores(rng, FEWEST - 1), [])
    assert found.skewness == 0.0
    found.learn(np.full(400, 1.3), [])
    assert found.skewness == 0.0
    found.learn(np.concatenate([scores(rng, 40), np.full(30, np.nan)]), [])
    assert found.weight == 40.0
    assert abs(found.skewness) <= abs(found.total / found.weight) * 40.0 / (40.0 + PRIOR)
    found.total = 1e9
    assert found.skewness == LARGEST


def test_streams_that_got_worse_do_not_make_the_fleet_lean() -> None:
    rng, found, blind = np.random.default_rng(0), Asymmetry(), Asymmetry()
    worse = np.arange(400) < 40
    for _ in range(12):
        past = [rng.normal(size=400) + 3.0 * worse for _ in range(3)]
        newest = rng.normal(size=400) + 3.0 * worse
        found.learn(newest, past)
        blind.learn(newest, [])
    assert blind.skewness > 0.2
    assert abs(found.skewness) < 0.1


def test_who_is_calm_is_asked_of_the_past_alone() -> None:
    found, newest = Asymmetry(), np.where(np.arange(100) < 10, 9.0, np.linspace(-1.0, 1.0, 100))
    found.learn(newest, [np.full(100, CALM - 0.1), np.full(100, np.nan)])
    assert found.weight == 100.0
    found = Asymmetry()
    found.learn(newest, [np.full(100, CALM + 0.1)])
    assert found.weight == 0.0


def test_what_was_learned_is_written_down_and_an_older_state_has_none() -> None:
    found, other = Asymmetry(total=3.0, weight=40.0), Asymmetry()
    other.restore(found.arrays())
    assert other == found
    other.restore({})
    assert other == Asymmetry()


def alarms(events: float, *, corrected: bool) -> float:
    """Share of healthy stream-batches with p <= .05, of 0/1 losses."""
    rng, monitor = np.random.default_rng(7), LossMonitor(400, accumulate=True, fleet="none")
    assert monitor.accumulation is not None
    if not corrected:
        monitor.accumulation.asymmetry.learn = lambda score, past: None  # type: ignore[method-assign]
    found = [monitor.update((rng.random((400, 96)) < events).astype(np.float64)).p_value for _ in range(28)]
    late = np.concatenate(found[12:])
    return float(np.mean(late <= 0.05))


def test_rare_events_are_tested_nearer_to_the_level_that_is_promised() -> None:
    before, after = alarms(0.1, corrected=False), alarms(0.1, corrected=True)
    assert before + 0.002 < after < 0.05
