"""One call of an action whose tool is an MCP server: what the sandbox has it say to the server, and what its answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from remit.broker.mcp.arguments import server_arguments
from remit.broker.mcp.content import resource_of, text_of, value_of
from remit.broker.mcp.listing import all_differences, differences
from remit.broker.mcp.messages import NotMcp, ServerError, members
from remit.broker.mcp.questions import MOST_QUESTIONS, Answered, Elicited, answers_to
from remit.broker.mcp.session import Session
from remit.core import Json, Refusal
from remit.sandbox import KeptStream, Reply, SessionLost
from remit.workspace import Tool
from remit.workspace.manifest import Action, ServerPin, resource_address, resource_arguments

IS_ERROR: Final = "is_error"  # the declared error that a result with `isError` is, if the manifest declares it
_LONGEST: Final = 2_000
Compared: TypeAlias = Callable[[str, Sequence[str]], Awaitable[None]]  # the name of a tool, and how its server differs


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
    """One call: `name` is the tool of the server, or `resource` the address of what it reads; `pinned` is what was pinned of the server.

    With `repeatable`, it can be made twice without harm.
    `compared` gets how the server's list of tools differs from the pin, also if it does not, whenever it has listed other ones.
    """

    tool: str
    action: str
    name: str
    resource: str = ""
    repeatable: bool = False
    pinned: ServerPin
    arguments: Mapping[str, Json]
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    compared: Compared | None = None

    async def greet(self, stream: KeptStream) -> None:
        session = await session_of(stream, self.tool)
        if not session.compared and self.compared is not None:
            await self.compared(self.tool, all_differences(self.pinned.tools, session.listing))
            session.compared = True
        if self.resource:  # resources are not pinned: they are data, and no model reads their names
            return
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

    async def call(self, stream: KeptStream, answered: Answered | None) -> Reply:
        session = stream.greeted
        assert isinstance(session, Session)
        try:
            return await self._call(session, stream, answered)
        except Elicited as asked:
            return self._asking(asked, possible=answered is not None)
        except ServerError as failure:
            return Reply(code="tool_crashed", message=f"the server answered with error {failure.code}: {failure}")
        except NotMcp as failure:
            return Reply(code="invalid_output", message=f"the server wrote {failure}")

    def _asking(self, asked: Elicited, *, possible: bool) -> Reply:
        """The reply that a person is asked. The call is made again, from its beginning, with the answer.

        INVARIANT: a call that may have had an effect is not made again. A server of 2026-07-28 ends its call to ask; an older one asks in
        the middle of it.
        """
        if not possible:
            return Reply(code="tool_crashed", message="the server asks a person, and in this run no person can answer")
        if not asked.midway:
            return Reply(question=asked.question)
        if not self.repeatable:
            why = "the server asks a person in the middle of a call that cannot be made again, so it was ended"
            return Reply(code="tool_crashed", message=f"{why}: {members(asked.question).get('message')}"[:_LONGEST])
        return Reply(code="tool_crashed", question=asked.question)

    async def _call(self, session: Session, stream: KeptStream, answered: Answered | None) -> Reply:
        method = "resources/read" if self.resource else "tools/call"
        params: dict[str, Json] = (
            {"uri": self.resource} if self.resource else {"name": self.name, "arguments": dict(self.arguments)}
        )
        result = await session.ask(stream, method, params, answered)
        for _ in range(MOST_QUESTIONS):
            if result.get("resultType", "complete") == "complete":
                break
            result = await session.ask(stream, method, {**params, **answers_to(result, answered)}, answered)
        else:
            raise NotMcp(f"more than {MOST_QUESTIONS} questions")
        value, objects = (resource_of if self.resource else value_of)(result)
        if result.get("isError") is not True:
            return Reply(value=value, objects=objects)
        message = text_of(value)[:_LONGEST]
        if IS_ERROR in self.errors:
            return Reply(code="tool_failed", error=IS_ERROR, message=message)
        return Reply(code="tool_crashed", message=message or "the server answered with an error")


def speaker_of(
    tool: Tool, action: Action, arguments: Mapping[str, Json], compared: Compared | None = None
) -> McpCall | None:
    """What has the server run one call of the action; None if the tool is no MCP server, or not pinned."""
    if tool.pin is None or tool.pin.server is None:
        return None
    return McpCall(
        tool=tool.manifest.name,
        action=f"{tool.manifest.name}.{action.name}",
        name=action.tool,
        resource="" if resource_arguments(action.tool) is None else resource_address(action.tool, arguments),
        repeatable=action.effect in ("read", "idempotent"),
        pinned=tool.pin.server,
        arguments=server_arguments(action, arguments),
        errors=action.errors,
        compared=compared,
    )


@dataclass(kw_only=True)
class McpListing:
    """Lists the tools of a server and calls none. `session` is what it found."""

    tool: str
    session: Session | None = None

    async def greet(self, stream: KeptStream) -> None:
        self.session = await session_of(stream, self.tool)

    async def call(self, stream: KeptStream, answered: Answered | None) -> Reply:
        return Reply(value=None)
