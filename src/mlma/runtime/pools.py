"""The pools of the fleet as the control plane knows them: who sits where, how they did lately, what they weigh.

Written down after every batch; a restart takes up the last record and seats again whoever came since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core import pool
from mlma.core.blocks import Bools, Floats, Ints, PoolBlock
from mlma.core.records import NAIVE, Version
from mlma.core.settings import Evergreen, LifeSettings, Serve
from mlma.runtime.lineup import Champion


def evergreens(life: LifeSettings) -> tuple[Evergreen, ...]:
    """Evergreen members of every pool, in the order of their seats after seasonal naive."""
    return life.evergreen if life.serve is Serve.BLEND else ()


def fixed_members(life: LifeSettings) -> tuple[str, ...]:
    """Members that every pool has without a training, in the order of their seats."""
    return (NAIVE, *evergreens(life))


def n_seats(life: LifeSettings) -> int:
    """Seats of every pool."""
    return len(fixed_members(life)) + (1 if life.serve is Serve.LATEST else life.pool_size)


@dataclass
class Pools:
    """One row a stream, one seat a column; the first seats belong to seasonal naive and the evergreen members."""

    life: LifeSettings
    versions: dict[int, dict[int, Champion]] = field(default_factory=dict)  # by stream and seat
    record: pool.Record = field(init=False)  # (streams, seats)
    _leader: Ints = field(init=False)  # (streams,), seat of the champion; 0 while there is none

    def __post_init__(self) -> None:
        self.record = pool.Record.empty(0, n_seats(self.life))
        self._leader = np.empty(0, dtype=np.int64)

    @property
    def n_fixed(self) -> int:
        """Seats that no version takes."""
        return len(fixed_members(self.life))

    def grow(self, n_streams: int) -> None:
        """Add pools for born streams."""
        more = n_streams - len(self._leader)
        new = pool.Record.empty(more, self._n_seats)
        self.record = pool.Record(np.vstack([self.record.mean, new.mean]), np.vstack([self.record.mass, new.mass]))
        self._leader = np.concatenate([self._leader, np.zeros(more, dtype=np.int64)])

    @property
    def _n_seats(self) -> int:
        return int(self.record.mean.shape[1])

    def _forget(self, stream_id: int, seat: int) -> None:
        self.record.mean[stream_id, seat], self.record.mass[stream_id, seat] = np.nan, 0.0

    # who sits where

    def lead(self, version: Version) -> str | None:
        """Make a version the champion of its stream; it takes a free seat, or that of the least useful version.

        Returns
        -------
        str or None
            Id of the version that had to leave.
        """
        seats = self.versions.setdefault(version.stream_id, {})
        at = next((seat for seat, sitting in seats.items() if sitting.version_id == version.id), None)
        gone = None
        if at is None:
            at, gone = self._seat_for(version.stream_id, seats)
            self._forget(version.stream_id, at)
            seats[at] = Champion(version_id=version.id, family=version.family, sha256=version.sha256)
        self._leader[version.stream_id] = at
        return gone

    def _seat_for(self, stream_id: int, seats: Mapping[int, Champion]) -> tuple[int, str | None]:
        free = [seat for seat in range(self.n_fixed, self._n_seats) if seat not in seats]
        if free:
            return free[0], None
        leader = int(self._leader[stream_id])
        others = [seat for seat in seats if seat != leader] or [leader]
        recent = np.nan_to_num(self.record.mean[stream_id, others], nan=-np.inf)  # who has no loss yet may prove useful
        at = others[int(recent.argmax())]
        return at, seats[at].version_id

    def leave(self, stream_id: int, version_ids: Sequence[str]) -> None:
        """Take versions out of a pool."""
        seats = self.versions.get(stream_id, {})
        for seat in [seat for seat, sitting in seats.items() if sitting.version_id in version_ids]:
            del seats[seat]
            self._forget(stream_id, seat)
            if self._leader[stream_id] == seat:
                self._leader[stream_id] = 0

    def artifacts(self) -> set[str]:
        """Hashes of the artifacts that are in use."""
        return {sitting.sha256 for seats in self.versions.values() for sitting in seats.values()}

    # what they weigh

    def weights(self) -> Floats:
        """Weights of the members from now on, shape (streams, seats)."""
        seated = self._seated()
        if self.life.serve is not Serve.BLEND:
            made = np.zeros(seated.shape)
            made[np.arange(len(made)), self._leader] = 1.0
            return made
        relative = pool.relative_losses(
            self.record.mean, seated, n_fixed=self.n_fixed, shrinkage=self.life.pool_shrinkage
        )
        return pool.exponential_weights(relative, eta=self.life.pool_eta)

    def _seated(self) -> Bools:
        seated = np.zeros(self.record.mean.shape, dtype=np.bool_)
        seated[:, : self.n_fixed] = True
        for stream_id, seats in self.versions.items():
            seated[stream_id, list(seats)] = True
        return seated

    # batches

    def close(self, batch: int, loss: Floats) -> PoolBlock:
        """Take in the members' mean losses over a closed batch, shape (streams, seats); what is to be recorded."""
        self.record = self.record.after(loss, decay=self.life.pool_decay)
        weight = self.weights()
        fixed = fixed_members(self.life)
        seated = [(i, seat, name) for i in range(len(loss)) for seat, name in enumerate(fixed)]
        seated += [(i, seat, who.version_id) for i, seats in self.versions.items() for seat, who in seats.items()]
        code = {name: k for k, name in enumerate(dict.fromkeys(name for _, _, name in seated))}
        stream_id, seat = (np.asarray([entry[k] for entry in seated], dtype=np.int64) for k in (0, 1))
        return PoolBlock(
            batch=batch,
            stream_id=stream_id,
            seat=seat,
            member=np.asarray([code[name] for _, _, name in seated], dtype=np.int64),
            members=tuple(code),
            loss=loss[stream_id, seat],
            recent=self.record.mean[stream_id, seat],
            mass=self.record.mass[stream_id, seat],
            weight=weight[stream_id, seat],
        )

    def restore(self, block: PoolBlock, versions: Mapping[str, Version], leaders: Mapping[int, str]) -> None:
        """Take up what `close` recorded.

        Parameters
        ----------
        versions
            Versions by id.
        leaders
            Id of the champion at that time, by stream.
        """
        inside = block.seat < self._n_seats
        at = (block.stream_id[inside], block.seat[inside])
        self.record.mean[at], self.record.mass[at] = block.recent[inside], block.mass[inside]
        for stream_id, seat, member in zip(block.stream_id, block.seat, block.member, strict=True):
            version = versions.get(block.members[member])
            if version is None or not self.n_fixed <= seat < self._n_seats:
                continue
            self.versions.setdefault(int(stream_id), {})[int(seat)] = Champion(
                version_id=version.id, family=version.family, sha256=version.sha256
            )
            if leaders.get(int(stream_id)) == version.id:
                self._leader[stream_id] = seat
