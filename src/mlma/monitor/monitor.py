"""`LossMonitor`: the loss tests of a fleet as one object that takes a batch of losses at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlma.core import fleet
from mlma.core.batch_summary import BatchSummary, summarise_batch
from mlma.core.blocks import Bools, Floats, Ints
from mlma.core.e_process import EProcess, anytime_p
from mlma.core.incidents import Separation, SeparationRules
from mlma.core.judge import Findings, verdict
from mlma.core.records import Certificate
from mlma.core.settings import FleetRule, LossName, LossTestName, ReferencePolicy, TestingSettings, Yardstick
from mlma.monitor.common import Common
from mlma.monitor.dependence import DependenceMemory
from mlma.monitor.kernel import Kernel
from mlma.monitor.references import References
from mlma.monitor.sham import Segments, Sham
from mlma.monitor.single_losses import TESTS, SingleLosses
from mlma.monitor.verdicts import Verdicts
from mlma.monitor.yardsticks import Coefficients

Choice = TypeVar("Choice", bound=StrEnum)

SAMPLE = 4096
"""Streams that are looked at where the fleet is estimated; evenly spread over it."""

CANDIDATES = 1024
"""Streams that a batch's sham streams are drawn from."""

FORMAT = 1
"""Raised whenever saved states change their meaning."""


