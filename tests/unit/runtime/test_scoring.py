"""What a batch is held against, block by block."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlma.core.blocks import LossBlock
from mlma.core.schedule import Schedule
from mlma.core.settings import LossName, ReferencePolicy, TestingSettings, Yardstick
from mlma.runtime import scoring
from mlma.runtime.rings import Rings

STREAMS, BATCHES = 2500, 64  # more rows than one block holds


def losses(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.lognormal(size=(STREAMS, BATCHES))
    made[rng.random(made.shape) < 0.1] = np.nan
    made[:20] = np.nan  # streams that never had a loss
    made[20:40] = 0.0
    return made


def flat(made: scoring.Comparison) -> dict[str, np.ndarray]:
    parts = {name: getattr(made, name) for name in made.__dataclass_fields__}
    for name in ("adaptive", "anchored"):
        reference = parts.pop(name)
        parts |= {f"{name}.{key}": value for key, value in dataclasses.asdict(reference).items()}
    return parts


@pytest.mark.parametrize("policy", list(ReferencePolicy))
@pytest.mark.parametrize("yardstick", list(Yardstick))
def test_a_stream_is_compared_as_if_it_were_alone(policy, yardstick):
    rng = np.random.default_rng(3)
    mean, naive = losses(1), losses(2)
    batches, since = np.arange(100, 100 + BATCHES), rng.integers(90, 100 + BATCHES, STREAMS)
    excluded = rng.random((STREAMS, BATCHES)) < 0.1
    settings = TestingSettings(reference=policy, yardstick=yardstick)
    everything = flat(scoring.compare(mean, naive, batches=batches, since=since, excluded=excluded, settings=settings))
    for i in (0, 25, 500, 1023, 1024, 1025, STREAMS - 1):
        row = slice(i, i + 1)
        alone = scoring.compare(
            mean[row], naive[row], batches=batches, since=since[row], excluded=excluded[row], settings=settings
        )
        for name, values in flat(alone).items():
            np.testing.assert_allclose(everything[name][row], values, rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_shard_without_streams_compares_nothing():
    none = np.empty((0, BATCHES))
    made = scoring.compare(
        none, none, batches=np.arange(BATCHES), since=np.empty(0, dtype=np.int64), excluded=None,
        settings=TestingSettings(),
    )  # fmt: skip
    assert len(made.tested) == len(made.adaptive.mean) == 0


def test_mean_losses_of_a_batch_leave_gaps_out():
    y = np.array([[1.0, 2.0, np.nan, 4.0], [np.nan, np.nan, np.nan, 1.0]])
    block = LossBlock(batch=0, stream_ids=np.arange(2), y=y, forecast=np.zeros((2, 4)), naive=y + 1.0)
    served, naive = scoring.mean_losses(block, TestingSettings(loss=LossName.SQUARED, min_outcomes=0.5))
    np.testing.assert_array_equal(served, [7.0, np.nan])
    np.testing.assert_array_equal(naive, [1.0, np.nan])


def test_a_closed_block_is_not_written_to_by_later_batches():
    rings = Rings(
        schedule=Schedule(
            anchor=datetime(2001, 1, 1, tzinfo=UTC), frequency=timedelta(hours=1), horizon=2, batch=4, train_window=8
        ),
        lookback=8,
        n_batches=3,
    )
    rings.grow(2)
    block = rings.open_block(0, np.arange(2))
    rings.close(block, (np.zeros(2), np.zeros(2)))
    kept = block.forecast.copy()
    rings._forecast[:] = 1.0
    rings.grow(3)
    np.testing.assert_array_equal(block.forecast, kept)
    assert rings.last_forecast.shape == (3, 4)
