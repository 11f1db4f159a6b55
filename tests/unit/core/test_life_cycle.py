from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.comparison_rules import Cause
from mlma.core.decisions import Hold
from mlma.core.life_cycle import (
    Answer,
    Circumstances,
    Part,
    advance,
    as_markdown,
    event_of,
    part,
    parts_as_markdown,
    rows_of,
)
from mlma.core.life_table import DEADLINES, FINAL, SERVES, TABLE, Deadlines, Event, Guard, State
from mlma.core.settings import Serve

PAGE = Path(__file__).parents[3] / "docs" / "manual" / "life-cycle.md"
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)
FLAGS = ("frozen", "pinned", "is_first", "has_served", "is_useful", "inputs_came")
EVERY = [
    Circumstances(serve=serve, **dict(zip(FLAGS, flags, strict=True)))
    for serve in Serve
    for flags in product([False, True], repeat=len(FLAGS))
]
FREE = [c for c in EVERY if not (c.frozen or c.pinned)]
states, events = st.sampled_from(State), st.sampled_from(Event)
circumstances = st.sampled_from(EVERY)


@pytest.mark.parametrize(
    ("state", "event", "serve", "wanted"),
    [
        (State.CANDIDATE, Event.TRAINED, Serve.CHAMPION, State.CANDIDATE),
        (State.CANDIDATE, Event.GATE_PASSED, Serve.CHAMPION, State.CHALLENGER),
        (State.CANDIDATE, Event.GATE_REFUSED, Serve.BLEND, State.REJECTED),
        (State.CHALLENGER, Event.BETTER, Serve.BLEND, State.PROBATION),
        (State.CHALLENGER, Event.NOT_BETTER, Serve.CHAMPION, State.REJECTED),
        (State.CHALLENGER, Event.NOT_BETTER, Serve.BLEND, State.KEPT),
        (State.CHALLENGER, Event.DEADLINE_PASSED, Serve.CHAMPION, State.REJECTED),
        (State.PROBATION, Event.FORMER_BETTER, Serve.CHAMPION, State.KEPT),
        (State.PROBATION, Event.PROBATION_OVER, Serve.CHAMPION, State.SERVING),
        (State.SERVING, Event.REPLACED, Serve.CHAMPION, State.KEPT),
        (State.KEPT, Event.RECALLED, Serve.CHAMPION, State.CHALLENGER),
        (State.KEPT, Event.USELESS, Serve.BLEND, State.RETIRED),
        (State.SERVING, Event.CANNOT_FORECAST, Serve.CHAMPION, State.FAILED),
    ],
)
def test_a_life_goes_on_as_the_design_says(state: State, event: Event, serve: Serve, wanted: State) -> None:
    assert advance(state, event, Circumstances(serve=serve)).state is wanted


def test_the_table_has_no_row_twice() -> None:
    keys = [(row.state, row.event, row.guard) for row in TABLE]
    assert len(set(keys)) == len(keys)


def test_rows_of_one_state_and_event_exclude_each_other() -> None:
    for state, event in product(State, Event):
        rows = rows_of(state, event)
        assert len(rows) <= 1 or Guard.NONE not in {row.guard for row in rows}
        for c in FREE:
            first = advance(state, event, c)
            # the order of the table must not matter: no other row of the pair may hold as well
            words = {row.words for row in rows if row.words != first.reason and row.guard is not Guard.NONE}
            if first.answer is Answer.DONE and len(rows) > 1:
                assert len(words) == len({row.words for row in rows}) - 1
                assert {row.guard for row in rows} in (
                    {Guard.FIRST, Guard.NOT_FIRST},
                    {Guard.CHAMPION, Guard.BLEND},
                    {Guard.USEFUL, Guard.NOT_USEFUL},
                )


def test_every_row_can_be_reached() -> None:
    applied = {
        (row.state, row.event, row.guard)
        for row in TABLE
        for c in FREE
        if advance(row.state, row.event, c).reason == row.words
    }
    assert applied == {(row.state, row.event, row.guard) for row in TABLE}


@pytest.mark.parametrize("serve", [Serve.BLEND, Serve.CHAMPION])
def test_every_state_can_be_reached_from_candidate(serve: Serve) -> None:
    found, edge = {State.CANDIDATE}, {State.CANDIDATE}
    while edge:
        edge = {
            advance(state, event, c).state for state in edge for event in Event for c in FREE if c.serve is serve
        } - found
        found |= edge
    assert found == set(State)


