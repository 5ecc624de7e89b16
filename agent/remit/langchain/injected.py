"""Finds the arguments that LangChain and LangGraph inject into a tool. The model neither sees nor writes them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from langchain_core.tools import InjectedToolArg
from langgraph.prebuilt import ToolRuntime

from remit.broker import HostTool, describe_tool, kept_for_tool


@kept_for_tool
def injected_names(tool: HostTool) -> frozenset[str]:
    """The arguments that the tool's schema or function marks as injected, without those that the model may write."""
    shown = cast("dict[str, Any]", describe_tool(tool)["input"])["properties"]
    marked = {name for name, hint in _hints(tool) if _is_injected(hint)}
    return frozenset(marked - set(shown))


def _hints(tool: HostTool) -> Iterator[tuple[str, object]]:
    for name in ("args_schema", "func", "coroutine", "_run"):
        holder = getattr(tool, name, None)
        if callable(holder):
            try:
                yield from get_type_hints(holder, include_extras=True).items()
            except (NameError, TypeError, AttributeError):  # hints that cannot be resolved here mark nothing
                continue


def _is_injected(hint: object) -> bool:
    """True for `Annotated[…, InjectedState]` and similar marks, for `ToolRuntime`, and for a union with one of them."""
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *marks = get_args(hint)
        return any(isinstance(mark, InjectedToolArg) or _is_mark(mark) for mark in marks) or _is_injected(kind)
    if origin in (Union, types.UnionType):
        return any(_is_injected(member) for member in get_args(hint))
    return ToolRuntime in (hint, origin)


def _is_mark(mark: object) -> bool:
    return isinstance(mark, type) and issubclass(mark, InjectedToolArg)
