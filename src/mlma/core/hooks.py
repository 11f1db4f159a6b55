"""What a training hook is told to be, and what it may answer: settings, a reply, and the rules that both obey.

Calling a hook is the adapters' matter; nothing here touches a process or a network.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mlma.core.errors import HookError

CONTRACT = 1
"""Number of the contract that a request names; it changes when an existing field changes its meaning."""

MAX_REPLY_BYTES = 64 << 20
"""Of a reply or of an artifact; a LightGBM model of 60 trees takes 33 kB."""

VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+@-]{0,79}")
NAME_EXPECTED = "1 to 80 letters, digits or ._/+@-, beginning with a letter or a digit"

FIELDS = ("version", "family", "artifact", "path", "cpu_s", "poll")
"""Fields of a reply; every other one is refused, so that a typo cannot be ignored."""


class HookKind(StrEnum):
    """How a training elsewhere is ordered."""

    NONE = "none"  # trainings run here
    COMMAND = "command"
    WEBHOOK = "webhook"
    ENTRY_POINT = "entry_point"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """Where trainings are ordered; of the three ways the one that ``kind`` names is set."""

    kind: HookKind = HookKind.NONE
    command: tuple[str, ...] = ()  # program and arguments
    url: str = ""
    entry_point: str = ""  # MODULE:FUNCTION
    secret_env: str = ""  # name of the environment variable with the secret of a webhook
    timeout: timedelta = timedelta(minutes=10)
    backoff: timedelta = timedelta(seconds=10)  # before the second try; twice as long before each further one

    def wait_before(self, attempt: int) -> float:
        """Seconds before a try, counted from 1.

        Examples
        --------
        >>> [HookSettings().wait_before(attempt) for attempt in (1, 2, 3)]
        [0.0, 10.0, 20.0]
        """
        return self.backoff.total_seconds() * 2 ** (attempt - 2) if attempt > 1 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReply:
    """What a hook answered.

    Attributes
    ----------
    version
        Name under which the forecasts of the new version will arrive; empty: the id that was asked for.
    family
        How the artifact is read; empty: as the settings name the model.
    artifact
        Content of a model; empty where none came, or where it lies at ``path``.
    path
        File with the artifact, on the machine that called.
    cpu_s
        What the training cost, None when the hook does not say.
    poll
        URL where the reply will be found later.
    """

    version: str = ""
    family: str = ""
    artifact: bytes = b""
    path: str = ""
    cpu_s: float | None = None
    poll: str = ""


def parse_reply(content: object) -> HookReply:
    """Check the fields of a reply.

    Parameters
    ----------
    content
        A mapping with any of `FIELDS`; ``artifact`` is bytes, or text in base64.

    Raises
    ------
    HookError
        Naming the field, its value and what is allowed.

    Examples
    --------
    >>> parse_reply({"version": "prod-8", "cpu_s": 42}).version
    'prod-8'
    >>> parse_reply({"artefact": "eA=="})
    Traceback (most recent call last):
    mlma.core.errors.HookError: reply: unknown field 'artefact'; allowed are version, family, artifact, path, ...
    """
    if not isinstance(content, Mapping):
        raise HookError(f"reply: {_quoted(content)}; expected an object with {', '.join(FIELDS)}")
    for name in content:
        if name not in FIELDS:
            raise HookError(f"reply: unknown field {name!r}; allowed are {', '.join(FIELDS)}")
    version = _text(content, "version")
    if version:
        check_version_name(version)
    return HookReply(
        version=version,
        family=_text(content, "family"),
        artifact=_artifact(content.get("artifact")),
        path=_text(content, "path"),
        cpu_s=_seconds(content.get("cpu_s")),
        poll=_text(content, "poll"),
    )


def parse_json(text: bytes) -> HookReply:
    """Reply of JSON text. Raises HookError.

    Examples
    --------
    >>> parse_json(b'{"artifact": "eA=="}').artifact
    b'x'
    """
    try:
        content = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise HookError(f"reply: {_quoted(text.decode(errors='replace'))} is not JSON ({error})") from error
    return parse_reply(content)


def check_version_name(name: str) -> None:
    """Raise HookError unless a version may be called so."""
    if not VERSION_NAME.fullmatch(name):
        raise HookError(f"reply: version = {_quoted(name)}; expected {NAME_EXPECTED}")


def _text(content: Mapping[str, object], field: str) -> str:
    value = content.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise HookError(f"reply: {field} = {_quoted(value)}; expected text")
    return value


def _artifact(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        made = value
    elif isinstance(value, str):
        try:
            made = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise HookError(f"reply: artifact = {_quoted(value)}; expected base64 ({error})") from error
    else:
        raise HookError(f"reply: artifact = {_quoted(value)}; expected base64")
    if len(made) > MAX_REPLY_BYTES:
        raise HookError(f"reply: artifact of {len(made):,} bytes; allowed are {MAX_REPLY_BYTES:,}")
    return made


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise HookError(f"reply: cpu_s = {_quoted(value)}; expected seconds, from 0")


def _quoted(value: object) -> str:
    """Value as an error message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
