"""Gradient boosted trees by LightGBM, stored as LightGBM's own text behind one line of ours."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.errors import ModelError
from mlma.models.forecaster import check_rows

if TYPE_CHECKING:
    from lightgbm import Booster

FAMILY = "lightgbm"

DEFAULTS: Mapping[str, object] = {
    "objective": "regression",
    "num_iterations": 60,
    "num_leaves": 15,
    "learning_rate": 0.1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM times both ways and may choose differently in each run
    "verbosity": -1,
}
"""Small trees learn enough from some months of one stream; docs/manual/models.md has the measurements."""

EQUIVARIANT = frozenset(
    {"regression", "regression_l2", "l2", "mean_squared_error", "mse", "l2_root", "root_mean_squared_error"}
    | {"rmse", "regression_l1", "l1", "mean_absolute_error", "mae", "quantile"}
)
"""Objectives whose best forecast moves and stretches with the outcomes."""


class LightGBMForecaster:
    """Boosted trees on standardised outcomes.

    LightGBM keeps outcomes as float32, which would round a large level with a small spread to a few steps;
    they are therefore centred and scaled first wherever the objective permits.

    Parameters
    ----------
    params
        LightGBM's parameters by any of their names; they override `DEFAULTS`.
    seed
        Seed of all that LightGBM draws, unless ``params`` names one.

    Raises
    ------
    ModelError
        When LightGBM has no such parameter.

    Examples
    --------
    >>> X = np.arange(200.0)[:, None] % 10
    >>> model = LightGBMForecaster({"num_trees": 100})
    >>> model.fit(X, 1e9 + X[:, 0])
    >>> np.round(model.predict(np.array([[2.0], [7.0]])) - 1e9, 2)
    array([2., 7.])
    """

    family = FAMILY
    is_rowwise = True  # a forecast has the same last bit however many rows are asked for at once

    def __init__(self, params: Mapping[str, object] | None = None, *, seed: int = 0) -> None:
        self._params = {**DEFAULTS, "seed": seed, **canonical_params(params or {})}
        self._booster: Booster | None = None
        self._offset = 0.0
        self._scale = 1.0

    def fit(self, X: Floats, y: Floats) -> None:
        """Learn from features (n, p) and finite outcomes (n,). Raises ModelError."""
        import lightgbm  # noqa: PLC0415  takes 0.8 s: only who trains or forecasts pays

        check_rows(FAMILY, X, y)
        self._offset, self._scale = _moments(y) if self._params["objective"] in EQUIVARIANT else (0.0, 1.0)
        params = dict(self._params)
        n_trees = params.pop("num_iterations")
        if not isinstance(n_trees, int) or n_trees < 1:
            raise ModelError(f"{FAMILY}: num_trees is {n_trees!r}; expected a whole number of at least 1")
        try:
            rows = lightgbm.Dataset(X, label=(y - self._offset) / self._scale, params=params)
            self._booster = lightgbm.train(params, rows, num_boost_round=n_trees)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise ModelError(f"{FAMILY}: cannot learn from {X.shape} features: {error}") from error

    def predict(self, X: Floats) -> Floats:
        """Forecast features (n, p), NaN means missing; returns (n,). Raises ModelError."""
        import lightgbm  # noqa: PLC0415  see fit

        booster = self._fitted()
        if not len(X):
            return np.empty(0)
        try:
            made = np.asarray(booster.predict(X, num_threads=1), dtype=np.float64)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise ModelError(f"{FAMILY}: cannot forecast from {X.shape} features: {error}") from error
        return self._offset + self._scale * made

    def to_bytes(self) -> bytes:
        """One line of JSON (offset and scale of the outcomes), then LightGBM's text. Raises ModelError."""
        head = json.dumps({"offset": self._offset, "scale": self._scale})
        return f"{head}\n{self._fitted().model_to_string(num_iteration=-1)}".encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Make a model of the content that `to_bytes` returned. Raises ModelError."""
        import lightgbm  # noqa: PLC0415  see fit

        try:
            head, text = blob.decode().split("\n", 1)
            moments = json.loads(head)
            model = cls()
            model._offset, model._scale = float(moments["offset"]), float(moments["scale"])
            model._booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{FAMILY}: the content is not a stored LightGBM model: {error}") from error
        return model

    def _fitted(self) -> "Booster":
        if self._booster is None:
            raise ModelError(f"{FAMILY}: the model was not fitted")
        return self._booster


def canonical_params(params: Mapping[str, object]) -> dict[str, object]:
    """Return parameters under LightGBM's main names, aliases resolved.

    Raises
    ------
    ModelError
        When LightGBM has no such parameter, or two aliases of one are given.
    """
    if not params:
        return {}
    main_names = _main_names()
    renamed: dict[str, object] = {}
    for name, value in params.items():
        if name not in main_names:
            raise ModelError(f"{FAMILY}: unknown parameter {name!r}; allowed are the parameters of LightGBM")
        if main_names[name] in renamed:
            raise ModelError(f"{FAMILY}: parameter {name!r} is given twice (as {main_names[name]!r} too)")
        renamed[main_names[name]] = value
    return renamed


def _main_names() -> dict[str, str]:
    """Return the main name of every parameter and alias. LightGBM itself ignores a name that it does not know."""
    from lightgbm.basic import _ConfigAliases  # noqa: PLC0415  see fit; the only list that LightGBM offers

    aliases: dict[str, list[str]] = _ConfigAliases._get_all_param_aliases()
    return {alias: name for name, known in aliases.items() for alias in (name, *known)}


def _moments(y: Floats) -> tuple[float, float]:
    """Mean and mean absolute deviation of the outcomes; 1 instead of a deviation of 0."""
    offset = float(y.mean())
    scale = float(np.abs(y - offset).mean())
    return offset, scale if scale > 0 else 1.0
