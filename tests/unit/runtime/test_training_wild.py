"""A training does not learn from values that are wild in its window."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.schedule import Schedule
from mlma.core.settings import ModelSettings
from mlma.models.features import Features
from mlma.runtime.training import TrainingJob, train

SCHEDULE = Schedule(
    anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=24, batch=24, train_window=21 * 24
)


def job(y: np.ndarray, model: str) -> TrainingJob:
    return TrainingJob(
        stream_id=0, batch=0, start=0, y=y, first=len(y) - SCHEDULE.train_window, last=len(y),
        skipped=np.zeros(len(y), dtype=np.bool_), schedule=SCHEDULE, model=ModelSettings(name=model),
    )  # fmt: skip


@pytest.mark.parametrize("model", ["ridge", "lightgbm"])
def test_a_version_trained_on_a_wild_value_is_the_one_trained_without_it(model):
    n = Features(SCHEDULE).lookback + SCHEDULE.train_window
    y = 50.0 + 20.0 * np.sin(2 * np.pi * np.arange(n) / 24) + np.random.default_rng(0).normal(0.0, 1.0, n)
    at = n - 200
    bad, gap = y.copy(), y.copy()
    bad[at], gap[at] = 1e9, np.nan
    trained_on_bad, trained_on_gap = train(job(bad, model)), train(job(gap, model))
    assert not trained_on_bad.error
    assert trained_on_bad.n_rows == SCHEDULE.train_window - 1
    assert trained_on_bad.blob == trained_on_gap.blob
