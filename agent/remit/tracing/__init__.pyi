from .export import Export
from .object_store import MemoryObjects, Objects, ObjectStore, read_index, write_atomically
from .portable import write_portable
from .reader import Trace, is_trace_file, open_trace, read_trace
from .trace_file import TraceFile, trace_path

__all__ = [
    "Export",
    "MemoryObjects",
    "ObjectStore",
    "Objects",
    "Trace",
    "TraceFile",
    "is_trace_file",
    "open_trace",
    "read_index",
    "read_trace",
    "trace_path",
    "write_atomically",
    "write_portable",
]
