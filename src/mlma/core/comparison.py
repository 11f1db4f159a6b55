"""Paired comparison of two versions on the same targets, batch after batch, with a deadline and a futility stop.

One machine for promotion (challenger minus champion) and for probation (former minus the version on probation).
What an outcome leads to is decided by `mlma.core.life_cycle`; the arithmetic is in `mlma.core.paired_evidence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.comparison_rules import (
    CAUSE_CODE,
    CAUSES,
    OUTCOME_OF_CAUSE,
    OUTCOMES,
    Cause,
    Outcome,
    Rule,
    Rules,
    Verdicts,
)
from mlma.core.look_level import look_level
from mlma.core.paired_evidence import Evidence, Sums, evidence, projected
from mlma.core.variance_prior import Prior, fit_prior

__all__ = ["CAUSES", "OUTCOMES", "Cause", "Comparisons", "Outcome", "Rule", "Rules", "Verdicts", "fit_spread"]


@dataclass(slots=True, kw_only=True, eq=False)
class Comparisons:
    """The state of paired comparisons; arrays of shape (comparisons,).

    Attributes
    ----------
    age
        Batches since the beginning, with evidence or not.
    gap
        Batches since the newest evidence.
    newest
        The newest difference; NaN before the first.
    n_batches, information, weighted, squares
        Sums over the batches with evidence, as in `Sums`.

    Notes
    -----
    Differences d_t = log(mean loss of one) - log(mean loss of the other) on the same targets of batch t are
    modelled as normal around the log of the loss ratio, with correlation ``rho`` between neighbours and a variance
    that the fleet knows as a scaled inverse chi-square (`fit_spread`; Smyth, 2004). Whitened, each batch is an
    independent regression through the origin, and four sums hold all that it says.

    `e_process`: Bayes factor of a one-sided normal mixture over the gain, in standard deviations, against "the gain
    is the floor". It is a nonnegative martingale there and smaller when the challenger is worse, so the probability
    that it EVER reaches 1 / alpha is at most alpha (Ville, 1939; Robbins, 1970; Howard, Ramdas, McAuliffe and Sekhon,
    2021, Time-uniform, nonparametric, nonasymptotic confidence sequences, section 3; with estimated variance Wang and
    Ramdas, 2024, Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance).
    Betting on bounded differences (Waudby-Smith and Ramdas, 2024, Estimating means of bounded random variables by
    betting) was no option: log ratios have no bound, and what needs only their symmetry is at most 2^t after
    batch t, which decides nothing at alpha .05 before the fifth batch.

    `looks`: t of the mean with the variance shrunk to the fleet's, at the constant level `look_level` of as many looks
    as the deadline allows. It gives up validity after the deadline, where nobody looks, and gains power.

    Measured, 20,000 comparisons, deadline 8, defaults otherwise; standard deviation of a difference .05, varying
    between pairs like a prior of 6 degrees of freedom; share found `better` after 1 / 2 / 4 / 8 batches:

    ================== ================== ======================== ========================
    rule, correlation  no gain (by 8)     gain 5 %                 gain 10 %
    ================== ================== ======================== ========================
    e_process, 0       .016               .01 / .04 / .16 / .42    .05 / .31 / .79 / .94
    looks, 0           .049               .05 / .14 / .36 / .66    .22 / .59 / .91 / .97
    e_process, .5      .014               .01 / .02 / .06 / .16    .03 / .12 / .40 / .71
    looks, .5          .047               .07 / .12 / .22 / .38    .26 / .45 / .71 / .87
    ================== ================== ======================== ========================

    So the anytime-valid test is too weak within one to four batches to be the default. Without the futility stop,
    `looks` promotes .052 of equals: the levels are those of a normal score. Fit ``rho``: assumed 0 where it is .5,
    .11 of equals are promoted (`looks`); assumed .5 where it is 0, .02, and half of the 5 % gains are lost.
    The stop gives up half of the equals within two batches.

    Examples
    --------
    >>> prior = Prior(df=6.0, variance=0.05**2)
    >>> state = Comparisons.fresh(2)
    >>> for d in ([-0.12, 0.02], [-0.09, 0.01], [-0.11, 0.04]):
    ...     verdicts = state.update(np.array(d), prior, Rules(rho=0.0))
    >>> [OUTCOMES[code].value for code in verdicts.outcome], verdicts.gain.round(2).tolist()
    (['better', 'not_better'], [0.1, -0.02])
    """

    age: Ints
    gap: Ints
    newest: Floats
    n_batches: Ints
    information: Floats
    weighted: Floats
    squares: Floats

    @classmethod
    def fresh(cls, n: int) -> Self:
        """Comparisons that have not begun."""
        return cls(
            age=np.zeros(n, dtype=np.int64),
            gap=np.zeros(n, dtype=np.int64),
            newest=np.full(n, np.nan),
            n_batches=np.zeros(n, dtype=np.int64),
            information=np.zeros(n),
            weighted=np.zeros(n),
            squares=np.zeros(n),
        )

    def update(self, difference: Floats, prior: Prior, rules: Rules, *, active: Bools | None = None) -> Verdicts:
        """Take in one batch and say what each comparison has come to.

        Parameters
        ----------
        difference
            Shape (comparisons,), log mean loss of the one that should be better minus that of the other; negative
            when it is better, not infinite, NaN without common targets (the batch counts towards the deadline).
        prior
            What the fleet knows about the variance of whitened differences (`fit_spread`).
        rules
            The same ones, ``rho`` above all, throughout a comparison.
        active
            Shape (comparisons,), which are under way; the others are left as they are and undecided. None: all.
        """
        is_active = np.ones(len(difference), dtype=np.bool_) if active is None else active
        self._take_in(difference, rules.rho, is_active)
        found = evidence(self.sums(), prior, rules.floor)
        decided = self._decide(found, prior, rules)
        decided = np.where(is_active, decided, CAUSE_CODE[Cause.WAITING]).astype(np.int8)
        return Verdicts(
            outcome=OUTCOME_OF_CAUSE[decided],
            cause=decided,
            gain=-np.expm1(found.mean),
            p_value=found.p_better,
            log_e=found.log_e_better,
            n_batches=self.n_batches.copy(),
        )

    def sums(self) -> Sums:
        """What the batches said so far."""
        return Sums(n=self.n_batches, information=self.information, weighted=self.weighted, squares=self.squares)

    def reset(self, mask: Bools) -> None:
        """Begin the comparisons in ``mask``, shape (comparisons,), anew."""
        for name, value in self.fresh(1).arrays().items():
            getattr(self, name)[mask] = value[0]

    def grow(self, n_more: int) -> None:
        """Add ``n_more`` >= 0 comparisons that have not begun at the end."""
        for name, value in self.fresh(n_more).arrays().items():
            setattr(self, name, np.concatenate([getattr(self, name), value]))

    def arrays(self) -> dict[str, Floats | Ints]:
        """All of the state, as copies that `from_arrays` reads."""
        return {name: getattr(self, name).copy() for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats | Ints]) -> Self:
        """Read the state that `arrays` wrote; the arrays are copied.

        Raises
        ------
        KeyError
            If an array is missing.
        """
        made = cls.fresh(0)
        for name in cls.__slots__:
            setattr(made, name, np.array(arrays[name], dtype=getattr(made, name).dtype))
        return made

    def _take_in(self, difference: Floats, rho: float, active: Bools) -> None:
        """Whiten the differences and add them to the sums."""
        self.age[active] += 1
        self.gap[active] += 1
        seen = active & ~np.isnan(difference)
        d, before = difference[seen], self.newest[seen]
        r = np.where(np.isnan(before), 0.0, rho ** self.gap[seen])
        scale = np.sqrt((1.0 - rho**2) / (1.0 - np.square(r)))
        x, e = scale * (1.0 - r), scale * (d - r * np.where(np.isnan(before), 0.0, before))
        self.information[seen] += np.square(x)
        self.weighted[seen] += x * e
        self.squares[seen] += np.square(e)
        self.n_batches[seen] += 1
        self.newest[seen] = d
        self.gap[seen] = 0

    def _decide(self, found: Evidence, prior: Prior, rules: Rules) -> NDArray[np.int8]:
        """Codes of causes; the first that holds, shown better before all others."""
        remaining = np.maximum(rules.deadline - self.age, 0)
        best = evidence(projected(self.sums(), found, remaining, rho=rules.rho, z=rules.optimism), prior, rules.floor)
        conditions = [
            _is_shown(found.p_better, found.log_e_better, rules, rules.alpha),
            _is_shown(found.p_worse, found.log_e_worse, rules, rules.futility_alpha),
            self.age >= rules.deadline,
            (self.n_batches > 0) & ~_is_shown(best.p_better, best.log_e_better, rules, rules.alpha),
        ]
        causes = (Cause.SHOWN_BETTER, Cause.SHOWN_NOT_BETTER, Cause.DEADLINE, Cause.NO_CHANCE)
        return np.select(conditions, [CAUSE_CODE[cause] for cause in causes], CAUSE_CODE[Cause.WAITING]).astype(np.int8)


def fit_spread(state: Comparisons) -> Prior:
    """Fit what the fleet knows about the variance of whitened differences, from any number of paired differences.

    All pairs of pool members that forecast the same targets tell it, compared or not: feed them to a state of their
    own by `Comparisons.update` and reset or replace it as the pool changes. Pairs with fewer than two batches say
    nothing; without enough pairs there is no prior and every comparison stands for itself.
    """
    df = state.n_batches.astype(np.float64) - 1.0
    known = df >= 1.0
    mean = state.weighted[known] / state.information[known]
    variance = np.full(len(df), np.nan)
    variance[known] = np.maximum(state.squares[known] - mean * state.weighted[known], 0.0) / df[known]
    return fit_prior(variance, df)


def _is_shown(p_value: Floats, log_e: Floats, rules: Rules, alpha: float) -> Bools:
    if rules.rule is Rule.E_PROCESS:
        return np.asarray(log_e >= -np.log(alpha))
    return np.asarray(p_value <= look_level(alpha, rules.deadline, rules.rho))
