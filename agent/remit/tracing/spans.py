"""Makes the spans of a run from its events, while they are recorded.

    invoke_agent                      the run
    ├── chat                          one request to the model: a step has a further one after each failure
    └── execute_tool                  one call, also a denied one
        ├── remit.decide              one decision about it
        ├── remit.approval            one request for approval, with the answers
        └── remit.attempt             one attempt

Exactly one span contains each event, complete, so the spans of a run are its record. Ids and order are derived from the
events alone: the same events give the same spans, live or rebuilt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from remit.core.events import AnyEvent, ApprovalState, CallDecided, Recorded, next_approval
from remit.journal import ChainLink, link_of
from remit.tracing.attributes import Attribute, SpanDescription, SpanKind, describe_span

INTERNAL: Final = 1  # opentelemetry.proto.trace.v1.Span.SpanKind
CLIENT: Final = 3

Place: TypeAlias = tuple[int, ...]  # the position of a span in the file: step, index, rank of its kind, number

_ROOT: Final[Place] = ()
_RANK: Final[Mapping[SpanKind, int]] = {"tool": 0, "decide": 1, "approval": 2, "attempt": 3}


@dataclass(frozen=True, kw_only=True)
class SpanEvent:
    """A named moment of a span. `at` is Unix nanoseconds."""

    name: str
    at: int
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span as OpenTelemetry defines it. `start` and `end` are Unix nanoseconds; `error` None means no error.

    `links` are other spans, by trace id and span id.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start: int
    end: int
    attributes: Mapping[str, Attribute]
    events: tuple[SpanEvent, ...]
    error: str | None
    place: Place
    links: tuple[tuple[str, str], ...] = ()


@dataclass(kw_only=True)
class _OpenSpan:
    """A span that has not ended.

    `links` are the events that the span contains; `events` are those that its name and attributes are made from. `approval` is
    the request that a span is about, as it was when the span ended.
    """

    kind: SpanKind
    place: Place
    parent: Place | None
    start: int
    end: int
    links: list[ChainLink] = field(default_factory=list[ChainLink])
    events: list[AnyEvent] = field(default_factory=list[AnyEvent])
    approval: ApprovalState | None = None

    def add(self, link: ChainLink, event: AnyEvent | None, *, contained: bool) -> None:
        self.start, self.end = min(self.start, link.at), max(self.end, link.at)
        if event is not None:
            self.events.append(event)
        if self.kind == "approval":
            self.follow(link, event)
        if contained:
            self.links.append(link)

    def follow(self, link: ChainLink, event: AnyEvent | None) -> None:
        """Apply an event of the call to the request that the span is about. Another request takes its place."""
        after = next_approval(self.approval, event, link.seq, link.at)
        same = after is None or self.approval is None or after.requested is self.approval.requested
        self.approval = after if same or self.approval is None else replace(self.approval, end="replaced")


class Spans:
    """Makes the spans of one run, event by event. Keeps only the spans that have not ended."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._open: dict[Place, _OpenSpan] = {}
        self._requests: dict[int, Place] = {}  # the last request of each step
        self._approvals: dict[Place, int] = {}  # the number of the last approval request of each open call

    def see(self, recorded: Recorded | ChainLink) -> list[Span]:
        """Add one event; returns the spans that end with it."""
        stored = recorded if isinstance(recorded, ChainLink) else link_of(recorded)
        event = recorded.recorded().event if isinstance(recorded, ChainLink) else recorded.event
        kind, _, rest = stored.key.partition("/")
        step, index = _numbers(rest)
        if kind in ("model.requested", "model.responded", "model.failed") and step is not None:
            return self._turn(stored, event, step)
        if kind.startswith(("call.", "approval.", "attempt.", "question.")) and step is not None and index is not None:
            return self._call(stored, event, (step, index, _RANK["tool"], 0))
        return self._run_event(stored, event)

    def unfinished(self) -> list[Span]:
        """The spans that have not ended, with what is known so far, marked `remit.unfinished`."""
        return [
            self._span(span, unfinished=True)
            for span in self._open.values()
            if span.kind != "agent" or not _finished(span)
        ]

    def _run_event(self, stored: ChainLink, event: AnyEvent | None) -> list[Span]:
        root = self._open_span("agent", _ROOT, None, stored)
        root.add(stored, event, contained=True)
        # The root stays open: an approval that comes after the end still needs a span. Then the root ends again.
        return [self._span(root)] if _finished(root) else []

    def _turn(self, stored: ChainLink, event: AnyEvent | None, step: int) -> list[Span]:
        if stored.type == "model.requested":
            number = _last_number(stored.key)
            self._requests[step] = (step, -1, number) if number else (step, -1)
        place = self._requests.get(step, (step, -1))  # the key of a turn does not say which request it answers
        turn = self._open_span("chat", place, _ROOT, stored)
        turn.add(stored, event, contained=True)
        return [] if stored.type == "model.requested" else [self._end(place)]

    def _call(self, stored: ChainLink, event: AnyEvent | None, place: Place) -> list[Span]:
        if stored.type != "call.decided" and place not in self._open:
            return self._run_event(stored, event)
        # The call's own span contains only its answer; each other event is contained in a child span.
        call = self._open_span("tool", place, _ROOT, stored)
        call.add(stored, event, contained=stored.type == "call.answered")
        match stored.type:
            case "call.decided":
                number = event.round if isinstance(event, CallDecided) else _last_number(stored.key)
                ended = self._end_approval(place, stored, event) if number else []
                return [*ended, self._moment("decide", self._below(place, "decide", number), place, stored, event)]
            case "call.answered":
                ended = self._end_approval(place, stored, event)
                self._approvals.pop(place, None)
                return [*ended, self._end(place)]
            case "approval.requested":
                ended = self._end_approval(place, stored, event)
                number = self._approvals[place] = self._approvals.get(place, -1) + 1
                self._child("approval", self._below(place, "approval", number), place, stored, event)
                return ended
            case kind if kind.startswith("approval."):
                below = self._below(place, "approval", self._approvals.get(place, 0))
                if below not in self._open:  # the answer came after the request was closed
                    return self._run_event(stored, event)
                self._child("approval", below, place, stored, event)
                return []
            case kind if (
                kind.startswith("question.") or kind == "attempt.progressed"
            ):  # of the attempt that has begun last
                below = max((of for of in self._open if of[:3] == (*place[:2], _RANK["attempt"])), default=place)
                self._child("attempt", below, place, stored, event)
                return []
            case _:
                below = self._below(place, "attempt", _last_number(stored.key))
                self._child("attempt", below, place, stored, event)
                return [self._end(below)] if stored.type == "attempt.ended" else []

    def _end_approval(self, place: Place, stored: ChainLink, event: AnyEvent | None) -> list[Span]:
        below = self._below(place, "approval", self._approvals.get(place, 0))
        if below not in self._open:
            return []
        self._open[below].end = max(self._open[below].end, stored.at)
        self._open[below].follow(stored, event)
        return [self._end(below)]

    def _moment(self, kind: SpanKind, place: Place, parent: Place, stored: ChainLink, event: AnyEvent | None) -> Span:
        self._child(kind, place, parent, stored, event)
        return self._end(place)

    def _child(self, kind: SpanKind, place: Place, parent: Place, stored: ChainLink, event: AnyEvent | None) -> None:
        self._open_span(kind, place, parent, stored).add(stored, event, contained=True)

    def _open_span(self, kind: SpanKind, place: Place, parent: Place | None, stored: ChainLink) -> _OpenSpan:
        if place not in self._open:
            self._open[place] = _OpenSpan(kind=kind, place=place, parent=parent, start=stored.at, end=stored.at)
        return self._open[place]

    def _below(self, place: Place, kind: SpanKind, number: int) -> Place:
        return (place[0], place[1], _RANK[kind], number)

    def _end(self, place: Place) -> Span:
        return self._span(self._open.pop(place))

    def _span(self, span: _OpenSpan, *, unfinished: bool = False) -> Span:
        description: SpanDescription = describe_span(span.kind, span.events, run=self._run, place=span.place)
        mark: dict[str, Attribute] = {"remit.unfinished": True} if unfinished else {}
        if span.approval is not None:
            mark["remit.approval.state"] = span.approval.status()
        return Span(
            trace_id=self._run,
            span_id=span_id(self._run, span.place),
            parent_id=None if span.parent is None else span_id(self._run, span.parent),
            name=description.name,
            kind=CLIENT if span.kind == "chat" else INTERNAL,
            start=span.start,
            end=span.end,
            attributes={**description.attributes, **mark},
            events=tuple(_span_event(link) for link in span.links),
            error=description.error,
            place=span.place,
        )


