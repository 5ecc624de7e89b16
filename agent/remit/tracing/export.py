"""Sending spans and metrics to a backend, as the standard `OTEL_*` variables say; nothing of a run waits for it or fails by it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from remit.core.events import Recorded
from remit.journal import ChainLink
from remit.tracing.metrics import Measurement, Metrics
from remit.tracing.spans import Span, Spans, span_id


class SpanBackend(Protocol):
    """Where ended spans go. `send` never blocks and never raises; `lost` counts what has not arrived."""

    @property
    def lost(self) -> int: ...
    def send(self, span: Span) -> None: ...
    def close(self) -> None: ...


class MetricsBackend(Protocol):
    """Where numbers go. `record` never blocks and never raises."""

    def record(self, measured: Measurement) -> None: ...
    def close(self) -> None: ...


class Export:
    """Sends the spans and numbers of one run to a backend as they come. A backend's copy is for reading, never for replay.

    The first process of a run sends a trace of the run's own id. Each later one sends a trace of its own, whose root is
    linked to the first, because a backend keeps a span that was sent as it was.
    """

    def __init__(self, backend: SpanBackend | None, measuring: MetricsBackend | None = None) -> None:
        self._backend = backend
        self._measuring = measuring
        self._metrics = Metrics()
        self._spans: Spans | None = None
        self._part = 0

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, gauges: Mapping[str, Callable[[], int]] | None = None
    ) -> Export | None:
        """The export that the environment asks for; None where it names no collector, or switches all of it off."""
        spans, metrics = (_is_enabled(environment, signal) for signal in ("TRACES", "METRICS"))
        if not spans and not metrics:
            return None
        # OpenTelemetry's SDK loads only where it is asked for.
        from remit.tracing.otel_metrics import Meter  # noqa: PLC0415
        from remit.tracing.otel_spans import Collector  # noqa: PLC0415

        return cls(Collector() if spans else None, Meter(gauges or {}) if metrics else None)

    @property
    def lost(self) -> int:
        """Spans that have not arrived at the backend."""
        return 0 if self._backend is None else self._backend.lost

    def recall(self, earlier: Iterable[Recorded | ChainLink]) -> None:
        """Take in what earlier processes recorded and sent."""
        for recorded in earlier:
            self._take(recorded)

    def see(self, recorded: Recorded | ChainLink) -> None:
        """Take one event in, and send the spans and the numbers that come with it."""
        spans, numbers = self._take(recorded)
        for span in spans:
            self._send(span)
        if self._measuring is not None:
            for measured in numbers:
                self._measuring.record(measured)

    def count_unrecorded(self) -> None:
        """Count a run that ended because its journal cannot record: no event of it can say so."""
        if self._measuring is not None:
            self._measuring.record(self._metrics.unrecorded())

    def close(self) -> None:
        """Send what is left, within a few seconds, also the spans that have not ended."""
        for span in self._spans.unfinished() if self._spans else ():
            self._send(span)
        closing = [
            threading.Thread(target=end.close, daemon=True)
            for end in (self._backend, self._measuring)
            if end is not None
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()  # each gives up by itself

    def _take(self, recorded: Recorded | ChainLink) -> tuple[list[Span], list[Measurement]]:
        if self._spans is None:
            self._spans = Spans(recorded.run)
        if recorded.type == "run.resumed":
            self._part += 1
        return self._spans.see(recorded), list(self._metrics.see(recorded))

    def _send(self, span: Span) -> None:
        if self._backend is None:
            return
        if self._part:
            first = ((span.trace_id, span_id(span.trace_id, ())),) if span.place == () else ()
            span = replace(span, trace_id=trace_id_of_part(span.trace_id, self._part), links=first)
        self._backend.send(span)


def trace_id_of_part(run: str, number: int) -> str:
    """The trace id of a run's later part: 32 hex digits that follow from the run alone; part 0 is the run's own."""
    return run if number == 0 else hashlib.sha256(f"remit.part/{run}/{number}".encode()).hexdigest()[:32]


def _is_enabled(environment: Mapping[str, str], signal: str) -> bool:
    def said(name: str, default: str = "") -> str:
        return environment.get(name, default).strip().lower()

    named = said(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or said("OTEL_EXPORTER_OTLP_ENDPOINT")
    return bool(named) and said("OTEL_SDK_DISABLED") != "true" and said(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"
