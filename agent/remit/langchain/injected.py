"""Which arguments of a tool LangChain and LangGraph put in themselves: a model neither sees nor writes them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from langchain_core.tools import BaseTool, InjectedToolArg
from langgraph.prebuilt import ToolRuntime

from remit.broker import describe_tool


def injected_names(tool: BaseTool) -> frozenset[str]:
    """The arguments that are marked so in the tool's schema or function; none that a model may write."""
    shown = cast("dict[str, Any]", describe_tool(tool)["input"])["properties"]
    marked = {name for name, hint in _hints(tool) if _is_injected(hint)}
    return frozenset(marked - set(shown))


def _hints(tool: BaseTool) -> Iterator[tuple[str, object]]:
    for name in ("args_schema", "func", "coroutine", "_run"):
        holder = getattr(tool, name, None)
        if callable(holder):
            try:
                yield from get_type_hints(holder, include_extras=True).items()
            except (
                NameError,
                TypeError,
                AttributeError,
            ):  # names that only its author's module knows: nothing is marked
                continue


def _is_injected(hint: object) -> bool:
    """`Annotated[…, InjectedState]` and its like, `ToolRuntime`, and either of them or None."""
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *marks = get_args(hint)
        return any(isinstance(mark, InjectedToolArg) or _is_mark(mark) for mark in marks) or _is_injected(kind)
    if origin in (Union, types.UnionType):
        return any(_is_injected(one) for one in get_args(hint))
    return ToolRuntime in (hint, origin)


def _is_mark(mark: object) -> bool:
    return isinstance(mark, type) and issubclass(mark, InjectedToolArg)
