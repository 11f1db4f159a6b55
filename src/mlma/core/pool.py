"""The pool of a stream: members that all forecast, their recent losses, and what is served of them.

Arrays have one row a stream and one column a seat; NaN marks an empty seat or a member without a number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints

LossOf = Callable[[Floats], Floats]
"""Losses of forecasts of shape (streams, targets)."""

MIN_SHARE = 0.5
"""Share of a batch's scored targets that a member must have forecast, for its loss to be compared."""

PRIOR_NAIVE = 1.25
"""Loss of seasonal naive relative to that of any other member, taken for granted until there are losses."""

LARGEST_EXPECTED = 10.0
"""Relative loss that is expected of a member at most."""


def member_losses(losses: Floats, *, n_scored: Ints) -> Floats:
    """Mean loss of each member over a batch.

    Parameters
    ----------
    losses
        Shape (streams, seats, targets); NaN where the outcome or the member's forecast is missing.
    n_scored
        Shape (streams,), targets of the batch with a loss of the served forecast.

    Returns
    -------
    Floats
        Shape (streams, seats); NaN for a member that forecast fewer than half of these targets.
    """
    known = np.isfinite(losses)
    n = known.sum(axis=2)
    total = np.where(known, losses, 0.0).sum(axis=2)
    enough = (n > 0) & (n >= MIN_SHARE * n_scored[:, None])
    mean: Floats = np.divide(total, n, out=np.full(total.shape, np.nan), where=enough)
    return mean


@dataclass(frozen=True, slots=True)
class Record:
    """Exponential means of the losses of the members, with how much of their past they stand for.

    Both of shape (streams, seats). ``mass`` is 0 for a member without a loss and tends to 1, so that the mean of a
    young member is the weighted mean of the losses it has, not of a first guess.
    """

    mean: Floats
    mass: Floats

    @classmethod
    def empty(cls, n_streams: int, n_seats: int) -> "Record":
        """Nobody has a loss."""
        return cls(np.full((n_streams, n_seats), np.nan), np.zeros((n_streams, n_seats)))

    def after(self, loss: Floats, *, decay: float) -> "Record":
        """Record after one more batch; a member whose loss is NaN keeps its own.

        Examples
        --------
        >>> record = Record.empty(1, 2).after(np.array([[1.0, np.nan]]), decay=0.5)
        >>> record.after(np.array([[4.0, 2.0]]), decay=0.5).mean
        array([[3., 2.]])
        """
        known = np.isfinite(loss)
        mass = np.where(known, decay * self.mass + (1.0 - decay), self.mass)
        past = np.where(self.mass > 0, self.mean, 0.0) * decay * self.mass
        total = past + (1.0 - decay) * np.where(known, loss, 0.0)
        return Record(np.where(known, total / np.where(mass > 0, mass, 1.0), self.mean), mass)


def expected_loss(ratio: Floats) -> Floats:
    """Loss of a member relative to the others', expected from its loss relative to that of seasonal naive.

    As much worse as it was worse than seasonal naive, which none of the others should be; never below 1, for what
    beats seasonal naive is not better than the others for that.

    Examples
    --------
    >>> expected_loss(np.array([0.5, 2.0, 100.0, np.nan]))
    array([ 1.,  2., 10., nan])
    """
    made: Floats = np.clip(ratio, 1.0, LARGEST_EXPECTED)
    return made


