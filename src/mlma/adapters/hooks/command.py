"""A training ordered from a program: the request on its standard input, the reply on its standard output."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from mlma.adapters.hooks.base import SettingsHook
from mlma.adapters.hooks.files import with_artifact
from mlma.core.durations import format_duration
from mlma.core.errors import HookError
from mlma.core.hooks import MAX_REPLY_BYTES, HookReply, parse_json

TAIL_BYTES = 400
"""Of standard error, in the message of a command that failed."""


@dataclass(frozen=True, slots=True)
class CommandHook(SettingsHook):
    """Runs a program by its list of arguments; no shell reads them."""

    def call(self, request: Mapping[str, object]) -> HookReply:
        """Run the program once.

        Raises
        ------
        HookError
            When it cannot be started, takes too long, ends with another code than 0, or answers something else than
            a path or JSON.
        """
        # Files instead of pipes: a program that does not read, or writes without end, cannot block anything.
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            code = self._run(asked, said, wrong)
            if code:
                ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise HookError(f"command {self._name} {ended}{_tail(wrong)}")
            return with_artifact(_reply(said, self._name))

    @property
    def _name(self) -> str:
        return repr(self.settings.command[0])

    def _run(self, asked: IO[bytes], said: IO[bytes], wrong: IO[bytes]) -> int:
        try:
            process = subprocess.Popen(  # noqa: S603  the engineer's own command, by its list of arguments
                list(self.settings.command), stdin=asked, stdout=said, stderr=wrong, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise HookError(f"command {self._name} cannot be started: {error}") from error
        with process:
            try:
                return process.wait(self.settings.timeout.total_seconds())
            except subprocess.TimeoutExpired:
                raise HookError(
                    f"command {self._name} did not end within {format_duration(self.settings.timeout)}{_tail(wrong)}"
                ) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with whatever it started


def _reply(said: IO[bytes], name: str) -> HookReply:
    """Reply on standard output: a JSON object, the path of an artifact, or nothing."""
    said.seek(0)
    text = said.read(MAX_REPLY_BYTES + 1)
    if len(text) > MAX_REPLY_BYTES:
        raise HookError(f"command {name}: its standard output has more than {MAX_REPLY_BYTES:,} bytes")
    text = text.strip()
    if not text:
        return HookReply()
    if text.startswith(b"{"):
        return parse_json(text)
    if b"\n" in text:
        raise HookError(
            f"command {name}: its standard output begins with {text.splitlines()[0][:60].decode(errors='replace')!r}; "
            "expected a JSON object, or one line with the path of the artifact"
        )
    return HookReply(path=text.decode(errors="replace"))


def _tail(wrong: IO[bytes]) -> str:
    """End of standard error, for a message."""
    size = wrong.seek(0, os.SEEK_END)
    wrong.seek(max(0, size - TAIL_BYTES))
    text = " ".join(wrong.read().decode(errors="replace").split())
    return f"; its standard error ends: {text}" if text else ""
