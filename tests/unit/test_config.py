"""Settings: every mistake is told with its place, key, value and what is expected; secrets are never shown."""

import dataclasses
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from mlma.config import Settings, load
from mlma.config.hook import HookSection
from mlma.config.life import LifeSection
from mlma.config.loop import AdmissionSection, ModelSection, TestingSection
from mlma.core import policy
from mlma.core.durations import format_duration, parse_duration
from mlma.core.errors import ConfigError
from mlma.core.hooks import HookSettings
from mlma.core.settings import (
    AdmissionSettings,
    GroupSettings,
    LifeSettings,
    ModelSettings,
    StreamWeight,
    TestingSettings,
)

ROOT = Path(__file__).parents[2]
ANCHOR = datetime(2001, 1, 1, tzinfo=UTC)
SECRET = "mailto://user:hunter2@example.org"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("MLMA_"):
            monkeypatch.delenv(name)


def write(tmp_path, text):
    path = tmp_path / "mlma.yaml"
    path.write_text(text)
    return path


def complaint(path=None, overrides=None) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, overrides)
    return str(error.value)


# values


def test_defaults_are_enough():
    settings = load()
    assert settings.policy == "mlma"
    assert settings.schedule.to_core(ANCHOR).horizon == 24


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads(path):
    settings = load(path)
    schedule = settings.schedule.to_core(ANCHOR)
    assert schedule.train_window >= settings.life.to_core(settings.schedule).min_rows >= 1
    settings.admission.to_core(settings.schedule)


def test_an_empty_file_means_the_defaults(tmp_path):
    assert load(write(tmp_path, "# nothing\n")) == load()


def test_the_variables_that_name_the_state_and_the_file_are_no_settings(monkeypatch):
    monkeypatch.setenv("MLMA_STATE", "/var/lib/mlma")
    monkeypatch.setenv("MLMA_CONFIG", "mlma.yaml")
    monkeypatch.setenv("MLMA_STATE__PATH", "elsewhere")
    assert str(load().state.path) == "elsewhere"


def test_options_go_before_the_environment_and_that_before_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, "schedule: {horizon: 12h, batch: 12h, frequency: 1h}\nmodel: {seed: 1}\npolicy: never\n")
    monkeypatch.setenv("MLMA_SCHEDULE__HORIZON", "6h")
    monkeypatch.setenv("MLMA_MODEL__SEED", "2")
    monkeypatch.setenv("MLMA_POLICY", "always")
    monkeypatch.setenv("MLMA_SOURCE__PATTERNS", '["*.csv"]')
    settings = load(path, {"schedule.horizon": "3h", "model": {"name": "ridge"}})
    assert settings.schedule.horizon == timedelta(hours=3)
    assert settings.schedule.batch == timedelta(hours=12)
    assert (settings.model.name, settings.model.seed, settings.policy) == ("ridge", 2, "always")
    assert settings.source.patterns == ("*.csv",)


def test_durations_become_slots():
    settings = load(None, {"schedule.frequency": "15min", "schedule.warmup": "0s", "admission.lateness": "30min"})
    schedule = settings.schedule.to_core(ANCHOR)
    assert (schedule.horizon, schedule.batch, schedule.train_window) == (96, 672, 13440)
    assert settings.life.to_core(settings.schedule).warmup == 0
    assert settings.admission.to_core(settings.schedule).lateness == 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, 28 * 24),
        ({"train_window": "14d"}, 14 * 24),
        ({"frequency": "1d", "horizon": "7d", "batch": "7d", "train_window": "364d"}, 30),
        ({"frequency": "1d", "horizon": "7d", "batch": "7d", "train_window": "21d"}, 21),
        ({"min_history": "7d"}, 7 * 24),
    ],
)
def test_the_history_before_a_first_training_follows_from_the_schedule(schedule, expected):
    settings = load(None, {"schedule": schedule})
    life = settings.life.to_core(settings.schedule)
    assert life.warmup == expected
    assert life.min_rows == int(0.8 * expected)


def test_slot_0_starts_at_the_midnight_before_the_first_observation_or_where_it_is_set():
    first = datetime(2001, 6, 8, 18, 45, tzinfo=UTC)
    assert load().schedule.anchor_before(first) == datetime(2001, 6, 8, tzinfo=UTC)
    fixed = load(None, {"schedule.anchor": "2001-01-01T02:00:00+02:00"})
    assert fixed.schedule.anchor_before(first) == ANCHOR


@pytest.mark.parametrize(
    ("section", "core", "elsewhere"),
    [
        (ModelSection, ModelSettings, set()),
        (HookSection, HookSettings, set()),
        (TestingSection, TestingSettings, set()),
        (LifeSection, LifeSettings, {"warmup", "min_rows"}),  # made of the schedule
        (AdmissionSection, AdmissionSettings, set()),
    ],
)
def test_sections_mirror_the_settings_of_the_core(section, core, elsewhere):
    fields = {field.name for field in dataclasses.fields(core)}
    assert set(section.model_fields) - {"hook"} == fields - elsewhere  # what is called is a port of its own


