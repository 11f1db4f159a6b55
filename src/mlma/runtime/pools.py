"""The pools of the fleet as the control plane knows them: who sits where, how they did lately, what they weigh.

Written down after every batch; a restart takes up the last record and seats again whoever came since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core import backoff, pool
from mlma.core.account import Account
from mlma.core.blocks import Bools, Floats, Ints, PoolBlock
from mlma.core.comparison import Comparisons
from mlma.core.recalibration import N_SUMS, after, solved
from mlma.core.records import NAIVE, Stream, Version
from mlma.core.settings import GROUP_PREFIX, Evergreen, LifeSettings, Promotion, Serve
from mlma.core.staleness import Staleness
from mlma.core.stream_weights import USUAL, weights_of
from mlma.runtime.contests import NUMBERS, Contests, Judged
from mlma.runtime.groups import Groups, groups_of
from mlma.runtime.lineup import Champion, Lineup

FIXED = "fixed_seats"
"""Column of what is recorded: seats that no version takes, also where nobody sits on one yet."""

YARDSTICK = (Evergreen.MEDIAN, Evergreen.LAD)
"""Members that are enough where they serve nobody: a regression for each hour costs twice as much as these."""


def evergreens(life: LifeSettings) -> tuple[Evergreen, ...]:
    """Evergreen members of every pool, in the order of their seats; beside a champion they are only a yardstick."""
    if life.serve is Serve.LATEST:
        return ()
    if life.serve is Serve.BLEND:
        return life.evergreen
    return tuple(member for member in life.evergreen if member in YARDSTICK)


def ageless_members(life: LifeSettings) -> tuple[str, ...]:
    """Members that every pool has without a training, in the order of their seats."""
    return (NAIVE, *evergreens(life))


def fixed_members(life: LifeSettings) -> tuple[str, ...]:
    """Members with a seat of their own in every pool: those without a training, and the models of groups."""
    return (*ageless_members(life), *(group.member for group in groups_of(life)))


def is_fixed(member: str) -> bool:
    """Whether a member of a pool is no trained version of one stream, by its name."""
    return member == NAIVE or member in set(Evergreen) or member.startswith(GROUP_PREFIX)


def recalibrates(life: LifeSettings) -> bool:
    """Whether the versions' forecasts are recalibrated: those of one champion; a blend gains nothing by it."""
    return life.serve is Serve.CHAMPION and life.recalibrate


def n_seats(life: LifeSettings) -> int:
    """Seats of every pool."""
    return len(fixed_members(life)) + (1 if life.serve is Serve.LATEST else life.pool_size)


def _champion(version: Version) -> Champion:
    return Champion(version_id=version.id, family=version.family, sha256=version.sha256, batch=version.batch)


