"""Sections about the life of models: pools, groups, weights, prices and the budget of trainings.

Defaults are those of `mlma.core.settings`, so that there is one truth.
"""

from typing import Self

from pydantic import Field, model_validator

from mlma.config.fields import Duration, GroupName, Section, SelectionText
from mlma.config.loop import CLEAN_SHARE, ModelSection, ScheduleSection
from mlma.core.settings import Evergreen, GroupSettings, LifeSettings, Promotion, Serve, StreamWeight

_LIFE = LifeSettings(warmup=0, min_rows=1)
_GROUP = GroupSettings()


class GroupSection(Section):
    """One model that serves many streams."""

    name: GroupName = Field(_GROUP.name, description="letters, digits, points, dashes; the member is group:NAME")
    select: SelectionText = Field(_GROUP.select, description="streams: globs and label selectors; '*' for all")
    model: ModelSection | None = Field(
        None, description="as the section model; null: lightgbm on the absolute error, 100 trees of 31 leaves"
    )
    rows: int = Field(
        _GROUP.rows, ge=1, description="rows of a training at most, as many of each stream and at most a quarter of "
        "its train window, from 1"
    )  # fmt: skip
    min_streams: int = Field(
        _GROUP.min_streams, ge=1, description="streams with enough history that a training needs, from 1"
    )

    def to_core(self) -> GroupSettings:
        """Settings of the core."""
        model = _GROUP.model if self.model is None else self.model.to_core()
        return GroupSettings(
            name=self.name, select=self.select, model=model, rows=self.rows, min_streams=self.min_streams
        )


class WeightSection(Section):
    """How much the loss of some streams counts."""

    select: SelectionText = Field(description="streams: globs and label selectors")
    weight: float = Field(
        gt=0, allow_inf_nan=False, description="times that a relative loss counts against the price, above 0; 1: usual"
    )

    def to_core(self) -> StreamWeight:
        """Settings of the core."""
        return StreamWeight(select=self.select, weight=self.weight)


class LifeSection(Section):
    """When a candidate may serve and how trainings are repeated."""

    cooldown: int = Field(_LIFE.cooldown, ge=0, description="batches after a training before the next one, from 0")
    fallback_every: int = Field(
        _LIFE.fallback_every,
        ge=1,
        description="batches after a training until the next one under policy test while its test is not armed, "
        "because the certificate failed; from 1",
    )
    proof: bool = Field(
        _LIFE.proof,
        description="with one champion: true: a candidate proves itself on a batch that a first fit held out "
        "(two fits); false: it forecasts in shadow and serves once its losses are lower",
    )
    serve: Serve = Field(_LIFE.serve, description="blend, champion or latest: what forecasts are made of")
    pool_size: int = Field(
        _LIFE.pool_size, ge=1, le=64, description="trained versions of a stream that go on forecasting, from 1"
    )
    evergreen: tuple[Evergreen, ...] = Field(
        _LIFE.evergreen,
        description="members of a blend that are refitted for all streams after every batch: median, lad, slot_ridge, "
        "or look at the last day: yesterday, level, rescaled",
    )
    groups: tuple[GroupSection, ...] | None = Field(
        None,
        description="models that serve many streams as members of their blends, each with name, select, model, rows "
        "and min_streams; null: one of all streams in a blend, none with one champion; []: none",
    )
    pool_eta: float = Field(
        _LIFE.pool_eta, gt=0, description="how fast a member's weight falls: one that is 1 / eta worse has 1/e of it"
    )
    pool_decay: float = Field(
        _LIFE.pool_decay, ge=0, lt=1, description="weight of the past in a member's mean loss, a batch, in [0, 1)"
    )
    recalibrate: bool = Field(
        _LIFE.recalibrate, description="with one champion: learn a shift and a slope of each version's forecasts"
    )
    pool_shrinkage: float = Field(
        _LIFE.pool_shrinkage, ge=0, le=1, description="share of the fleet in a member's relative loss, in [0, 1]"
    )
    price: float = Field(
        _LIFE.price,
        ge=0,
        description="of a training: the relative loss, summed over batches, that it must save (0.3: it pays when it "
        "saves 3 % of the stream's loss for 10 batches), from 0",
    )
    weights: tuple[WeightSection, ...] = Field(
        (),
        description="how much the loss of streams counts, each with select and weight; the first that matches counts: "
        "a training of a stream of weight 3 pays at a third of the debt, and goes first under a budget",
    )
    promotion: Promotion = Field(
        _LIFE.promotion,
        description="with one champion: recent: the version with the lowest recent losses serves; proven: only one "
        "that a paired comparison (at 5 %, within 8 batches) showed to be better",
    )
    promotion_floor: float = Field(
        _LIFE.promotion_floor, ge=0, lt=1, description="relative gain that a candidate must show, in [0, 1)"
    )
    training_deadline: Duration = Field(
        _LIFE.training_deadline, description="wall time after which a training is taken for lost and tried again"
    )
    max_attempts: int = Field(_LIFE.max_attempts, ge=1, description="tries of one training, from 1")
    budget_cpu_s_per_hour: float | None = Field(
        _LIFE.budget_cpu_s_per_hour,
        gt=0,
        allow_inf_nan=False,
        description="CPU seconds of trainings that an hour of event time allows, above 0; null: no limit",
    )
    budget_burst_s: float | None = Field(
        _LIFE.budget_burst_s,
        gt=0,
        allow_inf_nan=False,
        description="CPU seconds that may be saved up, above 0; null: those of one batch",
    )
    budget_concurrent: int | None = Field(
        _LIFE.budget_concurrent, ge=1, description="trainings at the same time, from 1; null: one a worker"
    )
    budget_patience: int = Field(
        _LIFE.budget_patience,
        ge=1,
        description="batches that a training waits for the budget before it lapses, from 1",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.groups and self.serve is not Serve.BLEND:
            raise ValueError(
                f"groups are members of blends: expected serve: blend, or no groups, beside serve: {self.serve}"
            )
        names = [group.name for group in self.groups or ()]
        if len(set(names)) < len(names):
            raise ValueError("expected a different name for each group")
        return self

    def to_core(self, schedule: ScheduleSection) -> LifeSettings:
        """Settings of the core; the history that a training needs comes from the schedule."""
        min_slots = schedule.slots(schedule.min_history_or_default)
        values = {name: getattr(self, name) for name in type(self).model_fields}
        groups = (_GROUP,) if self.groups is None else tuple(group.to_core() for group in self.groups)
        return LifeSettings(
            warmup=schedule.slots(schedule.warmup_or_default),
            min_rows=max(1, int(CLEAN_SHARE * min_slots)),
            **{**values, "groups": groups, "weights": tuple(rule.to_core() for rule in self.weights)},
        )
