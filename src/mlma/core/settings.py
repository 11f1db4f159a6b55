"""What an engineer may set about the loop, as validated frozen values. `mlma.config` makes them from YAML.

Defaults here are the product's defaults; every one was measured or is explained in the manual.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

EXTERNAL = "external"
"""Name of the model whose versions forecast elsewhere."""


class LossName(StrEnum):
    """How far a forecast is from its outcome."""

    ABSOLUTE = "absolute"
    SQUARED = "squared"
    PINBALL = "pinball"
    POISSON = "poisson"


class LossTestName(StrEnum):
    """How recent losses are compared with reference losses."""

    MODERATED = "moderated"
    WELCH = "welch"
    MANN_WHITNEY = "mann_whitney"
    KOLMOGOROV_SMIRNOV = "kolmogorov_smirnov"
    HAC_MEAN = "hac_mean"
    E_PROCESS = "e_process"  # anytime-valid: may be looked at after every update


class ReferencePolicy(StrEnum):
    """Which past batches the adaptive reference holds."""

    FIXED = "fixed"  # the first batches after the last change of the serving version
    POOLED = "pooled"  # all batches since then, at most ``reference_size`` of the newest
    SLIDING = "sliding"  # the last ``reference_size // 2`` batches
    BEST = "best"  # the run of ``reference_size // 2`` consecutive batches with the lowest mean


class FleetRule(StrEnum):
    """How the fleet's p-values become alarms."""

    NONE = "none"
    BONFERRONI = "bonferroni"
    BH = "bh"
    BY = "by"
    E_BH = "e_bh"
    ONLINE = "online"  # false discovery rate over all batches together


class Serve(StrEnum):
    """Which members of a stream's pool its forecasts are made of."""

    BLEND = "blend"  # all of them, weighted by their recent losses
    CHAMPION = "champion"  # one version, which beat the one before
    LATEST = "latest"  # the newest version, without a comparison (baselines only)


class Evergreen(StrEnum):
    """Cheap members of every blend."""

    MEDIAN = "median"  # of the same slot in the last eight weeks
    LAD = "lad"  # least absolute deviations of logarithms
    SLOT_RIDGE = "slot_ridge"  # one ridge regression for each part of the day
    YESTERDAY = "yesterday"  # the same slot of the day before
    LEVEL = "level"  # median of the last day
    RESCALED = "rescaled"  # the median of the same slots, as much higher or lower as the last day was


QUICK = (Evergreen.YESTERDAY, Evergreen.LEVEL, Evergreen.RESCALED)
"""Those that look at the last day: they know of a change a day after it, and are listened to once they have a loss."""


class Promotion(StrEnum):
    """What a version must show before it serves alone instead of the champion."""

    RECENT = "recent"  # lower recent losses on the same targets
    PROVEN = "proven"  # a paired comparison over up to eight batches that keeps its promise


class Yardstick(StrEnum):
    """What the tested loss is measured against."""

    NONE = "none"  # the loss itself
    NAIVE = "naive"  # the loss of seasonal naive on the same targets


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which model a stream gets: ``lightgbm``, ``ridge``, ``MODULE:CLASS`` or `EXTERNAL`, with its parameters."""

    name: str = "lightgbm"
    params: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


GROUP_PARAMS: Mapping[str, object] = {"objective": "l1", "num_iterations": 100, "num_leaves": 31}
"""Of the LightGBM model of a group, unless others are given; docs/adr/0020 has the measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """One model that serves many streams as a further member of their pools."""

    name: str = "all"
    select: str = "*"  # stream globs and label selectors, see `mlma.core.selection`
    model: ModelSettings = field(default_factory=lambda: ModelSettings(params=GROUP_PARAMS))
    rows: int = 30_000  # training rows at most, as many of each stream
    min_streams: int = 20  # with enough history, for the model to be trained

    @property
    def member(self) -> str:
        """Name of the member in the pools."""
        return f"{GROUP_PREFIX}{self.name}"


