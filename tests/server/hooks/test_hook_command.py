"""`remit hook run`: it passes events to the service of this machine, and blocks the call whenever there is no decision."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from remit.cli.local import hooking
from remit.cli.local.requests_socket import account_at, requests_socket
from remit.core.events import RunStarted
from remit.journal import list_runs
from remit.server import Access, LocalSocket, Service, serve
from remit.workspace import open_session
from support.hooked import with_pack

DENIED = {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "deny"}}


def event(root: Path, name: str = "PreToolUse", **fields: Any) -> bytes:
    given = {"tool_name": "Read", "tool_input": {"file_path": "remit.toml"}, "tool_use_id": "t1", **fields}
    return json.dumps({"hook_event_name": name, "session_id": "s1", "cwd": str(root), **given}).encode()


def answer(status: int, body: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body) if length is None else length) + body


@contextmanager
def answering(root: Path, reply: Callable[[bytes], bytes | None]) -> Generator[list[bytes]]:
    """A socket in the folder of the service, which answers as the test says; None: nothing, for as long as the test takes."""
    (root / ".remit" / "service").mkdir(mode=0o700, parents=True, exist_ok=True)
    asked: list[bytes] = []
    ends = threading.Event()

    def answer_each(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head, _, body = connection.recv(1 << 20).partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(1 << 20)
                asked.append(body)
                if (given := reply(body)) is None:
                    ends.wait(60)
                else:
                    connection.sendall(given)

    with requests_socket(root) as listener:
        thread = threading.Thread(target=answer_each, args=(listener,), daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            ends.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.fixture
def packed(session: Path) -> Path:
    """The starter workspace with the tool pack of Claude Code."""
    return with_pack(session)


@pytest.fixture
def hook(session: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the hook with this standard input: its exit code, and what it prints."""

    def run(data: bytes, *words: str, client: str = "claude-code") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = hooking.run_hook([client, "--workspace", str(session), *words])
        hooking.signal.alarm(0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer(500, b'{"ok":false}'), id="500"),
        pytest.param(answer(503, b'{"ok":false,"error":{"message":"the service ends"}}'), id="503"),
        pytest.param(answer(200, b"not json"), id="garbage"),
        pytest.param(answer(200, b"[]"), id="no object"),
        pytest.param(answer(200, b'{"ok":true}'), id="no decision"),
        pytest.param(
            answer(200, b'{"hookSpecificOutput":{"permissionDecision":"perhaps"}}'), id="a decision that is none"
        ),
        pytest.param(answer(200, json.dumps(DENIED).encode(), length=4000), id="cut"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff" * 300, id="bytes"),
    ],
)
def test_an_answer_that_is_no_decision_blocks_the_call(session: Path, hook: Any, reply: bytes) -> None:
    with answering(session, lambda _: reply):
        code, out, err = hook(event(session))
    assert (code, out) == (2, "")
    assert err.startswith("Remit did not decide, so the call does not run: ")


def test_a_decision_of_the_service_is_passed_on(session: Path, hook: Any) -> None:
    with answering(session, lambda _: answer(200, json.dumps(DENIED).encode())) as asked:
        code, out, err = hook(event(session), "--project", "/srv/shop", "--wait", "7")
    assert (code, json.loads(out), err) == (0, DENIED, "")
    assert json.loads(asked[0])["project"] == "/srv/shop"
    assert json.loads(asked[0])["wait"] == 7


def test_without_a_service_nothing_runs(session: Path, hook: Any) -> None:
    code, out, err = hook(event(session))
    assert (code, out) == (2, "")
    assert "start it with `remit serve`" in err


def test_a_service_that_does_not_answer_in_time_blocks(
    session: Path, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooking, "DEADLINE_S", 1)
    with answering(session, lambda _: None):
        code, out, _ = hook(event(session))
    assert (code, out) == (2, "")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_an_event_that_cannot_be_read_blocks(session: Path, hook: Any, data: bytes) -> None:
    assert hook(data)[:2] == (2, "")


@pytest.mark.parametrize("words", [(), ("cursor",), ("claude-code", "--workspace"), ("claude-code", "--url", "x")])
def test_a_command_that_is_not_as_it_is_installed_blocks(words: tuple[str, ...]) -> None:
    assert hooking.run_hook(words) == 2
    hooking.signal.alarm(0)


def test_the_socket_of_another_account_is_not_used(session: Path, hook: Any) -> None:
    with answering(session, lambda _: answer(200, b"{}")):
        (session / ".remit" / "service").chmod(0o777)
        assert hook(event(session))[:2] == (2, "")
        (session / ".remit" / "service").chmod(0o700)
        assert hook(event(session))[:2] == (0, "")


def test_the_end_of_a_turn_is_no_reason_to_go_on(session: Path, hook: Any) -> None:
    """With the exit code 2, Claude Code would not stop."""
    assert hook(event(session, "Stop"))[0] == 1
    assert hook(event(session, "UserPromptSubmit"))[0] == 2


def test_a_result_that_the_service_cannot_read_is_reported_without_it(session: Path, hook: Any) -> None:
    def reply(body: bytes) -> bytes:
        return answer(200, b"{}") if b"unreadable" in body else answer(400, b'{"ok":false}')

    with answering(session, reply) as asked:
        assert hook(event(session, "PostToolUse", tool_response={"n": 2**70}))[:2] == (0, "")
        assert hook(event(session, "PostToolUse", tool_response={"text": "x" * 10**6}))[:2] == (0, "")
    assert len(asked) == 4
    assert max(map(len, asked)) < hooking.LARGEST_SENT


async def test_an_account_of_this_machine_is_who_the_kernel_says(packed: Path) -> None:
    toml = packed / "remit.toml"
    toml.write_text(toml.read_text().replace('"*" = "user:operator"', f'{_account()} = "user:operator"'))
    (packed / ".remit" / "service").mkdir(mode=0o700, parents=True)
    session = open_session(packed)
    service = Service([session], Access([session], secure=False))
    ready = asyncio.Event()
    with ExitStack() as stack:
        listener = stack.enter_context(requests_socket(packed))
        local = LocalSocket(listener=listener, tenant="default", account=account_at)
        bound = socket.create_server(("127.0.0.1", 0))
        task = asyncio.create_task(serve(service, sockets=[bound], listening=lambda _: ready.set(), local=[local]))
        await ready.wait()
        try:
            assert await _hooked(packed, event(packed)) == (0, "allow")
            await _hooked(packed, event(packed, "PostToolUse", tool_response="ok"))
            other = event(packed, tool_input={"file_path": "/etc/passwd"}, tool_use_id="t2")
            assert await _hooked(packed, other) == (0, "deny")
        finally:
            service.ending.set()
            await task
    (run,) = list_runs(open_session(packed).journal)
    started = open_session(packed).journal.get(run.run, "run.started/-/-/-")
    assert started is not None
    assert isinstance(started.event, RunStarted)
    by = started.event.by
    assert (by.subject, by.authenticated, by.account) == ("user:operator", "os_account", _account())


async def _hooked(root: Path, data: bytes) -> tuple[int | None, str]:
    """The exit code of the command in a process of its own, and its decision."""
    command = [sys.executable, "-m", "remit", "hook", "run", "claude-code", "--workspace", str(root), "--wait", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    out, _ = await process.communicate(data)
    given: Any = json.loads(out).get("hookSpecificOutput", {}) if out else {}
    return process.returncode, str(given.get("permissionDecision", ""))


def _account() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
