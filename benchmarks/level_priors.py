"""Ways to say what a fleet knows about the variance between batches: the product's, and those that lost to it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import digamma, polygamma

from benchmarks.level_processes import BATCH
from mlma.core.blocks import Floats
from mlma.core.loss_tests import NO_PRIOR, Prior, fit_prior

BLOCKS = 8  # parts of a batch from which its mean's variance is guessed

Fit = Callable[[Floats, Floats], Prior]


def by_moments(variance: Floats, df: Floats) -> Prior:
    """Match the moments of log variances (Smyth, 2004, section 6.2)."""
    usable = variance > 1e-10 * np.median(variance)
    s2, d = variance[usable], df[usable]
    noise = polygamma(1, d / 2.0)
    e = np.log(np.maximum(s2, 1e-5 * np.median(s2))) - digamma(d / 2.0) + np.log(d / 2.0)
    excess = float(np.var(e, ddof=1) - noise.mean())
    if excess <= 0.0:
        return Prior(df=float("inf"), variance=float(np.average(s2, weights=d)))
    half = _trigamma_inverse(excess)
    return Prior(df=2.0 * half, variance=float(np.exp(e.mean() + digamma(half) - np.log(half))))


def best_guess(variance: Floats, df: Floats) -> Prior:
    """The most likely prior alone, as if it were known."""
    return replace(fit_prior(variance, df), guesses=())


def no_prior(_variance: Floats, _df: Floats) -> Prior:
    """Each stream on its own: the plain prediction t."""
    return NO_PRIOR


def capped(cap: float) -> Fit:
    """Fit in which a fleet is never worth more than ``cap`` degrees of freedom."""

    def fit(variance: Floats, df: Floats) -> Prior:
        prior = fit_prior(variance, df)
        guesses = tuple(replace(guess, df=min(guess.df, cap)) for guess in prior.guesses)
        return replace(prior, df=min(prior.df, cap), guesses=guesses)

    return fit


def trend(reference: Floats, variance: Floats, df: float) -> Floats:
    """How much of the variance between batches is expected of each stream, shape (streams,), geometric mean 1.

    The log variance between batches is regressed on the log variance of a batch mean as the spread of `BLOCKS`
    blocks within the batches of shape (batches, streams, BATCH) suggests it, with and without their lag-one
    covariance (the trend of limma; Law et al., 2014).
    """
    blocks = reference.reshape(*reference.shape[:2], BLOCKS, BATCH // BLOCKS).mean(axis=3)
    mean = blocks.mean(axis=2, keepdims=True)
    within = blocks - mean
    scale = len(reference) * (BLOCKS - 1) * BLOCKS
    plain = np.square(within).sum(axis=(0, 2)) / scale
    neighbours = (within[..., 1:] * within[..., :-1]).sum(axis=(0, 2)) / scale
    relative = 2.0 * np.log(mean.mean(axis=(0, 2)) + 1e-12)
    columns = [np.log(part + 1e-12) - relative for part in (np.maximum(plain + 2.0 * neighbours, 0.3 * plain), plain)]
    design = np.column_stack([np.ones(len(variance)), *(column - column.mean() for column in columns)])
    usable = variance > 0.0
    e = np.log(variance[usable]) - digamma(df / 2.0) + np.log(df / 2.0)
    coefficients = np.linalg.lstsq(design[usable], e, rcond=None)[0]
    return np.asarray(np.exp(design[:, 1:] @ coefficients[1:]))


def _trigamma_inverse(value: float) -> float:
    """Solution of trigamma(y) = value, by Newton's method on 1 / trigamma (Smyth, 2004, appendix)."""
    y = 0.5 + 1.0 / value
    for _ in range(50):
        tri = float(polygamma(1, y))
        y += tri * (1.0 - tri / value) / float(polygamma(2, y))
    return y
