"""The messages and the tool calls in the attributes of a span, in the forms that other tools write.

- GenAI conventions of OpenTelemetry: `parts` of type `text`, `tool_call` and `tool_call_response`, as JSON text or as a list
- OpenInference: flat attributes, `llm.output_messages.0.message.tool_calls.0.tool_call.function.name`
- OpenLLMetry before it took over the GenAI conventions: `gen_ai.completion.0.tool_calls.0.name`

Every value comes from a file that anyone may have written: what has another type than expected counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from remit.core import Json
from remit.core.parsing import load_json

MOST_PARTS: Final = 16  # of the name of a flat attribute; the conventions have seven
MOST_LEVELS: Final = 8  # of a value in which the message of a tool is looked for
_WRAPPERS: Final = ("message", "tool_call", "message_content")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A tool call that a model asked for. `arguments` is JSON text, None if it was not recorded."""

    id: str
    name: str
    arguments: str | None


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message: its role, its text, and the calls that it asks for."""

    role: str
    text: str
    calls: tuple[Asked, ...]


def messages(value: object) -> tuple[Message, ...]:
    """The messages of a list of them, or of its JSON text."""
    return tuple(_message(inner) for item in _items(as_json(value)) if (inner := _unwrapped(item)))


def unflatten(attributes: Mapping[str, Any], prefix: str) -> Sequence[Any]:
    """The list that flat attributes such as `PREFIX.0.message.role` stand for; empty without any."""
    root: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(f"{prefix}."):
            continue
        at, parts = root, key.removeprefix(f"{prefix}.").split(".", MOST_PARTS)
        for part in parts[:-1]:
            below = at.setdefault(part, {})
            if not isinstance(below, dict):
                break
            at = cast("dict[str, Any]", below)
        else:
            at[parts[-1]] = value
    return _items(_lists(root))


def as_json(value: object) -> Json:
    """The value of a JSON text; other values, and texts that are not JSON, as they are."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return load_json(value)
    except ValueError:
        return value


def arguments_text(value: object) -> str | None:
    """Arguments as JSON text; None for what is no object."""
    found = as_json(value)
    if not isinstance(found, dict):
        return None
    if isinstance(value, str):
        return value
    return json.dumps(found, ensure_ascii=False)


def without_callback(value: Json) -> Json:
    """Arguments as they are. OpenLLMetry writes all that LangChain passes to its callback, with the arguments as `inputs`."""
    known = _unwrapped(value)
    return known["inputs"] if "input_str" in known and "inputs" in known else value


def tool_message(value: Json, levels: int = MOST_LEVELS) -> Mapping[str, Any] | None:
    """The innermost object with a `tool_call_id`, in which frameworks wrap the result of a tool; None without one."""
    if levels == 0 or not isinstance(value, dict):
        return None
    known = cast("dict[str, Any]", value)
    if isinstance(known.get("tool_call_id"), str):
        return known
    return next(filter(None, (tool_message(inner, levels - 1) for inner in known.values())), None)


def _message(item: Mapping[str, Any]) -> Message:
    parts = [_unwrapped(part) for part in _items(item.get("parts") or item.get("contents") or item.get("content"))]
    texts = [item["content"]] if isinstance(item.get("content"), str) else list(_texts(parts))
    calls = [*_items(item.get("tool_calls")), *(part for part in parts if part.get("type") == "tool_call")]
    return Message(role=_word(item.get("role")), text="\n".join(texts), calls=tuple(_asked(calls)))


def _texts(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        text = part.get("content") if "content" in part else part.get("text")
        if part.get("type", "text") == "text" and isinstance(text, str):
            yield text


def _asked(calls: Iterable[Any]) -> Iterator[Asked]:
    for call in map(_unwrapped, calls):
        function = _unwrapped(call.get("function", call))
        name = _word(function.get("name"))
        if name:
            yield Asked(id=_word(call.get("id")), name=name, arguments=arguments_text(function.get("arguments")))


def _unwrapped(item: object) -> dict[str, Any]:
    """The object itself, without the names that OpenInference puts around it."""
    if not isinstance(item, dict):
        return {}
    known = cast("dict[str, Any]", item)
    inner = next((known[name] for name in _WRAPPERS if isinstance(known.get(name), dict)), None)
    return known if inner is None else cast("dict[str, Any]", inner)


def _lists(value: object) -> object:
    """The value, with lists in place of objects whose names are all numbers."""
    if not isinstance(value, dict):
        return value
    known = {str(key): _lists(inner) for key, inner in cast("Mapping[Any, Any]", value).items()}
    if known and all(key.isascii() and key.isdigit() and len(key) < 7 for key in known):
        return [known[key] for key in sorted(known, key=int)]
    return known


def _items(value: object) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