def relative_losses(
    recent: Floats, seated: Bools, *, n_fixed: int, shrinkage: float, expected: Floats | None = None
) -> Floats:
    """Losses relative to the mean over the pool, drawn towards what they are in the fleet.

    How much a member is worth differs less from stream to stream than a few batches of one stream make it seem.

    Parameters
    ----------
    recent
        Shape (streams, seats), NaN for a member without a loss.
    seated
        Shape (streams, seats), whether somebody sits there.
    n_fixed
        Seats that hold the same kind of member in every stream; the rest are trained versions, one kind.
    shrinkage
        Weight of the fleet's median, in [0, 1].
    expected
        Shape (streams, fixed seats), of `expected_loss`: what is taken for granted of a member while nobody has a
        loss on its seat; NaN, or None: 1.

    Returns
    -------
    Floats
        Shape (streams, seats), NaN on empty seats. A version without a loss is expected to do as well as the best
        other version of its stream; any other member without one, as its kind does in the fleet; and while nothing
        is known, as well as the rest (seasonal naive `PRIOR_NAIVE` times as badly).
    """
    known = np.isfinite(recent) & seated
    total = np.where(known, recent, 0.0).sum(axis=1, keepdims=True)
    mean = total / np.maximum(known.sum(axis=1, keepdims=True), 1)
    relative = np.where(known, recent / np.where(mean > 0, mean, 1.0), np.nan)
    made = np.full(relative.shape, np.nan)
    for seats in [*([seat] for seat in range(n_fixed)), list(range(n_fixed, recent.shape[1]))]:
        values = relative[:, seats]
        found = values[np.isfinite(values)]
        fleet = float(np.median(found)) if len(found) else (PRIOR_NAIVE if seats == [0] else 1.0)
        best = np.min(np.where(np.isfinite(values), values, np.inf), axis=1, initial=np.inf, keepdims=True)
        other = np.where(np.isfinite(best), best, fleet)
        if expected is not None and seats and seats[0] < n_fixed and not len(found):
            other = np.where(np.isfinite(expected[:, seats]), expected[:, seats], other)
        own = np.where(np.isfinite(values), values, other)
        made[:, seats] = (1.0 - shrinkage) * own + shrinkage * fleet
    return np.where(seated, made, np.nan)


