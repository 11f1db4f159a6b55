"""The tests on the losses of single targets, in the monitor: what they are compared with, and for how long."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mlma import LossMonitor
from mlma.core.batch_summary import Detail, summarise_batch
from mlma.core.loss_tests import hac_mean, welch
from mlma.core.settings import LossTestName, ReferencePolicy, TestingSettings
from mlma.monitor.batch_moments import BatchMoments
from mlma.monitor.membership import adaptive_lags, anchored_lags
from mlma.monitor.sham import Segments
from mlma.monitor.single_losses import SingleLosses

SINGLE = [
    LossTestName.WELCH, LossTestName.MANN_WHITNEY, LossTestName.KOLMOGOROV_SMIRNOV, LossTestName.HAC_MEAN,
]  # fmt: skip


def by_scipy(name: LossTestName, recent: np.ndarray, past: np.ndarray) -> float:
    """p-value from losses without gaps; that of the HAC mean, which scipy does not have, from our function."""
    match name:
        case LossTestName.WELCH:
            return float(stats.ttest_ind(recent, past, equal_var=False, alternative="greater").pvalue)
        case LossTestName.MANN_WHITNEY:
            return float(stats.mannwhitneyu(recent, past, alternative="greater", method="asymptotic").pvalue)
        case LossTestName.KOLMOGOROV_SMIRNOV:
            return float(stats.ks_2samp(recent, past, alternative="less", method="asymp").pvalue)
        case _:
            return float(hac_mean(recent[None], past[None]).p_value[0])


class Watched:
    """A monitor under a test on single losses, and every loss that it saw."""

    def __init__(self, n_streams: int, settings: TestingSettings, *, seed: int) -> None:
        self.monitor = LossMonitor.from_settings(settings, n_streams)
        self.rng = np.random.default_rng(seed)
        self.seen: dict[int, np.ndarray] = {}  # relative losses, NaN where reset or missing

    def live(self, gaps: float = 0.0) -> None:
        """One batch, its p-values compared with those of scipy on the losses themselves."""
        monitor, n = self.monitor, self.monitor.n_streams
        losses = self.rng.exponential(size=(n, 12)) + np.arange(n)[:, None] % 3
        yards = 1.0 + self.rng.random((1, n, 12))
        losses[self.rng.random(losses.shape) < gaps] = np.nan
        yards[:, self.rng.random((n, 12)) < gaps] = np.nan
        if gaps:
            losses[self.rng.random(n) < gaps] = np.nan
        relative = np.where(np.isnan(yards[0]), np.nan, losses)
        relative /= np.nanmean(np.where(np.isnan(relative), np.nan, yards[0]), axis=1, keepdims=True)
        at = monitor.references.batch + 1
        lags = [] if at == 0 else [adaptive_lags(monitor.references, at), anchored_lags(monitor.references, at)]
        verdicts = monitor.update(losses, yards)
        name, least = monitor.settings.name, monitor.settings.min_reference
        for found, members in zip((verdicts.p_adaptive, verdicts.p_anchored), lags, strict=False):
            for stream in np.flatnonzero(~np.isnan(found)):
                missing = np.full(12, np.nan)  # also a gap in time, which matters for dependence
                past = np.hstack([self.seen[at - lag][stream] if lag else missing for lag in members[::-1, stream]])
                recent = relative[stream]
                if name is not LossTestName.HAC_MEAN:
                    recent, past = recent[~np.isnan(recent)], past[~np.isnan(past)]
                assert found[stream] == pytest.approx(by_scipy(name, recent, past), rel=2e-7)
            tested = ~np.isnan(verdicts.tested) & ((members > 0).sum(axis=0) >= least)
            enough = np.count_nonzero(~np.isnan(relative), axis=1) >= 8
            assert np.isfinite(found[tested & enough]).all()
        self.seen[at] = relative


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("reference", ReferencePolicy)
@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_batches_are_compared_with_all_losses_of_their_references(
    name: LossTestName, reference: ReferencePolicy, gaps: float
) -> None:
    settings = TestingSettings(
        name=name, reference=reference, reference_size=4, anchored_size=3, min_outcomes=0.3, subtract_common=False
    )
    watched = Watched(6, settings, seed=1)
    for _ in range(12):
        watched.live(gaps)
    watched.monitor.reset(np.arange(6) == 2)
    for _ in range(3):
        watched.live(gaps)
    watched.monitor.grow({}, 2)
    for batch, losses in watched.seen.items():
        watched.seen[batch] = np.vstack([losses, np.full((2, losses.shape[1]), np.nan)])
    for _ in range(5):
        watched.live(gaps)
    remembered = watched.monitor.remembered()
    mask = np.zeros((8, len(remembered)), dtype=np.bool_)
    mask[3, -2:], mask[4, :2] = True, True
    watched.monitor.exclude(remembered, mask)
    for _ in range(3):
        watched.live(gaps)
    watched.monitor = pickle.loads(pickle.dumps(watched.monitor))
    watched.live(gaps)


@pytest.mark.parametrize("name", SINGLE)
def test_an_anchored_reference_is_kept_for_ever(name: LossTestName) -> None:
    monitor = LossMonitor(50, test=name)
    rng = np.random.default_rng(3)
    for _ in range(45):
        verdicts = monitor.update(rng.exponential(size=(50, 24)))
    assert np.isfinite(verdicts.p_anchored).all()
    assert monitor.nbytes / 50 < (2_000 if name is LossTestName.WELCH else 6_000)


@pytest.mark.parametrize("name", SINGLE)
def test_batches_may_have_more_or_fewer_losses_than_those_before(name: LossTestName) -> None:
    monitor = LossMonitor(3, test=name)
    rng = np.random.default_rng(3)
    seen = []
    for n in (20, 12, 30, 12, 20, 30):
        losses = rng.exponential(size=(3, n))
        verdicts = monitor.update(losses)
        if len(seen) >= 2 and name is not LossTestName.HAC_MEAN:
            for stream in range(3):
                wanted = by_scipy(name, losses[stream], np.hstack(seen)[stream])
                assert verdicts.p_adaptive[stream] == pytest.approx(wanted, rel=1e-9)
        seen.append(losses)
    assert verdicts.ready.all()


@pytest.mark.parametrize(("test", "state"), [("welch", "moments"), ("hac_mean", "single")])
def test_a_state_without_what_the_test_remembers_is_refused_by_name(test: str, state: str) -> None:
    monitor = LossMonitor(3, test=test)
    arrays = monitor.arrays()
    del arrays[state]
    with pytest.raises(ValueError, match=f"kept no '{state}'"):
        monitor.restore(arrays)


@pytest.mark.parametrize(("test", "detail"), [("welch", "MOMENTS"), ("hac_mean", "SINGLE")])
def test_a_summary_without_what_the_test_looks_at_is_refused(test: str, detail: str) -> None:
    monitor = LossMonitor(2, test=test)
    with pytest.raises(ValueError, match=f"what {test} looks at, expected .*{detail}"):
        monitor.judge(summarise_batch(np.ones((2, 3))))
    assert monitor.references.batch == -1


def test_sham_streams_are_tested_by_moments_as_by_the_losses() -> None:
    rng = np.random.default_rng(5)
    monitor = LossMonitor(20, test="welch")
    assert isinstance(monitor.single, BatchMoments)
    losses = SingleLosses(LossTestName.HAC_MEAN, monitor.references)
    losses._test = welch
    for _ in range(14):
        batch = rng.exponential(size=(20, 24))
        batch[rng.random(batch.shape) < 0.1] = np.nan
        single = summarise_batch(batch, detail=Detail.SINGLE).single
        summary = replace(summarise_batch(batch, detail=Detail.MOMENTS), single=single)
        monitor.judge(summary)
        losses.remember(summary, monitor.references)
    n = 200
    length = np.full(n, 14)
    start = rng.integers(0, 4, n)
    at = start + rng.integers(1, 10, n)
    segments = Segments(
        stream=rng.integers(0, 20, n), length=length, start=start, at=at, backwards=rng.random(n) < 0.5,
        raised_from=np.where(rng.random(n) < 0.5, at - 1, length), rise=0.25,
    )  # fmt: skip
    made = monitor.single.p_sham(segments, monitor.references, size=5)
    np.testing.assert_allclose(made, losses.p_sham(segments, monitor.references, size=5), rtol=1e-9)
    assert 0.0 < made.min() < made.max() < 1.0


@pytest.mark.filterwarnings("error")
def test_a_reference_with_squares_beyond_floating_point_says_nothing_and_harms_nobody() -> None:
    rng = np.random.default_rng(7)
    monitor = LossMonitor(3, test="welch")
    for batch in range(6):
        losses = rng.exponential(size=(3, 8))
        losses[1] *= 1e200 if batch == 4 else 1.0
        losses[2] = 0.3
        verdicts = monitor.update(losses)
    assert np.isfinite(verdicts.p_adaptive).tolist() == [True, False, True]
    assert np.isfinite(verdicts.p_anchored).all()  # its batches are of before
    assert verdicts.p_value[2] == 1.0
