"""What age costs, as `mlma versions` tells it: by how much a version loses more as it gets older. Pure reading."""

from dataclasses import dataclass

import numpy as np

from mlma.core.account import Account
from mlma.core.records import Stream
from mlma.core.staleness import Staleness
from mlma.runtime.pool_counts import price_of
from mlma.runtime.ports import ControlStore, History

AGES = (5, 14, 27)
"""Batches since its training at which a version is compared with one in its first batch."""

AHEAD = 13
"""Batches over which the saving of a training is added up."""

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Staleness of a stream's versions, or the mean over the fleet; see `mlma.core.staleness`.

    Attributes
    ----------
    ages, rise
        Batches since a training, and the relative loss there beyond that of the first batch.
    n_known, n_streams
        Streams in which versions of several ages forecast the same targets, of how many.
    saving, saving_sd
        Of one stream: relative loss that a training now is expected to save over `AHEAD` batches where one version
        serves, and the standard deviation of what is not known of it; NaN for a fleet.
    debt, price
        Of one stream: what age has cost since its last training, and what a training costs; NaN for a fleet.
    """

    ages: tuple[int, ...]
    rise: tuple[float, ...]
    n_known: int
    n_streams: int
    saving: float = NAN
    saving_sd: float = NAN
    debt: float = NAN
    price: float = NAN


def ageing(store: ControlStore, history: History, stream: Stream | None = None) -> Ageing | None:
    """What age costs a stream, or the fleet, by the last recorded pools; None where nothing is known."""
    cursor = store.cursor()
    block = None if cursor is None else history.pool(cursor)
    if cursor is None or block is None:
        return None
    try:
        state = Staleness.from_columns(block.account)
    except KeyError:
        return None  # recorded by a program that did not note it
    n_known = int(np.count_nonzero(state.df))
    if not n_known:
        return None
    curves = state.curves()
    rise = curves.relative_loss(np.array(AGES)) - 1.0
    if stream is None:
        mean = rise[state.df > 0].mean(axis=0)
        return Ageing(ages=AGES, rise=tuple(mean.tolist()), n_known=n_known, n_streams=len(state.df))
    if stream.id >= len(state.df):
        return None  # born after these pools were recorded
    trained = [version.batch for version in store.versions(stream_id=stream.id)]
    age = np.full(len(state.df), max(0, cursor - max(trained, default=cursor)))
    return Ageing(
        ages=AGES,
        rise=tuple(rise[stream.id].tolist()),
        n_known=int(state.df[stream.id] > 0),
        n_streams=1,
        saving=float(curves.saving(age, AHEAD)[stream.id]),
        saving_sd=float(curves.saving_sd(age, AHEAD)[stream.id]),
        debt=float(Account.of(block.account).debt[stream.id]),
        price=price_of(store.meta(), stream),
    )


def fleet_line(made: Ageing) -> str:
    """Staleness of a fleet in one line.

    Examples
    --------
    >>> fleet_line(Ageing(ages=(5, 14), rise=(0.012, 0.034), n_known=90, n_streams=94))
    'age costs: +1.2 % at 5 batches, +3.4 % at 14, against the first (90 of 94 streams say so)'
    """
    return f"age costs: {_rises(made)}, against the first ({made.n_known:,} of {made.n_streams:,} streams say so)"


def stream_line(made: Ageing) -> str:
    """Staleness of a stream, its debt and the worth of a training (while it is larger than its error), in one line.

    Examples
    --------
    >>> stream_line(Ageing(ages=(5,), rise=(0.02,), n_known=0, n_streams=1, saving=0.2, saving_sd=0.11, debt=0.1,
    ...                    price=0.3))
    "age costs: +2.0 % at 5 batches, against the first (the fleet's); debt 0.10 of 0.3; training now saves 0.20 +- 0.11"
    """
    whose = "" if made.n_known else " (the fleet's)"
    saving = f"training now saves {made.saving:.2f} +- {made.saving_sd:.2f}"
    if not abs(made.saving) > made.saving_sd:
        saving = "what a training now would save is not known"
    return f"age costs: {_rises(made)}, against the first{whose}; debt {made.debt:.2f} of {made.price:g}; {saving}"


def _rises(made: Ageing) -> str:
    parts = [f"{rise:+.1%}".replace("%", " %") for rise in made.rise]
    first, *others = [f"{rise} at {age}" for rise, age in zip(parts, made.ages, strict=True)]
    return ", ".join([f"{first} batches", *others])