def span_id(run: str, place: Place | tuple[Literal["bundle"]]) -> str:
    """The id of the span at that place: 16 hex digits, derived from the run id and the place."""
    name = "/".join(["remit.span", run, *(str(part) for part in place)])
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _span_event(link: ChainLink) -> SpanEvent:
    """The complete event with its link of the hash chain, so that the record can be read and verified from the spans."""
    attributes: dict[str, Attribute] = {
        "remit.event.seq": link.seq,
        "remit.event.at": link.at,
        "remit.event.key": link.key,
        "remit.event.prev": link.prev,
        "remit.event.hash": link.hash,
        "remit.event.payload_digest": link.payload_digest,
    }
    if link.salt is not None and link.body is not None:
        attributes |= {"remit.event.salt": link.salt, "remit.event.body": link.body}
    return SpanEvent(name=link.type, at=link.at, attributes=attributes)


def _finished(root: _OpenSpan) -> bool:
    return any(link.type == "run.finished" for link in root.links)


def _numbers(rest: str) -> tuple[int | None, int | None]:
    """Step and index of a key without its type: `3/0/-` is step 3, index 0."""
    parts = [int(part) if part.isdecimal() else None for part in rest.split("/")[:2]]
    return (parts[0], parts[1] if len(parts) > 1 else None)


def _last_number(key: str) -> int:
    last = key.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0
