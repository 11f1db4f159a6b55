"""Everything that an engineer may set, with defaults that run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mlma.config.fields import Count, Cron, PolicyText, Section, Zone
from mlma.config.life import LifeSection
from mlma.config.loop import AdmissionSection, ModelSection, ScheduleSection, TestingSection
from mlma.core.durations import format_duration
from mlma.core.hooks import HookKind
from mlma.core.settings import EXTERNAL

ENV_PREFIX = "MLMA_"
ENV_DELIMITER = "__"
STATE_VARIABLE = f"{ENV_PREFIX}STATE"
"""Names the state directory to the commands, which pass it on; it is not the section ``state`` as JSON."""


class StateSection(Section):
    """Where everything that must survive is kept."""

    path: Path = Field(Path("state"), description="directory of the control plane, history, artifacts and checkpoints")


class SourceSection(Section):
    """Where observations come from and what the columns are called."""

    path: Path = Field(Path("inbox"), description="directory that is watched; files in it are never changed")
    patterns: tuple[str, ...] = Field(
        ("*.parquet", "*.csv", "*.csv.gz"), min_length=1, description="globs of the files, relative to path"
    )
    stream_column: str = Field("stream", min_length=1, description="column with the stream's name")
    time_column: str = Field("ts", min_length=1, description="column with the time")
    value_column: str = Field("y", min_length=1, description="column with the observed value")
    forecast_column: str = Field(
        "forecast",
        min_length=1,
        description="column with a forecast, in files without the value column; read with model.name external",
    )
    version_column: str = Field(
        "version", min_length=1, description="column with the version that made the forecast; may be missing"
    )
    label_columns: tuple[str, ...] = Field((), description="columns that become labels of the stream")
    timezone: Zone = Field("UTC", description="IANA zone of times without an offset")


class ExecutorSection(Section):
    """What the shards run on."""

    kind: Literal["ray", "inline"] = Field(
        "ray", description="ray: shards and trainings in processes; inline: all in this process, without Ray"
    )
    shards: Count = Field(
        "auto", description="actors that keep the streams, from 1; auto: one a core; fixed for a state"
    )
    workers: Count = Field("auto", description="trainings at the same time, from 1; auto: one a core")
    address: str = Field(
        "local", min_length=1, description="local: a Ray of its own; auto or host:port: a running cluster"
    )


class TargetSection(Section):
    """One receiver of the digest."""

    name: str = Field(min_length=1, description="how it is called in status and deliveries; holds no secret")
    url: SecretStr = Field(description="Apprise URL such as mailto://user:password@host; never shown")


class DigestSection(Section):
    """When the digest is made and who gets it."""

    cron: Cron = Field("0 7 * * *", description="five cron fields: minute hour day month weekday")
    timezone: Zone = Field("UTC", description="IANA zone of the cron fields; times in the digest are UTC")
    targets: tuple[TargetSection, ...] = Field((), description="receivers, each with name and url")

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: tuple[TargetSection, ...]) -> tuple[TargetSection, ...]:
        names = [target.name for target in targets]
        if len(set(names)) < len(names):
            raise ValueError("expected a different name for each target")
        return targets

    def urls(self) -> Mapping[str, str]:
        """Apprise URLs by target; secret, only for the notifier."""
        return {target.name: target.url.get_secret_value() for target in self.targets}


class DaemonSection(Section):
    """The rhythm of `mlma run` and what it logs."""

    tick_s: float = Field(1.0, gt=0, le=3600, description="seconds between two looks, in (0, 3600]")
    heartbeat_s: float = Field(5.0, gt=0, le=300, description="seconds between two renewals of the lease, in (0, 300]")
    settle_s: float = Field(
        2.0, ge=0, le=3600, description="a file unchanged for this many seconds is complete, in [0, 3600]"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="console: for people; json: one object a line; auto: console on a terminal"
    )


class Settings(BaseSettings):
    """All settings. Environment variables are ``MLMA_<SECTION>__<KEY>`` and go before the file."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    state: StateSection = Field(StateSection(), description="where everything is kept")
    source: SourceSection = Field(SourceSection(), description="where observations come from")
    schedule: ScheduleSection = Field(ScheduleSection(), description="event time")
    model: ModelSection = Field(ModelSection(), description="what a stream is forecast with")
    testing: TestingSection = Field(TestingSection(), description="the loss test")
    life: LifeSection = Field(LifeSection(), description="life of a version")
    admission: AdmissionSection = Field(AdmissionSection(), description="what rows must satisfy")
    policy: PolicyText = Field(
        "mlma", description="when streams are retrained: never, always, calendar:K (batches, K >= 1), test or mlma"
    )
    executor: ExecutorSection = Field(ExecutorSection(), description="what the shards run on")
    digest: DigestSection = Field(DigestSection(), description="the engineer's page")
    daemon: DaemonSection = Field(DaemonSection(), description="rhythm and logs of mlma run")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment."""
        return init_settings, environment_of(settings_cls)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.admission.lateness % self.schedule.frequency:
            raise ValueError("admission.lateness must be a whole number of slots of schedule.frequency")
        self._check_elsewhere()
        return self

    def _check_elsewhere(self) -> None:
        """Raise ValueError where the settings about models elsewhere contradict others."""
        wait, hook = self.admission.forecast_wait, self.model.hook
        if wait is not None and (wait % self.schedule.frequency or wait > self.schedule.horizon):
            raise ValueError(
                f"admission.forecast_wait = {format_duration(wait)}: expected a whole number of slots of "
                f"schedule.frequency, at most schedule.horizon = {format_duration(self.schedule.horizon)}"
            )
        if hook.kind is not HookKind.NONE and hook.timeout >= self.life.training_deadline:
            raise ValueError(
                f"model.hook.timeout = {format_duration(hook.timeout)}: expected less than life.training_deadline = "
                f"{format_duration(self.life.training_deadline)}"
            )
        if self.model.name == EXTERNAL and self.life.proof:
            raise ValueError(
                "life.proof = true: expected false with model.name external, whose forecasts of the past would have "
                "been made with its outcomes known"
            )

    def show(self) -> dict[str, object]:
        """Return all settings as plain values, durations as text and secrets masked."""
        return self.model_dump(mode="json")


def environment_of(settings: type[BaseSettings]) -> EnvSettingsSource:
    """Settings that the environment holds, without the variable that names the state directory."""
    source = EnvSettingsSource(settings)
    source.env_vars = {name: value for name, value in source.env_vars.items() if name.upper() != STATE_VARIABLE}
    return source