def test_the_defaults_are_those_of_the_core():
    settings = load()
    assert settings.model.to_core() == ModelSettings()
    assert settings.model.hook.to_core() == HookSettings()
    assert settings.testing.to_core() == TestingSettings()
    assert settings.admission.to_core(settings.schedule) == AdmissionSettings()
    life = settings.life.to_core(settings.schedule)
    assert life == LifeSettings(warmup=life.warmup, min_rows=life.min_rows, groups=(GroupSettings(),))


def test_weights_of_streams_are_read_as_they_are_written():
    wanted = [{"select": "class=A", "weight": 3}, {"select": "K*", "weight": 0.5}]
    made = load(None, {"life.weights": wanted}).life.to_core(load().schedule).weights
    assert made == (StreamWeight(select="class=A", weight=3.0), StreamWeight(select="K*", weight=0.5))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"select": "a=b=c", "weight": 1}, "cannot read"),
        ({"select": "*", "weight": 0}, "greater than 0"),
        ({"weight": 2}, "select"),
    ],
)
def test_a_weight_that_cannot_be_is_refused(rule, words):
    with pytest.raises(ConfigError, match=words):
        load(None, {"life.weights": [rule]})


def test_groups_are_read_as_they_are_written():
    wanted = [
        {"name": "north", "select": "region=north", "rows": 500, "min_streams": 2},
        {"name": "rest", "select": "region!=north", "model": {"name": "ridge", "params": {"alpha": 2.0}}},
    ]
    life = load(None, {"life.groups": wanted}).life.to_core(load().schedule)
    assert life.groups == (
        GroupSettings(name="north", select="region=north", rows=500, min_streams=2),
        GroupSettings(name="rest", select="region!=north", model=ModelSettings(name="ridge", params={"alpha": 2.0})),
    )
    assert load(None, {"life.groups": []}).life.to_core(load().schedule).groups == ()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"life.groups": [{}], "life.serve": "champion"}, "groups are members of blends"),
        ({"life.groups": [{"name": "a"}, {"name": "a"}]}, "a different name for each group"),
        ({"life.groups": [{"name": "1 a"}]}, "expected a letter"),
        ({"life.groups": [{"select": "a=b=c"}]}, "cannot read"),
        ({"life.groups": [{"rows": 0}]}, "greater than or equal to 1"),
    ],
)
def test_groups_that_cannot_be_are_refused(values, said):
    assert said in complaint(None, values)


def test_one_champion_may_leave_the_groups_to_mlma():
    assert load(None, {"life.serve": "champion"}).life.groups is None


def test_the_calendar_of_a_test_that_is_not_armed_is_a_whole_number_of_batches():
    schedule = load().schedule
    assert load().life.to_core(schedule).fallback_every == 13
    assert load(None, {"life.fallback_every": 4}).life.to_core(schedule).fallback_every == 4
    assert "life.fallback_every" in complaint(None, {"life.fallback_every": 0})


@pytest.mark.parametrize("text", ["never", "always", "mlma", "calendar:4", "calendar:0", "calendar", "daily", ""])
def test_policies_are_those_of_the_core(text):
    try:
        policy.parse(text)
    except ConfigError:
        assert "policy" in complaint(None, {"policy": text})
    else:
        assert load(None, {"policy": text}).policy == text


