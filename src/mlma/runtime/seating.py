"""Who sits where in the pools of a fleet: trained versions on the seats behind the fixed ones, and who leads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.records import Version
from mlma.runtime.lineup import Champion

Seats = Mapping[int, Champion]
"""Versions of one stream by seat."""

NOBODY = np.iinfo(np.int64).min
"""Batch of a seat without a version."""


@dataclass
class Seating:
    """One row a stream, one seat a column.

    Attributes
    ----------
    n_fixed
        Seats that no version takes, the first ones.
    n_seats
        All of them.
    versions
        By stream and seat.
    leader
        Shape (streams,), seat of the champion; 0 while there is none.
    """

    n_fixed: int
    n_seats: int
    versions: dict[int, dict[int, Champion]] = field(default_factory=dict)
    leader: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _trained: Ints = field(init=False)  # (streams, seats)

    def __post_init__(self) -> None:
        self._trained = np.full((len(self), self.n_seats), NOBODY)

    def __len__(self) -> int:
        return len(self.leader)

    def grow(self, n_streams: int) -> None:
        """Add rows for born streams."""
        born = n_streams - len(self)
        self.leader = np.concatenate([self.leader, np.zeros(born, dtype=np.int64)])
        self._trained = np.concatenate([self._trained, np.full((born, self.n_seats), NOBODY)])

    def of(self, stream_id: int) -> Seats:
        """Versions of a stream by seat."""
        return self.versions.get(stream_id, {})

    def seat_of(self, stream_id: int, version_id: str) -> int | None:
        """Seat of a version, None when it has none."""
        return next((seat for seat, sits in self.of(stream_id).items() if sits.version_id == version_id), None)

    def free(self, stream_id: int) -> int | None:
        """The first seat that is free for a version, None when there is none."""
        taken = self.of(stream_id)
        return next((seat for seat in range(self.n_fixed, self.n_seats) if seat not in taken), None)

    def sit(self, stream_id: int, seat: int, version: Version) -> None:
        """Give a seat to a version."""
        self.versions.setdefault(stream_id, {})[seat] = Champion(
            version_id=version.id, family=version.family, sha256=version.sha256, batch=version.batch
        )
        self._trained[stream_id, seat] = version.batch

    def leave(self, stream_id: int, version_ids: Sequence[str]) -> list[int]:
        """Take versions out of a pool; returns the seats that are free now."""
        gone = [seat for seat, sits in self.of(stream_id).items() if sits.version_id in version_ids]
        for seat in gone:
            del self.versions[stream_id][seat]
            self._trained[stream_id, seat] = NOBODY
            if self.leader[stream_id] == seat:
                self.leader[stream_id] = 0
        return gone

    def in_order(self) -> Iterator[tuple[int, int, Champion]]:
        """Stream, seat and version, in this order: trainings finish in any, what is recorded must not show it."""
        for stream_id, seats in sorted(self.versions.items()):
            for seat, sits in sorted(seats.items()):
                yield stream_id, seat, sits

    def taken(self) -> Bools:
        """Seats with a version, shape (streams, seats)."""
        return np.asarray(self._trained > NOBODY)

    def trained(self) -> Ints:
        """Batch after which the version on a seat was trained, `NOBODY` without one; shape (streams, seats)."""
        return self._trained.copy()

    def leaderless(self, loss: Floats) -> Bools:
        """Whether the champion of a stream has no loss among these of shape (streams, seats); shape (streams,)."""
        return (self.leader > 0) & np.isnan(loss[np.arange(len(loss)), self.leader])

    def silent(self, loss: Floats, *, older_than: int) -> list[tuple[int, str]]:
        """Stream and id of versions of earlier trainings without a loss in a batch in which their champion has one.

        Parameters
        ----------
        loss
            Shape (streams, seats).
        """
        known = np.isfinite(loss)
        led = (self.leader > 0) & known[np.arange(len(loss)), self.leader]
        return [
            (stream_id, sits.version_id)
            for stream_id, seat, sits in self.in_order()
            if led[stream_id] and sits.batch < older_than and not known[stream_id, seat]
        ]

    def artifacts(self) -> set[str]:
        """Hashes of the artifacts that are in use."""
        return {sits.sha256 for seats in self.versions.values() for sits in seats.values()}
