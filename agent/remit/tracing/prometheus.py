"""Gauges for Prometheus: its text format 0.0.4, once or over HTTP. The names are those that it gives to what it receives by OTLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

from remit.core import RunEnded
from remit.tracing.metrics import GAUGES, OF_SERVICE, Measurement

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE_S: Final = 5.0  # for one request: a client that sends nothing does not keep others out

Read = Callable[[], Mapping[str, Sequence[Measurement]]]


def prometheus_text(gauges: Mapping[str, Sequence[Measurement]]) -> str:
    """The gauges, by name, as Prometheus reads them from a page or a file."""
    lines: list[str] = []
    described = {**GAUGES, **OF_SERVICE}
    for name, measurements in gauges.items():
        exported = name.replace(".", "_")
        lines += [f"# HELP {exported} {described[name]}", f"# TYPE {exported} gauge"]
        lines += [f"{exported}{_labels(item.attributes)} {item.value:g}" for item in measurements]
    return "\n".join(lines) + "\n"


def _labels(attributes: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in attributes.items())
    return "{" + ",".join(pairs) + "}" if attributes else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def serve_metrics(read: Read, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer `GET /metrics` until the process is interrupted. `ready` gets the address, once it listens (port 0: any).

    Raises OSError if the address cannot be used.
    """

    class Handler(_Handler):
        gauges = staticmethod(read)

    with HTTPServer((host, port), Handler) as server:
        ready(f"http://{host}:{server.server_port}/metrics")
        server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    """One request. It answers nothing else, and writes no log: the address of who asks is of no use."""

    timeout = PATIENCE_S
    gauges: Read

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "the metrics are at /metrics\n")
            return
        try:
            self._answer(200, prometheus_text(self.gauges()))
        except RunEnded as failure:
            self._answer(503, f"{failure.message}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
