"""Host tools: functions of this very process, for what cannot be put into a sandbox.

Nothing confines them. Only tools that `remit.toml` names are loaded, and card, facts and spans say `none`. The entry of a
manifest is a table of functions by action, or a list of tools as LangChain has them, which are known here by their shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol, cast

from remit.core import Json, UsageError
from remit.core.parsing import Arguments, CopyOnRead
from remit.sandbox import described, snake_case
from remit.workspace.manifest import Manifest

CONTENT: Final[Json] = {"anyOf": [{"type": "string"}, {"type": "array"}]}  # what a ToolMessage of LangChain can carry


class HostTool(Protocol):
    """A tool of LangChain, as far as it is looked at here."""

    name: str
    description: str

    @property
    def tool_call_schema(self) -> Any:
        """What a model may write, without what the graph puts in: a model of pydantic, or a JSON Schema."""
        ...

    def invoke(self, input: Any) -> Any: ...
    async def ainvoke(self, input: Any) -> Any: ...


class ToolError(Exception):
    """What a tool of LangChain said when it failed; in a manifest, the declared error `tool_error`."""


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """The function of an action that is a tool of LangChain. It returns the content of the ToolMessage."""

    tool: HostTool

    def __call__(self, **arguments: Json) -> Json:
        given = CopyOnRead(Arguments.of(arguments))
        call = {"type": "tool_call", "name": self.tool.name, "args": given, "id": "remit"}
        try:
            message = self.tool.invoke(call)
        except NotImplementedError:  # it has only a coroutine; this is a thread of its own
            message = asyncio.run(self.tool.ainvoke(call))
        return content_of(message)


def action_of(tool: str) -> str:
    """The action that a tool of LangChain is: `get_order` of `getOrder`, `get-order` and `get_order`."""
    return snake_case(tool).replace("-", "_")


def content_of(message: object) -> Json:
    """What a tool of LangChain gave, of the ToolMessage that came of it; anything else is no result, and refused as one.

    Raises ToolError where the message is about a failure.
    """
    content = getattr(message, "content", message)
    if getattr(message, "status", "") == "error":
        raise ToolError(content if isinstance(content, str) else "")
    return content


def describe_tool(tool: HostTool) -> dict[str, Json]:
    """The `description`, `input`, `output` and `hidden` of a tool of LangChain, which does not say what it returns."""
    given = tool.tool_call_schema
    whole = cast("dict[str, Json]", given if isinstance(given, dict) else given.model_json_schema())
    kept = {key: value for key, value in whole.items() if key not in ("title", "description")}
    return {
        "description": tool.description,
        "input": {"type": "object", "properties": {}, **kept},
        "output": CONTENT,
        "hidden": [],
    }


def load_host(manifest: Manifest) -> Mapping[str, Callable[..., Json]]:
    """The functions of a host tool by action. Raises UsageError where its entry cannot be loaded."""
    module, _, name = manifest.host.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as failure:
        raise UsageError(f"host tool {manifest.name!r} cannot be loaded from {manifest.host!r}: {failure}") from failure
    functions = (
        cast("Mapping[str, Callable[..., Json]]", found)
        if isinstance(found, Mapping)
        else {action_of(tool.name): Hosted(tool=tool) for tool in cast("Iterable[HostTool]", found)}
    )
    missing = [action for action in manifest.actions if action not in functions]
    if missing:
        raise UsageError(f"host tool {manifest.name!r}: {manifest.host!r} has no function for {', '.join(missing)}")
    return functions


def describe_host(manifest: Manifest) -> dict[str, dict[str, Json]]:
    """Schemas of the functions, as the sandbox derives them for other tools."""
    return {
        name: describe_tool(function.tool) if isinstance(function, Hosted) else described(function)
        for name, function in load_host(manifest).items()
        if name in manifest.actions
    }