def test_every_state_that_is_not_final_has_a_deadline_and_an_exit_and_final_ones_have_none() -> None:
    for state in State:
        rows = [row for row in TABLE if row.state is state]
        if state in FINAL:
            assert rows == []
            assert DEADLINES.of(state) is None
        else:
            assert DEADLINES.of(state) is not None
            assert any(row.next is not state for row in rows)
            assert all(advance(state, Event.DEADLINE_PASSED, c).answer is Answer.DONE for c in FREE)


def test_a_deadline_ends_every_state_that_waits_for_something() -> None:
    for state in (State.CANDIDATE, State.CHALLENGER, State.PROBATION):
        assert all(advance(state, Event.DEADLINE_PASSED, c).has_moved for c in FREE)


def test_a_clock_starts_anew_only_with_a_new_state_or_a_review() -> None:
    for state, event, c in product(State, Event, EVERY):
        step = advance(state, event, c)
        starts = step.answer is Answer.DONE and (step.has_moved or event is Event.DEADLINE_PASSED)
        assert step.deadline == (DEADLINES.of(step.state) if starts else None)


def test_other_deadlines_can_be_set() -> None:
    step = advance(State.CHALLENGER, Event.BETTER, Circumstances(), deadlines=Deadlines(probation=3))
    assert step.deadline == 3


@given(state=states, event=events, c=circumstances)
@EXAMPLES
def test_frozen_changes_nothing(state: State, event: Event, c: Circumstances) -> None:
    step = advance(state, event, replace(c, frozen=True))
    assert step.state is state
    assert step.deadline is None
    assert step.tells is None
    assert step.answer is not Answer.DONE


@given(state=states, event=events, c=circumstances)
@EXAMPLES
def test_pinned_changes_no_champion_but_lets_the_first_version_in(state: State, event: Event, c: Circumstances) -> None:
    step = advance(state, event, replace(c, pinned=True))
    if (step.state in SERVES) != (state in SERVES):
        assert (state, event, c.is_first) == (State.CANDIDATE, Event.GATE_PASSED, True)
    if step.held_by is Hold.PINNED:
        assert advance(state, event, replace(c, pinned=False, frozen=False)).answer is Answer.DONE


@given(state=states, event=events, c=circumstances)
@EXAMPLES
def test_every_event_gets_an_answer_with_a_reason(state: State, event: Event, c: Circumstances) -> None:
    step = advance(state, event, c)
    assert step.state in State
    assert step.reason
    assert (step.answer is Answer.HELD) == (step.held_by is not Hold.NOTHING)
    assert (step.answer is Answer.FINAL) == (state in FINAL)
    assert step.answer is Answer.DONE or (step.state is state and step.tells is None)


@given(state=states, c=circumstances)
@EXAMPLES
def test_rollback_twice_is_rollback_once(state: State, c: Circumstances) -> None:
    for event in (Event.ROLLED_BACK, Event.REINSTATED):
        once = advance(state, event, c)
        twice = advance(once.state, event, c)
        assert twice.state is once.state
        assert not (once.has_moved and twice.tells)


class Pool:
    """Versions of one stream; what a row tells the other version is told in the same step."""

    def __init__(self, c: Circumstances) -> None:
        self.c = c
        self.states: list[State] = []
        self.served: set[int] = set()
        self.won: set[int] = set()
        self.former: dict[int, int | None] = {}

    def champion(self) -> int | None:
        found = [i for i, state in enumerate(self.states) if state in SERVES]
        assert len(found) <= 1
        return found[0] if found else None

    def tell(self, i: int, event: Event) -> bool:
        before, first = self.champion(), not self.served
        c = replace(self.c, is_first=first, has_served=i in self.served)
        step = advance(self.states[i], event, c)
        if step.answer is not Answer.DONE:
            return False
        entered = step.state in SERVES and self.states[i] not in SERVES
        if event is Event.BETTER or (first and entered):
            self.won.add(i)
        if step.tells is Event.REPLACED and before is not None:
            assert self.tell(before, Event.REPLACED)
        self.states[i] = step.state
        if step.tells is Event.REINSTATED and self.former.get(i) is not None:
            self.tell(self.former[i], Event.REINSTATED)
        if entered:
            self.served.add(i)
            self.former[i] = before
        return True


TOLD = [event for event in Event if event not in {Event.REPLACED, Event.REINSTATED}]
TOLD += 3 * [Event.GATE_PASSED, Event.BETTER, Event.FORMER_BETTER, Event.ROLLED_BACK]  # so that much happens


