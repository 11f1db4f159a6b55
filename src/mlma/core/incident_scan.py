"""Which label sets moved beyond their own past: a greedy scan for the shortest explanation of a batch.

What follows from it, incidents and the memory for the next batch, is made in `mlma.core.incidents`.
"""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.common_movement import Movement, Scene
from mlma.core.component_memory import ComponentMemory, Expected
from mlma.core.label_sets import FLEET, LabelSets


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationRules:
    """When a common movement counts.

    Attributes
    ----------
    alpha
        Probability of any new incident in a batch of a healthy fleet, in (0, 1).
    least_rise
        Relative rise of the loss below which a common movement is removed but is no incident.
    keep
        An open set stays open while the p-value of its component against the past before is not above this, or
        not above what opens a set; so this share of what is over is reported for one batch more.
    longest
        Batches after which the level of an open set counts as its normal one.
    fewest_streams
        Streams that must be ready before anything is removed. With fewer, a common component follows single
        streams: a fleet that does not move together then loses more than a twentieth of its power (measured in
        benchmarks.incidents).
    most
        Label sets that may be opened in one batch.
    """

    alpha: float = 0.05
    least_rise: float = 0.05
    keep: float = 0.02
    longest: int = 26
    fewest_streams: int = 8
    most: int = 5


DEFAULT_RULES = SeparationRules()

SETTLED_ERRORS = 3.0
"""Standard errors below which the old shift of a settled set is gone."""


class Judge:
    """Whether a component is beyond the past of its set, family-wise over the sets."""

    def __init__(self, past: Expected, sets: LabelSets, rules: SeparationRules) -> None:
        self.past = past
        n_labels = np.array([len(keys) for keys in sets.kinds])[sets.kind]
        number = np.bincount(n_labels)  # sets with as many labels
        self.threshold = rules.alpha / np.count_nonzero(number) / number[n_labels]
        self._keep = np.maximum(rules.keep, self.threshold)
        self._asked: tuple[Movement, tuple[Floats, Floats]] | None = None

    def p_values(self, movement: Movement) -> tuple[Floats, Floats]:
        """P-values of "worse" and "better" against the past, shape (sets,); the newest are remembered."""
        if self._asked is None or self._asked[0] is not movement:
            self._asked = movement, self.past.p_values(movement.component, movement.error)
        return self._asked[1]

    def is_beyond(self, movement: Movement) -> Bools:
        """Sets that are beyond their past in either direction. Shape (sets,)."""
        worse, better = self.p_values(movement)
        return np.asarray(np.minimum(worse, better) <= self.threshold)

    def still(self, movement: Movement, direction: Ints) -> Bools:
        """Open sets that are not back yet. Shape (sets,)."""
        worse, better = self.p_values(movement)
        return np.asarray(np.where(direction > 0, worse, better) <= self._keep)

    def length(self, movement: Movement) -> tuple[int, float]:
        """How much an explanation needs: components beyond their past, then how unusual the fleet's is."""
        worse, better = self.p_values(movement)
        p = np.minimum(worse, better)
        fleet = float(p[FLEET])
        return len(movement.chosen) + (fleet <= self.threshold[FLEET]), -fleet

    def surprise(self, movement: Movement) -> Floats:
        """Log-likelihood gained by each set's shift, in view of how much the set moves anyway. Shape (sets,)."""
        usual = np.square(self.past.scale(movement.error) / movement.error)
        return np.where(movement.is_known, movement.gain / usual, -np.inf)


def search(scene: Scene, memory: ComponentMemory, judge: Judge, rules: SeparationRules) -> Movement:
    """Which label sets moved, starting from those under way.

    When most of the fleet gets worse, those who did not move look better. So if sets look better, the batch is
    explained a second time with their members as the fleet's level, and the shorter explanation is taken.
    """
    if scene.sets.n_sets == 1:  # the fleet alone, which is always removed
        return scene.movement(())
    under_way = memory.is_open | memory.settled
    under_way[FLEET] = False
    chosen = np.flatnonzero(under_way & scene.is_known).tolist()
    movement = scene.movement(chosen)
    if chosen:
        is_back = (memory.direction != 0) & ~judge.still(movement, memory.direction)
        is_gone = memory.settled & (np.abs(movement.component) <= SETTLED_ERRORS * movement.error)
        movement = _kept(scene, movement, ~(is_back | is_gone))
    found = _scan(scene, movement, judge, rules)
    new = [number for number in found.chosen if number not in movement.chosen]
    better = [number for number in new if found.component[number] < judge.past.mean[number]]
    if not better:
        return found
    level_of = np.asarray(np.isin(scene.code[scene.sets.kind[better]], better).any(axis=0))
    other = _scan(scene, scene.movement(movement.chosen, level_of=level_of), judge, rules)
    return min((found, other), key=judge.length)


def _scan(scene: Scene, movement: Movement, judge: Judge, rules: SeparationRules) -> Movement:
    """Greedy scan: remove the set that explains most, look at what is left, drop what no longer holds."""
    old = list(movement.chosen)
    for _ in range(rules.most):
        open_to = judge.is_beyond(movement)
        open_to[[FLEET, *movement.chosen]] = False
        if not open_to.any():
            break
        best = int(np.argmax(np.where(open_to, judge.surprise(movement), -np.inf)))
        movement = scene.movement([*movement.chosen, best], level_of=movement.level_of)
    holds = judge.is_beyond(movement)
    holds[old] = True
    return _kept(scene, movement, holds)


def _kept(scene: Scene, movement: Movement, holds: Bools) -> Movement:
    chosen = [number for number in movement.chosen if holds[number]]
    if len(chosen) == len(movement.chosen):
        return movement
    return scene.movement(chosen, level_of=movement.level_of)
