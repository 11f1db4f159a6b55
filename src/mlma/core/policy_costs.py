"""What retraining policies cost and brought beside each other: total cost, and how sure one may be of a difference.

Total cost = mean over streams of the loss relative to always + price x the larger of the share of trainings and the
share of training CPU time. Pure functions over arrays of streams.
"""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats

PRICES = (0.1, 0.3, 1.0)
"""Of a training at every batch, as relative loss."""

MAIN_PRICE = 0.3
"""At which policies are ranked unless told otherwise; the default of ``life.price``."""

DRAWS = 1000
"""Bootstrap samples; an end of a 95 % interval is then right within about a tenth of its width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one policy lost and spent on each stream, arrays of shape (streams,)."""

    loss: Floats  # summed over the scored targets; 0 where nothing was scored
    scored: Bools  # anything was
    fits: Floats  # models fitted
    fit_cpu_s: Floats  # CPU seconds of them
    update_cpu_s: float = 0.0  # CPU seconds of the evergreen members, of all streams together


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One policy beside always.

    Attributes
    ----------
    relative
        Shape (streams,), loss over always' loss; NaN where always has none.
    fits_share, cpu_share
        Fits over those of always; CPU time of fits and evergreen updates over that of always' fits.
    relative_draws, share_draws
        Shape (draws,), mean relative loss and larger share of every bootstrap sample.
    """

    relative: Floats
    fits_share: float
    cpu_share: float
    relative_draws: Floats
    share_draws: Floats

    @property
    def mean(self) -> float:
        """Mean relative loss over the streams that have one, NaN without any."""
        known = self.relative[np.isfinite(self.relative)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def share(self) -> float:
        """The larger of the two shares."""
        return max(self.fits_share, self.cpu_share)

    def cost(self, price: float) -> float:
        """Total cost at a price."""
        return self.mean + price * self.share

    def cost_draws(self, price: float) -> Floats:
        """Total cost of every bootstrap sample, shape (draws,)."""
        return self.relative_draws + price * self.share_draws


def samples(rng: np.random.Generator, n_streams: int, draws: int = DRAWS) -> Floats:
    """How often each stream is in each bootstrap sample of streams, shape (draws, streams).

    One such matrix for all policies makes their samples paired (Efron and Tibshirani 1993, An introduction to the
    bootstrap, chapter 13: percentile intervals). It assumes that streams are exchangeable and does not know about
    what they have in common.
    """
    if not n_streams:
        return np.zeros((draws, 0))
    return rng.multinomial(n_streams, np.full(n_streams, 1.0 / n_streams), size=draws).astype(np.float64)


def compare(one: Spent, always: Spent, weights: Floats) -> Compared:
    """One policy beside always, with the bootstrap samples of `samples`.

    Examples
    --------
    >>> always = Spent(loss=np.array([2.0, 4.0, 0.0]), scored=np.array([True] * 3), fits=np.full(3, 10.0),
    ...                fit_cpu_s=np.full(3, 1.0))
    >>> never = Spent(loss=np.array([3.0, 5.0, 1.0]), scored=np.array([True] * 3), fits=np.full(3, 1.0),
    ...               fit_cpu_s=np.full(3, 0.2))
    >>> made = compare(never, always, samples(np.random.default_rng(0), 3))
    >>> made.relative.tolist(), round(made.cost(0.3), 3)
    ([1.5, 1.25, nan], 1.435)
    """
    usable = one.scored & always.scored & (always.loss > 0.0)
    relative = np.full(len(one.loss), np.nan)
    relative[usable] = one.loss[usable] / always.loss[usable]
    update_cpu_s = one.update_cpu_s / max(1, len(one.loss))
    fits, always_fits = weights @ one.fits, weights @ always.fits
    cpu, always_cpu = weights @ (one.fit_cpu_s + update_cpu_s), weights @ always.fit_cpu_s
    with np.errstate(divide="ignore", invalid="ignore"):  # a sample may hold no stream that was scored
        relative_draws = (weights @ np.nan_to_num(relative)) / (weights @ usable.astype(np.float64))
        share_draws = np.maximum(fits / always_fits, cpu / always_cpu)
    return Compared(
        relative=relative,
        fits_share=_share(one.fits.sum(), always.fits.sum()),
        cpu_share=_share(one.fit_cpu_s.sum() + one.update_cpu_s, always.fit_cpu_s.sum()),
        relative_draws=relative_draws,
        share_draws=share_draws,
    )


def interval(draws: Floats) -> tuple[float, float]:
    """95 % percentile interval of bootstrap samples; NaN without any finite one."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def cost_by_stream(one: Spent, always: Spent, price: float) -> Floats:
    """Relative loss + price x share of trainings of each stream by itself; NaN where always has no loss or fit."""
    usable = one.scored & always.scored & (always.loss > 0.0) & (always.fits > 0.0)
    cost = np.full(len(one.loss), np.nan)
    cost[usable] = one.loss[usable] / always.loss[usable] + price * one.fits[usable] / always.fits[usable]
    return cost


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
