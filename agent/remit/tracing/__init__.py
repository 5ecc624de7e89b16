"""The on-call engineer's copy of every run: OpenTelemetry spans in a file that replays."""

from remit.tracing.export import Export
from remit.tracing.object_store import Objects, write_whole
from remit.tracing.portable import write_portable
from remit.tracing.reader import Trace, open_trace, read
from remit.tracing.trace_file import TraceFile

__all__ = ["Export", "Objects", "Trace", "TraceFile", "open_trace", "read", "write_portable", "write_whole"]
