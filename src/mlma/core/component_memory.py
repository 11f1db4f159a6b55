"""What the common component of each label set was in past batches, and whether it is now beyond its own past.

Kept per set and batch: two numbers. Which streams belong to a set is known to `mlma.core.label_sets`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.label_sets import FLEET, LabelSets
from mlma.core.loss_tests import NO_PRIOR, Prior, fit_prior

PAST = 16
"""Batches of a set's component that are kept."""

VALUE_DF = 8.0
"""Degrees of freedom of a stream's studentised deviation, at the low end: a reference of 8, moderated."""

NEVER = -1
"""Batch number of what has not happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentMemory:
    """Past components of the label sets and the state of what is going on, as arrays of shape (sets, ...).

    Attributes
    ----------
    component
        Shape (sets, `PAST`), log units, in a ring; frozen while the set is open.
    error
        Shape (sets, `PAST`), standard error of the component from sampling its members.
    count
        Shape (sets,), components written so far; also tells the place of the next one.
    direction
        Shape (sets,): 1 the set is open because it got worse, -1 because it got better, 0 it is not open.
    opened
        Shape (sets,), batch in which it was opened.
    reported
        Shape (sets,), first batch as an incident, `NEVER` when it is none.
    settled
        Shape (sets,), whether an old shift is the set's normal level and still has to be subtracted.
    """

    component: Floats
    error: Floats
    count: Ints
    direction: Ints
    opened: Ints
    reported: Ints
    settled: Bools

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of the state, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "ComponentMemory":
        """State from what `arrays` gave."""
        return cls(**{name: np.asarray(arrays[name]) for name in cls.__slots__})

    @property
    def is_open(self) -> Bools:
        """Sets whose component is removed because it is beyond their past. Shape (sets,)."""
        return np.asarray(self.direction != 0)

    def grown(self, before: LabelSets, after: LabelSets) -> "ComponentMemory":
        """State for the sets of ``after``: what is known of a set stays with its labels, new sets start empty."""
        source = after.matches(before)
        known = np.flatnonzero(source >= 0)
        fresh = empty_memory(after.n_sets).arrays()
        for name, old in self.arrays().items():
            fresh[name][known] = old[source[known]]
        return ComponentMemory.from_arrays(fresh)


def empty_memory(n_sets: int) -> ComponentMemory:
    """State in which nothing has been seen."""
    return ComponentMemory(
        component=np.zeros((n_sets, PAST)),
        error=np.zeros((n_sets, PAST)),
        count=np.zeros(n_sets, dtype=np.int64),
        direction=np.zeros(n_sets, dtype=np.int64),
        opened=np.full(n_sets, NEVER, dtype=np.int64),
        reported=np.full(n_sets, NEVER, dtype=np.int64),
        settled=np.zeros(n_sets, dtype=np.bool_),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the past says about a set's next component, arrays of shape (sets,).

    Attributes
    ----------
    mean
        Log units.
    own
        Variance of the component itself between batches, beyond sampling its members.
    from_past
        Variance of ``mean``.
    df
        Degrees of freedom of the variances, 0 when there is no test.
    """

    mean: Floats
    own: Floats
    from_past: Floats
    df: Floats

    def scale(self, error: Floats) -> Floats:
        """Predictive standard deviation of a component that is known up to its sampling ``error``."""
        return np.sqrt(self.own + self.from_past + np.square(error))

    def p_values(self, component: Floats, error: Floats) -> tuple[Floats, Floats]:
        """P-values of "worse" and "better", shape (sets,); 1 where there is no test."""
        t = (component - self.mean) / np.maximum(self.scale(error), np.finfo(float).tiny)
        tested = (self.df > 0.0) & np.isfinite(t)
        beyond = _upper(np.where(tested, np.abs(t), 0.0), self.df)
        worse = np.where(t > 0.0, beyond, 1.0 - beyond)
        return np.where(tested, worse, 1.0), np.where(tested, 1.0 - worse, 1.0)


def expected(memory: ComponentMemory, sets: LabelSets, n_ready: Ints) -> Expected:
    """Predict each set's next component from its own past.

    The variance of the past components is set in relation to what sampling the members explains. These ratios
    are moderated over the sets of a kind (Smyth, 2004; `mlma.core.loss_tests.fit_prior`), so that a set with two
    past components can be tested, and are never below 1, for sampling alone makes that much. The fleet is one
    of a kind and has its own variance alone.

    Parameters
    ----------
    memory
        The past.
    sets
        Candidate sets.
    n_ready
        Shape (sets,), members that are looked at now. Their values have tails like Student's t with `VALUE_DF`
        degrees of freedom; the degrees of a location of n of them are bounded so that the tails of the test are
        as heavy (equal kurtosis).

    Notes
    -----
    Assumes that a set's components are exchangeable between batches and roughly normal.
    """
    m = np.minimum(memory.count, PAST)
    seen = np.arange(PAST)[None, :] < m[:, None]
    some = np.maximum(m, 1)
    mean = np.where(seen, memory.component, 0.0).sum(axis=1) / some
    sampling = np.where(seen, np.square(memory.error), 0.0).sum(axis=1) / some
    own_df = np.maximum(m - 1, 0).astype(np.float64)
    between = np.where(seen, np.square(memory.component - mean[:, None]), 0.0).sum(axis=1) / np.maximum(own_df, 1.0)
    ratio = np.divide(between, sampling, out=np.zeros_like(between), where=sampling > 0.0)
    df, excess = own_df.copy(), np.ones_like(ratio)
    for kind in range(len(sets.kinds)):
        of_kind = np.flatnonzero(sets.kind == kind)
        prior = NO_PRIOR if of_kind[0] == FLEET else fit_prior(ratio[of_kind], own_df[of_kind])
        df[of_kind], excess[of_kind] = _moderated(ratio[of_kind], own_df[of_kind], prior)
    df = np.minimum(df, 4.0 + (VALUE_DF - 4.0) * n_ready)
    own = (np.maximum(excess, 1.0) - 1.0) * sampling
    return Expected(mean=mean, own=own, from_past=(own + sampling) / some, df=np.where(m >= 2, df, 0.0))


def written(memory: ComponentMemory, rows: Ints, component: Floats, error: Floats) -> ComponentMemory:
    """Memory with one more component for the sets ``rows``; the other arrays have shape (sets,)."""
    at = memory.count[rows] % PAST
    new_component, new_error, count = memory.component.copy(), memory.error.copy(), memory.count.copy()
    new_component[rows, at], new_error[rows, at] = component[rows], error[rows]
    count[rows] += 1
    return replace(memory, component=new_component, error=new_error, count=count)


def _moderated(ratio: Floats, df: Floats, prior: Prior) -> tuple[Floats, Floats]:
    total = df + prior.df
    if np.isinf(prior.df):
        return total, np.full_like(ratio, prior.variance)
    return total, (prior.df * prior.variance + df * ratio) / np.maximum(total, np.finfo(float).tiny)


def _upper(t: Floats, df: Floats) -> Floats:
    is_normal = np.isinf(df)
    return np.where(is_normal, ndtr(-t), stdtr(np.where(is_normal, 1.0, np.maximum(df, 1.0)), -t))
