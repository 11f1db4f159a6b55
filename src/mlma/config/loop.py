"""Sections about the loop itself: event time, model, test and admission.

Defaults are those of `mlma.core.settings`, so that there is one truth.
"""

from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from mlma.config.fields import AnyDuration, Duration, ModelName, Section
from mlma.config.hook import HookSection
from mlma.core.durations import format_duration
from mlma.core.errors import ConfigError
from mlma.core.schedule import Schedule
from mlma.core.settings import (
    AdmissionSettings,
    FleetRule,
    LossName,
    LossTestName,
    ModelSettings,
    ReferencePolicy,
    TestingSettings,
    Yardstick,
)

_TESTING = TestingSettings()
_ADMISSION = AdmissionSettings()
_MODEL = ModelSettings()

MIN_HISTORY = timedelta(days=28)
"""Four weeks: the longest lag of the features is two weeks, which leaves two weeks of complete rows."""
MIN_HISTORY_SLOTS = 30
"""For daily and longer slots, where four weeks are fewer rows than a regression on the features can use."""
CLEAN_SHARE = 0.8
"""Of the minimal history that must be there: a gap of a few hours does not put a training off."""


class ScheduleSection(Section):
    """Event time: slots, forecasts, batches and what a training may use."""

    frequency: Duration = Field(
        timedelta(hours=1),
        description="length of one slot; divides a day or is a whole number of days; fixed for a state",
    )
    horizon: Duration = Field(timedelta(hours=24), description="how far one forecast reaches; a whole number of slots")
    batch: Duration = Field(timedelta(days=7), description="event time of one tested batch; a whole number of horizons")
    train_window: Duration = Field(
        timedelta(days=140), description="event time before its origin that a training uses; at least one batch"
    )
    min_history: Duration | None = Field(
        None,
        description="history before a stream's first training, of which 80 % must be observed; at most the "
        "train window; null: 28d, at least 30 slots, at most the train window",
    )
    warmup: AnyDuration | None = Field(
        None, description="event time after the anchor before the first batch is looked at; null: min_history"
    )
    anchor: AwareDatetime | None = Field(
        None, description="start of slot 0, with its offset; null: midnight UTC before the first observation"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("horizon", "batch", "train_window", "min_history", "warmup"):
            value: timedelta | None = getattr(self, name)
            if value is not None and value % self.frequency:
                raise ValueError(
                    f"{name} {format_duration(value)}: expected a whole number of slots of "
                    f"{format_duration(self.frequency)}"
                )
        try:
            self.to_core(datetime(2000, 1, 1, tzinfo=UTC))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.min_history is not None and self.min_history > self.train_window:
            raise ValueError(
                f"min_history {format_duration(self.min_history)}: expected at most the train_window of "
                f"{format_duration(self.train_window)}"
            )
        return self

    @property
    def min_history_or_default(self) -> timedelta:
        """``min_history``, or what stands for null."""
        if self.min_history is not None:
            return self.min_history
        return min(self.train_window, max(MIN_HISTORY, MIN_HISTORY_SLOTS * self.frequency))

    @property
    def warmup_or_default(self) -> timedelta:
        """``warmup``, or what stands for null."""
        return self.min_history_or_default if self.warmup is None else self.warmup

    def slots(self, duration: timedelta) -> int:
        """Slots that a duration touches: whole ones, a part counted as one."""
        return -(-duration // self.frequency)

    def anchor_before(self, first: datetime) -> datetime:
        """Start of slot 0: the setting, or midnight UTC before the first observation."""
        if self.anchor is not None:
            return self.anchor.astimezone(UTC)
        return first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def to_core(self, anchor: datetime) -> Schedule:
        """Schedule in slots. Raises ConfigError."""
        return Schedule(
            anchor=anchor.astimezone(UTC),
            frequency=self.frequency,
            horizon=self.slots(self.horizon),
            batch=self.slots(self.batch),
            train_window=self.slots(self.train_window),
        )


class ModelSection(Section):
    """What a stream is forecast with."""

    name: ModelName = Field(
        _MODEL.name,
        description="lightgbm, ridge, MODULE:CLASS of a scikit-learn regressor, or external: forecasts arrive in files",
    )
    params: dict[str, object] = Field(
        default_factory=dict, description="parameters of the model by name; those not given keep mlma's defaults"
    )
    seed: int = Field(_MODEL.seed, ge=0, lt=2**31, description="seed of every training, from 0")
    hook: HookSection = Field(HookSection(), description="trainings elsewhere")

    def to_core(self) -> ModelSettings:
        """Settings of the core."""
        return ModelSettings(name=self.name, params=dict(self.params), seed=self.seed)


class TestingSection(Section):
    """The loss test and its references."""

    __test__ = False  # not a test class

    loss: LossName = Field(_TESTING.loss, description="absolute, squared, pinball or poisson")
    quantile: float = Field(_TESTING.quantile, gt=0, lt=1, description="of the pinball loss, in (0, 1)")
    name: LossTestName = Field(
        _TESTING.name, description="moderated, welch, mann_whitney, kolmogorov_smirnov, hac_mean or e_process"
    )
    alpha: float = Field(
        _TESTING.alpha, gt=0, lt=1, description="promised false-alarm rate a stream and batch, in (0, 1)"
    )
    yardstick: Yardstick = Field(
        _TESTING.yardstick, description="naive: the loss relative to seasonal naive is tested; none: the loss itself"
    )
    reference: ReferencePolicy = Field(
        _TESTING.reference, description="batches of the adaptive reference: fixed, pooled, sliding or best"
    )
    reference_size: int = Field(
        _TESTING.reference_size, ge=2, description="batches of the adaptive reference at most, from 2"
    )
    anchored_size: int = Field(
        _TESTING.anchored_size, ge=0, description="batches of the anchored reference; 0 switches it off"
    )
    accumulate: bool = Field(
        _TESTING.accumulate,
        description="add up the evidence of eight batches against the anchored reference, of 12 batches then",
    )
    min_reference: int = Field(
        _TESTING.min_reference, ge=2, description="batches a reference needs before it is tested against, from 2"
    )
    fleet: FleetRule = Field(
        _TESTING.fleet, description="how p-values of a fleet become alarms: none, bonferroni, bh, by, e_bh or online"
    )
    effect_floor: float = Field(
        _TESTING.effect_floor, ge=0, description="smallest relative rise of the loss that may alarm; 0.05 is 5 %"
    )
    min_outcomes: float = Field(
        _TESTING.min_outcomes, gt=0, le=1, description="share of a batch's targets that must be scored, in (0, 1]"
    )

    common: bool = Field(
        _TESTING.common, description="test by itself what the streams have in common, and report it as incidents"
    )
    subtract_common: bool = Field(
        _TESTING.subtract_common, description="take what is common out before each stream's own test"
    )
    learn_yardstick: bool = Field(
        _TESTING.learn_yardstick, description="learn how much the yardstick explains; else the loss relative to it"
    )
    season: int = Field(
        _TESTING.season,
        ge=1,
        le=60,
        description="batches after which a season repeats: 7 for daily batches, 1 for none",
    )
    sham_rise: float = Field(
        _TESTING.sham_rise, gt=0, description="relative rise of the loss of degraded sham streams (certificate)"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_reference > self.reference_size:
            raise ValueError("min_reference must not be larger than reference_size")
        return self

    def to_core(self) -> TestingSettings:
        """Settings of the core."""
        return TestingSettings(**{name: getattr(self, name) for name in type(self).model_fields})


class AdmissionSection(Section):
    """What incoming rows must satisfy, and when a batch is complete."""

    future_tolerance: AnyDuration = Field(
        _ADMISSION.future_tolerance, description="how far a time may be ahead of this machine's clock, from 0s"
    )
    absurd_factor: float = Field(
        _ADMISSION.absurd_factor,
        ge=0,
        description="distance from a stream's median, in its own robust scales, beyond which a value is "
        "refused; 0 switches the check off",
    )
    absurd_min_rows: int = Field(
        _ADMISSION.absurd_min_rows, ge=2, description="observations of a stream before that check speaks, from 2"
    )
    watermark_share: float = Field(
        _ADMISSION.watermark_share,
        gt=0,
        le=1,
        description="share of the active streams that must have reached a batch's end before it closes, in (0, 1]",
    )
    lateness: AnyDuration = Field(
        timedelta(0), description="event time that a batch is held open after its end for late rows, from 0s"
    )
    forecast_wait: AnyDuration | None = Field(
        None,
        description="event time after an origin in which forecasts that were made elsewhere are waited for, from 0s to "
        "the horizon; null: one slot",
    )

    def to_core(self, schedule: ScheduleSection, *, awaits_forecasts: bool = False) -> AdmissionSettings:
        """Settings of the core; nothing is waited for where forecasts are made here."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        wait = schedule.frequency if self.forecast_wait is None else self.forecast_wait
        in_slots = {
            "lateness": schedule.slots(self.lateness),
            "forecast_wait": schedule.slots(wait) if awaits_forecasts else 0,
        }
        return AdmissionSettings(**{**values, **in_slots})
