"""The hash chain of a run: what makes a changed, lost or moved event visible.

Each event is sealed to the one before it. The seal covers the header and a salted digest of the body, never the body
itself, so that a body can be erased on request and the chain still holds. Journal and trace files are verified by the
same function. A forger who re-seals everything that follows is caught only by a head kept elsewhere: pass it as `head`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from remit.core.events import EVENT, AnyEvent, Recorded

FORMAT: Final = "remit.chain/1"

FaultKind: TypeAlias = Literal[
    "missing",  # an event is not there
    "edited",  # header or body is not what was sealed
    "reordered",  # the event was sealed for another place
    "forged",  # sealed correctly, but not to what stands before it, or not to the known head
    "contradicted",  # sealed well, and says something else than the other events
    "erased",  # the body was erased on request; the chain holds
]


@dataclass(frozen=True, kw_only=True)
class ChainFault:
    """One thing that is not as it was recorded."""

    seq: int
    kind: FaultKind
    what: str

    @property
    def broken(self) -> bool:
        """False for an erased body: that was somebody's right, not damage."""
        return self.kind != "erased"

    def __str__(self) -> str:
        return f"event {self.seq}: {self.kind}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """An event as it is stored: the body is the very text that was sealed, or None where it was erased.

    Verifying reads this text and not the parsed event, so that a later version with more fields verifies older runs.
    """

    run: str
    seq: int
    at: int
    type: str
    key: str
    prev: str
    hash: str
    payload_digest: str
    salt: str | None
    body: str | None

    @property
    def sealed(self) -> str:
        """The hash that this header should carry."""
        header = [FORMAT, self.run, self.seq, self.at, self.type, self.key, self.prev, self.payload_digest]
        # Not RFC 8785: nanoseconds lie beyond its integers. Strings and integers only, so this text is as unambiguous.
        return _sha256(json.dumps(header, separators=(",", ":")).encode())

    def recorded(self) -> Recorded:
        """The event, read from its body. Raises ValidationError where the body is no event that this version knows."""
        return self.of(None if self.body is None else EVENT.validate_json(self.body))

    def of(self, event: AnyEvent | None) -> Recorded:
        """The event with this place in the chain."""
        # Built without validation: every part has been validated once, and this runs for each event of each read.
        return Recorded.model_construct(
            run=self.run,
            seq=self.seq,
            at=self.at,
            type=self.type,
            key=self.key,
            prev=self.prev,
            hash=self.hash,
            payload_digest=self.payload_digest,
            salt=self.salt,
            event=event,
        )

    @property
    def header(self) -> dict[str, str | int]:
        """Everything but salt and body, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("salt", "body")}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The events of one run as they are stored. `head` is the (seq, hash) of the last one where that is kept apart."""

    run: str
    links: tuple[ChainLink, ...]
    head: tuple[int, str] | None = None

    def verify(self) -> tuple[ChainFault, ...]:
        """What is not as it was recorded; empty means whole."""
        return verify_chain(self.links, head=self.head)


def encode(event: AnyEvent) -> str:
    """The body of an event. Raises ValueError for what JSON cannot say: NaN, infinity, lone surrogates."""
    try:
        # Not pydantic's own JSON, which would write NaN as null: what is read back must be what was there.
        text = json.dumps(event.model_dump(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as failure:
        raise ValueError(str(failure)) from failure
    text.encode()
    return text


def link(run: str, seq: int, at: int, prev: str, event: AnyEvent, salt: str) -> ChainLink:
    """Seal one event to the one before it; `prev` is "" for the first, `at` is Unix nanoseconds."""
    body = encode(event)
    unsealed = ChainLink(
        run=run,
        seq=seq,
        at=at,
        type=event.type,
        key=event.key,
        prev=prev,
        hash="",
        payload_digest=payload_digest(salt, body),
        salt=salt,
        body=body,
    )
    return replace(unsealed, hash=unsealed.sealed)


def seal(run: str, seq: int, at: int, prev: str, event: AnyEvent, salt: str) -> Recorded:
    """The event with its place in the chain of its run."""
    return link(run, seq, at, prev, event, salt).of(event)


def link_of(recorded: Recorded) -> ChainLink:
    """The stored form of a recorded event, written again by this version."""
    return ChainLink(
        run=recorded.run,
        seq=recorded.seq,
        at=recorded.at,
        type=recorded.type,
        key=recorded.key,
        prev=recorded.prev,
        hash=recorded.hash,
        payload_digest=recorded.payload_digest,
        salt=recorded.salt,
        body=None if recorded.event is None else encode(recorded.event),
    )


def payload_digest(salt: str, body: str) -> str:
    """The salted digest of a body: without the salt, nobody can try guesses against an erased one."""
    return _sha256(f"{salt}\n{body}".encode())


def verify_chain(
    records: Iterable[Recorded | ChainLink], *, head: tuple[int, str] | None = None
) -> tuple[ChainFault, ...]:
    """What is not as it was recorded, for records in the order given; empty means whole.

    `head` is the last event's (seq, hash) as known from elsewhere: without it, a cut tail cannot be seen.
    """
    links = [record if isinstance(record, ChainLink) else link_of(record) for record in records]
    place = _walk(links)
    faults = [*_gaps(links)]
    told = {fault.seq for fault in faults}  # whose own faults say already why they do not fit the next
    before: ChainLink | None = None
    for item in links:
        expected = 0 if before is None else before.seq + 1
        own = [*_faults_of(item, expected, place)]
        faults.extend(own)
        told.update(fault.seq for fault in own if fault.broken)
        prev = "" if before is None else before.hash
        if item.seq == expected and item.prev != prev and told.isdisjoint((item.seq, expected - 1)):
            faults.append(ChainFault(seq=item.seq, kind="forged", what="it is not sealed to what stands before it"))
        before = item
    if head is not None:
        faults.extend(_faults_of_head(before, head))
    return tuple(sorted(faults, key=lambda fault: fault.seq))


def _gaps(links: Iterable[ChainLink]) -> Iterable[ChainFault]:
    """Events that are nowhere, whatever order the others stand in."""
    for before, after in pairwise([-1, *sorted({item.seq for item in links})]):
        if after > before + 1:
            yield ChainFault(seq=before + 1, kind="missing", what=_range(before + 1, after - 1))


def _faults_of(item: ChainLink, expected: int, place: Mapping[str, int]) -> Iterable[ChainFault]:
    """The faults of one event, told without its neighbours."""
    if item.sealed != item.hash:
        at = place.get(item.hash, item.seq)
        if at != item.seq and replace(item, seq=at).sealed == item.hash:
            yield ChainFault(seq=item.seq, kind="reordered", what=f"it was recorded as event {at}")
        else:
            yield ChainFault(seq=item.seq, kind="edited", what=f"the header of {item.key!r} is not what was sealed")
    elif item.seq < expected:
        yield ChainFault(seq=item.seq, kind="reordered", what=f"it stands after event {expected - 1}")
    if item.body is None:
        yield ChainFault(seq=item.seq, kind="erased", what=f"the body of {item.key!r} was erased")
    elif payload_digest(item.salt or "", item.body) != item.payload_digest:
        yield ChainFault(seq=item.seq, kind="edited", what=f"the body of {item.key!r} is not what was sealed")
    elif item.sealed == item.hash and not _is_its_own(item):
        yield ChainFault(seq=item.seq, kind="forged", what=f"its body is not of {item.key!r}")


def _faults_of_head(last: ChainLink | None, head: tuple[int, str]) -> Iterable[ChainFault]:
    seq, sealed = head
    at = -1 if last is None else last.seq
    if at < seq:
        yield ChainFault(seq=at + 1, kind="missing", what=_range(at + 1, seq))
    elif at > seq or (last is not None and last.hash != sealed):
        yield ChainFault(seq=at, kind="forged", what="the last event is not the one that was recorded last")


def _walk(links: Iterable[ChainLink]) -> dict[str, int]:
    """Where each hash stands when the chain is followed from its beginning, whatever the events say of themselves."""
    by_prev = {item.prev: item.hash for item in links}
    place: dict[str, int] = {}
    at, seq = by_prev.get(""), 0
    while at is not None and at not in place:
        place[at] = seq
        at, seq = by_prev.get(at), seq + 1
    return place


def _is_its_own(item: ChainLink) -> bool:
    try:
        event = item.recorded().event
    except ValidationError:
        return True  # of a version that knows more: the seal vouches for it
    return event is not None and (event.type, event.key) == (item.type, item.key)


def _range(first: int, last: int) -> str:
    return f"event {first} is not there" if first == last else f"events {first} to {last} are not there"


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
