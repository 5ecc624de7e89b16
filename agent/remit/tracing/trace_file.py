"""Writes the trace file of a run: each span when it ends, then all spans in order when the file is closed.

The journal is the source of truth, and the file is its readable copy. So a file that a killed process left incomplete is
written again from the events. A run ends if its file cannot be written, because nobody could follow the run.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from remit.core import RunEnded, UsageError
from remit.core.events import Recorded
from remit.journal import ChainLink
from remit.storage import file_mode, sync_folder
from remit.tracing.otlp import encode_span
from remit.tracing.spans import Place, Span, Spans

_RUN: Final = re.compile(r"[0-9a-f]{32}")  # a W3C trace id
_FLAGS: Final = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class EventLog(Protocol):
    """Stores events; the journal is one."""

    def events(self, run: str, after: int = -1) -> list[Recorded]: ...


class TraceFile:
    """The file `FOLDER/RUN.jsonl`, mode 0600, or 0660 in a folder that a group shares. `log` supplies events that another process recorded in the meantime.

    Every method raises RunEnded (`unrecorded`) if the file cannot be written.
    """

    def __init__(self, folder: Path, run: str, log: EventLog | None = None) -> None:
        self.path = trace_path(folder, run)
        self._run = run
        self._log = log
        self._spans = Spans(run)
        self._next = 0
        self._lines: _Lines | None = None

    def see(self, recorded: Recorded | ChainLink) -> None:
        """Add one event, and write the spans that end with it. An event that was added before is ignored."""
        if recorded.seq > self._next and self._log is not None:
            for missed in self._log.events(self._run, after=self._next - 1):
                self._add(missed)
        self._add(recorded)

    def close(self) -> None:
        """Write the spans in order of step, index and attempt; unfinished spans are marked. A second call does nothing."""
        lines, self._lines = self._lines, None
        if lines is None:
            return
        with _DiskErrorsEndRun(self.path):
            for span in self._spans.unfinished():
                lines.add(span)
            lines.write_sorted(self.path)

    def rebuild(self, records: Iterable[Recorded | ChainLink]) -> None:
        """Write the file again from all events so far, and replace the old one; `see` continues from there."""
        self._spans, self._next = Spans(self._run), 0
        with _DiskErrorsEndRun(self.path):
            if self._lines is not None:
                self._lines.close()
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = _temporary_path(self.path)
            try:
                self._lines = lines = _Lines(temporary)
                for recorded in records:
                    self._add(recorded)
                self._lines = None
                for span in self._spans.unfinished():
                    lines.add(span)
                lines.write_sorted(self.path)
            finally:
                temporary.unlink(missing_ok=True)
            self._lines = _Lines(self.path, lines.index)

    def _add(self, recorded: Recorded | ChainLink) -> None:
        if recorded.seq < self._next:
            return
        self._next = recorded.seq + 1
        with _DiskErrorsEndRun(self.path):
            if self._lines is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lines = _Lines(self.path)
            for span in self._spans.see(recorded):
                self._lines.add(span)


class _Lines:
    """A file that lines are appended to. A later line for the same place replaces the earlier one in `write_sorted`."""

    def __init__(self, path: Path, index: dict[Place, tuple[int, int]] | None = None) -> None:
        self.index = index or {}
        fresh = os.O_TRUNC if index is None else 0
        self._descriptor = os.open(path, _FLAGS | fresh, 0o600)
        if os.fstat(self._descriptor).st_uid == os.geteuid():
            os.fchmod(self._descriptor, file_mode(path.parent))
        self._end = os.lseek(self._descriptor, 0, os.SEEK_END)

    def add(self, span: Span) -> None:
        data = encode_span(span)
        _write(self._descriptor, data, at=self._end)
        self.index[span.place] = (self._end, len(data))
        self._end += len(data)

    def write_sorted(self, path: Path) -> None:
        """Write the lines in order to `path`, completely or not at all, and close."""
        temporary = _temporary_path(path)
        descriptor = os.open(temporary, _FLAGS | os.O_EXCL, 0o600)
        os.fchmod(descriptor, file_mode(path.parent))
        placed: dict[Place, tuple[int, int]] = {}
        try:
            end = 0
            for place, (start, length) in sorted(self.index.items()):
                _write(descriptor, os.pread(self._descriptor, length, start), at=end)
                placed[place] = (end, length)
                end += length
            # INVARIANT: the content is on disk before the rename, and the rename before the folder is flushed. So after a
            # power cut there is the old file or the new one, never a part.
            os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
            self.close()
        sync_folder(path.parent)
        self.index = placed

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _DiskErrorsEndRun:
    """Turns an error of the disk into the end of the run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, at: object) -> None:
        if isinstance(failure, OSError):
            message = f"the trace file {self._path.name} cannot be written: {failure.strerror}"
            fix = "free disk space or restore write permission for its folder, then `remit run --resume`"
            raise RunEnded("unrecorded", message, fix=fix) from failure


def trace_path(folder: Path, run: str) -> Path:
    """The path of a run's trace file. Raises UsageError if `run` is not a run id: such a text must not become a path."""
    if _RUN.fullmatch(run) is None:
        raise UsageError(f"{run!r} is not a run id: a run id is 32 hexadecimal digits in lower case")
    return folder / f"{run}.jsonl"


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write(descriptor: int, data: bytes, *, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
