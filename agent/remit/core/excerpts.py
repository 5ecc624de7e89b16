"""The part of a long result that the model reads at once: its beginning, its end, and how to read the rest.

All sizes are bytes of the JSON text that the model reads, in which one character can need up to six.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from remit.core.calls import Json, Result, tool_name
from remit.core.parsing import canonical_json, load_json

READ_RESULT: Final = "remit.read_result"  # the action that reads a part of an earlier result of the same run
SMALLEST_EXCERPT: Final = 1024  # bytes: what stands around the text of a result needs about 300
_FRAME: Final = 300
_ESCAPED: Final = frozenset('"\\\b\t\n\f\r')


def result_message(call: str, result: Result) -> str:
    """A result as the model reads it: one JSON object. `call` is its place, STEP.INDEX."""
    return canonical_json({"call": call, **result.model_dump(mode="json")}).decode()


def result_text(message: str) -> str:
    """What is read in parts of a result, of which `message` is the whole: the text or the JSON of its value, or of its error."""
    whole: dict[str, Any] = load_json(message)
    content = whole["value"] if whole["ok"] else whole["error"]
    return content if isinstance(content, str) else canonical_json(content).decode()


def excerpt_message(message: str, most: int, *, readable: bool) -> str:
    """The result in at most `most` bytes: the beginning and the end of its text, and how to read the rest.

    `readable` is True if the agent has the action `remit.read_result`.
    """
    text = result_text(message)
    shown: dict[str, Any] = {key: value for key, value in load_json(message).items() if key in ("call", "ok", "labels")}
    space = _space(most, shown.get("labels", ()))
    head = _fitting(text, space * 2 // 3)
    rest = text[len(head) :]
    tail = _fitting(reversed(rest), space - space * 2 // 3)[::-1]
    begin, end = len(head), len(text) - len(tail)
    excerpt: dict[str, Json] = {"head": head, "tail": tail, "characters": len(text), "left_out": [begin, end]}
    step = f'call {tool_name(READ_RESULT)} with "call": "{shown["call"]}" and "offset": {begin} to read on'
    if not readable:
        step = "ask for less, if you need what is left out"
    return canonical_json({**shown, "excerpt": excerpt, "next_step": step}).decode()


def page_of(text: str, offset: int, *, most: int, labels: Iterable[str]) -> dict[str, Json]:
    """A part of a text that begins at the offset, as the value of a result with these labels of at most `most` bytes."""
    part = _fitting(text[offset:], _space(most, labels))
    return {"text": part, "offset": offset, "end": offset + len(part), "characters": len(text)}


def _space(most: int, labels: Iterable[str]) -> int:
    """The bytes for the text in a result with these labels, so that the whole result has at most `most` bytes."""
    return max(1, most - _FRAME - sum(len(label) + 3 for label in labels))


def _fitting(text: Iterable[str], most: int) -> str:
    """The first characters of the text that need at most `most` bytes as JSON."""
    taken: list[str] = []
    for character in text:
        most -= _bytes_of(character)
        if most < 0:
            break
        taken.append(character)
    return "".join(taken)


def _bytes_of(character: str) -> int:
    code = ord(character)
    if code < 0x80:
        return 2 if character in _ESCAPED else 6 if code < 0x20 else 1
    return 2 if code < 0x800 else 3 if code < 0x10000 else 4
