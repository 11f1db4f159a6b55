"""What the streams of a fleet have in common, remembered from batch to batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core import incidents, label_sets
from mlma.core.blocks import Bools, Floats
from mlma.core.common_movement import Scene
from mlma.core.component_memory import ComponentMemory, empty_memory
from mlma.core.incidents import Separation, SeparationRules
from mlma.core.label_sets import LabelSets

PREFIX = "common_"


@dataclass
class Common:
    """The label sets of a fleet and what their common components did so far."""

    labels: Mapping[str, Sequence[str]]
    n_streams: int
    rules: SeparationRules
    sets: LabelSets = field(init=False)
    memory: ComponentMemory = field(init=False)

    def __post_init__(self) -> None:
        self.sets = label_sets.build(self.labels, self.n_streams)
        self.memory = empty_memory(self.sets.n_sets)

    def separate(self, deviation: Floats, scale: Floats, ready: Bools, *, batch: int) -> Separation:
        """Split deviations into what is common and what is a stream's own; all of shape (streams,)."""
        found = incidents.separate(
            deviation, scale, ready, batch=batch, sets=self.sets, memory=self.memory, rules=self.rules
        )
        self.memory = found.memory
        return found

    def middle(self, deviation: Floats, scale: Floats) -> float:
        """Robust location of finite deviations of some streams, as `separate` finds it; 0 of too few."""
        usable = np.isfinite(deviation + scale)
        n = int(np.count_nonzero(usable))
        if n < self.rules.fewest_streams:
            return 0.0
        scene = Scene(deviation[usable], scale[usable], sets=_unlabelled(n), usable=np.ones(n, dtype=np.bool_))
        return float(scene.movement(()).component[label_sets.FLEET])

    def nothing(self) -> Separation:
        """A batch in which nothing is taken out."""
        n = self.n_streams
        return Separation(
            shift=np.zeros(n), incidents=(), member=np.full(n, -1, dtype=np.int64), memory=self.memory
        )  # fmt: skip

    def grow(self, labels: Mapping[str, Sequence[str]], n_streams: int) -> None:
        """Take in born streams; ``labels`` and ``n_streams`` are those of the whole fleet."""
        before, self.labels, self.n_streams = self.sets, labels, n_streams
        self.sets = label_sets.build(labels, n_streams)
        self.memory = self.memory.grown(before, self.sets)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {PREFIX + name: value for name, value in self.memory.arrays().items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        mine = {name.removeprefix(PREFIX): value for name, value in arrays.items() if name.startswith(PREFIX)}
        self.memory = ComponentMemory.from_arrays(mine)


@lru_cache(maxsize=8)
def _unlabelled(n: int) -> LabelSets:
    """Sets of so many streams without labels: the fleet alone."""
    return label_sets.build({}, n)
