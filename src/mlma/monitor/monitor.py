"""`LossMonitor`: the loss tests of a fleet as one object that takes a batch of losses at a time."""

import json
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
from numpy.typing import ArrayLike

from mlma.core.batch_summary import BatchSummary, Detail, checked, summarise_batch
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.settings import FleetRule, LossTestName, ReferencePolicy, TestingSettings
from mlma.monitor import accepted, judging, membership
from mlma.monitor.memory import Memory
from mlma.monitor.verdicts import Verdicts

ANCHORED_SIZE = 4
"""Batches that are frozen after a reset (measured: docs/manual/loss-tests.md)."""


class LossMonitor(Memory):
    """Tests whether the losses of a fleet of models got worse, batch by batch, with the false alarms you asked for.

    Parameters
    ----------
    n_streams
        Streams (models, series) of the fleet; `grow` adds more.
    alpha
        Promised false-alarm rate, in (0, 1); what it is a rate of depends on ``fleet``.
    test
        ``moderated`` (default), ``e_process``, ``welch``, ``mann_whitney``, ``kolmogorov_smirnov``, ``hac_mean``.
    reference
        Which past batches a batch is compared with: ``pooled``, ``sliding``, ``fixed`` or ``best``.
    reference_size
        In batches.
    anchored
        Compare also with the first batches after the last `reset`, so that a slow slide cannot hide.
    accumulate
        Add up the evidence of the newest eight batches against the anchored reference, which has twelve then: small
        rises that last and slow slides are found sooner, the sudden ones a little later. With the moderated test.
    fleet
        How p-values become alarms: ``none`` (alpha is a rate a stream and batch), ``bonferroni``, ``bh``
        (alpha is the share of false alarms among the alarms of a batch), ``by``, ``e_bh``, ``online``.
    effect_floor
        Smallest relative rise of the loss that may alarm.
    min_reference
        Fewest reference batches before a stream is tested, at least 2.
    season
        Batches after which a season repeats: 7 for daily batches, 1 for none.
    labels
        What is known about the streams, ``{"site": [value of each stream], ...}``: incidents are named with it.
    common
        Take out what all streams have in common, and test it by itself.
    seed
        Of the sham streams.

    Raises
    ------
    ValueError
        A setting out of its range, with what was expected.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> monitor = LossMonitor(200, alpha=0.05)
    >>> for day in range(10):
    ...     losses = np.abs(rng.standard_normal((200, 24)))  # one closed batch: streams x targets
    ...     if day == 9:
    ...         losses[7] *= 3.0
    ...     verdicts = monitor.update(losses)
    >>> np.flatnonzero(verdicts.alarm).tolist()
    [7]
    >>> monitor.reset(verdicts.alarm)  # these models were retrained
    """

    def __init__(
        self,
        n_streams: int,
        *,
        alpha: float = 0.05,
        test: str = "moderated",
        reference: str = "pooled",
        reference_size: int = 8,
        anchored: bool = True,
        accumulate: bool = False,
        fleet: str = "bh",
        effect_floor: float = 0.05,
        min_reference: int = 2,
        season: int = 1,
        labels: Mapping[str, Sequence[str]] | None = None,
        common: bool = True,
        seed: int = 0,
    ) -> None:
        settings = TestingSettings(
            alpha=alpha,
            name=accepted.member(LossTestName, "test", test),
            reference=accepted.member(ReferencePolicy, "reference", reference),
            reference_size=reference_size,
            anchored_size=ANCHORED_SIZE if anchored else 0,
            accumulate=accumulate,
            fleet=accepted.member(FleetRule, "fleet", fleet),
            effect_floor=effect_floor,
            min_reference=min_reference,
            season=season,
            common=common,
            subtract_common=common,
            learn_yardstick=True,
            min_outcomes=0.0,
        )
        super().__init__(settings, n_streams, labels or {}, seed=seed)

    @classmethod
    def from_settings(
        cls,
        settings: TestingSettings,
        n_streams: int,
        *,
        labels: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
    ) -> "LossMonitor":
        """Make a monitor from the settings of a configuration.

        Raises
        ------
        ValueError
            A setting out of its range, with what was expected.
        """
        made = cls.__new__(cls)
        Memory.__init__(made, settings, n_streams, labels or {}, seed=seed)
        return made

    def update(self, losses: ArrayLike, yardsticks: ArrayLike | None = None) -> Verdicts:
        """Take in one closed batch and say which streams got worse.

        Parameters
        ----------
        losses
            Shape (streams, n), finite and >= 0, NaN where missing. The number of targets n may vary.
        yardsticks
            Shape (k, streams, n): losses of yardsticks on the same targets, a naive forecast first. What they
            explain (a hard day) is not held against the model. Their number k must stay the same.

        Raises
        ------
        ValueError
            Wrong shapes, or losses or yardsticks that are infinite, negative or no numbers, with the first stream
            that has one.
        """
        return self.judge(self.summarise(losses, yardsticks))

    def summarise(self, losses: ArrayLike, yardsticks: ArrayLike | None = None) -> BatchSummary:
        """Reduce a batch to what `judge` needs; the same arrays as for `update`.

        Raises
        ------
        ValueError
            As in `update`.
        """
        made, yards = checked(losses, yardsticks, n_streams=self.n_streams)
        return summarise_batch(
            made,
            yards,
            min_share=self.settings.min_outcomes,
            describe=~self.references.floors.ready(),
            detail=Detail.of(self.settings.name),
        )

    def judge(self, summary: BatchSummary, *, batch: int | None = None, bad: Bools | None = None) -> Verdicts:
        """Judge a batch that was summarised elsewhere (`mlma.core.batch_summary.summarise_batch`).

        Parameters
        ----------
        summary
            Of all streams.
        batch
            Its number, later than that of the batch before; None for the next one.
        bad
            Shape (streams,): the batch is known to be bad data, so it is remembered but not tested.

        Raises
        ------
        ValueError
            A number of streams or yardsticks that was not expected, a summary that lacks what the test looks at, or a
            batch that is not later.
        """
        newest = self.references.batch
        at = newest + 1 if batch is None else batch
        accepted.check_summary(self.settings, summary, self.n_streams)
        if at <= newest:
            raise ValueError(f"batch {at}, expected one later than {newest}")
        if bad is not None and (bad.shape != (self.n_streams,) or bad.dtype != np.bool_):
            raise ValueError(
                f"bad has shape {bad.shape} of {bad.dtype}, expected ({self.n_streams},) of True and False"
            )
        return judging.judge(self, summary, at=at, bad=bad)

    def reset(self, mask: ArrayLike) -> None:
        """Start over with streams whose model was replaced: their past losses say nothing about the new one.

        Parameters
        ----------
        mask
            Shape (streams,), True for the streams to reset.

        Raises
        ------
        ValueError
            Another shape, or something else than True and False.
        """
        chosen = np.asarray(mask)
        if chosen.shape != (self.n_streams,) or chosen.dtype != np.bool_:
            expected = f"({self.n_streams},) of True and False"
            raise ValueError(f"mask has shape {chosen.shape} of {chosen.dtype}, expected {expected}")
        if chosen.any():
            self.forget(np.flatnonzero(chosen))

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Leave batches of streams out of every reference (bad data); replaces what was excluded before.

        Parameters
        ----------
        batches
            Shape (m,), numbers of the batches; `remembered` lists those that can matter.
        mask
            Shape (streams, m).

        Raises
        ------
        ValueError
            The shapes do not belong together.
        """
        if mask.shape != (self.n_streams, len(batches)):
            raise ValueError(f"mask has shape {mask.shape}, expected ({self.n_streams}, {len(batches)})")
        self.leave_out(batches, mask)

    def remembered(self) -> Ints:
        """Numbers of all batches that some reference may hold, ascending."""
        return self.references.remembered()

    def reference_losses(self, batch: int) -> tuple[Floats, Floats]:
        """Mean loss over the adaptive and over the anchored reference of the batch to come, shape (streams,)."""
        return membership.mean_losses(self.references, batch)

    def grow(self, labels: Mapping[str, Sequence[str]], more: int) -> None:
        """Add streams at the end.

        Parameters
        ----------
        labels
            Of the new streams, `more` values a key; "" where unknown, as are keys that are left out.
        more
            How many.

        Raises
        ------
        ValueError
            A key with another number of values.
        """
        for key, values in labels.items():
            if len(values) != more:
                raise ValueError(f"labels[{key!r}] has {len(values)} values, expected one for each of {more} streams")
        if more > 0:
            self.add_streams(labels, more)

    # state

    def save(self, file: str | IO[bytes]) -> None:
        """Write the whole state to an ``.npz`` file (no pickle inside)."""
        written = {
            "labels": np.asarray(json.dumps(self.labels)),
            "settings": np.asarray(accepted.written(self.settings)),
            "n_streams": np.asarray(self.n_streams),
            "seed": np.asarray(self.seed),
        }
        np.savez(file, **written, **self.arrays())  # type: ignore[arg-type]  # by name

    @classmethod
    def load(cls, file: str | IO[bytes]) -> "LossMonitor":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is not a saved monitor, or one of another version.
        """
        with np.load(file, allow_pickle=False) as found:
            if "settings" not in found.files:
                raise ValueError(f"{file}: not a saved LossMonitor")
            arrays = {name: found[name] for name in found.files}
        made = cls.from_settings(
            accepted.read(str(arrays["settings"])),
            int(arrays["n_streams"]),
            labels=json.loads(str(arrays["labels"])),
            seed=int(arrays["seed"]),
        )
        made.restore(arrays)
        return made
