"""Writes and reads OTLP as JSON Lines, one span per line, without OpenTelemetry's SDK.

The SDK would apply its own limits, sampler and switches (`OTEL_*`) to the record of a run, and the format is small:
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding (ids in hexadecimal, 64-bit integers as strings).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from remit.core.parsing import count_of, load_json
from remit.tracing.attributes import Attribute
from remit.tracing.spans import Span

SCOPE: Final[dict[str, str]] = {"name": "remit.trace", "version": "1"}  # the version of this format
RESOURCE: Final[Mapping[str, Attribute]] = {"service.name": "remit"}
ERROR_STATUS: Final = 2
_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class ReadEvent:
    """A span event as read from a file."""

    trace_id: str
    span: str
    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReadSpan:
    """A span as read from a file. `scope` names what wrote it, and `version` is the version of that; for Remit's own spans, of the
    format. `start` and `end` are Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None
    kind: int
    scope: str
    version: str
    name: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: str | None
    events: tuple[ReadEvent, ...]


def encode_span(span: Span) -> bytes:
    """One line of a trace file, with its newline."""
    written: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_id is not None:
        written["parentSpanId"] = span.parent_id
    written |= {
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(event.at), "name": event.name, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "status": {} if span.error is None else {"code": ERROR_STATUS, "message": span.error},
    }
    scoped = {"scope": SCOPE, "spans": [written]}
    line = {"resourceSpans": [{"resource": {"attributes": _attributes(RESOURCE)}, "scopeSpans": [scoped]}]}
    return _json(line).encode() + b"\n"


def decode(line: bytes) -> Iterator[ReadSpan]:
    """The spans of one line; a collector may have written several.

    Raises ValueError if the line is not OTLP JSON.
    """
    yield from spans_of(load_json(line))


def spans_of(document: Any) -> Iterator[ReadSpan]:
    """The spans of an OTLP document. Raises ValueError if it is none."""
    try:
        for resource in document["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                named = scope.get("scope", {})
                for span in scope["spans"]:
                    yield _span(span, str(named.get("name", "")), str(named.get("version", "")))
    except KeyError as missing:
        raise ValueError(f"it is not an OTLP span: it has no {missing}") from None
    except (TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise ValueError("it is not an OTLP span: its members have other types") from None


def viewer_fields(span: Span) -> tuple[Any, ...]:
    """The fields of a span that a viewer shows, to compare with `viewer_fields_of_file`."""
    attributes = {key: _plain(_value(value)) for key, value in span.attributes.items()}
    return span.name, span.parent_id, span.kind, span.start, span.end, attributes, span.error


def viewer_fields_of_file(span: ReadSpan) -> tuple[Any, ...]:
    """The fields that a viewer shows of a span in a file."""
    return span.name, span.parent_id, span.kind, span.start, span.end, span.attributes, span.error


def _span(span: Mapping[str, Any], scope: str, version: str) -> ReadSpan:
    trace_id, name, status = str(span["traceId"]).lower(), str(span["name"]), span.get("status", {})
    return ReadSpan(
        trace_id=trace_id,
        span_id=str(span["spanId"]).lower(),
        parent_id=str(span["parentSpanId"]).lower() if span.get("parentSpanId") else None,
        kind=count_of(span.get("kind", 0)),
        scope=scope,
        version=version,
        name=name,
        start=count_of(span.get("startTimeUnixNano", 0)),
        end=count_of(span.get("endTimeUnixNano", 0)),
        attributes=_read(span),
        error=str(status.get("message", "")) if status.get("code") == ERROR_STATUS else None,
        events=tuple(
            ReadEvent(trace_id=trace_id, span=name, name=str(event["name"]), attributes=_read(event))
            for event in span.get("events", ())
        ),
    )


def _read(item: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute["key"]: _plain(attribute["value"]) for attribute in item.get("attributes", ())}


def _attributes(attributes: Mapping[str, Attribute]) -> list[Any]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Attribute) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}


def _plain(value: Mapping[str, Any]) -> Any:
    """The Python value of an OTLP attribute value; None for one without a value, and for bytes."""
    if "intValue" in value:
        return int(value["intValue"])  # a string by the standard, a number from some collectors
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"].get("values", ())]
    if "kvlistValue" in value:
        return _read({"attributes": value["kvlistValue"].get("values", ())})
    return next((value[kind] for kind in ("stringValue", "boolValue", "doubleValue") if kind in value), None)
