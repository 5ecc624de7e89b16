"""Answers in the forms that servers send, for `remit doctor --model`: each is played to the adapter without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ACTION: Final = "remit__echo"
TEXT: Final = "remit"
_ARGUMENTS: Final = json.dumps({"text": TEXT})
_DONE: Final = "data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One form of an answer. It holds `calls` calls of `ACTION` with the text `TEXT` or, if `error` is set, an error with these words.

    `state` is what must stand in the next request, "" for nothing.
    """

    name: str
    body: bytes
    status: int = 200
    calls: int = 1
    error: str = ""
    state: str = ""


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n"


def _call(arguments: object = _ARGUMENTS, **members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": ACTION, "arguments": arguments}, **members}


def _stream(*calls: Mapping[str, Any], **members: Any) -> bytes:
    first = _chunk({"role": "assistant", "content": None, **members})
    return (
        first + "".join(_chunk({"tool_calls": [call]}) for call in calls) + _chunk({}, "tool_calls") + _DONE
    ).encode()


def _whole(**members: Any) -> bytes:
    message = {"role": "assistant", "content": None, "tool_calls": [_call(id="a")], **members}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()


_SIGNATURE: Final = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
_ERROR: Final = {"message": "the words of the provider", "code": 502}

SHAPES: Final[tuple[Shape, ...]] = (
    Shape(name="a call in the usual form", body=_stream(_call(id="a", index=0))),
    Shape(name="arguments as an object", body=_stream(_call({"text": TEXT}, id="a", index=0))),
    Shape(name="two calls without an index", body=_stream(_call(id="a"), _call(id="b")), calls=2),
    Shape(name="two calls of index 0 without ids", body=_stream(_call(index=0), _call(index=0)), calls=2),
    Shape(name="two calls without index and id", body=_stream(_call(), _call()), calls=2),
    Shape(
        name="the older form of calls",
        body=(
            _chunk({"function_call": {"name": ACTION, "arguments": _ARGUMENTS}}) + _chunk({}, "function_call")
        ).encode(),
    ),
    Shape(name="one document in place of a stream", body=_whole()),
    Shape(name="a stream without an end marker", body=_stream(_call(id="a", index=0)).removesuffix(_DONE.encode())),
    Shape(name="the reasoning of a turn", body=_stream(_call(id="a", index=0), reasoning_content="R1"), state="R1"),
    Shape(
        name="the encrypted reasoning of a turn",
        body=_stream(
            _call(id="a", index=0), reasoning_details=[{"type": "reasoning.encrypted", "data": "ZW5j", "index": 0}]
        ),
        state="ZW5j",
    ),
    Shape(
        name="the signature of a thought",
        body=_stream(_call(id="a", index=0, extra_content=_SIGNATURE)),
        state="c2lnbmF0dXJl",
    ),
    Shape(name="an error inside a stream", body=f"data: {json.dumps({'error': _ERROR})}\n\n".encode(), error="words"),
    Shape(name="an error under status 200", body=json.dumps({"error": _ERROR}).encode(), error="words"),
    Shape(name="a list of errors", body=json.dumps([{"error": _ERROR}]).encode(), status=400, error="words"),
    Shape(
        name="an error with details",
        body=json.dumps({"detail": [{"loc": ["body"], "msg": "the words"}]}).encode(),
        status=422,
        error="words",
    ),
    Shape(name="an error as a text", body=json.dumps({"error": "the words"}).encode(), status=400, error="words"),
    Shape(name="an error as a web page", body=b"<html><h1>the words</h1></html>", status=502, error="words"),
)
