"""What a closed batch teaches: targets with their features, as the rows of the regressions."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats
from mlma.models.evergreen import gram
from mlma.models.evergreen.design import Design

MAX_LOG = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Targets of consecutive batches, with their features."""

    design: Design
    target: Floats  # (S, targets), 0 where unknown
    fit: Bools  # (S, targets), whether it may be learned from

    def log_rows(self) -> Floats:
        """Rows of the regression of logarithms, (S, targets, p + 2)."""
        return gram.rows_of(log_features(self.design), signed_log(self.target), self.fit)


def in_units(values: Floats, unit: Floats) -> Floats:
    """Values (streams, ...) less the shift and over the scale of their streams, ``unit`` of shape (streams, 2)."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    scale = np.where(np.isfinite(unit[:, 1]), unit[:, 1], 1.0).reshape(shape)
    return (values - unit[:, 0].reshape(shape)) / scale


def signed_log(values: Floats) -> Floats:
    """Logarithm of 1 plus the size of values, with their sign: an order that holds on both sides of zero.

    Examples
    --------
    >>> signed_log(np.array([-1.0, 0.0, np.e - 1.0])).round(2).tolist()
    [-0.69, 0.0, 1.0]
    """
    made: Floats = np.copysign(np.log1p(np.abs(values)), values)
    return made


def signed_exp(logs: Floats) -> Floats:
    """Values whose `signed_log` is given."""
    made: Floats = np.copysign(np.expm1(np.minimum(np.abs(logs), MAX_LOG)), logs)
    return made


def log_features(design: Design) -> Floats:
    """Features of the regression of logarithms, shape (streams, targets, p)."""
    logs = signed_log(design.numeric)
    calendar = np.broadcast_to(design.calendar, (*logs.shape[:2], design.calendar.shape[1]))
    return np.concatenate([logs, calendar], axis=2)


def slot_features(design: Design, unit: Floats) -> Floats:
    """Features of the regressions by part of the day, shape (streams, targets, q)."""
    values = np.concatenate([design.numeric, design.origin], axis=2)
    weekday = np.broadcast_to(design.weekday, (*values.shape[:2], design.weekday.shape[1]))
    return np.concatenate([in_units(values, unit), weekday], axis=2)
