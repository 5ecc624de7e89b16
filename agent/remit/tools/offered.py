"""What a model is offered of a tool: the name, the description and the arguments of each action."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from remit.core import Json, ToolSpec
from remit.sandbox import Sandbox
from remit.tools.workbench import derive_pin, known_tool
from remit.workspace import Workspace, tool_spec
from remit.workspace.manifest import action_name

_LIMITS: Final = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "format")


async def model_view(workspace: Workspace, name: str, sandbox: Sandbox) -> tuple[ToolSpec, ...]:
    """The actions of a tool as a model is offered them once the present files are pinned.

    Raises:
        UsageError: there is no such tool.
        WorkspaceError: its code does not fit its manifest.
    """
    tool = known_tool(workspace, name)
    schemas = (await derive_pin(workspace, tool, sandbox)).schemas
    actions = tool.manifest.actions
    return tuple(tool_spec(action_name(name, key), actions[key], schemas[key]) for key in actions if key in schemas)


def spec_lines(spec: ToolSpec) -> Iterator[str]:
    """An action as a person reads it: one line for each argument, with its type, its limits and its description."""
    yield spec.name
    for line in spec.description.splitlines():
        yield f"  {line}".rstrip()
    properties: Mapping[str, Json] = spec.input.get("properties", {})
    required = spec.input.get("required", ())
    for name, schema in properties.items():
        yield f"    {name:<16} {_argument(schema, name in required)}"
    if not properties:
        yield "    no arguments"


def _argument(schema: Json, required: bool) -> str:
    if not isinstance(schema, dict):
        return "any value"
    parts = cast("Mapping[str, Json]", schema)
    branches = [parts, *(cast("Sequence[Mapping[str, Json]]", parts.get("anyOf", ())))]
    shown = [_type(parts), *(f"{key} {branch[key]}" for branch in branches for key in _LIMITS if key in branch)]
    shown.append(
        "required" if required else f"default {_written(parts['default'])}" if "default" in parts else "optional"
    )
    about = parts.get("description")
    return f"{', '.join(shown)}{f': {about}' if about else ''}"


def _type(schema: Json) -> str:
    """The type in words: the values of an enumeration, the types of a union, and the items of a list."""
    if not isinstance(schema, dict):
        return "any"
    parts = cast("Mapping[str, Json]", schema)
    if "const" in parts:
        return _written(parts["const"])
    if "$ref" in parts:
        return str(parts["$ref"]).rpartition("/")[2]
    choices = [_written(value) for value in cast("Sequence[Json]", parts.get("enum", ()))]
    for key in ("anyOf", "oneOf"):
        choices += map(_type, cast("Sequence[Json]", parts.get(key, ())))
    kind = parts.get("type", "any")
    if kind == "array" and "items" in parts:
        kind = f"array of {_type(parts['items'])}"
    return " | ".join(choices or (map(str, cast("Sequence[Json]", kind)) if isinstance(kind, list) else [str(kind)]))


def _written(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
