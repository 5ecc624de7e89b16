from .audit.otlp_logs import log_sink_from_environment
from .audit.sinks import AuditFile, LineSink, NotArrived, Sink
from .audit.stream import AuditStream
from .export import Export
from .gauges import GaugeReader
from .object_store import MemoryObjects, Objects, ObjectStore, read_index, write_atomically
from .portable import write_portable
from .prometheus import prometheus_text, serve_metrics
from .reader import Trace, is_trace_file, open_trace, read_trace
from .trace_file import TraceFile, trace_path

__all__ = [
    "AuditFile",
    "AuditStream",
    "Export",
    "GaugeReader",
    "LineSink",
    "MemoryObjects",
    "NotArrived",
    "ObjectStore",
    "Objects",
    "Sink",
    "Trace",
    "TraceFile",
    "is_trace_file",
    "log_sink_from_environment",
    "open_trace",
    "prometheus_text",
    "read_index",
    "read_trace",
    "serve_metrics",
    "trace_path",
    "write_atomically",
    "write_portable",
]
