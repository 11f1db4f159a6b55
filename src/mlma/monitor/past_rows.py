"""What else is remembered of past batches, row by row beside `References`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints
from mlma.monitor.membership import Members
from mlma.monitor.references import References


@dataclass
class PastRows:
    """Numbers of past batches, in the rows in which `References` keeps their means.

    Attributes
    ----------
    name
        In a saved state.
    ring, first
        The newest batches, and the first ones since the last reset, frozen. The first axis has the rows, and
        ``axis`` the streams.
    axis
        Of the streams, from 1.
    nothing
        What stands where nothing is known.
    """

    name: str
    ring: Floats
    first: Floats
    axis: int
    nothing: float

    @classmethod
    def empty(
        cls, name: str, references: References, shape: tuple[int, ...], *, axis: int, nothing: float
    ) -> "PastRows":
        """Nothing remembered; ``shape`` is that of one row, whose axis ``axis`` - 1 has the streams."""
        ring, first = (np.full((rows, *shape), nothing) for rows in (references.n_rows, references.n_frozen))
        return cls(name=name, ring=ring, first=first, axis=axis, nothing=nothing)

    def of(self, members: Members) -> list[Floats]:
        """The rows that a reference is made of, the oldest first."""
        kept = self.first if members.are_frozen else self.ring
        return [kept[row] for row in members.rows]

    def remember(self, values: Floats, references: References) -> None:
        """Keep the newest batch that the references remember; ``values`` are shaped as a row."""
        at, axis = references.batch, self.axis
        self.ring[int(np.flatnonzero(references.batches == at)[0])] = values
        if int(references.first_batch.max(initial=at - 1)) < at:  # nobody's frozen rows have room
            return
        rows, streams = np.nonzero(references.first_batch == at)
        np.moveaxis(self.first, axis, 1)[rows, streams] = np.moveaxis(values, axis - 1, 0)[streams]

    def reset(self, streams: Ints) -> None:
        """Forget the past of streams."""
        for kept in (self.ring, self.first):
            np.moveaxis(kept, self.axis, 1)[:, streams] = self.nothing

    def grow(self, more: int, axis: int | None = None) -> None:
        """Add streams at the end, or something else on another axis."""
        axis = self.axis if axis is None else axis

        def grown(kept: Floats) -> Floats:
            shape = (*kept.shape[:axis], more, *kept.shape[axis + 1 :])
            return np.concatenate([kept, np.full(shape, self.nothing)], axis=axis)

        self.ring, self.first = grown(self.ring), grown(self.first)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """State by name."""
        return {self.name: self.ring, f"first_{self.name}": self.first}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave.

        Raises
        ------
        ValueError
            They are missing, because another version saved the state.
        """
        if self.name not in arrays:
            raise ValueError(f"the state was saved by a version that kept no {self.name!r}")
        self.ring, self.first = arrays[self.name].copy(), arrays[f"first_{self.name}"].copy()
