"""Functions of an engineer that are asked for trainings; shared by the tests of hooks."""

import base64

from mlma.models.elsewhere import training_rows
from tests.integration.tiny_model import TinyLeastSquares

ASKED: list[dict[str, object]] = []
"""Requests since a test cleared it."""


def tiny(request: dict[str, object]) -> dict[str, object]:
    """Train the tiny model on the very rows that mlma would have trained it on."""
    ASKED.append(request)
    rows = training_rows(request)
    model = TinyLeastSquares()
    model.fit(rows.X, rows.y)
    return {"artifact": base64.b64encode(model.to_bytes()).decode(), "cpu_s": 7.5}


def broken(request: dict[str, object]) -> None:
    """Fail for one stream."""
    ASKED.append(request)
    if request["stream"]["name"] == "s001":  # type: ignore[index]
        raise RuntimeError("the GPU is on fire")


def healing(request: dict[str, object]) -> dict[str, object]:
    """Fail at the first try of each training."""
    ASKED.append(request)
    if request["attempt"] == 1:
        raise RuntimeError("come back later")
    return {"version": f"second-{request['version']}"}


def named(request: dict[str, object]) -> dict[str, object]:
    """Accept a training; the forecasts of the version will arrive under this name."""
    ASKED.append(request)
    return {"version": f"prod-{request['version']}"}


def nothing(request: dict[str, object]) -> None:
    """Accept a training under the id that was asked for."""
    ASKED.append(request)


def path_of(request: dict[str, object]) -> str:
    """Answer with the path of a file: this one."""
    del request
    return __file__


def bytes_of(request: dict[str, object]) -> bytes:
    """Answer with the artifact itself."""
    return str(request["id"]).encode()


def number_of(request: dict[str, object]) -> int:
    """Answer with something that is no reply."""
    del request
    return 5
