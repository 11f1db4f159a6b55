"""Versions that forecast elsewhere: what is stored of one is its name, by which its forecasts arrive."""

import json
from typing import Self

from mlma.core.blocks import Floats
from mlma.core.errors import ModelError
from mlma.core.settings import EXTERNAL

PREFIX = f"{EXTERNAL}:"
"""Start of the family of every version; the name follows."""

UNNAMED = "current"
"""Version of forecasts that name none."""


def version_name(family: str) -> str | None:
    """Name of a version that forecasts elsewhere, None for one that forecasts here.

    Examples
    --------
    >>> version_name("external:prod-8"), version_name("ridge")
    ('prod-8', None)
    """
    return family.removeprefix(PREFIX) if family.startswith(PREFIX) else None


class ExternalForecaster:
    """A version by its name. It is never asked: its forecasts are looked up among those that arrived.

    Examples
    --------
    >>> ExternalForecaster.from_bytes(ExternalForecaster("prod-8").to_bytes()).family
    'external:prod-8'
    """

    def __init__(self, version: str = "") -> None:
        self.version = version

    @property
    def family(self) -> str:
        """What `version_name` takes apart."""
        return f"{PREFIX}{self.version}"

    def fit(self, X: Floats, y: Floats) -> None:
        """Raise ModelError: it learns elsewhere."""
        raise ModelError(f"{EXTERNAL}: {X.shape} features and {len(y)} outcomes; such a model is not trained here")

    def predict(self, X: Floats) -> Floats:
        """Raise ModelError: it forecasts elsewhere."""
        raise ModelError(f"{EXTERNAL}: {X.shape} features; the forecasts of such a model arrive in files")

    def to_bytes(self) -> bytes:
        """JSON with the name."""
        return json.dumps({"version": self.version}).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Make a version of the content that `to_bytes` returned. Raises ModelError."""
        try:
            return cls(str(json.loads(blob)["version"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{EXTERNAL}: the content is not the name of a version: {error}") from error
