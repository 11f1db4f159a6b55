"""The losses that two-sample tests look at: how long they are kept, for whom, and what is tested of them."""

import pickle

import numpy as np
import pytest
from scipy import stats

from mlma import LossMonitor
from mlma.core.batch_summary import Detail, summarise_batch
from mlma.core.settings import LossTestName, ReferencePolicy, TestingSettings
from mlma.monitor.membership import adaptive_lags, anchored_lags
from mlma.monitor.references import References
from mlma.monitor.single_losses import KEPT_BATCHES, SingleLosses


def kept(name: LossTestName, *shapes: tuple[int, int]) -> SingleLosses:
    rng = np.random.default_rng(2)
    made, references = SingleLosses(name), References(TestingSettings(), shapes[-1][0], 0)
    for batch, shape in enumerate(shapes):
        references.batch = batch
        made.remember(summarise_batch(rng.exponential(size=shape), detail=Detail.SINGLE), references)
    return made


def test_single_losses_are_forgotten_after_a_while_and_the_test_is_then_not_ready() -> None:
    last = KEPT_BATCHES + 9
    losses = kept(LossTestName.HAC_MEAN, *[(2, 24)] * (last + 1))
    newest = np.repeat(np.arange(1, 5)[:, None], 2, axis=1)
    recent = losses.kept[last]
    assert np.isfinite(losses.p_value(recent, last, newest, least=2)).all()
    assert np.isnan(losses.p_value(recent, last, newest + last - 4, least=2)).all()


def test_streams_born_after_a_batch_have_no_single_losses_in_it() -> None:
    losses = kept(LossTestName.MANN_WHITNEY, *[(2, 24)] * 4, (3, 24))
    lags = np.repeat(np.arange(1, 5)[:, None], 3, axis=1)
    lags[:, 2] = 0
    p_value = losses.p_value(losses.kept[4], 4, lags, least=2)
    assert np.isfinite(p_value[:2]).all()
    assert np.isnan(p_value[2])


class Watched:
    """A monitor under Welch's test, and every loss that it saw."""

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
        for found, members in zip((verdicts.p_adaptive, verdicts.p_anchored), lags, strict=False):
            assert members.shape == (len(members), n)
            for stream in np.flatnonzero(~np.isnan(found)):
                past = np.concatenate([self.seen[at - lag][stream] for lag in members[:, stream] if lag])
                a, b = relative[stream], past
                wanted = stats.ttest_ind(
                    a[~np.isnan(a)], b[~np.isnan(b)], equal_var=False, alternative="greater"
                ).pvalue
                assert found[stream] == pytest.approx(wanted, rel=2e-7)
            tested = ~np.isnan(verdicts.tested) & ((members > 0).sum(axis=0) >= monitor.settings.min_reference)
            assert np.isfinite(found[tested]).all()
        self.seen[at] = relative


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("reference", ReferencePolicy)
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_welch_of_moments_is_welch_of_all_the_losses(reference: ReferencePolicy, gaps: float) -> None:
    settings = TestingSettings(
        name=LossTestName.WELCH, reference=reference, reference_size=4, anchored_size=3, min_outcomes=0.3,
        subtract_common=False,
    )  # fmt: skip
    watched = Watched(6, settings, seed=1)
    for _ in range(12):
        watched.live(gaps)
    watched.monitor.reset(np.arange(6) == 2)
    for _ in range(3):
        watched.live(gaps)
    watched.monitor.grow({}, 2)
    for batch, losses in watched.seen.items():
        watched.seen[batch] = np.vstack([losses, np.full((2, 12), np.nan)])
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


def test_welch_keeps_an_anchored_reference_for_ever() -> None:
    monitor = LossMonitor(50, test="welch")
    rng = np.random.default_rng(3)
    for _ in range(KEPT_BATCHES + 20):
        verdicts = monitor.update(rng.exponential(size=(50, 24)))
    assert np.isfinite(verdicts.p_anchored).all()
    assert monitor.nbytes / 50 < 2000


def test_a_state_of_single_losses_is_refused_by_name() -> None:
    monitor = LossMonitor(3, test="welch")
    arrays = monitor.arrays()
    del arrays["moments"]
    with pytest.raises(ValueError, match="single losses for Welch's test"):
        monitor.restore(arrays)


@pytest.mark.parametrize(("test", "detail"), [("welch", "MOMENTS"), ("hac_mean", "SINGLE")])
def test_a_summary_without_what_the_test_looks_at_is_refused(test: str, detail: str) -> None:
    monitor = LossMonitor(2, test=test)
    with pytest.raises(ValueError, match=f"what {test} looks at, expected .*{detail}"):
        monitor.judge(summarise_batch(np.ones((2, 3))))
    assert monitor.references.batch == -1
