"""Reads the spans of a file in OTLP JSON: one object, an array of them, or JSON Lines; also compressed with gzip.

The file can come from anyone. It is read with bounds, and one damaged line refuses the whole file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from remit.core import Problem, WorkspaceError
from remit.core.parsing import load_json, read_file
from remit.tracing.otlp import SCOPE, ReadSpan, spans_of

LARGEST_IMPORT: Final = 512 << 20  # bytes of one file, also once it is decompressed
_GZIP: Final = b"\x1f\x8b"
_EXPORT: Final = "export the traces as OTLP JSON, one document or one a line"


def read_spans(path: Path) -> Iterator[ReadSpan]:
    """The spans of the file, in the order of the file.

    Raises:
        WorkspaceError: the file cannot be read, is too large, or is not OTLP JSON; with the line, if the file has several documents.
    """
    file = str(path)
    data = _decompressed(read_file(path, file=file, most=LARGEST_IMPORT), file)
    for number, document in _documents(data, file):
        try:
            for span in spans_of(document):
                if span.scope == SCOPE["name"]:
                    _refuse(file, number, "this is a trace of Remit itself", "read it with `remit trace show FILE`")
                yield span
        except ValueError as failure:
            _refuse(file, number, f"not a trace in OTLP JSON: {failure}", _EXPORT, failure)


def _documents(data: bytes, file: str) -> Iterator[tuple[int | None, object]]:
    """Each document, with its line if there are several."""
    if not data.strip():
        _refuse(file, None, "the file is empty", _EXPORT)
    begin = data.lstrip()[:1]
    first = data.lstrip().partition(b"\n")[0]
    if begin == b"{" and first != data.strip() and _is_document(first):
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip():
                yield number, _loaded(line, file, number)
        return
    whole = _loaded(data, file, None)
    if isinstance(whole, list):
        for one in whole:  # pyright: ignore[reportUnknownVariableType]
            yield None, one
    else:
        yield None, whole


def _is_document(line: bytes) -> bool:
    """True if the line is a whole JSON text: then the file has one on each line."""
    try:
        load_json(line)
    except ValueError:
        return False
    return True


def _loaded(text: bytes, file: str, line: int | None) -> object:
    try:
        return load_json(text)
    except ValueError as failure:
        _refuse(file, line, f"not valid JSON: {str(failure)[:200]}", _EXPORT, failure)


def _decompressed(data: bytes, file: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    found = bytearray()
    try:
        while data:
            found += unpacker.decompress(data, LARGEST_IMPORT + 1 - len(found))
            if len(found) > LARGEST_IMPORT:
                _refuse(file, None, f"decompressed, it is larger than {LARGEST_IMPORT >> 20} MiB", "split it")
            data = unpacker.unconsumed_tail
            if unpacker.eof and (data := unpacker.unused_data):
                unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # the next part of the same file
    except zlib.error as failure:
        _refuse(file, None, f"it cannot be decompressed: {failure}", "compress it again with gzip", failure)
    if not unpacker.eof:
        _refuse(file, None, "the compressed file is cut off", "copy it again from where it was made")
    return bytes(found)


def _refuse(file: str, line: int | None, what: str, fix: str, cause: BaseException | None = None) -> NoReturn:
    raise WorkspaceError([Problem(file=file, line=line, what=what, fix=fix)]) from cause
