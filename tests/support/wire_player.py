"""A chat-completions server on loopback that plays given bytes, to test what servers other than OpenAI's send.

with WirePlayer([stream(delta(content="hello"), finish("stop"))]) as player:
    ... base_url=player.base_url ...
player.requests   # the bodies of the requests
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeAlias

from support.model_server import ModelServer

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The bytes of one answer. With `dropped`, the connection ends in the middle of the body. `pause_s` is before the body."""

    pieces: Sequence[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    dropped: bool = False
    pause_s: float = 0.0


Turn: TypeAlias = Answer | Callable[[dict[str, Any]], Answer]


def stream(*chunks: dict[str, Any] | str, dropped: bool = False) -> Answer:
    """A stream of events: of chunks, and of raw text."""
    pieces = [chunk if isinstance(chunk, str) else f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Answer(
        pieces=[piece.encode() for piece in pieces], headers={"content-type": "text/event-stream"}, dropped=dropped
    )


def document(body: Any, *, status: int = 200, **headers: str) -> Answer:
    """One document: JSON of a value, or a text or bytes as they are."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(pieces=[data], status=status, headers={"content-type": "application/json", **named})


def delta(**members: Any) -> dict[str, Any]:
    """A chunk with that delta."""
    return {"id": "c", "model": "some-model", "choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def finish(reason: str | None, **members: Any) -> dict[str, Any]:
    """The last chunk of a turn."""
    return {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason, **members}]}


def call(name: str | None, arguments: Any = None, **members: Any) -> dict[str, Any]:
    """A piece of a call, as an item of `tool_calls`."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"type": "function", "function": function, **members}


def calls(*items: dict[str, Any], reason: str = "tool_calls") -> Answer:
    """A stream with each of these items in a chunk of its own."""
    return stream(*(delta(tool_calls=[item]) for item in items), finish(reason), DONE)


def says(text: str) -> Answer:
    return stream(delta(content=text), finish("stop"), DONE)


class WirePlayer(ModelServer):
    """Plays the turns in order. After the last turn, the last one is played again."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self.requests: list[dict[str, Any]] = []

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    def answer(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            turn = self._turns[min(len(self.requests), len(self._turns) - 1)]
            self.requests.append(body)
        return turn if isinstance(turn, Answer) else turn(body)


class _Handler(BaseHTTPRequestHandler):
    owner: WirePlayer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read results, not logs."""

    def do_POST(self) -> None:
        answer = self.owner.answer(json.loads(self.rfile.read(int(self.headers.get("content-length", 0)))))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.flush()
        time.sleep(answer.pause_s)
        self.close_connection = True
        for piece in answer.pieces:
            if piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
        if not answer.dropped:
            self.wfile.write(b"0\r\n\r\n")
