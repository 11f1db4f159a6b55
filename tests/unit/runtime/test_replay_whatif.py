"""The what-if tool: a state's own observations under other settings, beside what its daemon did."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mlma import bootstrap
from mlma.core.errors import ConfigError, OperationError
from mlma.runtime.replay import VirtualClock, run
from mlma.runtime.replay_tally import Tally
from tests.unit.runtime.memory_fleet import ANCHOR, HOURS, TINY, demand, names_of, rows_of

DAYS, WINDOW = 44, 14
OVERRIDES = {
    "schedule.horizon": "6h", "schedule.batch": "1d", "schedule.train_window": f"{WINDOW}d",
    "schedule.min_history": "7d", "schedule.warmup": f"{WINDOW}d", "model.name": TINY, "executor.kind": "inline",
    "policy": "never", "testing.yardstick": "none", "life.serve": "champion",
}  # fmt: skip


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tally]:
    """A state whose daemon never retrained, and what a tally counted meanwhile."""
    path = tmp_path_factory.mktemp("lived") / "state"
    state = bootstrap.open_state(path, create=True)
    settings = bootstrap.load_settings(None, {**OVERRIDES, "state.path": str(path)})
    clock = VirtualClock()
    engine = bootstrap.make_engine(state, settings, ANCHOR, clock)
    assert engine is not None
    tally = Tally(name="never", engine=engine)
    engine.observe = tally.observe
    y = demand(3, DAYS, breaks_on=34)
    run(rows_of(y, 0, DAYS * HOURS, names=names_of(y)), [tally], clock=clock)
    engine.close()
    state.close()
    return path, tally


def asked(path: Path, file: Path | None = None, **changed: object) -> bootstrap.WhatIfRequest:
    wanted = {"since": timedelta(days=20), "executor": "inline", "settings": {"model.name": TINY}, **changed}
    return bootstrap.WhatIfRequest(state=path, policy_file=file, **wanted)  # type: ignore[arg-type]


def test_a_what_if_stands_beside_what_was_recorded(lived: tuple[Path, Tally], tmp_path: Path) -> None:
    path, tally = lived
    file = tmp_path / "new.yaml"
    file.write_text("policy: calendar:4\ntesting: {yardstick: none}\nschedule: {min_history: 7d}\n")
    made = bootstrap.run_what_if(asked(path, file)).to_json()
    rows = made["policies"]
    assert list(rows) == ["recorded", "calendar:4"]
    assert made["batches"] == 20
    recorded = rows["recorded"]
    assert recorded["trainings"] == 0
    wanted = tally.losses()[:, -20:].sum() / tally.counts()[:, -20:].sum()
    assert recorded["mean_loss"] == pytest.approx(wanted, rel=1e-4)
    assert rows["calendar:4"]["trainings"] == 3 * (1 + 20 // 4)
    ratio = rows["calendar:4"]["relative_loss_to_recorded"]["mean"]
    assert 0.3 < ratio < 1.0  # every second stream broke, and never was never trained on what came after
    assert made["settings"]["since"] == "20d"


def test_the_state_is_only_read(lived: tuple[Path, Tally]) -> None:
    path, _ = lived
    before = {file: file.read_bytes() for file in sorted(path.rglob("*.parquet"))}
    bootstrap.run_what_if(asked(path, policies=("never",)))
    assert {file: file.read_bytes() for file in sorted(path.rglob("*.parquet"))} == before


def test_the_batches_of_a_what_if_are_the_recorded_ones(lived: tuple[Path, Tally]) -> None:
    path, _ = lived
    report = bootstrap.run_what_if(asked(path, policies=("never",)))
    (tally,) = report.tallies
    schedule = tally.engine.settings.schedule
    first = schedule.time_of(schedule.first_slot(tally.batches[-20]))
    assert first == ANCHOR + timedelta(days=DAYS - 20)
    assert np.count_nonzero(tally.counts().sum(axis=0)) == 20


def test_more_history_than_there_is_begins_where_the_state_can(lived: tuple[Path, Tally]) -> None:
    path, _ = lived
    made = bootstrap.run_what_if(asked(path, policies=("never",), since=timedelta(days=3000))).to_json()
    assert made["batches"] == DAYS - WINDOW


def test_another_event_time_than_the_states_is_refused_by_name(lived: tuple[Path, Tally], tmp_path: Path) -> None:
    path, _ = lived
    file = tmp_path / "new.yaml"
    file.write_text("schedule: {batch: 7d}\n")
    with pytest.raises(ConfigError, match=r"schedule.batch = 7d: the state was made with 1d"):
        bootstrap.run_what_if(asked(path, file))


def test_a_state_without_a_closed_batch_is_refused(tmp_path: Path) -> None:
    bootstrap.open_state(tmp_path / "young", create=True).close()
    with pytest.raises(OperationError, match="holds no observation yet"):
        bootstrap.run_what_if(asked(tmp_path / "young"))
