"""What a fleet knows about its spread: recovered from simulated variances, and as doubtful as it should be."""

import numpy as np
import pytest
from scipy import stats

from mlma.core.prediction import predict
from mlma.core.variance_prior import (
    FEWEST_STREAMS,
    MOST_CELLS,
    NO_PRIOR,
    Guess,
    Prior,
    fit_prior,
    shrunk,
)

INF = float("inf")


def _variances(rng, d0, s02, df):
    true = np.full(df.shape, s02) if np.isinf(d0) else d0 * s02 / rng.chisquare(d0, df.shape)
    return true * rng.chisquare(df) / df


@pytest.mark.parametrize("d0", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("reference_df", ["equal", "mixed"])
def test_prior_is_recovered_from_simulated_variances(d0, reference_df):
    rng = np.random.default_rng(6)
    df = np.full(40_000, 3.0) if reference_df == "equal" else rng.integers(1, 8, 40_000).astype(float)
    prior = fit_prior(_variances(rng, d0, 0.04, df), df)
    # 40,000 streams: some 5 % on the degrees of freedom, 2 % on the variance
    assert prior.df == pytest.approx(d0, rel=0.12)
    assert prior.variance == pytest.approx(0.04, rel=0.03)


@pytest.mark.parametrize("streams", [40, MOST_CELLS // 2, 8 * MOST_CELLS])
def test_prior_is_the_most_likely_f_distribution(streams):
    rng = np.random.default_rng(7)
    df = np.full(streams, 2.0)
    s2 = _variances(rng, 3.0, 0.5, df)
    prior = fit_prior(s2, df)

    def log_likelihood(d0, variance):
        return stats.f.logpdf(s2 / variance, 2.0, d0).sum() - streams * np.log(variance)

    here = log_likelihood(prior.df, prior.variance)
    for d0, variance in ((1.3, 1.0), (1 / 1.3, 1.0), (1.0, 1.2), (1.0, 1 / 1.2), (1.2, 1.2), (1 / 1.2, 1 / 1.2)):
        assert log_likelihood(prior.df * d0, prior.variance * variance) < here


def test_guesses_are_probabilities_around_the_most_likely():
    rng = np.random.default_rng(3)
    prior = fit_prior(_variances(rng, 4.0, 1.0, np.ones(300)), np.ones(300))
    df = [guess.df for guess in prior.guesses]
    assert sum(guess.weight for guess in prior.guesses) == pytest.approx(1.0, abs=1e-12)
    assert df == sorted(df)
    assert df[0] < prior.df < df[-1]


def test_a_larger_fleet_doubts_less():
    def width(streams):
        rng = np.random.default_rng(4)
        prior = fit_prior(_variances(rng, 4.0, 1.0, np.full(streams, 2.0)), np.full(streams, 2.0))
        return prior.guesses[-1].df / prior.guesses[0].df

    assert width(20) > width(200) > width(2000) > 1.0


@pytest.mark.parametrize("streams", [4, 50, 5000])
def test_a_fleet_knows_no_more_than_its_streams_together(streams):
    df = np.full(streams, 3.0)
    prior = fit_prior(_variances(np.random.default_rng(5), INF, 1.0, df), df)
    for guess in prior.guesses:
        assert 0.0 < guess.known_df <= 3.0 * streams * (1.0 + 1e-6)
    assert max(guess.known_df for guess in prior.guesses) > streams


def test_streams_that_vary_alike_give_an_infinite_prior():
    # equal variances differ less than chance would have it
    prior = fit_prior(np.full(50, 0.3), np.full(50, 2.0))
    assert prior.df == INF
    assert prior.variance == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize(
    ("variance", "df"),
    [
        ([], []),
        ([1.0, 2.0, 3.0], [2, 2, 2]),
        ([1.0, 2.0, 3.0, np.nan, 0.0], [2, 2, 2, 2, 2]),
        ([1.0, 2.0, 3.0, 4.0], [2, 2, 2, 0]),
        ([0.0] * 10, [2] * 10),
    ],
)
def test_too_few_usable_streams_give_no_prior(variance, df):
    assert fit_prior(np.array(variance, dtype=float), np.array(df, dtype=float)) == NO_PRIOR


def test_as_few_streams_as_may_be_give_a_prior():
    assert fit_prior(np.array([1.0, 2.0, 3.0, 4.0]), np.full(FEWEST_STREAMS, 2.0)).df > 0.0


@pytest.mark.parametrize("d0", [4.0, INF])
def test_dead_streams_do_not_make_the_fleet_look_calmer(d0):
    rng = np.random.default_rng(8)
    s2 = _variances(rng, d0, 1.0, np.full(4000, 2.0))
    alone = fit_prior(s2, np.full(4000, 2.0))
    with_dead = fit_prior(np.concatenate([s2, np.zeros(4000)]), np.full(8000, 2.0))
    assert with_dead.variance == pytest.approx(alone.variance, rel=0.06)
    assert 1.0 / with_dead.df == pytest.approx(1.0 / alone.df, abs=0.04)


def test_zeros_from_rounding_count_in_the_variance():
    x = np.random.default_rng(9).poisson(4.0, (8000, 2)).astype(float)
    prior = fit_prior(x.var(axis=1, ddof=1), np.ones(8000))
    assert prior.variance == pytest.approx(4.0, rel=0.1)
    assert prior.df > 20.0  # nearly alike


def test_variances_that_are_rounding_count_as_zero():
    rng = np.random.default_rng(10)
    s2 = _variances(rng, 5.0, 1.0, np.full(400, 3.0))
    zeros, tiny = (fit_prior(np.append(s2, [x] * 40), np.full(440, 3.0)) for x in (0.0, 1e-30))
    assert tiny == zeros


@pytest.mark.parametrize("unit", [1e-12, 3.7, 1e9])
def test_the_unit_of_the_variance_does_not_matter(unit):
    df = np.full(3000, 2.0)
    s2 = _variances(np.random.default_rng(11), 6.0, 1.0, df)
    here, there = fit_prior(s2, df), fit_prior(s2 * unit, df)
    assert there.df == pytest.approx(here.df, rel=1e-3)
    assert there.variance == pytest.approx(unit * here.variance, rel=1e-4)


def test_the_order_of_streams_does_not_matter():
    rng = np.random.default_rng(12)
    df = rng.integers(0, 5, 2000).astype(float)
    s2 = _variances(rng, 6.0, 1.0, np.maximum(df, 1.0))
    order = rng.permutation(2000)
    here, there = fit_prior(s2, df), fit_prior(s2[order], df[order])
    assert there.df == pytest.approx(here.df, rel=1e-6)


def test_shrunk_is_the_mean_weighted_by_degrees_of_freedom():
    made = predict(np.array([[1.0, 1.0], [2.0, np.nan]]), np.array([[1, 1], [2, 0]]))
    for prior in (Prior(df=3.0, variance=0.2), Guess(weight=1.0, df=3.0, variance=0.2)):
        assert shrunk(made, prior) == pytest.approx([(3 * 0.2 + 0.5) / 4, 0.2])
    assert shrunk(made, Prior(df=INF, variance=0.2)).tolist() == [0.2, 0.2]
    assert shrunk(made, NO_PRIOR) == pytest.approx([0.5, np.nan], nan_ok=True)
