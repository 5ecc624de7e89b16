"""Sends audit records as OTLP logs, as the standard `OTEL_*` variables configure it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import AnyValue

from remit.tracing.audit.ocsf import OCSF_VERSION, Record
from remit.tracing.audit.sinks import NotArrived, audit_line
from remit.tracing.export import is_enabled
from remit.tracing.otel_spans import resource

EVENT_NAME: Final = "remit.audit"
# The severity of OTLP for that of OCSF: informational, low, medium, high.
_SEVERITIES: Final = {1: SeverityNumber.INFO, 2: SeverityNumber.INFO2, 3: SeverityNumber.WARN, 4: SeverityNumber.ERROR}


class LogSink:
    """Sends each record as one log record, whose body is its JSON text. Nothing is queued: what is written has arrived."""

    def __init__(self, exporter: LogRecordExporter | None = None) -> None:
        # The exporter logs each failure itself, on standard error; `NotArrived` says it once.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._exporter = exporter or OTLPLogExporter()
        self._resource = resource()
        self._scope = InstrumentationScope(EVENT_NAME, OCSF_VERSION)

    def write(self, records: Sequence[Record]) -> None:
        if self._exporter.export([self._readable(record) for record in records]) is not LogRecordExportResult.SUCCESS:
            raise NotArrived("the collector does not answer, or refuses the records")

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, record: Record) -> ReadableLogRecord:
        attributes: dict[str, AnyValue] = {
            "remit.audit.uid": str(record["metadata"]["uid"]),
            "ocsf.class_uid": int(record["class_uid"]),
        }
        log = LogRecord(
            timestamp=int(record["time"]) * 1_000_000,
            severity_number=_SEVERITIES[record["severity_id"]],
            severity_text=str(record["severity"]),
            body=audit_line(record).rstrip("\n"),
            attributes=attributes,
            event_name=EVENT_NAME,
        )
        return ReadableLogRecord(log_record=log, resource=self._resource, instrumentation_scope=self._scope)


def log_sink_from_environment(environment: Mapping[str, str] = os.environ) -> LogSink | None:
    """The sink to the collector that the environment names; None if it names none, or disables logs."""
    return LogSink() if is_enabled(environment, "LOGS") else None
