"""Reads the trace of a run: from the journal, or from a file, which can come from anyone and is not trusted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from remit import __version__
from remit.core import Problem, UsageError, WorkspaceError
from remit.core.events import PolicyChanged, Recorded, RunResumed, RunStarted
from remit.core.parsing import LARGEST_LINE, count_of, digest_bytes
from remit.journal import Chain, ChainFault, ChainLink
from remit.tracing.object_store import ObjectStore, read_index
from remit.tracing.otlp import SCOPE, ReadEvent, ReadSpan, decode, viewer_fields, viewer_fields_of_file
from remit.tracing.spans import Spans, span_id

VERSION: Final = SCOPE["version"]
READABLE_VERSIONS: Final = (
    "1",
)  # the formats that can be read, the oldest first; each has golden traces, traces/golden/format-N
BUNDLE_SPAN: Final = "remit.bundle"
MOST_PROBLEMS: Final = 20  # reported for one file; a bad copy can damage every line
FIX: Final = "the line was cut off or changed: export the run again where it was made, with `remit trace export`"
NO_TRACE: Final = "name a file in traces/, or a file that `remit trace export` wrote"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One run as it was recorded.

    `objects` are the objects that the file itself contains, by digest; `store` may hold more. `spans` are the spans of the
    file, empty for a trace from the journal. `damage` are the lines of the file, or the events of the journal, that could not be read.
    """

    run: str
    records: tuple[Recorded, ...]
    chain: Chain
    objects: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    store: ObjectStore | None = None
    spans: tuple[ReadSpan, ...] = ()
    damage: tuple[Problem, ...] = ()

    def faults(self) -> tuple[ChainFault, ...]:
        """What was changed after it was recorded; empty means intact.

        Attributes are not in the hash chain, so the spans are built again from the events and compared.
        """
        faults = self.chain.verify()
        return faults if any(fault.broken for fault in faults) else (*faults, *self._edited_spans())

    def bundles(self) -> dict[str, dict[str, bytes]]:
        """The files of each policy bundle that the run used, by digest, then by path.

        Raises UsageError if an object is missing: such a run can be read, but not replayed.
        """
        events = (recorded.event for recorded in self.records)
        bound = (event for event in events if isinstance(event, RunStarted | RunResumed | PolicyChanged))
        digests = [event.bundle for event in bound if event.bundle]
        return {
            digest: {path: self.object(of) for path, of in read_index(self.object(digest)).items()}
            for digest in dict.fromkeys(digests)
        }

    def _edited_spans(self) -> list[ChainFault]:
        """Spans that show something else than their events, or that no event of this format makes."""
        if not self.spans:
            return []
        builder = Spans(self.run)
        made = {span.span_id: span for link in self.chain.links for span in builder.see(link)}
        made |= {span.span_id: span for span in builder.unfinished()}
        bundle = span_id(self.run, ("bundle",))
        return [
            ChainFault(seq=0, kind="edited", what=f"the span {span.name!r} ({span.span_id}) does not match its events")
            for span in self.spans
            # The bundle span is made by no event; its objects are checked against their digests when they are read.
            if not (span.span_id == bundle and span.name == BUNDLE_SPAN and not span.attributes)
            and (
                span.span_id not in made
                or viewer_fields(made[span.span_id]) != viewer_fields_of_file(span)
                or span.version != VERSION
            )
        ]

    def object(self, digest: str) -> bytes:
        """The object with that digest, from the file or from the store. Raises UsageError if neither has it."""
        if digest in self.objects:
            return self.objects[digest]
        if self.store is None:
            fix = "export the run again where it was made, with `remit trace export`"
            raise UsageError(f"the trace file does not contain the object {digest!r}: {fix}")
        return self.store.get(digest)


def is_trace_file(run: str) -> bool:
    """True if `run` names a trace file rather than a run of a workspace."""
    return run.endswith(".jsonl") or Path(run).is_file()


def trace_format(path: Path) -> str:
    """The format of a trace file, by its first span; "" if it has none that can be read. Raises UsageError if the file cannot be read."""
    try:
        with path.open("rb") as file:
            spans = list(decode(file.readline(LARGEST_LINE)))
    except OSError as failure:
        raise UsageError(f"the trace file {str(path)!r} cannot be read: {failure.strerror}") from failure
    except ValueError:
        spans = []
    return spans[0].version if spans else ""


def newer_format(version: str) -> str:
    """What a file of that format is to this version of Remit, if it is newer; else ""."""
    if version.isdecimal() and int(version) > int(VERSION):
        return f"has format {version}, and Remit {__version__} reads formats up to {VERSION}"
    return ""


class RecordSource(Protocol):
    """Where events are kept; the journal is one."""

    def chain(self, run: str) -> Chain: ...


def open_trace(
    folder: Path, log: RecordSource, run: str, *, damaged: bool = False, store: ObjectStore | None = None
) -> Trace:
    """The trace of a run of this workspace, from its journal: also if the run still goes on or was killed.

    `store` has the objects that it names, None: the folder has them.

    Raises UsageError if an event cannot be read; with `damaged`, it is left out and named in `Trace.damage`.
    """
    chain = log.chain(run)
    records: list[Recorded] = []
    damage: list[Problem] = []
    for link in chain.links:
        try:
            records.append(link.recorded())
        except ValidationError as failure:
            if not damaged:
                raise UsageError(
                    f"run {run} has an event that this version cannot read: {_short(failure)}"
                ) from failure
            damage.append(Problem(file="journal", what=f"event {link.seq} cannot be read: {_short(failure)}", fix=FIX))
    store = store or ObjectStore(folder / "objects")
    return Trace(run=run, records=tuple(records), chain=chain, store=store, damage=tuple(damage))


