"""Which policies a replay runs, under which settings, and the memory of those that have one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from mlma.core.blocks import ACTION_CODE, Bools, Floats
from mlma.core.decisions import Action
from mlma.core.errors import ConfigError
from mlma.core.policy import MEMORY_KINDS, Policy, PolicyKind
from mlma.core.settings import Serve
from mlma.core.triggers import Debt, PageHinkley, drawn
from mlma.runtime.closing import Closed
from mlma.runtime.control import EngineSettings
from mlma.runtime.replay_data import life_of
from mlma.runtime.scoring import BatchScores

CADENCES = (2, 4, 8, 13, 26)
"""Of the calendars among which the best is looked for in hindsight, in batches."""


class Memory(Protocol):
    """What a policy with memory keeps of every stream; one step a batch."""

    def step(self, batch: int, loss: Floats, naive: Floats) -> Bools:
        """Take in the mean losses of a batch, shape (streams,); says who is due."""

    def forget(self, retrained: Bools) -> None:
        """Start over with the streams that are retrained after the batch, shape (streams,)."""


@dataclass
class Chance:
    """Random retrainings at a rate."""

    seed: int
    rate: float

    def step(self, batch: int, loss: Floats, naive: Floats) -> Bools:  # noqa: ARG002  chance looks at nothing
        """Streams that chance picks."""
        return drawn(self.seed, batch, len(loss), rate=self.rate)

    def forget(self, retrained: Bools) -> None:
        """Chance remembers nothing."""


@dataclass
class Rise:
    """The test of Page and Hinkley on batch losses."""

    state: PageHinkley = field(default_factory=lambda: PageHinkley.empty(0))

    def step(self, batch: int, loss: Floats, naive: Floats) -> Bools:  # noqa: ARG002  the loss alone
        """Streams whose loss has risen."""
        self.state, due = self.state.grown(len(loss)).step(loss)
        return due

    def forget(self, retrained: Bools) -> None:
        """Start over."""
        self.state = self.state.forgotten(retrained)


@dataclass
class Accumulated:
    """Excess loss against the price of a training."""

    price: float
    state: Debt = field(default_factory=lambda: Debt.empty(0))

    def step(self, batch: int, loss: Floats, naive: Floats) -> Bools:  # noqa: ARG002  the loss alone
        """Streams whose debt exceeds the price."""
        self.state, due = self.state.grown(len(loss)).step(loss, price=self.price)
        return due

    def forget(self, retrained: Bools) -> None:
        """Start over."""
        self.state = self.state.forgotten(retrained)


class Adwin:
    """ADWIN (Bifet and Gavalda 2007) of river, one a stream, on the batch loss relative to naive's mean level.

    ADWIN's bound is for values of the order of 1; the level is that of the batches so far. It looks after every
    batch, from 4 on: batches are few. Only a rise of the loss counts.
    """

    def __init__(self) -> None:
        self._make = _adwin_of_river()
        self._windows: list[Any] = []
        self._naive: Floats = np.zeros(0)  # sum over the batches
        self._n: Floats = np.zeros(0)

    def step(self, batch: int, loss: Floats, naive: Floats) -> Bools:  # noqa: ARG002  the order is the time
        """Streams in whose window ADWIN sees a rise."""
        more = len(loss) - len(self._windows)
        self._windows += [self._make() for _ in range(more)]
        self._naive, self._n = (np.concatenate([old, np.zeros(more)]) for old in (self._naive, self._n))
        known = np.isfinite(naive)
        self._naive, self._n = self._naive + np.where(known, naive, 0.0), self._n + known
        due = np.zeros(len(loss), dtype=np.bool_)
        for stream in np.flatnonzero(np.isfinite(loss) & (self._naive > 0.0)).tolist():  # river's takes one value
            window, level = self._windows[stream], self._naive[stream] / self._n[stream]
            before = window.estimation
            window.update(float(loss[stream] / level))
            due[stream] = window.drift_detected and window.estimation > before
        return due

    def forget(self, retrained: Bools) -> None:
        """Start over."""
        for stream in np.flatnonzero(retrained).tolist():
            self._windows[stream] = self._make()


def _adwin_of_river() -> Callable[[], Any]:
    try:
        from river.drift import ADWIN  # noqa: PLC0415  an optional extra
    except ImportError:
        raise ConfigError(
            "policy adwin: it needs river, which is not installed; install mlma with the extra river: "
            "pip install 'mlma[river]'"
        ) from None
    make: Callable[..., Any] = ADWIN
    return lambda: make(delta=0.05, clock=1, min_window_length=2, grace_period=4)


@dataclass
class Watch:
    """Feeds a memory the scores of each batch before its proposal, and tells it who was retrained after it."""

    memory: Memory
    due: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    _batch: int = -1

    def see(self, parts: Sequence[BatchScores], batch: int) -> None:
        """Take in the scores of all shards; the same batch again changes nothing."""
        if batch == self._batch:
            return
        order = np.argsort(np.concatenate([part.stream_id for part in parts]))
        loss, naive = (
            np.concatenate([getattr(part, name) for part in parts])[order] for name in ("mean_loss", "naive_loss")
        )
        self.due, self._batch = self.memory.step(batch, loss, naive), batch

    def note(self, closed: Closed) -> None:
        """Start over with the streams that are trained after this batch."""
        self.memory.forget(np.asarray(closed.decisions.action != ACTION_CODE[Action.KEEP]))


def watch_of(policy: Policy, *, n_batches: int, price: float, seed: int) -> Watch | None:
    """What feeds a policy with memory, None for the others.

    Parameters
    ----------
    n_batches
        Batches after which a training may be ordered.
    price
        Of a training, for debt.
    seed
        For chance.

    Raises
    ------
    ConfigError
        The policy needs a library that is not installed.
    """
    if policy.kind not in MEMORY_KINDS:
        return None
    if policy.kind is PolicyKind.RANDOM:
        return Watch(Chance(seed=seed, rate=min(1.0, policy.expected / max(1, n_batches))))
    if policy.kind is PolicyKind.PAGE_HINKLEY:
        return Watch(Rise())
    return Watch(Adwin() if policy.kind is PolicyKind.ADWIN else Accumulated(price=price))


def runs_of(wanted: Sequence[Policy], n_batches: int) -> list[Policy]:
    """Policies that must be run so that all wanted ones can be reported, each once, in order.

    The best calendar stands for its cadences, those below the number of batches; the frontier and everything in
    hindsight needs always.

    Raises
    ------
    ConfigError
        The replay is too short for any cadence.
    """
    made: dict[str, Policy] = {}
    for policy in wanted:
        members = cadences_of(policy, n_batches) if policy.kind is PolicyKind.CALENDAR else [policy]
        if policy.kind is PolicyKind.FRONTIER:
            members = []
        if policy.is_hindsight:
            members = [Policy(kind=PolicyKind.ALWAYS, serve=Serve.LATEST), *members]
        made.update({str(member): made.get(str(member), member) for member in members})
    return list(made.values())


def cadences_of(policy: Policy, n_batches: int) -> list[Policy]:
    """Calendars that a calendar stands for: itself, or those among which the best is looked for."""
    if policy.every:
        return [policy]
    found = [replace(policy, every=cadence) for cadence in CADENCES if cadence < n_batches]
    if not found:
        raise ConfigError(f"policy {policy}: the replay has {n_batches} batches, expected more than {CADENCES[0]}")
    return found


def twins_of(policies: Sequence[Policy], common: EngineSettings) -> dict[str, str]:
    """Policies that act as an earlier one does under these settings, by name: they need no run of their own.

    The agent in its default mode is the agent in that mode by name, and so is one whose price is that of the settings.
    """
    seen: list[tuple[tuple[object, ...], str]] = []
    made: dict[str, str] = {}
    for policy in policies:
        acts = policy.kind, policy.every, policy.expected, life_of(common.life, common.schedule, policy)
        first = next((name for others, name in seen if others == acts), None)
        if first is None:
            seen.append((acts, str(policy)))
        else:
            made[str(policy)] = first
    return made


def settings_under(common: EngineSettings, policy: Policy, watch: Watch | None) -> EngineSettings:
    """Settings of the engine that runs one policy."""
    testing = common.testing if policy.test is None else replace(common.testing, name=policy.test)
    return replace(
        common, testing=testing, life=life_of(common.life, common.schedule, policy),
        policy=replace(policy, trigger=watch),
    )  # fmt: skip