GROUP_PREFIX = "group:"
"""Start of the names of members that are models of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWeight:
    """How much the loss of some streams counts: of weight 3, a training is worth three times as much."""

    select: str  # stream globs and label selectors, see `mlma.core.selection`
    weight: float  # above 0; 1 is usual


@dataclass(frozen=True, slots=True, kw_only=True)
class TestingSettings:
    """The loss test and its references; sizes in batches."""

    __test__ = False  # not a test class

    loss: LossName = LossName.ABSOLUTE
    quantile: float = 0.5  # of the pinball loss, in (0, 1)
    name: LossTestName = LossTestName.MODERATED
    alpha: float = 0.05  # promised false-alarm rate a stream and batch, in (0, 1)
    yardstick: Yardstick = Yardstick.NAIVE
    reference: ReferencePolicy = ReferencePolicy.POOLED
    reference_size: int = 8
    anchored_size: int = 4  # 0 switches the anchored reference off
    accumulate: bool = False  # add up the evidence of several batches against the anchored reference
    min_reference: int = 2
    fleet: FleetRule = FleetRule.NONE
    effect_floor: float = 0.05  # smallest relative rise of the loss that may alarm
    min_outcomes: float = 0.25  # share of a batch's targets that must be scored
    common: bool = True  # test by itself what the fleet has in common: incidents
    subtract_common: bool = False  # and take it out before each stream's own test
    learn_yardstick: bool = False  # learn how much the yardstick explains; else the loss relative to it
    season: int = 1  # batches after which a season repeats, such as 7 for daily batches; 1 for none
    sham_rise: float = 0.25  # relative rise of the loss of degraded sham streams


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeSettings:
    """When a stream may be trained and when a candidate may serve."""

    warmup: int  # slots after the anchor before the first batch is looked at
    min_rows: int  # clean observations in the train window that a training needs
    cooldown: int = 2  # batches after a training before the next one
    fallback_every: int = 13  # batches after a training until the next one, while the test is not armed
    proof: bool = False  # beside a champion: hold the last batch out of a first fit, instead of a batch in shadow
    serve: Serve = Serve.BLEND
    pool_size: int = 8  # trained versions of a stream that go on forecasting
    evergreen: tuple[Evergreen, ...] = tuple(Evergreen)  # members of a blend that are refitted after every batch
    groups: tuple[GroupSettings, ...] = ()  # models that serve many streams, members of a blend
    pool_eta: float = 20.0  # how fast a member's weight falls with its relative loss
    pool_decay: float = 0.8  # of the exponential mean of a member's losses, a batch
    recalibrate: bool = True  # beside a champion: shift and slope of the versions' forecasts
    pool_shrinkage: float = 0.3  # of a member's relative loss to the fleet's median of it
    price: float = 0.3  # of a training: the relative loss, summed over batches, that it must save
    weights: tuple[StreamWeight, ...] = ()  # of streams; the first that matches counts
    promotion: Promotion = Promotion.RECENT
    promotion_floor: float = 0.0  # relative gain on the held-out targets that a challenger must show
    training_deadline: timedelta = timedelta(minutes=30)
    max_attempts: int = 3
    budget_cpu_s_per_hour: float | None = None  # of trainings, by event time; None: no limit
    budget_burst_s: float | None = None  # CPU seconds that may be saved up; None: those of one batch
    budget_concurrent: int | None = None  # trainings at the same time; None: as many as there are workers
    budget_patience: int = 13  # batches that a training waits for the budget before it lapses

    @property
    def has_budget(self) -> bool:
        """Whether trainings may have to wait for CPU seconds."""
        return self.budget_cpu_s_per_hour is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """What incoming rows must satisfy."""

    future_tolerance: timedelta = timedelta(minutes=5)
    absurd_factor: float = 100.0  # times the stream's own robust scale; 0 switches the check off
    absurd_min_rows: int = 48  # observations of a stream before the check speaks
    watermark_share: float = 0.5  # share of the active streams that must have reached its end before a batch closes
    lateness: int = 0  # slots that a batch is held open after its end
    forecast_wait: int = 0  # slots after an origin in which forecasts that were made elsewhere are waited for
