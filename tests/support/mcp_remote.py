"""Shared by the tests of MCP servers that run elsewhere: servers on loopback, and a call to them through the egress proxy.

`ScriptedServer` answers as a test says, also as no server should.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from remit.broker.mcp.speaker import McpCall, McpListing
from remit.sandbox import CallContext, Output, Profile, Sandbox
from remit.sandbox.egress import Egress, Permit, parse_credential
from remit.workspace.manifest import ServerPin
from support.http_servers import ReceivedRequest, Response, Server, names, network, trust

NAME = "kit.test"
ECHO = {
    "name": "echo",
    "description": "Returns the text",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}
PINNED = ServerPin(protocol="2025-11-25", tools={"echo": ECHO})


def text(output: Output) -> str:
    """The text that the tool returned."""
    assert output.code is None, output
    return "".join(block["text"] for block in output.value["content"])


def result(words: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}], **more}


def as_json(number: Any, value: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """An answer that is one JSON document. `value` has the result, or `error`."""
    body = {"jsonrpc": "2.0", "id": number, **(value if "error" in value else {"result": dict(value)})}
    fields = [("Content-Type", "application/json"), *((key.replace("_", "-"), item) for key, item in headers.items())]
    return Response(status=status, headers=fields, body=json.dumps(body).encode())


def as_events(*events: Mapping[str, Any] | str) -> Response:
    """An answer that is a stream of events; a text is written as it is."""
    parts = [item if isinstance(item, str) else f"event: message\ndata: {json.dumps(item)}\n\n" for item in events]
    return Response(headers=[("Content-Type", "text/event-stream")], body="".join(parts).encode())


def answered(number: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": dict(value)}


@dataclass
class ScriptedServer:
    """An older server with sessions. `call` answers `tools/call`; `methods` are the messages that it got, in their order."""

    call: Callable[[dict[str, Any], ReceivedRequest], Response] = lambda message, _: as_json(
        message["id"], result(message["params"]["arguments"]["text"])
    )
    resumed: Callable[[ReceivedRequest], Response] = lambda _: Response(status=405)
    tools: list[dict[str, Any]] = field(default_factory=lambda: [ECHO])
    methods: list[str] = field(default_factory=list[str])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    sessions: set[str] = field(default_factory=set[str])
    modern: bool = False
    before: Callable[[dict[str, Any], ReceivedRequest], Response | None] = lambda _message, _request: None

    def __call__(self, request: ReceivedRequest) -> Response:
        self.requests.append(request)
        if request.method == "GET":
            return self.resumed(request)
        message = json.loads(request.body)
        self.messages.append(message)
        self.methods.append(message.get("method", ""))
        return self.before(message, request) or self._answer(message, request)

    def _answer(self, message: dict[str, Any], request: ReceivedRequest) -> Response:
        method, number = message.get("method", ""), message.get("id")
        if number is None or not method:
            return Response(status=202, body=b"")
        if method == "server/discover" and self.modern:
            return as_json(number, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
        if method == "initialize" and not self.modern:
            session = f"session-{len(self.sessions) + 1}"
            self.sessions.add(session)
            agreed = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "kit"}}
            return as_json(number, agreed, Mcp_Session_Id=session)
        if not self.modern and request.headers.get("mcp-session-id") not in self.sessions:
            status = 404 if "mcp-session-id" in request.headers else 400
            return as_json(None, {"error": {"code": -32600, "message": "no such session"}}, status)
        if method == "tools/list":
            return as_json(number, {"tools": self.tools})
        if method == "tools/call":
            return self.call(message, request)
        return as_json(number, {"error": {"code": -32601, "message": "no such method"}})


@dataclass(kw_only=True)
class RemoteKit:
    """Calls to one server at kit.test, as those of a run, without a journal and without rules."""

    base: Path
    port: int
    scheme: str = "http"
    path: str = "/mcp"
    pinned: ServerPin = PINNED
    sandbox: Sandbox = field(init=False)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(egress=Egress(resolver=names(kit="127.0.0.1"), trust=trust(), idle=20))

    def profile(self, **given: Any) -> Profile:
        defaults: dict[str, Any] = {
            "tool": "kit",
            "action": "do",
            "source": "mcp",
            "code": self.base,
            "root": self.base,
            "wall": 20.0,
            "output": 1 << 20,
            "run": "run",
            "tier": "none",
            "url": f"{self.scheme}://{NAME}:{self.port}{self.path}",
            "network": network(f"GET,POST {NAME}:{self.port}{self.path}"),
        }
        return Profile(**(defaults | given))

    def network_with(self, **credential: str) -> Any:
        """The network of the calls, with a secret that the proxy adds."""
        given = {
            "secret": "token",
            "host": f"{NAME}:{self.port}",
            "header": "Authorization",
            "template": "Bearer {token}",
        }
        made = {**given, **credential}
        found = parse_credential(made["secret"], made["host"], made["header"], made["template"], "")
        return network(f"GET,POST {NAME}:{self.port}{self.path}", credentials=(found,))

    async def pin(self) -> ServerPin:
        """Pin what the server lists now."""
        listing = McpListing(tool="kit")
        async with self.sandbox.open(self.profile(run="listing"), {}, speaker=listing) as opened:
            output = await opened.run(CallContext())
        assert output.code is None, output
        assert listing.session is not None
        self.pinned = ServerPin(
            protocol=listing.session.version, tools={name: dict(tool) for name, tool in listing.session.listing.items()}
        )
        return self.pinned

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        permit: Permit | None = None,
        on_print: Callable[[bytes], None] | None = None,
        **given: Any,
    ) -> Output:
        speaker = McpCall(tool="kit", action="kit.do", name=name, pinned=self.pinned, arguments=arguments)
        async with self.sandbox.open(self.profile(**given), {}, speaker=speaker) as opened:
            return await opened.run(CallContext(permit=permit or Permit(), on_print=on_print))

    async def echo(self, words: str = "hello", **given: Any) -> Output:
        return await self.call("echo", {"text": words}, **given)


@contextmanager
def scripted(server: ScriptedServer, base: Path, *, tls: bool = False) -> Iterator[RemoteKit]:
    """Run the server, and give what calls it."""
    with Server(server, name=NAME if tls else "") as listening:
        kit = RemoteKit(base=base, port=listening.port, scheme="https" if tls else "http")
        try:
            yield kit
        finally:
            kit.sandbox.close_sync()


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve an ASGI application on loopback; the port."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
