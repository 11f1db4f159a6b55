"""A training ordered from a Python function: it takes the request and returns the reply."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlma.adapters.hooks.base import SettingsHook
from mlma.adapters.hooks.files import with_artifact
from mlma.core.errors import HookError
from mlma.core.hooks import HookReply, parse_reply


@dataclass(frozen=True, slots=True)
class EntryPointHook(SettingsHook):
    """Calls ``MODULE:FUNCTION`` in the process of the worker. It cannot be interrupted there."""

    def call(self, request: Mapping[str, object]) -> HookReply:
        """Call the function once.

        Raises
        ------
        HookError
            When there is no such function, or it returned something else than the fields of a reply, the bytes of an
            artifact, its path, or None. What it raises itself is not caught.
        """
        made = function_of(self.settings.entry_point)(dict(request))
        if made is None:
            return HookReply()
        if isinstance(made, (bytes, bytearray)):
            made = {"artifact": bytes(made)}
        elif isinstance(made, str):
            made = {"path": made}
        return with_artifact(parse_reply(made))


def function_of(name: str) -> Callable[[dict[str, object]], Any]:
    """Return the function that ``MODULE:FUNCTION`` names.

    Raises
    ------
    HookError
        When the module cannot be imported, or has nothing of that name that can be called.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise HookError(
            f"entry point {name!r}: module {module_name!r} cannot be imported ({error}); for a file of your own, start "
            "mlma with PYTHONPATH set to its folder"
        ) from error
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        raise HookError(f"entry point {name!r}: module {module_name!r} has no function {function_name!r}")
    made: Callable[[dict[str, object]], Any] = function
    return made
