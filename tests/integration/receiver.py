"""Who retrains elsewhere, in the tests of hooks: an HTTP server on this machine that keeps what it was asked."""

import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "correct horse"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_signed(self) -> bool:
        content = self.headers["x-mlma-timestamp"].encode() + b"." + self.body
        made = "sha256=" + hmac.new(SECRET.encode(), content, "sha256").hexdigest()
        return hmac.compare_digest(made, self.headers["x-mlma-signature"])


@dataclass
class Answer:
    """What the server says."""

    status: int = 200
    content: object = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        if self.content is None:
            return b""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


@dataclass
class Receiver:
    """A running server; ``answer`` may be replaced at any time."""

    url: str
    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def receiving(answer: Callable[[Asked], Answer] = lambda asked: Answer()) -> Iterator[Receiver]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(length),
            )
            receiver.asked.append(asked)
            made = receiver.answer(asked)
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(made.body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked has given up
                self.wfile.write(made.body)

        do_GET = do_POST  # noqa: N815  the name is that of the library

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(url=f"http://127.0.0.1:{server.server_port}/retrain", answer=answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
