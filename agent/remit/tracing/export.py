"""Sends spans and metrics to a backend, as the standard `OTEL_*` variables configure it.

A run never waits for the export, and never fails because of it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from remit.core.events import Recorded
from remit.journal import ChainLink
from remit.tracing.gauges import GaugeReader
from remit.tracing.metrics import Measurement, Metrics
from remit.tracing.spans import Span, Spans, span_id


class SpanBackend(Protocol):
    """Receives ended spans. `send` never blocks and never raises; `lost` counts the spans that have not arrived."""

    @property
    def lost(self) -> int: ...
    def send(self, span: Span) -> None: ...
    def close(self) -> None: ...


class MetricsBackend(Protocol):
    """Receives measurements. `record` never blocks and never raises."""

    def record(self, measurement: Measurement) -> None: ...
    def close(self) -> None: ...


class Export:
    """Sends the spans and metrics of one run to a backend while the run goes on. The backend's copy is never replayed.

    The first process of a run sends a trace with the id of the run. Each later process sends a trace of its own, whose root
    span links to the first trace, because a backend cannot change a span that was already sent.
    """

    def __init__(self, backend: SpanBackend | None, metrics_backend: MetricsBackend | None = None) -> None:
        self._backend = backend
        self._metrics_backend = metrics_backend
        self._metrics = Metrics()
        self._spans: Spans | None = None
        self._part = 0

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, gauges: GaugeReader | None = None
    ) -> Export | None:
        """The export that the environment configures; None if it names no collector, or disables all signals."""
        spans, metrics = (is_enabled(environment, signal) for signal in ("TRACES", "METRICS"))
        if not spans and not metrics:
            return None
        # OpenTelemetry's SDK is loaded only if something is exported: it would slow down the start of each command.
        from remit.tracing.otel_metrics import Meter  # noqa: PLC0415
        from remit.tracing.otel_spans import Collector  # noqa: PLC0415

        return cls(Collector() if spans else None, Meter(gauges) if metrics else None)

    @property
    def lost(self) -> int:
        """The number of spans that have not arrived at the backend."""
        return 0 if self._backend is None else self._backend.lost

    def recall(self, earlier: Iterable[Recorded | ChainLink]) -> None:
        """Add the events that earlier processes recorded and sent; nothing is sent again."""
        for recorded in earlier:
            self._add(recorded)

    def see(self, recorded: Recorded | ChainLink) -> None:
        """Add one event, and send the spans that it ends and the metrics that it makes."""
        spans, measurements = self._add(recorded)
        for span in spans:
            self._send(span)
        if self._metrics_backend is not None:
            for measurement in measurements:
                self._metrics_backend.record(measurement)

    def count_unrecorded(self) -> None:
        """Count a run that ended because its journal could not record: there is no event to count it by."""
        if self._metrics_backend is not None:
            self._metrics_backend.record(self._metrics.unrecorded())

    def close(self) -> None:
        """Send everything that is left, also the spans that have not ended; takes a few seconds at most."""
        for span in self._spans.unfinished() if self._spans else ():
            self._send(span)
        closing = [
            threading.Thread(target=end.close, daemon=True)
            for end in (self._backend, self._metrics_backend)
            if end is not None
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()  # each has its own time limit

    def _add(self, recorded: Recorded | ChainLink) -> tuple[list[Span], list[Measurement]]:
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
    """The trace id that process `number` of a run sends: 32 hex digits derived from the run id; process 0 sends the run id."""
    return run if number == 0 else hashlib.sha256(f"remit.part/{run}/{number}".encode()).hexdigest()[:32]


def is_enabled(environment: Mapping[str, str], signal: str) -> bool:
    """True if the environment names a collector for that signal: "TRACES", "METRICS" or "LOGS"."""

    def value(name: str, default: str = "") -> str:
        return environment.get(name, default).strip().lower()

    endpoint = value(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or value("OTEL_EXPORTER_OTLP_ENDPOINT")
    return (
        bool(endpoint) and value("OTEL_SDK_DISABLED") != "true" and value(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"
    )
