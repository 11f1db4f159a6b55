"""Evidence that may be looked at after every update: one anytime-valid e-process per stream, arrays over streams.

Fed with one-sided p-values that are valid given the past; where they come from is decided elsewhere, and how
e-values of a fleet become alarms in `mlma.core.fleet`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import ndtri

from mlma.core.blocks import Bools, Floats, Ints

RISES = np.array([1.0, 2.0])
"""Rises that are bet on, in standard deviations of the prediction, each with an equal share of the wealth. Chosen by
measurement: a third bet on 3 costs more for small rises than it gains for large ones."""

HALF_STARTED = 50.0
"""Updates after which half of the wealth has been laid on a change that began before. Chosen by measurement."""

SMALLEST_P = 1e-300
"""Smaller p-values count as this one, so that no single update outweighs all that may follow."""


@dataclass(slots=True, kw_only=True, eq=False)
class EProcess:
    """Wealth of a bet against "the losses did not rise", per stream; it starts at 1 and may grow without bound.

    While nothing changed, the probability that the wealth EVER reaches 1 / alpha is at most alpha, however often it
    is looked at (Ville, 1939): an alarm at wealth >= 1 / alpha has a false-alarm rate of alpha for the stream's whole
    life since the last reset, not for each update.

    Attributes
    ----------
    log_wealth
        Shape (streams, rises), log of the wealth on each of `RISES` over all starts so far.
    n_updates
        Shape (streams,), updates with evidence since the last reset.
    log_e
        Shape (streams,), log of the e-value after the newest update; 0 without evidence.
    log_peak
        Shape (streams,), the largest ``log_e`` since the last reset, >= 0.

    Notes
    -----
    One bet multiplies its wealth by exp(d z - d^2 / 2), where z is the normal score of the p-value and d the
    rise bet on: the likelihood ratio of a shifted normal, whose mean is 1 when p is uniform and less when p is
    conservative. As a product since the first update, a bet loses nearly everything while nothing happens, and
    a change after 100 healthy updates is found too late. So the wealth is laid down over time: the share
    w_k = h / ((k + h - 1) (k + h)), h = `HALF_STARTED`, starts at update k, and what has not started yet is
    kept. With S_t = (S_{t-1} + w_t) exp(d z_t - d^2 / 2), the wealth is S_t + h / (t + h), averaged over d: a mixture
    of nonnegative martingales, hence one itself, in two numbers for each stream.

    Assumes that each p-value, given those before it, is uniform or larger. Predictions from ALL earlier values
    since the reset have this property: the prediction t of normal values is independent of those before it, and
    2 % of healthy streams alarm within 200 updates at alpha .05. Predictions from a frozen reference do not, its
    error repeats at every update and so does the evidence (first 4 values: 21 %). Those from a reference that
    slides keep the level (0.5 %), but it takes a change in before the evidence is complete: 3 standard deviations
    after 100 updates are found on 11 % of streams with the newest 8 values, on all with all values.

    Sources: Vovk and Wang (2021), E-values: calibration, combination and applications; Shin, Ramdas and Rinaldo
    (2023), E-detectors, for sums over starts; here their weights add up to 1, so that a probability is promised
    instead of an average run length.

    Examples
    --------
    >>> process = EProcess.fresh(2)
    >>> for p in ([0.5, 0.4], [0.3, 0.01], [np.nan, 0.02], [0.6, 0.005]):
    ...     log_e = process.update(np.array(p))
    >>> np.exp(log_e).round(2).tolist()
    [0.96, 39.03]
    >>> anytime_p(process.log_peak).round(3).tolist()
    [1.0, 0.026]
    """

    log_wealth: Floats
    n_updates: Ints
    log_e: Floats
    log_peak: Floats

    @classmethod
    def fresh(cls, n_streams: int) -> Self:
        """Processes of streams that have no evidence yet."""
        return cls(
            log_wealth=np.full((n_streams, len(RISES)), -np.inf),
            n_updates=np.zeros(n_streams, dtype=np.int64),
            log_e=np.zeros(n_streams),
            log_peak=np.zeros(n_streams),
        )

    def update(self, p_value: Floats) -> Floats:
        """Take in one p-value of each stream and return the log of the e-values after it.

        Parameters
        ----------
        p_value
            Shape (streams,), one-sided, small when the loss rose, in [0, 1]; NaN for no evidence this time, which
            leaves the stream as it is.

        Returns
        -------
        Floats
            Shape (streams,), a copy of ``log_e``.
        """
        seen = ~np.isnan(p_value)
        z = -ndtri(np.maximum(p_value[seen], SMALLEST_P))
        t = self.n_updates[seen] + 1.0
        started = np.log(HALF_STARTED) - np.log(t + HALF_STARTED - 1.0) - np.log(t + HALF_STARTED)
        wealth = np.logaddexp(self.log_wealth[seen], started[:, None]) + RISES * z[:, None] - np.square(RISES) / 2.0
        waiting = np.log(HALF_STARTED) - np.log(t + HALF_STARTED)
        log_e = np.logaddexp(np.logaddexp.reduce(wealth, axis=1) - np.log(len(RISES)), waiting)
        self.log_wealth[seen] = wealth
        self.n_updates[seen] += 1
        self.log_e[seen] = log_e
        self.log_peak[seen] = np.maximum(self.log_peak[seen], log_e)
        return self.log_e.copy()

    def reset(self, mask: Bools) -> None:
        """Forget the evidence of the streams in ``mask``, shape (streams,): after a retraining they start anew."""
        self.log_wealth[mask] = -np.inf
        self.n_updates[mask] = 0
        self.log_e[mask] = 0.0
        self.log_peak[mask] = 0.0

    def grow(self, n_more: int) -> None:
        """Add ``n_more`` >= 0 streams without evidence at the end."""
        more = type(self).fresh(n_more)
        self.log_wealth = np.concatenate([self.log_wealth, more.log_wealth])
        self.n_updates = np.concatenate([self.n_updates, more.n_updates])
        self.log_e = np.concatenate([self.log_e, more.log_e])
        self.log_peak = np.concatenate([self.log_peak, more.log_peak])

    def arrays(self) -> dict[str, Floats | Ints]:
        """All of the state, as copies that `from_arrays` reads."""
        return {
            "log_wealth": self.log_wealth.copy(),
            "n_updates": self.n_updates.copy(),
            "log_e": self.log_e.copy(),
            "log_peak": self.log_peak.copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats | Ints]) -> Self:
        """Read the state that `arrays` wrote; the arrays are copied.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If the wealth is not on `RISES`: it was written by a version that bet otherwise.
        """
        log_wealth = np.array(arrays["log_wealth"], dtype=np.float64)
        if log_wealth.ndim != 2 or log_wealth.shape[1] != len(RISES):
            raise ValueError(f"log_wealth has shape {log_wealth.shape}, allowed is (streams, {len(RISES)})")
        return cls(
            log_wealth=log_wealth,
            n_updates=np.array(arrays["n_updates"], dtype=np.int64),
            log_e=np.array(arrays["log_e"], dtype=np.float64),
            log_peak=np.array(arrays["log_peak"], dtype=np.float64),
        )


def anytime_p(log_e: Floats) -> Floats:
    """P-values of e-values, min(1, 1 / e), shape (streams,); NaN where NaN.

    Of ``log_e`` it is a p-value at any one time of looking, which may rise again when the evidence fades. Of
    ``log_peak`` it is the smallest so far: it never rises before a reset, and the probability that it ever falls to
    alpha on a healthy stream is at most alpha (Ville, 1939). That holds for one stream; a fleet's rule over
    many takes the e-values themselves (e-BH on ``log_e``), since a peak is not an e-value.

    Examples
    --------
    >>> anytime_p(np.log([0.5, 20.0])).round(3).tolist()
    [1.0, 0.05]
    """
    return np.exp(-np.maximum(log_e, 0.0))
