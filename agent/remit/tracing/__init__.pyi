from .audit.otlp_logs import log_sink_from_environment
from .audit.sinks import AuditFile, LineSink, NotArrived, Sink
from .audit.stream import AuditStream
from .export import Export
from .gauges import GaugeReader
from .imported.conversion import Converter, Coverage, ImportedAs, group_spans
from .imported.documents import read_spans
from .metrics import INVALID, Measurement
from .object_store import MemoryObjects, Objects, ObjectStore, objects_of, read_index
from .portable import write_portable
from .prometheus import prometheus_text, serve_metrics
from .reader import VERSION, Trace, is_trace_file, newer_format, open_trace, read_trace, trace_format
from .trace_file import TraceFile, trace_path

__all__ = [
    "INVALID",
    "VERSION",
    "AuditFile",
    "AuditStream",
    "Converter",
    "Coverage",
    "Export",
    "GaugeReader",
    "ImportedAs",
    "LineSink",
    "Measurement",
    "MemoryObjects",
    "NotArrived",
    "ObjectStore",
    "Objects",
    "Sink",
    "Trace",
    "TraceFile",
    "group_spans",
    "is_trace_file",
    "log_sink_from_environment",
    "newer_format",
    "objects_of",
    "open_trace",
    "prometheus_text",
    "read_index",
    "read_spans",
    "read_trace",
    "serve_metrics",
    "trace_format",
    "trace_path",
    "write_portable",
]
