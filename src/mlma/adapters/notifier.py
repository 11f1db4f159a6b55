"""Messages to the engineer through Apprise: mail, chat and webhooks, each target one URL.

A target's URL holds its secrets. None of it leaves this file: neither in an error, nor in a log.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from mlma.core.errors import RetryLaterError

if TYPE_CHECKING:
    from apprise import NotifyBase
    from apprise.logger import NotifyLogEntry

_HIDDEN = "***"
_REASON_LENGTH = 200  # characters of a reason: one line in a table
_CAUSE_LENGTH = 80  # characters at the end of an exception, where it says what happened
_SHORTEST_SECRET = 4  # characters; shorter parts of a URL are words such as "no" or "tls"
_CAUSE = "Socket Exception: "  # how Apprise begins the only line that tells the cause, at level DEBUG
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] [^\"'()\]]+")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


class AppriseNotifier:
    """Sends plain text to named targets.

    Parameters
    ----------
    targets
        Apprise URL by name, such as ``{"mail": "mailtos://user:password@example.org"}``. The names are shown
        to people, the URLs never.
    timeout_s
        Seconds that one delivery may take; after them it has failed.

    Examples
    --------
    >>> AppriseNotifier({"mail": "mailtos://ada:secret@example.org"})
    AppriseNotifier(mail)
    """

    def __init__(self, targets: Mapping[str, str], *, timeout_s: float = 20.0) -> None:
        self._urls = dict(targets)
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._urls)})"

    def targets(self) -> Sequence[str]:
        """Names of the configured targets."""
        return tuple(self._urls)

    def problems(self) -> list[str]:
        """One sentence for each target whose URL Apprise does not understand; nothing is sent."""
        _keep_logs_private()
        found = []
        for target in self._urls:
            try:
                self._service(target)
            except RetryLaterError as error:
                found.append(str(error))
        return found

    def send(self, target: str, *, subject: str, text: str) -> None:
        """Deliver a message.

        Raises
        ------
        RetryLaterError
            It was not accepted in time. The reason names the target and holds no part of its URL.
        """
        _keep_logs_private()
        from apprise import Apprise, NotifyFormat  # noqa: PLC0415  0.3 s, only needed to send

        service = self._service(target)
        sender = Apprise(asset=service.asset)
        sender.add(service)
        result = sender.notify(
            body=text,
            title=subject,
            body_format=NotifyFormat.TEXT,
            timeout=self._timeout_s,
            log_level=logging.DEBUG,
        )
        if not result:
            reason = self._reason(result.logs(), self._urls[target])
            raise RetryLaterError(f"target {target}: not delivered: {reason}")

    def _service(self, target: str) -> "NotifyBase":
        from apprise import Apprise, AppriseAsset, PersistentStoreMode  # noqa: PLC0415

        url = self._urls.get(target)
        if url is None:
            raise RetryLaterError(f"target {target}: no such target is configured")
        asset = AppriseAsset(
            app_id="mlma", app_desc="mlma", storage_mode=PersistentStoreMode.MEMORY, service_timeout=self._timeout_s
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # loading its mail plugin probes the old imghdr
            service = Apprise.instantiate(url, asset=asset)
        if service is None:
            raise RetryLaterError(f"target {target}: Apprise does not understand its URL")
        return service

    def _reason(self, entries: Iterable["NotifyLogEntry"], url: str) -> str:
        """Say on one line what Apprise complained about, and the cause that it hides among its debug lines."""
        told, causes = [], []
        for entry in entries:
            if entry.message.startswith(_CAUSE):
                causes.append(redact(entry.message.removeprefix(_CAUSE), url))
            elif logging.getLevelNamesMapping().get(entry.level, 0) >= logging.WARNING:
                told.append(redact(entry.message, url))
        told = list(dict.fromkeys(told)) or [f"no answer within {self._timeout_s:g} s"]
        if causes:
            system_error = _SYSTEM_ERROR.search(causes[-1])
            told.append(f"({system_error[0] if system_error else causes[-1][-_CAUSE_LENGTH:]})")
        text = " ".join(" ".join(told).split())
        return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."


def redact(text: str, url: str) -> str:
    """Text without any part of a URL: user, password, host, path, and values of its query.

    Examples
    --------
    >>> redact("535 user ada of mail.example.org: bad password", "mailto://ada:pw@mail.example.org")
    '535 user *** of ***: bad password'
    """
    secrets = sorted(_secrets(url), key=len, reverse=True)
    hidden = _ADDRESS.sub(_HIDDEN, text)
    for secret in secrets:
        whole = rf"(?<!\w){re.escape(secret)}(?!\w)" if len(secret) < _SHORTEST_SECRET else re.escape(secret)
        hidden = re.sub(whole, _HIDDEN, hidden, flags=re.IGNORECASE)
    return hidden


def _secrets(url: str) -> set[str]:
    """Parts of a URL that must not be shown, as they are written and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:  # what cannot be taken apart is hidden word by word
        return {word for word in re.split(r"[/:@?&=,;#]+", url) if len(word) >= _SHORTEST_SECRET}
    credentials = {parts.username, parts.password}
    place = parts.netloc.rpartition("@")[2]
    words = {parts.netloc, place, place.rpartition(":")[0] or place, parts.path, parts.query, parts.fragment}
    words |= set(re.split(r"[/,;]", parts.path)) | {place.rpartition(":")[2]}
    words |= {value for _, value in parse_qsl(parts.query)} | {
        value.partition("=")[2] for value in parts.query.split("&")
    }
    long = {word for word in words if len(word) >= _SHORTEST_SECRET}
    written = {word for word in credentials | long if word}
    return written | {unquote(word) for word in written}


def _keep_logs_private() -> None:
    """Keep the lines of Apprise and its HTTP client out of everybody's logs: they name addresses.

    Apprise's own lines are captured while sending, and become the reason after they were redacted. Set for
    good, since a delivery that timed out may still write a line later.
    """
    apprise = logging.getLogger("apprise")
    apprise.propagate = False
    apprise.setLevel(logging.DEBUG)  # the cause of a failure is told at this level
    http = logging.getLogger("urllib3")
    if http.level < logging.ERROR:
        http.setLevel(logging.ERROR)
