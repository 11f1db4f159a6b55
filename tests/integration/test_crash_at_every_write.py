"""A crash before or after any single write, and then a new engine: the end is that of an undisturbed run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlma.adapters.artifacts import MemoryArtifacts
from mlma.adapters.checkpoints import FileCheckpoints, NoCheckpoints
from mlma.adapters.memory_history import MemoryHistory
from mlma.adapters.store import SqlStore
from mlma.core.decisions import OverrideKind, RequestKind
from mlma.core.settings import Evergreen, GroupSettings, ModelSettings, Serve, Yardstick
from mlma.runtime.control import EngineSettings
from tests.integration.fleet_data import issued
from tests.unit.runtime.memory_fleet import ANCHOR, DAY, HOURS, TINY, Life, demand, outcome, rows_of, settings_for

DAYS = 51
BREAK = 46
SAMPLE = 25
FEW = 3  # of the lives in which everybody serves, which are slower
WRITES = ("record", "append_observations", "append_forecasts", "append_losses", "append_members", "append_pool", "save")
REFITS = ("append_refit", "save_evergreens")  # only where evergreen members serve


class Crash(BaseException):
    """The process ends here: nothing may catch it."""


@dataclass
class Fuse:
    """Counts writes; the ``at``-th one crashes, before or after it has happened."""

    at: int = 0  # 0: never
    after: bool = False
    count: int = 0
    log: list[str] = field(default_factory=list)

    def guard(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            self.log.append(name)
            if self.count == self.at and not self.after:
                raise Crash
            made = write(*args, **kwargs)
            if self.count == self.at:
                raise Crash
            return made

        return guarded


class Guarded:
    """A port whose writes go through a fuse."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._fuse.guard(name, found) if name in (*WRITES, *REFITS) else found


class GuardedArtifacts(Guarded):
    """Artifacts that go through a fuse one by one: some of them may be stored, and others not."""

    def save_all(self, blobs: Sequence[bytes]) -> list[str]:
        return [self.save(blob) for blob in blobs]


def settings_of(serve: Serve) -> EngineSettings:
    """One champion that proves itself, or everybody together."""
    life: dict[str, object] = {"cooldown": 0}
    if serve is Serve.BLEND:
        life |= {"serve": serve, "proof": False, "evergreen": tuple(Evergreen), "pool_size": 3}
        life |= {"groups": (GroupSettings(min_streams=3, rows=300, model=ModelSettings(name=TINY)),)}
    return settings_for(life=life, yardstick=Yardstick.NONE, effect_floor=1.0 if serve is Serve.CHAMPION else 0.05)


def lived(fuse: Fuse, serve: Serve, checkpoints: Path) -> dict[str, object]:
    """A fleet with a break, a freeze, a retraining and a rollback; a crash is followed by a restart."""
    ports = {
        "checkpoints": Guarded(FileCheckpoints(checkpoints), fuse) if serve is Serve.BLEND else NoCheckpoints(),
        "store": Guarded(SqlStore("sqlite://", create=True), fuse),
        "history": Guarded(MemoryHistory(), fuse),
        "artifacts": GuardedArtifacts(MemoryArtifacts(), fuse),
    }
    life: Life | None = None
    ordered: set[int] = set()
    while True:
        try:
            if life is None:
                y = demand(4, DAYS, breaks_on=BREAK)
                life = Life(y, settings_of(serve), n_shards=2, **ports)  # type: ignore[arg-type]
            else:
                life.open()
            live(life, ordered)
        except Crash:
            continue
        return outcome(life.store) | issued(life.history, 2, DAYS)


def live(life: Life, ordered: set[int]) -> None:
    """Go on from what is recorded: files that the store has are not taken again, as in the daemon."""
    taken = {file.path for file in life.store.files()}
    for first, end in ((0, 41), *((day, day + 1) for day in range(41, DAYS))):
        path = f"day-{first:03d}"
        if path in taken and end < DAYS and f"day-{end:03d}" in taken:
            continue
        life.clock.set(max(life.clock.now(), ANCHOR + end * DAY))
        if path not in taken:
            life.engine.take(rows_of(life.y, first * HOURS, end * HOURS), path=path, fingerprint="1")
        order(life, end, ordered)
        life.tick()


def order(life: Life, day: int, ordered: set[int]) -> None:
    """What the engineer asks on some days, once."""
    if day in ordered:
        return
    ordered.add(day)
    if day == BREAK:
        life.override(OverrideKind.FREEZE, "s000")
    elif day == BREAK + 2:
        life.lift(1)
    elif day == BREAK + 3:
        life.request(RequestKind.RETRAIN, "s001")
    elif day == BREAK + 4:
        life.request(RequestKind.ROLLBACK, "s00[02]")


Run = tuple[Serve, dict[str, object], Fuse]


@pytest.fixture(scope="module", params=[Serve.CHAMPION, Serve.BLEND])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    fuse = Fuse()
    return request.param, lived(fuse, request.param, tmp_path_factory.mktemp("undisturbed")), fuse


def test_the_run_has_every_kind_of_write_and_of_decision(undisturbed: Run) -> None:
    serve, found, fuse = undisturbed
    assert set(fuse.log) == {*WRITES, *(REFITS if serve is Serve.BLEND else ())}
    text = "".join(found["decisions"])  # type: ignore[arg-type]
    last = "'joined_pool'" if serve is Serve.BLEND else "'beat_champion'"
    for word in ("'frozen'", "'release'", "'requested'", "'roll_back'", last):
        assert word in text, word


def crashing(n: int, *, after: bool, undisturbed: Run, path: Path) -> None:
    serve, expected, _ = undisturbed
    fuse = Fuse(at=n, after=after)
    found = lived(fuse, serve, path / f"{n}-{after}")
    where = f"{'after' if after else 'before'} write {n}, {fuse.log[n - 1]}"
    assert fuse.count >= n
    for key, value in expected.items():
        assert found[key] == value, f"{key} differ after a crash {where}"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_a_write_changes_nothing(after: bool, undisturbed: Run, tmp_path: Path) -> None:
    serve, _, fuse = undisturbed
    rng = random.Random(7 + after)
    size = SAMPLE // 2 + after if serve is Serve.CHAMPION else FEW
    for n in sorted(rng.sample(range(1, fuse.count + 1), size)):
        crashing(n, after=after, undisturbed=undisturbed, path=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_write_changes_nothing(after: bool, undisturbed: Run, tmp_path: Path) -> None:
    for n in range(1, undisturbed[2].count + 1):
        crashing(n, after=after, undisturbed=undisturbed, path=tmp_path)