class LossMonitor:
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
            name=_member(LossTestName, "test", test),
            reference=_member(ReferencePolicy, "reference", reference),
            reference_size=reference_size,
            anchored_size=4 if anchored else 0,
            fleet=_member(FleetRule, "fleet", fleet),
            effect_floor=effect_floor,
            min_reference=min_reference,
            season=season,
            common=common,
            min_outcomes=0.0,
        )
        self._open(settings, n_streams, labels or {}, seed)

    @classmethod
    def from_settings(
        cls,
        settings: TestingSettings,
        n_streams: int,
        *,
        labels: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
    ) -> "LossMonitor":
        """Make a monitor from the settings of a configuration."""
        made = cls.__new__(cls)
        made._open(settings, n_streams, labels or {}, seed)
        return made

    def _open(self, settings: TestingSettings, n_streams: int, labels: Mapping[str, Sequence[str]], seed: int) -> None:
        _check(settings, n_streams, labels)
        self.settings, self.seed = settings, seed
        self.n_streams = n_streams
        self.labels = {key: list(values) for key, values in labels.items()}
        self.references = References(settings, n_streams, 0)
        self.coefficients = Coefficients(0)
        self.dependence = DependenceMemory(settings.season)
        self.sham = Sham()
        rules = SeparationRules(alpha=settings.alpha, least_rise=settings.effect_floor)
        self.common = Common(self.labels, n_streams, rules)
        self.single = SingleLosses(settings.name) if settings.name in TESTS else None
        self.e_process = EProcess.fresh(n_streams) if settings.name is LossTestName.E_PROCESS else None
        self.online = fleet.OnlineFdr()
        self.certificate: Certificate = self._certify(-1)

    # taking in

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
            Wrong shapes, or losses that are infinite or negative.
        """
        return self.judge(self.summarise(np.asarray(losses), None if yardsticks is None else np.asarray(yardsticks)))

    def summarise(self, losses: Floats, yardsticks: Floats | None = None) -> BatchSummary:
        """Reduce a batch to what `judge` needs."""
        if losses.ndim != 2 or losses.shape[0] != self.n_streams:
            raise ValueError(f"losses have shape {losses.shape}, expected ({self.n_streams}, n)")
        return summarise_batch(
            losses,
            yardsticks,
            min_share=self.settings.min_outcomes,
            describe=~self.references.floors.ready(),
            keep_single=self.single is not None,
        )

    def judge(self, summary: BatchSummary, *, batch: int | None = None, bad: Bools | None = None) -> Verdicts:
        """Judge a batch that was summarised elsewhere (`mlma.core.batch_summary.summarise_batch`).

        Parameters
        ----------
        summary
            Of all streams.
        batch
            Its number; None for the one after the last.
        bad
            Shape (streams,): the batch is known to be bad data, so it is remembered but not tested.
        """
        self._fix_yardsticks(len(summary.yardsticks))
        references = self.references
        at = references.batch + 1 if batch is None else batch
        changed = references.floors.update(summary)
        if changed is not None:
            references.refloor(*changed)
        log_loss, log_yards = self._logs(summary)
        tested = log_loss - self.coefficients.beta @ log_yards if len(log_yards) else log_loss
        bad = np.zeros(self.n_streams, dtype=np.bool_) if bad is None else bad
        usable = references.floors.ready() & ~bad
        self._learn_dependence(np.where(usable, tested, np.nan))
        kernel = Kernel.make(references, self.coefficients.beta, self.dependence.now, at, self.settings)
        separation = self._separate(tested, kernel, usable, at)
        cleaned = tested - separation.shift
        verdicts = self._verdicts(summary, kernel, (tested, cleaned), separation, (usable, bad), at)
        self._learn(kernel, (log_loss, log_yards), separation.shift, usable)
        references.push(summary, log_loss - separation.shift, log_yards, batch=at)
        self._run_sham(kernel, at)
        return replace(verdicts, certificate=self.certificate)

    def _fix_yardsticks(self, k: int) -> None:
        if k == self.coefficients.k:
            return
        if self.references.batch >= 0:
            raise ValueError(f"{k} yardsticks, expected {self.coefficients.k} as in the batches before")
        self.coefficients = Coefficients(k)
        self.references = References(self.settings, self.n_streams, k)

    def _logs(self, summary: BatchSummary) -> tuple[Floats, Floats]:
        """Log losses, shape (streams,), and log yardsticks, shape (k, streams)."""
        floor = self.references.floors.floor
        return np.log(summary.mean_loss + floor), np.log(summary.yardsticks + floor)

    def _separate(self, tested: Floats, kernel: Kernel, usable: Bools, at: int) -> Separation:
        deviation = tested - kernel.adaptive.expected
        ready = usable & np.isfinite(deviation)
        scale = kernel.scale
        if ready.any() and not np.any(scale[ready] > 0.0):  # one batch of past: the spread over the fleet must do
            away = np.abs(deviation[ready] - np.median(deviation[ready]))
            scale = np.full(self.n_streams, 1.4826 * float(np.median(away)))
        ready &= scale > 0.0
        if not self.settings.common:
            return self.common.nothing()
        return self.common.separate(deviation, scale, ready, batch=at)

    # judging

    def _verdicts(
        self,
        summary: BatchSummary,
        kernel: Kernel,
        values: tuple[Floats, Floats],
        separation: Separation,
        masks: tuple[Bools, Bools],
        at: int,
    ) -> Verdicts:
        tested, cleaned = values
        usable, bad = masks
        settings = self.settings
        p_adaptive, p_anchored = self._p_values(summary, kernel, cleaned, at)
        p_adaptive, p_anchored = (np.where(usable, p, np.nan) for p in (p_adaptive, p_anchored))
        effect = kernel.effect(cleaned, p_adaptive, p_anchored)
        p_value = kernel.together(p_adaptive, p_anchored)
        log_e = None
        if self.e_process is not None:  # the frozen reference would repeat its error at every update
            log_e = np.where(np.isnan(p_adaptive), np.nan, self.e_process.update(p_adaptive))
            p_value = np.where(np.isnan(p_adaptive), np.nan, anytime_p(self.e_process.log_peak))
        ready = np.isfinite(p_value)
        significant = self._significant(p_value, ready, log_e)
        in_incident = separation.member >= 0
        if in_incident.any():
            together = kernel.together(*kernel.p_values(tested))
            in_incident &= (np.nan_to_num(together, nan=2.0) <= settings.alpha) & ~significant
        found = Findings(
            p_adaptive=p_adaptive, p_anchored=p_anchored, effect=effect, significant=significant,
            has_value=np.isfinite(tested), bad=bad, in_incident=in_incident, armed=self.certificate.is_armed,
        )  # fmt: skip
        alarm, reason = verdict(found, alpha=settings.alpha, effect_floor=settings.effect_floor)
        return Verdicts(
            batch=at, p_value=p_value, p_adaptive=p_adaptive, p_anchored=p_anchored, effect=effect, ready=ready,
            alarm=alarm, reason_code=reason, incident=separation.member, incidents=separation.incidents,
            certificate=self.certificate, mean_loss=summary.mean_loss, tested=cleaned, n=summary.n,
            n_reference=kernel.adaptive.m,
        )  # fmt: skip

    def _p_values(self, summary: BatchSummary, kernel: Kernel, cleaned: Floats, at: int) -> tuple[Floats, Floats]:
        if self.single is None:
            return kernel.p_values(cleaned)
        self.single.add(summary, at)
        least = self.settings.min_reference
        return (
            self.single.p_value(at, self.references.adaptive_lags(at), least=least),
            self.single.p_value(at, self.references.anchored_lags(at), least=least),
        )

    def reference_losses(self, batch: int) -> tuple[Floats, Floats]:
        """Mean loss over the adaptive and over the anchored reference of the batch to come, shape (streams,)."""
        return self.references.mean_losses(batch)

    def _significant(self, p_value: Floats, ready: Bools, log_e: Floats | None) -> Bools:
        settings = self.settings
        if settings.fleet is FleetRule.ONLINE:
            step = fleet.online_alarms(p_value, ready=ready, alpha=settings.alpha, online=self.online)
            self.online = step.after
            return step.alarms
        return fleet.alarms(p_value, ready=ready, alpha=settings.alpha, rule=settings.fleet, log_e=log_e)

    # learning

    def _learn_dependence(self, tested: Floats) -> None:
        """Learn from the newest batches, this one included: what is common at a batch is taken out before."""
        rows = self.references.newest()[: self.dependence.n_batches]
        some = slice(None, None, max(1, self.n_streams // SAMPLE))  # spread evenly over the fleet
        past = self.references.values(rows, self.coefficients.beta, some)
        self.dependence.learn(np.vstack([past[::-1], tested[None, some]]))

    def _learn(self, kernel: Kernel, logs: tuple[Floats, Floats], shift: Floats, usable: Bools) -> None:
        log_loss, log_yards = logs
        tested = log_loss - self.coefficients.beta @ log_yards if len(log_yards) else log_loss
        cleaned = tested - shift
        deviation = cleaned - kernel.adaptive.expected
        use = usable & np.isfinite(deviation) & (kernel.scale > 0.0)
        use &= kernel.adaptive.m >= self.settings.min_reference
        rows = self.references.newest()
        if len(log_yards) and use.any():
            level = np.nanmean(self.references.log_loss[rows][:, use], axis=0)
            yards = np.nanmean(self.references.log_yardsticks[:, rows][:, :, use], axis=1)
            dl, dy = log_loss[use] - level, log_yards[:, use] - yards
            if self.settings.common and len(dl) >= self.common.rules.fewest_streams:
                dl, dy = dl - np.median(dl), dy - np.median(dy, axis=1)[:, None]
            everyone = np.ones(len(dl), dtype=np.bool_)
            self.coefficients.learn(dl, dy, kernel.scale[use], everyone & np.isfinite(dl + dy.sum(axis=0)))

    # certificate

    def _run_sham(self, kernel: Kernel, at: int) -> None:
        settings, references = self.settings, self.references
        rows = references.newest()
        rng = np.random.default_rng([self.seed, max(at, 0)])
        some = np.arange(self.n_streams)
        if self.n_streams > CANDIDATES:
            some = np.sort(rng.choice(self.n_streams, CANDIDATES, replace=False))
        newest = references.values(rows, self.coefficients.beta, some)
        valid = np.isfinite(newest) & references.floors.ready()[some]
        if references.excluded is not None:
            valid &= ~references.excluded[np.ix_(rows, some)]
        run = np.where(valid.all(axis=0), len(rows), np.argmin(valid, axis=0))  # this batch was just pushed

        def moderated_tester(segments: Segments) -> tuple[Floats, Floats]:
            return kernel.p_sham(segments, newest)

        def single_tester(segments: Segments) -> tuple[Floats, Floats]:
            assert self.single is not None
            _, effect = kernel.p_sham(segments, newest)
            original = replace(segments, stream=some[segments.stream])
            return self.single.p_sham(original, at, size=settings.reference_size), effect

        self.sham.run(
            moderated_tester if self.single is None else single_tester,
            run, rng, alpha=settings.alpha, floor=settings.effect_floor, rise=settings.sham_rise,
            least=settings.min_reference,
        )  # fmt: skip
        self.certificate = self._certify(at)

    def _certify(self, at: int) -> Certificate:
        settings = self.settings
        return self.sham.certificate(batch=at, test=settings.name, alpha=settings.alpha, rise=settings.sham_rise)

    # change

    def reset(self, mask: ArrayLike) -> None:
        """Start over with streams whose model was replaced: their past losses say nothing about the new one.

        Parameters
        ----------
        mask
            Shape (streams,), True for the streams to reset.
        """
        chosen = np.asarray(mask, dtype=np.bool_)
        if chosen.shape != (self.n_streams,):
            raise ValueError(f"mask has shape {chosen.shape}, expected ({self.n_streams},)")
        if not chosen.any():
            return
        self.references.reset(chosen)
        if self.e_process is not None:
            self.e_process.reset(chosen)
        if self.single is not None:
            self.single.reset(chosen)

    def exclude(self, batches: Ints, mask: Bools) -> None:
        """Leave batches of streams out of every reference (bad data); replaces what was excluded before.

        Parameters
        ----------
        batches
            Shape (m,), numbers of the batches; `remembered` lists those that can matter.
        mask
            Shape (streams, m).
        """
        self.references.exclude(batches, mask)

    def remembered(self) -> Ints:
        """Numbers of all batches that some reference may hold, ascending."""
        return self.references.remembered()

    def grow(self, labels: Mapping[str, Sequence[str]], more: int) -> None:
        """Add streams at the end, with the labels of the new ones (every key, "" where unknown)."""
        if more <= 0:
            return
        keys = {*self.labels, *labels}
        self.labels = {
            key: [*self.labels.get(key, [""] * self.n_streams), *labels.get(key, [""] * more)] for key in sorted(keys)
        }
        self.n_streams += more
        self.references.grow(more)
        if self.e_process is not None:
            self.e_process.grow(more)
        self.common.grow(self.labels, self.n_streams)

    # state

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the monitor knows, by name; `restore` takes it up."""
        made: dict[str, NDArray[Any]] = {"format": np.asarray(FORMAT), "made_for": np.asarray(self.made_for())}
        for part in self._parts():
            made |= part.arrays()
        made |= {f"online_{name}": value for name, value in self.online.arrays().items()}
        if self.e_process is not None:
            made |= {f"e_{name}": value for name, value in self.e_process.arrays().items()}
        return made

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave.

        Raises
        ------
        ValueError
            It was made with other settings, labels or number of streams.
        """
        if int(arrays["format"]) != FORMAT or str(arrays["made_for"]) != self.made_for():
            raise ValueError("the state was saved by a monitor with other settings")
        self._fix_yardsticks(len(arrays["yard_products"]))
        for part in self._parts():
            part.restore(arrays)
        self.online = fleet.OnlineFdr.from_arrays(_prefixed(arrays, "online_"))
        if self.e_process is not None:
            self.e_process = EProcess.from_arrays(_prefixed(arrays, "e_"))
        self.certificate = self._certify(self.references.batch)

    def made_for(self) -> str:
        """What saved arrays depend on, as one line of JSON."""
        return json.dumps({**asdict(self.settings), "n_streams": self.n_streams, "seed": self.seed}, sort_keys=True)

    def _parts(self) -> tuple[Any, ...]:
        parts = (self.references, self.coefficients, self.dependence, self.sham, self.common)
        return (*parts, *(() if self.single is None else (self.single,)))

    def save(self, file: str | IO[bytes]) -> None:
        """Write the whole state to an ``.npz`` file (no pickle inside)."""
        labels = np.asarray(json.dumps(self.labels))
        settings = np.asarray(json.dumps(asdict(self.settings)))
        np.savez(file, labels=labels, settings=settings, seed=np.asarray(self.seed), **self.arrays())  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: str | IO[bytes]) -> "LossMonitor":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is not a saved monitor.
        """
        with np.load(file, allow_pickle=False) as found:
            if "settings" not in found.files:
                raise ValueError(f"{file}: not a saved LossMonitor")
            arrays = {name: found[name] for name in found.files}
        made = cls.from_settings(
            _settings(json.loads(str(arrays["settings"]))),
            json.loads(str(arrays["made_for"]))["n_streams"],
            labels=json.loads(str(arrays["labels"])),
            seed=int(arrays["seed"]),
        )
        made.restore(arrays)
        return made


