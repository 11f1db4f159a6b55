"""Which settings a monitor accepts, and how they are written down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TypeVar

from mlma.core.batch_summary import BatchSummary, Detail
from mlma.core.settings import FleetRule, LossName, LossTestName, ReferencePolicy, TestingSettings, Yardstick

Choice = TypeVar("Choice", bound=StrEnum)

LEAST = (("reference_size", 2), ("min_reference", 2), ("season", 1), ("anchored_size", 0))

MOST_REFERENCE = 10_000
"""Batches in a reference; more is a mistake."""


def member(kind: type[Choice], name: str, value: str) -> Choice:
    """Member of an enumeration by its value.

    Raises
    ------
    ValueError
        There is none; says which there are.
    """
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(kind)}") from None


def check(settings: TestingSettings, n_streams: int, labels: Mapping[str, Sequence[str]]) -> None:
    """Refuse settings that no test could keep.

    Raises
    ------
    ValueError
        With what came and what was expected.
    """
    if n_streams < 0:
        raise ValueError(f"n_streams {n_streams}: expected 0 or more")
    if not 0.0 < settings.alpha < 1.0:
        raise ValueError(f"alpha {settings.alpha}: expected a rate between 0 and 1")
    for name, least in LEAST:
        if not least <= getattr(settings, name) <= MOST_REFERENCE:
            raise ValueError(f"{name} {getattr(settings, name)}: expected {least} to {MOST_REFERENCE}")
    if settings.accumulate and (settings.name is not LossTestName.MODERATED or not settings.anchored_size):
        raise ValueError("accumulate: expected the moderated test and an anchored reference")
    if not settings.effect_floor >= 0.0:
        raise ValueError(f"effect_floor {settings.effect_floor}: expected 0 or more")
    for key, values in labels.items():
        if len(values) != n_streams:
            raise ValueError(f"labels[{key!r}] has {len(values)} values, expected one for each of {n_streams} streams")


def written(settings: TestingSettings) -> str:
    """Settings as one line of JSON."""
    return json.dumps(asdict(settings), sort_keys=True)


def read(line: str) -> TestingSettings:
    """Settings from what `written` gave."""
    kinds: dict[str, type[StrEnum]] = {
        "loss": LossName, "name": LossTestName, "reference": ReferencePolicy, "fleet": FleetRule,
        "yardstick": Yardstick,
    }  # fmt: skip
    values: dict[str, Any] = json.loads(line)
    return TestingSettings(**(values | {key: kind(values[key]) for key, kind in kinds.items()}))


def check_summary(settings: TestingSettings, summary: BatchSummary, n_streams: int) -> None:
    """Refuse a batch that the test cannot judge.

    Raises
    ------
    ValueError
        Another number of streams, or what the test looks at is missing.
    """
    if len(summary.mean_loss) != n_streams:
        raise ValueError(f"a summary of {len(summary.mean_loss)} streams, expected {n_streams}")
    detail = Detail.of(settings.name)
    found = {
        Detail.NOTHING: True,
        Detail.MOMENTS: summary.moments is not None,
        Detail.SINGLE: summary.single is not None,
    }
    if not found[detail]:
        wanted = f"summarise_batch(detail=Detail.{detail.name})"
        raise ValueError(f"a summary without what {settings.name} looks at, expected {wanted}")
