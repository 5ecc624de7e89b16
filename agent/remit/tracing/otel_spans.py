"""Sends spans to a backend by OpenTelemetry's SDK, with its sampler, limits, resource and queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from remit.tracing.attributes import CONTENT, Attribute
from remit.tracing.otlp import RESOURCE, SCOPE
from remit.tracing.spans import CLIENT, Span

CLOSING_S: Final = 5.0  # the longest time that a finished run waits for a collector that does not answer

# The switch of the GenAI conventions: without it, no texts of people, models and tools are sent.
CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


# Viewers that follow OpenInference show a decision as a guardrail. The GenAI conventions have no operation for it yet.
KIND: Final = "openinference.span.kind"
KINDS: Final = {"remit.decide": "GUARDRAIL"}


def resource() -> Resource:
    """The name of this service from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; `remit` if neither is set."""
    found = Resource.create()
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        return found.merge(Resource(dict(RESOURCE)))
    return found


class Collector:
    """Queues spans for the collector that the environment names. A full queue drops spans; it never blocks."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._resource = resource()
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler  # OTEL_TRACES_SAMPLER
        self._limits = SpanLimits()  # OTEL_SPAN_ATTRIBUTE_*
        self._content = os.environ.get(CAPTURE, "").strip().lower() in ("true", "span_only", "span_and_event")
        self._sending = _CountingExporter(exporter or OTLPSpanExporter())
        self._processor = BatchSpanProcessor(self._sending)
        self._given = 0

    @property
    def lost(self) -> int:
        """Spans that have not arrived: dropped from a full queue, refused by the collector, or still in the queue."""
        return self._given - self._sending.sent

    def send(self, span: Span) -> None:
        """Queue one span, unless the sampler excludes its run."""
        trace_id = int(span.trace_id, 16)
        if self._sampler.should_sample(None, trace_id, span.name).decision is not Decision.DROP:
            self._given += 1
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is queued; takes a few seconds at most."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_S)

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id),
            resource=self._resource,
            attributes=self._bounded(_with_kind(span)),
            events=[
                Event(name=event.name, attributes=self._bounded(event.attributes), timestamp=event.at)
                for event in span.events
            ],
            kind=SpanKind.CLIENT if span.kind == CLIENT else SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET)
            if span.error is None
            else Status(StatusCode.ERROR, self._message(span.error)),
            links=[Link(_context(trace_id, span_id)) for trace_id, span_id in span.links],
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=InstrumentationScope(SCOPE["name"], SCOPE["version"]),
        )

    def _bounded(self, attributes: Mapping[str, Attribute]) -> BoundedAttributes:
        kept = {name: value for name, value in attributes.items() if self._content or name not in CONTENT}
        limits = self._limits
        return BoundedAttributes(limits.max_span_attributes, kept, max_value_len=limits.max_span_attribute_length)

    def _message(self, message: str) -> str:
        """The message, or "" if no content is sent: the message of an error can be a tool's own text."""
        return message if self._content else ""


class _CountingExporter(SpanExporter):
    """An exporter that counts the spans that arrived."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.sent = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _with_kind(span: Span) -> Mapping[str, Attribute]:
    kind = KINDS.get(span.name)
    return span.attributes if kind is None else {**span.attributes, KIND: kind}


def _context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)
