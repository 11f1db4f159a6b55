"""The groups of a fleet as the control plane knows them: streams, models, accounts, and when a model is trained.

A group is a selection of streams that one model serves, as a member of the blend of each. It is trained by its own
debt, under the same price, cooldown, budget and overrides as a stream; here is what is decided, not how it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core import selection
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.decisions import EffectStatus, Hold, Reason
from mlma.core.group_account import GroupAccount
from mlma.core.policy import Policy, PolicyKind
from mlma.core.records import GroupTraining, Stream
from mlma.core.settings import GroupSettings, LifeSettings, Serve
from mlma.core.stream_weights import USUAL
from mlma.runtime.lineup import Champion, GroupSeat

MOST_OF_WINDOW = 0.25
"""Of a stream's train window that a group's training reads at most: it stays cheaper than a round of all streams."""

FAULTY_SHARE = 0.5
"""Of a group's streams whose batch looks like a fault, from which on nothing is learned from it."""

READY_SHARE = 0.5
"""Of a group's streams that must have enough history for its model to be trained."""


def groups_of(life: LifeSettings) -> tuple[GroupSettings, ...]:
    """Groups in the order of their seats; only blends have such members."""
    return life.groups if life.serve is Serve.BLEND else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSignals:
    """What groups are judged by after a batch; arrays of shape (streams,)."""

    batch: int
    n_rows: Ints  # clean observations in the train window
    frozen: Bools
    has_new: Bools  # an observation arrived in the batch
    suspicious: Bools  # the batch looks like a fault of the feed
    scored: Bools  # forecasts of the batch were scored
    losses: Floats  # mean losses of the groups' models, shape (streams, groups)


