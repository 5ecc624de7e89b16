"""Reading a trace: from a file, which may come from anywhere, or from the journal."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

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
BUNDLE_SPAN: Final = "remit.rulebook"
MOST_PROBLEMS: Final = 20  # of one file; one bad copy can spoil every line
FIX: Final = (
    "the line was cut off or changed: bring the file again from where the run was made, by `remit trace export`"
)
NO_TRACE: Final = "name a file of traces/, or one that `remit trace export` wrote"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One run as it was recorded. `objects` are those the file itself holds, by digest; `store` may hold more. `spans` are those of a file, empty for one
    that comes from the journal."""

    run: str
    records: tuple[Recorded, ...]
    chain: Chain
    objects: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    store: ObjectStore | None = None
    spans: tuple[ReadSpan, ...] = ()

    def faults(self) -> tuple[ChainFault, ...]:
        """What is not as it was recorded; empty means whole. A span that shows other than its events say was edited."""
        faults = self.chain.verify()
        return faults if any(fault.broken for fault in faults) else (*faults, *self._misshown())

    def bundles(self) -> dict[str, dict[str, bytes]]:
        """The files of each rulebook that the run stood on, by digest, then by path.

        Raises UsageError where they are not here: such a run can be read, and not replayed.
        """
        events = (recorded.event for recorded in self.records)
        standing = (event for event in events if isinstance(event, RunStarted | RunResumed | PolicyChanged))
        named = [event.bundle for event in standing if event.bundle]
        return {
            digest: {path: self.object(of) for path, of in read_index(self.object(digest)).items()}
            for digest in dict.fromkeys(named)
        }

    def _misshown(self) -> list[ChainFault]:
        """Spans that say other than the events they carry, or that no event of this format made."""
        if not self.spans:
            return []
        growing = Spans(self.run)
        made = {span.span_id: span for link in self.chain.links for span in growing.see(link)}
        made |= {span.span_id: span for span in growing.unfinished()}
        bundle = span_id(self.run, ("rulebook",))
        return [
            ChainFault(
                seq=0, kind="edited", what=f"the span {span.name!r} at {span.span_id} is not what its events say"
            )
            for span in self.spans
            if not (span.span_id == bundle and span.name == BUNDLE_SPAN and not span.attributes)
            and (
                span.span_id not in made
                or viewer_fields(made[span.span_id]) != viewer_fields_of_file(span)
                or span.version != VERSION
            )
        ]

    def object(self, digest: str) -> bytes:
        """The object of that digest, from the file or from the store. Raises UsageError where neither has it."""
        if digest in self.objects:
            return self.objects[digest]
        if self.store is None:
            raise UsageError(f"the trace does not hold {digest!r}: bring it by `remit trace export`")
        return self.store.get(digest)


class Log(Protocol):
    """Where events are kept; the journal is one."""

    def chain(self, run: str) -> Chain: ...


def open_trace(folder: Path, log: Log, run: str) -> Trace:
    """The trace of a run of this workspace, from its journal: also of one that goes on or was killed."""
    chain = log.chain(run)
    try:
        records = tuple(link.recorded() for link in chain.links)
    except ValidationError as failure:
        raise UsageError(f"run {run} holds what this version cannot read: {_short(failure)}") from failure
    return Trace(run=run, records=records, chain=chain, store=ObjectStore(folder / "objects"))


def read_trace(path: Path, *, torn: bool = False) -> Trace:
    """The trace in a file: one of the workspace, an exported one, or one that a collector wrote.

    `torn` leaves a last line out that was cut off in the middle, as by a kill.

    Raises:
        UsageError: there is no such file, or it holds no run, or more than one.
        WorkspaceError: lines that are not whole, each with its number.
    """
    reading = _TraceReader(path)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LARGEST_LINE):
                number += 1
                if line.endswith(b"\n") or not torn:
                    reading.line(number, line)
    except OSError as failure:
        raise UsageError(f"the trace file {str(path)!r} cannot be read: {failure.strerror}") from failure
    return reading.trace()


class _TraceReader:
    """What has been read of a file so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: set[str] = set()
        self._links: dict[int, ChainLink] = {}
        self._records: dict[int, Recorded] = {}
        self._objects: dict[str, bytes] = {}
        self._spans: dict[str, ReadSpan] = {}
        self._problems: list[Problem] = []

    def line(self, number: int, line: bytes) -> None:
        """Take one line in. Only a newline ends a line: text may hold every other character."""
        if not line.strip():
            return
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it is cut off")
            for span in decode(line):
                self._check_format(span.version)
                self._spans[span.span_id] = span  # written again once it has ended
                for event in span.events:
                    self._take(event)
        except (ValueError, ValidationError) as failure:
            self._problem(number, f"the line is not a whole span of a run: {_short(failure)}")

    def _check_format(self, version: str) -> None:
        if version.isdecimal() and int(version) > int(VERSION):
            what = f"is of format {version}, and this version of Remit reads up to {VERSION}: read it with a newer one"
            raise UsageError(f"the trace file {str(self._path)!r} {what}")

    def trace(self) -> Trace:
        if self._problems and not self._spans:
            first = self._problems[0]
            raise WorkspaceError([replace(first, what=f"this is no trace file: {first.what}", fix=NO_TRACE)])
        if self._problems:
            raise WorkspaceError(self._problems)
        if len(self._runs) != 1 or not self._links:
            what = "no run of Remit" if not self._links else f"{len(self._runs)} runs, and one is read at a time"
            raise UsageError(f"the trace file {str(self._path)!r} holds {what}")
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
        )

    def _take(self, event: ReadEvent) -> None:
        if event.span == BUNDLE_SPAN:
            digest, data = _object(event)
            self._objects[digest] = data
        elif "remit.event.seq" in event.attributes:
            self._runs.add(event.trace_id)
            link = _link(event)
            # A span that had not ended is written again when it has, with the same events; nothing else may repeat.
            if self._links.setdefault(link.seq, link) != link:
                raise ValueError(f"event {link.seq} is there twice, with different content")
            self._records[link.seq] = link.recorded()

    def _problem(self, number: int, what: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(file=str(self._path), line=number, what=what, fix=FIX))


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
        raise ValueError(f"the object {digest!r} is not what its digest says")
    return digest, data


def _short(failure: Exception) -> str:
    if isinstance(failure, ValidationError):
        first: Iterable[str | int] = failure.errors(include_url=False, include_input=False)[0]["loc"]
        return f"an event is not one that this version knows, at {'.'.join(str(part) for part in first) or 'its type'}"
    return str(failure).replace("\n", " ")
