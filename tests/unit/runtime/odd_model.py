"""A user's model that fails in a chosen way as soon as its features, or what it learns from, pass a value."""

import json

import numpy as np

from tests.integration.tiny_model import TinyLeastSquares

FITS: list[int] = []
"""Training rows of every fit since a test cleared it."""


class OddModel:
    """Least squares that is healthy while all values lie within (below, above)."""

    family = "odd"

    def __init__(self, mode: str = "raise", at: str = "predict", above: float = 1e300, below: float = -1e300) -> None:
        self._params = {"mode": mode, "at": at, "above": above, "below": below}
        self._inner = TinyLeastSquares()

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        FITS.append(len(y))
        if self._params["at"] == "fit" and self._is_poisoned(y):
            raise RuntimeError("this stream cannot be learnt")
        self._inner.fit(X, y)

    def predict(self, X: np.ndarray) -> np.ndarray:
        made = self._inner.predict(X)
        if self._params["at"] != "predict" or not self._is_poisoned(X):
            return made
        if self._params["mode"] == "raise":
            raise RuntimeError("this stream cannot be forecast")
        bad: dict[object, np.ndarray] = {
            "nan": np.full(len(X), np.nan),
            "inf": np.full(len(X), np.inf),
            "some": np.where(np.arange(len(X)) % 2, made, np.nan),
            "short": made[:-1],
            "wide": made[:, None],
            "scalar": made[0],
            "text": np.array(["many"] * len(X)),
        }
        return bad[self._params["mode"]]

    def _is_poisoned(self, values: np.ndarray) -> bool:
        known = values[np.isfinite(values)]
        return bool(len(known)) and bool(known.max() > self._params["above"] or known.min() < self._params["below"])

    def to_bytes(self) -> bytes:
        return json.dumps([self._params, self._inner.to_bytes().decode()]).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> "OddModel":
        params, inner = json.loads(blob)
        made = cls(**params)
        made._inner = TinyLeastSquares.from_bytes(inner.encode())
        return made
