"""Hooks translate: a request goes out once and whole, a reply comes back checked, whatever goes wrong has a name."""

import base64
import hmac
import json
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mlma.adapters.hooks import command, files, webhook
from mlma.adapters.hooks.making import hook_of
from mlma.adapters.hooks.signing import sign
from mlma.core import hooks
from mlma.core.errors import HookError
from mlma.core.hooks import HookKind, HookReply, HookSettings, parse_json, parse_reply
from tests.integration.receiver import SECRET, Answer, Asked, Receiver, receiving

FUNCTIONS = "tests.unit.runtime.hook_functions"
REQUEST = {"id": "train-3-41-0", "version": "3-41-0", "window": {"values": [1.5, None]}}


# replies


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"not json", "reply: 'not json' is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[1]", r"reply: \[1\]; expected an object with version, family, artifact, path, cpu_s, poll"),
        (b'{"artefact": "x"}', "unknown field 'artefact'; allowed are version, family, artifact, path, cpu_s, poll"),
        (b'{"version": 8}', "reply: version = 8; expected text"),
        (b'{"version": "a b"}', "reply: version = 'a b'; expected 1 to 80 letters, digits or"),
        (b'{"version": "' + b"v" * 81 + b'"}', "expected 1 to 80 letters"),
        (b'{"artifact": "%%"}', "reply: artifact = '%%'; expected base64"),
        (b'{"artifact": 5}', "reply: artifact = 5; expected base64"),
        (b'{"cpu_s": -1}', "reply: cpu_s = -1; expected seconds, from 0"),
        (b'{"cpu_s": NaN}', "reply: cpu_s = nan; expected seconds"),
        (b'{"cpu_s": true}', "reply: cpu_s = True; expected seconds"),
    ],
)
def test_a_reply_that_cannot_be_used_says_which_field_holds_what_and_what_is_allowed(text: bytes, wrong: str) -> None:
    with pytest.raises(HookError, match=wrong):
        parse_json(text)


def test_a_reply_with_every_field_is_read() -> None:
    told = {"version": "prod-8", "family": "ridge", "artifact": "eA==", "path": "", "cpu_s": 3, "poll": "/later"}
    assert parse_json(json.dumps(told).encode()) == HookReply(
        version="prod-8", family="ridge", artifact=b"x", cpu_s=3.0, poll="/later"
    )


def test_a_huge_artifact_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (hooks, files):
        monkeypatch.setattr(module, "MAX_REPLY_BYTES", 10)
    with pytest.raises(HookError, match="artifact of 11 bytes; allowed are 10"):
        parse_reply({"artifact": b"x" * 11})
    (tmp_path / "model").write_bytes(b"x" * 11)
    with pytest.raises(HookError, match="more than 10 bytes"):
        files.with_artifact(HookReply(path=str(tmp_path / "model")))


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_an_artifact_that_is_not_there_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HookError, match=f"reply: path = '{path}': (is empty|expected a file with the artifact)"):
        files.with_artifact(HookReply(path=str(path)))


# commands


def ran(code: str, *arguments: str, timeout_s: float = 20) -> HookReply:
    """What a small Python program answers."""
    settings = HookSettings(
        kind=HookKind.COMMAND,
        command=(sys.executable, "-S", "-c", code, *arguments),
        timeout=timedelta(seconds=timeout_s),
    )
    made = hook_of(settings)
    assert made is not None
    return made.call(REQUEST)


def test_a_command_reads_the_request_and_answers_in_json() -> None:
    code = "import json, sys; print(json.dumps({'version': json.load(sys.stdin)['version'] + sys.argv[1]}))"
    assert ran(code, "-gpu").version == "3-41-0-gpu"


def test_a_command_may_answer_with_the_path_of_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "a model").write_bytes(b"tree\n")
    assert ran("import sys; print(sys.argv[1])", str(tmp_path / "a model")).artifact == b"tree\n"


def test_a_command_that_says_nothing_has_accepted() -> None:
    assert ran("pass") == HookReply()


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("import sys; sys.exit('no GPU is free')", "ended with exit code 1; its standard error ends: no GPU is free"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
        (
            "print('loading'); print('done')",
            "its standard output begins with 'loading'; expected a JSON object, or one",
        ),
        ("print('{')", "is not JSON"),
        ("print('/no/such/file')", "expected a file with the artifact"),
    ],
)
def test_a_command_that_fails_says_how(code: str, wrong: str) -> None:
    with pytest.raises(HookError, match=wrong):
        ran(code)


