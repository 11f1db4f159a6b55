"""What the control plane knows about every stream right now: rebuilt from the store at start, kept by commits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlma.core.blocks import Bools, DecisionBlock, Ints
from mlma.core.decisions import EffectStatus, Hold, Phase, Reason, Role
from mlma.core.records import Decision, Effect, Serving, Stream, Version
from mlma.runtime.ports import ControlStore

NEVER = -(10**6)
"""Batch number of something that never happened."""


@dataclass
class Fleet:
    """Arrays by stream id, and the versions that serve or may serve again."""

    streams: list[Stream] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    since: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # last batch before the champion served
    trained: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # batch of the last training
    last_slot: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    versions: dict[str, Version] = field(default_factory=dict)  # champions and former champions
    lines: dict[int, list[str]] = field(default_factory=dict)  # versions in the order they came to serve, per stream
    effects: dict[str, Effect] = field(default_factory=dict)  # pending
    queue: dict[int, Effect] = field(default_factory=dict)  # wait for the budget, by stream
    ordered: dict[tuple[int, int], int] = field(
        default_factory=dict
    )  # trainings by stream and batch, current batch only
    held: dict[int, Decision] = field(default_factory=dict)  # proposals of the last batch that an override held
    waiting: dict[int, Decision] = field(default_factory=dict)  # candidates that an override keeps from serving
    begins: dict[int, set[int]] = field(default_factory=dict)  # streams by the first batch of another version

    @property
    def n_streams(self) -> int:
        """Streams ever seen."""
        return len(self.streams)

    def add_streams(self, born: Sequence[Stream]) -> None:
        """Take in born streams, whose ids go on densely."""
        for stream in born:
            assert stream.id == len(self.streams)
            self.streams.append(stream)
            self.ids[stream.name] = stream.id
        for name, value in (("since", NEVER), ("trained", NEVER), ("last_slot", -1)):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(len(born), value, dtype=np.int64)]))

    def saw(self, stream_id: Ints, slot: Ints) -> None:
        """Note the newest slots of streams."""
        np.maximum.at(self.last_slot, stream_id, slot)

    # versions

    def champion(self, stream_id: int) -> Version | None:
        """The version that serves, None while seasonal naive does."""
        line = self.lines.get(stream_id)
        return self.versions[line[-1]] if line else None

    def former(self, stream_id: int) -> Version | None:
        """The version that served before the champion first did."""
        line = self.lines.get(stream_id, [])
        return self.versions[line[-2]] if len(line) > 1 else None

    def serves(self, serving: Serving, version: Version) -> None:
        """Note that a version serves from now on; what an engineer takes back drops what came after it."""
        line = self.lines.setdefault(serving.stream_id, [])
        if version.id in line and serving.reason is Reason.REQUESTED:
            del line[line.index(version.id) + 1 :]
        else:
            self.lines[serving.stream_id] = [*(kept for kept in line if kept != version.id), version.id]
        self.versions[version.id] = version
        self.since[serving.stream_id] = serving.batch
        self.begins.setdefault(serving.batch + 1, set()).add(serving.stream_id)
        self.waiting.pop(serving.stream_id, None)  # it beat another champion than the one that serves now

    def take_back(self, version: Version) -> None:
        """Note that an engineer went back to a time before a version came: it is no former champion any more."""
        line = self.lines.get(version.stream_id, [])
        if version.id in line:
            self.lines[version.stream_id] = [kept for kept in line if kept != version.id]
        waiting = self.waiting.get(version.stream_id)
        if waiting is not None and waiting.version_id == version.id:
            del self.waiting[version.stream_id]

    def began(self, batch: int) -> Bools:
        """Whether another version served from the start of a batch on, shape (streams,)."""
        found = np.zeros(self.n_streams, dtype=np.bool_)
        found[sorted(self.begins.get(batch, ()))] = True
        return found

    def has_version(self) -> Bools:
        """Whether a stream has a champion, shape (streams,)."""
        found = np.zeros(self.n_streams, dtype=np.bool_)
        found[[stream_id for stream_id, line in self.lines.items() if line]] = True
        return found

    def in_progress(self) -> Bools:
        """Whether a training of the stream is under way or waits, shape (streams,)."""
        found = np.zeros(self.n_streams, dtype=np.bool_)
        found[[*self.queue, *(effect.stream_id for effect in self.effects.values())]] = True
        return found

    # effects and held proposals

    def note_effect(self, effect: Effect) -> None:
        """Keep what is pending or waits, forget what is over; what has started has trained its stream."""
        self.effects.pop(effect.id, None)
        if effect.status is EffectStatus.PENDING:
            self.effects[effect.id] = effect
        waits = self.queue.get(effect.stream_id)
        if waits is not None and waits.id == effect.id:
            del self.queue[effect.stream_id]
        if effect.status is EffectStatus.WAITING:
            self.queue[effect.stream_id] = effect
        key = (effect.stream_id, effect.batch)
        self.ordered[key] = max(self.ordered.get(key, 0), int(effect.id.rsplit("-", 1)[1]) + 1)
        if effect.status in (EffectStatus.WAITING, EffectStatus.LAPSED):
            return
        self.trained[effect.stream_id] = max(effect.batch, int(self.trained[effect.stream_id]))

    def note_batch(self, block: DecisionBlock, effects: Sequence[Effect]) -> None:
        """Start over after a batch was judged: its held proposals and its trainings."""
        self.held.clear()
        self.ordered.clear()
        for stream_id in np.flatnonzero(block.held_by).tolist():
            self.note_decision(block.decision(stream_id))
        for effect in effects:
            self.note_effect(effect)

    def note_decision(self, decision: Decision) -> None:
        """Keep what an override held: a proposal until the next batch is judged, a candidate until another serves."""
        if decision.held_by in (Hold.FROZEN, Hold.PINNED):
            if decision.phase is Phase.PROMOTION:
                self.waiting[decision.stream_id] = decision
            elif decision.phase is Phase.BATCH:
                self.held[decision.stream_id] = decision
        elif decision.held_by is Hold.NOTHING:
            self.held.pop(decision.stream_id, None)


def load(store: ControlStore) -> Fleet:
    """Fleet as the store has it."""
    fleet = Fleet()
    fleet.add_streams(store.streams())
    versions = {version.id: version for version in store.versions()}
    for serving in store.servings():
        fleet.serves(serving, versions[serving.version_id])
    for version in versions.values():
        if version.role is Role.TAKEN_BACK:
            fleet.take_back(version)
    fleet.versions |= {version.id: version for version in versions.values() if version.role is Role.CHALLENGER}
    for effect in store.effects():
        fleet.note_effect(effect)
    cursor = store.cursor()
    fleet.ordered = {key: n for key, n in fleet.ordered.items() if key[1] == cursor}
    if cursor is not None:
        for decision in reversed(store.decisions(batch=cursor)):
            fleet.note_decision(decision)
    fleet.waiting = _waiting(store, versions.values())
    return fleet


def _waiting(store: ControlStore, versions: Iterable[Version]) -> dict[int, Decision]:
    """Comparisons of the newest challenger of each stream, unless another version has come to serve since."""
    newest = {version.stream_id: version for version in versions if version.role is Role.CHALLENGER}
    found = {}
    for stream_id, version in newest.items():
        changed = max((serving.at for serving in store.servings(stream_id=stream_id)), default=None)
        for decision in store.decisions(stream_id=stream_id, batch=version.batch, phase=Phase.PROMOTION):
            is_held = decision.held_by is not Hold.NOTHING
            if is_held and decision.version_id == version.id and (changed is None or changed <= decision.decided_at):
                found[stream_id] = decision
    return found


def demoted(version: Version) -> Version:
    """A champion that has to make room."""
    return replace(version, role=Role.FORMER)
