"""Shared by the tests of kept MCP servers: the server of tests in the live sandbox of a run, without a journal and without rules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from remit.broker.mcp.session import Session
from remit.broker.mcp.speaker import McpCall, McpListing
from remit.sandbox import CallContext, Output, Profile, Sandbox
from remit.sandbox.egress import Egress, Permit
from remit.sandbox.packages import base_python
from remit.workspace.manifest import ServerPin
from support.workspaces.mcp import SERVER

_numbers = count()  # several calls at once may ask what the server lists


@dataclass(kw_only=True)
class KeptServer:
    """One server of tests and one working folder; `base` holds both, `behaviour` is how the server differs."""

    base: Path
    behaviour: Mapping[str, Any] = field(default_factory=dict[str, Any])
    egress: Egress | None = None
    sandbox: Sandbox = field(init=False)
    pinned: ServerPin | None = None

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(accept=("full",), egress=self.egress)
        for folder in ("work", "tool"):
            (self.base / folder).mkdir(exist_ok=True)
        shutil.copy(SERVER, self.base / "tool" / "server.py")
        self.behave(self.behaviour)

    def behave(self, behaviour: Mapping[str, Any]) -> None:
        """How a server that is started from now on differs. The files of a tool are part of what its sandbox is for, so it gets another."""
        (self.base / "tool" / "behaviour.json").write_text(json.dumps(dict(behaviour)))

    @property
    def root(self) -> Path:
        return self.base / "work"

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def profile(self, **given: Any) -> Profile:
        defaults: dict[str, Any] = {"wall": 20.0, "cpu": 10.0, "run": "run", "root": self.root, "output": 1 << 20}
        return Profile(
            tool="kit",
            action="do",
            source="mcp",
            code=self.base / "tool",
            argv=(base_python(), "-S", "-B", "/tool/server.py"),
            life="run",
            **(defaults | given),
        )

    async def pin(self) -> ServerPin:
        """What the server lists now."""
        listing, run = McpListing(tool="kit"), f"listing {next(_numbers)}"
        async with self.sandbox.open(self.profile(run=run), {}, speaker=listing):
            assert isinstance(listing.session, Session)
            tools = {name: dict(tool) for name, tool in listing.session.listing.items()}
        self.sandbox.end_run(run)
        return ServerPin(protocol=listing.session.version, tools=tools)

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        errors: Mapping[str, str] | None = None,
        permit: Permit | None = None,
        **given: Any,
    ) -> Output:
        """Have the server run one of its tools; `given` are fields of the profile."""
        if self.pinned is None:
            self.pinned = await self.pin()
        speaker = McpCall(
            tool="kit", action="kit.do", name=name, pinned=self.pinned, arguments=arguments, errors=errors or {}
        )
        async with self.sandbox.open(self.profile(**given), {}, speaker=speaker) as opened:
            return await opened.run(CallContext(permit=permit or Permit()))

    async def do(self, what: str, **given: Any) -> Output:
        return await self.call("do", {"text": what}, **given)


def text(output: Output) -> str:
    """The text that the tool returned."""
    assert output.code is None, output
    return "".join(block["text"] for block in output.value["content"])
