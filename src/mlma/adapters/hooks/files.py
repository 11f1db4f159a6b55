"""The artifact of a reply that names a file on this machine."""

from dataclasses import replace
from pathlib import Path

from mlma.core.errors import HookError
from mlma.core.hooks import MAX_REPLY_BYTES, HookReply


def with_artifact(reply: HookReply) -> HookReply:
    """Return the reply with the content of the file that it names.

    Raises
    ------
    HookError
        When the file cannot be read or is too large, or the reply holds an artifact as well.
    """
    if not reply.path:
        return reply
    if reply.artifact:
        raise HookError("reply: holds both artifact and path; expected one of them")
    path = Path(reply.path)
    try:
        if not path.is_file():
            raise HookError(f"reply: path = {reply.path!r}: expected a file with the artifact")
        with path.open("rb") as file:
            content = file.read(MAX_REPLY_BYTES + 1)
    except (OSError, ValueError) as error:
        raise HookError(f"reply: path = {reply.path!r}: cannot be read: {error}") from error
    if len(content) > MAX_REPLY_BYTES:
        raise HookError(f"reply: path = {reply.path!r}: more than {MAX_REPLY_BYTES:,} bytes")
    if not content:
        raise HookError(f"reply: path = {reply.path!r}: is empty")
    return replace(reply, artifact=content, path="")
