"""The middle of the fleet stays where the anchored references are, however skewed the losses."""

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.monitor import judging

STREAMS, BATCHES = 120, 50


def strayed(batches=BATCHES, **options):
    """How far cleaned numbers lie above what was measured, in standard deviations of a batch, batch by batch."""
    rng = np.random.default_rng(2)
    monitor = LossMonitor(STREAMS, fleet="none", **options)
    made = []
    for _ in range(batches):
        log_loss = 0.3 * rng.gumbel(size=STREAMS)  # skewed to the right
        verdicts = monitor.update(np.repeat(np.exp(log_loss)[:, None], 4, axis=1))
        made.append(np.mean(verdicts.tested - log_loss) / (0.3 * np.pi / np.sqrt(6.0)))
    return np.array(made)


def moved(way):
    return way[-10:].mean() - way[4:10].mean()


def test_skewed_losses_of_a_healthy_fleet_do_not_stray_from_the_anchored_references():
    assert abs(moved(strayed())) < 0.1


def test_without_being_brought_back_they_would(monkeypatch):
    monkeypatch.setattr(judging, "RETURN", 0.0)
    assert moved(strayed()) > 0.2


@pytest.mark.parametrize("options", [{"anchored": False}, {"common": False}])
def test_nothing_is_brought_back_where_nothing_is_anchored_or_taken_out(options, monkeypatch):
    with_it = strayed(12, **options)
    monkeypatch.setattr(judging, "RETURN", 0.0)
    np.testing.assert_array_equal(strayed(12, **options), with_it)


def test_what_all_streams_share_for_good_is_still_taken_out_of_each():
    rng = np.random.default_rng(3)
    monitor = LossMonitor(STREAMS, fleet="none")
    found = []
    for at in range(24):
        losses = np.abs(rng.standard_normal((STREAMS, 48))) * (1.5 if at >= 12 else 1.0)
        found.append(monitor.update(losses).p_anchored)
    assert np.mean(np.stack(found[12:]) <= 0.05) < 0.08
