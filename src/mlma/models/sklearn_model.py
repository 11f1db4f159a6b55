"""Any scikit-learn regressor as a forecaster, stored through skops.

What skops finds in a stored model is checked type by type before anything is built: never an unchecked pickle.
"""

import io
import json
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Self
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.errors import ModelError
from mlma.models.forecaster import check_rows

TRUSTED_PACKAGES = frozenset({"sklearn", "numpy", "scipy"})

SCALE_SENSITIVE = ("linear_model", "svm", "neighbors", "neural_network", "kernel_ridge", "gaussian_process")
"""Modules of scikit-learn whose regressors depend on the units of the features."""


class SklearnForecaster:
    """A regressor behind the median of each feature for what is missing, and standardised features if it is linear.

    Parameters
    ----------
    regressor
        Object with ``fit(X, y)`` and ``predict(X)``, not fitted.
    family
        Its name in the settings, ``ridge`` or ``MODULE:CLASS``.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> model = SklearnForecaster(LinearRegression(), family="sklearn.linear_model:LinearRegression")
    >>> model.fit(np.array([[0.0], [1.0], [np.nan], [2.0]]), np.array([0.0, 2.0, 2.0, 4.0]))
    >>> np.round(model.predict(np.array([[3.0]])), 6)
    array([6.])
    """

    def __init__(self, regressor: Any, *, family: str) -> None:
        self.family = family
        self._regressor = regressor
        self._preparation: Any = None

    def fit(self, X: Floats, y: Floats) -> None:
        """Learn from features (n, p) and finite outcomes (n,). Raises ModelError."""
        check_rows(self.family, X, y)
        preparation = _preparation(self._regressor)
        try:
            with _one_thread():
                self._regressor.fit(preparation.fit_transform(_row_major(X)), y)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"{self.family}: cannot learn from {X.shape} features: {error}") from error
        self._preparation = preparation

    def predict(self, X: Floats) -> Floats:
        """Forecast features (n, p), NaN means missing; returns (n,). Raises ModelError."""
        preparation = self._fitted()
        if not len(X):
            return np.empty(0)
        try:
            with _one_thread():
                made = np.asarray(self._regressor.predict(preparation.transform(_row_major(X))), dtype=np.float64)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"{self.family}: cannot forecast from {X.shape} features: {error}") from error
        if made.size != len(X):
            raise ModelError(f"{self.family}: forecasts of shape {made.shape}; expected ({len(X)},)")
        return made.reshape(len(X))

    def to_bytes(self) -> bytes:
        """Return a skops archive; equal models have equal content. Raises ModelError."""
        import skops.io  # noqa: PLC0415  takes seconds: only who stores or loads a version pays

        state = {"family": self.family, "preparation": self._fitted(), "regressor": self._regressor}
        try:
            return _without_addresses(skops.io.dumps(state))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{self.family}: skops cannot store the fitted model: {error}; a class that has to_bytes and "
                "from_bytes stores itself"
            ) from error

    @classmethod
    def from_bytes(cls, blob: bytes, *, trusted: Collection[str] = (), family: str = "") -> Self:
        """Make a model of its content.

        Parameters
        ----------
        blob
            A skops archive: what `to_bytes` returned, or a fitted regressor that copes with missing features.
        trusted
            Full names of the types that may be built besides those of scikit-learn, NumPy and SciPy.
        family
            Of a regressor that stands alone.

        Raises
        ------
        ModelError
            When the content is no stored model, or holds a type that is not trusted.
        """
        import skops.io  # noqa: PLC0415  see to_bytes

        try:
            found = skops.io.get_untrusted_types(data=blob)
            refused = [name for name in found if name.split(".")[0] not in TRUSTED_PACKAGES and name not in trusted]
            if refused:
                raise ModelError(
                    f"the stored model holds types that are not trusted: {', '.join(refused)}; allowed are "
                    f"those of {', '.join(sorted(TRUSTED_PACKAGES))} and {', '.join(trusted) or 'no others'}"
                )
            state = skops.io.loads(blob, trusted=found)
            if callable(getattr(state, "predict", None)):
                state = {"regressor": state, "family": family, "preparation": _nothing()}
            model = cls(state["regressor"], family=state["family"])
            model._preparation = state["preparation"]
        except (BadZipFile, KeyError, ValueError, TypeError, ImportError, AttributeError, EOFError) as error:
            raise ModelError(f"the content is not a stored scikit-learn model: {error}") from error
        return model

    def _fitted(self) -> Any:
        if self._preparation is None:
            raise ModelError(f"{self.family}: the model was not fitted")
        return self._preparation


def _nothing() -> Any:
    """Return a step that leaves the features as they are."""
    from sklearn.preprocessing import FunctionTransformer  # noqa: PLC0415  see to_bytes

    return FunctionTransformer()


def _row_major(X: Floats) -> Floats:
    """Return the rows in one memory order, because sums in another order end in other digits."""
    return np.ascontiguousarray(X, dtype=np.float64)


def _preparation(regressor: Any) -> Any:
    """Steps before a regressor: imputation, and standardisation where the units of the features matter."""
    from sklearn.impute import SimpleImputer  # noqa: PLC0415  see to_bytes
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    module = type(regressor).__module__.split(".")
    if module[0] == "sklearn" and module[1] in SCALE_SENSITIVE:
        return make_pipeline(imputer, StandardScaler())
    return make_pipeline(imputer)


@cache
def _threads() -> Any:
    """Look up the thread pools of this process once: it takes milliseconds."""
    from threadpoolctl import (  # type: ignore[import-untyped]  # noqa: PLC0415  comes with scikit-learn, has no types
        ThreadpoolController,
    )

    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[object]:
    """Hold BLAS and OpenMP at one thread: the fleet is parallel over streams, and sums keep their order."""
    limit: AbstractContextManager[object] = _threads().limit(limits=1)
    return limit


def _without_addresses(archive: bytes) -> bytes:
    """Rewrite a skops archive so that equal models give equal bytes.

    skops names its parts by memory address, the zip notes the time. An address only tells the loader that
    two places share one object, which no forecast depends on.
    """
    new_names: dict[str, str] = {}

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(child) for child in node]
        if not isinstance(node, dict):
            return node
        copy = {name: renamed(child) for name, child in node.items()}
        if "__loader__" in node:
            copy.pop("__id__", None)
            if "file" in node:
                suffix = node["file"].rpartition(".")[2]
                copy["file"] = new_names.setdefault(node["file"], f"{len(new_names)}.{suffix}")
        return copy

    packed = io.BytesIO()
    with ZipFile(io.BytesIO(archive)) as old, ZipFile(packed, "w", ZIP_DEFLATED) as new:
        schema = renamed(json.loads(old.read("schema.json")))
        for old_name, new_name in new_names.items():
            new.writestr(ZipInfo(new_name), _without_padding(old.read(old_name)), ZIP_DEFLATED)
        new.writestr(ZipInfo("schema.json"), json.dumps(schema), ZIP_DEFLATED)
    return packed.getvalue()


def _without_padding(part: bytes) -> bytes:
    """Return an array file with zeros between the fields of its records; any other part as it is.

    The nodes of scikit-learn's trees are records padded with whatever the memory held.
    """
    if not part.startswith(b"\x93NUMPY"):
        return part
    records = np.load(io.BytesIO(part), allow_pickle=False)
    if records.dtype.names is None:
        return part
    clean = np.zeros(records.shape, dtype=records.dtype)
    for name in records.dtype.names:
        clean[name] = records[name]
    packed = io.BytesIO()
    np.save(packed, clean, allow_pickle=False)
    return packed.getvalue()
