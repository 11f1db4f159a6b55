"""The e-process of each stream, and all the values that its predictions rest on.

Predictions from all values since the last reset are the only ones whose p-values an e-process may be fed with
(`mlma.core.e_process`): neither the newest batches nor the frozen ones will do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.e_process import EProcess, anytime_p
from mlma.core.loss_tests import moderated
from mlma.core.prediction import Prediction
from mlma.monitor.all_values import AllValues
from mlma.monitor.prior_memory import fleet_prior

PREFIX = "e_"


@dataclass
class Evidence:
    """Anytime-valid evidence against "the losses did not rise" since the last reset.

    Attributes
    ----------
    process
        The wealth of each stream's bets.
    past
        What the next batch is predicted from.
    fed
        Shape (rows of the ring of references, streams): remembered batches that are part of the evidence.
    """

    n_streams: int
    n_yardsticks: int
    n_rows: int
    process: EProcess = field(init=False)
    past: AllValues = field(init=False)
    fed: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.process = EProcess.fresh(self.n_streams)
        self.past = AllValues(self.n_streams, self.n_yardsticks)
        self.fed = np.zeros((self.n_rows, self.n_streams), dtype=np.bool_)

    def update(self, tested: Floats, prediction: Prediction, *, least: int) -> tuple[Floats, Floats]:
        """Bet on a batch.

        Parameters
        ----------
        tested
            Shape (streams,), cleaned; NaN where it does not count.
        prediction
            Of it, from ``past``.
        least
            Fewest values to predict from.

        Returns
        -------
        tuple of Floats
            Shape (streams,) each: p-values that hold at any time of looking, and logs of the e-values; NaN where
            there was nothing to bet on.
        """
        p = moderated(tested, prediction, fleet_prior(prediction), min_reference=least).p_value
        log_e = self.process.update(p)
        missing = np.isnan(p)
        log_e[missing] = np.nan
        return np.where(missing, np.nan, anytime_p(self.process.log_peak)), log_e

    def add(self, log_loss: Floats, log_yardsticks: Floats, usable: Bools, *, batch: int, row: int) -> None:
        """Take a batch into the past: cleaned log losses (streams,), log yardsticks (k, streams), row of the ring."""
        known = usable & np.isfinite(log_loss) & np.isfinite(log_yardsticks).all(axis=0)
        self.fed[row] = known
        self.past.add(log_loss, log_yardsticks, np.flatnonzero(known), batch=batch)

    def exclude(self, excluded: Bools | None) -> None:
        """Start over with streams whose evidence holds a batch that is bad data; shape of ``fed``, None for none."""
        if excluded is not None:
            self.reset(np.flatnonzero((self.fed & excluded).any(axis=0)))

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        mask = np.zeros(self.n_streams, dtype=np.bool_)
        mask[streams] = True
        self.process.reset(mask)
        self.past.reset(streams)
        self.fed[:, streams] = False

    def grow(self, more: int) -> None:
        """Add streams at the end."""
        self.n_streams += more
        self.process.grow(more)
        self.past.grow(more)
        self.fed = np.concatenate([self.fed, np.zeros((self.n_rows, more), dtype=np.bool_)], axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        made = {PREFIX + name: value for name, value in self.process.arrays().items()}
        return made | self.past.arrays() | {"fed": self.fed}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        mine = {name.removeprefix(PREFIX): value for name, value in arrays.items() if name.startswith(PREFIX)}
        self.process = EProcess.from_arrays(mine)
        self.past.restore(arrays)
        self.fed = arrays["fed"].copy()
        self.n_rows, self.n_streams = self.fed.shape