def test_of_a_long_standard_error_the_end_is_told() -> None:
    with pytest.raises(HookError) as failed:
        ran("import sys; sys.stderr.write('x' * 100_000 + ' the end'); sys.exit(3)")
    assert str(failed.value).endswith("xxx the end")
    assert len(str(failed.value)) < 2 * command.TAIL_BYTES


def is_running(pid: int) -> bool:
    """Whether a process is there and is not only waiting to be noticed as dead."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_a_command_that_takes_too_long_is_ended_with_its_children() -> None:
    made = hook_of(
        HookSettings(
            kind=HookKind.COMMAND,
            command=("sh", "-c", "sleep 300 & echo $! >&2; wait"),
            timeout=timedelta(seconds=0.3),
        )
    )
    assert made is not None
    with pytest.raises(
        HookError, match=r"command 'sh' did not end within 0\.3s; its standard error ends: \d+$"
    ) as failed:
        made.call(REQUEST)
    child, until = int(str(failed.value).split()[-1]), time.monotonic() + 5
    while is_running(child) and time.monotonic() < until:
        pass
    assert not is_running(child)


def test_a_command_that_does_not_exist_is_named() -> None:
    made = hook_of(HookSettings(kind=HookKind.COMMAND, command=("no-such-program",)))
    assert made is not None
    with pytest.raises(HookError, match=r"command 'no-such-program' cannot be started: .*No such file"):
        made.call(REQUEST)


def test_a_command_with_endless_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_REPLY_BYTES", 100)
    with pytest.raises(HookError, match="its standard output has more than 100 bytes"):
        ran("print('x' * 101)")


# webhooks


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("RETRAIN_SECRET", SECRET)
    with receiving() as running:
        yield running


def posted(receiver: Receiver, *, timeout_s: float = 10) -> HookReply:
    settings = HookSettings(
        kind=HookKind.WEBHOOK, url=receiver.url, secret_env="RETRAIN_SECRET", timeout=timedelta(seconds=timeout_s)
    )
    made = hook_of(settings)
    assert made is not None
    return made.call(REQUEST)


def test_a_webhook_posts_the_request_signed_with_its_time_under_the_id_of_the_training(receiver: Receiver) -> None:
    receiver.answer = lambda asked: Answer(content={"version": "prod-8"})
    assert posted(receiver).version == "prod-8"
    (asked,) = receiver.asked
    assert (asked.method, asked.json) == ("POST", REQUEST)
    assert asked.headers["idempotency-key"] == "train-3-41-0"
    assert asked.headers["content-type"] == "application/json"
    assert abs(int(asked.headers["x-mlma-timestamp"]) - time.time()) < 60
    assert asked.is_signed
    assert SECRET not in str(asked.headers) + asked.body.decode()


def test_a_signature_covers_the_time_and_every_byte_of_the_body(receiver: Receiver) -> None:
    posted(receiver)
    (asked,) = receiver.asked
    for changed in (
        Asked("POST", "/", {**asked.headers, "x-mlma-timestamp": "1"}, asked.body),
        Asked("POST", "/", asked.headers, asked.body + b" "),
        Asked("POST", "/", {**asked.headers, "x-mlma-signature": "sha256=" + "0" * 64}, asked.body),
    ):
        assert not changed.is_signed


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_without_a_body_is_an_acceptance(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda asked: Answer(status=status)
    assert posted(receiver) == HookReply()


@pytest.mark.parametrize("told", ["body", "header"])
def test_a_reply_that_comes_later_is_asked_for_where_202_says(receiver: Receiver, told: str) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "GET" and len(receiver.asked) > 3:
            return Answer(content={"artifact": base64.b64encode(b"model").decode()})
        place = {"content": {"poll": "/jobs/7"}} if told == "body" else {"headers": {"Location": "/jobs/7"}}
        made = Answer(status=202, **place)  # type: ignore[arg-type]
        made.headers["Retry-After"] = "0"
        return made

    receiver.answer = answer
    assert posted(receiver).artifact == b"model"
    assert [(asked.method, asked.path) for asked in receiver.asked] == [("POST", "/retrain"), *[("GET", "/jobs/7")] * 3]
    assert all(asked.is_signed for asked in receiver.asked)
    assert {asked.headers["idempotency-key"] for asked in receiver.asked} == {"train-3-41-0"}


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (Answer(500, b"out of memory\n"), "answered 500 Internal Server Error: out of memory"),
        (Answer(401), "answered 401 Unauthorized$"),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), "answered 302: redirects are not followed"),
        (Answer(307, headers={"Location": "/elsewhere"}), "answered 307: redirects are not followed"),
        (Answer(200, b"<html>"), "reply: '<html>' is not JSON"),
        (Answer(200, {"path": "/etc/passwd"}), "a webhook sends the artifact itself, in base64"),
        (
            Answer(202, {"poll": "http://example.org/jobs/7"}),
            "reply: poll = 'http://example.org/jobs/7'; expected an address of",
        ),
        (Answer(202, {"poll": "file:///etc/passwd"}), "expected an address of http://127.0.0.1"),
    ],
)
def test_an_answer_that_is_no_reply_fails_by_name_and_is_asked_for_once(
    receiver: Receiver, answer: Answer, wrong: str
) -> None:
    receiver.answer = lambda asked: answer
    with pytest.raises(HookError, match=wrong):
        posted(receiver)
    assert len(receiver.asked) == 1


def test_a_webhook_that_takes_too_long_is_given_up(receiver: Receiver) -> None:
    receiver.answer = lambda asked: Answer(202, {"poll": "/jobs/7"}, headers={"Retry-After": "0"})
    began = time.monotonic()
    with pytest.raises(HookError, match=r"webhook http://127.0.0.1:\d+/retrain gave no reply within 0.2s"):
        posted(receiver, timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_a_server_that_does_not_answer_is_given_up(receiver: Receiver) -> None:
    def answer(asked: Asked) -> Answer:
        time.sleep(0.4)
        return Answer()

    receiver.answer = answer
    with pytest.raises(HookError, match=r"gave no reply within 0\.1s"):
        posted(receiver, timeout_s=0.1)


def test_a_reply_without_end_is_refused(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "MAX_REPLY_BYTES", 100)
    receiver.answer = lambda asked: Answer(200, b" " * 101)
    with pytest.raises(HookError, match="the reply has more than 100 bytes"):
        posted(receiver)


def test_a_server_that_is_not_there_is_named_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_SECRET", SECRET)
    settings = HookSettings(
        kind=HookKind.WEBHOOK, url="http://127.0.0.1:9/retrain?token=hidden", secret_env="RETRAIN_SECRET"
    )
    made = hook_of(settings)
    assert made is not None
    with pytest.raises(HookError, match=r"webhook http://127\.0\.0\.1:9/retrain cannot be reached") as failed:
        made.call(REQUEST)
    assert "hidden" not in str(failed.value)
    assert SECRET not in str(failed.value)


def test_a_webhook_without_its_secret_sends_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRAIN_SECRET")
    with pytest.raises(HookError, match=r"environment variable RETRAIN_SECRET \(model.hook.secret_env\) is not set"):
        posted(receiver)
    assert receiver.asked == []


def test_the_signature_is_the_hmac_of_the_time_a_point_and_the_body() -> None:
    made = hmac.new(b"key", b"1700000000.{}", "sha256").hexdigest()
    assert sign(b"key", "1700000000", b"{}") == f"sha256={made}"


# entry points


def called(name: str) -> HookReply:
    made = hook_of(HookSettings(kind=HookKind.ENTRY_POINT, entry_point=name))
    assert made is not None
    return made.call(REQUEST)


def test_an_entry_point_returns_a_mapping_bytes_a_path_or_nothing() -> None:
    assert called(f"{FUNCTIONS}:named").version == "prod-3-41-0"
    assert called(f"{FUNCTIONS}:nothing") == HookReply()
    assert called(f"{FUNCTIONS}:bytes_of").artifact == b"train-3-41-0"
    assert called(f"{FUNCTIONS}:path_of").artifact.startswith(b'"""Functions of an engineer')


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("no_such_module:train", "module 'no_such_module' cannot be imported"),
        (f"{FUNCTIONS}:no_such_function", f"module '{FUNCTIONS}' has no function 'no_such_function'"),
        (f"{FUNCTIONS}:ASKED", "has no function 'ASKED'"),
        (f"{FUNCTIONS}:number_of", "reply: 5; expected an object"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(name: str, wrong: str) -> None:
    with pytest.raises(HookError, match=wrong):
        called(name)


def test_without_a_hook_trainings_run_here() -> None:
    assert hook_of(HookSettings()) is None
