"""The one module that loads OpenTelemetry's SDK: its sampler, limits, resource and queue, for what leaves the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from remit.trace.attributes import CONTENT, Attribute
from remit.trace.otlp import RESOURCE, SCOPE
from remit.trace.spans import CLIENT, Span

CLOSING_S: Final = 5.0  # a collector that does not answer holds a finished run up no longer

# The conventions' own switch: what people, models and tools said leaves the machine only where it says so.
CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Collector:
    """Queues spans for the collector that the environment names; a full queue drops, and never waits."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._resource = Resource.create()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        if str(self._resource.attributes.get("service.name", "")).startswith("unknown_service"):
            self._resource = self._resource.merge(Resource(dict(RESOURCE)))
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler  # OTEL_TRACES_SAMPLER
        self._limits = SpanLimits()  # OTEL_SPAN_ATTRIBUTE_*
        self._content = os.environ.get(CAPTURE, "").strip().lower() in ("true", "span_only", "span_and_event")
        self._processor = BatchSpanProcessor(exporter or OTLPSpanExporter())

    def send(self, span: Span) -> None:
        """Queue one span, unless the sampler leaves its run out."""
        trace_id = int(span.trace_id, 16)
        if self._sampler.should_sample(None, trace_id, span.name).decision is not Decision.DROP:
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is queued, for a few seconds at most."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_S)

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id),
            resource=self._resource,
            attributes=self._bounded(span.attributes),
            events=[
                Event(name=event.name, attributes=self._bounded(event.attributes), timestamp=event.at)
                for event in span.events
            ],
            kind=SpanKind.CLIENT if span.kind == CLIENT else SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, self._said(span.error)),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=InstrumentationScope(SCOPE["name"], SCOPE["version"]),
        )

    def _bounded(self, attributes: Mapping[str, Attribute]) -> BoundedAttributes:
        kept = {name: value for name, value in attributes.items() if self._content or name not in CONTENT}
        limits = self._limits
        return BoundedAttributes(limits.max_span_attributes, kept, max_value_len=limits.max_span_attribute_length)

    def _said(self, message: str) -> str:
        """An error's message may be the tool's own words."""
        return message if self._content else ""


def _context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)
