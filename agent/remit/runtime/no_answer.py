"""Finds turns that end a run without being an answer: without words, a refusal, or a call that is written as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from remit.core import ENDED, ToolSpec, tool_name
from remit.core.events import ModelResponded
from remit.core.parsing import hidden_character, load_json
from remit.runtime.models.wire.event_stream import is_array, is_object

TRIES: Final = 2  # how often the model is asked again, unless `agent.toml` says it under [answer]

_ESCAPED = re.compile(r"\\u\{[0-9a-f]{1,6}\}")  # how the record shows a hidden character
# Marks of a call in the text formats of models, which a server did not turn into a call.
_MARK = re.compile(
    r"<\|?(?:tool_calls?|function_calls?|python_tag)\b[^<>\n]{0,8}\|?>?|<invoke name=|<function[=_]|\[TOOL_CALLS\]"
    r"|<｜tool|<\|tool|<\|python_tag\|>|to=functions\.|```tool_(?:call|code)|<\|channel\|>commentary"
)
_ARGUMENTS_BEGIN = re.compile(r"\{|\w=|<parameter")  # without arguments it is a text about calls
_NEAR: Final = 200  # characters after a mark in which the name of a tool stands
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
_LONGEST_CALL: Final = 64 << 10  # characters of an answer that may be nothing but a call
_MOST_MARKS: Final = 50  # marks of one answer that are looked at


def why_no_answer(response: ModelResponded, tools: Sequence[ToolSpec]) -> str | None:
    """Why a turn without calls is no answer, as a sentence about it; None if it is one. `tools` are those that were offered."""
    if response.finish == ENDED:
        return None
    text = response.text
    if response.finish == "refusal":
        return "it is a refusal"
    if response.finish.startswith(("malformed_function_call", "function_call_filter")):
        return "it contains a call that the provider could not read"
    if not _has_words(text):
        if response.finish not in ("stop", "tool_calls"):
            return None  # it was cut, which is another reason
        return "it has reasoning and no words" if response.provider_state else "it has no words"
    if (name := _written_call(text, {tool.name for tool in tools})) is not None:
        return f"it contains a call of {name!r} as text, which does not run: make the call through the tool interface"
    return None


def _has_words(text: str) -> bool:
    """True if a reader sees anything of the text."""
    return any(not (character.isspace() or hidden_character(character)) for character in _ESCAPED.sub("", text))


def _written_call(text: str, names: set[str]) -> str | None:
    """The name of the tool that a call in the text names; None if there is no call in it.

    A mark alone is not enough: an answer may be about the formats of calls.
    """
    plain = text if len(text) <= 2 * _LONGEST_CALL else f"{text[:_LONGEST_CALL]}\n{text[-_LONGEST_CALL:]}"
    for mark in islice(_MARK.finditer(plain), _MOST_MARKS):
        near = plain[mark.start() : mark.end() + _NEAR]
        words = re.findall(r"[A-Za-z0-9_.-]+", near) if _ARGUMENTS_BEGIN.search(near) else ()
        for word in words:
            if (name := _offered(word, names)) is not None:
                return name
    return _bare_call(text, names)


def _bare_call(text: str, names: set[str]) -> str | None:
    """The name in a text that is nothing but JSON of a call, or of a list of calls."""
    plain = text.strip()
    fenced = _FENCE.match(plain) if len(plain) <= _LONGEST_CALL else None
    plain = fenced[1].strip() if fenced else plain
    if plain[:1] not in ("{", "[") or len(plain) > _LONGEST_CALL:
        return None
    try:
        value = load_json(plain)
    except ValueError:
        return None
    for item in value if is_array(value) and value else [value]:
        call = item.get("function", item) if is_object(item) else None
        if not is_object(call) or not any(name in call for name in _ARGUMENTS):
            return None
        if (name := _offered(str(call.get("name", "")), names)) is not None:
            return name
    return None


def _offered(word: str, names: set[str]) -> str | None:
    plain = tool_name(word.removeprefix("functions.").strip(".:-"))
    return plain if plain in names else None
