"""Section about trainings elsewhere: who is asked for a new version, and how."""

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mlma.config.fields import IMPORT_PATH, AnyDuration, Duration, Section
from mlma.core.hooks import HookKind, HookSettings

_HOOK = HookSettings()

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Hosts to which a window may go without encryption."""

NEEDED = {HookKind.COMMAND: "command", HookKind.WEBHOOK: "url", HookKind.ENTRY_POINT: "entry_point"}
"""The setting that a kind needs; those of the other kinds must be empty."""


def _url(value: str) -> str:
    if not value:
        return value
    expected = "expected https://HOST/PATH, or http:// on this machine (localhost, 127.0.0.1)"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(expected) from None
    if not host or parts.scheme not in {"http", "https"} or (parts.scheme == "http" and host not in LOCAL):
        raise ValueError(expected)
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no user or password in it; the request is signed (secret_env)")
    return value


def _entry_point(value: str) -> str:
    if value and not re.fullmatch(IMPORT_PATH, value):
        raise ValueError("expected the import path MODULE:FUNCTION")
    return value


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].strip():
        raise ValueError("expected a program as its first entry")
    return value


def _variable(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z_]\w*", value):
        raise ValueError("expected the name of an environment variable, not the secret itself")
    return value


class HookSection(Section):
    """Trainings elsewhere."""

    kind: HookKind = Field(
        _HOOK.kind, description="none: trainings run here; else command, webhook or entry_point: who is asked for one"
    )
    command: Annotated[tuple[str, ...], AfterValidator(_command)] = Field(
        (), description="program and arguments as a list; no shell reads them"
    )
    url: Annotated[str, AfterValidator(_url)] = Field(
        "", description="address of a webhook: https, or http on this machine"
    )
    entry_point: Annotated[str, AfterValidator(_entry_point)] = Field(
        "", description="MODULE:FUNCTION that takes the request and returns the reply"
    )
    secret_env: Annotated[str, AfterValidator(_variable)] = Field(
        "", description="name of the environment variable with the secret that signs a webhook's requests"
    )
    timeout: Duration = Field(_HOOK.timeout, description="how long one try may take; less than life.training_deadline")
    backoff: AnyDuration = Field(
        _HOOK.backoff, description="pause before the second try, twice as long before each further one; from 0s"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind, name in NEEDED.items():
            if kind is self.kind and not getattr(self, name):
                raise ValueError(f"kind {kind} needs {name}")
            if kind is not self.kind and getattr(self, name):
                raise ValueError(f"{name} is set, but kind is {self.kind}; expected kind {kind}, or no {name}")
        if (self.kind is HookKind.WEBHOOK) != bool(self.secret_env):
            raise ValueError("secret_env is needed with kind webhook, and only then")
        return self

    def to_core(self) -> HookSettings:
        """Settings of the core."""
        return HookSettings(**{name: getattr(self, name) for name in type(self).model_fields})