@dataclass
class Group:
    """One group."""

    settings: GroupSettings
    member: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))  # shape (streams,)
    account: GroupAccount = field(default_factory=GroupAccount)
    serving: GroupTraining | None = None  # whose model forecasts
    last: GroupTraining | None = None  # that started last
    open: GroupTraining | None = None  # pending, or waits for the budget
    worth: float = USUAL  # mean weight of its streams

    def per_stream(self, train_window: int) -> int:
        """Training rows of each stream at most; slots of the train window are given."""
        wanted = -(-self.settings.rows // max(1, int(self.member.sum())))
        return max(1, min(wanted, int(MOST_OF_WINDOW * train_window)))

    def order(self, reason: Reason, life: LifeSettings, *, batch: int, at: datetime) -> GroupTraining:
        """A training after a batch, to be recorded and then done."""
        return GroupTraining(
            id=f"{self.settings.member}-{batch}",
            name=self.settings.name,
            batch=batch,
            reason=reason,
            status=EffectStatus.WAITING if life.has_budget else EffectStatus.PENDING,
            n_streams=int(self.member.sum()),
            debt=self.account.debt,
            price=life.price / self.worth,
            ordered_at=at,
            deadline_at=at + life.training_deadline,
        )

    def note(self, training: GroupTraining) -> None:
        """Know what was recorded."""
        is_open = training.status in (EffectStatus.PENDING, EffectStatus.WAITING)
        if is_open:
            self.open = training
        elif self.open is not None and self.open.id == training.id:
            self.open = None
        if training.status in (EffectStatus.WAITING, EffectStatus.LAPSED):
            return
        if training.status is EffectStatus.PENDING and (self.last is None or self.last.id != training.id):
            self.account = self.account.settled()  # what it costs is paid
        if self.last is None or training.batch >= self.last.batch:
            self.last = training
        if training.status is EffectStatus.DONE and (self.serving is None or training.batch >= self.serving.batch):
            self.serving = training


class Groups:
    """All groups of one fleet."""

    def __init__(self, settings: Sequence[GroupSettings] = ()) -> None:
        self.each = [Group(settings=one) for one in settings]
        self._selections = [selection.parse(one.select) for one in settings]

    def __len__(self) -> int:
        return len(self.each)

    def grow(self, streams: Sequence[Stream]) -> None:
        """Take in born streams; those that are known come first."""
        for group, wanted in zip(self.each, self._selections, strict=True):
            born = streams[len(group.member) :]
            more = np.fromiter((wanted.matches(s.name, s.labels) for s in born), dtype=np.bool_, count=len(born))
            group.member = np.concatenate([group.member, more])
            group.account = group.account.grown(len(streams))

    def seated(self, n_streams: int) -> Bools:
        """Whether a group's model forecasts a stream, shape (streams, groups)."""
        made = np.zeros((n_streams, len(self.each)), dtype=np.bool_)
        for column, group in enumerate(self.each):
            if group.serving is not None:
                made[: len(group.member), column] = group.member
        return made

    def seats(self, first: int) -> tuple[GroupSeat, ...]:
        """Models that forecast, from the seat ``first`` on."""
        return tuple(
            GroupSeat(
                seat=first + column,
                member=group.settings.member,
                model=Champion(
                    version_id=group.serving.id,
                    family=group.serving.family,
                    sha256=group.serving.sha256,
                    batch=group.serving.batch,
                ),
                streams=group.member,
            )
            for column, group in enumerate(self.each)
            if group.serving is not None
        )

    def artifacts(self) -> set[str]:
        """Hashes of the artifacts that are in use."""
        return {group.serving.sha256 for group in self.each if group.serving is not None}

    # batches

    def charge(
        self, losses: Floats, yardstick: Floats, served: Floats, share: Floats, *, batch: int, fresh_for: int
    ) -> None:
        """Note what age has cost in a closed batch.

        Parameters
        ----------
        losses, share
            Mean losses of the groups' models and their weights, shape (streams, groups).
        yardstick, served, fresh_for
            See `mlma.core.group_account.GroupAccount.after`.
        """
        for column, group in enumerate(self.each):
            serving = group.serving
            if serving is None or serving.batch >= batch:
                continue
            age = batch - serving.batch
            mine = losses[:, column], yardstick, served, share[:, column]
            group.account = group.account.after(*mine, group.member, age=age, fresh_for=fresh_for)

    def due(
        self, now: GroupSignals, policy: Policy, life: LifeSettings, *, at: datetime
    ) -> tuple[list[GroupTraining], dict[str, Hold]]:
        """Trainings that a batch orders, and what held the others that were due, by group."""
        orders: list[GroupTraining] = []
        held: dict[str, Hold] = {}
        for column, group in enumerate(self.each):
            reason = self._wanted(column, group, now, policy, life)
            if reason is None or group.open is not None:
                continue
            hold = self._held(group, now, policy, life)
            if hold is not Hold.NOTHING:
                held[group.settings.name] = hold
                continue
            orders.append(group.order(reason, life, batch=now.batch, at=at))
        return orders, held

    @staticmethod
    def requested(
        group: Group, life: LifeSettings, *, frozen: Bools, n_rows: Ints, batch: int, at: datetime
    ) -> tuple[GroupTraining | None, Hold]:
        """Training that an engineer asks for, or what holds it.

        Parameters
        ----------
        frozen, n_rows
            Shape (streams,), as in `GroupSignals`; read for the group's streams alone.
        """
        mine, waits = group.member, group.open
        needed = max(READY_SHARE * mine.sum(), group.settings.min_streams)
        if frozen[mine].all():
            return None, Hold.FROZEN
        if waits is not None:  # for the budget: one training answers both orders
            is_pending = waits.status is EffectStatus.PENDING
            return (None, Hold.IN_PROGRESS) if is_pending else (replace(waits, reason=Reason.REQUESTED), Hold.NOTHING)
        if (n_rows[mine] >= life.min_rows).sum() < needed:
            return None, Hold.TOO_LITTLE_DATA
        if group.last is not None and group.last.batch == batch:
            return None, Hold.NOTHING_TO_CHANGE  # it has learned from everything that there is
        return group.order(Reason.REQUESTED, life, batch=batch, at=at), Hold.NOTHING

    def named(self, name: str) -> Group | None:
        """Group of a name, None when there is none."""
        return next((group for group in self.each if group.settings.name == name), None)

    @staticmethod
    def _wanted(column: int, group: Group, now: GroupSignals, policy: Policy, life: LifeSettings) -> Reason | None:
        """Why a training is due; None when none is."""
        if group.member.sum() < group.settings.min_streams:
            return None
        if group.serving is None:
            return Reason.NO_VERSION
        mine = now.losses[:, column]
        if group.serving.batch < now.batch and now.scored[group.member].any() and not np.isfinite(mine).any():
            return Reason.MODEL_FAILED
        if policy.kind is PolicyKind.ALWAYS:
            return Reason.ALWAYS
        age = now.batch - (group.last or group.serving).batch
        if policy.kind is PolicyKind.CALENDAR:
            return Reason.CALENDAR if age >= policy.every else None
        pays = group.account.pays(life.price / group.worth, group.member)
        return Reason.DEBT if policy.kind is PolicyKind.MLMA and pays else None

    @staticmethod
    def _held(group: Group, now: GroupSignals, policy: Policy, life: LifeSettings) -> Hold:
        mine = group.member
        if now.frozen[mine].all():
            return Hold.FROZEN
        if not now.has_new[mine].any():
            return Hold.NO_NEW_DATA
        needed = max(READY_SHARE * mine.sum(), group.settings.min_streams)
        if policy.is_agent and now.suspicious[mine].mean() >= FAULTY_SHARE:
            return Hold.SUSPICIOUS_DATA
        if (now.n_rows[mine] >= life.min_rows).sum() < needed:
            return Hold.TOO_LITTLE_DATA
        cooldown = life.cooldown if policy.is_agent else 0
        if group.last is not None and now.batch - group.last.batch < cooldown:
            return Hold.COOLING_DOWN
        return Hold.NOTHING

    def note(self, trainings: Sequence[GroupTraining]) -> None:
        """Know what was recorded; groups that the settings do not name any more are left alone."""
        by_name = {group.settings.name: group for group in self.each}
        for training in trainings:
            if training.name in by_name:
                by_name[training.name].note(training)

    # what is recorded

    def columns(self) -> dict[str, NDArray[Any]]:
        """Accounts by name."""
        made: dict[str, NDArray[Any]] = {}
        for group in self.each:
            made |= group.account.columns(f"{group.settings.member}:")
        return made

    def restore(self, columns: Mapping[str, NDArray[Any]], trainings: Sequence[GroupTraining], cursor: int) -> None:
        """Take up what was recorded.

        Parameters
        ----------
        columns
            What `columns` gave after the batch ``cursor``.
        trainings
            Of all groups, in order of batch.
        """
        self.note(trainings)
        for group in self.each:
            found = GroupAccount.from_columns(columns, f"{group.settings.member}:").grown(len(group.member))
            is_paid = group.last is not None and group.last.batch == cursor
            group.account = found.settled() if is_paid else found