@pytest.mark.parametrize("serve", list(Serve))
@pytest.mark.parametrize("pinned", [False, True])
def test_no_version_serves_alone_without_a_comparison(serve: Serve, pinned: bool) -> None:
    rng = np.random.default_rng(4)
    n_promoted = n_reinstated = 0
    for _ in range(30):
        pool = Pool(Circumstances(serve=serve, pinned=pinned))
        for _ in range(150):
            if sum(state not in FINAL for state in pool.states) < 5:
                pool.states.append(State.CANDIDATE)
            alive = [i for i, state in enumerate(pool.states) if state not in FINAL]
            i, before = int(rng.choice(alive)), pool.champion()
            pool.tell(i, TOLD[rng.integers(len(TOLD))])
            champion = pool.champion()
            assert champion is None or champion in pool.won
            assert not pinned or before is None or champion == before
            n_promoted += champion is not None and champion != before and champion == i
            n_reinstated += champion is not None and champion not in (before, i)
            alone = [j for j, state in enumerate(pool.states) if part(state, serve) is Part.ALONE]
            assert alone == ([champion] if champion is not None and serve is not Serve.BLEND else [])
    assert n_promoted > (20 if pinned else 60)
    assert (n_reinstated == 0) if pinned else (n_reinstated > 10)


def test_a_lost_probation_brings_the_former_back_and_a_second_rollback_does_not_flip_it() -> None:
    pool = Pool(Circumstances(serve=Serve.CHAMPION))
    pool.states = [State.CANDIDATE] * 2
    for i, event in [(0, Event.GATE_PASSED), (1, Event.GATE_PASSED), (1, Event.BETTER)]:
        pool.tell(i, event)
    assert pool.states == [State.KEPT, State.PROBATION]
    pool.tell(1, Event.FORMER_BETTER)
    assert pool.states == [State.SERVING, State.KEPT]
    pool.tell(1, Event.ROLLED_BACK)
    assert pool.states == [State.SERVING, State.KEPT]


WAITING = [State.CANDIDATE, State.CHALLENGER, State.PROBATION]


@given(
    state=st.sampled_from(WAITING),
    told=st.lists(st.lists(events, max_size=4), min_size=40, max_size=40),
    serve=st.sampled_from(Serve),
    pinned=st.booleans(),
)
@EXAMPLES
def test_nothing_that_waits_outlives_its_deadline(
    state: State, told: list[list[Event]], serve: Serve, pinned: bool
) -> None:
    c = Circumstances(serve=serve, pinned=pinned, has_served=True, is_useful=True)
    left, lived = DEADLINES.of(state), 0
    for batch in told:
        for event in [*batch, *([Event.DEADLINE_PASSED] if left == 1 else [])]:
            step = advance(state, event, c)
            lived = 0 if step.has_moved else lived
            left = step.deadline or left
            state = step.state
        if state in FINAL:
            return
        left, lived = max(left - 1, 1), lived + 1
        if state in WAITING:
            assert lived <= DEADLINES.of(state)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("cause", list(Cause))
def test_what_a_comparison_says_is_known_to_the_state_that_is_compared(state: State, cause: Cause) -> None:
    event = event_of(state, cause)
    if state in {State.CHALLENGER, State.PROBATION} and cause is not Cause.WAITING:
        assert event is not None
        assert advance(state, event, Circumstances()).has_moved
    else:
        assert event is None


def test_a_version_that_never_served_is_not_reinstated() -> None:
    step = advance(State.KEPT, Event.REINSTATED, Circumstances(has_served=False))
    assert step.answer is Answer.GUARDED
    assert "has served before" in step.reason


def test_missing_inputs_cost_no_version_its_life() -> None:
    for state in (State.CHALLENGER, State.PROBATION, State.SERVING, State.KEPT):
        assert advance(state, Event.CANNOT_FORECAST, Circumstances(inputs_came=False)).state is state


def test_in_a_blend_a_challenger_takes_part_at_once_and_nobody_serves_alone() -> None:
    assert part(State.CHALLENGER, Serve.BLEND) is Part.WEIGHTED
    assert part(State.CHALLENGER, Serve.CHAMPION) is Part.SHADOW
    assert part(State.CANDIDATE, Serve.BLEND) is Part.NOTHING
    assert Part.ALONE not in {part(state, Serve.BLEND) for state in State}


def test_the_manual_holds_the_very_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"\n\n{parts_as_markdown()}\n" in page
    assert f"\n\n{as_markdown()}\n" in page
    assert page.count("\n| `") == len(State) + len(TABLE)
