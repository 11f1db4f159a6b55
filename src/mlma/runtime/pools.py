"""The pools of the fleet as the control plane knows them: who sits where, how they did lately, what they weigh.

Written down after every batch; a restart takes up the last record and seats again whoever came since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlma.core import backoff, pool
from mlma.core.account import FRESH_BATCHES, Account
from mlma.core.blocks import Bools, Floats, Ints, PoolBlock
from mlma.core.comparison import Comparisons
from mlma.core.recalibration import N_SUMS, after, solved
from mlma.core.records import Stream, Version
from mlma.core.settings import QUICK, Evergreen, LifeSettings, Promotion, Serve
from mlma.core.staleness import Staleness
from mlma.core.stream_weights import USUAL, weights_of
from mlma.runtime import pool_record
from mlma.runtime.contests import NUMBERS, Contests, Judged
from mlma.runtime.groups import Groups, groups_of
from mlma.runtime.lineup import Lineup
from mlma.runtime.pool_members import ageless_members, fixed_members, n_seats
from mlma.runtime.seating import NOBODY, Seating

IMPRESSION = "impression"
"""Column of what is recorded."""


@dataclass
class Pools:
    """One row a stream, one seat a column; the first seats belong to seasonal naive and the evergreen members."""

    life: LifeSettings
    fresh_for: int = FRESH_BATCHES  # see `mlma.core.account.fresh_batches`
    seating: Seating = field(init=False)
    record: pool.Record = field(init=False)  # (streams, seats)
    account: Account = field(init=False)
    recalibration: Floats = field(init=False)  # (streams, seats, sums), see `mlma.core.recalibration`
    staleness: Staleness = field(init=False)
    contests: Contests = field(init=False)
    groups: Groups = field(init=False)
    worth: Floats = field(default_factory=lambda: np.empty(0))  # (streams,), see `mlma.core.stream_weights`
    impression: Floats = field(default_factory=lambda: np.empty(0))  # (streams,), of the median before it forecast
    judged: Judged | None = None  # of the last closed batch
    _scored: Bools = field(init=False)  # (streams, seats), whether it has a loss in the last closed batch

    def __post_init__(self) -> None:
        self.seating = Seating(n_fixed=len(fixed_members(self.life)), n_seats=n_seats(self.life))
        self.record = pool.Record.empty(0, self._n_seats)
        self.account = Account.empty(0)
        self.recalibration = np.zeros((0, self._n_seats, N_SUMS))
        self.staleness = Staleness.fresh(0)
        self.groups = Groups(groups_of(self.life))
        self.contests = Contests(n_seats=self._n_seats - self.n_fixed if self._proves else 0)
        self._scored = np.zeros((0, self._n_seats), dtype=np.bool_)

    @property
    def _proves(self) -> bool:
        life = self.life
        return life.serve is Serve.CHAMPION and not life.proof and life.promotion is Promotion.PROVEN

    @property
    def n_fixed(self) -> int:
        """Seats that no version takes."""
        return self.seating.n_fixed

    @property
    def n_ageless(self) -> int:
        """Seats of the members that need no training, the first ones."""
        return len(ageless_members(self.life))

    def grow(self, n_streams: int) -> None:
        """Add pools for born streams."""
        more = n_streams - len(self.seating)
        if not more:
            return
        self.seating.grow(n_streams)
        self.worth = np.concatenate([self.worth, np.full(more, USUAL)])
        self.impression = np.concatenate([self.impression, np.full(more, np.nan)])
        new = pool.Record.empty(more, self._n_seats)
        self.record = pool.Record(np.vstack([self.record.mean, new.mean]), np.vstack([self.record.mass, new.mass]))
        self.account = self.account.grown(n_streams)
        self.recalibration = np.concatenate([self.recalibration, np.zeros((more, self._n_seats, N_SUMS))])
        self.staleness.grow(more)
        self.contests.grow(more)
        self._scored = np.vstack([self._scored, np.zeros((more, self._n_seats), dtype=np.bool_)])

    @property
    def _alone(self) -> bool:
        return self.life.serve is not Serve.BLEND

    def weigh(self, streams: Sequence[Stream]) -> None:
        """Look up how much the losses of streams and groups count; before, all count as usual."""
        if self.life.weights:
            self.worth = weights_of(streams, self.life.weights)
        for group in self.groups.each:
            group.worth = float(self.worth[group.member].mean()) if group.member.any() else USUAL

    def pays(self, *, vain: Ints | None = None) -> Bools:
        """Whether a training of a stream is worth its price, doubled for each training in vain; shape (streams,)."""
        price = self.life.price / self.worth
        return self.account.pays(price if vain is None else price * np.exp2(vain), alone=self._alone)

    def in_vain(self) -> Ints:
        """Newest versions in a row that are no better than an older one, shape (streams,)."""
        versions = slice(self.n_fixed, None)
        return backoff.in_vain(self.record.mean[:, versions], self.seating.trained()[:, versions])

    @property
    def _n_seats(self) -> int:
        return self.seating.n_seats

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
        at = self.seating.seat_of(stream_id, version.id)
        if at is not None:
            return at
        best, at = self._best(stream_id), self._seat_for(stream_id)
        self.seating.sit(stream_id, at, version)
        self._forget(stream_id, at)
        if best is not None and best != at:
            for values in (self.record.mean, self.record.mass):
                values[stream_id, at] = values[stream_id, best]
        return at

    def lead(self, version: Version) -> None:
        """Make a version the champion of its stream."""
        at = self.join(version)
        if self._proves and self.seating.leader[version.stream_id] != at:
            self.contests.begin(version.stream_id)  # against the champion before
        self.seating.leader[version.stream_id] = at

    def _best(self, stream_id: int, *, scored: bool = False) -> int | None:
        """Seat of the version with the smallest recent loss, perhaps only of those scored in the last closed batch."""
        among = self._scored[stream_id] if scored else self.record.mass[stream_id] > 0
        seats = [seat for seat in self.seating.of(stream_id) if among[seat]]
        return min(seats, key=lambda seat: self.record.mean[stream_id, seat]) if seats else None

    def favourites(self) -> dict[int, str]:
        """Version that did better than the champion of its stream, lately or as proven, by stream.

        Both forecast in the last closed batch; or the champion did not, and the best of those that did stands in.
        """
        found = self._proven() if self._proves else {}
        for stream_id, seats in self.seating.versions.items():
            best, leader = self._best(stream_id, scored=True), int(self.seating.leader[stream_id])
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
            found[stream_id] = self.seating.of(stream_id)[seat].version_id
        return found

    def lost(self) -> list[tuple[int, str, str]]:
        """Stream, version and cause of each comparison that a version lost in the last closed batch."""
        if self.judged is None:
            return []
        rows, seats = np.nonzero(self.judged.not_better)
        return [
            (i, self.seating.of(i)[seat + self.n_fixed].version_id, self.judged.cause[i][seat])
            for i, seat in zip(rows.tolist(), seats.tolist(), strict=True)
        ]

    def recent_loss(self, stream_id: int, version_id: str | None) -> float:
        """Recent loss of a version in the pool, or of the champion; NaN without one."""
        leader = int(self.seating.leader[stream_id])
        at = leader if version_id is None else self.seating.seat_of(stream_id, version_id) or 0
        return float(self.record.mean[stream_id, at]) if at else float("nan")

    def _seat_for(self, stream_id: int) -> int:
        free = self.seating.free(stream_id)
        if free is not None:
            return free
        leader = int(self.seating.leader[stream_id])
        others = [seat for seat in self.seating.of(stream_id) if seat != leader] or [leader]
        recent = np.nan_to_num(self.record.mean[stream_id, others], nan=-np.inf)  # who has no loss yet may prove useful
        return others[int(recent.argmax())]

    def leave(self, stream_id: int, version_ids: Sequence[str]) -> None:
        """Take versions out of a pool."""
        for seat in self.seating.leave(stream_id, version_ids):
            self._forget(stream_id, seat)

    def artifacts(self) -> set[str]:
        """Hashes of the artifacts that are in use."""
        return self.seating.artifacts() | self.groups.artifacts()

    # what they weigh

    def weights(self) -> Floats:
        """Weights of the members from now on, shape (streams, seats)."""
        if self.life.serve is not Serve.BLEND:
            made = np.zeros(self.record.mean.shape)
            made[np.arange(len(made)), self.seating.leader] = 1.0
            return made
        return pool.shared_weights(self._relative(self._expected()), n_fixed=self.n_fixed, eta=self.life.pool_eta)

    def inner(self) -> Floats:
        """Weights within the trained versions and within the other members, shape (streams, seats).

        What is expected of the median stays out: beside a yardstick that is better in the first batch the usual loss of
        fresh versions would seem larger, and their age cheaper than it is.
        """
        made = pool.inner_weights(
            self._relative(), n_fixed=self.n_fixed, eta=self.life.pool_eta, n_ageless=self.n_ageless
        )
        if self.life.serve is not Serve.BLEND:
            made[:, self.n_fixed :] = 0.0
            led = np.flatnonzero(self.seating.leader)
            made[led, self.seating.leader[led]] = 1.0
        return made

    def lineup(self) -> Lineup:
        """Who forecasts from now on."""
        shift, slope = solved(self.recalibration)
        return Lineup(
            weight=self.weights(), inner=self.inner(), shift=shift, slope=slope,
            versions=self.seating.versions,
            groups=self.groups.seats(self.n_ageless),
        )  # fmt: skip

    def _expected(self) -> Floats:
        expected = np.full((len(self.seating), self.n_fixed), np.nan)
        if Evergreen.MEDIAN in fixed_members(self.life):
            expected[:, fixed_members(self.life).index(Evergreen.MEDIAN)] = pool.expected_loss(self.impression)
        return expected

    def _relative(self, expected: Floats | None = None) -> Floats:
        return pool.relative_losses(
            self.record.mean, self._seated(), n_fixed=self.n_fixed, shrinkage=self.life.pool_shrinkage,
            expected=expected,
        )  # fmt: skip

    def _seated(self) -> Bools:
        seated = self.seating.taken()
        seated[:, : self.n_ageless] = True
        for seat, member in enumerate(ageless_members(self.life)):
            if member in QUICK:  # no model stands behind it: what it is worth to a stream is known once it has a loss
                seated[:, seat] = self.record.mass[:, seat] > 0
        seated[:, self.n_ageless : self.n_fixed] = self.groups.seated(len(seated))
        return seated

    # batches

    def expect(self, impression: Floats) -> None:
        """Note what the past said of the median, NaN where nothing; shape (streams,)."""
        self.impression = np.where(np.isfinite(impression), impression, self.impression)

    def charge(self, groups: Floats, served: Floats, age: Ints) -> None:
        """Note what age has cost in a closed batch; see `mlma.core.account.Account.after`."""
        share = self.weights()[:, self.n_fixed :].sum(axis=1)
        self.account = self.account.after(
            groups[:, 0], groups[:, 1], served, share, age, alone=self._alone, fresh_for=self.fresh_for
        )

    def charge_groups(self, losses: Floats, yardstick: Floats, served: Floats, batch: int) -> None:
        """Note what the age of the groups' models has cost in a closed batch; see `mlma.runtime.groups.Groups.charge`.

        Parameters
        ----------
        losses
            Mean losses of the members, shape (streams, seats).
        """
        if len(self.groups):
            mine = slice(self.n_ageless, self.n_fixed)
            share = self.weights()[:, mine]
            self.groups.charge(losses[:, mine], yardstick, served, share, batch=batch, fresh_for=self.fresh_for)

    def paid(self, stream_ids: Sequence[int]) -> None:
        """Start the debts of streams over whose trainings start now."""
        if len(stream_ids):
            trained = np.zeros(len(self.seating), dtype=np.bool_)
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
            leader = self.seating.leader
            champion = np.where(leader > 0, leader - self.n_fixed, -1)
            self.judged = self.contests.judge(loss[:, self.n_fixed :], champion, self._seated()[:, self.n_fixed :])
            n_compared = len(NUMBERS)
        compared = np.zeros((*loss.shape, n_compared))
        if self._proves:
            compared[:, self.n_fixed :] = self.contests.numbers()
        return pool_record.written(
            self.seating, self._seated(), fixed_members(self.life), batch=batch, loss=loss, recent=self.record.mean,
            mass=self.record.mass, weight=self.weights(), recalibration=self.recalibration, comparison=compared,
            account=self.account.arrays() | self.staleness.columns() | self.groups.columns()
            | {IMPRESSION: self.impression},
        )  # fmt: skip

    def _age(self, batch: int, loss: Floats) -> None:
        """Note what versions of several ages lost on the same targets."""
        if self.life.serve is Serve.LATEST:
            return
        trained = self.seating.trained()[:, self.n_fixed :]
        age = np.where(trained == NOBODY, 1, np.maximum(1, batch - trained))
        self.staleness.update(loss[:, self.n_fixed :], age)

    def restore(self, block: PoolBlock, versions: Mapping[str, Version], leaders: Mapping[int, str]) -> None:
        """Take up what `close` recorded.

        Parameters
        ----------
        versions
            Versions by id.
        leaders
            Id of the champion at that time, by stream.
        """
        self.account = Account.of(block.account).grown(len(self.seating))
        self.staleness = Staleness.from_columns(block.account)
        self.staleness.grow(len(self.seating) - len(block.account["debt"]))
        if (noted := block.account.get(IMPRESSION)) is not None:  # a state of before has none
            self.impression[: len(noted)] = noted
        seats = pool_record.seats_now(block, fixed_members(self.life))
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
            self.seating.sit(int(stream_id), int(seat), version)
            if leaders.get(int(stream_id)) == version.id:
                self.seating.leader[stream_id] = seat
