"""Sending spans to a backend, as the standard `OTEL_*` variables say; nothing of a run waits for it or fails by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from remit.chain import Link
from remit.event import Recorded
from remit.trace.spans import Span, Spans


class Backend(Protocol):
    """Where ended spans go. `send` never blocks and never raises."""

    def send(self, span: Span) -> None: ...
    def close(self) -> None: ...


class Export:
    """Sends the spans of one run to a backend as they end. A backend's copy is for reading, never for replay."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._spans: Spans | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Export | None:
        """The export that the environment asks for; None where it names no collector, or switches tracing off."""
        named = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if not any(environment.get(name, "").strip() for name in named):
            return None
        if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return None
        if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "otlp":
            return None
        from remit.trace.backend import Collector  # noqa: PLC0415 - OpenTelemetry's SDK loads only where it is asked for

        return cls(Collector())

    def see(self, recorded: Recorded | Link) -> None:
        """Take one event in, and send the spans that end with it."""
        if self._spans is None:
            self._spans = Spans(recorded.run)
        for span in self._spans.see(recorded):
            self._backend.send(span)

    def close(self) -> None:
        """Send what is left, within a few seconds, also the spans that have not ended."""
        for span in self._spans.unfinished() if self._spans else ():
            self._backend.send(span)
        self._backend.close()
