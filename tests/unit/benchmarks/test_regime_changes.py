"""The benchmark of streams that change: what is done to them is what their names say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.regime_changes import Case, Change, changed, injected

AT = 24 * 40


def demand(n: int = 24 * 80) -> np.ndarray:
    """Values between 50 and 150 with a daily shape."""
    return 100.0 + 50.0 * np.sin(2.0 * np.pi * np.arange(n) / 24.0)


@pytest.mark.parametrize("change", list(Change))
def test_a_change_leaves_the_other_side_of_its_time_alone(change: Change) -> None:
    y = demand()
    made = changed(y, change, AT, np.random.default_rng(0))
    same = slice(AT, None) if change is Change.WAKES else slice(0, AT)
    np.testing.assert_array_equal(made[same], y[same])
    assert not np.allclose(made, y)


@pytest.mark.parametrize(("change", "times"), [(Change.TIMES_3, 3.0), (Change.BY_3, 1 / 3), (Change.SHAPE, 1.0)])
def test_the_level_after_a_change(change: Change, times: float) -> None:
    made = changed(demand(), change, AT, np.random.default_rng(0))
    assert made[AT + 24 :].mean() == pytest.approx(times * 100.0, rel=0.01)


def test_one_day_lasts_one_day_and_gaps_stay_gaps() -> None:
    y = demand()
    y[AT + 3] = np.nan
    made = changed(y, Change.ONE_DAY, AT, np.random.default_rng(0))
    np.testing.assert_array_equal(made[AT + 24 :], y[AT + 24 :])
    assert np.isnan(made[AT + 3])
    assert np.nanmax(made[AT : AT + 24]) == pytest.approx(10.0, rel=0.01)


def test_every_change_comes_to_as_many_streams(tmp_path: Path) -> None:
    times = pd.date_range("2024-01-01", periods=24 * 80, freq="1h")
    parts = [pd.DataFrame({"stream": f"s{i}", "ts": times, "y": demand()}) for i in range(16)]
    pd.concat(parts).to_parquet(tmp_path / "made.parquet")
    rows = injected(tmp_path, Case(dataset="made", batch="1d", train_window_days=14), 2, seed=0)
    names = rows["stream"].unique()
    assert len(names) == 2 * len(Change)
    assert {name.split("/")[0] for name in names} == {str(change) for change in Change}
