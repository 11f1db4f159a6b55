"""The inline and the Ray executor are one port: the same data gives the same decisions, also when an actor dies."""

import os
import random
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mlma.runtime.engine import Engine
from mlma.runtime.executors import Executor, InlineExecutor
from mlma.runtime.replay import VirtualClock
from tests.integration.fleet_data import ANCHOR, demand, engine_at, issued, outcome, rows_of, settings_for

DAYS, BREAK = 44, 36
QUIET_DAYS = 26  # nothing is forecast yet
TINY = "tests.integration.tiny_model:TinyLeastSquares"
pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray leaves sockets and files of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def lived(path: Path, executor: Executor, model: str, *, quiet_days: int = 1) -> dict[str, object]:
    """Let a fleet live day by day and return everything that was recorded; its first days come in one file."""
    clock = VirtualClock()
    engine = engine_at(path, executor, clock, settings_for(model))
    try:
        drive(engine, clock, quiet_days=quiet_days)
    finally:
        engine.close()
    return everything(engine)


def everything(engine: Engine) -> dict[str, object]:
    """What was recorded of a blend: decisions and versions, forecasts and weights."""
    return outcome(engine.store) | issued(engine.history, 2, DAYS)


def agree(one: dict[str, object], other: dict[str, object]) -> None:
    for key, value in one.items():
        assert value == other[key], key


def drive(
    engine: Engine,
    clock: VirtualClock,
    disturb: Callable[[int], threading.Timer | None] = lambda _: None,
    *,
    quiet_days: int = 1,
) -> None:
    """Let the days pass; what ``disturb`` starts on a day strikes somewhere in its work."""
    y = demand(6, DAYS, breaks_on=BREAK)
    for first, end in ((0, quiet_days), *((day, day + 1) for day in range(quiet_days, DAYS))):
        strike = disturb(first)
        clock.set(ANCHOR + timedelta(days=end))
        engine.take(rows_of(y, first * 24, end * 24), path=f"day-{first}", fingerprint="1")
        engine.tick(wait=True)
        if strike is not None:
            strike.join()


def ray_executor() -> Executor:
    from mlma.runtime.ray_executor import RayExecutor

    return RayExecutor(2, n_workers=2)


@pytest.mark.parametrize("model", [TINY, pytest.param("lightgbm", marks=pytest.mark.slow)])
def test_inline_and_ray_decide_the_same(tmp_path: Path, model: str) -> None:
    inline = lived(tmp_path / "inline", InlineExecutor(2), model, quiet_days=QUIET_DAYS)
    on_ray = lived(tmp_path / "ray", ray_executor(), model, quiet_days=QUIET_DAYS)
    assert len(inline["versions"]) > 6  # the break was found and answered
    assert inline["groups"]
    assert len(inline["forecasts"]) > 6 * 24 * 10  # type: ignore[arg-type]
    agree(on_ray, inline)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_actors_killed_at_random_moments_change_nothing(tmp_path: Path) -> None:
    expected = lived(tmp_path / "inline", InlineExecutor(2), TINY)

    from mlma.runtime.ray_executor import RayExecutor

    executor = RayExecutor(2, n_workers=2)
    clock = VirtualClock()
    engine = engine_at(tmp_path / "ray", executor, clock, settings_for(TINY))
    done, killed = threading.Event(), []
    rng = random.Random(5)

    def kill() -> None:
        while not done.wait(rng.uniform(0.05, 1.0)) and len(killed) < 20:
            for pid in executor.known_pids():
                if rng.random() < 0.7 and pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        drive(engine, clock)
    finally:
        done.set()
        killer.join()
        engine.close()
    assert len(killed) >= 3
    agree(everything(engine), expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_killed_actors_change_nothing(tmp_path: Path) -> None:
    expected = lived(tmp_path / "inline", InlineExecutor(2), TINY)

    from mlma.runtime.ray_executor import RayExecutor

    executor = RayExecutor(2, n_workers=2)
    clock = VirtualClock()
    engine = engine_at(tmp_path / "ray", executor, clock, settings_for(TINY))
    rng, killed = random.Random(5), []
    days = set(rng.sample(range(2, DAYS), 30))

    def kill() -> None:
        alive = [pid for pid in executor.known_pids() if pid not in killed]
        if alive:  # else a killed one has not answered again since
            killed.append(rng.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)

    def strike(day: int) -> threading.Timer | None:
        if day not in days or len(killed) == 20:
            return None
        timer = threading.Timer(rng.uniform(0.0, 0.1), kill)
        timer.start()
        return timer

    try:
        drive(engine, clock, strike)
    finally:
        engine.close()
    assert len(killed) == 20
    agree(everything(engine), expected)
