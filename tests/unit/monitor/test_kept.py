"""What the frozen batches predict, and which rows are complete, is kept and makes no difference to the verdicts."""

import io

import numpy as np
import pytest

from mlma import LossMonitor


def _life(monitor, *, keeps, sparse=False):
    """P-values of both references, shape (batches, 2, streams of the start), through all that can happen."""
    rng = np.random.default_rng(1)
    found = []
    for batch in range(40):
        n_streams = monitor.n_streams
        losses = np.abs(rng.standard_normal((n_streams, 24)))
        if sparse:
            losses[::3] = rng.random(losses[::3].shape) < 0.05
        if batch == 14:
            monitor.reset(np.arange(n_streams) % 5 == 0)
        if batch == 22:
            monitor.exclude(np.array([1, 20]), np.ones((n_streams, 2), dtype=bool))
        if batch == 28:
            monitor.grow({}, 3)
            losses = np.vstack([losses, np.abs(rng.standard_normal((3, 24)))])
        if batch == 33:
            losses[7] = np.nan
        if not keeps:
            monitor.references.kept = None
            monitor.references.is_complete[:] = False
        verdicts = monitor.update(losses)
        found.append(np.stack([verdicts.p_adaptive, verdicts.p_anchored])[:, :60])
    return np.stack(found)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("options", [{}, {"season": 7}, {"reference": "fixed"}, {"anchored": False}], ids=str)
def test_a_kept_prediction_is_the_one_that_would_be_made(options, sparse):
    kept, anew = (
        _life(LossMonitor(60, **options), keeps=keeps, sparse=sparse) for keeps in (True, False)
    )  # fmt: skip
    np.testing.assert_array_equal(kept, anew)


def _steady(streams, batches):
    rng = np.random.default_rng(2)
    monitor = LossMonitor(streams)
    for _ in range(batches):
        monitor.update(np.abs(rng.standard_normal((streams, 24))))
    return monitor


def test_it_is_kept_while_nothing_changes_and_dropped_when_a_stream_starts_over():
    monitor = _steady(4000, 30)
    kept = monitor.references.kept
    assert kept is not None
    assert monitor.nbytes > sum(array.nbytes for array in monitor.arrays().values())
    monitor.update(np.ones((4000, 24)))
    assert monitor.references.kept.prediction is kept.prediction or monitor.dependence.now != kept.dependence
    monitor.reset(np.arange(4000) == 3)
    assert monitor.references.kept is None


def test_which_batches_all_streams_have_is_known_and_known_again_when_read_back():
    monitor = _steady(40, 20)
    assert monitor.references.is_complete.all()
    monitor.update(np.where(np.arange(40)[:, None] == 3, np.nan, np.ones((40, 24))))
    newest = monitor.references.newest()[0]
    assert np.flatnonzero(~monitor.references.is_complete).tolist() == [newest]
    file = io.BytesIO()
    monitor.save(file)
    file.seek(0)
    again = LossMonitor.load(file)
    np.testing.assert_array_equal(again.references.is_complete, monitor.references.is_complete)
    monitor.reset(np.arange(40) == 7)
    assert not monitor.references.is_complete.any()
