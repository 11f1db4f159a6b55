"""Training rows of a group: as many of each stream, drawn by a hash of stream and slot.

So the same rows are drawn however the streams are spread over shards, and again after a restart.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.robust import wild
from mlma.core.suspicion import faults
from mlma.models.features import Features
from mlma.models.scaled import scaled
from mlma.runtime.outcomes import Outcomes

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """Which rows a training of a group needs.

    Attributes
    ----------
    batch
        The last one whose outcomes may be used.
    stream_ids
        Of the group, shape (streams,).
    per_stream
        Rows of each stream at most.
    unfit
        Slots that nothing may be learned from, as (first, end), by stream id.
    """

    group: str
    batch: int
    stream_ids: Ints
    per_stream: int
    seed: int
    unfit: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def part(self, shard: int, n_shards: int) -> "GroupRequest":
        """What concerns one shard."""
        return replace(
            self,
            stream_ids=self.stream_ids[self.stream_ids % n_shards == shard],
            unfit={i: spans for i, spans in self.unfit.items() if i % n_shards == shard},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRows:
    """Rows to learn from, each on the scale of its stream."""

    stream_id: Ints  # (n,)
    slot: Ints  # (n,)
    X: Floats  # (n, p)
    y: Floats  # (n,)
    cpu_s: float = 0.0


def joined(parts: Sequence[GroupRows]) -> GroupRows:
    """Rows of all shards, in order of stream and slot."""
    stream_id, slot = (np.concatenate([getattr(part, name) for part in parts]) for name in ("stream_id", "slot"))
    order = np.lexsort((slot, stream_id))
    return GroupRows(
        stream_id=stream_id[order],
        slot=slot[order],
        X=np.concatenate([part.X for part in parts])[order],
        y=np.concatenate([part.y for part in parts])[order],
        cpu_s=sum(part.cpu_s for part in parts),
    )


def drawn(
    wanted: GroupRequest, outcomes: Outcomes, features: Features, rows: Ints, *, origin: int, cells: int
) -> GroupRows:
    """Rows of one shard's streams.

    Parameters
    ----------
    rows
        Rows of the streams ``wanted.stream_ids`` in the ring of outcomes.
    origin
        The first slot that may not be looked at.
    cells
        Feature values that may be in memory at once.
    """
    began = time.thread_time()
    first = origin - features.schedule.train_window
    start = first - features.lookback
    size = max(1, cells // max(1, (origin - start) * len(features.names)))
    parts = []
    for at in range(0, len(rows), size):
        ids = wanted.stream_ids[at : at + size]
        y = outcomes.window(start, origin, rows[at : at + size])
        schedule = features.schedule  # what is strange is an example neither as a target nor in a feature
        y[wild(y) | faults(y, batch=schedule.batch, season=schedule.season)] = np.nan
        skipped = _skipped(wanted, ids, first, origin)
        parts.append(_chosen(wanted, ids, y, skipped, features, start=start, first=first))
    made = joined(parts) if parts else _nothing(len(features.names) + 1)
    return replace(made, cpu_s=time.thread_time() - began)


def _nothing(n_features: int) -> GroupRows:
    nobody = np.empty(0, dtype=np.int64)
    return GroupRows(stream_id=nobody, slot=nobody, X=np.empty((0, n_features)), y=np.empty(0))


def _skipped(wanted: GroupRequest, ids: Ints, first: int, end: int) -> Bools:
    made = np.zeros((len(ids), end - first), dtype=np.bool_)
    for row, stream_id in enumerate(ids.tolist() if wanted.unfit else ()):
        for begin, stop in wanted.unfit.get(stream_id, ()):
            made[row, max(0, begin - first) : max(0, stop - first)] = True
    return made


def _chosen(
    wanted: GroupRequest, ids: Ints, y: Floats, skipped: Bools, features: Features, *, start: int, first: int
) -> GroupRows:
    target = y[:, first - start :]
    scale = features.sizes(y, start=start, first=first, last=first + target.shape[1])
    usable = np.isfinite(target) & ~skipped & (scale > 0.0)
    slots = np.arange(first, first + target.shape[1])
    rank = np.where(usable, _hashed(ids, slots, wanted.seed), np.iinfo(np.uint64).max)
    n = min(wanted.per_stream, rank.shape[1])
    picked = np.sort(np.argpartition(rank, n - 1, axis=1)[:, :n], axis=1)
    row = np.repeat(np.arange(len(ids)), n)
    column = picked.ravel()
    keep = usable[row, column]
    row, column = row[keep], column[keep]
    mine, X = scale[row, column], features.chosen(y, start=start, row=row, slot=slots[column])
    return GroupRows(
        stream_id=ids[row],
        slot=slots[column],
        X=scaled(X, features.names, mine),
        y=target[row, column] / mine,
    )


def _hashed(ids: Ints, slots: Ints, seed: int) -> Words:
    """Hash of every stream and slot, shape (streams, slots): two rounds of SplitMix64 (Steele and others 2014)."""
    return _mixed(_mixed(ids.astype(np.uint64) + np.uint64(seed << 32))[:, None] + slots.astype(np.uint64))


def _mixed(word: Words) -> Words:
    with np.errstate(over="ignore"):  # modulo 2 to the 64
        word = word + np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))
