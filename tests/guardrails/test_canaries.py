"""A secret that a tool receives, returns and sends, in every encoding and in parts, is in no output that Remit writes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from remit.core.events import AttemptEnded, CallAnswered
from remit.core.messages import Message, Model, ModelTurn, ToolSpec
from remit.runtime import runner as run_module
from remit.runtime.models import ScriptedModel
from remit.workspace import session as session_module
from support.canaries import CANARY, ENCODINGS, everything, leaks
from support.http_servers import ReceivedRequest, Response, Server
from support.otlp_collector import collecting
from support.principals import OPERATOR
from support.runs import Remit, turn
from support.workspaces.web import add

MANIFEST = """
name = "leaky"
version = "1"
owner = "tests@example.com"
summary = "Says everything that it should not"
[always]
hosts = ["localhost:PORT"]
ranges = ["127.0.0.0/8", "::1/128"]
secrets = [{ name = "vault", exposed = true, env = "VAULT_KEY" }]
[at_most]
hosts = ["localhost:PORT"]
[limits]
output = "256KiB"
wall = "30s"
[actions.say]
summary = "Give back what it was given, whole and in pieces, and print it in pieces"
effect = "read"
[actions.fail]
summary = "Fail with what it was given"
effect = "read"
errors = ["declared"]
[actions.crash]
summary = "Crash with what it was given"
effect = "read"
[actions.environment]
summary = "Give and print its environment, and what the broker's looks like from here"
effect = "read"
[actions.get]
summary = "Ask a server, which answers in chunks"
touches = ["use url:{url}"]
methods = ["GET"]
effect = "read"
errors = ["unreachable"]
"""

CODE = '''
import base64, os, sys
import httpx

class Declared(Exception): pass
class Unreachable(Exception): pass

def _print(text: str) -> None:
    """Out of both streams, three bytes at a time."""
    data = text.encode()
    for at in range(0, len(data), 3):
        os.write(1 + at // 3 % 2 if text.startswith("both") else 2, data[at:at + 3])

def say(texts: list[str]) -> dict[str, list[str] | str]:
    """Say it."""
    whole = "\\n".join(texts)
    _print(whole)
    pieces = [whole[at:at + 7] for at in range(0, len(whole), 7)]
    return {"texts": texts, "pieces": pieces, "key": os.environ["VAULT_KEY"], whole[:60]: "a name of a member"}

def fail(texts: list[str]) -> None:
    """Fail."""
    _print("\\n".join(texts))
    raise Declared(" ".join(texts))

def crash(texts: list[str]) -> None:
    """Crash."""
    raise RuntimeError(" ".join(texts))

def environment() -> dict[str, str]:
    """Tell."""
    _print(repr(dict(os.environ)))
    print(base64.b64encode(repr(dict(os.environ)).encode()).decode(), flush=True)
    return dict(os.environ)

def get(url: str) -> dict[str, str | list[str]]:
    """Ask."""
    try:
        answer = httpx.get(url, timeout=25)  # not the 5 s of httpx, which a busy machine can take
    except httpx.HTTPError as failure:
        raise Unreachable(f"{url}: {failure}") from failure
    return {"text": answer.text, "headers": list(answer.headers.values()), "chunks": [c for c in answer.iter_text(5)]}
'''

RULES = """
# Everything that the tool can do
p, agent:web, leaky.*, **, True, allow
p, role:operator, leaky.*, **, True, allow
p, agent:web, leaky.get, https://localhost:PORT/**, True, allow
p, role:operator, leaky.get, https://localhost:PORT/**, True, allow
"""


class RecordingModel:
    """A model that records everything that it was sent."""

    scripted = True

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.sent = ""
        self._model = model

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        self.sent = "\n".join(repr(one) for one in (*messages, *tools))
        return await self._model.think(step, messages, tools)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """An OTLP backend that records everything that it receives."""
    with collecting() as (address, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
        yield bodies


def chunked(text: str, size: int) -> bytes:
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    echo = f"X-Echo: {CANARY}\r\n".encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + echo + b"Transfer-Encoding: chunked\r\n\r\n" + body


def leaked(text: str) -> list[str]:
    """The secrets in the text, also in JSON inside of JSON."""
    found: list[str] = []
    for _ in range(3):
        found += [*leaks(text), *leaks(text.replace("\\n", "\n"))]
        text = text.replace("\\\\", "\\")
    return found


@pytest.mark.usefixtures("trusting")
def test_a_secret_of_a_sandboxed_tool_appears_in_no_output(
    session: Path,
    remit: Remit,
    collector: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """In arguments, results, errors, output, environment, URLs and answers; whole, in fifteen encodings, and in parts."""
    monkeypatch.setenv("REMIT_SECRET_VAULT", CANARY)
    texts = [f"{name}: {written}" for name, written in ENCODINGS.items()]
    asked: list[str] = []

    def answer(received: ReceivedRequest) -> Response:
        asked.append(received.target)
        return Response(raw=chunked("plain text stays\n" + "\n".join(texts), 4))

    with Server(answer, name="localhost") as server:
        port, base = str(server.port), f"https://localhost:{server.port}"
        turns = [
            turn(f"I will say {CANARY}", leaky__say={"texts": texts}),
            turn(leaky__fail={"texts": texts[:8]}, leaky__crash={"texts": texts}, leaky__environment={}),
            turn(leaky__fail={"texts": texts[8:]}),
            turn(leaky__get={"url": f"{base}/a?key={ENCODINGS['percent']}"}),
            {"say": "paths", "calls": [{"leaky__get": {"url": f"{base}/{name}"}} for name in (CANARY, ENCODINGS["hex"])]},
        ]  # fmt: skip
        files = {"tool.toml": MANIFEST.replace("PORT", port), "main.py": CODE}
        add(session, "leaky", files, RULES.replace("PORT", port), [{"say": "done"}])
        opened = session_module.open_session(session)
        model = RecordingModel(ScriptedModel(turns))  # not a script of the workspace, which the trace would name
        start = run_module.RunRequest(
            agent="web", task=f"use {CANARY}", subject="user:operator", by=OPERATOR, model=model
        )
        ended = asyncio.run(run_module.start_run(opened, start))
    records = opened.journal.events(ended.run)
    results = [one.event.result.model_dump(mode="json") for one in records if isinstance(one.event, CallAnswered)]
    codes = [one["error"]["code"] if not one["ok"] else "ok" for one in results]
    assert sorted(codes) == sorted(["ok", "tool_failed", "tool_crashed", "ok", "tool_failed", "ok", "content_blocked", "content_blocked"]), [one["error"] for one in results if not one["ok"]]  # fmt: skip
    assert asked == [f"/a?key={ENCODINGS['percent']}"]  # the tool and its server received the real values
    assert "plain text stays" in json.dumps(results)
    prints = [one.event.stderr for one in records if isinstance(one.event, AttemptEnded)]
    assert any("redacted" in one for one in prints)

    shown = tmp_path / "shown"
    shown.mkdir()
    outputs = [
        remit("trace", "show", ended.run),
        remit("trace", "show", ended.run, "--html", str(shown / "page.html")),
        remit("trace", "export", ended.run, "-o", str(shown / "whole.jsonl")),
        remit("trace", "list"),
        remit("replay", str(shown / "whole.jsonl")),
        remit("tool", "try", "leaky.say", f"texts={json.dumps(texts)}"),
    ]
    assert [one.code for one in outputs] == [0] * len(outputs)
    sinks = {
        "what the model is sent": model.sent,
        "journal, log, trace, objects": everything(session),
        "what is exported to a backend": b"".join(collector).decode("utf-8", "replace"),
        "the terminal and the log": "".join(one.out + one.err for one in outputs) + caplog.text,
        "the page and the portable file": "".join(path.read_text() for path in shown.iterdir()),
    }
    assert [
        name for name, text in sinks.items() if "percent, all of it: [redacted:" not in text
    ] == []  # the text around it stays
    assert {name: leaked(text) for name, text in sinks.items()} == {name: [] for name in sinks}
    assert os.environ["REMIT_SECRET_VAULT"] == CANARY
