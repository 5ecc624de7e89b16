"""Where audit records go. A sink returns once they have arrived, or raises `NotArrived`: then they are sent again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Final, Protocol

from remit.core import RemitError, UsageError
from remit.core.parsing import visible_json
from remit.tracing.audit.ocsf import Record

CHUNK: Final = 64 * 1024  # bytes that are read at once, from the end of a file


class NotArrived(RemitError):
    """The records have not arrived. They stay in the journal, and are sent again."""


class Sink(Protocol):
    """Receives records. `write` raises NotArrived."""

    def write(self, records: Sequence[Record]) -> None: ...
    def close(self) -> None: ...


def audit_line(record: Record) -> str:
    """The record as one line of JSON, with its newline; hidden characters are written as escapes."""
    return visible_json(json.dumps(record, ensure_ascii=False, separators=(",", ":"))) + "\n"


class LineSink:
    """Gives each record as one line to `write_line`, which adds the newline and returns once the line is written."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            self._write_line(audit_line(record).removesuffix("\n"))

    def close(self) -> None:
        pass


class AuditFile:
    """One line a record at the end of a file, which survives a power failure once `write` has returned.

    A program that renames the file gets all that was written before: the file is opened for each write. Raises UsageError if it
    cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open().close()
        except OSError as failure:
            raise UsageError(f"the audit file {path} cannot be written: {failure.strerror}") from failure

    def write(self, records: Sequence[Record]) -> None:
        try:
            with self._open() as file:
                file.write("".join(map(audit_line, records)).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as failure:
            raise NotArrived(f"{self._path}: {failure.strerror}") from failure

    def close(self) -> None:
        pass

    def _open(self) -> BufferedRandom:
        """The file at its end. A last line without its end is of a process that was killed: its record is sent again."""
        file: BufferedRandom = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        file.seek(_complete_end(file))
        return file


def _complete_end(file: BufferedRandom) -> int:
    """Where the last complete line ends. What follows it is removed."""
    end = at = file.seek(0, os.SEEK_END)
    while at > 0:
        begin = max(0, at - CHUNK)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            at = begin + found + 1
            break
        at = begin
    if at != end:
        file.truncate(at)
    return at
