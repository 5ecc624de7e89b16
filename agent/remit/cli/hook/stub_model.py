"""A model for a coding agent, on this machine: it makes given calls, and receives what became of them.

It answers requests of the Messages API of Anthropic (Claude Code), and of the Responses API of OpenAI (Codex).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from remit.cli.hook.model_apis import (
    NativeCall,
    content_of,
    message,
    message_stream,
    response_stream,
    results_in_messages,
    results_in_responses,
)

LARGEST: Final = 64 << 20  # bytes of a request
EVENTS: Final = "text/event-stream"


@dataclass(kw_only=True)
class StubModel:
    """Makes its calls one after the other. `results` are their results, in their order."""

    calls: Sequence[NativeCall]
    url: str = ""
    results: list[str] = field(default_factory=list[str])

    def next(self, request: Mapping[str, Any], found: Sequence[str]) -> NativeCall | None:
        """The next call, after these results; None: it is done. A request without tools is the coding agent's own, about titles and the like."""
        if len(found) > len(self.results):
            self.results = list(found)
        return self.calls[len(found)] if request.get("tools") and len(found) < len(self.calls) else None


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
            path, name = self.path.split("?")[0], str(request.get("model"))
            if path.endswith("/responses"):
                found = list(results_in_responses(request))
                self._send(response_stream(model.next(request, found), len(found)), EVENTS)
            elif path.endswith("/messages"):
                found = list(results_in_messages(request))
                content = content_of(model.next(request, found), len(found))
                if request.get("stream"):
                    self._send(message_stream(content, name), EVENTS)
                else:
                    self._send(json.dumps(message(content, name)).encode(), "application/json")
            else:
                self._send(b'{"input_tokens": 1}', "application/json")

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
