"""Forecasts that were made elsewhere and have arrived, of one shard's streams: looked up by stream, version and slot.

A cache, like the rings: it holds what is still to be issued, and is read again from the history.
"""

from dataclasses import dataclass, field

import numpy as np

from mlma.core.blocks import ArrivedBlock, Bools, Floats, Ints
from mlma.runtime.ports import History

CODE_BITS = 31
"""Of the version's code in the key of a stream and version."""


def _no_ints() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass
class Arrivals:
    """Arrays of shape (forecasts,), sorted by stream, version and slot; each of these stands once."""

    shard: int
    history: History
    seq: int = 0  # the last file that was taken in
    first_slot: int = 0  # earlier ones are forgotten
    _pair: Ints = field(default_factory=_no_ints)  # stream and version
    _slot: Ints = field(default_factory=_no_ints)
    _from: Ints = field(default_factory=_no_ints)  # file
    _forecast: Floats = field(default_factory=lambda: np.empty(0))
    _pairs: Ints = field(default_factory=_no_ints)  # distinct ones
    _key: Ints = field(default_factory=_no_ints)
    _span: int = 1  # slots from the first to the last one
    _codes: dict[str, int] = field(default_factory=dict)

    def sync(self, seq: int, first_slot: int) -> None:
        """Take in what files up to ``seq`` brought, and forget slots before ``first_slot``."""
        if first_slot > self.first_slot:
            self.first_slot = first_slot
            self._keep(self._slot >= first_slot)
        if seq > self.seq:
            found = self.history.arrived(
                self.shard, after_seq=self.seq, up_to_seq=seq, first_slot=max(0, self.first_slot)
            )
            for number, block in found:
                self._write(number, block)
            self.seq = seq

    def has(self, block: ArrivedBlock) -> Bools:
        """Whether there is a forecast already, shape (n,)."""
        code = np.asarray([self._codes.get(name, -1) for name in block.versions], dtype=np.int64)[block.version]
        found = np.zeros(len(block), dtype=np.bool_)
        at = np.flatnonzero((code >= 0) & (block.slot >= self.first_slot) & (block.slot < self.first_slot + self._span))
        pair = (block.stream_id[at] << CODE_BITS) | code[at]
        which = np.searchsorted(self._pairs, pair)
        is_pair = which < len(self._pairs)
        is_pair[is_pair] = self._pairs[which[is_pair]] == pair[is_pair]
        key = which * self._span + block.slot[at] - self.first_slot
        found[at] = is_pair & np.isin(key, self._key)
        return found

    def of(self, stream_id: int, version: str, first: int, last: int) -> Floats:
        """Forecasts of the slots ``first .. last - 1``; NaN where none has arrived."""
        made = np.full(last - first, np.nan)
        code = self._codes.get(version)
        if code is not None:
            pair = (stream_id << CODE_BITS) | code
            lo, hi = np.searchsorted(self._pair, [pair, pair + 1])
            lo, hi = lo + np.searchsorted(self._slot[lo:hi], [first, last])
            made[self._slot[lo:hi] - first] = self._forecast[lo:hi]
        return made

    def versions(self, stream_ids: Ints, first: int, before: int) -> dict[int, tuple[str, ...]]:
        """Versions with a forecast of the slots ``first .. before - 1``, by stream, the newest first.

        The newest is the one whose latest forecast came last; of equal ones the one that reaches furthest. They are
        read from the history: nobody asks but trainings.
        """
        newest: dict[int, dict[str, tuple[int, int]]] = {}
        for seq, block in self.history.arrived(self.shard, after_seq=0, up_to_seq=self.seq, first_slot=max(0, first)):
            at = np.flatnonzero(np.isin(block.stream_id, stream_ids) & (block.slot < before))
            for stream_id, slot, code in zip(block.stream_id[at], block.slot[at], block.version[at], strict=True):
                known = newest.setdefault(int(stream_id), {})
                known[block.versions[code]] = max(known.get(block.versions[code], (0, 0)), (seq, int(slot)))
        return {
            stream_id: tuple(sorted(known, key=lambda name: (*known[name], name), reverse=True))
            for stream_id, known in newest.items()
        }

    def _write(self, seq: int, block: ArrivedBlock) -> None:
        block = block.part(~self.has(block))
        code = np.asarray([self._codes.setdefault(name, len(self._codes)) for name in block.versions], dtype=np.int64)
        self._pair = np.concatenate([self._pair, (block.stream_id << CODE_BITS) | code[block.version]])
        self._slot = np.concatenate([self._slot, block.slot])
        self._forecast = np.concatenate([self._forecast, block.forecast])
        self._from = np.concatenate([self._from, np.full(len(block), seq, dtype=np.int64)])
        self._keep(np.lexsort((self._slot, self._pair)))

    def _keep(self, chosen: Bools | Ints) -> None:
        self._pair, self._slot = self._pair[chosen], self._slot[chosen]
        self._forecast, self._from = self._forecast[chosen], self._from[chosen]
        self._pairs, which = np.unique(self._pair, return_inverse=True)
        self._span = int(self._slot.max(initial=self.first_slot)) - self.first_slot + 1
        self._key = which * self._span + self._slot - self.first_slot
