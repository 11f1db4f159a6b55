"""Messages that really arrive: at an SMTP server and an HTTP endpoint on this machine, or fail without a secret."""

import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller

from mlma.adapters.notifier import AppriseNotifier, redact
from mlma.core.errors import RetryLaterError
from mlma.runtime.ports import Notifier

TEXT = "mlma digest\n\nHEALED    none\n  1. IAH: loss 4.1 -> 3.2 (äöü)\n"
SECRET = "s3cr3t-t0ken"


class Inbox:
    """What an SMTP server received."""

    def __init__(self):
        self.messages = []

    async def handle_DATA(self, server, session, envelope):
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 accepted"


class Endpoint(ThreadingHTTPServer):
    """An HTTP endpoint that notes what was posted and answers with ``status``."""

    daemon_threads = True

    def __init__(self, port=0):
        self.posts, self.status, self.answer = [], 200, threading.Event()
        self.answer.set()
        super().__init__(("127.0.0.1", port), Answer)

    @property
    def port(self):
        return self.server_address[1]


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body)))
        self.server.answer.wait(10)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    handler = Inbox()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield handler, controller.port
    controller.stop()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a program's own log would hold at its most talkative; caplog would also listen to private loggers."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mail_url(port):
    return f"mailto://127.0.0.1:{port}?from=mlma@example.org&to=ada@example.org&mode=insecure"


def refused(notifier, target):
    with pytest.raises(RetryLaterError) as caught:
        notifier.send(target, subject="mlma: 2 need you", text=TEXT)
    return str(caught.value)


def test_mail_arrives_with_subject_and_plain_text(inbox):
    handler, port = inbox
    notifier: Notifier = AppriseNotifier({"mail": mail_url(port)})
    notifier.send("mail", subject="mlma: 2 need you", text=TEXT)
    (message,) = handler.messages
    assert message["Subject"] == "mlma: 2 need you"
    assert message["To"] == "ada@example.org"
    assert message.get_content_type() == "text/plain"
    assert message.get_content().splitlines() == TEXT.splitlines()


def test_json_arrives_at_the_endpoint(endpoint):
    notifier = AppriseNotifier({"hook": f"json://127.0.0.1:{endpoint.port}/{SECRET}"})
    notifier.send("hook", subject="mlma: 2 need you", text=TEXT)
    ((path, body),) = endpoint.posts
    assert path.strip("/") == SECRET
    assert body["title"] == "mlma: 2 need you"
    assert body["message"].splitlines() == TEXT.splitlines()


def test_targets_are_named_in_their_order():
    notifier = AppriseNotifier({"mail": "mailto://a:b@example.org", "hook": "json://example.org"})
    assert notifier.targets() == ("mail", "hook")


@pytest.mark.parametrize("status", [403, 500])
def test_a_refused_message_is_tried_later(endpoint, status):
    endpoint.status = status
    reason = refused(AppriseNotifier({"hook": f"json://127.0.0.1:{endpoint.port}/{SECRET}"}), "hook")
    assert reason.startswith("target hook: not delivered: ")
    assert f"error={status}" in reason


@pytest.mark.parametrize(
    "url",
    [
        "json://ada:{secret}@127.0.0.1:{port}/path/{secret}?+X-Token={secret}",
        "mailto://ada:{secret}@127.0.0.1:{port}?from=mlma@example.org&to=ada@example.org&mode=insecure",
        "slack://{secret}/not/a/valid/url",
        "nonsense://ada:{secret}@127.0.0.1:{port}",
        "{secret}",
    ],
)
def test_no_part_of_a_url_is_shown_when_it_fails(url, logged, capfd):
    port = free_port()
    logging.getLogger("somebody").debug("the log is open")
    notifier = AppriseNotifier({"team": url.format(secret=SECRET, port=port)})
    shown = refused(notifier, "team") + repr(notifier) + logged.getvalue() + "".join(capfd.readouterr())
    assert "target team: " in shown
    assert "the log is open" in shown
    for hidden in (SECRET, "127.0.0.1", str(port), "ada@example.org"):
        assert hidden not in shown


def test_no_part_of_a_url_is_logged_when_it_succeeds(endpoint, logged, capfd):
    AppriseNotifier({"hook": f"json://127.0.0.1:{endpoint.port}/{SECRET}"}).send("hook", subject="s", text=TEXT)
    assert SECRET not in logged.getvalue() + "".join(capfd.readouterr())


def test_a_server_that_is_down_is_named_as_the_cause():
    reason = refused(AppriseNotifier({"hook": f"json://127.0.0.1:{free_port()}"}), "hook")
    assert "Connection refused" in reason


def test_a_mail_server_that_is_down_is_named_as_the_cause():
    assert "Connection refused" in refused(AppriseNotifier({"mail": mail_url(free_port())}), "mail")


def test_a_server_that_never_answers_fails_in_time(endpoint):
    endpoint.answer.clear()
    notifier = AppriseNotifier({"hook": f"json://127.0.0.1:{endpoint.port}/{SECRET}"}, timeout_s=0.2)
    assert "target hook: not delivered: " in refused(notifier, "hook")
    endpoint.answer.set()


def test_an_unknown_target_is_a_reason_to_retry():
    assert refused(AppriseNotifier({}), "mail") == "target mail: no such target is configured"


def test_problems_name_the_targets_that_cannot_work():
    notifier = AppriseNotifier({"mail": "mailto://a:b@example.org", "typo": f"jsn://{SECRET}"})
    assert notifier.problems() == ["target typo: Apprise does not understand its URL"]


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("login of ada failed", "mailto://ada:pw@example.org", "login of *** failed"),
        ("bad pw, not power", "mailto://ada:pw@example.org", "bad ***, not power"),
        ("p@ss/word was refused", "json://u:p%40ss%2Fword@host", "*** was refused"),
        ("see https://hooks.example.org/T0/B1", "json://x", "see ***"),
        ("channel T0KEN/b0token", "slack://T0KEN/b0token", "channel ******"),
        ("key abcd1234", "json://host/?key=abcd1234&verify=no", "key ***"),
        ("host ada0 with s3cret", "json://ada0:s3cret@[broken", "host *** with ***"),
        ("no recipients", "json://host/?verify=no", "no recipients"),
    ],
)
def test_redaction_takes_out_every_part_of_the_url(text, url, shown):
    assert redact(text, url) == shown