# mistakes


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("schedul: {}", "unknown key 'schedul'; did you mean 'schedule'?"),
        ("schedule: {frequncy: 1h}", "unknown key 'schedule.frequncy'; did you mean 'frequency'?"),
        ("zzz: 1", "unknown key 'zzz'; expected one of admission, daemon, "),
        ("digest: {targets: [{name: a, urll: x}]}", "unknown key 'digest.targets.0.urll'; did you mean 'url'?"),
        ("digest: {targets: [{name: a}]}", "'digest.targets.0.url' is missing"),
        ("schedule: {frequency: hourly}", "schedule.frequency = 'hourly': expected a duration such as 30s, 15min"),
        ("schedule: {frequency: 60}", "schedule.frequency = 60: expected a duration"),
        ("schedule: {frequency: 0h}", "schedule.frequency = '0h': expected a duration above zero"),
        ("schedule: {frequency: 7h}", "schedule: horizon 1d: expected a whole number of slots of 7h"),
        ("schedule: {frequency: 10h, horizon: 10h, batch: 10h, train_window: 10h}", "expected a duration that divides"),
        ("schedule: {horizon: 36h}", "expected a whole number of horizons (36 slots each)"),
        ("schedule: {train_window: 1d}", "expected at least one batch (168 slots)"),
        ("schedule: {min_history: 300d}", "min_history 300d: expected at most the train_window of 140d"),
        ("schedule: {anchor: 2001-01-01 00:00:00}", "schedule.anchor"),
        ("testing: {alpha: 5}", "testing.alpha = 5: expected less than 1"),
        ("testing: {loss: mse}", "testing.loss = 'mse': expected 'absolute', 'squared', 'pinball' or 'poisson'"),
        ("testing: {min_reference: 9}", "min_reference must not be larger than reference_size"),
        ("admission: {absurd_factor: -1}", "admission.absurd_factor = -1: expected greater than or equal to 0"),
        ("admission: {lateness: 90min}", "lateness must be a whole number of slots"),
        ("policy: calendar:0", "policy = 'calendar:0': expected never, always, calendar:K"),
        ("model: {name: light gbm}", "model.name = 'light gbm': expected lightgbm, ridge, external or the import path"),
        ("executor: {kind: dask}", "executor.kind = 'dask': expected 'ray' or 'inline'"),
        ("executor: {shards: 0}", "executor.shards = 0: expected auto or a whole number from 1"),
        ("executor: {workers: many}", "executor.workers = 'many': expected auto or a whole number from 1"),
        ("source: {timezone: Mars/Base}", "source.timezone = 'Mars/Base': expected an IANA time zone"),
        ("digest: {cron: 0 25 * * *}", "digest.cron = '0 25 * * *': expected five cron fields"),
        ("digest: {cron: daily}", "digest.cron = 'daily': expected five cron fields"),
        ("daemon: {tick_s: 0}", "daemon.tick_s = 0: expected greater than 0"),
        ("schedule: 1h", "schedule = '1h': expected a valid dictionary"),
        ("- schedule", "holds a list; expected sections"),
        ("schedule: [1", "is not YAML"),
        ("policy: mlma\npolicy: never", "line 2, column 1: is not YAML: the key 'policy' stands twice"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_place_key_and_expectation(tmp_path, yaml, message):
    path = write(tmp_path, yaml + "\n")
    told = complaint(path)
    assert message in told
    assert str(path) in told


def test_all_mistakes_are_told_at_once(tmp_path):
    told = complaint(write(tmp_path, "policy: x\nmodel: {seed: -1}\n"))
    assert len(told.splitlines()) == 2


def test_a_missing_file_is_named(tmp_path):
    assert "does not exist" in complaint(tmp_path / "gone.yaml")
    assert "cannot be read" in complaint(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"policy: \xe9\n")
    assert "UTF-8" in complaint(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MLMA_SCHEDUL__FREQUENCY", "1h", "MLMA_SCHEDUL__FREQUENCY: unknown section 'schedul'; did you mean 'sched"),
        ("MLMA_SCHEDULE__FREQENCY", "1h", "MLMA_SCHEDULE__FREQENCY: unknown key 'schedule.freqency'; did you mean"),
        ("MLMA_TESTING__ALPHA", "often", "environment variable MLMA_TESTING__ALPHA: testing.alpha = 'often'"),
        ("MLMA_SOURCE__PATTERNS", "*.csv", "(MLMA_SOURCE__PATTERNS)"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_names_the_variable(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    assert message in complaint()


def test_a_mistake_in_an_option_says_so():
    assert complaint(None, {"schedule.horizon": "1y"}).startswith("option: schedule.horizon = '1y'")


# secrets


@pytest.mark.parametrize(
    "targets",
    [
        [{"name": "me", "url": SECRET}, {"name": "me", "url": SECRET}],
        [{"name": "me", "url": SECRET, "extra": SECRET}],
        [{"name": SECRET * 0, "url": SECRET}],
        [SECRET],
        SECRET,
    ],
)
def test_a_mistake_never_prints_a_secret(targets):
    assert "hunter2" not in complaint(None, {"digest": {"targets": targets}})


def test_settings_are_shown_without_secrets_and_load_again():
    settings = load(None, {"digest": {"targets": [{"name": "me", "url": SECRET}]}, "schedule.min_history": "14d"})
    shown = settings.show()
    assert "hunter2" not in json.dumps(shown)
    assert "hunter2" not in repr(settings)
    assert settings.digest.urls() == {"me": SECRET}
    assert shown["schedule"] == {
        "frequency": "1h", "horizon": "1d", "batch": "7d", "train_window": "140d",
        "min_history": "14d", "warmup": None, "anchor": None,
    }  # fmt: skip
    assert load(None, shown).schedule == settings.schedule


# durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15min", 900), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600), ("30s", 30), ("1h30min", 5400),
     (" 1.5 h ", 5400), ("0s", 0)],
)  # fmt: skip
def test_durations_are_read(text, seconds):
    assert parse_duration(text).total_seconds() == seconds
    assert parse_duration(format_duration(parse_duration(text))).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1m", "1M", "-1h", "1 hour", "1h,2d", "hourly", "9999999999d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError):
        parse_duration(text)


# the manual and the start time


def _keys(model: type[BaseModel], prefix: str = ""):
    for name, field in model.model_fields.items():
        annotation = field.annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        below = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), None)
        if below is None:
            yield f"{prefix}{name}", field
        else:
            yield from _keys(below, f"{prefix}{name}.")


KEYS = dict(_keys(Settings))


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_has_a_description_and_a_row_in_the_manual(key):
    assert KEYS[key].description
    manual = (ROOT / "docs/manual/configuration.md").read_text()
    assert f"| `{key}` |" in manual


def test_loading_settings_imports_nothing_heavy():
    heavy = ("pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "ray", "sqlalchemy", "apscheduler", "apprise")
    code = f"import sys; from mlma.config import load; load(); print([m for m in {heavy!r} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
