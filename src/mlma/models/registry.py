"""From a model's name in the settings to the object, and from a stored version back to it."""

import hashlib
import importlib
import inspect
import json
from typing import Any, cast

from mlma.core.errors import ModelError
from mlma.core.settings import EXTERNAL, ModelSettings
from mlma.models import lightgbm_model
from mlma.models.external import ExternalForecaster, version_name
from mlma.models.forecaster import Forecaster
from mlma.models.lightgbm_model import LightGBMForecaster
from mlma.models.sklearn_model import SklearnForecaster

RIDGE = "ridge"
ALIASES = {RIDGE: "sklearn.linear_model:Ridge"}
ALLOWED = "lightgbm, ridge, external, or MODULE:CLASS (a scikit-learn regressor, or a class of your own)"


def make(settings: ModelSettings) -> Forecaster:
    """Make the model that the settings describe, not fitted.

    Raises
    ------
    ModelError
        When there is no such model, or it does not accept the parameters.

    Examples
    --------
    >>> make(ModelSettings(name="ridge", params={"alpha": 10.0})).family
    'ridge'
    >>> make(ModelSettings(name="prophet"))
    Traceback (most recent call last):
    mlma.core.errors.ModelError: model 'prophet' is unknown; allowed are lightgbm, ridge, external, or ...
    """
    if settings.name == lightgbm_model.FAMILY:
        return LightGBMForecaster(settings.params, seed=settings.seed)
    if settings.name == EXTERNAL:
        return ExternalForecaster()
    cls = _class_of(settings.name)
    made = _constructed(cls, settings)
    if not (callable(getattr(made, "fit", None)) and callable(getattr(made, "predict", None))):
        raise ModelError(f"model {settings.name!r}: the class has no methods fit and predict")
    if not _is_forecaster(cls):
        return SklearnForecaster(made, family=settings.name)
    if not isinstance(getattr(made, "family", None), str):
        raise ModelError(
            f"model {settings.name!r}: the class stores itself (to_bytes, from_bytes) but has no attribute family; "
            f"expected family = {settings.name!r}"
        )
    return cast("Forecaster", made)


def load(family: str, blob: bytes, settings: ModelSettings) -> Forecaster:
    """Make the model of a stored version.

    Versions of ``lightgbm``, ``ridge``, scikit-learn's own classes, and those that forecast elsewhere, load whatever
    the settings say now.
    Anything else runs code that is not part of mlma, and loads only while the settings name it.

    Parameters
    ----------
    family
        What ``Forecaster.family`` said when the version was trained.
    blob
        What ``Forecaster.to_bytes`` returned.
    settings
        The present settings of the model.

    Raises
    ------
    ModelError
        When the family is not known here, or the content is not that of such a model.
    """
    if family == lightgbm_model.FAMILY:
        return LightGBMForecaster.from_bytes(blob)
    if version_name(family) is not None:
        return ExternalForecaster.from_bytes(blob)
    if family in ALIASES or family.startswith("sklearn."):
        return SklearnForecaster.from_bytes(blob, family=family)
    cls = _class_of(settings.name) if ":" in settings.name else None
    if cls is None or family not in (settings.name, getattr(cls, "family", None)):
        raise ModelError(
            f"a stored version is of family {family!r}, but the settings name {settings.name!r}; "
            f"allowed are lightgbm, ridge, scikit-learn's classes, and the model that the settings name"
        )
    if _is_forecaster(cls):
        return cast("Forecaster", cls.from_bytes(blob))
    return SklearnForecaster.from_bytes(blob, trusted=(f"{cls.__module__}.{cls.__name__}",), family=family)


def check(settings: ModelSettings) -> None:
    """Raise ModelError unless the model can be made; trains nothing and changes nothing."""
    make(settings)
    fingerprint(settings)


def fingerprint(settings: ModelSettings) -> str:
    """Short hash of name, parameters and seed, the same in every process and for every order of the parameters.

    Raises
    ------
    ModelError
        When a parameter is not text, a number, a truth value, a list or a mapping of these.

    Examples
    --------
    >>> fingerprint(ModelSettings(name="ridge", params={"alpha": 1.0}))
    '55840378b65c'
    """
    content = {"name": settings.name, "params": dict(settings.params), "seed": settings.seed}
    try:
        text = json.dumps(content, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"model {settings.name!r}: parameters {dict(settings.params)!r} cannot be written down ({error}); allowed "
            "are text, numbers, true, false, null, lists and mappings of these"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _class_of(name: str) -> type[Any]:
    """Class that a name in the settings stands for. Raises ModelError."""
    module_name, colon, class_name = ALIASES.get(name, name).partition(":")
    if not (colon and module_name and class_name):
        raise ModelError(f"model {name!r} is unknown; allowed are {ALLOWED}")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise ModelError(
            f"model {name!r}: module {module_name!r} cannot be imported ({error}); allowed are {ALLOWED}. For a file "
            "of your own, start mlma with PYTHONPATH set to its folder"
        ) from error
    cls = getattr(module, class_name, None)
    if not inspect.isclass(cls):
        raise ModelError(f"model {name!r}: module {module_name!r} has no class {class_name!r}; allowed are {ALLOWED}")
    return cls


def _constructed(cls: type[Any], settings: ModelSettings) -> Any:
    """Object of a class with the parameters, and the seed where its constructor takes one. Raises ModelError."""
    params = dict(settings.params)
    accepted = inspect.signature(cls).parameters
    for seed_name in ("random_state", "seed"):
        if seed_name in accepted:
            params.setdefault(seed_name, settings.seed)
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"model {settings.name!r} does not accept the parameters {params!r}: {error}; allowed are "
            f"{', '.join(accepted) or 'none'}"
        ) from error


def _is_forecaster(cls: type[Any]) -> bool:
    """Whether a class stores itself, and so follows the Forecaster protocol."""
    return callable(getattr(cls, "to_bytes", None)) and callable(getattr(cls, "from_bytes", None))
