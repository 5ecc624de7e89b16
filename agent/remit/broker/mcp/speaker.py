"""One call of an action whose tool is an MCP server: what the sandbox has it say to the server, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remit.broker.mcp.arguments import server_arguments
from remit.broker.mcp.content import text_of, value_of
from remit.broker.mcp.listing import differences
from remit.broker.mcp.messages import NotMcp, ServerError
from remit.broker.mcp.session import Elicited, Session
from remit.core import Json, Refusal
from remit.sandbox import KeptStream, Reply, SessionLost
from remit.workspace import Tool
from remit.workspace.manifest import Action, ServerPin

IS_ERROR: Final = "is_error"  # the declared error that a result with `isError` is, if the manifest declares it
_LONGEST: Final = 2_000


async def session_of(stream: KeptStream, tool: str) -> Session:
    """What is known of the server; it begins with one that has just been started, and asks for tools that have changed.

    Raises:
        Refusal: `tool_crashed`: it does not speak MCP.
    """
    session = stream.greeted
    try:
        if isinstance(session, Session):
            try:
                await session.look(stream)
            except SessionLost:
                session = None
        if not isinstance(session, Session):
            session = Session()
            await session.begin(stream)
            stream.greeted = session
    except NotMcp as failure:
        stream.greeted = None
        next_step = "continue without this tool, and tell the user that its server cannot be used"
        raise Refusal("tool_crashed", f"the server of tool {tool!r} wrote {failure}", next_step=next_step) from failure
    return session


@dataclass(kw_only=True)
class McpCall:
    """One call: `name` is the tool of the server, `pinned` what was pinned of it."""

    tool: str
    action: str
    name: str
    pinned: ServerPin
    arguments: Mapping[str, Json]
    errors: Mapping[str, str] = field(default_factory=dict[str, str])

    async def greet(self, stream: KeptStream) -> None:
        session = await session_of(stream, self.tool)
        found = list(differences(self.pinned.tools.get(self.name), session.listing.get(self.name)))
        if not found:
            return
        message = f"the server has changed tool {self.name!r} since it was pinned: {'; '.join(found)}"
        raise Refusal(
            "policy_denied",
            message[:_LONGEST],
            details={"reason": "not_pinned"},
            next_step=f"continue without {self.action!r}, and tell the user to review it and run `remit tool pin {self.tool}`",
        )

    async def call(self, stream: KeptStream) -> Reply:
        session = stream.greeted
        assert isinstance(session, Session)
        try:
            return await self._call(session, stream)
        except Elicited:
            return Reply(
                code="tool_crashed", message="the server asks a person before it answers, which Remit does not pass on"
            )
        except ServerError as failure:
            return Reply(code="tool_crashed", message=f"the server answered with error {failure.code}: {failure}")
        except NotMcp as failure:
            return Reply(code="invalid_output", message=f"the server wrote {failure}")

    async def _call(self, session: Session, stream: KeptStream) -> Reply:
        result = await session.ask(stream, "tools/call", {"name": self.name, "arguments": dict(self.arguments)})
        if result.get("resultType", "complete") != "complete":
            raise Elicited(result)
        value, objects = value_of(result)
        if result.get("isError") is not True:
            return Reply(value=value, objects=objects)
        message = text_of(value)[:_LONGEST]
        if IS_ERROR in self.errors:
            return Reply(code="tool_failed", error=IS_ERROR, message=message)
        return Reply(code="tool_crashed", message=message or "the server answered with an error")


def speaker_of(tool: Tool, action: Action, arguments: Mapping[str, Json]) -> McpCall | None:
    """What has the server run one call of the action; None if the tool is no MCP server, or not pinned."""
    if tool.pin is None or tool.pin.server is None:
        return None
    return McpCall(
        tool=tool.manifest.name,
        action=f"{tool.manifest.name}.{action.name}",
        name=action.tool,
        pinned=tool.pin.server,
        arguments=server_arguments(action, arguments),
        errors=action.errors,
    )


@dataclass(kw_only=True)
class McpListing:
    """Lists the tools of a server and calls none. `session` is what it found."""

    tool: str
    session: Session | None = None

    async def greet(self, stream: KeptStream) -> None:
        self.session = await session_of(stream, self.tool)

    async def call(self, stream: KeptStream) -> Reply:
        return Reply(value=None)