def read_trace(path: Path, *, torn: bool = False, damaged: bool = False) -> Trace:
    """The trace in a file: of the workspace, exported, or written by a collector.

    `torn` ignores a last line that was cut off in the middle, as a killed process leaves it. With `damaged`, lines that cannot be
    read are left out, and named in `Trace.damage`.

    Raises:
        UsageError: there is no such file, or it contains no run, or more than one.
        WorkspaceError: lines are damaged; each problem has its line number. With `damaged`: no line can be read.
    """
    reader = _TraceReader(path)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LARGEST_LINE):
                number += 1
                if line.endswith(b"\n") or not torn:
                    reader.add_line(number, line)
    except OSError as failure:
        raise UsageError(f"the trace file {str(path)!r} cannot be read: {failure.strerror}") from failure
    return reader.trace(damaged=damaged)


class _TraceReader:
    """Collects the events, objects and spans of one file, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: set[str] = set()
        self._links: dict[int, ChainLink] = {}
        self._records: dict[int, Recorded] = {}
        self._objects: dict[str, bytes] = {}
        self._spans: dict[str, ReadSpan] = {}
        self._problems: list[Problem] = []

    def add_line(self, number: int, line: bytes) -> None:
        """Add one line. Only a newline ends a line: texts can contain every other character."""
        if not line.strip():
            return
        try:
            for span in _whole_spans(line):
                self._check_format(span.version)
                self._spans[span.span_id] = span  # written again once it has ended
                for event in span.events:
                    self._add(event)
        except (ValueError, ValidationError) as failure:
            self._problem(number, f"the line is not a complete span of a run: {_short(failure)}")

    def _check_format(self, version: str) -> None:
        if what := newer_format(version):
            raise UsageError(f"the trace file {str(self._path)!r} {what}: use a newer version of Remit")

    def trace(self, *, damaged: bool) -> Trace:
        if self._problems and not self._spans:
            first = self._problems[0]
            raise WorkspaceError([replace(first, what=f"this is not a trace file: {first.what}", fix=NO_TRACE)])
        if self._problems and not (damaged and self._links):
            raise WorkspaceError(self._problems)
        if len(self._runs) != 1 or not self._links:
            what = "no run of Remit" if not self._links else f"{len(self._runs)} runs: a file must contain one run"
            raise UsageError(f"the trace file {str(self._path)!r} contains {what}")
        run = next(iter(self._runs))
        order = sorted(self._links)
        beside = self._path.parent / "objects"
        return Trace(
            run=run,
            records=tuple(self._records[seq] for seq in order),
            chain=Chain(run=run, links=tuple(self._links[seq] for seq in order)),
            objects=self._objects,
            store=ObjectStore(beside) if beside.is_dir() else None,
            spans=tuple(self._spans.values()),
            damage=tuple(self._problems),
        )

    def _add(self, event: ReadEvent) -> None:
        if event.span == BUNDLE_SPAN:
            digest, data = _object(event)
            self._objects[digest] = data
        elif "remit.event.seq" in event.attributes:
            self._runs.add(event.trace_id)
            link = _link(event)
            recorded = link.recorded()  # refused before anything of it is kept
            # An unfinished span is written again once it has ended, with the same events. Nothing else may repeat.
            if self._links.setdefault(link.seq, link) != link:
                raise ValueError(f"event {link.seq} occurs twice, with different content")
            self._records[link.seq] = recorded

    def _problem(self, number: int, what: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(file=str(self._path), line=number, what=what, fix=FIX))


def _whole_spans(line: bytes) -> list[ReadSpan]:
    """The spans of the line. Raises ValueError if it is not whole; a line of another format is not called cut off."""
    try:
        spans = list(decode(line))
    except json.JSONDecodeError:
        if line.endswith(b"\n"):
            raise
        spans = []
    if not line.endswith(b"\n"):
        raise ValueError("it is cut off")
    return spans


def _link(event: ReadEvent) -> ChainLink:
    def text(name: str) -> str:
        value = event.attributes.get(f"remit.event.{name}")
        if not isinstance(value, str):
            raise ValueError(f"an event has no {name}")
        return value

    def number(name: str) -> int:
        value = event.attributes.get(f"remit.event.{name}")
        if not isinstance(value, int):
            raise ValueError(f"an event has no {name}")
        return count_of(value)

    erased = "remit.event.body" not in event.attributes
    return ChainLink(
        run=event.trace_id,
        seq=number("seq"),
        at=number("at"),
        type=event.name,
        key=text("key"),
        prev=text("prev"),
        hash=text("hash"),
        payload_digest=text("payload_digest"),
        salt=None if erased else text("salt"),
        body=None if erased else text("body"),
    )


def _object(event: ReadEvent) -> tuple[str, bytes]:
    digest, body = event.attributes.get("remit.object.digest"), event.attributes.get("remit.object.body")
    packed = event.attributes.get("remit.object.base64")
    if not isinstance(digest, str) or not isinstance(body if packed is None else packed, str):
        raise ValueError("an object has no digest or no content")
    data = body.encode() if isinstance(body, str) else base64.b64decode(str(packed), validate=True)
    if digest_bytes(data) != digest:
        raise ValueError(f"the content of the object {digest!r} does not match its digest")
    return digest, data


def _short(failure: Exception) -> str:
    if isinstance(failure, ValidationError):
        first: Iterable[str | int] = failure.errors(include_url=False, include_input=False)[0]["loc"]
        where = ".".join(str(part) for part in first) or "its type"
        return f"an event is unknown to this version of Remit, at {where}"
    return str(failure).replace("\n", " ")
