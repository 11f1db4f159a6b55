"""What an event does to a version: the table of its life applied, under the guards and the overrides.

What an event means and when it happens is decided elsewhere (`mlma.core.comparison`, gates, engineers); here stands
only what follows from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from mlma.core.comparison_rules import Cause
from mlma.core.decisions import Hold
from mlma.core.life_table import DEADLINES, FINAL, SERVES, TABLE, Deadlines, Event, Guard, Row, State
from mlma.core.settings import Serve


class Answer(StrEnum):
    """What came of an event."""

    DONE = "done"  # a row of the table was applied
    HELD = "held"  # an override holds it: tell the event again when the override ends
    GUARDED = "guarded"  # the state knows the event, but not under these circumstances
    UNKNOWN = "unknown"  # the state does not know the event
    FINAL = "final"  # nothing happens any more to a version in this state


class Part(StrEnum):
    """How a version takes part in its stream's served forecasts."""

    ALONE = "alone"  # its forecast is served as it is
    WEIGHTED = "weighted"  # its forecast enters the blend with its weight
    SHADOW = "shadow"  # it forecasts and is scored, unserved
    NOTHING = "nothing"  # it does not forecast


FORECASTS = frozenset({State.CHALLENGER, State.PROBATION, State.SERVING, State.KEPT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the guards look at.

    Attributes
    ----------
    serve
        Serving mode of the stream. In `latest`, which the baselines use, the runtime tells `better` without a
        comparison; the table is that of `champion`.
    frozen, pinned
        An override freezes the stream, or pins its serving version.
    is_first
        No version of the stream serves or served: there is no champion to beat, the fallback is the former.
    has_served
        The version was on probation or serving before.
    is_useful
        The pool forecasts better with it than without it.
    inputs_came
        Some member of the pool could forecast in the batch, so that what failed is the version and not its inputs.
    """

    serve: Serve = Serve.BLEND
    frozen: bool = False
    pinned: bool = False
    is_first: bool = False
    has_served: bool = False
    is_useful: bool = False
    inputs_came: bool = True


_HOLDS: Mapping[Guard, Callable[[Circumstances], bool]] = MappingProxyType(
    {
        Guard.NONE: lambda _: True,
        Guard.FIRST: lambda c: c.is_first,
        Guard.NOT_FIRST: lambda c: not c.is_first,
        Guard.CHAMPION: lambda c: c.serve is not Serve.BLEND,
        Guard.BLEND: lambda c: c.serve is Serve.BLEND,
        Guard.HAS_SERVED: lambda c: c.has_served,
        Guard.USEFUL: lambda c: c.is_useful,
        Guard.NOT_USEFUL: lambda c: not c.is_useful,
        Guard.INPUTS_CAME: lambda c: c.inputs_came,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What an event does to a version.

    Attributes
    ----------
    before, state
        State before and after; the same unless a row changed it.
    answer, held_by, reason
        What came of the event, which override held it, and one sentence on why.
    deadline
        Closed batches from now until `deadline_passed` is told; None when the clock goes on or the state is final.
    tells
        What the other version is told in the same step: the champion that lost its place, or the former.
    """

    before: State
    event: Event
    state: State
    answer: Answer
    held_by: Hold = Hold.NOTHING
    reason: str
    deadline: int | None = None
    tells: Event | None = None

    @property
    def has_moved(self) -> bool:
        """Whether the state changed."""
        return self.state is not self.before


def rows_of(state: State, event: Event) -> tuple[Row, ...]:
    """Rows that say what an event does in a state; none when the state does not know it."""
    return tuple(row for row in TABLE if row.state is state and row.event is event)


def advance(
    state: State, event: Event, circumstances: Circumstances, *, deadlines: Deadlines = DEADLINES
) -> Transition:
    """Tell a version in ``state`` that ``event`` happened; every state answers every event.

    Notes
    -----
    A freeze holds every row. A pin holds the rows that would change which version serves, except that it does not
    keep the first one out. What is held changes nothing and is told again when the override ends; the clock of a
    frozen stream stands still.

    Examples
    --------
    >>> step = advance(State.CHALLENGER, Event.BETTER, Circumstances(serve=Serve.CHAMPION))
    >>> str(step.state), str(step.tells), step.deadline
    ('probation', 'replaced', 8)
    >>> advance(State.RETIRED, Event.RECALLED, Circumstances()).reason
    'retired is final'
    """
    rows = rows_of(state, event)
    found = next((row for row in rows if _HOLDS[row.guard](circumstances)), None)
    if found is None:
        if state in FINAL:
            answer, reason = Answer.FINAL, f"{state} is final"
        elif rows:
            wanted = " or ".join(row.guard for row in rows)
            answer, reason = Answer.GUARDED, f"{event} counts for a version in state {state} only if: {wanted}"
        else:
            answer, reason = Answer.UNKNOWN, f"{event} means nothing to a version in state {state}"
        return Transition(before=state, event=event, state=state, answer=answer, reason=reason)
    held_by = _held_by(found, circumstances)
    if held_by is not Hold.NOTHING:
        reason = f"{event} waits: the stream is {held_by}"
        return Transition(before=state, event=event, state=state, answer=Answer.HELD, held_by=held_by, reason=reason)
    return Transition(
        before=state,
        event=event,
        state=found.next,
        answer=Answer.DONE,
        reason=found.words,
        deadline=deadlines.of(found.next) if found.starts_clock else None,
        tells=found.tells,
    )


_EVENTS: Mapping[State, Mapping[Cause, Event]] = MappingProxyType(
    {
        State.CHALLENGER: {
            Cause.SHOWN_BETTER: Event.BETTER,
            Cause.SHOWN_NOT_BETTER: Event.NOT_BETTER,
            Cause.NO_CHANCE: Event.NOT_BETTER,
            Cause.DEADLINE: Event.DEADLINE_PASSED,
        },
        State.PROBATION: {
            Cause.SHOWN_BETTER: Event.FORMER_BETTER,
            Cause.SHOWN_NOT_BETTER: Event.PROBATION_OVER,
            Cause.NO_CHANCE: Event.PROBATION_OVER,
            Cause.DEADLINE: Event.DEADLINE_PASSED,
        },
    }
)


def event_of(state: State, cause: Cause) -> Event | None:
    """What a version is told about its comparison; None while it waits, or when the state has none.

    A challenger is compared as itself minus the champion, a version on probation as the former minus itself.

    Examples
    --------
    >>> str(event_of(State.PROBATION, Cause.SHOWN_BETTER))
    'former_better'
    """
    return _EVENTS.get(state, {}).get(cause)


def part(state: State, serve: Serve) -> Part:
    """How a version takes part in the served forecasts, by its state and the serving mode.

    In a blend every version that forecasts takes part with its weight at once, and none is served alone.
    """
    if state not in FORECASTS:
        return Part.NOTHING
    if serve is Serve.BLEND:
        return Part.WEIGHTED
    return Part.ALONE if state in SERVES else Part.SHADOW


def as_markdown(deadlines: Deadlines = DEADLINES) -> str:
    """The table as the manual shows it; lines end with a line feed."""
    lines = [
        "| state | event | only if | next state | deadline (batches) | tells the other version | what it does |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in TABLE:
        clock = str(deadlines.of(row.next)) if row.starts_clock else "-" if row.next in FINAL else "goes on"
        tells = f"`{row.tells}`" if row.tells else ""
        lines.append(
            f"| `{row.state}` | `{row.event}` | {row.guard} | `{row.next}` | {clock} | {tells} | {row.words} |"
        )
    return "\n".join(lines) + "\n"


def parts_as_markdown() -> str:
    """How each state takes part in either serving mode, as the manual shows it."""
    lines = ["| state | deadline (batches) | `serve: blend` | `serve: champion` |", "|---|---|---|---|"]
    for state in State:
        clock = "final" if state in FINAL else str(DEADLINES.of(state))
        lines.append(f"| `{state}` | {clock} | {part(state, Serve.BLEND)} | {part(state, Serve.CHAMPION)} |")
    return "\n".join(lines) + "\n"


def _held_by(row: Row, circumstances: Circumstances) -> Hold:
    if circumstances.frozen:
        return Hold.FROZEN
    changes_champion = (row.state in SERVES) != (row.next in SERVES)
    if circumstances.pinned and changes_champion and row.guard is not Guard.FIRST:
        return Hold.PINNED
    return Hold.NOTHING
