"""Models that are trained elsewhere and forecast here: the rows to train on, and the artifact that comes back.

`training_rows` is for whoever writes a hook in Python; mlma itself only calls `received`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.errors import HookError, ModelError
from mlma.core.schedule import Schedule
from mlma.core.settings import EXTERNAL, ModelSettings
from mlma.models import lightgbm_model, registry
from mlma.models.features import Features
from mlma.models.forecaster import Forecaster

LIGHTGBM_TEXT = b"tree\n"
"""Start of what LightGBM itself writes; mlma puts a line before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """What a model learns from that is to forecast here.

    Attributes
    ----------
    X
        Features, shape (n, p), NaN where missing: the very ones that mlma gives the model when it forecasts.
    y
        Outcomes, shape (n,), finite.
    names
        Of the p features.
    """

    X: Floats
    y: Floats
    names: tuple[str, ...]


def training_rows(request: Mapping[str, Any]) -> TrainingRows:
    """Features and outcomes of the window that a request holds.

    Parameters
    ----------
    request
        The request of a hook, as read from JSON.

    Raises
    ------
    KeyError
        When it is not such a request.
    """
    schedule = schedule_of(request)
    window = request["window"]
    y = values_of(window["values"])
    start = schedule.slot_at(datetime.fromisoformat(window["start"]))
    first, last = (schedule.slot_at(datetime.fromisoformat(window[name])) for name in ("first_target", "end"))
    features = Features(schedule)
    X = features.build(y[None], start=start, first=first, last=last)[0]
    target = y[first - start : last - start]
    usable = np.isfinite(target)
    return TrainingRows(X=X[usable], y=target[usable], names=features.names)


def schedule_of(request: Mapping[str, Any]) -> Schedule:
    """Event time of a request."""
    told = request["schedule"]
    return Schedule(
        anchor=datetime.fromisoformat(told["anchor"]),
        frequency=timedelta(seconds=told["frequency_s"]),
        horizon=told["horizon"],
        batch=told["batch"],
        train_window=told["train_window"],
    )


def values_of(values: Sequence[float | None]) -> Floats:
    """Values of a request as an array, NaN where missing.

    Examples
    --------
    >>> values_of([1, None])
    array([ 1., nan])
    """
    return np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)


def received(family: str, artifact: bytes, settings: ModelSettings) -> tuple[Forecaster, bytes]:
    """Make a model of an artifact that was trained elsewhere, and the content to store.

    Parameters
    ----------
    family
        As the reply says; empty: the model of the settings.
    artifact
        LightGBM's own text or mlma's, a skops archive of a fitted regressor, or what ``from_bytes`` of the class
        that the settings name reads.

    Raises
    ------
    HookError
        When the family is not known here, or the content is not that of such a model.
    """
    family = family or _family(settings)
    if family.startswith(EXTERNAL):
        raise HookError(f"reply: family = {family!r}; allowed are those that forecast here")
    is_raw = family == lightgbm_model.FAMILY and artifact.startswith(LIGHTGBM_TEXT)
    content = b'{"offset": 0.0, "scale": 1.0}\n' + artifact if is_raw else artifact
    try:
        model = registry.load(family, content, settings)
        is_own = family == lightgbm_model.FAMILY or family in registry.ALIASES or family.startswith("sklearn.")
        return model, model.to_bytes() if is_own else content
    except ModelError as error:
        raise HookError(f"reply: artifact of family {family!r}: {error}") from error


def _family(settings: ModelSettings) -> str:
    """Family of the model that the settings name."""
    if ":" not in settings.name or settings.name.startswith("sklearn."):
        return settings.name
    return registry.make(settings).family
