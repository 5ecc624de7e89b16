"""The hash chain of a run: it makes a changed, lost or moved event visible.

Each event is sealed to the one before it: its hash covers the hash of that one. The hash covers the header and a salted
digest of the body, never the body itself, so that a body can be erased on request and the chain can still be verified. The
journal and trace files are verified by the same function. An attacker who seals all later events again is detected only by
a head that is kept elsewhere: pass it as `head`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from remit.core.events import EVENT, AnyEvent, Recorded

FORMAT: Final = "remit.chain/1"

# Made once: `json.dumps` makes an encoder each time it is called with options.
_body_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_header_json: Final = json.JSONEncoder(separators=(",", ":")).encode

FaultKind: TypeAlias = Literal[
    "missing",  # an event is not there
    "edited",  # header or body differ from what was sealed
    "reordered",  # the event was sealed for another place
    "forged",  # sealed correctly, but not to the event before it, or not to the known head
    "contradicted",  # sealed correctly, but it contradicts other events
    "erased",  # the body was erased on request; the chain is intact
]


@dataclass(frozen=True, kw_only=True)
class ChainFault:
    """One way in which the events differ from what was recorded. `seq` is the number of the event, from 0."""

    seq: int
    kind: FaultKind
    what: str

    @property
    def broken(self) -> bool:
        """False for an erased body, which was erased on request and is no damage."""
        return self.kind != "erased"

    def __str__(self) -> str:
        return f"event {self.seq}: {self.kind}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """An event as it is stored, with its place in the chain of its run.

    `seq` counts from 0, `at` is Unix nanoseconds, `prev` is the hash of the event before it ("" for the first). `body` is the
    exact text that was sealed, None if it was erased; then `salt` is None too. Verification reads this text and not the
    parsed event, so a later version whose events have more fields still verifies older runs.
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
        """The hash that belongs to this header: it equals `hash` unless the header was changed."""
        return _hash_of(self.run, self.seq, self.at, self.type, self.key, self.prev, self.payload_digest)

    def recorded(self) -> Recorded:
        """The event, read from its body. Raises ValidationError if this version does not know such an event."""
        return self.of(self.event)

    @cached_property
    def event(self) -> AnyEvent | None:
        """What the body says; read once, because a report shows it and its verification compares it."""
        return None if self.body is None else EVENT.validate_json(self.body)

    def of(self, event: AnyEvent | None) -> Recorded:
        """The given event, with this place in the chain."""
        # Built without validation: every part was validated once, and this runs for each event of each read.
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
        """Everything except salt and body, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("salt", "body", "event")}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The events of one run as they are stored. `head` is the (seq, hash) of the last event if that is stored separately."""

    run: str
    links: tuple[ChainLink, ...]
    head: tuple[int, str] | None = None

    def verify(self) -> tuple[ChainFault, ...]:
        """Every difference from what was recorded; empty if there is none."""
        return verify_chain(self.links, head=self.head)


def encode(event: AnyEvent) -> str:
    """The body of an event, as JSON. Raises ValueError for what JSON cannot express: NaN, infinity, lone surrogates."""
    try:
        # Not pydantic's own JSON, which writes NaN as null: reading must return what was written.
        text = _body_json(event.model_dump())
    except (TypeError, RecursionError) as failure:
        raise ValueError(str(failure)) from failure
    text.encode()
    return text


def link(run: str, seq: int, at: int, prev: str, event: AnyEvent, salt: str) -> ChainLink:
    """Seal one event to the one before it, and return its stored form; `prev` is "" for the first, `at` is Unix nanoseconds."""
    body, key = encode(event), event.key
    covered = payload_digest(salt, body)
    return ChainLink(
        run=run,
        seq=seq,
        at=at,
        type=event.type,
        key=key,
        prev=prev,
        hash=_hash_of(run, seq, at, event.type, key, prev, covered),
        payload_digest=covered,
        salt=salt,
        body=body,
    )


def seal(run: str, seq: int, at: int, prev: str, event: AnyEvent, salt: str) -> Recorded:
    """Seal one event as `link` does, and return it with its place in the chain."""
    return link(run, seq, at, prev, event, salt).of(event)


def link_of(recorded: Recorded) -> ChainLink:
    """The stored form of a recorded event; its body is written again by this version."""
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
    """The salted digest of a body. The salt is erased with the body, so nobody can test guesses of it against the digest."""
    return _sha256(f"{salt}\n{body}".encode())


