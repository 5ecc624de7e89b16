"""What leaves for a webhook or a chat service, what a receiver can do, and that no secret is in a file or a record."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from notifications.receiving import CANARY, KEY, OTHER_KEY, channel, is_signed, noted, notifier, receiving, waiting

from remit.core import WorkspaceError
from remit.core.events import NotificationFailed, NotificationSent
from remit.guardrails import Secrets
from remit.journal import Journal
from remit.notifications import signature, webhook
from remit.workspace import Channel, load_workspace
from support.http_servers import Response
from support.journals import ON_FILE
from support.runs import Command, Play, turn

TOKEN = "tok3n-canary-0815"


@pytest.fixture(autouse=True)
def signing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMIT_SECRET_HOOK", KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def everything(place: Path) -> str:
    """Every byte of the journal."""
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in place.parent.rglob("*") if path.is_file())


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, libraries: the example of each library's test."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@ON_FILE
def test_two_keys_sign_each_request_so_that_a_key_is_replaced_without_a_gap(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_SECRET_HOOK", f"{KEY} {OTHER_KEY}")
    waiting(journal)
    with receiving() as receiver:
        asyncio.run(notifier(journal, channel(receiver)).send_due())
        assert [is_signed(receiver.requests[0], key) for key in (KEY, OTHER_KEY)] == [True, True]
        assert abs(int(receiver.requests[0].headers["webhook-timestamp"]) - time.time()) < 60


@ON_FILE
@pytest.mark.parametrize("value", ["whsec_", "whsec_short=", "hunter2-hunter2-hunter2-hunter2", "whsec_" + "!" * 40])
def test_a_secret_that_is_no_key_sends_nothing_and_is_not_recorded(
    journal: Journal, place: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("REMIT_SECRET_HOOK", value + " " * (12 - len(value)) if len(value) < 12 else value)
    waiting(journal)
    with receiving() as receiver:
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
        assert receiver.requests == []
    assert made.outcome == "failed"
    assert "secret" in made.reason
    assert "hunter2" not in everything(place)


@ON_FILE
def test_a_missing_secret_is_named_with_the_command_that_sets_it(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REMIT_SECRET_HOOK")
    waiting(journal)
    with receiving() as receiver:
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
        assert receiver.requests == []
    assert made.reason == "secret 'hook' is not set: run `remit secret set hook`"


@ON_FILE
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(journal: Journal, status: int) -> None:
    waiting(journal)
    with receiving() as elsewhere:
        moved = Response(status=status, headers=[("Location", elsewhere.url)])
        with receiving(moved) as receiver:
            (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
        assert elsewhere.requests == []
    assert (made.outcome, made.reason) == ("failed", f"the receiver answered {status}")


@ON_FILE
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the receiver cannot be reached: RemoteProtocolError"),
        (b"220 mail.example.com ESMTP\r\n", "the receiver cannot be reached: RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "the receiver cannot be reached: RemoteProtocolError"),
        (b"HTTP/1.1 503 x\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n", "the receiver answered 503"),
        (b"HTTP/1.1 429 x\r\nRetry-After: 31536000\r\n\r\n", "the receiver answered 429"),
        (b"HTTP/1.1 429 x\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n\r\n", "the receiver answered 429"),
    ],
    ids=["nothing", "another protocol", "a long head", "a long number", "a year", "a date"],
)
def test_a_receiver_that_speaks_nonsense_is_a_failed_attempt(journal: Journal, raw: bytes, reason: str) -> None:
    waiting(journal)
    with receiving(Response(raw=raw)) as receiver:
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
    assert (made.outcome, made.reason) == ("failed", reason)
    assert made.again_at is not None
    assert made.again_at < time.time_ns() + 3700 * 10**9


@ON_FILE
def test_the_body_of_an_answer_is_not_read(journal: Journal) -> None:
    """It would never end: its head promises a gigabyte, of which nothing comes."""
    waiting(journal)
    with receiving(Response(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")) as receiver:
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
    assert made.outcome == "sent"


@ON_FILE
def test_a_receiver_that_is_silent_is_left_after_its_time(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ANSWER_S", 0.3)
    waiting(journal)
    with receiving() as receiver:
        receiver._answer = lambda _: time.sleep(3) or Response()  # type: ignore[func-returns-value]
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
    assert made.reason in ("the receiver did not answer in 0.3 s", "the receiver cannot be reached: ReadTimeout")


@ON_FILE
def test_apprise_sends_the_sentence_and_the_link(
    journal: Journal,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its URL is a secret: nothing of it is recorded or printed, also when the service refuses."""
    waiting(journal)
    waiting(journal, "b" * 32)
    with receiving(200, 401) as receiver:
        monkeypatch.setenv("REMIT_SECRET_CHAT", f"json://ann:{quote(TOKEN)}@127.0.0.1:{receiver.port}/hooks")
        people = notifier(journal, Channel(name="chat", apprise="chat", service="https://remit.example.com"))
        made = asyncio.run(people.send_due())
        assert [item.outcome for item in made] == ["sent", "failed"]
        assert made[1].reason == "the service did not take it"
        request, body = receiver.requests[0], receiver.bodies[0]
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode() == f"ann:{TOKEN}"
    assert body["message"].startswith("A call of service.restart by agent triage waits for 1 × role:lead")
    assert "https://remit.example.com/approvals/" in body["message"]
    assert CANARY not in str(request)
    printed = capfd.readouterr()
    assert caplog.records == []
    assert TOKEN not in everything(place) + printed.out + printed.err
    assert len(noted(journal, NotificationSent)) == len(noted(journal, NotificationFailed)) == 1


