"""In which state of its life a version is, from what is recorded about it."""

from mlma.core.decisions import Role
from mlma.core.life_table import DEADLINES, State
from mlma.core.records import Version


def state_of(version: Version, *, serves: str, seated: bool, waits: bool = False, on_probation: bool = False) -> State:
    """State of a version.

    Parameters
    ----------
    serves
        Id of the version that serves its stream.
    seated
        It has a seat in the pool.
    waits
        An override keeps it from serving.
    on_probation
        The version that serves does so alone, and `is_watched`.
    """
    if version.role is Role.REJECTED:
        return State.REJECTED
    if version.id == serves:
        return State.PROBATION if on_probation else State.SERVING
    if seated:
        return State.CHALLENGER if version.role is Role.CHALLENGER else State.KEPT
    return State.CANDIDATE if waits and version.role is Role.CHALLENGER else State.RETIRED


def is_watched(n_batches: int) -> bool:
    """Whether a version that has served alone for so many batches is still on probation."""
    return n_batches <= DEADLINES.probation
