"""Paired comparisons of the versions of every pool with its champion, where one version serves alone and must prove it.

The comparisons are those of `mlma.core.comparison`; here is who is compared, and what is kept of it.
"""

from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.comparison import CAUSES, OUTCOMES, Comparisons, Outcome, Rules, fit_spread

NUMBERS = tuple(Comparisons.fresh(0).arrays())
"""What is kept of a comparison, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the comparisons of a batch came to; arrays of shape (streams, seats of versions)."""

    better: Bools
    not_better: Bools
    gain: Floats  # estimated share of the champion's loss that would be saved
    cause: list[list[str]]  # of every comparison in words


@dataclass
class Contests:
    """One comparison a stream and seat of a version."""

    n_seats: int  # of versions
    rules: Rules = field(default_factory=Rules)
    state: Comparisons = field(default_factory=lambda: Comparisons.fresh(0))

    def grow(self, n_streams: int) -> None:
        """Add born streams."""
        self.state.grow(n_streams * self.n_seats)

    def judge(self, loss: Floats, champion: Ints, seated: Bools) -> Judged:
        """Take in one batch.

        Parameters
        ----------
        loss
            Mean losses of the versions, shape (streams, seats).
        champion
            Position of the champion among these seats, shape (streams,); -1 while there is none.
        seated
            Shape (streams, seats).
        """
        rows = np.arange(len(loss))
        has = champion >= 0
        own = np.where(has, loss[rows, np.maximum(champion, 0)], np.nan)[:, None]
        comparable = (loss > 0) & (own > 0)
        logs = np.log(np.where(comparable, loss, 1.0)) - np.log(np.where(comparable, own, 1.0))
        difference = np.where(comparable, logs, np.nan)
        active = seated & has[:, None]
        active[rows[has], champion[has]] = False
        made = self.state.update(difference.ravel(), fit_spread(self.state), self.rules, active=active.ravel())
        outcome = made.outcome.reshape(loss.shape)
        ended = active & (outcome != OUTCOMES.index(Outcome.UNDECIDED))
        self.state.reset(ended.ravel())
        causes = np.asarray([str(cause) for cause in CAUSES])[made.cause].reshape(loss.shape)
        return Judged(
            better=active & (outcome == OUTCOMES.index(Outcome.BETTER)),
            not_better=active & (outcome == OUTCOMES.index(Outcome.NOT_BETTER)),
            gain=made.gain.reshape(loss.shape),
            cause=causes.tolist(),
        )

    def begin(self, stream_id: int, seat: int | None = None) -> None:
        """Begin the comparison of one seat anew, or all of a stream."""
        mask = np.zeros((len(self.state.age) // max(1, self.n_seats), self.n_seats), dtype=np.bool_)
        mask[stream_id, slice(None) if seat is None else seat] = True
        self.state.reset(mask.ravel())

    def numbers(self) -> Floats:
        """Everything, shape (streams, seats, numbers)."""
        columns = [np.asarray(value, dtype=np.float64) for value in self.state.arrays().values()]
        return np.stack(columns, axis=1).reshape(-1, self.n_seats, len(NUMBERS))

    def restore(self, numbers: Floats) -> None:
        """Take up what `numbers` gave."""
        flat = numbers.reshape(-1, len(NUMBERS))
        self.state = Comparisons.from_arrays({name: flat[:, i] for i, name in enumerate(NUMBERS)})
