from .export import Export
from .object_store import Objects, read_index, write_whole
from .portable import write_portable
from .reader import Trace, open_trace, read
from .trace_file import TraceFile, trace_path

__all__ = [
    "Export",
    "Objects",
    "Trace",
    "TraceFile",
    "open_trace",
    "read",
    "read_index",
    "trace_path",
    "write_portable",
    "write_whole",
]
