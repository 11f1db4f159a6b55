"""Dependence between batches, recovered from simulated fleets."""

import numpy as np
import pytest

from mlma.core.correlation import fit_correlation, fit_repetition


def autoregression(rng, n, streams, rho):
    steps = rng.standard_normal((n + 60, streams)) * np.sqrt(1.0 - rho**2)
    x = np.zeros(steps.shape)
    for t in range(1, len(steps)):
        x[t] = rho * x[t - 1] + steps[t]
    return x[60:]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("n", [3, 5, 9])
def test_correlation_is_recovered_from_few_batches_of_many_streams(rho, n):
    # 20,000 streams: standard error 0.03 with three batches
    x = autoregression(np.random.default_rng([1, n]), n, 20_000, rho)
    found, weight = fit_correlation(x, np.ones(20_000))
    assert found == pytest.approx(rho, abs=0.08)
    assert weight == pytest.approx(20_000 * (n - 2), rel=1e-3)  # a few are more than 4 standard deviations away


def test_a_level_and_a_scale_of_its_own_do_not_matter():
    rng = np.random.default_rng(2)
    x = autoregression(rng, 6, 5000, 0.5)
    scale, level = np.exp(rng.normal(size=5000)), rng.normal(size=5000)
    here = fit_correlation(x, np.ones(5000))[0]
    there = fit_correlation(x * scale + 100.0 * level, np.square(scale))[0]
    assert there == pytest.approx(here, abs=0.01)  # what is common is looked for before scaling


def test_what_all_streams_have_in_common_is_no_dependence():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 5000)) + np.array([0.0, 3.0, 3.0, 3.0, 0.0, 0.0])[:, None]
    assert fit_correlation(x, np.ones(5000))[0] < 0.05


def test_broken_streams_are_no_dependence():
    x = np.random.default_rng(4).standard_normal((8, 2000))
    alone = fit_correlation(x[:, 100:], np.ones(1900))
    x[4:, :100] += 30.0  # one in twenty stays broken
    assert fit_correlation(x, np.ones(2000)) == pytest.approx(alone, abs=0.01)


def test_nothing_but_broken_streams_says_nothing():
    x = np.tile([0.0, 0.0, 90.0, 90.0], (3, 1)).T
    assert fit_correlation(x, np.ones(3)) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (2, 5), (4, 0)])
def test_too_few_batches_or_streams_say_nothing(shape):
    assert fit_correlation(np.ones(shape), np.ones(shape[1])) == (0.0, 0.0)


def test_constant_values_are_independent():
    assert fit_correlation(np.ones((5, 10)), np.ones(10)) == (0.0, 0.0)


def test_alternating_values_are_not_negatively_correlated():
    x = np.tile([1.0, -1.0], 4)[:, None] * np.random.default_rng(5).standard_normal(500)
    assert fit_correlation(x, np.ones(500))[0] == 0.0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("season", [2, 7])
def test_the_share_that_repeats_is_recovered(share, season):
    rng = np.random.default_rng(6)
    profile = np.sqrt(share) * rng.standard_normal((season, 20_000))
    x = np.vstack([profile, profile])[: season + 1]
    x = x + np.sqrt(1.0 - share) * rng.standard_normal(x.shape)
    same, other = fit_repetition(x, np.ones(20_000), season)
    assert 1.0 - same / other == pytest.approx(share, abs=0.05)


def test_a_shared_shock_of_the_newest_batch_is_not_taken_for_a_lost_season():
    rng = np.random.default_rng(7)
    profile = rng.standard_normal((7, 4000))
    x = np.vstack([profile, profile])[:8] + 0.3 * rng.standard_normal((8, 4000))
    shocked = x.copy()
    shocked[-1] += 5.0
    here, there = (fit_repetition(values, np.ones(4000), 7) for values in (x, shocked))
    assert there == pytest.approx(here, rel=1e-6)
