"""Settings about models elsewhere: what contradicts itself or others is refused with key, value and what is allowed."""

from datetime import timedelta
from pathlib import Path

import pytest

from mlma.adapters.sources.files import ColumnMapping, read_file
from mlma.bootstrap import run_replay
from mlma.bootstrap.engine import engine_settings
from mlma.config import load
from mlma.core.errors import ConfigError
from mlma.core.hooks import HookKind, HookSettings
from mlma.runtime.doctor_hook import check_hook
from mlma.runtime.replay_data import ReplayRequest
from tests.integration.fleet_data import ANCHOR

WEBHOOK = {"model.hook.kind": "webhook", "model.hook.url": "https://gpu/retrain", "model.hook.secret_env": "SECRET"}
COMMAND = {"model.hook.kind": "command", "model.hook.command": ["retrain", "--gpu"]}


@pytest.mark.parametrize(
    ("overrides", "wrong"),
    [
        ({"model.name": "prophet"}, "model.name = 'prophet': expected lightgbm, ridge, external or the import path"),
        ({"model.hook.kind": "shell"}, "model.hook.kind = 'shell': expected 'none', 'command', 'webhook' or"),
        ({"model.hook.kind": "command"}, "model.hook: kind command needs command"),
        ({"model.hook.command": ["retrain"]}, "model.hook: command is set, but kind is none; expected kind command"),
        ({"model.hook.kind": "command", "model.hook.command": "retrain --gpu"}, "model.hook.command = 'retrain --gpu'"),
        ({"model.hook.kind": "command", "model.hook.command": [" "]}, "expected a program as its first entry"),
        ({**WEBHOOK, "model.hook.secret_env": ""}, "model.hook: secret_env is needed with kind webhook, and only then"),
        ({**COMMAND, "model.hook.secret_env": "SECRET"}, "secret_env is needed with kind webhook, and only then"),
        ({**WEBHOOK, "model.hook.secret_env": "my secret"}, "expected the name of an environment variable, not the"),
        ({**WEBHOOK, "model.hook.url": "http://gpu/"}, "expected https://HOST/PATH, or http:// on this machine"),
        ({**WEBHOOK, "model.hook.url": "ftp://gpu/"}, "expected https://HOST/PATH"),
        ({**WEBHOOK, "model.hook.url": "https://me:pass@gpu/"}, "expected no user or password in it"),
        ({"model.hook.kind": "entry_point", "model.hook.entry_point": "retrain"}, "the import path MODULE:FUNCTION"),
        ({**COMMAND, "model.hook.timeout": "30min"}, "model.hook.timeout = 30min: expected less than life.training"),
        ({"model.name": "external", "life.proof": True}, "life.proof = true: expected false with model.name external"),
        ({"admission.forecast_wait": "90min"}, "admission.forecast_wait = 90min: expected a whole number of slots"),
        ({"admission.forecast_wait": "2d"}, "at most schedule.horizon = 1d"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(overrides: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, overrides)
    assert wrong in str(refused.value)


@pytest.mark.parametrize("url", ["https://gpu.example.org:8443/a?b=c", "http://localhost:8000/", "http://[::1]:80/x"])
def test_a_webhook_is_encrypted_or_on_this_machine(url: str) -> None:
    assert load(None, {**WEBHOOK, "model.hook.url": url}).model.hook.url == url


def test_settings_of_a_hook_reach_the_core_whole() -> None:
    settings = load(None, {**COMMAND, "model.hook.timeout": "5min", "model.hook.backoff": "1s"})
    assert settings.model.hook.to_core() == HookSettings(
        kind=HookKind.COMMAND,
        command=("retrain", "--gpu"),
        timeout=timedelta(minutes=5),
        backoff=timedelta(seconds=1),
    )


def test_only_forecasts_that_are_made_elsewhere_are_waited_for() -> None:
    for overrides, slots in (
        ({}, 0),
        ({"model.name": "external"}, 1),
        ({"model.name": "external", "admission.forecast_wait": "0s"}, 0),
    ):
        settings = load(None, overrides)
        schedule = settings.schedule.to_core(ANCHOR)
        assert engine_settings(settings, schedule).admission.forecast_wait == slots


def test_what_forecasts_elsewhere_cannot_be_replayed(tmp_path: Path) -> None:
    request = ReplayRequest(
        data=tmp_path / "none.csv", frequency="1h", horizon="24h", batch="7d", train_window="28d", model="external"
    )
    with pytest.raises(ConfigError, match=r"model\.name = 'external': cannot be replayed"):
        run_replay(request)


# files


def test_a_file_with_forecasts_and_no_observations_holds_forecasts(tmp_path: Path) -> None:
    mapping = ColumnMapping(forecast="forecast", version="version")
    path = tmp_path / "f.csv"
    path.write_text("stream,ts,forecast,version\nIAH,2001-06-08 18:00,12.5,prod-1\nIAH,2001-06-08 19:00,soon,\n")
    rows = read_file(path, mapping)
    assert rows.are_forecasts
    assert rows.version_code is not None
    assert (rows.version_names, rows.version_code.tolist()) == (("prod-1",), [0, -1])
    assert (rows.y[0], rows.y_text, rows.value_column, rows.version_column) == (
        12.5,
        {1: "soon"},
        "forecast",
        "version",
    )


def test_forecasts_without_a_column_for_versions_are_of_one_version(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("stream,ts,forecast\nIAH,2001-06-08 18:00,12.5\n")
    rows = read_file(path, ColumnMapping(forecast="forecast", version="version"))
    assert (rows.version_names, rows.version_code) == (("current",), [0])


def test_a_file_with_both_columns_holds_observations(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("stream,ts,y,forecast\nIAH,2001-06-08 18:00,12.5,99\n")
    rows = read_file(path, ColumnMapping(forecast="forecast", version="version"))
    assert not rows.are_forecasts
    assert rows.y.tolist() == [12.5]


# doctor


@pytest.mark.parametrize(
    ("settings", "ok", "message"),
    [
        (HookSettings(kind=HookKind.COMMAND, command=("sh",)), True, "command /"),
        (HookSettings(kind=HookKind.COMMAND, command=("no-such-program",)), False, "does not exist, or cannot be"),
        (HookSettings(kind=HookKind.WEBHOOK, secret_env="SET"), True, "webhook, signed with environment variable SET"),
        (HookSettings(kind=HookKind.WEBHOOK, secret_env="UNSET"), False, "UNSET (model.hook.secret_env) is not set"),
        (HookSettings(kind=HookKind.ENTRY_POINT, entry_point="json:dumps"), True, "entry point json:dumps"),
        (HookSettings(kind=HookKind.ENTRY_POINT, entry_point="json:train"), False, "has no function 'train'"),
        (HookSettings(kind=HookKind.ENTRY_POINT, entry_point="no_module:train"), False, "cannot be imported"),
    ],
)  # fmt: skip
def test_the_doctor_says_what_is_wrong_with_a_hook(settings: HookSettings, ok: bool, message: str) -> None:
    (check,) = check_hook(settings, {"SET": "secret", "UNSET": ""})
    assert (check.ok, check.name) == (ok, "hook")
    assert message in check.message
    assert "secret" not in check.message.replace("secret_env", "")


def test_without_a_hook_the_doctor_says_nothing_about_one() -> None:
    assert check_hook(HookSettings()) == []
