"""A forecaster of a user's own: least squares on a few features, without a library that takes seconds to import."""

import json

import numpy as np


class TinyLeastSquares:
    """Ridge regression on all features, missing ones filled with the row's mean."""

    family = "tiny"

    def __init__(self, seed: int = 0, **params: object) -> None:
        del seed, params
        self._weights = np.zeros(0)

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        design = _design(X)
        gram = design.T @ design + 1e-3 * len(design) * np.eye(design.shape[1])
        self._weights = np.linalg.solve(gram, design.T @ y)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return _design(X) @ self._weights

    def to_bytes(self) -> bytes:
        return json.dumps(self._weights.tolist()).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> "TinyLeastSquares":
        made = cls()
        made._weights = np.asarray(json.loads(blob))
        return made


def _design(X: np.ndarray) -> np.ndarray:
    known = np.isfinite(X)
    mean = np.where(known, X, 0.0).sum(axis=1, keepdims=True) / np.maximum(1, known.sum(axis=1, keepdims=True))
    return np.column_stack([np.where(known, X, mean), np.ones(len(X))])
