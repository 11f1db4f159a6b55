"""Which groups of streams may explain a common movement: the fleet, each label, each conjunction of labels.

Membership only, as one set number per stream and kind of set; what moved is decided in `mlma.core.incidents`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Floats, Ints

FLEET = 0
"""Number of the set of all streams, which has no label."""

FEWEST_MEMBERS = 5
"""Members that a set needs: with fewer, a median is a single stream's word (measured in benchmarks.incidents)."""

MOST_SETS = 8192
"""Sets beyond which a further kind is left out, so that a batch stays a matter of milliseconds."""

MOST_LABELS = 3
"""Labels in a conjunction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """Candidate label sets of a fleet. The sets are numbered by kind: the fleet is 0, then single labels, then pairs.

    Attributes
    ----------
    labels
        Label key -> value of each stream, "" for none; as given to `build`.
    kinds
        The keys of each kind of set, ``()`` for the fleet.
    left_out
        Kinds that would have made more than `MOST_SETS` sets; they are not looked at.
    code
        Shape (kinds, streams), the set that a stream belongs to; ``n_sets`` for none.
    kind
        Shape (sets,), into ``kinds``, ascending.
    example
        Shape (sets,), one member, which names the labels of the set.
    size
        Shape (sets,), number of members.
    """

    labels: Mapping[str, Sequence[str]]
    kinds: tuple[tuple[str, ...], ...]
    left_out: tuple[tuple[str, ...], ...]
    code: Ints
    kind: Ints
    example: Ints
    size: Ints

    @property
    def n_streams(self) -> int:
        """Number of streams."""
        return int(self.code.shape[1])

    @property
    def n_sets(self) -> int:
        """Number of candidate sets."""
        return len(self.size)

    def labels_of(self, number: int) -> dict[str, str]:
        """Labels of one set, empty for the fleet."""
        stream = self.example[number]
        return {key: self.labels[key][stream] for key in self.kinds[self.kind[number]]}

    def name_of(self, number: int) -> str:
        """Labels of one set as a word: ``fleet``, ``site=lhr`` or ``feed=a,site=lhr``."""
        return ",".join(f"{key}={value}" for key, value in self.labels_of(number).items()) or "fleet"

    def members(self, number: int) -> Ints:
        """Streams of one set, ascending."""
        return np.flatnonzero(self.code[self.kind[number]] == number)

    def matches(self, older: "LabelSets") -> Ints:
        """Which set of ``older`` has the same labels as each set of this one, -1 for none. Shape (sets,)."""
        known = {older.name_of(number): number for number in range(older.n_sets)}
        return np.array([known.get(self.name_of(number), -1) for number in range(self.n_sets)], dtype=np.int64)


def build(labels: Mapping[str, Sequence[str]], n_streams: int, *, fewest: int = FEWEST_MEMBERS) -> LabelSets:
    """Candidate sets: the whole fleet, each label, each conjunction of two or three labels.

    Parameters
    ----------
    labels
        Label key -> value of each stream, "" for none. When streams are born, the sets are built anew and
        `LabelSets.matches` says which ones were there before.
    n_streams
        Number of streams; every key has that many values.
    fewest
        Members that a set needs to be a candidate.

    Notes
    -----
    Of several sets with the same members the one with the fewest labels stays (then the first by key), so the
    name of an incident says no more than is needed. Memory is one number per stream and kind of set.

    Examples
    --------
    >>> sets = build({"site": ["a", "a", "a", "b", "b", "b"], "feed": ["x", "x", "y", "y", "y", "y"]}, 6, fewest=2)
    >>> [sets.name_of(number) for number in range(sets.n_sets)]
    ['fleet', 'feed=x', 'feed=y', 'site=a', 'site=b']
    """
    keys = sorted(labels)
    single = {key: _factorised(labels[key]) for key in keys}
    found = _Found(n_streams, fewest)
    for n_labels in range(1, min(len(keys), MOST_LABELS) + 1):
        for kind in combinations(keys, n_labels):
            found.add(kind, _conjunction([single[key] for key in kind]))
    return LabelSets(
        labels=labels,
        kinds=tuple(found.kinds),
        left_out=tuple(found.left_out),
        code=np.where(found.stacked() < 0, found.n_sets, found.stacked()),
        kind=np.repeat(np.arange(len(found.kinds)), [len(size) for size in found.size]),
        example=np.concatenate(found.example),
        size=np.concatenate(found.size),
    )


class _Found:
    """Sets collected kind by kind, each with members that no earlier set has."""

    def __init__(self, n_streams: int, fewest: int) -> None:
        streams = np.arange(n_streams, dtype=np.uint64)
        self._marks = _marks(streams)
        self._fewest = fewest
        self._seen = {self._signature(np.zeros(n_streams, dtype=np.int64), 1)[0]}
        self.n_sets = 1
        self.kinds: list[tuple[str, ...]] = [()]
        self.left_out: list[tuple[str, ...]] = []
        self.size: list[Ints] = [np.array([n_streams], dtype=np.int64)]
        self.example: list[Ints] = [np.zeros(1, dtype=np.int64)]
        self._code: list[Ints] = [np.zeros(n_streams, dtype=np.int64)]

    def add(self, kind: tuple[str, ...], code: Ints) -> None:
        """Take in the sets of one kind; ``code`` has shape (streams,), values from 0, -1 for none."""
        size = np.bincount(code[code >= 0])
        signatures = self._signature(code, len(size))
        large = np.flatnonzero(size >= self._fewest)
        fresh = np.array([number for number in large if signatures[number] not in self._seen], dtype=np.int64)
        if self.n_sets + len(fresh) > MOST_SETS:
            self.left_out.append(kind)
            return
        if len(fresh) == 0:
            return
        self._seen.update(signatures[number] for number in fresh)
        renumbered = np.full(len(size) + 1, -1, dtype=np.int64)  # the last place takes code -1
        renumbered[fresh] = self.n_sets + np.arange(len(fresh))
        example = np.zeros(len(size), dtype=np.int64)
        known = np.flatnonzero(code >= 0)
        example[code[known[::-1]]] = known[::-1]  # the first member is written last
        self.kinds.append(kind)
        self._code.append(renumbered[code])
        self.size.append(size[fresh])
        self.example.append(example[fresh])
        self.n_sets += len(fresh)

    def stacked(self) -> Ints:
        """Set numbers of all kinds, shape (kinds, streams), -1 for none."""
        return np.stack(self._code)

    def _signature(self, code: Ints, n_sets: int) -> list[tuple[float, float]]:
        known = code >= 0
        sums = [np.bincount(code[known], weights=mark[known], minlength=n_sets) for mark in self._marks]
        return list(zip(*(total.tolist() for total in sums), strict=True))


def _factorised(values: Sequence[str]) -> Ints:
    names, code = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
    if len(names) and names[0] == "":
        return np.asarray(code - 1, dtype=np.int64)
    return np.asarray(code, dtype=np.int64)


def _conjunction(codes: list[Ints]) -> Ints:
    """Number each combination of codes that occurs, -1 where any of them is."""
    joint, known = codes[0], codes[0] >= 0
    for code in codes[1:]:
        known = known & (code >= 0)
        flat = np.where(known, joint * (code.max(initial=-1) + 1) + code, -1)
        names, joint = np.unique(flat, return_inverse=True)
        joint = joint - 1 if len(names) and names[0] < 0 else joint
    return np.asarray(joint, dtype=np.int64)


def _marks(streams: NDArray[np.uint64]) -> tuple[Floats, Floats]:
    """Two numbers below 2^26 per stream, whose sums over a set are exact in a float and tell sets apart.

    The mixing function is the finaliser of splitmix64 (Steele, Lea and Flood, 2014).
    """
    z = (streams + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    low = np.uint64((1 << 26) - 1)
    return (z & low).astype(np.float64), ((z >> np.uint64(26)) & low).astype(np.float64)