@dataclass
class Pools:
    """One row a stream, one seat a column; the first seats belong to seasonal naive and the evergreen members."""

    life: LifeSettings
    versions: dict[int, dict[int, Champion]] = field(default_factory=dict)  # by stream and seat
    record: pool.Record = field(init=False)  # (streams, seats)
    account: Account = field(init=False)
    recalibration: Floats = field(init=False)  # (streams, seats, sums), see `mlma.core.recalibration`
    staleness: Staleness = field(init=False)
    contests: Contests = field(init=False)
    groups: Groups = field(init=False)
    worth: Floats = field(default_factory=lambda: np.empty(0))  # (streams,), see `mlma.core.stream_weights`
    judged: Judged | None = None  # of the last closed batch
    _scored: Bools = field(init=False)  # (streams, seats), whether it has a loss in the last closed batch
    _leader: Ints = field(init=False)  # (streams,), seat of the champion; 0 while there is none

    def __post_init__(self) -> None:
        self.record = pool.Record.empty(0, n_seats(self.life))
        self.account = Account.empty(0)
        self.recalibration = np.zeros((0, self._n_seats, N_SUMS))
        self.staleness = Staleness.fresh(0)
        self.groups = Groups(groups_of(self.life))
        self.contests = Contests(n_seats=self._n_seats - self.n_fixed if self._proves else 0)
        self._scored = np.zeros((0, self._n_seats), dtype=np.bool_)
        self._leader = np.empty(0, dtype=np.int64)

    @property
    def _proves(self) -> bool:
        life = self.life
        return life.serve is Serve.CHAMPION and not life.proof and life.promotion is Promotion.PROVEN

    @property
    def n_fixed(self) -> int:
        """Seats that no version takes."""
        return len(fixed_members(self.life))

    @property
    def n_ageless(self) -> int:
        """Seats of the members that need no training, the first ones."""
        return len(ageless_members(self.life))

    def grow(self, n_streams: int) -> None:
        """Add pools for born streams."""
        more = n_streams - len(self._leader)
        new = pool.Record.empty(more, self._n_seats)
        self.record = pool.Record(np.vstack([self.record.mean, new.mean]), np.vstack([self.record.mass, new.mass]))
        self.account = self.account.grown(n_streams)
        self.recalibration = np.concatenate([self.recalibration, np.zeros((more, self._n_seats, N_SUMS))])
        self.staleness.grow(more)
        self.contests.grow(more)
        self._scored = np.vstack([self._scored, np.zeros((more, self._n_seats), dtype=np.bool_)])
        self._leader = np.concatenate([self._leader, np.zeros(more, dtype=np.int64)])

    @property
    def _alone(self) -> bool:
        return self.life.serve is not Serve.BLEND

    def weigh(self, streams: Sequence[Stream]) -> None:
        """Look up the weights of born streams, known to the groups; those that are known here come first."""
        self.worth = np.concatenate([self.worth, weights_of(streams[len(self.worth) :], self.life.weights)])
        for group in self.groups.each:
            group.worth = float(self.worth[group.member].mean()) if group.member.any() else USUAL

    def pays(self, *, vain: Ints | None = None) -> Bools:
        """Whether a training of a stream is worth its price, doubled for each training in vain; shape (streams,)."""
        price = self.life.price / self.worth
        return self.account.pays(price if vain is None else price * np.exp2(vain), alone=self._alone)

    def in_vain(self) -> Ints:
        """Newest versions in a row that are no better than an older one, shape (streams,)."""
        trained = np.zeros((len(self._leader), self._n_seats), dtype=np.int64)
        for stream_id, seats in self.versions.items():
            trained[stream_id, list(seats)] = [sitting.batch for sitting in seats.values()]
        return backoff.in_vain(self.record.mean[:, self.n_fixed :], trained[:, self.n_fixed :])

    @property
    def _n_seats(self) -> int:
        return int(self.record.mean.shape[1])

    def _forget(self, stream_id: int, seat: int) -> None:
        self.record.mean[stream_id, seat], self.record.mass[stream_id, seat] = np.nan, 0.0
        self.recalibration[stream_id, seat] = 0.0
        if self._proves:
            self.contests.begin(stream_id, seat - self.n_fixed)

    # who sits where

    def join(self, version: Version) -> int:
        """Give a version a seat, a free one or that of the version with the largest recent loss; returns the seat.

        It starts with the record of the best version, so that its own batches decide what becomes of it.
        """
        stream_id = version.stream_id
        seats = self.versions.setdefault(stream_id, {})
        at = next((seat for seat, sitting in seats.items() if sitting.version_id == version.id), None)
        if at is not None:
            return at
        best = self._best(stream_id)
        at = self._seat_for(stream_id, seats)
        seats[at] = _champion(version)
        self._forget(stream_id, at)
        if best is not None and best != at:
            for values in (self.record.mean, self.record.mass):
                values[stream_id, at] = values[stream_id, best]
        return at

    def lead(self, version: Version) -> None:
        """Make a version the champion of its stream."""
        at = self.join(version)
        if self._proves and self._leader[version.stream_id] != at:
            self.contests.begin(version.stream_id)  # against the champion before
        self._leader[version.stream_id] = at

    def _best(self, stream_id: int, *, scored: bool = False) -> int | None:
        """Seat of the version with the smallest recent loss, perhaps only of those scored in the last closed batch."""
        among = self._scored[stream_id] if scored else self.record.mass[stream_id] > 0
        seats = [seat for seat in self.versions.get(stream_id, ()) if among[seat]]
        return min(seats, key=lambda seat: self.record.mean[stream_id, seat]) if seats else None

    def favourites(self) -> dict[int, str]:
        """Version that did better than the champion of its stream, lately or as proven, by stream.

        Both forecast in the last closed batch; or the champion did not, and the best of those that did stands in.
        """
        found = self._proven() if self._proves else {}
        for stream_id, seats in self.versions.items():
            best, leader = self._best(stream_id, scored=True), int(self._leader[stream_id])
            if best is None or not leader or best == leader:
                continue
            mean, has_failed = self.record.mean[stream_id], not self._scored[stream_id, leader]
            if has_failed or (not self._proves and mean[best] < mean[leader]):
                found[stream_id] = seats[best].version_id
        return found

    def _proven(self) -> dict[int, str]:
        """Version that was shown to be better than the champion of its stream, the one with the largest gain."""
        found: dict[int, str] = {}
        if self.judged is None:
            return found
        for stream_id in np.flatnonzero(self.judged.better.any(axis=1)).tolist():
            gain = np.where(self.judged.better[stream_id], self.judged.gain[stream_id], -np.inf)
            seat = int(gain.argmax()) + self.n_fixed
            found[stream_id] = self.versions[stream_id][seat].version_id
        return found

    def lost(self) -> list[tuple[int, str, str]]:
        """Stream, version and cause of each comparison that a version lost in the last closed batch."""
        if self.judged is None:
            return []
        rows, seats = np.nonzero(self.judged.not_better)
        return [
            (i, self.versions[i][seat + self.n_fixed].version_id, self.judged.cause[i][seat])
            for i, seat in zip(rows.tolist(), seats.tolist(), strict=True)
        ]

    def leaderless(self, loss: Floats) -> Bools:
        """Whether the champion of a stream has no loss among these of shape (streams, seats); shape (streams,)."""
        return (self._leader > 0) & np.isnan(loss[np.arange(len(loss)), self._leader])

    def silent(self, loss: Floats, *, older_than: int) -> list[tuple[int, str]]:
        """Stream and id of versions of earlier trainings without a loss in a batch in which their champion has one.

        Parameters
        ----------
        loss
            Shape (streams, seats).
        """
        known = np.isfinite(loss)
        return [
            (stream_id, sitting.version_id)
            for stream_id, seats in sorted(self.versions.items())
            if self._leader[stream_id] and known[stream_id, self._leader[stream_id]]
            for seat, sitting in sorted(seats.items())
            if sitting.batch < older_than and not known[stream_id, seat]
        ]

    def recent_loss(self, stream_id: int, version_id: str | None) -> float:
        """Recent loss of a version in the pool, or of the champion; NaN without one."""
        seats = self.versions.get(stream_id, {})
        found = [seat for seat, sitting in seats.items() if sitting.version_id == version_id]
        at = int(self._leader[stream_id]) if version_id is None else (found or [0])[0]
        return float(self.record.mean[stream_id, at]) if at else float("nan")

    def _seat_for(self, stream_id: int, seats: Mapping[int, Champion]) -> int:
        free = [seat for seat in range(self.n_fixed, self._n_seats) if seat not in seats]
        if free:
            return free[0]
        leader = int(self._leader[stream_id])
        others = [seat for seat in seats if seat != leader] or [leader]
        recent = np.nan_to_num(self.record.mean[stream_id, others], nan=-np.inf)  # who has no loss yet may prove useful
        return others[int(recent.argmax())]

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
        return {sitting.sha256 for seats in self.versions.values() for sitting in seats.values()} | (
            self.groups.artifacts()
        )

    # what they weigh

    def weights(self) -> Floats:
        """Weights of the members from now on, shape (streams, seats)."""
        if self.life.serve is not Serve.BLEND:
            made = np.zeros(self.record.mean.shape)
            made[np.arange(len(made)), self._leader] = 1.0
            return made
        return pool.shared_weights(self._relative(), n_fixed=self.n_fixed, eta=self.life.pool_eta)

    def inner(self) -> Floats:
        """Weights within the trained versions and within the other members, shape (streams, seats)."""
        made = pool.inner_weights(
            self._relative(), n_fixed=self.n_fixed, eta=self.life.pool_eta, n_ageless=self.n_ageless
        )
        if self.life.serve is not Serve.BLEND:
            made[:, self.n_fixed :] = 0.0
            led = np.flatnonzero(self._leader)
            made[led, self._leader[led]] = 1.0
        return made

    def lineup(self) -> Lineup:
        """Who forecasts from now on."""
        shift, slope = solved(self.recalibration)
        return Lineup(
            weight=self.weights(), inner=self.inner(), shift=shift, slope=slope, versions=self.versions,
            groups=self.groups.seats(self.n_ageless),
        )  # fmt: skip

    def _relative(self) -> Floats:
        return pool.relative_losses(
            self.record.mean, self._seated(), n_fixed=self.n_fixed, shrinkage=self.life.pool_shrinkage
        )

    def _seated(self) -> Bools:
        seated = np.zeros(self.record.mean.shape, dtype=np.bool_)
        seated[:, : self.n_ageless] = True
        seated[:, self.n_ageless : self.n_fixed] = self.groups.seated(len(seated))
        for stream_id, seats in self.versions.items():
            seated[stream_id, list(seats)] = True
        return seated

    # batches

    def charge(self, groups: Floats, served: Floats, age: Ints) -> None:
        """Note what age has cost in a closed batch; see `mlma.core.account.Account.after`."""
        share = self.weights()[:, self.n_fixed :].sum(axis=1)
        self.account = self.account.after(groups[:, 0], groups[:, 1], served, share, age, alone=self._alone)

    def charge_groups(self, losses: Floats, yardstick: Floats, served: Floats, batch: int) -> None:
        """Note what the age of the groups' models has cost in a closed batch; see `mlma.runtime.groups.Groups.charge`.

        Parameters
        ----------
        losses
            Mean losses of the members, shape (streams, seats).
        """
        if len(self.groups):
            mine = slice(self.n_ageless, self.n_fixed)
            self.groups.charge(losses[:, mine], yardstick, served, self.weights()[:, mine], batch=batch)

    def paid(self, stream_ids: Sequence[int]) -> None:
        """Start the debts of streams over whose trainings start now."""
        if len(stream_ids):
            trained = np.zeros(len(self._leader), dtype=np.bool_)
            trained[list(stream_ids)] = True
            self.account = self.account.settled(trained)

    def close(self, batch: int, loss: Floats, recalibration: Floats, trained: Bools) -> PoolBlock:
        """Take in the members' mean losses over a closed batch, and who is trained now; what is to be recorded.

        Parameters
        ----------
        loss
            Shape (streams, seats).
        recalibration
            Shape (streams, seats, sums), what the batch says about it.
        trained
            Shape (streams,).
        """
        self.account = self.account.settled(trained)
        self._age(batch, loss)
        self.recalibration = after(self.recalibration, recalibration)
        self.record, self._scored = self.record.after(loss, decay=self.life.pool_decay), np.isfinite(loss)
        n_compared = 0
        if self._proves:
            champion = np.where(self._leader > 0, self._leader - self.n_fixed, -1)
            self.judged = self.contests.judge(loss[:, self.n_fixed :], champion, self._seated()[:, self.n_fixed :])
            n_compared = len(NUMBERS)
        compared = np.zeros((*loss.shape, n_compared))
        if self._proves:
            compared[:, self.n_fixed :] = self.contests.numbers()
        weight = self.weights()
        fixed, sits = fixed_members(self.life), self._seated()
        seated = [(i, seat, name) for i in range(len(loss)) for seat, name in enumerate(fixed) if sits[i, seat]]
        # trainings finish in any order, what is recorded must not show it
        seated += [
            (i, seat, self.versions[i][seat].version_id)
            for i in sorted(self.versions)
            for seat in sorted(self.versions[i])
        ]
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
            recalibration=self.recalibration[stream_id, seat],
            comparison=compared[stream_id, seat],
            account={FIXED: np.full(len(loss), float(self.n_fixed))}
            | self.account.arrays()
            | self.staleness.columns()
            | self.groups.columns(),
        )

    def _age(self, batch: int, loss: Floats) -> None:
        """Note what versions of several ages lost on the same targets."""
        if self.life.serve is Serve.LATEST:
            return
        versions = loss[:, self.n_fixed :]
        age = np.ones(versions.shape, dtype=np.int64)
        for stream_id, seats in self.versions.items():
            for seat, sitting in seats.items():
                age[stream_id, seat - self.n_fixed] = max(1, batch - sitting.batch)
        self.staleness.update(versions, age)

    def restore(self, block: PoolBlock, versions: Mapping[str, Version], leaders: Mapping[int, str]) -> None:
        """Take up what `close` recorded.

        Parameters
        ----------
        versions
            Versions by id.
        leaders
            Id of the champion at that time, by stream.
        """
        self.account = Account.of(block.account).grown(len(self._leader))
        self.staleness = Staleness.from_columns(block.account)
        self.staleness.grow(len(self._leader) - len(block.account["debt"]))
        seats = self._seats_now(block)
        inside = (seats >= 0) & (seats < self._n_seats)
        at = (block.stream_id[inside], seats[inside])
        self.record.mean[at], self.record.mass[at] = block.recent[inside], block.mass[inside]
        self.recalibration[at] = block.recalibration[inside]
        if self._proves and block.comparison.shape[1]:
            numbers = np.zeros((*self.record.mean.shape, len(NUMBERS)))
            numbers[:, self.n_fixed :] = Contests(n_seats=1, state=Comparisons.fresh(1)).numbers()
            numbers[at] = block.comparison[inside]
            self.contests.restore(numbers[:, self.n_fixed :])
        for stream_id, seat, member in zip(block.stream_id, seats, block.member, strict=True):
            version = versions.get(block.members[member])
            if version is None or not self.n_fixed <= seat < self._n_seats:
                continue
            self.versions.setdefault(int(stream_id), {})[int(seat)] = _champion(version)
            if leaders.get(int(stream_id)) == version.id:
                self._leader[stream_id] = seat

    def _seats_now(self, block: PoolBlock) -> Ints:
        """Seats of what was recorded, under the present settings; -1 for a member that there is no more.

        A daemon may be restarted with another family of evergreen members, or with a group more.
        """
        fixed = fixed_members(self.life)
        is_version = np.asarray([not is_fixed(name) for name in block.members], dtype=np.bool_)[block.member]
        before = int(block.seat[~is_version].max(initial=-1)) + 1  # of a state that does not say: all were seated
        said = block.account.get(FIXED)
        if said is not None and len(said):
            before = int(said[0])
        by_name = np.asarray([fixed.index(name) if name in fixed else -1 for name in block.members], dtype=np.int64)
        return np.where(is_version, block.seat - before + len(fixed), by_name[block.member])