def _member(kind: type[Choice], name: str, value: str) -> Choice:
    """Member of an enumeration by its value."""
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(kind)}") from None


def _prefixed(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _settings(values: Mapping[str, Any]) -> TestingSettings:
    """Settings from JSON."""
    kinds: dict[str, type[StrEnum]] = {
        "loss": LossName, "name": LossTestName, "reference": ReferencePolicy, "fleet": FleetRule,
        "yardstick": Yardstick,
    }  # fmt: skip
    read: dict[str, Any] = {key: kinds[key](value) if key in kinds else value for key, value in values.items()}
    return TestingSettings(**read)


def _check(settings: TestingSettings, n_streams: int, labels: Mapping[str, Sequence[str]]) -> None:
    """Refuse settings that no test could keep."""
    if n_streams < 0:
        raise ValueError(f"n_streams {n_streams}: expected 0 or more")
    if not 0.0 < settings.alpha < 1.0:
        raise ValueError(f"alpha {settings.alpha}: expected a rate between 0 and 1")
    for name, least in (("reference_size", 2), ("min_reference", 2), ("season", 1), ("anchored_size", 0)):
        if getattr(settings, name) < least:
            raise ValueError(f"{name} {getattr(settings, name)}: expected {least} or more")
    if settings.effect_floor < 0.0:
        raise ValueError(f"effect_floor {settings.effect_floor}: expected 0 or more")
    for key, values in labels.items():
        if len(values) != n_streams:
            raise ValueError(f"labels[{key!r}] has {len(values)} values, expected one for each of {n_streams} streams")
