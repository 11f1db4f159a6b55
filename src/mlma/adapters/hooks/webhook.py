"""A training ordered by HTTP: a signed POST, whose reply comes at once or is asked for until it is there."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO
from urllib.parse import urljoin, urlsplit

from mlma.adapters.hooks.base import SettingsHook
from mlma.adapters.hooks.signing import KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from mlma.core.durations import format_duration
from mlma.core.errors import HookError
from mlma.core.hooks import MAX_REPLY_BYTES, HookReply, parse_json

POLL_S = 5.0
"""Between two questions for a reply, unless Retry-After says something else."""
POLL_RANGE_S = (0.05, 60.0)
CHUNK_BYTES = 1 << 20
EXCERPT_BYTES = 200
"""Of the body of an error, in the message."""
LOCAL = ("localhost", "127.0.0.1", "::1")
"""Hosts that are reached without a proxy."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: Message


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the signed window of a stream to an address that nobody has set."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow nothing."""


@dataclass(frozen=True, slots=True)
class WebhookHook(SettingsHook):
    """Posts the request; the secret is read from the environment when it is needed and kept nowhere."""

    def call(self, request: Mapping[str, object]) -> HookReply:
        """Post once; while 202 names an address, ask there until the reply is there.

        Raises
        ------
        HookError
            When the secret is missing, the server cannot be reached, takes too long, refuses, redirects, or answers
            something else than the fields of a reply.
        """
        until = time.monotonic() + self.settings.timeout.total_seconds()
        key = str(request["id"])
        url = self.settings.url
        answer = self._ask("POST", url, json.dumps(request).encode(), key, until)
        while True:
            reply = _reply(answer)
            poll = reply.poll or (answer.headers.get("Location") or "")
            if answer.status != http.client.ACCEPTED or not poll:
                return reply
            url = _same_server(self.settings.url, urljoin(url, poll))
            self._pause(answer, until)
            answer = self._ask("GET", url, b"", key, until)

    def _pause(self, answer: _Answer, until: float) -> None:
        told = answer.headers.get("Retry-After", "")
        least, most = POLL_RANGE_S
        wait_s = min(most, max(least, float(told))) if told.isdigit() else POLL_S
        if time.monotonic() + wait_s >= until:
            raise self._too_late()
        time.sleep(wait_s)

    def _ask(self, method: str, url: str, body: bytes, key: str, until: float) -> _Answer:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise self._too_late()
        asked = urllib.request.Request(  # noqa: S310  the scheme is checked by the settings
            url, data=body if method == "POST" else None, method=method, headers=self._headers(body, key)
        )
        try:
            with _opener(url).open(asked, timeout=left_s) as response:
                return _Answer(response.status, self._body(response, until), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                raise HookError(_refused(url, error)) from None
        except TimeoutError:
            raise self._too_late() from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.URLError) and isinstance(error.reason, TimeoutError):
                raise self._too_late() from None
            raise HookError(f"webhook {_shown(url)} cannot be reached: {error}") from error

    def _headers(self, body: bytes, key: str) -> dict[str, str]:
        secret = os.environ.get(self.settings.secret_env, "")
        if not secret:
            raise HookError(f"environment variable {self.settings.secret_env} (model.hook.secret_env) is not set")
        timestamp = str(int(time.time()))
        return {
            "Content-Type": "application/json",
            "User-Agent": "mlma",
            KEY_HEADER: key,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(secret.encode(), timestamp, body),
        }

    def _body(self, response: http.client.HTTPResponse, until: float) -> bytes:
        """Content of an answer; neither endless nor endlessly slow."""
        parts, size = [], 0
        while part := response.read1(CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise HookError(
                    f"webhook {_shown(self.settings.url)}: the reply has more than {MAX_REPLY_BYTES:,} bytes"
                )
            if time.monotonic() > until:
                raise self._too_late()
        return b"".join(parts)

    def _too_late(self) -> HookError:
        within = format_duration(self.settings.timeout)
        return HookError(f"webhook {_shown(self.settings.url)} gave no reply within {within}")


def _reply(answer: _Answer) -> HookReply:
    reply = parse_json(answer.body) if answer.body.strip() else HookReply()
    if reply.path:
        raise HookError(f"reply: path = {reply.path!r}; a webhook sends the artifact itself, in base64")
    return reply


def _opener(url: str) -> urllib.request.OpenerDirector:
    direct = [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in LOCAL else []
    return urllib.request.build_opener(_NoRedirects, *direct)


def _refused(url: str, error: urllib.error.HTTPError) -> str:
    if error.code in range(300, 400):
        return f"webhook {_shown(url)} answered {error.code}: redirects are not followed; set the final address"
    text = " ".join(error.read(EXCERPT_BYTES).decode(errors="replace").split())
    return f"webhook {_shown(url)} answered {error.code} {error.reason}{f': {text}' if text else ''}"


def _same_server(url: str, poll: str) -> str:
    """Return the address to ask at, which belongs to the server that was asked first. Raises HookError."""
    if urlsplit(url)[:2] != urlsplit(poll)[:2]:
        raise HookError(f"reply: poll = {_shown(poll)!r}; expected an address of {'://'.join(urlsplit(url)[:2])}")
    return poll


def _shown(url: str) -> str:
    """Return an address without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
