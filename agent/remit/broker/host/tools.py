"""Host tools: functions that run in this process, for tools that cannot run in a sandbox.

They are not confined. Only tools that `remit.toml` names are loaded, and their confinement is recorded as `none`. The entry
point in a manifest is a table of functions by action, or a list of LangChain tools (recognized by their attributes).
"""

from __future__ import annotations

import asyncio
import operator
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from remit.broker.host.clients import CLIENTS
from remit.broker.host.content import HostValue, content_value
from remit.core import Json, UsageError
from remit.core.parsing import Arguments, CopyOnRead, closed
from remit.sandbox import Action as TypedFunction
from remit.sandbox import described, snake_case, tried
from remit.workspace.manifest import Manifest

_OF_LANGCHAIN: Final = ("config", "run_manager")  # arguments by which LangChain calls the function of a tool
# The possible contents of a LangChain ToolMessage: a text, blocks, and what LangChain writes as a text of JSON.
CONTENT: Final[Json] = {"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "object"}]}


class HostTool(Protocol):
    """The attributes of a LangChain tool that are used here."""

    name: str
    description: str
    args_schema: Any  # a pydantic model of all arguments, or a JSON Schema

    @property
    def tool_call_schema(self) -> Any:
        """The arguments of the model, without arguments that the graph injects: a pydantic model or a JSON Schema."""
        ...

    def invoke(self, input: Any, *settings: Any, **options: Any) -> Any: ...
    async def ainvoke(self, input: Any, *settings: Any, **options: Any) -> Any: ...


_PARTS: Final = (
    "args_schema",
    "func",
    "coroutine",
    "description",
)  # of a tool: what is computed of it follows from these

_Made = TypeVar("_Made")


def kept_for_tool(make: Callable[[HostTool], _Made]) -> Callable[[HostTool], _Made]:
    """The function with its results kept, each as long as its tool lives and has the same parts: LangChain builds a model each time."""
    known: dict[int, tuple[weakref.ref[HostTool], tuple[Any, ...], _Made]] = {}

    @wraps(make)
    def of(tool: HostTool) -> _Made:
        key, parts = id(tool), tuple(getattr(tool, name, None) for name in _PARTS)
        found = known.get(key)
        if found is not None and found[0]() is tool and all(map(operator.is_, found[1], parts)):
            return found[2]
        made = make(tool)
        known[key] = weakref.ref(tool, lambda _: known.pop(key, None)), parts, made
        return made

    return of


@kept_for_tool
def _shown_schema(tool: HostTool) -> Any:
    return tool.tool_call_schema


class ToolError(Exception):
    """The error message of a LangChain tool; in a manifest, the declared error `tool_error`."""


class Explained(Exception):
    """An exception of a tool, which is the cause, with the words that the program around the tool gives the model of it."""


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """Calls a LangChain tool as the function of an action. It returns the content of the ToolMessage.

    `invoke` calls the tool in another way: in its graph.
    """

    tool: HostTool
    invoke: Callable[..., HostValue] | None = None

    @property
    def model(self) -> Any:
        """The pydantic model by which LangChain validates the arguments of the model; None if it has none."""
        every, shown = self.tool.args_schema, _shown_schema(self.tool)
        if not hasattr(shown, "model_fields"):
            return None
        # The second is made of the first without what the graph injects, and without its validators of whole models.
        return every if set(getattr(every, "model_fields", ())) == set(shown.model_fields) else shown

    def __call__(self, **arguments: Json) -> HostValue:
        if self.invoke is not None:
            return self.invoke(**arguments)
        given = CopyOnRead(Arguments.of(arguments))
        call = {"type": "tool_call", "name": self.tool.name, "args": given, "id": "remit"}
        return content_of(invoke_tool(self.tool, call))


def invoke_tool(tool: HostTool, call: Any, *settings: Any, **options: Any) -> Any:
    """What a LangChain tool returns for a call, also if it has a coroutine only. For a thread without an event loop."""
    try:
        return tool.invoke(call, *settings, **options)
    except NotImplementedError as failure:
        if not _is_asynchronous(tool, failure):
            raise
        return asyncio.run(tool.ainvoke(call, *settings, **options))


def _is_asynchronous(tool: HostTool, failure: NotImplementedError) -> bool:
    """True if `invoke` of the tool has raised this before it did anything, because the tool has a coroutine only.

    What the function of a tool raises is an error of the tool: then the tool has begun, and must not run again.
    """
    frame = failure.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    run = getattr(type(tool), "_run", None)
    return frame is not None and frame.tb_frame.f_code is getattr(run, "__code__", None)


def action_of(tool: str) -> str:
    """The action name of a LangChain tool: `get_order` for `getOrder`, `get-order` and `get_order`."""
    return snake_case(tool).replace("-", "_")


def content_of(message: object) -> HostValue:
    """The content of a ToolMessage, as JSON; another object is returned as it is, and fails the output schema later.

    Raises:
        ToolError: the message reports an error.
    """
    content = getattr(message, "content", message)
    if getattr(message, "status", "") == "error":
        raise ToolError(content if isinstance(content, str) else "")
    return content_value(content)


@kept_for_tool
def describe_tool(tool: HostTool) -> dict[str, Json]:
    """The `description`, `input`, `output` and `hidden` of a LangChain tool, which declares no output schema.

    A tool that no call can reach has only `problem`.
    """
    declared = _shown_schema(tool)
    schema = cast("dict[str, Json]", declared if isinstance(declared, dict) else declared.model_json_schema())
    for name in _OF_LANGCHAIN:
        if hasattr(tool, "func") and name in schema.get("properties", {}):
            return {"problem": f"parameter {name!r} has a name that LangChain uses itself"}
    kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return {
        "description": tool.description,
        "input": closed({"type": "object", "properties": {}, **kept}),
        "output": CONTENT,
        "hidden": [],
    }


def _imported(module: str, root: Path | None) -> Any:
    """The module, which may be a file of the workspace. It is imported in a thread of its own, so that it may use an event loop."""
    if root is not None and str(root) not in sys.path:
        sys.path.append(str(root))  # last: no file of the workspace hides an installed module
        invalidate_caches()
    with ThreadPoolExecutor(1, thread_name_prefix="remit-import") as thread:
        return thread.submit(import_module, module).result()


def host_functions(host: str, root: Path | None) -> Mapping[str, Callable[..., Json]]:
    """The functions at an entry point `package.module:functions`, by action. The module is installed, or a file below `root`, the
    folder of the workspace.

    Raises:
        UsageError: there is no such entry point, or it is no table or list of functions or LangChain tools.
    """
    module, _, name = host.partition(":")
    try:
        entry: Any = getattr(_imported(module, root), name)
    except (ImportError, AttributeError) as failure:
        fix = "write the module beside remit.toml, or install it"
        raise UsageError(f"{host!r} cannot be loaded: {failure}; {fix}") from failure
    if isinstance(entry, Mapping):
        return cast("Mapping[str, Callable[..., Json]]", entry)
    if not isinstance(entry, Sequence):
        raise UsageError(f"{host!r} is no table or list of functions or LangChain tools")
    return dict(map(_named, cast("Sequence[object]", entry)))


def _named(function: object) -> tuple[str, Callable[..., Json]]:
    """A tool of LangChain or a function, with the name of its action."""
    if isinstance(getattr(function, "name", None), str) and hasattr(function, "tool_call_schema"):
        tool = cast("HostTool", function)
        return action_of(tool.name), Hosted(tool=tool)
    if not callable(function) or not hasattr(function, "__name__"):
        raise UsageError(f"{function!r} in the list is no function and no LangChain tool: remove it")
    return action_of(function.__name__), cast("Callable[..., Json]", function)


def load_host(manifest: Manifest, root: Path | None) -> Mapping[str, Callable[..., Json]]:
    """The functions of a host tool by action.

    Those of a coding agent are Remit's own: they have the types of its tools, and refuse every call.

    Raises:
        UsageError: the entry point cannot be loaded, or has no function for an action.
    """
    if manifest.source == "hook":
        return _of_client(manifest)
    try:
        functions = host_functions(manifest.host, root)
    except UsageError as error:
        raise UsageError(f"host tool {manifest.name!r}: {error}") from error
    missing = [action for action in manifest.actions if action not in functions]
    if missing:
        raise UsageError(f"host tool {manifest.name!r}: {manifest.host!r} has no function for {', '.join(missing)}")
    return functions


def _of_client(manifest: Manifest) -> Mapping[str, Callable[..., Json]]:
    functions = CLIENTS[manifest.client]
    if unknown := [action for action in manifest.actions if action not in functions]:
        known = f"remove it from tool {manifest.name!r}; it has {', '.join(functions)}"
        raise UsageError(f"{manifest.client} has no action {unknown[0]!r}: {known}")
    return functions


def describe_host(manifest: Manifest, root: Path | None) -> dict[str, dict[str, Json]]:
    """The schemas of the functions by action, as the sandbox derives them for other tools."""
    return {
        name: describe_function(function)
        for name, function in load_host(manifest, root).items()
        if name in manifest.actions
    }


def describe_function(function: Callable[..., Json]) -> dict[str, Json]:
    """The `description`, `input`, `output` and `hidden` of a function or of a LangChain tool; or only `problem`."""
    return describe_tool(function.tool) if isinstance(function, Hosted) else described(function)


def try_host(
    manifest: Manifest, examples: Mapping[str, Mapping[str, Sequence[Json]]], root: Path | None
) -> dict[str, Json]:
    """What became of examples of `arguments` and `results` of the functions by action, as the sandbox reports it for other tools.

    LangChain tools are left out: LangChain makes their schemas from the models by which it validates.
    """
    functions = {name: made for name, made in load_host(manifest, root).items() if not isinstance(made, Hosted)}
    return {
        name: tried(TypedFunction(functions[name]), **given) for name, given in examples.items() if name in functions
    }
