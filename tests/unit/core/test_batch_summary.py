"""What is kept of a batch: means against NumPy, gaps, sparseness, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlma.core.batch_summary import Detail, summarise_batch
from mlma.core.moments import moments_of
from mlma.core.settings import LossTestName

VALUES = st.one_of(st.just(np.nan), st.just(0.0), st.floats(0.0, 1e6, allow_subnormal=False))
FEW = settings(max_examples=30, deadline=None)


@FEW
@given(losses=hnp.arrays(np.float64, (4, 7), elements=VALUES))
def test_means_and_counts_are_those_of_numpy(losses):
    made = summarise_batch(losses)
    for row, mean, n in zip(losses, made.mean_loss, made.n, strict=True):
        scored = row[~np.isnan(row)]
        assert n == len(scored)
        assert mean == pytest.approx(scored.mean() if len(scored) else np.nan, rel=1e-12, nan_ok=True)
    assert made.n_targets == 7
    assert made.yardsticks.shape == (0, 4)
    assert made.single is None


@FEW
@given(losses=hnp.arrays(np.float64, (3, 6), elements=VALUES), yards=hnp.arrays(np.float64, (2, 3, 6), elements=VALUES))
def test_loss_and_yardsticks_are_means_over_the_targets_that_all_have(losses, yards):
    made = summarise_batch(losses, yards)
    for i in range(3):
        shared = ~np.isnan(losses[i]) & ~np.isnan(yards[:, i]).any(axis=0)
        if shared.any():
            assert made.mean_loss[i] == pytest.approx(losses[i, shared].mean(), rel=1e-12)
            assert made.yardsticks[:, i] == pytest.approx(yards[:, i, shared].mean(axis=1), rel=1e-12)
        else:
            assert np.isnan(made.yardsticks[:, i]).all()
            scored = losses[i, ~np.isnan(losses[i])]
            assert made.mean_loss[i] == pytest.approx(scored.mean() if len(scored) else np.nan, nan_ok=True)


@pytest.mark.parametrize(("share", "ready"), [(0.0, True), (0.5, True), (0.51, False), (1.0, False)])
def test_too_few_scored_targets_have_no_mean(share, ready):
    losses = np.where(np.arange(10) < 5, 2.0, np.nan)[None]
    made = summarise_batch(losses, min_share=share)
    assert np.isfinite(made.mean_loss[0]) == ready
    assert made.n[0] == 5


def test_a_share_that_is_no_binary_number_asks_for_no_more_than_it_says():
    losses = np.where(np.arange(100) < 7, 1.0, np.nan)[None]
    assert np.isfinite(summarise_batch(losses, min_share=0.07).mean_loss[0])


def test_sparse_losses_are_described_where_asked():
    losses = np.array([[0.0, 0.0, 3.0, np.nan], [0.0, 1.0, 1.0, 2.0], [np.nan] * 4])
    made = summarise_batch(losses)
    assert made.zero_share == pytest.approx([2 / 3, 0.25, np.nan], nan_ok=True)
    assert made.event_size == pytest.approx([3.0, 1.5, np.nan], nan_ok=True)
    some = summarise_batch(losses, describe=np.array([False, True, False]))
    assert some.zero_share == pytest.approx([np.nan, 0.25, np.nan], nan_ok=True)


def test_single_losses_are_kept_where_asked():
    losses = np.ones((2, 3))
    kept = summarise_batch(losses, detail=Detail.SINGLE).single
    assert kept is not None
    np.testing.assert_array_equal(kept, losses)


def test_large_fleets_are_cut_into_blocks_without_a_seam():
    losses = np.random.default_rng(1).exponential(size=(3001, 50))
    losses[::7, 3] = np.nan
    np.testing.assert_allclose(summarise_batch(losses).mean_loss, np.nanmean(losses, axis=1), rtol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_other_kinds_of_numbers_are_taken_as_floats(kind):
    assert summarise_batch(np.array([[1, 2], [3, 5]], dtype=kind)).mean_loss.tolist() == [1.5, 4.0]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_losses_have_two_axes(shape):
    with pytest.raises(ValueError, match=r"expected \(streams, n\)"):
        summarise_batch(np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 4), (1, 3, 3)])
def test_yardsticks_have_the_shape_of_the_losses(shape):
    with pytest.raises(ValueError, match=r"expected \(k, 2, 3\)"):
        summarise_batch(np.ones((2, 3)), np.ones(shape))


@pytest.mark.parametrize(
    ("wrong", "shown"), [(np.inf, "inf"), (-np.inf, "-inf"), (-0.5, "-0.5"), (1.7e308, "beyond the range")]
)
@pytest.mark.parametrize("has_gap", [False, True])
def test_impossible_losses_are_refused_with_their_stream(wrong, shown, has_gap):
    losses = np.ones((5, 4))
    losses[3, 1:3] = wrong
    if has_gap:
        losses[3, 0] = np.nan
    with pytest.raises(ValueError, match=f"stream 3: .*{shown}"), np.errstate(over="ignore"):
        summarise_batch(losses)


@pytest.mark.parametrize("harmless", [-0.0, np.copysign(np.nan, -1.0)])
def test_a_minus_sign_alone_makes_no_loss_negative(harmless):
    losses = np.ones((5, 4))
    losses[3, 1] = harmless
    assert summarise_batch(losses).mean_loss[3] == (1.0 if np.isnan(harmless) else 0.75)
    losses[4, 2] = -1e-300
    with pytest.raises(ValueError, match="stream 4: -1e-300"):
        summarise_batch(losses)


def test_an_empty_fleet_and_an_empty_batch_have_no_means():
    assert summarise_batch(np.empty((0, 5))).mean_loss.shape == (0,)
    empty = summarise_batch(np.empty((3, 0)))
    assert np.isnan(empty.mean_loss).all()
    assert empty.n.tolist() == [0, 0, 0]


def test_every_test_gets_what_it_looks_at():
    assert {name: Detail.of(name) for name in LossTestName} == {
        LossTestName.MODERATED: Detail.NOTHING, LossTestName.E_PROCESS: Detail.NOTHING,
        LossTestName.WELCH: Detail.MOMENTS, LossTestName.MANN_WHITNEY: Detail.SINGLE,
        LossTestName.KOLMOGOROV_SMIRNOV: Detail.SINGLE, LossTestName.HAC_MEAN: Detail.SINGLE,
    }  # fmt: skip


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_moments_are_those_of_the_losses_that_the_mean_counts(gaps):
    rng = np.random.default_rng(4)
    losses = rng.exponential(size=(300, 24)) + rng.choice([0.0, 1.0, 1e3, 1e7], size=(300, 1))
    losses[:7] = 0.3  # no spread at all
    yards = rng.exponential(size=(2, 300, 24))
    losses[rng.random(losses.shape) < gaps], yards[rng.random(yards.shape) < gaps] = np.nan, np.nan
    losses[20], yards[:, 21] = np.nan, np.nan
    made = summarise_batch(losses, yards, min_share=0.5, detail=Detail.MOMENTS)
    assert made.moments is not None
    assert made.single is None
    shared = ~np.isnan(yards).any(axis=0)
    shared[~(shared & ~np.isnan(losses)).any(axis=1)] = True  # the losses' own where no target has the yardsticks
    n, mean, squares = moments_of(np.where(shared & ~np.isnan(made.mean_loss)[:, None], losses, np.nan))
    np.testing.assert_array_equal(made.moments.n, n)
    np.testing.assert_allclose(made.moments.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(made.moments.squares, squares, rtol=1e-9, atol=0.0)
    assert made.moments.squares[:7].max() == 0.0


def test_losses_whose_squares_are_beyond_floating_point_have_no_finite_moments_and_harm_nobody():
    losses = np.random.default_rng(4).exponential(size=(3, 8))
    losses[1] *= 1e200
    made = summarise_batch(losses, detail=Detail.MOMENTS).moments
    assert made is not None
    assert np.isfinite(made.squares).tolist() == [True, False, True]