@ON_FILE
def test_apprise_follows_no_redirect(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(journal)
    with receiving() as elsewhere:
        with receiving(Response(status=307, headers=[("Location", elsewhere.url)])) as receiver:
            monkeypatch.setenv("REMIT_SECRET_CHAT", f"json://ann:{TOKEN}@127.0.0.1:{receiver.port}/hooks")
            (made,) = asyncio.run(notifier(journal, Channel(name="chat", apprise="chat")).send_due())
        assert elsewhere.requests == []
    assert made.outcome == "failed"


@ON_FILE
def test_a_value_that_is_no_url_of_apprise_and_a_missing_package_are_named(
    journal: Journal, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(journal)
    waiting(journal, "b" * 32)
    monkeypatch.setenv("REMIT_SECRET_CHAT", f"nonsense {TOKEN}")
    chat = Channel(name="chat", apprise="chat")
    (made,) = asyncio.run(notifier(journal, chat).send_due())
    assert made.reason.startswith("the value of the secret is no URL of apprise")
    monkeypatch.setitem(sys.modules, "apprise", None)
    (made,) = asyncio.run(notifier(journal, chat.model_copy(update={"name": "other"})).send_due())
    assert "pip install 'remit[notify]'" in made.reason
    assert TOKEN not in everything(place)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('webhook = "https://a.example/x"', "has a webhook without its secret"),
        ("", "needs one of webhook and apprise"),
        ('webhook = "https://a.example/x"\nsecret = "hook"\napprise = "chat"', "needs one of webhook and apprise"),
        ('apprise = "slack://T1/B2/xyz"', "which is not the name of a secret"),
        ('webhook = "https://ann:pw@a.example/x"\nsecret = "hook"', "has a user or a password"),
        ('webhook = "http://a.example/x"\nsecret = "hook"', "only an address of this machine may be without TLS"),
        ('webhook = "https://[::1/x"\nsecret = "hook"', "which is not an address"),
        ('webhook = "https://a.example:99999/x"\nsecret = "hook"', "which is not an address"),
        ('webhook = "file:///etc/passwd"\nsecret = "hook"', "which is not an address"),
        ('apprise = "chat"\nkinds = ["lunch"]', "notify.oncall.kinds"),
        ('apprise = "chat"\nagents = ["nobody"]', "'nobody', which is not an agent"),
        ('apprise = "chat"\nroles = ["lead"]', "which is not a role"),
        ('apprise = "chat"\nservice = "https://a.example/?next=b"', "links are below it"),
    ],
    ids=[
        "unsigned",
        "nowhere",
        "two",
        "a URL in the file",
        "a password",
        "without TLS",
        "no host",
        "no port",
        "a file",
        "kind",
        "agent",
        "role",
        "query",
    ],
)
def test_a_channel_that_cannot_work_is_a_problem_of_the_workspace(session: Path, lines: str, problem: str) -> None:
    with (session / "remit.toml").open("a") as settings:
        settings.write(f"\n[notify.oncall]\n{lines}\n")
    with pytest.raises(WorkspaceError, match=r"remit\.toml") as raised:
        load_workspace(session)
    assert problem in str(raised.value)


def test_a_channel_is_read_as_it_is_written(session: Path) -> None:
    with (session / "remit.toml").open("a") as settings:
        settings.write('\n[notify.oncall]\nwebhook = "http://127.0.0.1:9/x"\nsecret = "hook"\nagents = ["triage"]\n')
        settings.write('service = "https://remit.example.com/"\n\n[notify.chat]\napprise = "chat"\nkinds = ["lost"]\n')
    assert load_workspace(session).settings.notify == (
        Channel(
            name="oncall",
            webhook="http://127.0.0.1:9/x",
            secret="hook",
            agents=("triage",),
            service="https://remit.example.com",
        ),
        Channel(name="chat", apprise="chat", kinds=("lost",)),
    )


def test_the_command_sends_what_waits_and_says_what_did_not_arrive(play: Play, command: Command) -> None:
    """A real run of an agent waits for role:lead; no service runs."""
    played = play([turn(ledger__pay={"name": "ben", "amount": 500, "memo": CANARY})], wait=0.0)
    folder = played.folder
    without = command(folder, "notify")
    assert (without.code, "add a table [notify.NAME]" in without.err) == (2, True)
    with receiving(500) as receiver:
        with (folder / "remit.toml").open("a") as settings:
            settings.write(f'\n[notify.oncall]\nwebhook = "{receiver.url}"\nsecret = "hook"\n')
        failed = command(folder, "notify")
        assert (failed.code, failed.out.count("failed: the receiver answered 500; attempt 2 at")) == (1, 1)
        assert command(folder, "notify").out == "no notification is due\n"
        (body,) = receiver.bodies
        assert "remit approve show" in body["data"]["text"]
        assert CANARY not in str(receiver.requests)


def test_secrets_of_channels_are_set_by_the_command_for_secrets(session: Path, command: Command) -> None:
    with (session / "remit.toml").open("a") as settings:
        settings.write('\n[notify.chat]\napprise = "chat"\n')
    listed = command(session, "secret", "list")
    assert "notifications of chat" in listed.out
    assert Secrets(session).get("chat").source == "missing"