def exponential_weights(recent: Floats, *, eta: float) -> Floats:
    """Weights ``exp(-eta (recent / best - 1))``, normalised over the members of each stream.

    Exponentially weighted aggregation (Vovk 1990; Cesa-Bianchi and Lugosi 2006, section 2.2) of losses relative
    to the best member's, so that ``eta`` has no unit and serves streams of every level.

    Parameters
    ----------
    recent
        Shape (streams, seats), recent losses >= 0, NaN for a member without one.
    eta
        How fast a weight falls with the relative loss; a member that is ``1 / eta`` worse gets 1/e of the best one's.

    Returns
    -------
    Floats
        Shape (streams, seats), rows sum to 1; members without a recent loss get 0, and a stream where nobody has
        one gets weight 1 on its first seat, seasonal naive.

    Examples
    --------
    >>> exponential_weights(np.array([[2.0, 1.0, np.nan], [np.nan, np.nan, np.nan]]), eta=10.0).round(3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    known = np.isfinite(recent)
    best = np.min(np.where(known, recent, np.inf), axis=1, initial=np.inf, keepdims=True)
    floor = np.where(np.isfinite(best) & (best > 0), best, 1.0)
    excess = np.where(known, recent - np.where(np.isfinite(best), best, 0.0), 0.0) / floor
    weight = np.where(known, np.exp(-eta * excess), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    made: Floats = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    made[total[:, 0] == 0, :1] = 1.0
    return made


def blended(forecast: Floats, weight: Floats) -> Floats:
    """Forecasts of the pools: the weighted mean of the members that gave one.

    Parameters
    ----------
    forecast
        Shape (streams, seats, targets); NaN where a member gave none. Seat 0 is seasonal naive.
    weight
        Shape (streams, seats).

    Returns
    -------
    Floats
        Shape (streams, targets). Where no member with weight gave a forecast, that of seasonal naive.

    Examples
    --------
    >>> blended(np.array([[[1.0, 1.0, 1.0], [3.0, np.nan, 5.0]]]), np.array([[0.5, 0.5]]))
    array([[2., 1., 3.]])
    """
    total = np.zeros((len(forecast), forecast.shape[2]))
    mass = np.zeros_like(total)
    for seat in range(forecast.shape[1]):  # in one order, so that the sum has the same last bit however it is called
        known = np.isfinite(forecast[:, seat])
        total += np.where(known, forecast[:, seat], 0.0) * weight[:, seat, None]
        mass += np.where(known, weight[:, seat, None], 0.0)
    return np.where(mass > 0, np.divide(total, mass, out=np.zeros_like(total), where=mass > 0), forecast[:, 0])


def group_losses(
    losses_of: LossOf, forecast: Floats, inner: Floats, *, n_fixed: int, n_ageless: int | None = None
) -> Floats:
    """Mean losses of the trained versions among themselves, and of the members that do not age among themselves.

    Parameters
    ----------
    losses_of
        Losses of forecasts of shape (streams, targets).
    forecast
        Shape (streams, seats, targets).
    inner
        Shape (streams, seats), weights within each of the two groups.
    n_fixed
        Seats that no version takes.
    n_ageless
        Of these the first ones, of members that do not age; None: all.

    Returns
    -------
    Floats
        Shape (streams, 2): versions, members that do not age; NaN where a group gave no forecast.
    """
    made = np.full((len(forecast), 2), np.nan)
    for column, seats in enumerate((slice(n_fixed, None), slice(0, n_fixed if n_ageless is None else n_ageless))):
        mass = np.where(np.isfinite(forecast[:, seats]), inner[:, seats, None], 0.0).sum(axis=1)
        if not forecast[:, seats].shape[1]:
            continue
        losses = losses_of(np.where(mass > 0, blended(forecast[:, seats], inner[:, seats]), np.nan))
        known = np.isfinite(losses)
        n = known.sum(axis=1)
        total = np.where(known, losses, 0.0).sum(axis=1)
        made[:, column] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return made


def inner_weights(relative: Floats, *, n_fixed: int, eta: float, n_ageless: int | None = None) -> Floats:
    """Exponential weights within the versions and within the members that do not age; each sums to 1, or to 0.

    The seats between the two, of models that serve many streams, belong to neither.
    """
    made = np.zeros(relative.shape)
    for seats in (slice(0, n_fixed if n_ageless is None else n_ageless), slice(n_fixed, None)):
        mine = relative[:, seats] if seats.start else _without_naive(relative[:, seats])
        found = exponential_weights(mine, eta=eta) if mine.shape[1] else made[:, seats]
        made[:, seats] = np.where(np.isfinite(relative[:, seats]).any(axis=1, keepdims=True), found, 0.0)
    return made


def _without_naive(relative: Floats) -> Floats:
    """Leave seasonal naive out where there is anybody else: it serves where nobody gives a forecast."""
    made = relative.copy()
    made[np.isfinite(relative[:, 1:]).any(axis=1), 0] = np.nan
    return made


def shared_weights(relative: Floats, *, n_fixed: int, eta: float) -> Floats:
    """Exponential weights of a pool in which the trained versions of a stream share the weight of one member.

    Versions of one family resemble each other: counted one by one they would outvote the rest.
    """
    weight = exponential_weights(_without_naive(relative), eta=eta)
    n_versions = np.isfinite(relative[:, n_fixed:]).sum(axis=1, keepdims=True)
    weight[:, n_fixed:] /= np.maximum(n_versions, 1)
    made: Floats = weight / weight.sum(axis=1, keepdims=True)
    return made


def leading(forecast: Floats, weight: Floats) -> Ints:
    """Seat of the member with most weight among those that gave a forecast; shape (streams, targets).

    Seasonal naive leads only where nobody else with weight gave one.
    """
    mass = np.where(np.isfinite(forecast), weight[:, :, None], 0.0)
    others = mass[:, 1:]
    if not others.shape[1]:
        return np.zeros(mass.shape[::2], dtype=np.int64)
    lead = others.argmax(axis=1) + 1
    return np.where(others.max(axis=1) > 0, lead, 0).astype(np.int64)
