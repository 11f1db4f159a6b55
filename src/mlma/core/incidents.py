"""What streams have in common in a batch: taken out before each stream's own test, and tested by itself.

The fleet's common component is always removed. A label set whose component is beyond its own past is removed
too and, when it got worse, is an incident. The scan stands in `mlma.core.incident_scan`.
"""

from dataclasses import dataclass, replace

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.common_movement import Movement, Scene
from mlma.core.component_memory import NEVER, ComponentMemory, expected, written
from mlma.core.for_all import for_all
from mlma.core.incident_scan import DEFAULT_RULES, Judge, SeparationRules, search
from mlma.core.label_sets import FLEET, LabelSets
from mlma.core.records import Incident

__all__ = ["DEFAULT_RULES", "Separation", "SeparationRules", "separate"]

SURPRISE = 2.5
"""Predictive standard deviations to which the component that opens a set is drawn in before it is remembered.
If it were not remembered at all, chance would lose its extremes, the past would look calmer than it is, and ever
more healthy batches would look like incidents (measured: four times as many)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """What the streams of a batch have in common.

    Attributes
    ----------
    shift
        Shape (streams,), log units; the common part of each deviation, for every stream, ready or not.
    incidents
        Under way in this batch, the largest first.
    member
        Shape (streams,), number of the smallest incident that a ready stream belongs to, -1 for none.
    memory
        For the next batch.
    """

    shift: Floats
    incidents: tuple[Incident, ...]
    member: Ints
    memory: ComponentMemory


def separate(
    deviation: Floats,
    scale: Floats,
    ready: Bools,
    *,
    batch: int,
    sets: LabelSets,
    memory: ComponentMemory,
    rules: SeparationRules = DEFAULT_RULES,
) -> Separation:
    """Split the deviations of a batch into what streams have in common and what is their own.

    Parameters
    ----------
    deviation
        Shape (streams,), log units, recent minus predicted.
    scale
        Shape (streams,), predictive standard deviation of ``deviation``.
    ready
        Shape (streams,); only these streams are looked at.
    batch
        Number of the batch.
    sets
        Candidate label sets (`mlma.core.label_sets.build`).
    memory
        What the last call returned, at first `mlma.core.component_memory.empty_memory`.
    rules
        When a common movement counts.

    Returns
    -------
    Separation
        With fewer than ``rules.fewest_streams`` streams ready, shifts are zero and nothing is remembered.

    Notes
    -----
    Which label set explains a movement is a greedy subset scan: of the sets that are beyond their own past, the
    one whose common shift gains most likelihood is removed, and the rest is looked at again (Kulldorff, 1997, A
    spatial scan statistic; Neill, 2012, Fast subset scan). Members that did not move count against a set, so a
    superset loses; a subset has fewer members to gain from.

    Significance is weighted Bonferroni (Genovese, Roeder and Wasserman, 2006): the fleet, the single labels, the
    pairs and the triples of labels get equal parts of ``alpha``, so that many sets do not silence few.

    One shift in log units fits all members: a shock multiplies losses. Shifts in units of each stream's scale
    were worse on real fleets, and with references that hold cleaned values they can grow without bound,
    because a scale then feeds on itself.

    Examples
    --------
    >>> from mlma.core.component_memory import empty_memory
    >>> from mlma.core.label_sets import build
    >>> rng = np.random.default_rng(1)
    >>> sets = build({"site": ["a", "b", "c", "d"] * 10}, 40)
    >>> memory, ready = empty_memory(sets.n_sets), np.ones(40, dtype=bool)
    >>> storm = np.where(np.arange(40) % 4 == 2, 0.5, 0.0)
    >>> for batch in range(6):
    ...     deviation = rng.normal(0.0, 0.1, 40) + 0.3 * rng.normal() + storm * (batch == 5)
    ...     found = separate(deviation, np.full(40, 0.1), ready, batch=batch, sets=sets, memory=memory)
    ...     memory = found.memory
    >>> [(incident.id, incident.n_members) for incident in found.incidents]
    [('5-site=c', 10)]
    """
    usable = ready
    with np.errstate(over="ignore", invalid="ignore"):
        is_finite = bool(np.isfinite(deviation @ scale))  # or the product is out of range, and each is looked at
    if not is_finite:
        usable = np.asarray(ready & np.isfinite(deviation + scale))
    if np.count_nonzero(usable) < rules.fewest_streams or not (
        scale[usable.argmax()] > 0.0 or np.any(usable & (scale > 0.0))
    ):
        return Separation(
            shift=np.zeros(len(deviation)), incidents=(), member=np.full(len(deviation), -1), memory=memory
        )
    some = slice(None) if usable.all() else usable
    scene = Scene(deviation[some], scale[some], sets=sets, usable=usable)
    judge = Judge(expected(memory, sets, scene.n_ready), sets, rules)
    movement = search(scene, memory, judge, rules)
    return _Closing(scene, movement, memory, judge, batch, rules).separation()


class _Closing:
    """From the movement of a batch to its incidents and to the memory for the next one."""

    def __init__(
        self,
        scene: Scene,
        movement: Movement,
        memory: ComponentMemory,
        judge: Judge,
        batch: int,
        rules: SeparationRules,
    ) -> None:
        self._scene, self._movement, self._memory = scene, movement, memory
        self._batch, self._rules, self._judge, self._past = batch, rules, judge, judge.past
        self._worse, self._better = judge.p_values(movement)
        self._beyond = judge.is_beyond(movement)
        self._rise = np.expm1(movement.component - self._past.mean)
        self._chosen = np.zeros(len(self._beyond), dtype=np.bool_)
        self._chosen[[FLEET, *movement.chosen]] = True

    def separation(self) -> Separation:
        member = for_all(-1, self._scene.sets.n_streams)
        if self._is_quiet():
            known, movement = np.flatnonzero(self._scene.is_known), self._movement
            memory = written(self._memory, known, movement.component, movement.error)
            return Separation(shift=movement.shift, incidents=(), member=member, memory=memory)
        memory = self._state()
        reported = np.flatnonzero((memory.reported != NEVER) & self._scene.is_known)
        order = reported[np.argsort(-self._scene.n_ready[reported], kind="stable")]
        if len(order):
            member = member.copy()
        for place, number in enumerate(order):
            members = self._scene.sets.members(int(number))
            member[members[self._scene.usable[members]]] = place
        return Separation(
            shift=self._movement.shift,
            incidents=tuple(self._incident(int(number), memory) for number in order),
            member=member,
            memory=memory,
        )

    def _is_quiet(self) -> bool:
        """Whether nothing is under way and nothing opens, as in most batches: components are remembered, no more."""
        is_under_way = self._memory.is_open | self._memory.settled
        return not (is_under_way | (self._chosen & self._beyond & self._scene.is_known)).any()

    def _state(self) -> ComponentMemory:
        """Open, keep open, settle and end; then remember the components of the sets that are not open."""
        memory, known = self._memory, self._scene.is_known
        chosen, was_open = self._chosen, memory.is_open
        stays = was_open & (~known | (chosen & self._judge.still(self._movement, memory.direction)))
        opens = ~stays & chosen & known & self._beyond
        settles = stays & (self._batch - memory.opened >= self._rules.longest)
        stays &= ~settles
        side = np.where(self._worse < self._better, 1, -1)
        direction = np.where(stays, memory.direction, np.where(opens, side, 0))
        is_incident = (direction > 0) & known & self._beyond & (self._rise >= self._rules.least_rise)
        before = np.where(stays, memory.reported, NEVER)
        settled = (memory.settled & (chosen | ~known) & ~opens) | settles
        settled[FLEET] = False  # its component is removed in any case
        state = replace(
            memory,
            direction=direction,
            opened=np.where(opens, self._batch, np.where(stays, memory.opened, NEVER)),
            reported=np.where((before == NEVER) & is_incident, self._batch, before),
            settled=settled,
            count=np.where(settles, 0, memory.count),
        )
        limit = SURPRISE * self._past.scale(self._movement.error)
        component = np.where(
            opens,
            np.clip(self._movement.component, self._past.mean - limit, self._past.mean + limit),
            self._movement.component,
        )
        remembered = np.flatnonzero(known & ((direction == 0) | opens))
        return written(state, remembered, component, self._movement.error)

    def _incident(self, number: int, memory: ComponentMemory) -> Incident:
        sets = self._scene.sets
        first = int(memory.reported[number])
        return Incident(
            id=f"{first}-{sets.name_of(number)}",
            labels=sets.labels_of(number),
            first_batch=first,
            last_batch=self._batch,
            n_members=int(self._scene.n_ready[number]),
            rise=float(self._rise[number]),
            p_value=float(self._worse[number]),
        )
