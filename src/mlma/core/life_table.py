"""The life of a version as one table: state, event, guard, next state, deadline.

What follows from the table is in `mlma.core.life_cycle`; the manual's page docs/manual/life-cycle.md holds the same.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a version is to its stream."""

    CANDIDATE = "candidate"  # being trained, or waiting for its gate
    CHALLENGER = "challenger"  # forecasts, in comparison with the champion
    PROBATION = "probation"  # serves, watched against the former
    SERVING = "serving"  # serves
    KEPT = "kept"  # in the pool, forecasts in shadow
    RETIRED = "retired"  # was of use once, is not any more
    REJECTED = "rejected"  # lost its comparison, or did not pass its gate
    FAILED = "failed"  # was not trained in time, or cannot forecast


class Event(StrEnum):
    """What can happen to a version."""

    TRAINED = "trained"  # its training brought an artifact
    GATE_PASSED = "gate_passed"  # what it learned from is clean and enough
    GATE_REFUSED = "gate_refused"  # it learned from bad data, or from too little
    BETTER = "better"  # it beat the champion
    NOT_BETTER = "not_better"  # futility: it is worse, or has no chance to be shown better in time
    DEADLINE_PASSED = "deadline_passed"  # the state's deadline, counted in closed batches
    FORMER_BETTER = "former_better"  # the former beat it while it was on probation
    PROBATION_OVER = "probation_over"  # the former will not be shown better any more
    REPLACED = "replaced"  # another version serves from now on
    ROLLED_BACK = "rolled_back"  # an engineer took it back
    REINSTATED = "reinstated"  # it is the former of a version that lost its place
    USELESS = "useless"  # the pool forecasts as well without it, or needs its place
    RECALLED = "recalled"  # its shadow forecasts are better than the served ones: worth a comparison
    CANNOT_FORECAST = "cannot_forecast"  # it issued no usable forecast in a closed batch


class Guard(StrEnum):
    """A condition under which a row holds; those of one state and event exclude each other."""

    NONE = ""
    FIRST = "no champion to beat"
    NOT_FIRST = "a champion to beat"
    CHAMPION = "one version serves"
    BLEND = "a blend serves"
    HAS_SERVED = "has served before"
    USEFUL = "useful in the pool"
    NOT_USEFUL = "not useful in the pool"
    INPUTS_CAME = "its inputs were there"


FINAL = frozenset({State.RETIRED, State.REJECTED, State.FAILED})
SERVES = frozenset({State.PROBATION, State.SERVING})
"""States of the champion: at most one version of a stream is in one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Closed batches after which a state ends by itself, each at least 1."""

    candidate: int = 2
    challenger: int = 8
    probation: int = 8
    serving: int = 13
    kept: int = 13

    def of(self, state: State) -> int | None:
        """Deadline of a state; None for the final ones."""
        return None if state in FINAL else int(getattr(self, state))


