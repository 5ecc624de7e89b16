"""Writes one file with a run and its policy bundles: to send to a colleague, to attach to an incident, or to replay."""

from __future__ import annotations

import base64
from pathlib import Path

from remit.core import UsageError
from remit.storage import write_atomically
from remit.tracing.attributes import Attribute
from remit.tracing.object_store import read_index
from remit.tracing.otlp import encode_span
from remit.tracing.reader import BUNDLE_SPAN, Trace
from remit.tracing.spans import INTERNAL, Place, Span, SpanEvent, Spans, span_id


def write_portable(trace: Trace, path: Path) -> None:
    """Write the run's spans and one more span, `remit.bundle`, that contains every object the run names.

    Raises UsageError if an object is missing, or if the file cannot be written.
    """
    spans: dict[Place, Span] = {}
    builder = Spans(trace.run)
    for link in trace.chain.links:
        spans |= {span.place: span for span in builder.see(link)}
    spans |= {span.place: span for span in builder.unfinished()}
    lines = [encode_span(span) for _, span in sorted(spans.items())]
    try:
        write_atomically(path, b"".join([*lines, encode_span(_bundle_span(trace))]))
    except OSError as failure:
        raise UsageError(f"{str(path)!r} cannot be written: {failure.strerror}") from failure


def _bundle_span(trace: Trace) -> Span:
    at = trace.records[0].at
    objects: dict[str, SpanEvent] = {}
    for digest in trace.bundles():
        index = trace.object(digest)
        objects[digest] = _object_event(digest, "", index, at)
        for file, file_digest in read_index(index).items():
            objects.setdefault(file_digest, _object_event(file_digest, file, trace.object(file_digest), at))
    return Span(
        trace_id=trace.run,
        span_id=span_id(trace.run, ("bundle",)),
        parent_id=span_id(trace.run, ()),
        name=BUNDLE_SPAN,
        kind=INTERNAL,
        start=at,
        end=at,
        attributes={},
        events=tuple(objects.values()),
        error=None,
        place=(),
    )


def _object_event(digest: str, path: str, data: bytes, at: int) -> SpanEvent:
    attributes: dict[str, Attribute] = {"remit.object.digest": digest, "remit.object.path": path}
    try:
        attributes["remit.object.body"] = data.decode()
    except UnicodeDecodeError:
        attributes["remit.object.base64"] = base64.b64encode(data).decode()
    return SpanEvent(name="remit.object", at=at, attributes=attributes)
