"""What every model family fulfils, and the checks of training rows that they share."""

from typing import Protocol, Self

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.errors import ModelError


class Forecaster(Protocol):
    """One model: it learns from rows of features once and forecasts from such rows ever after.

    Equal input gives an equal model, byte for byte, and equal forecasts, in any process. A model runs on one
    thread and never changes what it is given. One whose forecasts have the same last bit however many rows are
    asked for at once may say so by an attribute ``is_rowwise = True``; it is then called once for many origins.
    """

    @property
    def family(self) -> str:
        """Name by which `mlma.models.registry.load` finds the class again."""

    def fit(self, X: Floats, y: Floats) -> None:
        """Learn from training rows.

        Parameters
        ----------
        X
            Features, shape (n, p), n >= 1; NaN means missing.
        y
            Outcomes, shape (n,), finite: the caller drops rows without an outcome.

        Raises
        ------
        ModelError
            When the rows do not fit together or the model cannot learn from them.
        """

    def predict(self, X: Floats) -> Floats:
        """Forecast rows of features of shape (n, p), NaN means missing; returns shape (n,).

        Raises
        ------
        ModelError
            When the model was not fitted, or cannot forecast from these rows.
        """

    def to_bytes(self) -> bytes:
        """Content of the model, from which `from_bytes` makes one with identical forecasts.

        Raises
        ------
        ModelError
            When the model was not fitted, or cannot be stored.
        """

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Make a model of its content.

        Raises
        ------
        ModelError
            When the content is not that of such a model.
        """


def check_rows(family: str, X: Floats, y: Floats) -> None:
    """Raise ModelError unless X of shape (n, p) and y of shape (n,) can be trained on.

    Examples
    --------
    >>> check_rows("ridge", np.ones((2, 3)), np.array([1.0, np.nan]))
    Traceback (most recent call last):
    mlma.core.errors.ModelError: ridge: 1 of 2 training outcomes are not finite; drop these rows before fit
    """
    if X.ndim != 2 or y.ndim != 1 or len(X) != len(y):
        raise ModelError(f"{family}: features {X.shape} and outcomes {y.shape}; expected (n, p) and (n,)")
    if not len(y):
        raise ModelError(f"{family}: no training rows; expected at least one")
    n_bad = int((~np.isfinite(y)).sum())
    if n_bad:
        raise ModelError(f"{family}: {n_bad} of {len(y)} training outcomes are not finite; drop these rows before fit")


def checked_forecasts(made: object, n: int) -> Floats:
    """Return what a model gave as floats of shape (n,); values that are not finite are left for the caller to judge.

    Raises
    ------
    ModelError
        When they are not numbers, or not one for each row.

    Examples
    --------
    >>> checked_forecasts([1, 2], 2)
    array([1., 2.])
    >>> checked_forecasts(np.ones((2, 1)), 2)
    Traceback (most recent call last):
    mlma.core.errors.ModelError: forecasts of shape (2, 1), expected (2,)
    """
    try:
        forecasts = np.asarray(made, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"forecasts are not numbers: {error}") from error
    if forecasts.shape != (n,):
        raise ModelError(f"forecasts of shape {forecasts.shape}, expected ({n},)")
    return forecasts
