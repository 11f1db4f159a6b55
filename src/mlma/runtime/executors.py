"""Where shards live and trainings run, behind one port; here the inline one, which needs no other process."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlma.core.blocks import ArrivedBlock, Bools, Floats, Ints
from mlma.runtime.background import Background
from mlma.runtime.group_rows import GroupRequest, GroupRows, joined
from mlma.runtime.lineup import Lineup
from mlma.runtime.scoring import BatchScores
from mlma.runtime.serving import Memo
from mlma.runtime.shard import Shard
from mlma.runtime.shard_parts import Issued, Position, ShardSpec, Window
from mlma.runtime.training import GroupJob, TrainingJob, TrainingOutcome, train

Calls = Mapping[int, tuple[Any, ...]]
"""Arguments by shard."""


class Executor(ABC):
    """Shards and training workers. Calls to shards are synchronous; trainings are submitted and collected."""

    n_shards: int

    # what an implementation gives

    @abstractmethod
    def open(self, specs: Sequence[ShardSpec]) -> None:
        """Make the shards; each is empty until its first sync."""

    @abstractmethod
    def _call(self, method: str, calls: Calls) -> dict[int, Any]:
        """Call one method on several shards at once; results by shard, in order of shard."""

    @abstractmethod
    def submit(self, job: TrainingJob | GroupJob) -> None:
        """Start a training."""

    @abstractmethod
    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes of finished trainings; with ``wait`` blocks until at least one has finished, if any runs."""

    @abstractmethod
    def close(self) -> None:
        """End shards and workers."""

    # what the engine asks

    def sync(self, position: Position) -> list[int]:
        """Bring every shard to a position; see `Shard.sync`."""
        return list(self._call("sync", dict.fromkeys(range(self.n_shards), (position,))).values())

    def checkpoint(self) -> None:
        """Let every shard write a checkpoint."""
        self._call("checkpoint", dict.fromkeys(range(self.n_shards), ()))

    def known(self, stream_id: Ints, slot: Ints) -> Bools:
        """Whether outcomes are known already, shape (n,)."""
        found = np.zeros(len(stream_id), dtype=np.bool_)
        home = stream_id % self.n_shards
        calls = {int(s): (stream_id[home == s], slot[home == s]) for s in np.unique(home)}
        for shard, answer in self._call("known", calls).items():
            found[home == shard] = answer
        return found

    def has_arrived(self, block: ArrivedBlock) -> Bools:
        """Whether such forecasts, made elsewhere, are there already, shape (n,)."""
        found = np.zeros(len(block), dtype=np.bool_)
        home = block.stream_id % self.n_shards
        calls = {int(s): (block.part(home == s),) for s in np.unique(home)}
        for shard, answer in self._call("has_arrived", calls).items():
            found[home == shard] = answer
        return found

    def scales(self) -> list[tuple[Ints, Floats, Floats, Ints]]:
        """See `Shard.scales`, one a shard."""
        return list(self._call("scales", dict.fromkeys(range(self.n_shards), ())).values())

    def score(self, batch: int) -> list[BatchScores]:
        """See `Shard.score`, one a shard."""
        return list(self._call("score", dict.fromkeys(range(self.n_shards), (batch,))).values())

    def forecast(self, lineup: Lineup, *, until: int) -> list[Issued]:
        """See `Shard.forecast`, one a shard."""
        calls = {shard: (lineup.part(shard, self.n_shards), until) for shard in range(self.n_shards)}
        return list(self._call("forecast", calls).values())

    def group_rows(self, wanted: GroupRequest) -> GroupRows:
        """Training rows of a group from all shards, in order of stream and slot."""
        calls = {shard: (wanted.part(shard, self.n_shards),) for shard in range(self.n_shards)}
        return joined(list(self._call("group_rows", calls).values()))

    def windows(self, stream_ids: Ints) -> list[Window]:
        """See `Shard.windows`, in order of stream id."""
        home = stream_ids % self.n_shards
        made = self._call("windows", {int(s): (stream_ids[home == s],) for s in np.unique(home)})
        return sorted((window for part in made.values() for window in part), key=lambda window: window.stream_id)


class InlineExecutor(Executor):
    """Shards and trainings in this process, one after the other; only trainings elsewhere run beside it.

    Parameters
    ----------
    n_shards
        Shards to make.
    memo
        Forecasts shared with other executors of the same run, for replays of several policies.
    n_hooks
        Trainings elsewhere at the same time.
    """

    def __init__(self, n_shards: int = 1, memo: Memo | None = None, n_hooks: int = 2) -> None:
        self.n_shards = n_shards
        self._memo = memo
        self._background = Background(n_hooks)
        self._shards: list[Shard] = []
        self._finished: list[TrainingOutcome] = []

    def open(self, specs: Sequence[ShardSpec]) -> None:
        """Make the shards in this process."""
        self._shards = [Shard(spec, memo=self._memo) for spec in specs]

    def _call(self, method: str, calls: Calls) -> dict[int, Any]:
        return {shard: getattr(self._shards[shard], method)(*calls[shard]) for shard in sorted(calls)}

    def submit(self, job: TrainingJob | GroupJob) -> None:
        """Train at once; order elsewhere in the background."""
        if isinstance(job, GroupJob) or job.call is None:
            self._finished.append(train(job))
        else:
            self._background.submit(job)

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes since the last call."""
        finished, self._finished = self._finished, []
        return finished + self._background.collect(wait=wait and not finished)

    def close(self) -> None:
        """Forget the shards."""
        self._background.close()
        self._shards = []