DEADLINES = Deadlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    starts_clock
        The deadline of the next state is counted anew; otherwise the clock goes on, so that no repetition of an
        event prolongs a life.
    tells
        What the other version is told in the same step: the champion that lost its place, or the former.
    words
        What the row does.
    """

    state: State
    event: Event
    guard: Guard
    next: State
    starts_clock: bool
    tells: Event | None
    words: str


def _row(
    state: State, event: Event, next_state: State, words: str, guard: Guard = Guard.NONE, tells: Event | None = None
) -> Row:
    starts = next_state not in FINAL and (next_state is not state or event is Event.DEADLINE_PASSED)
    return Row(state=state, event=event, guard=guard, next=next_state, starts_clock=starts, tells=tells, words=words)


_S, _E, _G = State, Event, Guard

TABLE: tuple[Row, ...] = (
    _row(_S.CANDIDATE, _E.TRAINED, _S.CANDIDATE, "the gate looks at what it learned from; the clock goes on"),
    _row(
        _S.CANDIDATE,
        _E.GATE_PASSED,
        _S.PROBATION,
        "the very first version serves, watched against the fallback",
        _G.FIRST,
    ),
    _row(_S.CANDIDATE, _E.GATE_PASSED, _S.CHALLENGER, "forecasts; its comparison begins", _G.NOT_FIRST),
    _row(_S.CANDIDATE, _E.GATE_REFUSED, _S.REJECTED, "never forecasts"),
    _row(_S.CANDIDATE, _E.CANNOT_FORECAST, _S.FAILED, "the training brought nothing that forecasts"),
    _row(_S.CANDIDATE, _E.DEADLINE_PASSED, _S.FAILED, "the training or its gate did not end in time"),
    _row(_S.CHALLENGER, _E.BETTER, _S.PROBATION, "becomes champion; the one before is its former", tells=_E.REPLACED),
    _row(_S.CHALLENGER, _E.NOT_BETTER, _S.REJECTED, "lost its comparison", _G.CHAMPION),
    _row(_S.CHALLENGER, _E.NOT_BETTER, _S.KEPT, "keeps its weight in the pool; usefulness decides", _G.BLEND),
    _row(_S.CHALLENGER, _E.DEADLINE_PASSED, _S.REJECTED, "was not shown better in time", _G.CHAMPION),
    _row(_S.CHALLENGER, _E.DEADLINE_PASSED, _S.KEPT, "keeps its weight in the pool; usefulness decides", _G.BLEND),
    _row(_S.CHALLENGER, _E.CANNOT_FORECAST, _S.FAILED, "leaves the pool", _G.INPUTS_CAME),
    _row(_S.PROBATION, _E.PROBATION_OVER, _S.SERVING, "serves unwatched; the former stays in the pool"),
    _row(_S.PROBATION, _E.DEADLINE_PASSED, _S.SERVING, "the former was not shown better in time: serves unwatched"),
    _row(
        _S.PROBATION, _E.FORMER_BETTER, _S.KEPT, "rolled back by itself: the former serves again", tells=_E.REINSTATED
    ),
    _row(_S.PROBATION, _E.ROLLED_BACK, _S.KEPT, "an engineer brings the former back", tells=_E.REINSTATED),
    _row(_S.PROBATION, _E.REPLACED, _S.KEPT, "another version beat it; it is the former now"),
    _row(
        _S.PROBATION,
        _E.CANNOT_FORECAST,
        _S.FAILED,
        "the former serves again",
        _G.INPUTS_CAME,
        tells=_E.REINSTATED,
    ),
    _row(_S.SERVING, _E.REPLACED, _S.KEPT, "another version beat it; it is the former now"),
    _row(_S.SERVING, _E.ROLLED_BACK, _S.KEPT, "an engineer brings the former back", tells=_E.REINSTATED),
    _row(
        _S.SERVING,
        _E.CANNOT_FORECAST,
        _S.FAILED,
        "the former serves again, or the fallback",
        _G.INPUTS_CAME,
        tells=_E.REINSTATED,
    ),
    _row(_S.SERVING, _E.DEADLINE_PASSED, _S.SERVING, "review: what a retraining would save is weighed anew"),
    _row(_S.KEPT, _E.RECALLED, _S.CHALLENGER, "a new comparison begins, as for any challenger"),
    _row(_S.KEPT, _E.REINSTATED, _S.SERVING, "the former serves again; it had won its place before", _G.HAS_SERVED),
    _row(_S.KEPT, _E.USELESS, _S.RETIRED, "leaves the pool"),
    _row(_S.KEPT, _E.DEADLINE_PASSED, _S.KEPT, "review: stays in the pool", _G.USEFUL),
    _row(_S.KEPT, _E.DEADLINE_PASSED, _S.RETIRED, "review: leaves the pool", _G.NOT_USEFUL),
    _row(_S.KEPT, _E.CANNOT_FORECAST, _S.FAILED, "leaves the pool", _G.INPUTS_CAME),
)
"""All that can happen. Rows of one state and event have guards that exclude each other."""
