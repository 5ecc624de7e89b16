"""The on-call engineer's copy of every run: OpenTelemetry spans in a file that replays."""

from remit.trace.export import Export
from remit.trace.objects import Objects, write_whole
from remit.trace.portable import write_portable
from remit.trace.read import Trace, open_trace, read
from remit.trace.write import TraceFile

__all__ = ["Export", "Objects", "Trace", "TraceFile", "open_trace", "read", "write_portable", "write_whole"]
