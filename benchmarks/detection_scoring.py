"""How `benchmarks.detection` scores alarms: first alarms at a matched budget, paired contests, whole runs with resets.

Pure functions over arrays. A detector that alarms blindly must look as bad as it is: every drift can be found once,
and every other alarm is false.
"""

import math
from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

SILENT = -np.inf
"""Evidence of a detector that has nothing to say about a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """Threshold on the evidence that meets a budget, and the rate of false alarms that it was measured to have.

    ``threshold`` is NaN, which no evidence reaches, where the detector must be switched off to meet the budget.
    """

    threshold: float
    rate: float


def first_alarms(evidence: Floats, threshold: float) -> Ints:
    """Batch of each stream's first alarm (evidence at or above the threshold), the number of batches without one.

    Parameters
    ----------
    evidence
        Shape (streams, batches), larger is worse, `SILENT` where there is none.
    threshold
        Of the evidence.

    Returns
    -------
    Ints
        Shape (streams,).

    Examples
    --------
    >>> first_alarms(np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), 2.0).tolist()
    [1, 3]
    """
    alarm = evidence >= threshold
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1), evidence.shape[1]).astype(np.int64)


def false_alarm_rate(first: Ints, batches: int) -> float:
    """First alarms of healthy streams per batch at risk: a stream counts until its first alarm.

    The reciprocal estimates the mean time between false alarms from runs that end (the estimator of an
    exponential time under censoring), without saying anything about what happens after a reset.

    Examples
    --------
    >>> false_alarm_rate(np.array([1, 4, 4]), 4)
    0.1
    """
    return float(np.count_nonzero(first < batches) / np.minimum(first + 1, batches).sum())


def match(evidence: Floats, budget: float) -> Knob:
    """Most sensitive threshold that keeps healthy streams within a budget of false alarms.

    Parameters
    ----------
    evidence
        Of healthy streams, shape (streams, batches).
    budget
        False alarms per batch at risk.

    Returns
    -------
    Knob
        The smallest threshold among the values of the evidence whose rate is at or below the budget; NaN when there
        is none.

    Examples
    --------
    >>> match(np.array([[1.0, 2.0], [3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), 0.2)
    Knob(threshold=3.0, rate=0.14285714285714285)
    """
    highest = np.maximum.accumulate(evidence, axis=1)
    candidates = np.unique(highest[highest > SILENT])
    n_streams = len(evidence)
    final, earlier = np.sort(highest[:, -1]), np.sort(highest[:, :-1].ravel())
    alarms = n_streams - np.searchsorted(final, candidates, side="left")
    at_risk = n_streams + np.searchsorted(earlier, candidates, side="left")
    rates = alarms / at_risk
    within = np.flatnonzero(rates <= budget)
    if len(within) == 0:
        return Knob(threshold=math.nan, rate=0.0)
    return Knob(threshold=float(candidates[within[0]]), rate=float(rates[within[0]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one detector did about one drift, arrays of shape (streams,).

    Attributes
    ----------
    at_risk
        No alarm before the onset; the other streams say nothing about delay.
    delay
        Batches from the onset to the close of the batch that alarmed, 1 at best; a missed drift counts the whole
        horizon.
    missed
        No alarm within the horizon.
    late
        First alarm after the horizon: a false one, for what it might have been about is over.
    """

    at_risk: Bools
    delay: Floats
    missed: Bools
    late: Bools


def outcome(first: Ints, *, onset: int, horizon: int, batches: int) -> Outcome:
    """Judge first alarms against one drift that begins at ``onset`` and counts as found within ``horizon`` batches.

    Examples
    --------
    >>> found = outcome(np.array([1, 4, 9, 12]), onset=4, horizon=5, batches=12)
    >>> found.at_risk.tolist(), found.delay.tolist(), found.missed.tolist(), found.late.tolist()
    ([False, True, True, True], [5.0, 1.0, 5.0, 5.0], [True, False, True, True], [False, False, True, False])
    """
    at_risk = first >= onset
    found = at_risk & (first < onset + horizon)
    return Outcome(
        at_risk=at_risk,
        delay=np.where(found, first - onset + 1, horizon).astype(np.float64),
        missed=~found,
        late=at_risk & ~found & (first < batches),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of paired differences (first minus second; below zero the first is better) and its standard error."""

    mean: float
    error: float

    @property
    def is_worse(self) -> bool:
        """Larger by more than one standard error."""
        return self.mean > self.error

    @property
    def is_better(self) -> bool:
        """Smaller by more than one standard error."""
        return self.mean < -self.error


def paired(a: Floats, b: Floats, cluster: Ints) -> Difference:
    """Mean of a - b with a standard error from independent clusters (one stream each, or one fleet each).

    Examples
    --------
    >>> paired(np.array([3.0, 1.0]), np.array([1.0, 1.0]), np.array([0, 1]))
    Difference(mean=1.0, error=1.0)
    """
    difference = np.asarray(a, dtype=np.float64) - b
    if len(difference) == 0:
        return Difference(mean=0.0, error=math.inf)
    labels = np.unique(cluster, return_inverse=True)[1]
    k = int(labels.max()) + 1
    mean = float(difference.mean())
    if k < 2:
        return Difference(mean=mean, error=math.inf)
    totals = np.bincount(labels, weights=difference - mean, minlength=k)
    return Difference(mean=mean, error=float(np.sqrt(np.square(totals).sum() * k / (k - 1)) / len(difference)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScore:
    """Score of a whole run in which every alarm resets the detector and mends the stream.

    Attributes
    ----------
    mtfa
        Batches without drift for every false alarm; infinite without one.
    mtd
        Batches from onset to alarm over the drifts that were found; NaN when none was.
    mdr
        Share of drifts that were missed; NaN without drifts.
    mtr
        mtfa / mtd x (1 - mdr), after Bifet et al. (2013), CD-MOA: 0 when nothing was found.
    false_per_1000
        False alarms per 1,000 stream-batches of the whole run.
    precision
        Share of the alarms that found a drift; NaN without an alarm.
    """

    mtfa: float
    mtd: float
    mdr: float
    mtr: float
    false_per_1000: float
    precision: float


def score_run(alarms: Bools, drift: Ints) -> RunScore:
    """Score alarms of a whole run: the first alarm inside a drift is the true one, every other alarm is false.

    Parameters
    ----------
    alarms
        Shape (streams, batches).
    drift
        Shape (streams, batches): number of the drift whose horizon covers the batch, -1 for none; a number names one
        drift within its stream. The horizon stays a drift's after its alarm: a second alarm inside it is false.

    Returns
    -------
    RunScore
        Of all streams together.
    """
    delays, n_drifts = [], 0
    for number in range(int(drift.max(initial=-1)) + 1):
        inside = drift == number
        rows = np.flatnonzero(inside.any(axis=1))
        n_drifts += len(rows)
        hit = (alarms & inside)[rows]
        found = hit.any(axis=1)
        delays.append((hit.argmax(axis=1) - inside[rows].argmax(axis=1) + 1)[found])
    delay = np.concatenate(delays) if delays else np.zeros(0)
    n_alarms, n_found = int(alarms.sum()), len(delay)
    n_false = n_alarms - n_found
    healthy = int(np.count_nonzero(drift < 0))
    mtfa = healthy / n_false if n_false else math.inf
    mtd = float(delay.mean()) if n_found else math.nan
    mdr = 1.0 - n_found / n_drifts if n_drifts else math.nan
    return RunScore(
        mtfa=mtfa,
        mtd=mtd,
        mdr=mdr,
        mtr=mtfa / mtd * (1.0 - mdr) if n_found else 0.0,
        false_per_1000=1000.0 * n_false / alarms.size,
        precision=n_found / n_alarms if n_alarms else math.nan,
    )
