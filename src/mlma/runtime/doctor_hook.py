"""What can be wrong with a training hook before it is ever called. Nothing is started, sent or trained."""

import importlib
import os
import shutil
from collections.abc import Mapping

from mlma.core.hooks import HookKind, HookSettings
from mlma.runtime.doctor import Check


def check_hook(settings: HookSettings, environment: Mapping[str, str] | None = None) -> list[Check]:
    """One check of the hook that the settings name, none where trainings run here.

    Parameters
    ----------
    environment
        That of this process unless given.
    """
    found = os.environ if environment is None else environment
    match settings.kind:
        case HookKind.NONE:
            return []
        case HookKind.COMMAND:
            return [_command(settings.command[0])]
        case HookKind.WEBHOOK:
            return [_secret(settings, found)]
        case HookKind.ENTRY_POINT:
            return [_entry_point(settings.entry_point)]


def _command(program: str) -> Check:
    path = shutil.which(program)
    return Check(
        name="hook",
        ok=path is not None,
        message=f"command {path}" if path else f"command {program!r} does not exist, or cannot be executed",
        remedy="correct model.hook.command (its first entry is a program on the PATH, or a path), or chmod +x it",
    )


def _secret(settings: HookSettings, environment: Mapping[str, str]) -> Check:
    is_set = bool(environment.get(settings.secret_env))
    variable = f"environment variable {settings.secret_env} (model.hook.secret_env)"
    return Check(
        name="hook",
        ok=is_set,
        message=f"webhook, signed with {variable}" if is_set else f"{variable} is not set",
        remedy=f"set {settings.secret_env} where mlma run is started; the receiver needs the same secret",
    )


def _entry_point(name: str) -> Check:
    module_name, _, function_name = name.partition(":")
    wrong = ""
    try:
        if not callable(getattr(importlib.import_module(module_name), function_name, None)):
            wrong = f"module {module_name!r} has no function {function_name!r}"
    except (ImportError, SyntaxError, ValueError) as error:
        wrong = f"module {module_name!r} cannot be imported: {error}"
    return Check(
        name="hook",
        ok=not wrong,
        message=f"entry point {name!r}: {wrong}" if wrong else f"entry point {name}",
        remedy="correct model.hook.entry_point, or install the module where mlma run is started",
    )
