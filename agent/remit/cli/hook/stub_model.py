"""A model for a coding agent, on this machine: it makes given calls, and receives what became of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

LARGEST: Final = 64 << 20  # bytes of a request
_ENOUGH: Final = "done"


@dataclass(frozen=True, kw_only=True)
class NativeCall:
    """A call of a native tool that the model makes."""

    tool: str
    given: Mapping[str, Any]


@dataclass(kw_only=True)
class StubModel:
    """Answers requests of the Messages API of Anthropic. `results` are the results of its calls, in their order."""

    calls: Sequence[NativeCall]
    url: str = ""
    results: list[str] = field(default_factory=list[str])

    def turn(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The content of the next message. A request without tools is one of the coding agent's own, about titles and the like."""
        found = list(_results(request))
        if len(found) > len(self.results):
            self.results = found
        if not request.get("tools") or len(found) >= len(self.calls):
            return [{"type": "text", "text": _ENOUGH}]
        call = self.calls[len(found)]
        return [{"type": "tool_use", "id": f"toolu_{len(found):04}", "name": call.tool, "input": dict(call.given)}]


@contextmanager
def listening(model: StubModel) -> Generator[StubModel]:
    """The model on a free port of this machine, until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._send(b"", "text/plain")

        def do_GET(self) -> None:
            self._send(b"{}", "application/json")

        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length", 0)), LARGEST)
            request: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
            if not self.path.split("?")[0].endswith("/messages"):
                self._send(b'{"input_tokens": 1}', "application/json")
                return
            content = model.turn(request)
            if request.get("stream"):
                self._send(_stream(content, str(request.get("model"))), "text/event-stream")
            else:
                self._send(json.dumps(_message(content, str(request.get("model")))).encode(), "application/json")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()


def _results(request: Mapping[str, Any]) -> Generator[str]:
    """The results of calls in the messages, as texts."""
    for message in request.get("messages", []):
        content: object = message.get("content")
        for block in cast("list[dict[str, Any]]", content) if isinstance(content, list) else []:
            if block.get("type") == "tool_result":
                found = block["content"]
                yield found if isinstance(found, str) else json.dumps(found)


def _message(content: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": "msg_0001",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(content),
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _stream(content: Sequence[Mapping[str, Any]], model: str) -> bytes:
    message = _message(content, model)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(content):
        if block["type"] == "text":
            begun: dict[str, Any] = {"type": "text", "text": ""}
            delta: dict[str, Any] = {"type": "text_delta", "text": block["text"]}
        else:
            begun = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