def verify_chain(
    records: Iterable[Recorded | ChainLink], *, head: tuple[int, str] | None = None
) -> tuple[ChainFault, ...]:
    """Every difference from what was recorded, for records in the order given; empty if there is none.

    `head` is the (seq, hash) of the last event, known from elsewhere: without it, missing last events are not detected.
    """
    links = [record if isinstance(record, ChainLink) else link_of(record) for record in records]
    place = _walk(links)
    faults = [*_gaps(links)]
    # Events with a fault of their own. A wrong `prev` beside one of these is its consequence, and is not reported again.
    damaged = {fault.seq for fault in faults}
    before: ChainLink | None = None
    for item in links:
        expected = 0 if before is None else before.seq + 1
        own = [*_faults_of(item, expected, place)]
        faults.extend(own)
        damaged.update(fault.seq for fault in own if fault.broken)
        prev = "" if before is None else before.hash
        if item.seq == expected and item.prev != prev and damaged.isdisjoint((item.seq, expected - 1)):
            faults.append(
                ChainFault(seq=item.seq, kind="forged", what=f"event {item.seq} is not sealed to the event before it")
            )
        before = item
    if head is not None:
        faults.extend(_faults_of_head(before, head))
    return tuple(sorted(faults, key=lambda fault: fault.seq))


def _gaps(links: Iterable[ChainLink]) -> Iterable[ChainFault]:
    """Events that are not among the records, in whatever order these are."""
    for before, after in pairwise([-1, *sorted({item.seq for item in links})]):
        if after > before + 1:
            yield ChainFault(seq=before + 1, kind="missing", what=_range(before + 1, after - 1))


def _faults_of(item: ChainLink, expected: int, place: Mapping[str, int]) -> Iterable[ChainFault]:
    """The faults of one event that show without its neighbours."""
    is_sealed = item.sealed == item.hash
    if not is_sealed:
        at = place.get(item.hash, item.seq)
        if at != item.seq and replace(item, seq=at).sealed == item.hash:
            yield ChainFault(seq=item.seq, kind="reordered", what=f"event {item.seq} was recorded as event {at}")
        else:
            yield ChainFault(
                seq=item.seq, kind="edited", what=f"the header of {item.key!r} differs from what was sealed"
            )
    elif item.seq < expected:
        yield ChainFault(seq=item.seq, kind="reordered", what=f"event {item.seq} is stored after event {expected - 1}")
    if item.body is None:
        yield ChainFault(seq=item.seq, kind="erased", what=f"the body of {item.key!r} was erased")
    elif payload_digest(item.salt or "", item.body) != item.payload_digest:
        yield ChainFault(seq=item.seq, kind="edited", what=f"the body of {item.key!r} differs from what was sealed")
    elif is_sealed and not _is_its_own(item):
        yield ChainFault(
            seq=item.seq,
            kind="forged",
            what=f"the header of event {item.seq} says {item.key!r}, and its body is another event",
        )


def _faults_of_head(last: ChainLink | None, head: tuple[int, str]) -> Iterable[ChainFault]:
    seq, sealed = head
    at = -1 if last is None else last.seq
    if at < seq:
        yield ChainFault(seq=at + 1, kind="missing", what=_range(at + 1, seq))
    elif at > seq or (last is not None and last.hash != sealed):
        yield ChainFault(seq=at, kind="forged", what="the last event is not the one that was recorded last")


def _walk(links: Iterable[ChainLink]) -> dict[str, int]:
    """The place of each hash if the chain is followed by `prev` from its beginning; the events' own `seq` is not trusted."""
    by_prev = {item.prev: item.hash for item in links}
    place: dict[str, int] = {}
    at, seq = by_prev.get(""), 0
    while at is not None and at not in place:  # a forged chain may be a loop
        place[at] = seq
        at, seq = by_prev.get(at), seq + 1
    return place


def _is_its_own(item: ChainLink) -> bool:
    """True if type and key in the header are those of the body."""
    try:
        event = item.event
    except ValidationError:
        return True  # written by a later version with more fields; the hash still covers it
    return event is not None and (event.type, event.key) == (item.type, item.key)


def _range(first: int, last: int) -> str:
    return f"event {first} is not there" if first == last else f"events {first} to {last} are not there"


def _hash_of(*header: str | int) -> str:
    # Not RFC 8785: Unix nanoseconds are larger than the integers that it allows (2^53 - 1). A list of strings and
    # integers in a fixed order has only one spelling in this encoder, so the text is as unambiguous.
    return _sha256(_header_json([FORMAT, *header]).encode())


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
